"""Acceleration: never lower than EM, always feasible, and faster where EM is slow."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import gmm
from gmm.convergence import Accelerator, Anderson, Squarem, WhenSlow, accelerator

Floats = NDArray[np.float64]
NAMES = ("auto", "squarem", "anderson")


def iterate(
    helper: Accelerator, matrix: Floats, limit: Floats, point: Floats, passes: int
) -> Floats:
    """Iterate a linear map towards its fixed point, taking every candidate."""
    gain = 1.0
    for _ in range(passes):
        image = limit + matrix @ (point - limit)
        candidate = helper.propose(point, image, gain)
        point = image if candidate is None else candidate
        gain *= 0.9
    return point


@pytest.mark.derives("eq-squarem")
def test_squarem_is_exact_after_two_steps_of_a_map_with_one_rate() -> None:
    """If all errors shrink by ρ, then ‖r‖ / ‖v‖ = 1 / (1 − ρ), and the candidate is the limit."""
    limit, start = np.array([1.0, -2.0, 3.0]), np.array([4.0, 0.0, 0.0])
    helper = Squarem()
    rate = 0.9 * np.eye(3)
    one = limit + rate @ (start - limit)
    two = limit + rate @ (one - limit)
    assert helper.propose(start, one, 1.0) is None
    candidate = helper.propose(one, two, 0.9)
    assert candidate is not None
    np.testing.assert_allclose(candidate, limit, atol=1e-12)


@pytest.mark.derives("eq-anderson")
def test_anderson_solves_a_linear_map_in_as_many_steps_as_it_has_dimensions() -> None:
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    matrix, limit = q @ np.diag([0.99, 0.9, 0.5, 0.1]) @ q.T, rng.standard_normal(4)
    helper = Anderson()
    helper.damping = 1e-14
    reached = iterate(helper, matrix, limit, np.zeros(4), 6)
    plain = np.zeros(4)
    for _ in range(6):
        plain = limit + matrix @ (plain - limit)
    # damping keeps it from being exact
    assert np.abs(reached - limit).max() < 1e-3 * np.abs(plain - limit).max()


def test_the_first_extrapolations_are_short() -> None:
    limit, start = np.zeros(2), np.ones(2)
    rate = 0.999
    candidate = None
    helper = Squarem()
    helper.propose(start, rate * start, 1.0)
    candidate = helper.propose(rate * start, rate**2 * start, 1.0)
    assert candidate is not None
    r, v = (rate - 1) * start, (rate - 1) ** 2 * start
    np.testing.assert_allclose(candidate, start + 32 * r + 256 * v, rtol=1e-12)
    helper.rejected()
    assert helper.longest == 16.0
    assert (limit == 0).all()


def test_a_fast_sequence_is_left_alone() -> None:
    helper = WhenSlow(Squarem())
    point = np.ones(2)
    for gain in (1.0, 0.5, 0.2, 0.05):
        assert helper.propose(point, 0.5 * point, gain) is None
        point = 0.5 * point
    assert not helper.slow
    helper.propose(point, 0.9 * point, 0.04)
    assert helper.slow
    helper.rejected()


def test_names() -> None:
    assert accelerator("none") is None
    assert isinstance(accelerator("squarem"), Squarem)
    assert isinstance(accelerator("auto"), WhenSlow)
    with pytest.raises(ValueError, match="accelerate: expected one of 'none', 'auto'"):
        gmm.fit(np.random.default_rng(0).standard_normal((9, 1)), 2, accelerate="faster")


@pytest.mark.derives("thm-safeguard")
@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 4))
@settings(max_examples=12, deadline=None)
def test_an_accelerated_likelihood_never_decreases(name: str, seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((120, d)) + 2 * rng.integers(0, 2, (120, 1))
    for family in ("VVV", "EEE", "VVI", "VII"):
        seen: list[float] = []

        def note(progress: gmm.Progress, seen: list[float] = seen) -> None:
            seen.append(progress.log_likelihood)
            assert (progress.mixture.weights > 0).all()

        try:
            fit = gmm.fit(X, 3, family, start="random", accelerate=name, max_iter=60,
                          callback=note, random_state=seed)  # fmt: skip
        except gmm.SingularCovarianceError:
            pass  # a small cluster has collapsed, as it does under plain EM
        else:
            assert (np.diff(fit.trace.passes) >= 1).all()
            assert fit.n_passes == fit.trace.passes[-1]
        values = np.array(seen)
        assert (np.diff(values) >= -1e-11 * np.abs(values[1:])).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_slow_fit_takes_far_fewer_passes_to_the_same_end(name: str, old_faithful: Floats) -> None:
    """One covariance for three components: EM needs some 260 passes for a millionth of a nat."""
    plain = gmm.fit(old_faithful, 3, "VVI", tol=1e-12, random_state=0)
    fast = gmm.fit(old_faithful, 3, "VVI", tol=1e-12, accelerate=name, random_state=0)
    assert fast.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-5)
    target = plain.log_likelihood - 1e-5
    needed = [
        int(f.trace.passes[np.argmax(f.trace.log_likelihood >= target)]) for f in (plain, fast)
    ]
    assert needed[1] < needed[0] / 2.5


def test_auto_is_plain_em_where_that_is_fast(old_faithful: Floats) -> None:
    plain, auto = (
        gmm.fit(old_faithful, 2, accelerate=name, random_state=0) for name in ("none", "auto")
    )
    np.testing.assert_array_equal(plain.trace.log_likelihood, auto.trace.log_likelihood)


@pytest.mark.parametrize("name", ["squarem", "anderson"])
def test_acceleration_works_beyond_the_plane(name: str) -> None:
    X = gmm.datasets.iris().X
    plain = gmm.fit(X, 3, "EEE", tol=1e-11, random_state=0)
    fast = gmm.fit(X, 3, "EEE", tol=1e-11, accelerate=name, random_state=0)
    assert fast.log_likelihood >= plain.log_likelihood - 1e-4


# ------------------------------------------------- the chapter's results


def two_means(means: Floats) -> gmm.Mixture:
    """Two components of unit variance and known weights: the means are all that is free."""
    return gmm.Mixture([0.4, 0.6], means[:, None], np.ones((2, 1, 1)))


def next_means(X: Floats, means: Floats) -> Floats:
    r = two_means(means).responsibilities(X)
    updated: Floats = (r.T @ X)[:, 0] / r.sum(axis=0)
    return updated


@pytest.mark.derives("thm-em-jacobian")
def test_jacobian_of_em_is_identity_less_the_observed_fraction() -> None:
    """I_c is diag(N_k) here; J and I_o by central differences, good to about 1e-7 and 1e-5."""
    X = two_means(np.array([0.0, 2.0])).sample(300, random_state=0)[0]
    means = np.array([0.0, 2.0])
    for _ in range(2000):
        means = next_means(X, means)
    h, unit = 1e-4, np.eye(2)

    def loglik(shift: Floats) -> float:
        return two_means(means + h * shift).log_likelihood(X)

    jacobian = np.column_stack(
        [(next_means(X, means + h * e) - next_means(X, means - h * e)) / (2 * h) for e in unit]
    )
    observed = -np.array(
        [
            [loglik(a + b) - loglik(a - b) - loglik(b - a) + loglik(-a - b) for b in unit]
            for a in unit
        ]
    ) / (4 * h**2)
    complete = np.diag(two_means(means).responsibilities(X).sum(axis=0))
    expected = np.eye(2) - np.linalg.solve(complete, observed)
    np.testing.assert_allclose(jacobian, expected, atol=1e-5)
    rates = np.linalg.eigvals(jacobian)
    assert np.isreal(rates).all()
    assert (rates > 0).all()
    assert (rates < 1).all()


@pytest.mark.derives("eq-aitken-extrapolation", "prop-aitken-extrapolation")
def test_aitken_finds_the_limit_of_a_geometric_sequence() -> None:
    c, rho, limit = sympy.symbols("c rho theta", nonzero=True)
    first, second, third = (limit + c * rho**t for t in range(3))
    r = second - first
    v = third - second - r
    assert sympy.simplify(first - r**2 / v - limit) == 0


@pytest.mark.derives("prop-squarem-error")
def test_squarem_multiplies_each_error_by_a_square() -> None:
    """A symmetric map with chosen eigenvalues; exact but for rounding."""
    rates = np.array([0.95, 0.7, 0.2, 0.0])
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    matrix = (q * rates) @ q.T
    error = q @ np.array([3.0, 1.0, 0.1, 0.1])
    one = matrix @ error
    two = matrix @ one
    helper = Squarem()
    assert helper.propose(error, one, 1.0) is None
    candidate = helper.propose(one, two, 1.0)
    assert candidate is not None
    r = one - error
    v = two - one - r
    alpha = np.linalg.norm(r) / np.linalg.norm(v)
    assert 1 <= alpha <= 1 / (1 - 0.95)
    factors = (q.T @ candidate) / (q.T @ error)
    np.testing.assert_allclose(factors, (1 - alpha * (1 - rates)) ** 2, rtol=1e-10)
    np.testing.assert_array_equal(factors > 1, alpha * (1 - rates) > 2)
    assert (factors > 1).any()  # this step overshoots


@pytest.mark.derives("eq-settling", "prop-settling")
def test_settled_steps_up_to_length_four_let_no_error_grow() -> None:
    rates = np.linspace(0, 1, 100_001)[:-1]
    for alpha in (1.0, 1.5, 2.5, 3.9, 4.0, 4.1, 16.0):
        factor = rates * (1 - alpha * (1 - rates)) ** 2
        assert (factor.max() <= 1) == (alpha <= 4)
        below = rates <= 1 - 1 / alpha
        if alpha > 1:  # the grid misses the maximum by a multiple of its step squared
            greatest = 4 * (alpha - 1) ** 3 / (27 * alpha)
            assert factor[below].max() == pytest.approx(greatest, rel=1e-7)
    helper = Squarem()
    for _ in range(10):
        helper.rejected()
    assert helper.longest == 4.0


@pytest.mark.derives("prop-anderson-affine")
def test_anderson_without_damping_ends_at_the_fixed_point_once_differences_span() -> None:
    """Not symmetric; conditioning of the differences costs digits, hence 1e-6."""
    rng = np.random.default_rng(1)
    basis = rng.standard_normal((3, 3))
    matrix = basis @ np.diag([0.95, 0.6, 0.2]) @ np.linalg.inv(basis)
    limit, point = rng.standard_normal(3), np.zeros(3)
    helper = Anderson()
    for step in range(4):
        image = limit + matrix @ (point - limit)
        helper.damping = 0.0
        candidate = helper.propose(point, image, 1.0)
        if step < 3:
            point = image
    assert candidate is not None
    assert np.abs(image - limit).max() > 0.1
    np.testing.assert_allclose(candidate, limit, atol=1e-6)


@pytest.mark.derives("prop-anderson-affine")
@pytest.mark.parametrize("damping", [1e-8, 1e-2, 1.0])
def test_anderson_combines_points_to_a_shorter_step(damping: float) -> None:
    """The candidate is the image of a point whose own step is no longer than the present one."""
    rng = np.random.default_rng(2)
    q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    matrix = q @ np.diag([0.99, 0.9, 0.7, 0.4, 0.2, 0.1]) @ q.T
    helper, point = Anderson(memory=2), rng.standard_normal(6)
    for _ in range(3):
        image = matrix @ point
        helper.damping = damping
        candidate = helper.propose(point, image, 1.0)
        present = image - point
        point = image
    assert candidate is not None
    combined = np.linalg.solve(matrix, candidate)
    assert np.linalg.norm(candidate - combined) < np.linalg.norm(present)


@pytest.mark.derives("prop-gain-ratio")
def test_gains_of_a_linear_map_shrink_at_last_by_the_square_of_the_rate() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 4, 4))
    observed = a @ a.T + 0.1 * np.eye(4)
    complete = observed + b @ b.T
    jacobian = np.eye(4) - np.linalg.solve(complete, observed)
    rho = np.linalg.eigvals(jacobian).real.max()
    error, values = np.ones(4), []
    for _ in range(60):
        values.append(-0.5 * error @ observed @ error)
        error = jacobian @ error
    gains = np.diff(values[:40])
    ratios = gains[1:] / gains[:-1]
    assert (gains > 0).all()
    assert (np.diff(ratios) >= -1e-6).all()  # the last gains are differences of small numbers
    assert ratios[-1] == pytest.approx(rho**2, rel=1e-3)


@pytest.mark.derives("thm-safeguard")
def test_squarem_never_proposes_twice_in_succession_and_ends_at_a_fixed_point() -> None:
    """The first is the hypothesis under which every limit point is a fixed point."""
    rng = np.random.default_rng(4)
    helper, proposed = Squarem(), []
    point = np.ones(3)
    for _ in range(200):
        image = np.array([0.99, 0.5, 0.1]) * point
        candidate = helper.propose(point, image, 1.0)
        proposed.append(candidate is not None)
        if candidate is not None and rng.random() < 0.3:
            helper.rejected()
            candidate = None
        point = image if candidate is None else candidate
    assert sum(proposed) > 30
    assert not any(a and b for a, b in itertools.pairwise(proposed))
    X = gmm.datasets.old_faithful().X
    end = gmm.fit(X, 3, "VVI", accelerate="squarem", tol=1e-15, random_state=0).mixture
    after = gmm.fit(X, 3, "VVI", start=end, tol=0, max_iter=1).mixture
    # a gain of 272e-15 nats leaves steps of about its square root
    np.testing.assert_allclose(after.means, end.means, rtol=1e-5)


@pytest.mark.derives("thm-safeguard")
def test_monotone_candidates_alone_may_stop_short_of_a_fixed_point() -> None:
    """Why part 2 needs EM steps again and again: -θ² rises along 1 + 2^-t, which ends at 1."""
    points = 1 + 0.5 ** np.arange(1.0, 50.0)
    assert (np.diff(-(points**2)) > 0).all()
    assert points[-1] / 2 == pytest.approx(0.5)  # where an EM step, θ / 2, would go from the end
    mixed = 2.0
    for t in range(1000):
        candidate = 1 + 0.5 ** (t + 1)
        mixed = candidate if t % 100 and candidate**2 <= mixed**2 else mixed / 2
    assert abs(mixed) < 1e-10


def test_hasselblads_counts_of_deaths() -> None:
    """Varadhan and Roland (2008) print six decimals of the parameters and three of the value."""
    days = np.array([162, 267, 271, 185, 111, 61, 27, 8, 3, 1])
    deaths = np.arange(10)

    def expect(theta: Floats) -> tuple[float, Floats]:
        p, a, b = theta
        one = np.log(p) + stats.poisson.logpmf(deaths, a)
        two = np.log1p(-p) + stats.poisson.logpmf(deaths, b)
        both = np.logaddexp(one, two)
        return float(days @ both), np.exp(one - both)

    theta, helper, evaluations = np.array([0.287, 2.582, 1.101]), Squarem(), 0
    while True:
        value, r = expect(theta)
        x, y = days * r, days * (1 - r)
        image = np.array([x.sum() / days.sum(), x @ deaths / x.sum(), y @ deaths / y.sum()])
        evaluations += 1
        if np.linalg.norm(image - theta) < 1e-9:
            break
        new = helper.propose(theta, image, 1.0)
        if new is not None:
            feasible = 0 < new[0] < 1 and new.min() > 0
            if not feasible or expect(new)[0] < value:
                helper.rejected()
                new = None
        theta = image if new is None else new
        assert evaluations < 400  # EM itself needs some 2 900 for a step of 1e-8
    np.testing.assert_allclose(theta, [0.640115, 2.663404, 1.256095], atol=2e-6)
    assert value == pytest.approx(-1989.946, abs=5e-4)
