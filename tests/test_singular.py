"""What superfluous components cost: every bound and every limit of the chapter, by other means."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, pi, sqrt
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, optimize, stats

Floats = NDArray[np.float64]

#: A grid of the line over which sums are integrals, and the standard normal density on it.
X = np.arange(-16.0, 16.0, 1 / 32)
NORMAL = stats.norm.pdf(X) / 32


def density_ratio(weights: Floats, means: Floats, x: Floats) -> Floats:
    """The mixture's density over that of N(0, 1), at each x."""
    return np.exp(means[:, None] * x - means[:, None] ** 2 / 2).T @ weights


def random_means(rng: np.random.Generator, bound: float) -> tuple[Floats, Floats]:
    """Weights and means of every size, some of them tiny, in [-bound, bound]."""
    k = int(rng.integers(1, 6))
    weights = rng.dirichlet(np.full(k, 10 ** rng.uniform(-1, 1)))
    means = rng.uniform(-bound, bound, k) * 10 ** rng.uniform(-3, 0, size=1 if k < 3 else k)
    return weights, means


def size(weights: Floats, means: Floats) -> float:
    """s = |mean| + variance of the distribution of the means."""
    centre = float(weights @ means)
    return abs(centre) + float(weights @ (means - centre) ** 2)


# ---------------------------------------------------------------- what is left free


@pytest.mark.derives("prop-true-set", "eq-true-set-dimension")
@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_piece_keeps_the_density_and_its_complement_does_not(empty: int) -> None:
    """Four components, two true ones: a chart of a piece, its rank, and all other directions.

    Parameters are three weights, four means and four deviations; components have two of their own.
    Off the piece the divergence may grow as slowly as the fourth power of the distance.
    """
    duplicates = 2 - empty
    x = np.arange(-14.0, 14.0, 1 / 32)
    truth = 0.3 * stats.norm.pdf(x, -1.5, 1.0) + 0.7 * stats.norm.pdf(x, 1.0, 0.7)

    def point(c: Floats) -> Floats:
        """Coordinates: shares of the copies of the second component; means, deviations if empty."""
        shares, free = c[:duplicates], c[duplicates:].reshape(empty, 2)
        weights = np.array([0.3, 0.7 - shares.sum(), *shares, *np.zeros(empty)])
        means = np.array([-1.5, 1.0, *np.full(duplicates, 1.0), *free[:, 0]])
        scales = np.array([1.0, 0.7, *np.full(duplicates, 0.7), *free[:, 1]])
        return np.concatenate([weights[1:], means, scales])

    def density(theta: Floats) -> Floats:
        weights = np.concatenate([[1 - theta[:3].sum()], theta[:3]])
        parts = stats.norm.pdf(x, theta[3:7, None], theta[7:, None])
        return np.asarray(weights @ parts)

    start = np.array([0.2, 0.15][:duplicates] + [0.4, 1.3, 2.2, 0.8][: 2 * empty])
    rng = np.random.default_rng(0)
    for _ in range(20):
        moved = start * rng.uniform(0.7, 1.3, len(start))
        np.testing.assert_allclose(density(point(moved)), truth, rtol=1e-11)
    steps = 1e-6 * np.eye(len(start))
    chart = np.array([(point(start + e) - point(start - e)) / 2e-6 for e in steps])
    expected = 2 * empty + (4 - empty - 2)
    assert np.linalg.matrix_rank(chart) == expected
    # at right angles to the piece: first the directions in which the information is zero
    at = point(start)
    slopes = [(density(at + e) - density(at - e)) / 2e-6 for e in 1e-6 * np.eye(11)]
    scores = np.array(slopes) / truth
    information = (scores * truth) @ scores.T / 32
    values, vectors = np.linalg.eigh(information)
    flat = vectors[:, values < 1e-8]
    assert np.abs(chart - chart @ flat @ flat.T).max() < 1e-4  # the piece is among them
    basis = np.linalg.svd(chart)[2].T
    across = basis[:, expected:]
    weight_zero = np.arange(3) >= 3 - empty
    for j in range(400):
        if j % 2 and flat.shape[1] > expected:
            direction = across @ across.T @ flat @ rng.normal(size=flat.shape[1])
        else:
            direction = across @ rng.normal(size=across.shape[1])
        direction[:3][weight_zero] = np.abs(direction[:3][weight_zero])
        direction /= np.linalg.norm(direction)
        ratio = density(at + 0.05 * direction) / truth - 1
        divergence = truth @ (ratio - np.log1p(ratio)) / 32
        assert divergence > 1e-3 * 0.05**4


