"""Two balanced components: integrals by quadrature, simulation and the package's own EM."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, pi, sqrt

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, optimize, special, stats

import gmm

Floats = NDArray[np.float64]


def expectation(g: Callable[[float], float], mean: float = 0.0) -> float:
    """E g(x) for x normal with this mean and variance one, by adaptive quadrature."""
    value, _ = integrate.quad(
        lambda x: g(x) * stats.norm.pdf(x, mean), mean - 12, mean + 12, epsabs=1e-13, limit=400
    )
    return float(value)


def kappa(c: float) -> float:
    return exp(-c * c / 2) * expectation(lambda z: 1 / np.cosh(c * z))


def rho(c: float) -> float:
    return exp(-c * c / 2) * expectation(lambda z: z * z / np.cosh(c * z))


def on_line(theta: float, truth: float) -> float:
    return expectation(lambda x: x * np.tanh(theta * x), truth)


NODES, WEIGHTS = special.roots_hermitenorm(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
PLANE = np.stack(np.meshgrid(NODES, NODES), axis=-1).reshape(-1, 2)
PLANE_WEIGHTS = np.outer(WEIGHTS, WEIGHTS).ravel()


def in_plane(theta: Floats, truth: Floats) -> Floats:
    """The map by a rule for the plane, over both components."""
    total = np.zeros(2)
    for sign in (1, -1):
        x = PLANE + sign * truth
        total += 0.5 * (PLANE_WEIGHTS * np.tanh(x @ theta)) @ x
    return total


def by_the_formula(theta: Floats, truth: Floats) -> Floats:
    length, mean = float(np.linalg.norm(theta)), float(theta @ truth)
    alpha = expectation(lambda z: np.tanh(length * z + mean))
    beta = expectation(lambda z: 1 / np.cosh(length * z + mean) ** 2)
    result: Floats = alpha * truth + beta * theta
    return result


@pytest.mark.derives("prop-balanced-map", "eq-balanced-map", "eq-balanced-combination")
def test_the_map_is_a_step_of_the_package_on_a_rule_of_integration() -> None:
    """Nodes of quadrature are rows, their weights the rows' weights: population EM."""
    truth, theta = np.array([0.7, -0.4]), np.array([0.3, 0.5])
    rows = np.vstack([PLANE + truth, PLANE - truth])
    weights = np.concatenate([PLANE_WEIGHTS, PLANE_WEIGHTS])
    heavy = weights > 1e-18
    start = gmm.Mixture([0.5, 0.5], [theta, -theta], [1.0, 1.0], "VII")
    step = gmm.fit(
        rows[heavy],
        2,
        "VII",
        start=start,
        fixed=("weights", "covariances"),
        sample_weight=weights[heavy],
        tol=0,
        max_iter=1,
    ).mixture
    by_package = step.means[0] if step.means[0] @ truth > step.means[1] @ truth else step.means[1]
    by_rule = in_plane(theta, truth)
    by_rule *= np.sign(by_rule @ truth)
    np.testing.assert_allclose(by_package, by_rule, atol=1e-9)


@pytest.mark.derives("prop-balanced-map", "eq-balanced-map", "eq-balanced-combination")
@pytest.mark.parametrize("seed", range(5))
def test_a_step_combines_the_truth_and_the_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, theta = rng.normal(size=2), rng.normal(size=2)
    image = in_plane(theta, truth)
    np.testing.assert_allclose(image, by_the_formula(theta, truth), atol=1e-6)

    def mean_log_density(at: Floats) -> float:
        x = PLANE + truth
        both = np.stack([-0.5 * ((x - s * at) ** 2).sum(axis=1) for s in (1, -1)])
        return float(PLANE_WEIGHTS @ special.logsumexp(both, axis=0))

    h = 1e-5
    slope = [(mean_log_density(theta + h * e) - mean_log_density(theta - h * e)) / (2 * h)
             for e in np.eye(2)]  # fmt: skip
    np.testing.assert_allclose(theta + slope, image, atol=1e-5)


