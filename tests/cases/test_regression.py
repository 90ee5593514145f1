"""Conditionals and regression: the theorems by quadrature, peers and simulation; the case."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from conftest import random_mixture
from numpy.typing import NDArray
from scipy.stats import kstest, norm

import gmm
from gmm.algebra import modes, regress

Floats = NDArray[np.float64]

PLANE = gmm.Mixture(
    [0.3, 0.5, 0.2],
    [[0.0, 0.0], [2.0, 1.0], [1.0, 4.0]],
    [[[1.0, 0.6], [0.6, 1.0]], [[0.5, -0.3], [-0.3, 0.6]], [[1.5, 0.2], [0.2, 0.4]]],
)


def conditional_moments(mixture: gmm.Mixture, x: float, y: Floats) -> tuple[float, float]:
    """Mean and variance of the second feature given the first, by sums over a fine grid."""
    density = np.exp(mixture.log_density(np.column_stack([np.full_like(y, x), y])))
    density /= density.sum()
    mean = float(density @ y)
    return mean, float(density @ (y - mean) ** 2)


@pytest.mark.derives(
    "thm-mixture-regression", "eq-mixture-regression", "eq-mixture-regression-variance"
)
@pytest.mark.parametrize("x", [-2.0, 0.3, 1.4, 5.0])
def test_mean_and_variance_are_those_of_the_joint_density(x: float) -> None:
    """Equally spaced sums of an analytic density that decays are exact to rounding."""
    mean, covariance, _ = regress(PLANE, 0, [[x]])
    by_sums = conditional_moments(PLANE, x, np.linspace(-12, 16, 6001))
    assert (mean.item(), covariance.item()) == pytest.approx(by_sums, rel=1e-10)


@pytest.mark.derives("thm-mixture-regression")
def test_two_responses_against_draws_near_a_value_of_the_predictor() -> None:
    mixture = random_mixture("VVV", 3, 3, seed=4)
    rows, _ = mixture.sample(2_000_000, random_state=0)
    at = float(mixture.mean[0])
    near = rows[abs(rows[:, 0] - at) < 0.02][:, 1:]
    mean, covariance, _ = regress(mixture, 0, [[at]])
    error = np.sqrt(np.diagonal(covariance[0]) / len(near))
    assert len(near) > 3000
    assert np.all(abs(near.mean(axis=0) - mean[0]) < 4 * error)
    assert np.cov(near.T) == pytest.approx(covariance[0], abs=0.1 * np.trace(covariance[0]))


@pytest.mark.derives("thm-mixture-regression")
@pytest.mark.parametrize("name", ["line", "square", "sine", "mean"])
def test_the_error_of_any_predictor_splits_as_stated(name: str) -> None:
    """The expectations over the plane by sums over a grid."""
    x, y = np.linspace(-9, 11, 801), np.linspace(-9, 13, 881)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    joint = np.exp(PLANE.log_density(points.reshape(-1, 2))).reshape(len(x), len(y))
    joint /= joint.sum()
    mean, covariance, _ = regress(PLANE, 0, x[:, None])
    m, v = mean[:, 0], covariance[:, 0, 0]
    g = {"line": 1 + 0.5 * x, "square": 0.1 * x**2, "sine": np.sin(x), "mean": m}[name]
    left = np.sum(joint * (y - g[:, None]) ** 2)
    weight = joint.sum(axis=1)
    assert left == pytest.approx(weight @ v + weight @ (m - g) ** 2, rel=1e-9)
    assert left >= weight @ v * (1 - 1e-9)


@pytest.mark.derives("prop-one-component-ols")
@pytest.mark.parametrize("weighted", [False, True])
def test_one_component_gives_the_coefficients_of_least_squares(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 3)) + [1.0, -2.0, 5.0]
    Y = np.column_stack([np.exp(0.3 * X[:, 0]), X @ [1.0, 2.0, -1.0]])
    Y += rng.standard_normal(Y.shape)
    w = rng.uniform(0.2, 3.0, 60) if weighted else np.ones(60)
    fit = gmm.fit(np.column_stack([X, Y]), 1, sample_weight=w)
    design = np.column_stack([np.ones(60), X])
    root = np.sqrt(w)[:, None]
    coefficients = np.linalg.lstsq(root * design, root * Y, rcond=None)[0]
    fresh = rng.standard_normal((10, 3))
    mean, covariance, _ = regress(fit.mixture, [0, 1, 2], fresh)
    assert mean == pytest.approx(np.column_stack([np.ones(10), fresh]) @ coefficients, abs=1e-8)
    residuals = Y - design @ coefficients
    expected = (w[:, None] * residuals).T @ residuals / w.sum()
    for one in covariance:
        assert one == pytest.approx(expected, rel=1e-8)


def a_component_for_each_row(
    X: Floats, y: Floats, w: Floats, h: float, s: float = 0.7
) -> gmm.Mixture:
    variances = np.tile([h**2] * X.shape[1] + [s**2], (len(X), 1))
    covariances = np.array([np.diag(row) for row in variances])
    return gmm.Mixture(w / w.sum(), np.column_stack([X, y]), covariances)


@pytest.mark.derives("prop-nadaraya-watson")
def test_a_component_for_each_row_is_the_kernel_smoother_with_its_two_limits() -> None:
    rng = np.random.default_rng(1)
    X, y, w = rng.standard_normal((12, 2)), rng.standard_normal(12), rng.uniform(0.5, 2, 12)
    fresh = rng.standard_normal((5, 2))
    for s in (0.1, 3.0):
        mean = regress(a_component_for_each_row(X, y, w, 0.6, s), [0, 1], fresh).mean[:, 0]
        for x, value in zip(fresh, mean, strict=True):
            kappa = [w[i] * np.exp(-np.sum((x - X[i]) ** 2) / (2 * 0.36)) for i in range(12)]
            assert value == pytest.approx(np.dot(kappa, y) / sum(kappa), rel=1e-10)
    wide = regress(a_component_for_each_row(X, y, w, 1e4), [0, 1], fresh).mean[:, 0]
    assert wide == pytest.approx(np.full(5, w @ y / w.sum()), abs=1e-6)
    narrow = regress(a_component_for_each_row(X, y, w, 1e-2), [0, 1], fresh).mean[:, 0]
    nearest = ((fresh[:, None] - X) ** 2).sum(axis=2).argmin(axis=1)
    assert narrow == pytest.approx(y[nearest], abs=1e-10)


def far_errors(mixture: gmm.Mixture, x0: Floats, u: Floats, k: int, t: float) -> tuple[mp.mpf, ...]:
    """Distances of mean and variance from component k's at x0 + t u, with fifty digits."""
    with mp.workdps(50):
        p = len(x0)
        x = mp.matrix([mp.mpf(a) + mp.mpf(t) * mp.mpf(b) for a, b in zip(x0, u, strict=True)])
        logs, means, variances = [], [], []
        for weight, mu, cov in zip(
            mixture.weights, mixture.means, mixture.covariances, strict=True
        ):
            inner = mp.matrix(cov[:p, :p].tolist())
            cross = mp.matrix([cov[p, :p].tolist()])
            gap = x - mp.matrix(mu[:p].tolist())
            inverse = inner**-1
            square = (gap.T * inverse * gap)[0]
            logs.append(mp.log(weight) - mp.log(mp.det(inner)) / 2 - square / 2)
            means.append(mp.mpf(float(mu[p])) + (cross * inverse * gap)[0])
            variances.append(mp.mpf(float(cov[p, p])) - (cross * inverse * cross.T)[0])
        top = max(logs)
        shares = [mp.exp(value - top) for value in logs]
        shares = [share / sum(shares) for share in shares]
        mean = mp.fdot(shares, means)
        variance = mp.fdot(shares, variances) + sum(
            share * (m - mean) ** 2 for share, m in zip(shares, means, strict=True)
        )
        return abs(mean - means[k]), abs(variance - variances[k])