@pytest.mark.derives("prop-true-set", "eq-true-set-dimension")
@pytest.mark.parametrize("empty", [0, 1, 2])
def test_each_piece_is_as_large_as_its_formula(empty: int) -> None:
    """Four components, two true ones: on a piece the information has that many null directions.

    Parameters are three weights, four means and four deviations; components have two of their own.
    """
    total, true = 4, 2
    weights = np.array([0.3, 0.7, 0.0, 0.0])
    means, scales = np.array([-1.5, 1.0, 0.4, 2.2]), np.array([1.0, 0.7, 1.3, 0.5])
    for j in range(true - empty):  # components 2, 3 equal component 1 and share its weight
        means[2 + j], scales[2 + j] = means[1], scales[1]
        weights[2 + j], weights[1] = 0.2, weights[1] - 0.2
    x = np.arange(-12.0, 12.0, 1 / 64)
    parts = stats.norm.pdf(x, means[:, None], scales[:, None])
    density = weights @ parts
    two = 0.3 * stats.norm.pdf(x, -1.5, 1.0) + 0.7 * stats.norm.pdf(x, 1.0, 0.7)
    np.testing.assert_allclose(density, two, rtol=1e-12)
    z = (x - means[:, None]) / scales[:, None]
    in_means = weights[:, None] * parts * z / scales[:, None]
    in_scales = weights[:, None] * parts * (z**2 - 1) / scales[:, None]
    scores = np.vstack([parts[1:] - parts[0], in_means, in_scales]) / density
    information = (scores * density) @ scores.T / 64
    null = int((np.linalg.eigvalsh(information) < 1e-10).sum())
    expected = empty * 2 + (total - empty - true)
    # directions off the piece may be null too: where components are equal, the first-order
    # changes of their means cannot be told from one another
    duplicates = true - empty
    assert null == expected + 2 * duplicates
    assert expected <= (total - true) * 2


# ---------------------------------------------------------------- volume


def volume(power: float, times: float, eps: Any) -> Any:
    """ε^λ (log 1/ε)^(m−1) near zero, continued as a distribution function."""
    edge = mpmath.e ** (-times / power) / 4 if times > 0 else mpmath.mpf(1)
    if eps >= edge:
        return edge**power * mpmath.log(1 / edge) ** times if edge < 1 else mpmath.mpf(1)
    return eps**power * mpmath.log(1 / eps) ** times


@pytest.mark.derives("prop-volume-evidence", "eq-volume-evidence", "eq-volume")
@pytest.mark.parametrize(("power", "multiplicity"), [(0.5, 1), (0.5, 2), (0.75, 1), (1.5, 3)])
def test_the_evidence_of_a_volume_lies_between_the_bounds_of_the_proof(
    power: float, multiplicity: int
) -> None:
    times = multiplicity - 1
    edge = float(mpmath.e ** (-times / power) / 4) if times else 1.0
    for n in (1e3, 1e6, 1e9):
        value = mpmath.quad(
            lambda s, n=n: mpmath.exp(-s) * volume(power, times, s / n), [0, 0.1, 1, 5, 30, 200]
        )
        rate = n**-power * log(n) ** times
        assert float(value) >= exp(-1) * rate
        above = sum(exp(-j) * (j + 1) ** power for j in range(200))
        assert float(value) <= above * rate + exp(1 - n * edge) / (1 - exp(-1))


