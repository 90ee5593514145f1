"""Each M-step is the global maximum of the expected log-likelihood over its family."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_mixture
from hypothesis import given, settings
from hypothesis import strategies as st

import gmm
from gmm.bound import expected_complete_log_likelihood
from gmm.e_step import e_step, expected_statistics
from gmm.families import FAMILIES
from gmm.m_step import m_step
from gmm.mixture import Mixture

M_STEPS = ("thm-m-step-weights", "thm-m-step-full", "thm-m-step-tied", "thm-m-step-diag",
           "thm-m-step-spherical")  # fmt: skip


def shared_rows(seed: int, n: int = 40, k: int = 3, d: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((n, d)) + 1, rng.dirichlet(np.full(k, 0.7), n)


@pytest.mark.derives(*M_STEPS)
@pytest.mark.derives("eq-weight-update", "eq-mean-update", "eq-covariance-update")
@pytest.mark.derives("eq-tied-update", "eq-diag-update", "eq-spherical-update")
def test_no_other_mixture_of_the_family_has_a_greater_q(family: str) -> None:
    """Random mixtures near and far: none is better than the update."""
    X, shares = shared_rows(1)
    best = m_step(expected_statistics(X, shares, np.zeros((3, 2)), FAMILIES[family]), family)
    q = expected_complete_log_likelihood(X, best, shares)
    rng = np.random.default_rng(2)
    for size in (1e-4, 1e-2, 0.3, 3.0):
        for _ in range(50):
            weights = best.weights * np.exp(size * rng.standard_normal(3))
            means = best.means + size * rng.standard_normal((3, 2))
            if best.kind in ("full", "tied"):
                turn = np.eye(2) + size * rng.standard_normal(best.stored.shape)
                stored = turn @ best.stored @ np.swapaxes(turn, -1, -2)
            else:
                stored = best.stored * np.exp(size * rng.standard_normal(best.stored.shape))
            other = Mixture(weights / weights.sum(), means, stored, family)
            assert expected_complete_log_likelihood(X, other, shares) < q


@pytest.mark.derives("eq-weight-update", "eq-mean-update", "eq-covariance-update")
def test_updates_are_weighted_moments() -> None:
    X, shares = shared_rows(3)
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    got = m_step(expected_statistics(X, shares, np.ones((3, 2)), "full", weights))
    for k in range(3):
        share = shares[:, k] * weights
        assert got.weights[k] == pytest.approx(share.sum() / weights.sum(), rel=1e-13)
        np.testing.assert_allclose(got.means[k], np.average(X, axis=0, weights=share), rtol=1e-12)
        np.testing.assert_allclose(
            got.covariances[k], np.cov(X.T, aweights=share, ddof=0), rtol=1e-11
        )


@pytest.mark.derives("eq-tied-update", "eq-diag-update", "eq-spherical-update")
def test_restricted_updates_pool_the_full_one() -> None:
    X, shares = shared_rows(4)
    by_family = {
        name: m_step(expected_statistics(X, shares, np.zeros((3, 2)), kind), name)
        for name, kind in FAMILIES.items()
    }
    full = by_family["VVV"]
    np.testing.assert_allclose(
        by_family["EEE"].stored, np.tensordot(full.weights, full.covariances, 1), rtol=1e-12
    )
    variances = np.diagonal(full.covariances, axis1=1, axis2=2)
    np.testing.assert_allclose(by_family["VVI"].stored, variances, rtol=1e-12)
    np.testing.assert_allclose(by_family["VII"].stored, variances.mean(axis=1), rtol=1e-12)


@pytest.mark.derives("thm-matched-statistics")
def test_the_new_mixture_expects_the_statistics_that_it_was_given(family: str) -> None:
    """Moments of the family's statistics under the new mixture equal the empirical ones."""
    X, shares = shared_rows(5)
    statistics = expected_statistics(X, shares, np.zeros((3, 2)), FAMILIES[family])
    new = m_step(statistics, family)
    n = statistics.total_weight
    np.testing.assert_allclose(n * new.weights, statistics.counts, rtol=1e-13)
    np.testing.assert_allclose(n * new.weights[:, None] * new.means, statistics.first, rtol=1e-12)
    second = (
        n
        * new.weights[:, None, None]
        * (new.covariances + new.means[:, :, None] * new.means[:, None, :])
    )
    wanted = {
        "full": second,
        "tied": second.sum(axis=0),
        "diag": np.diagonal(second, axis1=1, axis2=2),
        "spherical": np.trace(second, axis1=1, axis2=2),
    }[new.kind]
    np.testing.assert_allclose(wanted, statistics.second, rtol=1e-11)


@pytest.mark.derives("thm-monotone")
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_step_never_lowers_the_likelihood(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for family in FAMILIES:
        mixture = random_mixture(family, 3, 2, seed, spread=1.0)
        X = 3 * rng.standard_normal((60, 2))
        before = e_step(X, mixture)
        after = e_step(X, m_step(before, family))
        assert after.log_likelihood >= before.log_likelihood - 1e-9 * abs(before.log_likelihood)


def test_ridge_is_added_to_every_variance(family: str) -> None:
    X, shares = shared_rows(6)
    statistics = expected_statistics(X, shares, np.zeros((3, 2)), FAMILIES[family])
    plain, ridged = m_step(statistics, family), m_step(statistics, family, ridge=0.25)
    np.testing.assert_allclose(
        ridged.covariances, plain.covariances + 0.25 * np.eye(2), rtol=1e-13, atol=1e-15
    )


def test_affine_maps_of_the_rows_map_the_parameters() -> None:
    X, shares = shared_rows(7)
    A, b = np.array([[2.0, 1.0], [-1.0, 0.5]]), np.array([3.0, -4.0])
    plain = m_step(expected_statistics(X, shares, np.zeros((3, 2)), "full"))
    mapped = m_step(expected_statistics(X @ A.T + b, shares, np.zeros((3, 2)), "full"))
    np.testing.assert_allclose(mapped.means, plain.means @ A.T + b, rtol=1e-12)
    np.testing.assert_allclose(mapped.covariances, A @ plain.covariances @ A.T, rtol=1e-11)


def test_an_empty_component_is_refused_by_name() -> None:
    X = np.random.default_rng(0).standard_normal((10, 2))
    shares = np.column_stack([np.ones(10), np.zeros(10)])
    statistics = expected_statistics(X, shares, np.zeros((2, 2)), "full")
    with pytest.raises(gmm.SingularCovarianceError, match="component 1 is responsible for no row"):
        m_step(statistics)


def test_statistics_of_another_kind_are_refused() -> None:
    X, shares = shared_rows(8)
    statistics = expected_statistics(X, shares, np.zeros((3, 2)), "diag")
    with pytest.raises(ValueError, match="statistics: expected the kind 'full' for the family VVV"):
        m_step(statistics, "VVV")