@pytest.mark.derives("prop-regression-far")
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_far_out_the_widest_component_forecasts_alone(sign: float) -> None:
    mixture = random_mixture("VVV", 4, 3, seed=7)
    x0, u = np.array([0.5, -1.0]), sign * np.array([1.0, 0.4])
    inner = np.linalg.inv(mixture.covariances[:, :2, :2])
    k = int(np.argmin(np.einsum("i,kij,j->k", u, inner, u)))
    near, far = (far_errors(mixture, x0, u, k, t) for t in (10.0, 500.0))
    assert max(far) < mp.mpf(10) ** -15
    assert all(b < a or b == 0 for a, b in zip(near, far, strict=True))
    at = regress(mixture, [0, 1], [x0 + 500 * u])
    alone = regress(
        gmm.Mixture([1.0], mixture.means[[k]], mixture.covariances[[k]]), [0, 1], [x0 + 500 * u]
    )
    assert at.mean == pytest.approx(alone.mean, rel=1e-10)
    assert at.covariance == pytest.approx(alone.covariance, rel=1e-8)


@pytest.mark.derives("prop-regression-far")
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_among_equally_wide_components_the_farthest_wins(sign: float) -> None:
    """The predictors' covariances are equal, the slopes and the rest are not."""
    inner = np.array([[1.0, 0.3], [0.3, 2.0]])
    means = np.array([[0.0, 0.0, 1.0], [2.0, 1.0, -1.0], [1.0, -2.0, 3.0]])
    covariances = np.zeros((3, 3, 3))
    covariances[:, :2, :2] = inner
    for k, slope in enumerate(([0.5, 0.0], [-0.2, 0.4], [0.1, -0.3])):
        cross = inner @ slope
        covariances[k, 2, :2] = covariances[k, :2, 2] = cross
        covariances[k, 2, 2] = 0.5 + k + slope @ cross
    mixture = gmm.Mixture([0.5, 0.1, 0.4], means, covariances)
    x0, u = np.array([0.2, 0.3]), sign * np.array([1.0, 0.5])
    k = int(np.argmin([u @ np.linalg.solve(inner, x0 - mu[:2]) for mu in means]))
    errors = [max(far_errors(mixture, x0, u, k, t)) for t in (20.0, 40.0, 80.0)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-20


@pytest.mark.derives("prop-pit")
def test_the_transform_is_uniform_and_independent_of_the_predictor() -> None:
    rows, _ = PLANE.sample(5_000, random_state=0)
    u = np.empty(len(rows))
    for i, (x, y) in enumerate(rows):
        given = PLANE.conditional([0], [x])
        u[i] = given.weights @ norm.cdf(y, given.means[:, 0], np.sqrt(given.covariances[:, 0, 0]))
    assert kstest(u, "uniform").pvalue > 0.01
    for part in (rows[:, 0] < 0, (rows[:, 0] > 0) & (rows[:, 0] < 2), rows[:, 0] > 2):
        assert kstest(u[part], "uniform").pvalue > 0.01
        share = np.mean((u[part] > 0.05) & (u[part] < 0.95))
        assert share == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / part.sum()))
    wrong = norm.cdf(rows[:, 1], PLANE.mean[1], np.sqrt(PLANE.covariance[1, 1]))
    assert kstest(wrong[rows[:, 0] > 2], "uniform").pvalue < 1e-6