@pytest.mark.derives("prop-zeta")
@pytest.mark.parametrize(("power", "multiplicity"), [(0.5, 1), (0.5, 2), (1.25, 3)])
def test_the_largest_pole_of_zeta_is_minus_lambda(power: float, multiplicity: int) -> None:
    """ζ by integrating ε^z over the distribution, close to the pole and twice as close."""
    times = multiplicity - 1
    edge = mpmath.e ** (-times / power) / 4 if times else mpmath.mpf(1)

    def scaled(distance: float) -> float:
        z = -power + distance
        # ∫ ε^z dV by parts, in u = log(1/ε)
        inner = mpmath.quad(
            lambda u: mpmath.exp(-distance * u) * u**times,
            [mpmath.log(1 / edge), 10, 100, 10 / distance, mpmath.inf],
        )
        top = volume(power, times, edge)
        total = -z * inner + edge**z * top  # all mass above the edge is put on it
        return float(total * distance**multiplicity)

    limit = power * float(mpmath.gamma(multiplicity))
    assert scaled(1e-4) == pytest.approx(limit, rel=2e-3)
    assert scaled(1e-3) == pytest.approx(limit, rel=2e-2)


@pytest.mark.derives("prop-dimension-bound", "eq-dimension-bound")
@pytest.mark.parametrize(
    ("p", "r", "distance"),
    [
        (2, 0, lambda t: np.linalg.norm(t, axis=1)),
        (2, 1, lambda t: np.abs(np.linalg.norm(t, axis=1) - 0.6)),
        (3, 1, lambda t: np.hypot(np.linalg.norm(t[:, :2], axis=1) - 0.6, t[:, 2])),
        (3, 2, lambda t: np.abs(t[:, 2])),
        (2, 1, lambda t: np.abs(1 - t[:, 1])),  # on the border
    ],
)
def test_the_volume_about_a_manifold_has_its_codimension(
    p: int, r: int, distance: Callable[[Floats], Floats]
) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (2_000_000, p))
    away = distance(points) ** 2
    near, far = (away < 4e-4).mean(), (away < 4e-2).mean()
    assert log(far / near) / log(100) == pytest.approx((p - r) / 2, abs=0.06)


@pytest.mark.derives("prop-cross", "eq-cross")
@pytest.mark.parametrize("bound", [0.8, 2.0])
def test_the_integral_over_a_cross(bound: float) -> None:
    """The inner integral by the error function, the outer one with thirty digits."""
    mpmath.mp.dps = 30
    for n in (3, 40, 1000):
        direct = (
            mpmath.quad(
                lambda a, n=n: (
                    mpmath.sqrt(mpmath.pi / (2 * n))
                    * mpmath.erf(a * bound * mpmath.sqrt(n / 2))
                    / a
                ),
                [0, 1e-3, 0.05, 0.3, 1],
            )
            / bound
        )
        formula = (
            mpmath.sqrt(mpmath.pi / (2 * n))
            * (mpmath.log(n) + 2 * mpmath.log(bound) + mpmath.euler + mpmath.log(2))
            / (2 * bound)
        )
        rest = float(direct - formula)
        assert -1e-12 <= rest <= exp(-n * bound**2 / 2) / (n * bound**2) + 1e-12
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 1, 400_000), rng.uniform(-bound, bound, 400_000)
    values = a**2 * b**2 / 2
    for eps in (1e-3, 1e-2, 0.1):
        share = sqrt(2 * eps) / (2 * bound) * (log(1 / eps) + 2 * log(bound) + 2 - log(2))
        assert (values < eps).mean() == pytest.approx(share, abs=4 * sqrt(share / 400_000))
    for z in (0.5, 1.0, -0.1):
        exact = (bound**2 / 2) ** z / (2 * z + 1) ** 2
        assert (values**z).mean() == pytest.approx(exact, rel=0.02)
    mpmath.mp.dps = 15


# ---------------------------------------------------------------- redundant mixtures