@pytest.mark.derives("prop-balanced-map")
def test_a_search_from_many_places_finds_three_stationary_points() -> None:
    truth = np.array([0.9, 0.5])
    rng = np.random.default_rng(0)

    def excess(theta: Floats) -> Floats:
        return in_plane(theta, truth) - theta

    found = []
    for _ in range(40):
        begin = 1.5 * rng.normal(size=2)
        end: Floats = optimize.fsolve(excess, begin, xtol=1e-12, full_output=True)[0]
        if np.abs(excess(end)).max() < 1e-10:
            found.append(end)
    assert len(found) > 20
    for end in found:
        distances = [np.linalg.norm(end - s * truth) for s in (-1, 0, 1)]
        assert min(distances) < 1e-3  # flat at zero: a root is found to the cube root of rounding
    for s in (-1, 0, 1):
        assert min(np.linalg.norm(end - s * truth) for end in found) < 1e-3


@pytest.mark.derives("thm-balanced-line", "eq-balanced-rate")
@pytest.mark.parametrize("truth", [0.3, 1.0, 2.2])
def test_on_the_line_em_is_monotone_and_ends_at_the_truth(truth: float) -> None:
    grid = np.linspace(0, 4, 41)
    values = np.array([on_line(t, truth) for t in grid])
    assert values[0] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(values) > 0).all()
    assert (np.diff(values, 2) < 0).all()
    assert on_line(-1.3, truth) == pytest.approx(-on_line(1.3, truth), rel=1e-10)
    assert on_line(truth, truth) == pytest.approx(truth, abs=1e-11)
    for start in (0.05, 3.5):
        path = [start]
        for _ in range(120 if truth < 1 else 40):
            path.append(on_line(path[-1], truth))
        steps = np.diff(path)
        clear = np.abs(steps) > 1e-10
        assert (np.sign(steps[clear]) == np.sign(truth - start)).all()
        assert path[-1] == pytest.approx(truth, abs=1e-6)
        errors = np.abs(np.array(path) - truth)
        t = int(np.flatnonzero(errors > 1e-5)[-1])
        assert errors[t] / errors[t - 1] == pytest.approx(rho(truth), rel=0.05)
    h = 1e-4
    slope = (on_line(truth + h, truth) - on_line(truth - h, truth)) / (2 * h)
    assert slope == pytest.approx(rho(truth), abs=1e-7)
    assert slope < 1


@pytest.mark.derives("lem-balanced-tanh", "eq-balanced-lemma", "eq-balanced-kappa")
@pytest.mark.parametrize("seed", range(30))
def test_one_truth_bounds_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, m = rng.uniform(0.02, 4, 2)
    c = min(a, m)
    k = kappa(c)
    tanh = expectation(lambda x: np.tanh(a * x), m)
    assert 1 - tanh <= k + 1e-12
    image = on_line(a, m)
    assert abs(image - m) <= k * abs(a - m) + 1e-12
    assert min(a, m) - 1e-12 <= image <= max(a, m) + 1e-12
    assert k <= exp(-c * c / 2)
    assert kappa(c + 0.01) < k
    # where truth and place agree, the first inequality is an equality
    assert expectation(lambda x: np.tanh(m * x), m) == pytest.approx(1 - kappa(m), abs=1e-11)


@pytest.mark.derives("thm-balanced-global", "eq-balanced-contraction", "eq-balanced-geometric")
@pytest.mark.parametrize("seed", range(12))
def test_every_step_contracts_and_none_makes_the_bound_worse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 6))
    truth = rng.normal(size=d) * rng.uniform(0.2, 1.5)
    theta = rng.normal(size=d) * 10 ** rng.uniform(-2, 0.7)
    theta *= np.sign(theta @ truth)

    def q(at: Floats) -> float:
        length = float(np.linalg.norm(at))
        return min(length, float(at @ truth) / length)

    first, bound = float(np.linalg.norm(theta - truth)), kappa(q(theta))
    for t in range(1, 15):
        after = by_the_formula(theta, truth)
        before_error = np.linalg.norm(theta - truth)
        error = np.linalg.norm(after - truth)
        assert error <= kappa(q(theta)) * before_error + 1e-11
        assert q(after) >= q(theta) - 1e-11
        assert error <= bound**t * first + 1e-11
        np.testing.assert_allclose(by_the_formula(theta, -truth), after, atol=1e-11)
        theta = after


@pytest.mark.derives("thm-balanced-global")
def test_starts_at_right_angles_stay_there_and_others_find_their_side() -> None:
    truth = np.array([0.8, 0.0])
    theta = np.array([0.0, 1.7])
    for _ in range(30):
        after = in_plane(theta, truth)
        assert abs(after[0]) < 1e-12
        assert after[1] < theta[1]
        theta = np.array([0.0, after[1]])
    for start, end in (([0.05, 2.0], truth), ([-0.05, 2.0], -truth)):
        theta = np.array(start)
        for _ in range(120):
            theta = in_plane(theta, truth)
        np.testing.assert_allclose(theta, end, atol=1e-6)


