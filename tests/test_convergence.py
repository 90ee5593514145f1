"""Acceleration: never lower than EM, always feasible, and faster where EM is slow."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest
import sympy
from conftest import random_mixture
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import linalg, stats

import gmm
from gmm.convergence import (
    ACCELERATIONS,
    SPACING,
    Accelerator,
    Anderson,
    Extrapolation,
    HandOver,
    LimitedMemory,
    NaturalPoint,
    PlainEM,
    QuasiNewton,
    Squarem,
    State,
    WhenSlow,
    ascent,
)
from gmm.datasets import data_file
from gmm.families import FAMILIES as KINDS
from gmm.rows import as_rows
from gmm.small import SmallSteps
from gmm.statistics import Statistics
from gmm.steps import MixtureSteps
from gmm.sweep import Sweep

Floats = NDArray[np.float64]
NAMES = tuple(name for name in ACCELERATIONS if name != "none")


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
    helper.longest = np.inf
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


def cycle(helper: Squarem, rate: float) -> Floats | None:
    """The candidate after two EM steps from one, whose errors shrink by one rate."""
    start = np.ones(2)
    assert helper.propose(start, rate * start, 1.0) is None
    return helper.propose(rate * start, rate**2 * start, 1.0)


def test_the_bound_on_extrapolations_grows_while_it_holds_and_they_succeed() -> None:
    rate, start, helper = 0.999, np.ones(2), Squarem()
    r, v = (rate - 1) * start, (rate - 1) ** 2 * start
    for longest in (1.0, 4.0, 16.0):
        assert helper.longest == longest
        candidate = cycle(helper, rate)
        if longest == 1.0:
            assert candidate is None  # the second EM step itself
        else:
            assert candidate is not None
            expected = start + 2 * longest * r + longest**2 * v
            np.testing.assert_allclose(candidate, expected, rtol=1e-12)
        assert helper.propose(start, start, 1.0) is None  # settling
    helper.rejected()
    assert helper.longest == 4.0
    cycle(helper, 0.5)  # its length is 2, below the bound: failure says nothing about the bound
    helper.rejected()
    assert helper.longest == 4.0
    for _ in range(3):
        helper.propose(start, start, 1.0)
        cycle(helper, rate)
        helper.rejected()
    assert helper.longest == 1.0


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
    assert isinstance(ascent("none"), PlainEM)
    assert isinstance(ascent("squarem"), Extrapolation)
    assert isinstance(ascent("lbfgs"), HandOver)
    assert isinstance(ascent("auto", work=1e9), HandOver)
    assert isinstance(ascent("auto", work=1e4), Extrapolation)
    for name in ("auto", "lbfgs"):
        assert isinstance(ascent(name, exact=False), Extrapolation)
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


@pytest.mark.parametrize("name", ["squarem", "lbfgs", "anderson"])
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
    helper.longest = np.inf
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


# ------------------------------------------------- L-BFGS in natural parameters


def natural_point(
    family: str, n_components: int, d: int, *, weighted: bool = False
) -> tuple[MixtureSteps, gmm.Mixture, NaturalPoint]:
    """A mixture that is not the best for some rows; and its natural point."""
    X = random_mixture(family, n_components, d, seed=d).sample(400, 0)[0] + 5.0
    weights = np.random.default_rng(1).uniform(0.1, 3.0, 400) if weighted else None
    rows = as_rows(X, weights)
    steps = MixtureSteps(rows, Sweep(rows, n_components, KINDS[family]), family, 0.0)
    start = gmm.initial.starting_mixture(rows, n_components, family, "random", 0)
    mixture = steps.maximise(steps.expect(start)[0])
    return steps, mixture, NaturalPoint(mixture, steps.expect(mixture)[0], steps.sweep.centre)


def directions(point: NaturalPoint, number: int, seed: int = 0) -> list[Floats]:
    """Changes of the natural parameters: small beside them, symmetric where matrices are."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(number):
        constant, linear, quadratic = point._split(rng.standard_normal(point.vector.size))
        if quadratic.ndim > 1 and point.matrices:
            quadratic = quadratic + np.swapaxes(quadratic, -1, -2)
        size = 0.1 * np.abs(point.precisions).min()
        result.append(
            np.concatenate([0.1 * constant, size * linear.ravel(), size * quadratic.ravel()])
        )
    return result