@pytest.mark.derives("prop-pit")
def test_the_transform_is_uniform_where_the_distribution_function_has_a_flat_part() -> None:
    """Half of the probability on [0, 1], half on [2, 3]."""
    rng = np.random.default_rng(2)
    y = rng.random(20_000) + 2 * rng.integers(2, size=20_000)
    u = np.interp(y, [0, 1, 2, 3], [0, 0.5, 0.5, 1])
    assert kstest(u, "uniform").pvalue > 0.01


@pytest.mark.derives("prop-missing-predictors")
@pytest.mark.parametrize("seen", [-1.5, 0.0, 2.0])
def test_the_cut_down_mixture_averages_over_the_missing_predictor(seen: float) -> None:
    """By sums over the missing predictor; a new predictor leaves less variance in the mean."""
    mixture = random_mixture("VVV", 3, 3, seed=11)
    reduced = regress(mixture.marginal([0, 2]), 0, [[seen]])
    m = np.linspace(-40, 40, 8001)
    weight = np.exp(
        mixture.marginal([0, 1]).log_density(np.column_stack([np.full_like(m, seen), m]))
    )
    weight /= weight.sum()
    mean, covariance, _ = regress(mixture, [0, 1], np.column_stack([np.full_like(m, seen), m]))
    average = weight @ mean[:, 0]
    within = weight @ covariance[:, 0, 0]
    between = weight @ (mean[:, 0] - average) ** 2
    assert reduced.mean.item() == pytest.approx(average, rel=1e-9)
    assert reduced.covariance.item() == pytest.approx(within + between, rel=1e-9)
    assert within <= reduced.covariance.item()
    filled = mixture.impute(np.array([[seen, np.nan, np.nan]]))
    assert filled[0, 2] == pytest.approx(reduced.mean.item(), rel=1e-10)