@pytest.mark.derives("prop-balanced-jacobian", "eq-balanced-jacobian")
@pytest.mark.parametrize("m", [0.4, 1.0, 1.7])
def test_the_derivatives_at_the_fixed_points(m: float) -> None:
    truth = m * np.array([0.6, 0.8])
    direction = np.outer(truth, truth) / m**2
    h = 1e-4

    def jacobian(at: Floats) -> Floats:
        columns = [(in_plane(at + h * e, truth) - in_plane(at - h * e, truth)) / (2 * h)
                   for e in np.eye(2)]  # fmt: skip
        return np.column_stack(columns)

    np.testing.assert_allclose(jacobian(np.zeros(2)), np.eye(2) + m**2 * direction, atol=1e-6)
    expected = kappa(m) * np.eye(2) + (rho(m) - kappa(m)) * direction
    for sign in (1, -1):
        np.testing.assert_allclose(jacobian(sign * truth), expected, atol=1e-4)
    assert rho(m) < kappa(m) < 1


@pytest.mark.derives("prop-balanced-jacobian")
def test_the_slowest_error_lies_across_and_zero_is_a_saddle() -> None:
    truth = np.array([0.9, 0.0])
    theta = np.array([1.5, 0.4])
    ratios = []
    for _ in range(25):
        after = by_the_formula(theta, truth)
        ratios.append(np.linalg.norm(after - truth) / np.linalg.norm(theta - truth))
        theta = after
    assert ratios[-1] == pytest.approx(kappa(0.9), rel=1e-3)
    assert abs(theta[0] - 0.9) < 0.01 * abs(theta[1])

    def height(along: float, across: float) -> float:
        y = PLANE @ np.array([along, across]) + along * 0.9
        return float(PLANE_WEIGHTS @ np.log(np.cosh(y))) - 0.5 * (along**2 + across**2)

    assert height(0.3, 0) > height(0, 0) > height(0, 0.3)


@pytest.mark.derives("thm-balanced-sublinear", "eq-balanced-expansion", "eq-balanced-sublinear")
def test_without_separation_the_distance_falls_like_one_over_a_root() -> None:
    c, z = sympy.symbols("c z")
    series = sympy.series(z * sympy.tanh(c * z), c, 0, 6).removeO()
    moments = {2: 1, 4: 3, 6: 15}
    poly = sympy.Poly(series, z)
    mean = sum(coefficient * moments[power[0]] for power, coefficient in poly.terms())
    assert sympy.expand(mean - (c - c**3 + 2 * c**5)) == 0
    for value in (0.01, 0.1, 0.3, 0.7, 1.5, 4.0):
        image = on_line(value, 0.0)
        assert value - value**3 - 1e-12 <= image <= value - value**3 + 2 * value**5 + 1e-12
        stein = value * expectation(lambda x, v=value: 1 / np.cosh(v * x) ** 2)  # type: ignore[misc]
        assert image == pytest.approx(stein, rel=1e-9)
    for start in (0.4, 3.0):
        at = start
        for _ in range(3000):
            at = float(WEIGHTS @ (NODES * np.tanh(at * NODES)))
        assert at * sqrt(2 * 3000) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.derives("prop-balanced-any-sample")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-6, 6, allow_subnormal=False), min_size=1, max_size=12).filter(
        lambda x: abs(np.mean(np.square(x)) - 1) > 0.02 and max(map(abs, x)) > 0.05
    )
)
def test_for_any_numbers_the_mean_square_decides(numbers: list[float]) -> None:
    x = np.array(numbers)
    grid = np.linspace(0.01, 1.01 * np.abs(x).max() + 0.5, 3000)
    excess = (np.tanh(np.outer(grid, x)) @ x) / len(x) - grid
    changes = int((np.diff(np.sign(excess)) != 0).sum())
    if np.mean(x**2) < 1:
        assert (excess < 0).all()
        end = 0.0
    else:
        assert changes <= 1
        assert excess[-1] < 0
        end = float(
            optimize.brentq(
                lambda t: x @ np.tanh(t * x) / len(x) - t, 1e-4, np.abs(x).max() + 1, xtol=1e-14
            )
        )
        # the maximum of the likelihood
        heights = np.log(np.cosh(np.outer(grid, x))).sum(axis=1) - len(x) * grid**2 / 2
        assert abs(grid[heights.argmax()] - end) < 2 * (grid[1] - grid[0])
    for start in (0.3, 5.0):
        theta = start
        for _ in range(4000):
            theta = float(x @ np.tanh(theta * x)) / len(x)
        assert theta == pytest.approx(end, abs=1e-4)


