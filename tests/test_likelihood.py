"""The likelihood of a mixture: its gradient, its symmetries, its chasms, and what closes them."""

import itertools
import math

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray
from scipy import stats

import gmm

FloatArray = NDArray[np.float64]


def data(n: int = 25, d: int = 2, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * 2, rng.uniform(0.5, 2.0, size=n)


def random_mixture(k: int = 3, d: int = 2, seed: int = 1) -> gmm.Mixture:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(k, d, d + 2))
    covariances = factors @ np.swapaxes(factors, 1, 2) / d
    return gmm.Mixture(rng.dirichlet(np.full(k, 3.0)), rng.normal(size=(k, d)) * 2, covariances)


@pytest.mark.derives("eq-log-likelihood")
def test_log_likelihood_is_the_weighted_sum_of_log_densities() -> None:
    X, w = data()
    mixture = random_mixture()
    density = sum(
        p * stats.multivariate_normal(m, c).pdf(X)
        for p, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    )
    assert mixture.log_likelihood(X, w) == pytest.approx(float(w @ np.log(density)), rel=1e-12)


@pytest.mark.derives("thm-fisher-identity", "eq-fisher-identity")
def test_fisher_identity_symbolically_for_components_that_are_not_normal() -> None:
    theta, x = sp.symbols("theta x", positive=True)
    parts = [theta * sp.exp(-theta * x), x * theta**2 * sp.exp(-x * theta) / 3, 1 / (theta + x)]
    total = sum(parts)
    direct = sp.diff(sp.log(total), theta)
    averaged = sum(p / total * sp.diff(sp.log(p), theta) for p in parts)
    assert sp.simplify(direct - averaged) == 0


