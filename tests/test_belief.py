"""Beliefs: expectations, updates and predictions beside draws, integrals and plain formulas."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from conftest import random_mixture
from numpy.typing import NDArray

from gmm.belief import Belief, Dirichlet, StickBreaking
from gmm.e_step import expected_statistics
from gmm.statistics import Statistics

Floats = NDArray[np.float64]
FAMILIES = ("VVV", "EEE", "VVI", "VII")
KINDS = {"VVV": "full", "EEE": "tied", "VVI": "diag", "VII": "spherical"}


def a_belief(family: str, k: int = 3, d: int = 2, seed: int = 0, sticks: bool = False) -> Belief:
    """A belief that is like no other in any of its parameters."""
    rng = np.random.default_rng(seed)
    mixture = random_mixture(family, k, d, seed)
    freedom = d + 4.0 + rng.uniform(0, 5, () if family == "EEE" else k)
    aligned = freedom.reshape(freedom.shape + (1,) * (mixture.stored.ndim - freedom.ndim))
    first, second = rng.uniform(0.5, 6, (2, k))
    return Belief(
        family,
        StickBreaking(first, second) if sticks else Dirichlet(first),
        mixture.means,
        rng.uniform(0.5, 9, k),
        np.asarray(freedom),
        mixture.stored * aligned,
    )


def draws(belief: Belief, n: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Weights (n, K), means (n, K, d) and precisions (n, K, d, d) from a belief."""
    rng = np.random.default_rng(seed)
    k, d = belief.means.shape
    if isinstance(belief.weights, Dirichlet):
        weights = rng.dirichlet(belief.weights.concentration, n)
    else:
        shares = rng.beta(belief.weights.first, belief.weights.second, (n, k))
        left = np.cumprod(1 - shares, axis=1)
        weights = shares * np.hstack([np.ones((n, 1)), left[:, :-1]])
    precisions = np.zeros((n, k, d, d))
    nu, scales = belief.degrees_of_freedom, belief.scales
    for j in range(k):
        if belief.kind in ("full", "tied"):
            law = scipy.stats.wishart(
                float(nu if belief.kind == "tied" else nu[j]),
                np.linalg.inv(scales if belief.kind == "tied" else scales[j]),
            )
            shared = belief.kind == "tied" and j > 0
            precisions[:, j] = precisions[:, 0] if shared else law.rvs(n, random_state=rng)
        elif belief.kind == "diag":
            values = rng.gamma(0.5 * nu[j], 2.0 / scales[j], (n, d))
            precisions[:, j, range(d), range(d)] = values
        else:
            values = rng.gamma(0.5 * d * nu[j], 2.0 / (d * scales[j]), n)
            precisions[:, j] = values[:, None, None] * np.eye(d)
    noise = rng.standard_normal((n, k, d, 1)) / np.sqrt(belief.mean_precisions)[:, None, None]
    factors = np.linalg.cholesky(np.linalg.inv(precisions))
    means = belief.means + (factors @ noise)[..., 0]
    return weights, means, precisions


def assert_mean(values: Floats, expected: float) -> None:
    """The mean of independent draws is the expectation, to five standard errors."""
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 5 * error


def clouds(n: int, d: int, seed: int, n_clouds: int = 3) -> Floats:
    """Rows around some centres."""
    rng = np.random.default_rng(seed)
    centres = 4 * rng.standard_normal((n_clouds, d))
    return centres[rng.integers(n_clouds, size=n)] + rng.standard_normal((n, d))


# ---------------------------------------------------------------- expectations


@pytest.mark.derives("prop-expected-logs", "eq-dirichlet")
def test_expected_logarithms_of_weights_are_integrals() -> None:
    def of_beta(a: float, b: float) -> float:
        density = scipy.stats.beta(a, b).pdf
        return float(
            scipy.integrate.quad(lambda x: np.log(x) * density(x), 0, 1, epsabs=1e-10, limit=200)[0]
        )

    a = np.array([1.5, 4.0, 2.5])
    weights = Dirichlet(a)
    # each weight alone is beta distributed
    expected = [of_beta(value, a.sum() - value) for value in a]
    np.testing.assert_allclose(weights.expected_logs, expected, atol=1e-8)  # of the quadrature
    second = np.array([3.0, 1.2, 5.0])
    broken = np.array([of_beta(p, q) for p, q in zip(a, second, strict=True)])
    left = np.array([of_beta(q, p) for p, q in zip(a, second, strict=True)])
    expected = broken + np.concatenate([[0.0], np.cumsum(left[:-1])])
    np.testing.assert_allclose(StickBreaking(a, second).expected_logs, expected, atol=1e-8)


@pytest.mark.derives("eq-stick-breaking")
def test_pieces_of_a_stick_have_the_means_of_draws() -> None:
    belief = a_belief("VVV", k=4, sticks=True)
    weights, _, _ = draws(belief, 20_000, 0)
    for j in range(4):
        assert_mean(weights[:, j], belief.weights.means[j])
        assert_mean(np.log(weights[:, j]), belief.weights.expected_logs[j])
    assert belief.weights.means.sum() < 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.derives("prop-expected-log-determinant", "eq-determinant-correction")
