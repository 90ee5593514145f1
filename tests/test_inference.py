"""Scores, information and standard errors against differences, closed forms and simulation."""

from __future__ import annotations

import logging
from itertools import permutations
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.stats
from conftest import random_mixture
from numpy.typing import NDArray

import gmm
from gmm import inference
from gmm.checks import ConvergenceWarning, SingularCovarianceError
from gmm.inference import SingularInformationError
from gmm.result import Fit

Floats = NDArray[np.float64]

SIZES = [(name, 1 if len(name) == 1 else 3) for name in inference.LINEAR]


def linear_mixture(family: str, d: int, seed: int = 0, k: int = 3) -> gmm.Mixture:
    """A mixture of a linear family whose components overlap."""
    if len(family) > 1:
        return random_mixture(family, k, d, seed, spread=1.5)
    same = random_mixture({"E": "EII", "V": "VII"}[family], k, d, seed, spread=1.5)
    return gmm.Mixture(same.weights, same.means, same.stored, family)


def separated_mixture(family: str, d: int) -> gmm.Mixture:
    """The same, with means that are far enough apart for a fit to find them."""
    near = linear_mixture(family, d)
    means = near.means + 4.0 * np.arange(3)[:, None]
    return gmm.Mixture(near.weights, means, near.stored, family)


def differences(function: Any, at: Floats, step: float = 1e-4) -> Floats:
    """The derivative of a function of a vector, by differences of the fourth order."""
    columns = []
    for e in np.eye(len(at)) * step:
        near = function(at + e) - function(at - e)
        far = function(at + 2 * e) - function(at - 2 * e)
        columns.append((8 * near - far) / (12 * step))
    return np.stack(columns, axis=-1)


def overlapping(n: int = 80, seed: int = 1) -> tuple[gmm.Mixture, Floats, Floats]:
    mixture = linear_mixture("VVV", 2, seed=3)
    weights = np.random.default_rng(seed).uniform(0.2, 2.0, n)
    return mixture, mixture.sample(n, seed)[0], weights


# ---------------------------------------------------------------- coordinates


@pytest.mark.parametrize(("family", "d"), SIZES)
@pytest.mark.derives("eq-linear-family")
def test_coordinates_are_as_many_as_the_free_parameters_and_lead_back(family: str, d: int) -> None:
    mixture = linear_mixture(family, d)
    theta = inference.coordinates(mixture)
    assert theta.shape == (mixture.n_parameters,)
    back = inference.from_coordinates(theta, mixture)
    np.testing.assert_allclose(back.weights, mixture.weights, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(back.means, mixture.means)
    np.testing.assert_array_equal(back.covariances, mixture.covariances)


def test_the_covariances_of_a_full_family_are_stacked_column_by_column() -> None:
    matrix = np.array([[4.0, 1.0, 0.5], [1.0, 5.0, 0.2], [0.5, 0.2, 6.0]])
    theta = inference.coordinates(gmm.Mixture([1.0], [[0.0] * 3], [matrix]))
    np.testing.assert_array_equal(theta[3:], [4.0, 1.0, 0.5, 5.0, 0.2, 6.0])


# ---------------------------------------------------------------- scores and information


@pytest.mark.parametrize(("family", "d"), SIZES)
@pytest.mark.derives("eq-row-score", "prop-component-derivatives", "eq-component-score")
def test_scores_are_the_derivatives_of_log_densities(family: str, d: int) -> None:
    mixture = linear_mixture(family, d)
    X = mixture.sample(40, 1)[0]

    def log_densities(theta: Floats) -> Floats:
        return inference.from_coordinates(theta, mixture).log_density(X)

    expected = differences(log_densities, inference.coordinates(mixture))
    # rounding of a log-density, 1e-15, over the step
    np.testing.assert_allclose(inference.scores(mixture, X), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("family", "d"), SIZES)
@pytest.mark.derives("thm-louis", "eq-louis", "prop-component-derivatives")
def test_observed_information_is_the_negative_derivative_of_the_score(
    family: str, d: int, weighted: bool
) -> None:
    mixture = linear_mixture(family, d)
    X = mixture.sample(40, 1)[0]
    weights = np.random.default_rng(2).uniform(0.2, 2.0, 40) if weighted else np.ones(40)

    def score(theta: Floats) -> Floats:
        there = inference.from_coordinates(theta, mixture)
        return np.asarray(weights @ inference.scores(there, X))

    expected = -differences(score, inference.coordinates(mixture))
    found = inference.observed_information(mixture, X, weights if weighted else None)
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e-12 * np.abs(found).max())
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * np.abs(found).max())