@pytest.mark.derives("lem-near-one", "eq-near-one", "eq-moment-test", "eq-mixture-taylor")
@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_two_moments_measure_the_distance(bound: float) -> None:
    """Divergences by quadrature for many mixtures, near the truth and far from it."""
    rng = np.random.default_rng(1)
    quotients = []
    for _ in range(300):
        weights, means = random_means(rng, bound)
        s = size(weights, means)
        if s < 1e-5:
            continue
        y = np.exp(means[:, None] * X - means[:, None] ** 2 / 2).T @ weights - 1
        log_ratio = np.log1p(y)
        hellinger = NORMAL @ np.expm1(log_ratio / 2) ** 2
        divergence = NORMAL @ (y - log_ratio)
        squares = NORMAL @ log_ratio**2
        assert hellinger <= divergence * (1 + 1e-9) + 1e-16
        centre = weights @ means
        for g, gap in ((X, centre), (X**2, centre**2 + weights @ (means - centre) ** 2)):
            assert NORMAL @ (g * y) == pytest.approx(gap, abs=1e-12)
            assert gap**2 <= hellinger * 2 * (NORMAL @ (g**2 * (2 + y))) * (1 + 1e-9)
        envelope = ((np.abs(X) + bound) ** 2 + 2) * np.exp(bound * np.abs(X))
        assert (np.abs(y) <= s * envelope * (1 + 1e-9) + 1e-15).all()
        quotients.append([hellinger / s**2, divergence / s**2, squares / s**2])
    low, high = np.min(quotients, axis=0), np.max(quotients, axis=0)
    assert low[0] > 0.01
    assert high[1] < 30
    assert high[2] < 60


@given(st.floats(-1 + 1e-9, 1e6))
def test_bounds_of_the_logarithm(y: float) -> None:
    smaller = min(1.0, 1 + y)
    slack = 1e-9 * (1 + abs(y))
    assert -slack <= y - np.log1p(y) <= y * y / smaller + slack
    assert abs(np.log1p(y)) <= abs(y) / smaller + slack
    root = sqrt(1 + y)
    assert np.log1p(y) <= y - (root - 1) ** 2 + slack


def supremum(rows: Floats, bound: float) -> float:
    """An upper bound of the gain over all distributions of means on a grid.

    EM in their weights; what it may lack is at most n times the excess of the greatest
    derivative, since the log-likelihood is concave in the weights.
    """
    means = np.linspace(-bound, bound, 21)
    ratios = np.exp(means * rows[:, None] - means**2 / 2)  # (rows, means)
    weights = np.full(21, 1 / 21)
    for _ in range(400):
        gradient = (ratios / (ratios @ weights)[:, None]).mean(axis=0)
        weights *= gradient
    gradient = (ratios / (ratios @ weights)[:, None]).mean(axis=0)
    return float(np.log(ratios @ weights).sum() + len(rows) * (gradient.max() - 1))


@pytest.mark.derives("lem-bounded-gain", "eq-uniform-averages", "eq-gain-bound")
def test_the_gain_is_below_its_bound_and_does_not_grow() -> None:
    """Against the mixture that fits best of all, and the bound of the proof."""
    bound = 1.0
    medians = []
    for n in (100, 2000):
        gains = []
        for seed in range(20):
            rows = np.random.default_rng(seed).standard_normal(n)
            gains.append(supremum(rows, bound))
        medians.append(np.median(gains))
        assert np.quantile(gains, 0.9) < 4
    assert medians[1] < 2 * medians[0] + 1
    # the steps of the proof, for one sample
    bound = 0.5
    rows = np.random.default_rng(0).standard_normal(20_000)
    grid = np.linspace(-bound, bound, 201)
    e = np.exp(grid[:, None] * X - grid[:, None] ** 2 / 2)
    at_rows = np.exp(grid[:, None] * rows - grid[:, None] ** 2 / 2)
    largest = 0.0
    at, at_rows_shifted = X - grid[:, None], rows - grid[:, None]
    for power in (0, 1, 2):  # of g: 1, x, x² − 1
        g, g_rows = X**power - (power == 2), rows**power - (power == 2)
        for order in (1, 2):  # derivatives in μ: (x − μ) E, ((x − μ)² − 1) E
            factor = at**order - (order == 2)
            factor_rows = at_rows_shifted**order - (order == 2)
            means = (g * factor * e) @ NORMAL
            averages = (g_rows * factor_rows * at_rows).mean(axis=1)
            largest = max(largest, sqrt(len(rows)) * float(np.abs(averages - means).max()))
    assert largest < sqrt(len(rows)) / 4
    squares = rows**2 + (rows**2 - 1) ** 2
    average = float((squares * (2 * np.exp(bound * np.abs(rows)) + 2)).mean())
    rng = np.random.default_rng(5)
    for _ in range(100):
        weights, means = random_means(rng, bound)
        s = size(weights, means)
        ratio = density_ratio(weights, means, rows)
        y = ratio - 1
        assert abs(y.sum()) <= sqrt(len(rows)) * s * largest * 1.01 + 1e-9
        assert ((np.sqrt(ratio) - 1) ** 2).mean() >= s**2 / (16 * average)
        assert np.log(ratio).sum() <= 4 * average * largest**2
    assert supremum(rows, bound) <= 4 * average * largest**2


