"""Fitting one Gaussian: differentials, the global maximum, its existence, bias, moment matching."""

import math

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray
from scipy import optimize, stats

import gmm

FloatArray = NDArray[np.float64]


def data(n: int = 40, d: int = 3, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    return rows, rng.uniform(0.5, 2.0, size=n)


def log_likelihood(
    mean: FloatArray, covariance: FloatArray, rows: FloatArray, weights: FloatArray
) -> float:
    return float(weights @ stats.multivariate_normal(mean, covariance).logpdf(rows))


def random_covariance(d: int, seed: int) -> FloatArray:
    factor = np.random.default_rng(seed).normal(size=(d, d + 2))
    result: FloatArray = factor @ factor.T / d
    return result


@pytest.mark.derives("lem-scatter", "eq-scatter", "eq-one-log-likelihood-averages")
def test_log_likelihood_depends_on_the_data_through_two_averages() -> None:
    rows, weights = data()
    W, fitted = weights.sum(), gmm.Normal.fit(rows, weights)
    m, covariance = np.array([1.0, -2.0, 0.5]), random_covariance(3, 1)
    scatter = (weights[:, None] * (rows - m)).T @ (rows - m) / W
    shift = fitted.mean - m
    np.testing.assert_allclose(scatter, fitted.covariance + np.outer(shift, shift), rtol=1e-11)
    formula = (
        -W
        / 2
        * (
            3 * math.log(2 * math.pi)
            + np.linalg.slogdet(covariance)[1]
            + np.trace(np.linalg.solve(covariance, fitted.covariance))
            + shift @ np.linalg.solve(covariance, shift)
        )
    )
    assert log_likelihood(m, covariance, rows, weights) == pytest.approx(formula, rel=1e-11)


@pytest.mark.derives("eq-sample-mean", "eq-sample-covariance")
def test_sample_mean_and_covariance_are_weighted_averages() -> None:
    rows, weights = data()
    fitted = gmm.Normal.fit(rows, weights)
    np.testing.assert_allclose(fitted.mean, np.average(rows, axis=0, weights=weights), rtol=1e-12)
    expected = np.cov(rows.T, aweights=weights, bias=True)
    np.testing.assert_allclose(fitted.covariance, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.derives("lem-differentials", "eq-differentials")
def test_differentials_of_log_determinant_and_inverse_symbolically() -> None:
    t = sp.symbols("t")
    X = sp.Matrix([[3, 1, 0], [1, 4, 2], [0, -1, 5]])
    H = sp.Matrix([[1, 2, -1], [0, 3, 1], [4, 1, 2]])
    moved = X + t * H
    log_det = sp.diff(sp.log(moved.det()), t).subs(t, 0)
    assert sp.simplify(log_det - (X.inv() * H).trace()) == 0
    inverse = moved.inv().diff(t).subs(t, 0)
    assert sp.simplify(inverse + X.inv() * H * X.inv()) == sp.zeros(3)


@pytest.mark.derives("prop-symmetric-gradient", "eq-symmetric-gradient", "eq-duplication")
def test_symmetric_gradient_adds_the_two_copies_of_an_entry() -> None:
    a, b, c = sp.symbols("a b c")
    entries = sp.symbols("x11 x21 x12 x22")
    x11, x21, x12, x22 = entries
    f = x11**2 * x12 + sp.sin(x21) * x22 + x12 * x21  # not symmetric in x12 and x21
    G = sp.Matrix([sp.diff(f, e) for e in entries])  # vec stacks columns
    D = sp.Matrix([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])
    restriction = dict(zip(entries, D * sp.Matrix([a, b, c]), strict=True))
    direct = sp.Matrix([sp.diff(f.subs(restriction), s) for s in (a, b, c)])
    assert sp.simplify(D.T * G.subs(restriction) - direct) == sp.zeros(3, 1)


@pytest.mark.derives("prop-one-score", "eq-one-score")
def test_score_matches_finite_differences_in_the_free_entries() -> None:
    rows, weights = data(n=15, d=2)
    mean, covariance = np.array([0.3, -0.4]), np.array([[1.5, 0.3], [0.3, 0.9]])
    W, precision = weights.sum(), np.linalg.inv(covariance)
    second = (weights[:, None] * (rows - mean)).T @ (rows - mean) / W
    G = -W / 2 * (precision - precision @ second @ precision)
    by_mean = precision @ (weights @ (rows - mean))
    score = np.concatenate([by_mean, [G[0, 0], G[0, 1] + G[1, 0], G[1, 1]]])

    def of(p: FloatArray) -> float:
        return log_likelihood(p[:2], np.array([[p[2], p[3]], [p[3], p[4]]]), rows, weights)

    at = np.array([*mean, 1.5, 0.3, 0.9])
    h = 1e-5  # truncation of order h² and rounding of order 1e-16 |ℓ| / h are both below 1e-7
    numeric = [(of(at + h * e) - of(at - h * e)) / (2 * h) for e in np.eye(5)]
    np.testing.assert_allclose(score, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.derives("lem-trace-log-det")
def test_trace_exceeds_log_determinant_plus_dimension() -> None:
    for seed in range(30):
        A = random_covariance(4, seed)
        assert np.trace(A) - np.linalg.slogdet(A)[1] > 4
    assert np.trace(np.eye(4)) - np.linalg.slogdet(np.eye(4))[1] == 4


@pytest.mark.derives("thm-one-gaussian", "eq-one-maximum")
def test_no_other_normal_is_more_likely_and_a_search_ends_at_the_fit() -> None:
    rows, weights = data(n=30, d=2)
    fitted, W = gmm.Normal.fit(rows, weights), weights.sum()
    greatest = log_likelihood(fitted.mean, fitted.covariance, rows, weights)
    log_det = np.linalg.slogdet(fitted.covariance)[1]
    assert greatest == pytest.approx(-W / 2 * (2 * math.log(2 * math.pi) + log_det + 2), rel=1e-12)
    rng = np.random.default_rng(2)
    for seed in range(30):
        rival = (fitted.mean + rng.normal(size=2), random_covariance(2, seed))
        assert log_likelihood(*rival, rows, weights) < greatest

    def loss(p: FloatArray) -> float:
        factor = np.array([[math.exp(p[2]), 0.0], [p[3], math.exp(p[4])]])
        return -log_likelihood(p[:2], factor @ factor.T, rows, weights)

    found = optimize.minimize(loss, np.zeros(5), method="BFGS")
    assert -found.fun == pytest.approx(greatest, rel=1e-7)
    np.testing.assert_allclose(found.x[:2], fitted.mean, atol=1e-4)


@pytest.mark.derives("thm-one-gaussian")
def test_likelihood_of_rows_in_a_subspace_grows_without_bound() -> None:
    rows = np.random.default_rng(3).normal(size=(3, 4))
    mean, S = rows.mean(axis=0), np.cov(rows.T, bias=True)
    values = [
        gmm.Normal(mean, S + e * np.eye(4)).log_density(rows).sum() for e in (1e-5, 1e-6, 1e-7)
    ]
    # slope W (d - rank) / 2 = 3 (4 - 2) / 2; the correction is of the order of epsilon
    np.testing.assert_allclose(np.diff(values) / math.log(10), 3.0, rtol=1e-3)


@pytest.mark.derives("prop-existence")
def test_sample_covariance_is_definite_exactly_when_rows_span_the_space() -> None:
    rng = np.random.default_rng(4)
    for d in (1, 2, 5):
        for n in range(2, d + 1):
            with pytest.raises(gmm.SingularCovarianceError):
                gmm.Normal.fit(rng.normal(size=(n, d)))
        assert np.linalg.eigvalsh(gmm.Normal.fit(rng.normal(size=(d + 1, d))).covariance)[0] > 0
    flat = rng.normal(size=(50, 2))
    with pytest.raises(gmm.SingularCovarianceError):
        gmm.Normal.fit(np.column_stack([flat, flat @ [1.0, -2.0] + 3.0]))


@pytest.mark.derives("prop-bias", "eq-bias")
def test_expected_sample_covariance_by_enumeration() -> None:
    # All 3^4 equally likely samples from a skewed distribution on three points: no sampling error.
    support, weights = np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0, 0.5, 0.5])
    W = weights.sum()
    grid = np.stack(np.meshgrid(*[support] * 4), axis=-1).reshape(-1, 4)
    means = grid @ weights / W
    covariances = ((grid - means[:, None]) ** 2) @ weights / W
    shrinkage = 1 - (weights**2).sum() / W**2
    assert means.mean() == pytest.approx(support.mean(), rel=1e-13)
    assert covariances.mean() == pytest.approx(shrinkage * support.var(), rel=1e-13)


@pytest.mark.derives("thm-moment-matching", "eq-exponential-family", "eq-log-normaliser")
def test_exponential_family_form_and_its_log_normaliser() -> None:
    mean, covariance = np.array([0.5, -1.0]), np.array([[1.0, 0.3], [0.3, 0.6]])
    precision = np.linalg.inv(covariance)

    def log_normaliser(eta1: FloatArray, eta2: FloatArray) -> float:
        return float(
            -0.25 * eta1 @ np.linalg.solve(eta2, eta1)
            - 0.5 * np.linalg.slogdet(-2 * eta2)[1]
            + math.log(2 * math.pi)
        )

    eta1, eta2 = precision @ mean, -0.5 * precision
    x = np.array([2.0, 0.1])
    natural = eta1 @ x + x @ eta2 @ x - log_normaliser(eta1, eta2)
    assert natural == pytest.approx(
        stats.multivariate_normal(mean, covariance).logpdf(x), rel=1e-12
    )
    # the derivative in a direction is the expected statistic in that direction
    h1, h2, h = np.array([0.3, -0.2]), np.array([[0.1, 0.2], [0.2, -0.3]]), 1e-5
    difference = (
        log_normaliser(eta1 + h * h1, eta2 + h * h2) - log_normaliser(eta1 - h * h1, eta2 - h * h2)
    ) / (2 * h)
    expected = h1 @ mean + np.trace(h2 @ (covariance + np.outer(mean, mean)))
    assert difference == pytest.approx(expected, rel=1e-7)
    # strictly convex between two members
    other1, other2 = np.zeros(2), -0.5 * np.eye(2)
    middle = log_normaliser((eta1 + other1) / 2, (eta2 + other2) / 2)
    ends = (log_normaliser(eta1, eta2) + log_normaliser(other1, other2)) / 2
    assert middle < ends


@pytest.mark.derives("thm-moment-matching", "eq-moment-matching")
def test_fit_matches_the_moments_of_the_data() -> None:
    rows, weights = data()
    fitted = gmm.Normal.fit(rows, weights)
    second = (weights[:, None] * rows).T @ rows / weights.sum()
    matched = fitted.covariance + np.outer(fitted.mean, fitted.mean)
    np.testing.assert_allclose(matched, second, rtol=1e-11)