def test_expected_log_determinants_are_those_of_draws(family: str) -> None:
    belief = a_belief(family, d=3)
    _, _, precisions = draws(belief, 20_000, 1)
    for j in range(3):
        values = np.linalg.slogdet(precisions[:, j])[1]
        assert_mean(values, belief.expected_log_determinants[j])
        np.testing.assert_allclose(
            np.linalg.inv(precisions[:, j].mean(axis=0)),
            belief.mixture.covariances[j],
            rtol=0.06,  # of 20 000 draws
            atol=0.06,
        )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.derives("eq-expected-log-joint", "eq-variational-responsibilities", "thm-label-update")
def test_the_joint_that_a_pass_takes_is_the_expected_one(family: str) -> None:
    belief = a_belief(family)
    X = clouds(5, 2, 3)
    weights, means, precisions = draws(belief, 20_000, 2)
    joint = belief.joint.component_log_densities(X)
    log_determinants = np.linalg.slogdet(precisions)[1]
    for i, x in enumerate(X):
        residuals = x - means
        distances = np.einsum("nki,nkij,nkj->nk", residuals, precisions, residuals)
        values = np.log(weights) + 0.5 * (log_determinants - 2 * np.log(2 * np.pi) - distances)
        for j in range(3):
            assert_mean(values[:, j], joint[i, j])
    shares = np.exp(joint) / np.exp(joint).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(belief.joint.responsibilities(X), shares, rtol=1e-10)


def log_density_of_components(belief: Belief, means: Floats, precisions: Floats) -> Floats:
    """The log-density of draws of means and precisions under a belief, by SciPy."""
    k, d = belief.means.shape
    total = np.zeros(len(means))
    nu = np.broadcast_to(belief.degrees_of_freedom, (k,))
    for j in range(k):
        covariances = np.linalg.inv(precisions[:, j]) / belief.mean_precisions[j]
        residuals = means[:, j] - belief.means[j]
        white = np.linalg.solve(covariances, residuals[:, :, None])[:, :, 0]
        squares = (white * residuals).sum(axis=1)
        log_determinants = np.linalg.slogdet(covariances)[1]
        total -= 0.5 * (d * np.log(2 * np.pi) + log_determinants + squares)
        if belief.kind == "full" or (belief.kind == "tied" and j == 0):
            scale = belief.scales if belief.kind == "tied" else belief.scales[j]
            law = scipy.stats.wishart(float(nu[j]), np.linalg.inv(scale))
            total += law.logpdf(np.moveaxis(precisions[:, j], 0, -1))
        elif belief.kind == "diag":
            values = np.diagonal(precisions[:, j], axis1=1, axis2=2)
            scales = 2.0 / belief.scales[j]
            total += scipy.stats.gamma.logpdf(values, 0.5 * nu[j], scale=scales).sum(axis=1)
        elif belief.kind == "spherical":
            scales = 2.0 / (d * belief.scales[j])
            values = precisions[:, j, 0, 0]
            total += scipy.stats.gamma.logpdf(values, 0.5 * d * nu[j], scale=scales)
    return total


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.derives(
    "eq-bound-components", "eq-normal-wishart", "eq-wishart-normaliser", "prop-wishart-normaliser"
)
def test_expected_log_densities_of_components_are_those_of_draws(family: str) -> None:
    one, other = a_belief(family, seed=1), a_belief(family, seed=2)
    _, means, precisions = draws(other, 5_000, 3)
    for belief in (one, other):
        values = log_density_of_components(belief, means, precisions)
        assert_mean(values, belief.expected_log_density(other))


@pytest.mark.parametrize("sticks", [False, True])
def test_expected_log_densities_of_weights_are_those_of_draws(sticks: bool) -> None:
    one, other = (a_belief("VVV", seed=s, sticks=sticks).weights for s in (1, 2))
    weights, _, _ = draws(a_belief("VVV", seed=2, sticks=sticks), 20_000, 4)
    if isinstance(one, Dirichlet) and isinstance(other, Dirichlet):
        values = scipy.stats.dirichlet(one.concentration).logpdf(weights.T)
        assert_mean(np.asarray(values), one.expected_log_density(other))
    elif isinstance(one, StickBreaking) and isinstance(other, StickBreaking):
        before = 1 - np.cumsum(weights, axis=1) + weights
        values = scipy.stats.beta(one.first, one.second).logpdf(weights / before).sum(axis=1)
        assert_mean(values, one.expected_log_density(other))