@pytest.mark.derives("thm-singular-evidence", "eq-singular-evidence")
def test_the_evidence_of_random_samples_follows_half_a_logarithm() -> None:
    """The toy mixture, by quadrature in the plane for real rows: the rest stays where it is."""
    bound = 2.0
    points, rule = np.polynomial.legendre.leggauss(5)
    u = (np.arange(16)[:, None] + (points + 1) / 2).ravel()
    du = np.tile(rule / 2, 16)
    a, b = np.exp(-u), bound * np.exp(-u)
    rests = []
    for n in (50, 500, 5000):
        rest = []
        for seed in range(16):
            rows = np.random.default_rng(seed).standard_normal(n)
            total = 0.0
            for sign in (1, -1):
                y = np.expm1(sign * b[:, None] * rows - b[:, None] ** 2 / 2)
                for weight, step in zip(a, du, strict=True):
                    gain = np.log1p(weight * y).sum(axis=1)
                    total += step * weight * float((np.exp(gain) * du * np.exp(-u)).sum()) / 2
            rest.append(-log(total) - 0.5 * log(n) + log(log(n)))
        rests.append(rest)
    low, high = np.quantile(rests, [0.1, 0.9], axis=1)
    assert (low > -1.5).all()
    assert (high < 1.5).all()
    # BIC's charge would leave a rest that grows by half a logarithm from each to the next
    assert np.ptp(np.median(rests, axis=1)) < 0.5 < 0.5 * log(10)


def log_probability_of_small_size(alpha: float, k: int, eta: float) -> float:
    """log Pr(s < η), by sampling from a region that contains it, of known volume given weights."""
    bound, n_samples = 1.0, 400_000
    rng = np.random.default_rng(0)
    # log-weights of gamma variables: tiny ones are common for small α
    log_gamma = np.log(rng.gamma(alpha + 1, size=(n_samples, k)))
    log_gamma += np.log(rng.uniform(size=(n_samples, k))) / alpha
    weights = np.exp(log_gamma - log_gamma.max(axis=1, keepdims=True))
    weights = -np.sort(-weights / weights.sum(axis=1, keepdims=True), axis=1)
    reach = np.minimum(2 * bound, np.sqrt(k * eta / np.maximum(weights[:, 1:], 1e-300)))
    shift = rng.uniform(-1, 1, (n_samples, k - 1)) * reach
    centre = rng.uniform(-eta, eta, n_samples)
    means = np.column_stack([np.zeros(n_samples), shift])
    means += (centre - (weights * means).sum(axis=1))[:, None]
    v = (weights * (means - centre[:, None]) ** 2).sum(axis=1)
    upper = (weights[:, 1:] * shift**2).sum(axis=1)
    assert (v <= upper * (1 + 1e-6) + 1e-18).all()
    assert (v >= upper / k * (1 - 1e-6) - 1e-18).all()
    inside = (np.abs(centre) + v < eta) & (np.abs(means) <= bound).all(axis=1)
    region = 2 * eta * np.prod(2 * reach, axis=1) / (2 * bound) ** k
    return log(float((region * inside).mean()))