@pytest.mark.derives("eq-complete-family")
@pytest.mark.parametrize("d", [1, 3])
def test_natural_parameters_give_the_mixture_back(family: str, d: int) -> None:
    steps, mixture, point = natural_point(family, 3, d)
    back = point.moved(np.zeros_like(point.vector))
    assert back is not None
    np.testing.assert_allclose(back.weights, mixture.weights, rtol=1e-10)
    np.testing.assert_allclose(back.means, mixture.means, rtol=1e-10)
    np.testing.assert_allclose(back.stored, mixture.stored, rtol=1e-9, atol=1e-12)
    # the log joint density is η · t(x, k) but for a constant
    constant, linear, quadratic = point._split(point.vector)
    rows = np.random.default_rng(0).standard_normal((5, d))
    matrices = (
        np.broadcast_to(quadratic, (3, d, d))
        if point.matrices
        else quadratic.reshape(3, -1, 1) * np.eye(d)
    )
    scores = constant + rows @ linear.T + np.einsum("ni,kij,nj->nk", rows, matrices, rows)
    rest = mixture.component_log_densities(rows + steps.sweep.centre) - scores
    np.testing.assert_allclose(rest, -0.5 * d * np.log(2 * np.pi), atol=1e-9)


@pytest.mark.derives("thm-natural-gradient")
@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_less_expected_ones_are_the_gradient(
    family: str, d: int, weighted: bool
) -> None:
    """Central differences with h = 1e-4: errors of about h² and of rounding / h, below 1e-6."""
    steps, _, point = natural_point(family, 3, d, weighted=weighted)
    h = 1e-4
    for direction in directions(point, 4):
        values = []
        for sign in (1, -1):
            moved = point.moved(sign * h * direction)
            assert moved is not None
            values.append(steps.expect(moved)[1])
        slope = (values[0] - values[1]) / (2 * h)
        assert point.gradient @ direction == pytest.approx(slope, rel=1e-5, abs=1e-5)
    counts = point._split(point.gradient)[0]
    assert abs(counts.sum()) < 1e-9 * point.weight


@pytest.mark.derives("eq-natural-preconditioner", "prop-natural-preconditioner")
@pytest.mark.parametrize("d", [1, 3])
def test_the_preconditioner_inverts_the_information_of_complete_data(family: str, d: int) -> None:
    """W times the derivative of the expected statistics, by central differences, is undone."""
    steps, mixture, point = natural_point(family, 3, d)
    h = 1e-5
    for direction in directions(point, 4):
        expected = []
        for sign in (1, -1):
            moved = point.moved(sign * h * direction)
            assert moved is not None
            there = NaturalPoint(moved, steps.expect(mixture)[0], steps.sweep.centre)
            here = there._expected()
            expected.append(np.concatenate([here.counts, here.first.ravel(), here.second.ravel()]))
        product = (expected[0] - expected[1]) / (2 * h)  # I_c times the direction
        back = point.precondition(product)
        # a constant for all components changes nothing, and is not determined
        free = [v - np.r_[np.full(3, v[0]), np.zeros(v.size - 3)] for v in (back, direction)]
        np.testing.assert_allclose(free[0], free[1], rtol=1e-5, atol=1e-6 * np.abs(free[1]).max())


@pytest.mark.derives("prop-natural-preconditioner")
def test_the_first_direction_is_that_of_em_to_first_order(family: str) -> None:
    """Statistics that move by h from what the mixture expects: the rest shrinks like h²."""
    steps, mixture, point = natural_point(family, 3, 2)
    direction = point.precondition(point.gradient)
    assert point.gradient @ direction > 0
    seen = steps.expect(mixture)[0]
    expected = point._expected()
    rests = []
    for h in (1e-2, 1e-3):
        moved = replace(
            seen,
            counts=expected.counts + h * (seen.counts - expected.counts),
            first=expected.first + h * (seen.first - expected.first),
            second=expected.second + h * (seen.second - expected.second),
        )
        image = NaturalPoint(steps.maximise(moved), seen, steps.sweep.centre)
        rest = image.vector - point.vector - h * direction
        rest[:3] -= rest[0]
        rests.append(np.linalg.norm(rest))
    assert 80 < rests[0] / rests[1] < 125