# ---------------------------------------------------------------- updates


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.derives("thm-conjugate-update", "eq-normal-wishart-update")
def test_an_update_is_bishops_formula(family: str) -> None:
    X, rng = clouds(40, 2, 5), np.random.default_rng(6)
    shares, weights = rng.dirichlet(np.ones(3), 40), rng.uniform(0, 2, 40)
    prior = a_belief(family)
    statistics = expected_statistics(X, shares, 0.3 * prior.means, KINDS[family], weights)
    posterior = prior.updated(statistics)
    scatters = []
    for j in range(3):
        r = shares[:, j] * weights
        kappa, n_j = prior.mean_precisions[j], r.sum()
        mean = r @ X / n_j
        np.testing.assert_allclose(posterior.mean_precisions[j], kappa + n_j)
        np.testing.assert_allclose(
            posterior.means[j], (kappa * prior.means[j] + n_j * mean) / (kappa + n_j)
        )
        spread = (r[:, None] * (X - mean)).T @ (X - mean)
        offset = mean - prior.means[j]
        scatters.append(spread + kappa * n_j / (kappa + n_j) * np.outer(offset, offset))
    counts = (shares * weights[:, None]).sum(axis=0)
    freedom = counts.sum() if family == "EEE" else counts
    np.testing.assert_allclose(posterior.degrees_of_freedom - prior.degrees_of_freedom, freedom)
    stack = np.array(scatters)
    expected = {
        "VVV": stack,
        "EEE": stack.sum(axis=0),
        "VVI": np.diagonal(stack, axis1=1, axis2=2),
        "VII": np.trace(stack, axis1=1, axis2=2) / 2,
    }[family]
    np.testing.assert_allclose(posterior.scales - prior.scales, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_posteriors_of_parts_follow_one_another(family: str) -> None:
    X, shares = clouds(30, 2, 5), np.random.default_rng(6).dirichlet(np.ones(3), 30)
    prior = a_belief(family, sticks=True)

    def of(rows: slice) -> Statistics:
        return expected_statistics(X[rows], shares[rows], np.zeros((3, 2)), KINDS[family])

    at_once = prior.updated(of(slice(None)))
    in_turn = prior.updated(of(slice(10))).updated(of(slice(10, None)))
    for name in ("means", "mean_precisions", "degrees_of_freedom", "scales"):
        np.testing.assert_allclose(getattr(at_once, name), getattr(in_turn, name), rtol=1e-11)
    np.testing.assert_allclose(at_once.weights.means, in_turn.weights.means, rtol=1e-12)


@pytest.mark.derives("eq-dirichlet-update", "eq-stick-update", "prop-stick-update")
def test_weights_learn_counts_of_labels() -> None:
    # the log-posterior of weights is, but for a constant, log-prior plus counts times log-weights
    counts = np.array([4.0, 0.0, 2.5])
    rng = np.random.default_rng(0)
    prior = np.array([0.5, 1.0, 2.0])
    draws_ = rng.dirichlet(np.ones(3), 6).T
    posterior = Dirichlet(prior).updated(counts)
    differences = (
        scipy.stats.dirichlet(posterior.concentration).logpdf(draws_)
        - scipy.stats.dirichlet(prior).logpdf(draws_)
        - counts @ np.log(draws_)
    )
    assert np.ptp(differences) < 1e-12
    shares = rng.uniform(0.1, 0.9, (6, 3))
    left = np.cumprod(1 - shares, axis=1)
    pieces = shares * np.hstack([np.ones((6, 1)), left[:, :-1]])
    sticks = StickBreaking(np.ones(3), np.full(3, 0.7)).updated(counts)
    differences = (
        scipy.stats.beta(sticks.first, sticks.second).logpdf(shares).sum(axis=1)
        - scipy.stats.beta(1, 0.7).logpdf(shares).sum(axis=1)
        - np.log(pieces) @ counts
    )
    assert np.ptp(differences) < 1e-12


@pytest.mark.derives("prop-stick-order")
def test_the_greatest_piece_comes_first() -> None:
    counts = np.array([3.0, 0.2, 7.5, 1.0])

    def evidence(order: tuple[int, ...]) -> float:
        """The logarithm of the expected product of weights to the power of the counts."""
        sticks = StickBreaking(np.ones(4), np.full(4, 0.6)).updated(counts[list(order)])
        return float(scipy.special.betaln(sticks.first, sticks.second).sum())

    best = max(permutations(range(4)), key=evidence)
    assert best == (2, 0, 3, 1)


# ---------------------------------------------------------------- prediction


@pytest.mark.parametrize("sticks", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_predictive_density_is_an_average_over_draws(family: str, sticks: bool) -> None:
    belief = a_belief(family, sticks=sticks)
    X = clouds(3, 2, 9)
    weights, means, precisions = draws(belief, 20_000, 5)
    predicted = np.exp(belief.log_predictive(X))
    determinants = np.sqrt(np.linalg.det(precisions))
    for i, x in enumerate(X):
        residuals = x - means
        distances = np.einsum("nki,nkij,nkj->nk", residuals, precisions, residuals)
        values = weights * determinants * np.exp(-0.5 * distances) / (2 * np.pi)
        assert_mean(values.sum(axis=1), predicted[i])