@pytest.mark.derives("prop-redundant", "eq-redundant", "eq-variance-of-means")
@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_volume_of_redundant_mixtures(alpha: float, k: int) -> None:
    """V(ε) is the probability of s² < ε: its slope in the logarithms."""
    high, low = (log_probability_of_small_size(alpha, k, eta) for eta in (1e-9, 1e-11))
    expected = 0.5 + (k - 1) / 2 * min(alpha, 0.5)
    assert (high - low) / (2 * log(100)) == pytest.approx(expected, abs=0.03)


@pytest.mark.derives("prop-redundant", "eq-redundant")
@pytest.mark.parametrize("k", [2, 3])
def test_at_the_threshold_every_superfluous_component_brings_a_logarithm(k: int) -> None:
    """α = 1/2: Pr(s < η) over η (√η log 1/η + 2√η)^(K−1) stays; without logarithms it would not."""
    rests, without = [], []
    for eta in (1e-4, 1e-7):
        value = log_probability_of_small_size(0.5, k, eta)
        without.append(value - log(eta) - (k - 1) * 0.5 * log(eta))
        rests.append(without[-1] - (k - 1) * log(log(1 / eta) + 2))
    assert abs(rests[1] - rests[0]) < 0.12 * (k - 1)
    assert without[1] - without[0] > 0.35 * (k - 1)


@pytest.mark.derives("prop-redundant")
def test_the_toy_and_its_size() -> None:
    rng = np.random.default_rng(0)
    for a, b in zip(rng.uniform(0, 1, 200), rng.uniform(-2, 2, 200), strict=True):
        s = size(np.array([1 - a, a]), np.array([0.0, b]))
        assert abs(a * b) <= s * (1 + 1e-12)
        assert s <= 3 * abs(a * b) * (1 + 1e-12)


@pytest.mark.derives("cor-mixture-bound")
def test_the_divergence_is_at_most_quadratic_beside_an_empty_component() -> None:
    """Two true components, a third that is empty: directions into the simplex, by quadrature."""
    truth = density_ratio(np.array([0.4, 0.6]), np.array([-1.0, 1.2]), X)
    rng = np.random.default_rng(0)
    worst = []
    for distance in (0.1, 0.01, 0.001):
        quotients = []
        for third in (-1.8, 0.0, 0.9):
            for _ in range(50):
                d_weight, d_means = rng.standard_normal(2), rng.standard_normal(2)
                d_weight[1] = abs(d_weight[1])
                scale = distance / np.sqrt(d_weight @ d_weight + d_means @ d_means)
                first, empty = 0.4 + scale * d_weight[0], scale * d_weight[1]
                weights = np.array([first, 1 - first - empty, empty])
                means = np.array([-1.0, 1.2, third]) + scale * np.array([*d_means, 0.0])
                y = density_ratio(weights, means, X) / truth - 1
                divergence = float((NORMAL * truth) @ (y - np.log1p(y)))
                quotients.append(divergence / distance**2)
        worst.append(max(quotients))
    assert max(worst) < 5
    p, superfluous = 3 * 2 - 1, 1  # K = 3, d = 1: two weights and three means
    assert (2 * 1 + 3 - 1) / 2 == (p - superfluous) / 2


# ---------------------------------------------------------------- WBIC and singular BIC


