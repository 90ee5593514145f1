"""Three components after *Mathematics for Machine Learning*: what the case states."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm

Floats = NDArray[np.float64]

STATED = gmm.Mixture(
    [0.3, 0.2, 0.5],
    [[1.2, 0.4], [-4.4, 1.0], [4.1, -0.3]],
    [[[0.8, -0.4], [-0.4, 1.0]], [[1.2, -0.8], [-0.8, 1.0]], [[1.2, 0.6], [0.6, 3.0]]],
)


@pytest.fixture(scope="module")
def rows() -> Floats:
    return np.asarray(gmm.datasets.three_components().X)


@pytest.fixture(scope="module")
def fit(rows: Floats) -> gmm.Fit:
    start = gmm.datasets.three_components().start
    assert start is not None
    begin = gmm.Mixture(np.full(3, 1 / 3), start, np.tile(np.eye(2), (3, 1, 1)))
    return gmm.fit(rows, 3, start=begin, stop="absolute", tol=1e-6, keep="all")


def test_the_first_iteration_finds_the_data_and_the_rest_divides_them(
    rows: Floats, fit: gmm.Fit
) -> None:
    first = fit.trace.mixtures[1]
    np.testing.assert_allclose(first.mean, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(first.covariance, np.cov(rows.T, bias=True), atol=1e-12)
    gains = np.diff(fit.trace.log_likelihood)
    assert gains[0] > 0.9 * gains.sum()
    assert (gains >= 0).all()


def test_it_ends_in_a_geometric_decay_that_leaves_little(fit: gmm.Fit) -> None:
    gains = np.diff(fit.trace.log_likelihood)
    ratios = gains[-10:] / gains[-11:-1]
    assert np.ptp(ratios) < 0.01
    left = gains[-1] * ratios[-1] / (1 - ratios[-1])
    assert left < 1e-5


def test_means_about_the_same_point_do_not_part_to_first_order(rows: Floats) -> None:
    """With the data's covariance in each component an M-step moves them by second order only."""
    directions = np.array([[1.0, -0.5], [-2.0, 1.5], [1.0, -1.0]])
    moved = []
    for size in (1e-3, 1e-4):
        start = gmm.Mixture(
            np.full(3, 1 / 3),
            rows.mean(axis=0) + size * directions,
            np.tile(np.cov(rows.T, bias=True), (3, 1, 1)),
        )
        after = gmm.fit(rows, 3, start=start, tol=0, max_iter=1).mixture
        moved.append(np.abs(after.means - start.means).max() / size)
    assert moved[0] < 0.01
    assert moved[1] < 0.2 * moved[0]


def test_the_fit_has_the_weights_of_the_sample_not_those_stated(fit: gmm.Fit) -> None:
    found = fit.mixture
    order = [int(np.argmin(((found.means - mean) ** 2).sum(axis=1))) for mean in STATED.means]
    assert sorted(order) == [0, 1, 2]
    assert np.abs(found.weights - 1 / 3).max() < 0.03
    assert np.abs(found.means[order] - STATED.means).max() < 0.5
    assert np.abs(found.covariances[order] - STATED.covariances).max() < 0.5


@pytest.mark.derives("prop-wrong-weights")
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_the_price_of_wrong_weights(spread: float) -> None:
    """The divergence by quadrature, its bound, and the difference, between mixtures on a line."""
    means, sd = spread * np.array([-2.0, 0.0, 3.0]), np.array([1.0, 0.7, 1.5])
    rho, pi = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
    x = np.linspace(-25, 25, 40_001)
    components = np.exp(-0.5 * ((x[:, None] - means) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    p, q = components @ rho, components @ pi
    inside = p > 0
    step = x[1] - x[0]
    divergence = step * (p[inside] * np.log(p[inside] / q[inside])).sum()
    of_weights = (rho * np.log(rho / pi)).sum()
    assert 0 <= divergence <= of_weights
    shares, others = components * rho / p[:, None], components * pi / q[:, None]
    within = np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-300) / others), 0.0)
    expected = step * (p * within.sum(axis=1)).sum()
    assert of_weights - divergence == pytest.approx(expected, abs=1e-9)


def test_the_stated_weights_cost_about_forty_nats(rows: Floats) -> None:
    equal = gmm.Mixture(np.full(3, 1 / 3), STATED.means, STATED.covariances)
    price = equal.log_likelihood(rows) - STATED.log_likelihood(rows)
    bound = len(rows) * np.mean(np.log(1 / 3 / STATED.weights))
    assert 0.9 * bound < price < bound
    held = gmm.fit(rows, 3, start=STATED, fixed=("means", "covariances"), tol=1e-12)
    assert np.abs(held.mixture.weights - 1 / 3).max() < 0.01


def test_data_that_are_drawn_as_stated_give_the_stated_weights() -> None:
    rows, _ = STATED.sample(20_000, random_state=0)
    weights = gmm.fit(rows, 3, start=STATED).mixture.weights
    np.testing.assert_allclose(weights, STATED.weights, atol=0.02)
