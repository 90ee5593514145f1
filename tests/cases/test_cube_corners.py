"""The corners of a cube: what the case says of its data, its fit and its sampling error."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

import gmm

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def rows() -> Floats:
    return np.asarray(gmm.datasets.cube_corners().X)


@pytest.fixture(scope="module")
def fit(rows: Floats) -> gmm.Fit:
    return gmm.fit(rows, 7, start="octant", ridge=1e-6, stop="relative", tol=1e-8)


def truth() -> gmm.Mixture:
    corners = np.array([c for c in np.ndindex(2, 2, 2) if c != (0, 1, 0)]) * 6.0 - 3.0
    return gmm.Mixture(np.full(7, 1 / 7), corners, np.ones(7), "VII")


def test_one_octant_is_bare(rows: Floats) -> None:
    counts = np.bincount((rows > 0) @ [4, 2, 1], minlength=8)
    assert len(rows) == 3500
    assert counts.argmin() == 2
    assert counts.min() < 10
    assert np.sort(counts)[1] > 480


def test_few_iterations_find_the_corners(fit: gmm.Fit) -> None:
    """Six iterations are known, of another sample; means within a tenth, weights a seventh."""
    assert fit.converged
    assert 4 <= fit.n_iter <= 8
    corners = 3 * np.sign(fit.mixture.means)
    assert len(np.unique(corners, axis=0)) == 7
    assert np.abs(fit.mixture.means - corners).max() < 0.1
    np.testing.assert_allclose(fit.mixture.weights, 1 / 7, rtol=0.01)


@pytest.mark.derives("prop-separate-clouds")
def test_the_log_likelihood_of_separate_clouds() -> None:
    """Mean and variance of its two parts, by sampling; and Bayes' rule for their difference."""
    mixture = truth()
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), 500)
    values, complete = [], []
    for _ in range(400):
        X = mixture.means[labels] + rng.standard_normal((3500, 3))
        joint = np.log(1 / 7) + multivariate_normal(cov=np.eye(3)).logpdf(X - mixture.means[labels])
        share = mixture.responsibilities(X)[np.arange(3500), labels]
        log_likelihood = mixture.log_likelihood(X)
        assert joint.sum() <= log_likelihood
        assert log_likelihood - joint.sum() == pytest.approx(-np.log(share).sum(), rel=1e-9)
        values.append(log_likelihood)
        complete.append(joint.sum())
    mean = 3500 * (-np.log(7) - 1.5 * np.log(2 * math.pi * math.e))
    deviation = np.sqrt(3500 * 3 / 2)
    assert np.mean(complete) == pytest.approx(mean, abs=4 * deviation / 20)
    assert np.std(complete) == pytest.approx(deviation, rel=4 / np.sqrt(800))
    exact_mean, exact_deviation = moments_by_quadrature(mixture)
    assert np.mean(values) == pytest.approx(exact_mean, abs=4 * exact_deviation / 20)
    assert np.std(values) == pytest.approx(exact_deviation, rel=4 / np.sqrt(800))


def moments_by_quadrature(mixture: gmm.Mixture) -> tuple[float, float]:
    nodes, masses = np.polynomial.hermite_e.hermegauss(40)
    Z = np.stack(np.meshgrid(nodes, nodes, nodes), axis=-1).reshape(-1, 3)
    w = np.prod(np.stack(np.meshgrid(masses, masses, masses), -1), -1).ravel()
    w /= w.sum()
    mean = variance = 0.0
    for corner in mixture.means:
        value = mixture.log_density(corner + Z)
        mean += 500 * float(w @ value)
        variance += 500 * float(w @ (value - w @ value) ** 2)
    return mean, float(np.sqrt(variance))


def test_the_known_value_and_ours_are_both_to_be_expected(fit: gmm.Fit) -> None:
    """Within three predicted deviations of the predicted mean: χ² with 63 degrees for the fit."""
    mean, deviation = moments_by_quadrature(truth())
    expected, spread = mean + 63 / 2, np.sqrt(deviation**2 + 63 / 2)
    for value in (-21626.0, fit.log_likelihood):
        assert abs(value - expected) < 3 * spread


def test_five_new_points_get_their_corner_for_sure(fit: gmm.Fit) -> None:
    new = np.array(
        [
            [3.2, 2.8, 3.1],
            [-2.9, -3.2, 2.6],
            [2.5, -3.4, -2.7],
            [-3.5, -2.6, -3.1],
            [2.4, 3.3, -3.2],
        ]
    )
    chosen = fit.mixture.means[fit.mixture.predict(new)]
    np.testing.assert_array_equal(np.sign(chosen), np.sign(new))
    assert fit.mixture.responsibilities(new).max(axis=1).min() > 0.99999


def test_the_gains_at_the_end_shrink_by_a_constant_factor(rows: Floats) -> None:
    """So the distance from the maximum shrinks by its root, about a quarter."""
    longer = gmm.fit(rows, 7, start="octant", ridge=1e-6, tol=0, max_iter=7)
    gains = np.diff(longer.trace.log_likelihood)
    assert 0.2 < np.sqrt(gains[-1] / gains[-2]) < 0.3


def test_new_points_far_from_all_corners(fit: gmm.Fit) -> None:
    new = np.array([[3.2, 2.8, 3.1], [-2.0, -4.0, 2.5], [0.0, 3.0, 3.0], [60.0, -60.0, 60.0]])
    r = fit.mixture.responsibilities(new)
    chosen = np.sign(fit.mixture.means[fit.mixture.predict(new)])
    np.testing.assert_array_equal(chosen[:2], [[1, 1, 1], [-1, -1, 1]])
    assert r[[0, 1, 3]].max(axis=1).min() > 0.99
    assert 0.3 < np.sort(r[2])[-2] < 0.5
    assert np.isfinite(r).all()
    # far away not the nearest corner but the widest component in that direction has the row
    far = [fit.mixture.component(k) for k in range(7)]
    deviations = [(new[3] - c.mean) @ np.linalg.solve(c.covariance, new[3] - c.mean) for c in far]
    assert fit.mixture.predict(new)[3] == np.argmin(deviations)
    np.testing.assert_array_equal(chosen[3], [1, 1, 1])
    assert np.exp(fit.mixture.log_density(new[3:])) == 0.0  # what underflows in plain numbers


def test_an_eighth_component_on_a_stray_collapses_and_is_cured(rows: Floats, fit: gmm.Fit) -> None:
    stray = rows[(rows > 0) @ [4, 2, 1] == 2][0]
    start = gmm.Mixture(
        np.full(8, 1 / 8),
        np.vstack([fit.mixture.means, stray]),
        np.concatenate([fit.mixture.covariances, 1e-4 * np.eye(3)[None]]),
    )
    with pytest.raises(gmm.SingularCovarianceError, match="component 7"):
        gmm.fit(rows, 8, start=start)
    for cured in (
        gmm.fit(rows, 8, start=start, ridge=0.05),
        gmm.fit(rows, 8, start=start, prior="default"),
    ):
        assert cured.converged
        assert np.linalg.eigvalsh(cured.mixture.covariances).min() > 0.0499
        assert cured.mixture.weights[7] < 0.01


def test_seven_has_the_best_bic(rows: Floats, fit: gmm.Fit) -> None:
    six = gmm.fit(rows, 6, n_starts=3, random_state=0)
    eight = gmm.fit(rows, 8, n_starts=3, random_state=0, max_iter=200)
    assert fit.bic < min(six.bic, eight.bic) - 10
    assert gmm.fit(rows, 7, "EII", start="octant").bic < fit.bic  # and the truth is simpler still