@pytest.mark.derives("thm-louis")
def test_information_agrees_with_a_hessian_of_thirty_digits() -> None:
    """Two components of one feature, differentiated by mpmath from the density itself."""
    rows = [-1.3, -0.2, 0.4, 1.9, 2.2, 3.7]
    mixture = gmm.Mixture([0.4, 0.6], [[0.1], [2.0]], [0.8, 1.5], "V")

    def log_likelihood(*theta: Any) -> Any:
        p, a, b, s, t = theta
        return sum(
            mpmath.log(
                p * mpmath.exp(-((x - a) ** 2) / (2 * s)) / mpmath.sqrt(2 * mpmath.pi * s)
                + (1 - p) * mpmath.exp(-((x - b) ** 2) / (2 * t)) / mpmath.sqrt(2 * mpmath.pi * t)
            )
            for x in rows
        )

    at = inference.coordinates(mixture).tolist()
    expected = np.empty((5, 5))
    with mpmath.workdps(30):
        for i, j in np.ndindex(5, 5):
            orders = tuple(int(i == m) + int(j == m) for m in range(5))
            expected[i, j] = -float(mpmath.diff(log_likelihood, at, orders))
    found = inference.observed_information(mixture, np.array(rows)[:, None])
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.derives("thm-louis")
def test_missing_information_is_the_covariance_of_the_complete_score_over_the_labels() -> None:
    """Brute force: the score of one component alone, for each row and label."""
    mixture, X, weights = overlapping(30)
    p = mixture.n_parameters
    shares = mixture.responsibilities(X)

    def joint(theta: Floats) -> Floats:
        return inference.from_coordinates(theta, mixture).component_log_densities(X)

    by_label = differences(joint, inference.coordinates(mixture))  # (n, K, p)
    expected = np.zeros((p, p))
    for i, k in np.ndindex(*shares.shape):
        gap = by_label[i, k] - shares[i] @ by_label[i]
        expected += weights[i] * shares[i, k] * np.outer(gap, gap)
    missing = inference.information(mixture, X, weights).missing
    np.testing.assert_allclose(missing, expected, rtol=1e-6, atol=1e-8 * np.abs(missing).max())
    assert np.linalg.eigvalsh(missing).min() > -1e-12 * np.abs(missing).max()


@pytest.mark.derives("prop-component-derivatives", "eq-component-information")
def test_complete_information_is_the_curvature_of_q() -> None:
    mixture = linear_mixture("VVV", 2, k=2)
    X = mixture.sample(20, 1)[0]
    weights = np.random.default_rng(2).uniform(0.2, 2.0, 20)
    shares = mixture.responsibilities(X) * weights[:, None]

    def q(theta: Floats) -> Floats:
        there = inference.from_coordinates(theta, mixture)
        return np.asarray((shares * there.component_log_densities(X)).sum())

    def gradient(theta: Floats) -> Floats:
        return differences(q, theta, 1e-3)

    expected = -differences(gradient, inference.coordinates(mixture), 1e-3)
    found = inference.information(mixture, X, weights).complete
    # differences of differences: rounding 1e-14 of Q, which is in the hundreds, over 1e-6
    np.testing.assert_allclose(found, expected, atol=2e-6 * np.abs(found).max())


@pytest.mark.parametrize(("family", "d"), SIZES)
def test_scores_sum_to_zero_at_a_fit(family: str, d: int) -> None:
    truth = separated_mixture(family, d)
    X = truth.sample(300, 1)[0]
    found = gmm.fit(X, 3, family, start=truth, tol=1e-15, accelerate="auto", max_iter=5000)
    parts = inference.information(found, X)
    # in standard errors: a gain of 1e-13 nats is left at most, and the distance is its root
    assert np.sqrt(parts.score @ parts.inverse() @ parts.score) < 1e-5


def test_weights_of_rows_count_as_repetitions_and_blocks_add_up() -> None:
    mixture, X, _ = overlapping(700)
    counts = np.random.default_rng(0).integers(0, 4, len(X))
    whole = inference.information(mixture, np.repeat(X, counts, axis=0))
    weighted = inference.information(mixture, X, counts)
    for name in ("score", "complete", "missing"):
        a, b = getattr(whole, name), getattr(weighted, name)
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-10)


# ---------------------------------------------------------------- standard errors