@pytest.mark.derives("prop-wbic-identity", "eq-free-energy-derivatives", "eq-wbic")
def test_there_is_one_right_temperature() -> None:
    rng = np.random.default_rng(0)
    gain, prior = rng.normal(-20, 15, 500), rng.dirichlet(np.ones(500))

    def free_energy(beta: float) -> float:
        top = (beta * gain).max()
        return float(-np.log(prior @ np.exp(beta * gain - top)) - top)

    def energy(beta: float) -> float:
        tempered = prior * np.exp(beta * (gain - gain.max()))
        return float(-(tempered @ gain) / tempered.sum())

    for beta in (0.01, 0.2, 1.0):
        slope = (free_energy(beta + 1e-5) - free_energy(beta - 1e-5)) / 2e-5
        assert energy(beta) == pytest.approx(slope, rel=1e-5)
        tempered = prior * np.exp(beta * (gain - gain.max()))
        tempered /= tempered.sum()
        variance = tempered @ gain**2 - (tempered @ gain) ** 2
        bend = (energy(beta + 1e-5) - energy(beta - 1e-5)) / 2e-5
        assert bend == pytest.approx(-variance, rel=1e-4)
    assert integrate.quad(energy, 0, 1, limit=200)[0] == pytest.approx(free_energy(1), rel=1e-8)
    differences = [energy(beta) - free_energy(1) for beta in np.linspace(0, 1, 2001)]
    assert int((np.diff(np.sign(differences)) != 0).sum()) == 1


@pytest.mark.derives("prop-wbic-temperature", "eq-wbic-temperature")
@pytest.mark.parametrize(("power", "times"), [(0.5, 0), (0.5, 1), (1.5, 0)])
def test_the_right_temperature_is_one_over_the_logarithm(power: float, times: int) -> None:
    """Volumes that are exact powers and logarithms, integrals with mpmath, to n = 10^400."""

    def integral(r: int, big: Any) -> Any:
        def inner(s: Any) -> Any:
            factor = s - 1 if r else 1
            return factor * mpmath.exp(-s) * volume(power, times, s / big)

        return mpmath.quad(inner, [0, 1e-6, 0.01, 0.3, 1, 3, 10, 40, 120])

    gaps = []
    for digits in (10, 40, 400):
        n = mpmath.mpf(10) ** digits
        target = -mpmath.log(integral(0, n))
        at = mpmath.log(n) * integral(1, n / mpmath.log(n)) / integral(0, n / mpmath.log(n))
        assert abs(at / (power * mpmath.log(n)) - 1) < 3 / (power * digits) + 0.01

        def over(scale: float, n: Any = n, target: Any = target) -> float:
            big = n * scale / mpmath.log(n)
            ratio = integral(1, big) / integral(0, big)
            return float(mpmath.log(n) / scale * ratio - target)

        gaps.append(abs(optimize.brentq(over, 0.2, 5.0, xtol=1e-6) - 1))
    assert gaps[2] < gaps[0]
    assert gaps[2] < 0.05