@pytest.mark.derives("cor-mixture-score", "eq-mixture-score")
def test_score_matches_finite_differences_in_all_parameters() -> None:
    X, w = data()
    mixture = random_mixture()
    r = w[:, None] * mixture.responsibilities(X)
    counts, gradients = r.sum(axis=0), []
    by_weight = counts - w.sum() * mixture.weights
    for k in range(3):
        precision = np.linalg.inv(mixture.covariances[k])
        residuals = X - mixture.means[k]
        scatter = (r[:, k, None] * residuals).T @ residuals
        G = -0.5 * (counts[k] * precision - precision @ scatter @ precision)
        by_mean = precision @ (r[:, k] @ residuals)
        gradients.append([*by_mean, G[0, 0], 2 * G[0, 1], G[1, 1]])
    score = np.concatenate([by_weight, np.ravel(gradients)])

    def of(p: FloatArray) -> float:
        share, rest = np.exp(p[:3]), p[3:].reshape(3, 5)
        covariances = rest[:, [2, 3, 3, 4]].reshape(3, 2, 2)
        return gmm.Mixture(share / share.sum(), rest[:, :2], covariances).log_likelihood(X, w)

    c = mixture.covariances
    rest = np.column_stack([mixture.means, c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]])
    at = np.concatenate([np.log(mixture.weights), rest.ravel()])
    h = 1e-5  # truncation of order h² and rounding of order 1e-16 |ℓ| / h are both below 1e-7
    numeric = [(of(at + h * e) - of(at - h * e)) / (2 * h) for e in np.eye(18)]
    np.testing.assert_allclose(score, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.derives("cor-mixture-score", "eq-stationary")
def test_a_converged_fit_satisfies_the_stationary_equations() -> None:
    X = gmm.datasets.old_faithful().X
    mixture = gmm.fit(X, 2, tol=1e-14, random_state=0).mixture
    r = mixture.responsibilities(X)
    counts = r.sum(axis=0)
    # EM has contracted to rounding; the error of a fixed point is a small multiple of it
    np.testing.assert_allclose(mixture.weights, counts / len(X), rtol=1e-6)
    np.testing.assert_allclose(mixture.means, r.T @ X / counts[:, None], rtol=1e-6)
    for k in range(2):
        residuals = X - mixture.means[k]
        scatter = (r[:, k, None] * residuals).T @ residuals / counts[k]
        np.testing.assert_allclose(mixture.covariances[k], scatter, rtol=1e-6)


@pytest.mark.derives("prop-label-switching")
def test_all_orders_of_the_components_are_different_and_equally_likely() -> None:
    X, w = data()
    mixture = random_mixture()
    copies = [mixture.reordered(order) for order in itertools.permutations(range(3))]
    assert len({tuple(copy.means.ravel()) for copy in copies}) == math.factorial(3)
    for copy in copies:  # the order of summation differs: a few units of rounding
        assert copy.log_likelihood(X, w) == pytest.approx(mixture.log_likelihood(X, w), rel=1e-13)


@pytest.mark.derives("prop-saddle", "eq-saddle")
def test_merged_means_are_a_saddle_if_the_data_are_wider_than_a_component() -> None:
    t, y, sigma = sp.symbols("t y sigma", positive=True)
    pair = (sp.exp(-((y - t) ** 2) / (2 * sigma**2)) + sp.exp(-((y + t) ** 2) / (2 * sigma**2))) / 2
    curvature = sp.diff(sp.log(pair), t, 2).subs(t, 0)
    assert sp.simplify(curvature - (y**2 - sigma**2) / sigma**4) == 0
    x, w = data(d=1)
    centre = float(np.average(x[:, 0], weights=w))

    def of(t: float, s: float, variance: float) -> float:
        means = [[centre + t], [centre + s]]
        return gmm.Mixture([0.5, 0.5], means, [variance, variance], "VII").log_likelihood(x, w)

    spread, h = float(np.average((x[:, 0] - centre) ** 2, weights=w)), 1e-3
    for variance in (0.5 * spread, 2.0 * spread):
        across = (of(h, -h, variance) - 2 * of(0, 0, variance) + of(-h, h, variance)) / h**2
        along = (of(h, h, variance) - 2 * of(0, 0, variance) + of(-h, -h, variance)) / h**2
        # second differences: truncation h² and rounding 1e-14 / h² relative to W are below 1e-5
        assert across == pytest.approx(w.sum() / variance**2 * (spread - variance), rel=1e-4)
        assert along == pytest.approx(-w.sum() / variance, rel=1e-4)


@pytest.mark.derives("thm-unbounded", "eq-collapse-rate")
def test_collapse_onto_a_row_grows_at_the_predicted_rate_and_height() -> None:
    X, w = data()
    X[3] = X[7]  # a repeated row
    repeated = w[3] + w[7]
    g, alpha = random_mixture(2), 0.3
    away = (X != X[7]).any(axis=1)
    constant = repeated * (math.log(alpha) - math.log(2 * math.pi))
    constant += float(w[away] @ (math.log(1 - alpha) + g.log_density(X[away])))
    for sigma in (1e-6, 1e-20, 1e-60):
        collapsed = gmm.Mixture(
            [alpha, *((1 - alpha) * g.weights)],
            np.vstack([X[7], g.means]),
            np.concatenate([[sigma**2 * np.eye(2)], g.covariances]),
        )
        predicted = 2 * repeated * math.log(1 / sigma) + constant
        # what is neglected is of the order of sigma squared
        assert collapsed.log_likelihood(X, w) == pytest.approx(predicted, rel=1e-9)


def pooled_determinants(rows: FloatArray, weights: FloatArray, k: int) -> FloatArray:
    W, result = weights.sum(), []
    for labels in itertools.product(range(k), repeat=len(rows)):
        residuals = rows.copy()
        for group in set(labels):
            member = np.array(labels) == group
            residuals[member] -= np.average(rows[member], axis=0, weights=weights[member])
        result.append(np.linalg.det((weights[:, None] * residuals).T @ residuals / W))
    return np.array(result)


@pytest.mark.derives("prop-tied-bounded")
def test_tied_likelihood_is_bounded_by_the_best_split_of_the_rows() -> None:
    X, w = data(n=6, seed=2)
    W, least = w.sum(), pooled_determinants(X, w, 2).min()
    assert least > 1e-3
    ceiling = -W / 2 * (2 * math.log(2 * math.pi) + math.log(least) + 2)
    rng = np.random.default_rng(3)
    for _ in range(200):
        factor = rng.normal(size=(2, 2)) * 10.0 ** rng.uniform(-3, 1)
        covariance = factor @ factor.T + 1e-9 * np.eye(2)
        mixture = gmm.Mixture(rng.dirichlet([1, 1]), X[rng.choice(6, 2)], covariance, "EEE")
        assert mixture.log_likelihood(X, w) <= ceiling
    square = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert pooled_determinants(square, np.ones(4), 2).min() == pytest.approx(0.0, abs=1e-15)
    values = [
        gmm.Mixture([0.5, 0.5], [[0.5, 0.0], [0.5, 1.0]], np.diag([0.25, e]), "EEE").log_likelihood(
            square
        )
        for e in (1e-4, 1e-8, 1e-12)
    ]
    # slope W (d - rank) / 2 = 2 per unit of log(1/e)
    np.testing.assert_allclose(np.diff(values), 2 * math.log(1e4), rtol=1e-6)


@pytest.mark.derives("thm-constrained", "eq-constrained-bound")
def test_constrained_likelihood_stays_below_its_bound() -> None:
    X, w = data(n=8, seed=4)
    W, c = w.sum(), 0.1
    distances = np.linalg.norm(X[:, None] - X[None, :], axis=-1)
    g = distances[np.triu_indices(8, 1)].min() / 2
    rng = np.random.default_rng(5)
    highest = -np.inf
    for exponent in np.linspace(-8, 4, 60):
        smallest = 10.0**exponent
        eigenvalues = smallest * rng.uniform(1, 1 / c, size=(3, 2))
        eigenvalues[0, 0] = smallest
        turns = np.linalg.qr(rng.normal(size=(3, 2, 2)))[0]
        covariances = turns * eigenvalues[:, None, :] @ np.swapaxes(turns, 1, 2)
        covariances = (covariances + np.swapaxes(covariances, 1, 2)) / 2
        mixture = gmm.Mixture(rng.dirichlet([1, 1, 1]), X[rng.choice(8, 3)], covariances)
        bound = -W * math.log(2 * math.pi * smallest) - w.min() * c * g**2 / (2 * smallest)
        value = mixture.log_likelihood(X, w)
        assert value <= bound
        highest = max(highest, value)
    best = w.min() * c * g**2 / (2 * W)  # where the bound is greatest, W d = 2 W
    assert highest < -W * (math.log(2 * math.pi * best) + 1)


@pytest.mark.derives("thm-constrained")
def test_moving_means_into_the_hull_of_the_rows_does_not_lose_likelihood() -> None:
    x, w = data(n=10, d=1, seed=6)
    low, high = x.min(), x.max()
    rng = np.random.default_rng(7)
    for _ in range(50):
        means, variances = rng.normal(size=(3, 1)) * 8, rng.uniform(0.5, 3.0, size=3)
        shares = rng.dirichlet([1, 1, 1])
        outside = gmm.Mixture(shares, means, variances, "VII").log_likelihood(x, w)
        inside = gmm.Mixture(shares, np.clip(means, low, high), variances, "VII")
        assert inside.log_likelihood(x, w) >= outside - 1e-12 * abs(outside)


@pytest.mark.derives("prop-penalised", "eq-penalised")
def test_penalised_likelihood_stays_below_the_bound_of_the_proof() -> None:
    X, w = data(n=5, seed=8)
    W, nu, d, k = w.sum(), 0.5, 2, 2
    B = np.array([[0.4, 0.1], [0.1, 0.3]])
    log_det = np.linalg.slogdet(B)[1]

    def floor(m: float) -> float:  # the least value of m log det S + tr(B S^-1)
        return float(m * (d + log_det - d * math.log(m)))

    ceiling = -0.5 * (W * d * math.log(2 * math.pi) + floor(W + nu) + (k - 1) * floor(nu))
    highest = -np.inf
    for sigma in np.logspace(-8, 3, 45):
        covariances = np.array([sigma**2 * B, B])
        mixture = gmm.Mixture([0.5, 0.5], [X[0], X.mean(axis=0)], covariances)
        penalty = sum(
            nu * np.linalg.slogdet(c)[1] + np.trace(np.linalg.solve(c, B)) for c in covariances
        )
        highest = max(highest, mixture.log_likelihood(X, w) - 0.5 * penalty)
        assert highest <= ceiling
    assert highest > ceiling - 100  # it is a bound of the right order, not an empty one


@pytest.mark.derives("prop-tied-bounded", "prop-penalised")
def test_degenerate_covariances_lose_to_ordinary_ones_where_a_maximum_exists() -> None:
    X, w = data(n=6, seed=2)
    B, nu = 0.3 * np.eye(2), 0.5

    def penalised(eigenvalues: tuple[float, float]) -> float:
        first = np.diag(eigenvalues)
        mixture = gmm.Mixture([0.3, 0.7], [X[0], X.mean(axis=0)], np.array([first, np.eye(2)]))
        penalty = nu * np.log(eigenvalues).sum() + (0.3 / np.array(eigenvalues)).sum()
        penalty += np.trace(B)  # of the second component, whose determinant is one
        return mixture.log_likelihood(X, w) - 0.5 * float(penalty)

    def tied(eigenvalues: tuple[float, float]) -> float:
        return gmm.Mixture(
            [0.3, 0.7], [X[0], X.mean(axis=0)], np.diag(eigenvalues), "EEE"
        ).log_likelihood(X, w)

    for objective in (penalised, tied):
        ordinary = objective((1.0, 1.0))
        for other in (1e-4, 1.0, 1e4):
            for exponent in (6.0, 8.0, 10.0):
                # the trace term grows like a power, the logarithm of the determinant more slowly
                assert objective((10.0**-exponent, other)) < ordinary
        for exponent in (20.0, 40.0, 80.0):  # log terms only: slower, but without end
            values = [objective((10.0**e, 1.0)) for e in (exponent, 2 * exponent)]
            assert values[1] < values[0] < ordinary