@pytest.mark.derives("prop-missing-predictors")
def test_the_pattern_is_silent_if_it_depends_on_what_is_seen() -> None:
    """Not so if it depends on the predictor that is missing."""
    mixture = random_mixture("VVV", 2, 3, seed=3)
    rows, _ = mixture.sample(100_000, random_state=0)
    rng = np.random.default_rng(1)
    centred = (rows - mixture.mean) / np.sqrt(np.diagonal(mixture.covariance))
    mean, covariance, _ = regress(mixture.marginal([0, 2]), 0, rows[:, :1])
    z = (rows[:, 2] - mean[:, 0]) / np.sqrt(covariance[:, 0, 0])
    silent = rng.random(len(z)) < 1 / (1 + np.exp(-2 * centred[:, 0]))
    telling = rng.random(len(z)) < 1 / (1 + np.exp(-2 * centred[:, 1]))
    assert abs(z[silent].mean()) < 4 / np.sqrt(silent.sum())
    assert abs(z[telling].mean()) > 10 / np.sqrt(telling.sum())


# ---------------------------------------------------------------- what the case measures


def place(y: Floats) -> Floats:
    return y + 0.3 * np.sin(2 * np.pi * y)


def draw(n: int, rng: np.random.Generator) -> Floats:
    y = rng.random(n)
    return np.column_stack([place(y) + 0.05 * rng.standard_normal(n), y])


def test_the_mode_brings_the_arm_to_its_place_and_the_mean_does_not() -> None:
    rng = np.random.default_rng(0)
    train, fresh = draw(1000, rng), draw(2000, rng)
    found = gmm.select(train, range(5, 8), families=["VVV"], random_state=0)
    mixture = found.best.mixture
    mean, covariance, _ = regress(mixture, 0, fresh[:, :1])
    squared = (fresh[:, 1] - mean[:, 0]) ** 2
    assert squared.mean() == pytest.approx(covariance.mean(), rel=0.06)
    x, y = fresh[:200].T
    best = np.array([modes(mixture.conditional([0], [v]))[0, 0] for v in x])
    m = mean[:200, 0]
    assert np.sqrt(np.mean((place(best) - x) ** 2)) < 0.02
    assert np.sqrt(np.mean((place(m) - x) ** 2)) > 0.07
    assert np.mean((y - best) ** 2) > 1.5 * np.mean((y - m) ** 2)


def test_the_likelihood_of_rows_spends_components_on_the_predictor() -> None:
    rng = np.random.default_rng(1)

    def skewed(n: int) -> Floats:
        x = rng.exponential(1, n)
        return np.column_stack([x, 2 * x + rng.standard_normal(n)])

    train, test = skewed(300), skewed(4000)
    joint, conditional, bic = [], [], []
    for k in (1, 2, 4):
        fit = gmm.fit(train, k, n_starts=5, random_state=0, prior="default")
        joint.append(fit.mixture.log_density(test).mean())
        alone = fit.mixture.marginal(0).log_density(test[:, :1]).mean()
        conditional.append(joint[-1] - alone)
        bic.append(fit.bic)
    assert joint[0] < joint[1] < joint[2]
    assert bic[0] > bic[1] > bic[2]
    assert conditional[0] > conditional[1] > conditional[2]


def test_far_from_the_data_the_stated_deviation_is_worth_nothing() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(-1, 1, 400)
    rows = np.column_stack([x, x**2 + 0.05 * rng.standard_normal(400)])
    mixture = gmm.select(rows, range(4, 7), families=["VVV"], random_state=0).best.mixture
    mean, covariance, _ = regress(mixture, 0, [[0.5], [5.0]])
    off = abs(mean[:, 0] - [0.25, 25.0]) / np.sqrt(covariance[:, 0, 0])
    assert off[0] < 0.5
    assert off[1] > 100


def test_the_gradient_of_the_conditional_likelihood_in_the_weights() -> None:
    """(:eq:`eq-conditional-score`) against differences, at an arbitrary point."""
    rows, _ = PLANE.sample(50, random_state=5)
    alpha = np.array([0.1, -0.4, 0.3])

    def at(a: Floats) -> gmm.Mixture:
        return gmm.Mixture(np.exp(a) / np.exp(a).sum(), PLANE.means, PLANE.covariances)

    def value(a: Floats) -> float:
        m = at(a)
        return float(np.sum(m.log_density(rows) - m.marginal(0).log_density(rows[:, :1])))

    h = 1e-5
    differences = [(value(alpha + h * e) - value(alpha - h * e)) / (2 * h) for e in np.eye(3)]
    gap = at(alpha).responsibilities(rows) - at(alpha).marginal(0).responsibilities(rows[:, :1])
    assert gap.sum(axis=0) == pytest.approx(differences, rel=1e-6, abs=1e-7)