@pytest.mark.derives("eq-lbfgs", "prop-lbfgs")
def test_two_loops_are_the_updates_of_bfgs() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 5))
    curvature, first = a @ a.T + np.eye(5), np.diag(rng.uniform(0.5, 2.0, 5))
    memory, H = LimitedMemory(), first
    point = rng.standard_normal(5)
    memory.note(point, -curvature @ point)
    for _ in range(4):
        s = rng.standard_normal(5)
        y = curvature @ s
        point = point + s
        assert memory.note(point, -curvature @ point)
        left = np.eye(5) - np.outer(s, y) / (s @ y)
        H = left @ H @ left.T + np.outer(s, s) / (s @ y)
    g = rng.standard_normal(5)
    np.testing.assert_allclose(memory.direction(g, lambda q: first @ q), H @ g, rtol=1e-9)
    np.testing.assert_allclose(H @ y, s, rtol=1e-9)  # the last change is reproduced
    assert np.linalg.eigvalsh(0.5 * (H + H.T)).min() > 0
    assert g @ H @ g > 0
    memory.note(point + 1.0, curvature @ np.ones(5) - curvature @ point)
    assert not memory.changes  # a convex stretch: nothing is kept
    memory = LimitedMemory(2)
    for t in range(5):
        memory.note(t * np.ones(2), -t * np.ones(2))
    assert len(memory.changes) == 2


def test_hand_over_waits_for_small_gains() -> None:
    calls: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def advance(self, steps: object, state: State, gain: float) -> tuple[State, int, bool]:
            calls.append(self.name)
            return state, 1, True

    both, state = HandOver(Named("early"), Named("late"), 1.0), State(None, None, 0.0)
    for gain in (np.inf, 9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 9):
        both.advance(None, state, gain)  # type: ignore[arg-type]  # not looked at
    assert calls == ["early"] * 9 + ["late"] * 6