@pytest.mark.derives("cor-one-normal-errors", "eq-one-normal-errors")
def test_errors_of_one_normal_are_the_textbook_ones() -> None:
    X = np.random.default_rng(0).standard_normal((50, 3)) @ np.array(
        [[1.0, 0.4, 0.0], [0.0, 2.0, -1.0], [0.0, 0.0, 0.5]]
    )
    weights = np.random.default_rng(1).uniform(0.5, 2.0, 50)
    total = weights.sum()
    found = gmm.fit(X, 1, sample_weight=weights)
    errors = inference.standard_errors(found, X, weights)
    S = found.mixture.covariances[0]
    np.testing.assert_allclose(errors.weights, [0.0])
    np.testing.assert_allclose(errors.means[0], np.sqrt(np.diagonal(S) / total))
    variances = (np.outer(np.diagonal(S), np.diagonal(S)) + S**2) / total
    np.testing.assert_allclose(errors.covariances[0], np.sqrt(variances))


@pytest.mark.derives("cor-one-normal-errors")
def test_covariance_of_a_sample_covariance_is_wisharts() -> None:
    """Against the exact moments of the Wishart distribution, and draws from it."""
    S = np.array([[2.0, 0.7], [0.7, 1.0]])
    n = 400
    X = np.random.default_rng(0).standard_normal((n, 2))
    X = (X - X.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(X.T, bias=True))).T
    X = X @ np.linalg.cholesky(S).T  # sample covariance S, to rounding
    covariance = inference.standard_errors(gmm.fit(X, 1), X).covariance
    np.testing.assert_allclose(covariance[:2, 2:], 0.0, atol=1e-14)
    draws = np.asarray(scipy.stats.wishart(n, S).rvs(40_000, random_state=1)) / n
    stacked = np.stack([draws[:, 0, 0], draws[:, 1, 0], draws[:, 1, 1]])
    # relative error of a variance from m draws is √(2/m) = 0.007
    np.testing.assert_allclose(covariance[2:, 2:], np.cov(stacked), rtol=0.03)


def test_errors_of_spherical_and_tied_families_with_one_component() -> None:
    X = np.random.default_rng(0).standard_normal((40, 3))
    spherical = inference.standard_errors(gmm.fit(X, 1, "VII"), X)
    variance = spherical.mixture.stored
    np.testing.assert_allclose(spherical.covariances, variance * np.sqrt(2 / (40 * 3)))
    tied = inference.standard_errors(gmm.fit(X, 1, "EEE"), X)
    full = inference.standard_errors(gmm.fit(X, 1), X)
    assert tied.covariances.shape == (3, 3)
    np.testing.assert_allclose(tied.covariances, full.covariances[0])


@pytest.mark.parametrize(("family", "d"), SIZES)
@pytest.mark.derives("eq-wald-interval")
def test_errors_have_the_shapes_of_what_they_belong_to(family: str, d: int) -> None:
    truth = separated_mixture(family, d)
    X = truth.sample(2000, 1)[0]
    found = gmm.fit(X, 3, family, start=truth, tol=1e-13, accelerate="auto")
    errors = inference.standard_errors(found, X)
    lower, upper = errors.interval(0.9)
    mixture = found.mixture
    for name, value in (("weights", "weights"), ("means", "means"), ("covariances", "stored")):
        estimate, error = getattr(mixture, value), getattr(errors, name)
        assert error.shape == estimate.shape
        half = 1.6448536269514722 * error  # the 95 % quantile of the normal distribution
        np.testing.assert_allclose(getattr(lower, name), estimate - half)
        np.testing.assert_allclose(getattr(upper, name), estimate + half)


@pytest.mark.derives("thm-delta-method", "prop-information-coordinates")
def test_errors_do_not_depend_on_which_weight_is_eliminated() -> None:
    truth, X, _ = overlapping(2000)
    found = gmm.fit(X, 3, start=truth, tol=1e-14, accelerate="auto").mixture
    order = [2, 0, 1]
    here = inference.standard_errors(found, X)
    there = inference.standard_errors(found.reordered(order), X)
    np.testing.assert_allclose(there.weights, here.weights[order], rtol=1e-9)
    np.testing.assert_allclose(there.means, here.means[order], rtol=1e-9)
    np.testing.assert_allclose(there.covariances, here.covariances[order], rtol=1e-9)