def maximum(x: Floats) -> float:
    if np.mean(x**2) <= 1:
        return 0.0
    return float(
        optimize.brentq(lambda t: np.mean(x * np.tanh(t * x)) - t, 1e-6, np.mean(np.abs(x)) + 1e-9)
    )


@pytest.mark.derives("thm-balanced-errors", "eq-balanced-errors")
def test_two_components_have_errors_of_the_order_of_a_root() -> None:
    rng = np.random.default_rng(0)
    n, times = 4000, 500
    errors = sqrt(n) * np.array([maximum(rng.normal(size=n) + 1.0) - 1.0 for _ in range(times)])
    variance = 1 / (1 - rho(1.0))
    # four standard errors of a variance
    assert np.var(errors) == pytest.approx(variance, rel=4 * sqrt(2 / times))
    assert stats.kstest(errors / sqrt(variance), "norm").pvalue > 1e-3
    second = expectation(lambda x: (x * np.tanh(x)) ** 2, 1.0) - 1
    assert second == pytest.approx(1 - rho(1.0), abs=1e-10)


@pytest.mark.derives("thm-balanced-errors", "eq-balanced-errors")
def test_one_component_has_errors_of_the_order_of_a_fourth_root() -> None:
    rng = np.random.default_rng(1)
    n, times = 20_000, 500
    scaled = n**0.25 * np.array([maximum(rng.normal(size=n)) for _ in range(times)])
    assert np.mean(scaled == 0) == pytest.approx(0.5, abs=4 * 0.5 / sqrt(times))
    positive = scaled[scaled > 0]
    # given that it is positive, the square over root two is half a normal
    assert stats.kstest(positive**2 / sqrt(2), "halfnorm").pvalue > 1e-3
    mean = special.gamma(0.75) / sqrt(2 * pi)
    sd = sqrt(1 / sqrt(pi) - mean**2)
    assert np.mean(scaled) == pytest.approx(mean, abs=4 * sd / sqrt(times))


@pytest.mark.derives("prop-balanced-dimension", "eq-balanced-trace")
def test_errors_in_space_have_the_inverse_information() -> None:
    m, d = 1.0, 3
    truth = np.array([m, 0.0, 0.0])
    # the information as the variance of the score, by quadrature in the plane
    x = PLANE + truth[:2]
    score = x * np.tanh(x @ truth[:2])[:, None] - truth[:2]
    information = (PLANE_WEIGHTS[:, None] * score).T @ score
    np.testing.assert_allclose(information, np.diag([1 - rho(m), 1 - kappa(m)]), atol=1e-4)
    rng = np.random.default_rng(2)
    n, times = 2000, 400
    squares = []
    for _ in range(times):
        rows = rng.normal(size=(n, d)) + truth
        theta = truth.copy()
        for _ in range(30):
            theta = np.tanh(rows @ theta) @ rows / n
        squares.append((theta - truth) ** 2)
    measured = n * np.mean(squares, axis=0)
    expected = np.array([1 / (1 - rho(m)), 1 / (1 - kappa(m)), 1 / (1 - kappa(m))])
    np.testing.assert_allclose(measured, expected, rtol=4 * sqrt(2 / times) + 0.03)  # and 1/n


@pytest.mark.derives("prop-balanced-perturbed", "eq-balanced-perturbed")
@pytest.mark.parametrize("seed", range(4))
def test_a_map_that_is_nearly_right_ends_nearly_right(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.array([1.2, 0.0])
    r = 0.6
    contraction = kappa(1.2 - r)
    epsilon = 0.9 * (1 - contraction) * r
    direction = rng.normal(size=2)
    theta = truth + r * direction / np.linalg.norm(direction)
    for t in range(1, 25):
        outward = theta - truth if t % 2 else rng.normal(size=2)  # the worst deviation, or any
        push = epsilon * outward / np.linalg.norm(outward)
        theta = by_the_formula(theta, truth) + push
        error = np.linalg.norm(theta - truth)
        assert error <= r + 1e-12
        assert error <= contraction**t * r + epsilon / (1 - contraction) + 1e-12