@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs_takes_an_eighth_of_the_passes_where_em_is_slow(family: str, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((1000, 2)) + 1.5 * rng.integers(0, 2, (1000, 1))
    weights = rng.uniform(0.5, 1.5, 1000) if weighted else None
    start = gmm.initial.starting_mixture(X, 2, family, "random", 1)
    plain, fast = (
        gmm.fit(X, 2, family, start=start, tol=1e-13, accelerate=name, sample_weight=weights,
                max_iter=20_000)
        for name in ("none", "lbfgs")
    )  # fmt: skip
    assert plain.converged
    assert fast.converged
    assert fast.log_likelihood >= plain.log_likelihood - 1e-6
    if plain.n_passes >= 200:
        assert fast.n_passes <= plain.n_passes / 4
    assert (np.diff(fast.trace.log_likelihood) >= -1e-11 * abs(fast.log_likelihood)).all()


@pytest.mark.parametrize("steps", ["small", "arrays"])
def test_lbfgs_leaves_a_plateau(steps: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two components almost at the same place: EM rises by a hair for hundreds of passes."""
    if steps == "arrays":
        monkeypatch.setattr(SmallSteps, "MOST_WORK", 0)
    X = np.random.default_rng(0).standard_normal((300, 1))
    X[:120] += 3.0
    start = gmm.Mixture([0.5, 0.5], X.mean(axis=0) + np.array([[-0.1], [0.1]]), [[X.var()]], "EEE")
    needed = []
    for name in ("none", "lbfgs"):
        trace = gmm.fit(X, 2, "EEE", start=start, tol=0.0, max_iter=600, accelerate=name).trace
        risen = trace.log_likelihood > trace.log_likelihood[0] + 1.0
        assert risen.any()
        needed.append(trace.passes[np.argmax(risen)])
    assert needed[0] > 400
    assert needed[1] < needed[0] / 8


@pytest.mark.derives("thm-safeguard")
def test_em_steps_occur_again_and_again() -> None:
    """The hypothesis of the second claim: one step in ten at the least."""
    helper, point = Anderson(), np.ones(3)
    proposed = []
    for _ in range(100):
        candidate = helper.propose(point, np.array([0.99, 0.5, 0.1]) * point, 1.0)
        proposed.append(candidate is not None)
        point = np.array([0.99, 0.5, 0.1]) * point
    gaps = np.diff(np.flatnonzero(~np.array(proposed)))
    assert gaps.max() <= SPACING
    X = gmm.datasets.old_faithful().X
    rows = as_rows(X)
    steps = SmallSteps(rows, Sweep(rows, 3, "diag"), "VVI", 0.0)
    start = steps.load(gmm.initial.starting_mixture(rows, 3, "VVI", "k-means", 0))
    state = State(start, *steps.expect(start))
    way, kinds = QuasiNewton(), []
    for _ in range(60):
        state, passes, is_em_step = way.advance(steps, state, 1.0)
        kinds.append(is_em_step)
        assert passes >= 1
    assert np.diff(np.flatnonzero(kinds)).max() <= SPACING
    assert not all(kinds)


@pytest.mark.derives("prop-stopping")
def test_a_small_gain_of_an_em_step_bounds_what_is_missing() -> None:
    """In the linear model, from anywhere; and plain EM comes to miss exactly as much."""
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, 4, 4))
    observed = a @ a.T + 0.1 * np.eye(4)
    jacobian = np.eye(4) - np.linalg.solve(observed + b @ b.T, observed)
    rho = np.linalg.eigvals(jacobian).real.max()
    bound = rho**2 / (1 - rho**2)

    def missing(error: Floats) -> float:
        return 0.5 * float(error @ observed @ error)

    for _ in range(200):
        error = rng.standard_normal(4)
        after = missing(jacobian @ error)
        assert after <= bound * (missing(error) - after) * (1 + 1e-12)
    for _ in range(60):
        error = jacobian @ error
    after = missing(jacobian @ error)
    assert after == pytest.approx(bound * (missing(error) - after), rel=1e-3)


@pytest.mark.derives("prop-stopping")
@pytest.mark.parametrize("stop", ["mean", "absolute", "relative", "aitken"])
@pytest.mark.parametrize("name", NAMES)
def test_an_accelerated_fit_ends_as_near_to_the_maximum(
    name: str, stop: str, old_faithful: Floats
) -> None:
    tol = {"mean": 1e-7, "absolute": 1e-4, "relative": 1e-7, "aitken": 1e-3}[stop]
    limit = gmm.fit(old_faithful, 3, "VVI", tol=0, max_iter=1500, random_state=0).log_likelihood
    plain, fast = (
        gmm.fit(old_faithful, 3, "VVI", tol=tol, stop=stop, accelerate=chosen, random_state=0)
        for chosen in ("none", name)
    )
    assert fast.converged
    assert fast.n_passes < plain.n_passes
    # the last EM step of plain EM gains between ρ² and 1 times the tolerance
    assert limit - fast.log_likelihood <= 1.2 * (limit - plain.log_likelihood)


@pytest.mark.parametrize("family", ["VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV"])
def test_candidates_belong_to_the_family(family: str) -> None:
    """Sums of covariances of such a family are others: the nearest of the family is taken."""
    X = gmm.datasets.iris().X

    def looked_at(progress: gmm.Progress) -> None:
        m = progress.mixture
        gmm.Mixture(m.weights, m.means, m.stored, family)  # refuses others

    for name in ("squarem", "lbfgs"):
        fit = gmm.fit(X, 2, family, accelerate=name, tol=1e-9, random_state=0, callback=looked_at)
        plain = gmm.fit(X, 2, family, tol=1e-9, random_state=0)
        assert fit.log_likelihood >= plain.log_likelihood - 1e-3


def test_a_ridge_is_met_by_squarem(old_faithful: Floats) -> None:
    """With a ridge the gradient of the likelihood is not zero where EM ends: no L-BFGS."""
    plain, one, two = (
        gmm.fit(old_faithful, 3, ridge=0.01, accelerate=name, tol=1e-12, random_state=0)
        for name in ("none", "squarem", "lbfgs")
    )
    np.testing.assert_array_equal(one.trace.log_likelihood, two.trace.log_likelihood)
    assert one.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-5)


def test_infeasible_natural_parameters_cost_no_pass(family: str) -> None:
    _, _, point = natural_point(family, 3, 2)
    constant, linear, quadratic = point._split(np.zeros_like(point.vector))
    flat = np.concatenate([constant, linear.ravel(), quadratic.ravel() + 1e9])
    assert point.moved(flat) is None
    lost = np.zeros_like(point.vector)
    lost[0] = -100.0
    assert point.moved(lost) is None


def test_statistics_about_other_centres_give_the_same_gradient(family: str) -> None:
    steps, mixture, point = natural_point(family, 3, 2)
    statistics: Statistics = steps.expect(mixture)[0].shifted(mixture.means)
    other = NaturalPoint(mixture, statistics, steps.sweep.centre)
    scale = np.abs(statistics.second).max()
    np.testing.assert_allclose(other.gradient, point.gradient, atol=1e-10 * scale)


def test_the_stored_problems_keep_what_is_promised() -> None:
    """Slow problems in a fifth and an eighth of the passes; hardly ever lower; never much slower.

    The bounds are those that acceleration was made for, not what was found; "auto", which begins
    later so as to lose nothing on quick problems, may save a little less on slow ones.
    """
    path = data_file("acceleration_problems.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    em = np.array([int(row["em"]) for row in rows])
    slow = em >= 200
    assert slow.sum() >= 40
    assert {"old_faithful", "galaxies", "acidity", "iris"} <= {row["problem"] for row in rows}
    for name, median in (("auto", 4), ("squarem", 5), ("lbfgs", 8)):
        passes = np.array([int(row[name]) for row in rows])
        reached = passes > 0
        assert (~reached).mean() <= 0.02
        ratios = np.where(reached, em / np.maximum(passes, 1), 0.0)
        assert np.median(ratios[slow]) >= median
        # a tenth slower, or one pass
        assert (passes <= np.maximum(em * 1.1, em + 1)).all()


# ---------------------------------------------------------------- where EM ends, and how fast

MURRAY = np.array(
    [[1, 1], [1, -1], [-1, 1], [-1, -1]]
    + 2 * [[2, np.nan], [-2, np.nan], [np.nan, 2], [np.nan, -2]]
)


@pytest.mark.derives("thm-convergence")
@pytest.mark.parametrize("seed", range(4))
def test_iterates_that_stay_in_a_compact_set_end_at_a_fixed_point(seed: int) -> None:
    """With a prior nothing collapses: values rise, steps vanish, and the gradient does too."""
    rows = gmm.datasets.watching_em().X
    run = gmm.fit(
        rows, 3, start="random", prior="default", tol=0, max_iter=3000, keep=1, random_state=seed
    )
    prior = gmm.prior.default_prior(rows, 3)
    objective = [
        mixture.log_likelihood(rows) + prior.log_density(mixture)
        for _, mixture in sorted(run.trace.mixtures.items())[:200]
    ]
    assert (np.diff(objective) > -1e-9 * abs(objective[0])).all()
    steps = [
        np.abs(run.trace.mixtures[i + 1].means - run.trace.mixtures[i].means).max()
        for i in (0, 50, 2998)
    ]
    assert steps[-1] < 1e-10 < steps[0]

    def value(shift: float, k: int, j: int) -> float:
        means = run.mixture.means.copy()
        means[k, j] += shift
        moved = gmm.Mixture(run.mixture.weights, means, run.mixture.covariances)
        return moved.log_likelihood(rows) + prior.log_density(moved)

    for k in range(3):
        for j in range(2):
            assert abs(value(1e-4, k, j) - value(-1e-4, k, j)) / 2e-4 < 1e-3


@pytest.mark.derives("thm-convergence")
def test_a_fixed_point_need_not_be_a_maximum() -> None:
    """Murray's twelve points: −30.0333 at the saddle, −29.9743 at the two maxima."""
    ends = {}
    for rho in (0.0, 1e-6, 0.3, -0.3):
        start = gmm.Mixture([1.0], [[0.0, 0.0]], [[[1.0, rho], [rho, 1.0]]])
        run = gmm.fit(MURRAY, 1, start=start, missing="em", tol=1e-15, max_iter=1000)
        (a, b), (_, c) = run.mixture.covariances[0]
        ends[rho] = run.log_likelihood, b / np.sqrt(a * c), a
    assert ends[0.0] == pytest.approx((-30.0333, 0.0, 2.5), abs=1e-4)
    for rho in (1e-6, 0.3):
        assert ends[rho] == pytest.approx((-29.9743, 0.5, 8 / 3), abs=1e-4)
    assert ends[-0.3] == pytest.approx((-29.9743, -0.5, 8 / 3), abs=1e-4)


@pytest.mark.derives("prop-ridge-of-fixed-points")
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5])
def test_a_split_fixed_point_is_a_fixed_point(share: float) -> None:
    rows = gmm.datasets.old_faithful().X
    two = gmm.fit(rows, 2, tol=0, max_iter=500, random_state=0).mixture
    split = gmm.Mixture(
        np.array([share * two.weights[0], (1 - share) * two.weights[0], two.weights[1]]),
        two.means[[0, 0, 1]],
        two.covariances[[0, 0, 1]],
    )
    assert split.log_likelihood(rows) == pytest.approx(two.log_likelihood(rows), rel=1e-13)
    after = gmm.fit(rows, 3, start=split, tol=0, max_iter=1).mixture
    np.testing.assert_allclose(after.weights, split.weights, rtol=1e-9)
    np.testing.assert_allclose(after.means, split.means, rtol=1e-9)
    np.testing.assert_allclose(after.covariances, split.covariances, rtol=1e-7)