@pytest.mark.derives("prop-sbic", "eq-sbic", "eq-sbic-root", "eq-sbic-parts")
@given(st.integers(2, 5), st.integers(0, 10_000))
def test_singular_bic_is_a_fixed_point_and_the_only_one(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = np.exp(rng.normal(0, 3, (k, k)))
    values: list[float] = []
    for i in range(k):
        before = np.array(values)
        linear = before.sum() - parts[i, i]
        product = parts[i, :i] @ before
        roots = np.roots([1.0, linear, -product])
        positive = [r.real for r in roots if r.real > 0 or (i == 0 and abs(r) > 0)]
        assert len(positive) == 1
        values.append(positive[0])
    solution = np.array(values)
    for i in range(k):
        mean = parts[i, : i + 1] @ solution[: i + 1] / solution[: i + 1].sum()
        assert solution[i] == pytest.approx(mean, rel=1e-6)
        if (parts[i, : i + 1] >= parts[i, i]).all():
            assert solution[i] >= parts[i, i] * (1 - 1e-9)
    gap = parts[1, 0] + parts[1, 1] - 2 * parts[0, 0]
    if abs(gap) > 1e-9:
        assert (solution[1] > solution[0]) == (gap > 0)


@pytest.mark.derives("prop-sbic", "eq-sbic-rule")
def test_the_rule_for_two_components() -> None:
    for n in (20, 500):
        edge = log(2) - log(n**-0.25 + 1 / n)
        for gain in (edge - 0.01, edge + 0.01):
            one, shared, own = n**-0.5, exp(gain) * n**-0.75, exp(gain) * n**-1.5
            quadratic = np.polynomial.Polynomial([-shared * one, one - own, 1.0])
            two = max(quadratic.roots().real)
            assert (two > one) == (gain > edge)


# ---------------------------------------------------------------- the likelihood ratio


@pytest.mark.derives("prop-gain-diverges", "eq-gain-correlation")
def test_gains_at_fixed_shifts_are_squares_of_nearly_independent_normals() -> None:
    shifts = np.array([0.7, 2.2, 3.7])
    e = np.expm1(shifts[:, None] * X - shifts[:, None] ** 2 / 2)
    covariance = (e * NORMAL) @ e.T
    deviation = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(deviation, deviation)
    product = np.outer(shifts, shifts)
    tau = np.sqrt(np.expm1(shifts**2))
    np.testing.assert_allclose(correlation, np.expm1(product) / np.outer(tau, tau), rtol=1e-6)
    assert correlation[0, 2] < 0.1
    # one shift: the maximum in the weight against the square of the positive part
    b, n = 1.0, 40_000
    errors, values = [], []
    for seed in range(60):
        rows = np.random.default_rng(seed).standard_normal(n)
        y = np.expm1(b * rows - b * b / 2)
        score = y.sum() / sqrt(n * np.expm1(b * b))
        best = optimize.minimize_scalar(
            lambda a, y=y: -np.log1p(a * y).sum(),
            bounds=(0, 0.2),
            method="bounded",
            options={"xatol": 1e-9},
        )
        errors.append(2 * max(0.0, -best.fun) - max(0.0, score) ** 2)
        values.append(score)
    assert np.quantile(np.abs(errors), 0.9) < 0.1
    assert np.abs(errors).max() < 0.5
    assert stats.kstest(values, "norm").pvalue > 0.01


@pytest.mark.derives("prop-gain-diverges")
def test_the_largest_gain_grows_with_the_range_of_the_shift() -> None:
    """Suprema of the limiting process: the median passes any number, as slowly as a logarithm."""
    k = np.arange(1, 3000)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k))])[1:]
    z = np.random.default_rng(0).standard_normal((len(k), 400))
    medians = []
    for end in (2.0, 10.0, 40.0):
        b = np.arange(0.1, end, 0.1)
        terms = np.exp(
            k * np.log(b)[:, None]
            - log_factorial / 2
            - (b**2 + np.log1p(-np.exp(-(b**2))))[:, None] / 2
        )
        medians.append(np.median(np.maximum(0, (terms @ z).max(axis=0)) ** 2))
    # by Rice's formula twice the logarithm of the range: 3.2 and 2.8 in the end, less before
    assert np.diff(medians)[0] > 1.0
    assert np.diff(medians)[1] > 1.5


@pytest.mark.derives("eq-gumbel")
def test_the_number_of_crossings() -> None:
    """Rice's formula for the correlation exp(−Δ²/2), on a long draw of the process."""
    rng = np.random.default_rng(0)
    step = 0.05
    kernel = np.exp(-(np.arange(-8, 8, step) ** 2))  # its autocorrelation is exp(−Δ²/2)
    noise = rng.standard_normal(2_000_000)
    path = np.convolve(noise, kernel / np.sqrt((kernel**2).sum()), mode="valid")
    level = 1.5
    crossings = int(((path[:-1] < level) & (path[1:] >= level)).sum())
    expected = len(path) * step * exp(-(level**2) / 2) / (2 * pi)
    assert crossings == pytest.approx(expected, rel=0.04)
    length, tau = 2 * sqrt(log(1e6) / 2), 3.7
    mean = length * exp(-tau / 2) / (2 * pi)
    t = tau - log(log(1e6)) + log(2 * pi**2)
    assert exp(-mean) == pytest.approx(exp(-exp(-t / 2)), rel=1e-12)