@pytest.mark.derives("thm-delta-method", "prop-information-coordinates")
def test_inverse_information_in_other_coordinates_is_that_of_the_delta_method() -> None:
    """Logarithms of odds and of variances, with the Hessian by differences in these."""
    X = gmm.datasets.old_faithful().X[:, 1:]
    found = gmm.fit(X, 2, "V", tol=1e-15, random_state=0, accelerate="auto").mixture
    theta = inference.coordinates(found)
    covariance = inference.standard_errors(found, X).covariance
    jacobian = np.diag([1 / (theta[0] * (1 - theta[0])), 1, 1, 1 / theta[3], 1 / theta[4]])

    def score(eta: Floats) -> Floats:
        p = 1 / (1 + np.exp(-eta[0]))
        variances = np.exp(eta[3:])
        there = gmm.Mixture([p, 1 - p], eta[1:3, None], variances, "V")
        change = np.concatenate([[p * (1 - p)], [1.0, 1.0], variances])
        return np.asarray(change * inference.scores(there, X).sum(axis=0))

    eta = np.concatenate([[np.log(theta[0] / (1 - theta[0]))], theta[1:3], np.log(theta[3:])])
    other = np.linalg.inv(-differences(score, eta))
    # the two differ by the score times second derivatives, zero but for the fit's tolerance
    expected = jacobian @ covariance @ jacobian.T
    np.testing.assert_allclose(other, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.mark.derives("thm-asymptotic-normality", "prop-information-identity")
def test_estimates_scatter_as_their_errors_say() -> None:
    """Mean information of many rows, covariance of scores, and 300 fits agree."""
    truth = gmm.Mixture([0.4, 0.6], [[0.0], [4.0]], [1.0, 1.5], "V")
    many = truth.sample(200_000, 0)[0]
    expected = inference.observed_information(truth, many) / len(many)
    rows = inference.scores(truth, many)
    np.testing.assert_allclose(rows.mean(axis=0), 0.0, atol=0.02)  # 1/√n is 0.0022
    np.testing.assert_allclose(rows.T @ rows / len(many), expected, atol=0.02 * expected.max())
    n = 400
    estimates = np.array(
        [
            inference.coordinates(gmm.fit(truth.sample(n, seed)[0], 2, "V", start=truth).mixture)
            for seed in range(300)
        ]
    )
    predicted = np.sqrt(np.diagonal(np.linalg.inv(expected)) / n)
    # a standard deviation from 300 draws is exact to 4 %; terms of order 1/n add to that
    np.testing.assert_allclose(estimates.std(axis=0), predicted, rtol=0.15)


@pytest.mark.derives("prop-missing-share", "eq-missing-share")
def test_the_greatest_inflation_of_a_variance_is_that_of_the_rate_of_em() -> None:
    mixture, X, _ = overlapping(500)
    found = gmm.fit(X, 3, start=mixture, tol=1e-14, accelerate="auto")
    parts = inference.information(found, X)
    lost = scipy.linalg.eigh(parts.missing, parts.complete, eigvals_only=True)
    inverse, with_labels = parts.inverse(), np.linalg.inv(parts.complete)
    ratios = scipy.linalg.eigh(inverse, with_labels, eigvals_only=True)
    np.testing.assert_allclose(ratios, 1 / (1 - lost), rtol=1e-8)
    np.testing.assert_allclose(inverse @ parts.observed, np.eye(len(lost)), atol=1e-8)
    assert lost.min() > -1e-12
    assert lost.max() < 1
    # and the rate is that of the errors of plain EM, near the end
    trace = gmm.fit(X, 3, start=mixture, tol=0, max_iter=400).trace.log_likelihood
    gaps = trace[-1] - trace
    late = int(np.argmax(gaps < 1e-8))  # still far above rounding, 1e-12
    ratio = (trace[late + 1] - trace[late]) / (trace[late] - trace[late - 1])
    assert ratio == pytest.approx(lost.max() ** 2, rel=0.02)


@pytest.mark.parametrize(
    ("family", "units"),
    [("VVV", [10.0, 0.1, 3.0]), ("EEI", [10.0, 0.1, 3.0]), ("VII", [4.0] * 3), ("EII", [4.0] * 3)],
)
@pytest.mark.derives("prop-missing-share")
def test_the_share_of_missing_labels_depends_on_no_units_that_keep_the_family(
    family: str, units: list[float]
) -> None:
    mixture = linear_mixture(family, 3)
    X = mixture.sample(300, 1)[0]
    scale = np.array(units)
    matrices = mixture.covariances * np.outer(scale, scale)
    changed = gmm.Mixture(mixture.weights, mixture.means * scale + 5.0, matrices, family)
    shares = []
    for rows, there in ((X, mixture), (X * scale + 5.0, changed)):
        parts = inference.information(there, rows)
        shares.append(scipy.linalg.eigh(parts.missing, parts.complete, eigvals_only=True))
    np.testing.assert_allclose(shares[1], shares[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("family", "d"), SIZES)
def test_scores_of_different_components_are_linearly_independent(family: str, d: int) -> None:
    """So the expected information is positive definite; for two equal components it is not."""
    mixture = linear_mixture(family, d)
    rows = inference.scores(mixture, mixture.sample(500, 1)[0])
    norms = np.linalg.norm(rows, axis=0)
    assert np.linalg.svd(rows / norms, compute_uv=False)[-1] > 1e-4
    same = gmm.Mixture([0.3, 0.7], np.zeros((2, 1)), [1.0, 1.0], "V")
    rows = inference.scores(same, np.linspace(-2, 2, 50)[:, None])
    assert np.linalg.svd(rows, compute_uv=False)[-1] < 1e-12


def test_the_mean_of_a_mixture_has_exactly_the_error_of_the_sample_mean() -> None:
    """Tilting a density by an exponential stays in the family, so the delta method is exact."""
    truth, X, _ = overlapping(500)
    found = gmm.fit(X, 3, start=truth, tol=1e-15, accelerate="auto").mixture
    covariance = inference.standard_errors(found, X).covariance
    gradient = np.zeros((2, found.n_parameters))
    gradient[:, :2] = (found.means[:2] - found.means[2]).T
    for k in range(3):
        gradient[:, 2 + 2 * k : 4 + 2 * k] = found.weights[k] * np.eye(2)
    of_mean = gradient @ covariance @ gradient.T
    np.testing.assert_allclose(of_mean, np.cov(X.T, bias=True) / len(X), rtol=1e-5)


# ---------------------------------------------------------------- where it fails


@pytest.mark.derives("prop-boundary-weight")
def test_a_weight_that_is_zero_is_estimated_as_zero_half_of_the_time() -> None:
    """The score in the weight at zero decides, and is a sum with mean zero."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 200))
    ratio = np.exp(0.5 * x - 0.125)  # N(1/2, 1) over N(0, 1)
    score = (ratio - 1).sum(axis=1)
    assert (score <= 0).mean() == pytest.approx(0.5, abs=0.06)  # 2000 draws, and skewness 1/√n
    for i in (int(score.argmin()), int(score.argmax())):

        def negative(p: float, r: Floats = ratio[i]) -> float:
            return -float(np.log1p(p * (r - 1)).sum())

        best = scipy.optimize.minimize_scalar(negative, bounds=(0, 1), method="bounded").x
        assert (best < 1e-4) == (score[i] <= 0)


def test_a_weight_of_zero_is_refused() -> None:
    mixture = gmm.Mixture([1.0, 0.0], [[0.0], [1.0]], [1.0, 1.0], "V")
    with pytest.raises(SingularInformationError, match="zero for component 1"):
        inference.scores(mixture, [[0.0], [1.0]])


@pytest.mark.derives("prop-singular-information")
def test_two_equal_components_have_singular_information() -> None:
    X = np.random.default_rng(0).standard_normal((100, 1))
    one = gmm.fit(X, 1, "V").mixture
    twice = gmm.Mixture([0.3, 0.7], one.means[[0, 0]], one.stored[[0, 0]], "V")
    parts = inference.information(twice, X)
    np.testing.assert_allclose(parts.observed[0, 0], 0.0, atol=1e-10)  # moving weight costs nothing
    with pytest.raises(SingularInformationError, match="take fewer components"):
        inference.standard_errors(twice, X)


def test_what_is_far_from_a_maximum_is_refused_or_warned_of() -> None:
    X = np.random.default_rng(0).standard_normal((100, 1))
    with pytest.warns(ConvergenceWarning, match="standard errors away from the maximum"):
        inference.standard_errors(gmm.Mixture([1.0], [[0.3]], [1.0], "V"), X)
    with pytest.raises(SingularInformationError, match="fit it to these rows first"):
        inference.standard_errors(gmm.Mixture([1.0], [[9.0]], [1000.0], "V"), X)


@pytest.mark.parametrize("family", ["VEI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "EVI"])
def test_families_that_are_not_linear_are_sent_to_the_bootstrap(family: str) -> None:
    mixture = random_mixture(family, 2, 2, 0)
    with pytest.raises(ValueError, match=r"got " + family + r".*gmm\.inference\.resampled"):
        inference.standard_errors(mixture, np.zeros((3, 2)))


def test_arguments_are_checked_before_any_work() -> None:
    mixture, X, _ = overlapping()
    with pytest.raises(TypeError, match="mixture: expected a Mixture or a Fit"):
        inference.scores("mixture", X)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="X: expected 2 features, got 3"):
        inference.observed_information(mixture, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="vector: expected shape"):
        inference.from_coordinates([1.0], mixture)
    held = gmm.fit(X, 3, start=mixture, fixed="weights")
    with pytest.raises(ValueError, match="parameters that were held"):
        inference.standard_errors(held, X)
    with pytest.raises(ValueError, match="with a prior"):
        inference.standard_errors(gmm.fit(X, 3, prior="default"), X)
    with pytest.raises(ValueError, match="kind: expected one of 'parametric', 'nonparametric'"):
        inference.resampled(X, mixture, kind="jackknife")
    with pytest.raises(ValueError, match="n_samples: expected an integer of at least 2"):
        inference.resampled(X, mixture, n_samples=1)
    errors = inference.standard_errors(gmm.fit(X, 1), X)
    with pytest.raises(ValueError, match="level: expected a number between 0 and 1"):
        errors.interval(95)
    with pytest.raises(ValueError, match="mixture: expected means of shape"):
        inference.matched(errors.mixture, mixture, X)


# ---------------------------------------------------------------- the bootstrap


def separated() -> tuple[Fit, Floats]:
    truth = gmm.Mixture([0.4, 0.6], [[0.0, 0.0], [6.0, 2.0]], [np.eye(2), 2 * np.eye(2)])
    X = truth.sample(300, 0)[0]
    return gmm.fit(X, 2, random_state=0), X


@pytest.mark.parametrize("kind", ["parametric", "nonparametric"])
@pytest.mark.derives("eq-bootstrap-error")
def test_the_bootstrap_agrees_with_the_information_where_components_are_apart(kind: str) -> None:
    found, X = separated()
    errors = inference.standard_errors(found, X)
    scatter = inference.resampled(X, found, n_samples=300, kind=kind, random_state=1)
    assert scatter.n_failed == 0
    # 300 draws are exact to 4 %; rows that are not quite normal move variances of the second kind
    tolerance = 0.15 if kind == "parametric" else 0.3
    for name in ("weights", "means", "covariances"):
        bootstrap = getattr(scatter.standard_errors, name)
        np.testing.assert_allclose(bootstrap, getattr(errors, name), rtol=tolerance)


def test_percentile_intervals_are_quantiles_and_stay_in_range() -> None:
    found, X = separated()
    scatter = inference.resampled(X, found, n_samples=40, random_state=0)
    lower, upper = scatter.interval(0.8)
    means = np.array([m.means for m in scatter.samples])
    np.testing.assert_allclose(lower.means, np.quantile(means, 0.1, axis=0))
    np.testing.assert_allclose(upper.means, np.quantile(means, 0.9, axis=0))
    assert (lower.weights > 0).all()
    assert (np.diagonal(lower.covariances, axis1=1, axis2=2) > 0).all()


@pytest.mark.parametrize("family", ["EII", "EEI", "VEI", "EVI", "EEE", "VEE", "EVV", "VVE"])
def test_the_bootstrap_serves_all_families(family: str) -> None:
    truth = random_mixture(family, 2, 2, 0, spread=5.0)
    X = truth.sample(150, 0)[0]
    found = gmm.fit(X, 2, family, start=truth)
    scatter = inference.resampled(X, found, n_samples=5, random_state=0)
    errors = scatter.standard_errors
    assert errors.covariances.shape == found.mixture.stored.shape
    assert all((error > 0).any() for error in errors)
    assert {m.family for m in scatter.samples} == {family}


def test_the_same_seed_gives_the_same_samples() -> None:
    found, X = separated()
    one, two = (inference.resampled(X, found, n_samples=3, random_state=7) for _ in range(2))
    np.testing.assert_array_equal(one.values.means, two.values.means)


def test_failed_samples_are_counted_and_too_many_refused() -> None:
    """Three rows for a component: a sample often has fewer different ones, and collapses."""
    X = np.array([[0.0, 0.0], [1.0, 0.2], [0.3, 1.0], [9.0, 9.0], [9.5, 8.0], [8.0, 9.7]])
    found = gmm.fit(X, 2, start=X[[0, 3]])
    scatter = inference.resampled(X, found, n_samples=300, kind="nonparametric", random_state=0)
    assert len(scatter.samples) + scatter.n_failed == 300
    assert scatter.n_failed > 200
    with pytest.raises(SingularCovarianceError, match="X: of 2 samples"):
        inference.resampled(X, found, n_samples=2, kind="nonparametric", random_state=0)


def repeated_fit(X: Floats, start: gmm.Mixture, **arguments: Any) -> gmm.Mixture:
    k = start.n_components
    fit = gmm.fit(X, k, start.family, start=start, accelerate="auto", **arguments)
    return inference.matched(fit.mixture, start, X)


@pytest.mark.parametrize("extra", [{}, {"ridge": 0.5}, {"prior": "default"}])
def test_frequencies_are_resampled_as_repeated_rows(extra: dict[str, Any]) -> None:
    """Brute force: the same draws from the same generator, with every row written out."""
    found, X = separated()
    weights = np.random.default_rng(2).integers(0, 4, len(X))
    fit = gmm.fit(X, 2, start=found.mixture, sample_weight=weights, **extra)
    scatter = inference.resampled(
        X, fit, n_samples=3, kind="nonparametric", sample_weight=weights, random_state=5, **extra
    )
    rng = np.random.default_rng(5)
    kept, own = X[weights > 0], weights[weights > 0]
    for sample in scatter.samples:
        counts = rng.multinomial(own.sum(), own / own.sum())
        assert counts.sum() == weights.sum()
        expected = repeated_fit(np.repeat(kept, counts, axis=0), fit.mixture, **extra)
        np.testing.assert_allclose(sample.means, expected.means, atol=1e-6)
        np.testing.assert_allclose(sample.covariances, expected.covariances, atol=1e-5)


def test_parametric_samples_have_as_many_rows_as_the_weights_count() -> None:
    found, X = separated()
    weights = np.random.default_rng(2).integers(0, 4, len(X))
    scatter = inference.resampled(
        X, found.mixture, n_samples=2, sample_weight=weights, random_state=5
    )
    rng = np.random.default_rng(5)
    for sample in scatter.samples:
        rows, _ = found.mixture.sample(int(weights.sum()), rng)
        expected = repeated_fit(rows, found.mixture)
        np.testing.assert_allclose(sample.means, expected.means, atol=1e-6)


@pytest.mark.derives("eq-bootstrap-error")
def test_the_two_meanings_of_weights_give_the_errors_that_belong_to_them() -> None:
    """Of a weighted mean: s / √W if weights count rows, √Σ w² (x − m)² / W if they do not."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 1))
    weights = rng.choice([1.0, 8.0], 150)
    fit = gmm.fit(X, 1, "V", sample_weight=weights)
    total, residuals = weights.sum(), X[:, 0] - fit.mixture.means[0, 0]
    expected = {
        "frequency": np.sqrt(weights @ residuals**2 / total) / np.sqrt(total),
        "importance": np.sqrt((weights * residuals) @ (weights * residuals)) / total,
    }
    for weighting, error in expected.items():
        scatter = inference.resampled(
            X,
            fit,
            n_samples=800,
            kind="nonparametric",
            sample_weight=weights,
            weighting=weighting,
            random_state=1,
        )
        # 800 draws are exact to 2.5 %; the denominator of the second varies, too, which costs 1/n
        assert scatter.standard_errors.means[0, 0] == pytest.approx(error, rel=0.1)
    assert expected["importance"] > 1.9 * expected["frequency"]


def test_gaps_are_resampled_with_their_rows_or_laid_on_samples() -> None:
    found, X = separated()
    gaps = np.random.default_rng(3).random(X.shape) < 0.2
    gaps[gaps.all(axis=1), 0] = False
    Y = np.where(gaps, np.nan, X)
    fit = gmm.fit(Y, 2, start=found.mixture, missing="em")
    rng = np.random.default_rng(5)
    scatter = inference.resampled(
        Y, fit, n_samples=2, kind="nonparametric", missing="em", random_state=5
    )
    for sample in scatter.samples:
        counts = rng.multinomial(len(Y), np.full(len(Y), 1 / len(Y)))
        rows = np.repeat(Y, counts, axis=0)
        again = gmm.fit(rows, 2, start=fit.mixture, missing="em", accelerate="auto").mixture
        order = np.argsort(again.means[:, 0])  # components are six apart
        mine = np.argsort(sample.means[:, 0])
        np.testing.assert_allclose(sample.means[mine], again.means[order], atol=1e-5)
        np.testing.assert_array_equal(mine, np.argsort(fit.mixture.means[:, 0]))
    rng = np.random.default_rng(5)
    scatter = inference.resampled(Y, fit, n_samples=2, missing="em", random_state=5)
    for sample in scatter.samples:
        rows = np.where(gaps, np.nan, fit.mixture.sample(len(Y), rng)[0])
        again = gmm.fit(rows, 2, start=fit.mixture, missing="em", accelerate="auto").mixture
        order, mine = np.argsort(again.means[:, 0]), np.argsort(sample.means[:, 0])
        np.testing.assert_allclose(sample.means[mine], again.means[order], atol=1e-5)


def test_gaps_make_estimates_scatter_more() -> None:
    """A mean of a feature that is seen in a quarter of the rows, alone: twice the error."""
    X = np.random.default_rng(0).standard_normal((400, 2))
    X[100:, 1] = np.nan
    fit = gmm.fit(X, 1, "VVI", missing="em")
    scatter = inference.resampled(X, fit, n_samples=400, missing="em", random_state=0)
    expected = np.sqrt(fit.mixture.variances[0] / [400, 100])
    np.testing.assert_allclose(scatter.standard_errors.means[0], expected, rtol=0.15)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sample_weight": np.full(300, 0.5)}, ValueError, "sample_weight: expected whole numbers"),
        ({"weighting": "precision"}, ValueError, "weighting: expected one of 'frequency', 'imp"),
        ({"weighting": "importance"}, ValueError, "kind: expected 'nonparametric' for weights of"),
        ({"ridge": -1.0}, ValueError, "ridge: expected a finite number of at least 0"),
        ({"prior": "weak"}, ValueError, "prior: expected one of 'default'"),
        ({"prior": 1.0}, TypeError, "prior: expected a Prior, 'default' or None"),
        ({"missing": "drop"}, ValueError, "missing: expected one of 'raise', 'em'"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight: expected shape"),
    ],
)
def test_what_cannot_be_resampled_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    found, X = separated()
    with pytest.raises(error, match=message):
        inference.resampled(X, found, **arguments)


def test_fits_with_a_prior_are_resampled_with_it_only() -> None:
    _, X = separated()
    fit = gmm.fit(X, 2, prior="default", random_state=0)
    with pytest.raises(ValueError, match="with a prior"):
        inference.resampled(X, fit)
    assert len(inference.resampled(X, fit, prior="default", n_samples=2).samples) == 2
    with pytest.raises(ValueError, match="got NaN"):
        inference.resampled(np.where(X > 8, np.nan, X), fit.mixture)
    with pytest.raises(ValueError, match="X: expected 2 features, got 3"):
        inference.resampled(np.zeros((9, 3)), fit.mixture, missing="em")


# ---------------------------------------------------------------- labels


@pytest.mark.derives("prop-matching", "eq-matching")
def test_matching_undoes_every_permutation() -> None:
    mixture, X, _ = overlapping()
    other = gmm.fit(X, 3, start=mixture, max_iter=3).mixture
    expected = inference.matched(other, mixture, X)
    for order in permutations(range(3)):
        found = inference.matched(other.reordered(order), mixture, X)
        np.testing.assert_array_equal(found.means, expected.means)
        itself = inference.matched(mixture.reordered(order), mixture, X)
        np.testing.assert_array_equal(itself.means, mixture.means)


def test_assignments_are_those_of_scipy_and_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    for trial in range(200):
        k = int(rng.integers(1, 9))
        costs = rng.standard_normal((k, k))
        if trial % 2:  # with ties
            costs = costs.round()
        found = inference.assignment(costs)
        assert sorted(found.tolist()) == list(range(k))
        rows, columns = scipy.optimize.linear_sum_assignment(costs)
        least = costs[rows, columns].sum()
        assert costs[np.arange(k), found].sum() == pytest.approx(least, abs=1e-12)
        if k <= 4:
            orders = permutations(range(k))
            brute = min(costs[np.arange(k), list(order)].sum() for order in orders)
            assert least == pytest.approx(brute, abs=1e-12)


# ---------------------------------------------------------------- the log


def test_the_log_tells_of_samples_and_warns_of_those_that_are_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = gmm.datasets.acidity().X
    fit = gmm.fit(X, 2, random_state=0)
    real, calls = inference._refitted, 0

    def second_fails(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return None if calls == 2 else real(*args)

    monkeypatch.setattr(inference, "_refitted", second_fails)
    with caplog.at_level(logging.DEBUG, "gmm.inference"):
        inference.resampled(X, fit, n_samples=3, random_state=0)
    assert [(level, text) for name, level, text in caplog.record_tuples if "infer" in name] == [
        (logging.INFO, "bootstrap by 3 parametric samples begins"),
        (logging.DEBUG, "sample 1 of 3 is fitted"),
        (logging.WARNING, "sample 2 of 3 is left out: it has no sound fit"),
        (logging.DEBUG, "sample 3 of 3 is fitted"),
        (logging.INFO, "bootstrap ends: 2 of 3 samples have a sound fit"),
    ]