@pytest.mark.derives("thm-em-gradient", "eq-em-gradient", "eq-em-ascent-angle")
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_of_em_is_a_preconditioned_gradient(weighted: bool) -> None:
    """Differences of the log-likelihood, by scipy's densities, against one EM step."""
    rng = np.random.default_rng(1)
    rows = np.asarray(gmm.datasets.old_faithful().X[:80])
    w = rng.uniform(0.5, 2.0, len(rows)) if weighted else np.ones(len(rows))
    at = gmm.fit(rows, 2, start="random", max_iter=3, tol=0, random_state=17).mixture
    after = gmm.fit(rows, 2, start=at, tol=0, max_iter=1, sample_weight=w).mixture

    def log_likelihood(a: Floats, means: Floats, covariances: Floats) -> float:
        joint = np.column_stack(
            [
                a[k] + stats.multivariate_normal(means[k], covariances[k]).logpdf(rows)
                for k in range(2)
            ]
        )
        return float(w @ (np.logaddexp.reduce(joint, axis=1) - np.logaddexp.reduce(a)))

    a, means, covariances = np.log(at.weights), at.means, at.covariances
    counts = w @ at.responsibilities(rows)

    def slope(direction: tuple[Floats, Floats, Floats], h: float = 1e-5) -> float:
        x, y, z = direction
        up = log_likelihood(a + h * x, means + h * y, covariances + h * z)
        return (up - log_likelihood(a - h * x, means - h * y, covariances - h * z)) / (2 * h)

    zero = np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2, 2))
    moved = after.weights - at.weights
    first_order, angle = after.covariances - covariances, 0.0
    for k in range(2):
        in_a = slope((np.eye(2)[k], zero[1], zero[2]))
        assert moved[k] == pytest.approx(in_a / w.sum(), abs=1e-8)
        angle += in_a**2 / (w.sum() * at.weights[k])
        score = np.array([slope((zero[0], _unit((2, 2), (k, j)), zero[2])) for j in range(2)])
        delta = after.means[k] - at.means[k]
        np.testing.assert_allclose(delta, covariances[k] @ score / counts[k], atol=1e-6)
        G = np.empty((2, 2))
        for i in range(2):
            for j in range(2):
                both = _unit((2, 2, 2), (k, i, j)) + _unit((2, 2, 2), (k, j, i))
                G[i, j] = slope((zero[0], zero[1], both)) / 2
        step = 2 / counts[k] * covariances[k] @ G @ covariances[k] - np.outer(delta, delta)
        np.testing.assert_allclose(after.covariances[k] - covariances[k], step, atol=1e-4)
        first_order[k] += np.outer(delta, delta)
        root = linalg.sqrtm(covariances[k])
        angle += ((root @ score) ** 2).sum() / counts[k]
        angle += 2 * ((root @ G @ root) ** 2).sum() / counts[k]
    # along a line in the weights, log-weights move by the relative change to first order
    along = slope((moved / at.weights, after.means - means, first_order), 1e-4)
    assert along == pytest.approx(angle, rel=1e-4)
    assert angle > 0
    # of which the weights alone are a part that the others do not hide
    weights_part = slope((moved / at.weights, zero[1], zero[2]), 1e-2)
    in_weights = counts - w.sum() * at.weights
    assert weights_part == pytest.approx(
        float((in_weights**2 / at.weights).sum() / w.sum()), rel=1e-4
    )


def _unit(shape: tuple[int, ...], at: tuple[int, ...]) -> Floats:
    array = np.zeros(shape)
    array[at] = 1.0
    return array


@pytest.mark.derives("prop-ridge-of-fixed-points")
def test_on_the_ridge_gains_shrink_by_a_power_and_elsewhere_geometrically() -> None:
    """The rows' skewness is negative: starts that are skewed to the right end on the ridge."""
    rows = np.random.default_rng(5).standard_normal((2000, 1))
    assert stats.skew(rows[:, 0]) < 0
    single = gmm.fit(rows, 1).log_likelihood
    run = gmm.fit(rows, 2, "EEE", start=[[-0.2], [2.5]], tol=0, max_iter=3100)
    gains = np.diff(run.trace.log_likelihood)
    # errors like 1 / t, a gap like its third power, and gains like the fourth
    t = np.array([1000, 3000])
    power = t * (1 - (gains[t + 50] / gains[t - 50]) ** 0.01)
    assert 3.5 < power[0] < power[1] < 4.1
    assert -1e-4 < run.log_likelihood - single < 0
    other = gmm.fit(rows, 2, "EEE", start=[[-0.5], [0.5]], tol=0, max_iter=3000)
    assert other.log_likelihood > single + 0.5


@pytest.mark.derives("thm-em-jacobian", "prop-gain-ratio")
@pytest.mark.parametrize("distance", [2.8, 3.6, 4.5])
def test_the_rate_is_the_missing_share_of_the_information(distance: float) -> None:
    """Predicted from one pass at the end, measured on a run that ends there: within 1 %."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((600, 2))
    rows[:300, 0] += distance
    first = gmm.fit(rows, 2, n_starts=3, random_state=0).mixture
    end = gmm.fit(rows, 2, start=first, tol=0, max_iter=2000).mixture
    parts = gmm.inference.information(end, rows)
    shares, directions = np.linalg.eig(np.linalg.solve(parts.complete, parts.missing))
    slowest = shares.real.argmax()
    u = directions[:, slowest].real
    u *= 0.3 / np.sqrt(u @ parts.observed @ u)
    aside = gmm.inference.from_coordinates(gmm.inference.coordinates(end) + u, end)
    run = gmm.fit(rows, 2, start=aside, tol=0, max_iter=600)
    gains = np.diff(run.trace.log_likelihood)
    clear = np.flatnonzero(gains > 1e-9)
    last = clear[-max(3, len(clear) // 3) :]
    rate = np.exp(np.polyfit(last, np.log(gains[last]), 1)[0])
    assert rate == pytest.approx(shares.real[slowest] ** 2, rel=0.01)
