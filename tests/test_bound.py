"""Bound plus gap is the likelihood, for any responsibilities."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_mixture
from hypothesis import given, settings
from hypothesis import strategies as st

from gmm.bound import entropy, expected_complete_log_likelihood, gap, lower_bound


@pytest.mark.derives("thm-decomposition", "eq-elbo", "eq-gap", "eq-kl")
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4), d=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_bound_plus_gap_is_the_log_likelihood(seed: int, k: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    mixture = random_mixture("VVV", k, d, seed)
    X, weights = 3 * rng.standard_normal((15, d)), rng.uniform(0.1, 2.0, 15)
    shares = rng.dirichlet(np.full(k, 0.5), 15)
    total = lower_bound(X, mixture, shares, weights) + gap(X, mixture, shares, weights)
    assert total == pytest.approx(mixture.log_likelihood(X, weights), rel=1e-10)
    assert gap(X, mixture, shares, weights) >= -1e-12


@pytest.mark.derives("thm-decomposition")
def test_bound_touches_the_likelihood_at_the_posterior() -> None:
    mixture = random_mixture("VVV", 3, 2, seed=1)
    X = mixture.sample(100, 0)[0]
    posterior = mixture.responsibilities(X)
    assert lower_bound(X, mixture, posterior) == pytest.approx(mixture.log_likelihood(X), rel=1e-13)
    assert gap(X, mixture, posterior) == pytest.approx(0.0, abs=1e-11)


@pytest.mark.derives("eq-q-function")
def test_q_is_the_expectation_over_all_labellings() -> None:
    """Brute force over the 2³ labellings of three rows."""
    mixture = random_mixture("VVV", 2, 1, seed=2)
    X = np.array([[0.0], [1.0], [-2.0]])
    shares = np.array([[0.3, 0.7], [0.9, 0.1], [0.5, 0.5]])
    joint = mixture.component_log_densities(X)
    expected = 0.0
    for code in range(8):
        labels = [(code >> i) & 1 for i in range(3)]
        probability = np.prod([shares[i, z] for i, z in enumerate(labels)])
        expected += probability * sum(joint[i, z] for i, z in enumerate(labels))
    assert expected_complete_log_likelihood(X, mixture, shares) == pytest.approx(
        expected, rel=1e-14
    )


@pytest.mark.derives("eq-entropy")
def test_entropy_is_greatest_for_equal_shares_and_zero_for_hard_ones() -> None:
    assert entropy(np.full((5, 4), 0.25)) == pytest.approx(5 * np.log(4), rel=1e-15)
    assert entropy(np.eye(3)) == 0.0
    assert entropy([[0.5, 0.5]], [3.0]) == pytest.approx(3 * np.log(2), rel=1e-15)


def test_hard_assignments_far_away_give_a_finite_bound() -> None:
    """A share of zero times a log-density of minus a million is zero."""
    mixture = random_mixture("VVV", 2, 1, seed=3)
    X = np.array([[1e3], [-1e3]])
    assert np.isfinite(lower_bound(X, mixture, np.eye(2)))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], "responsibilities: expected rows of non-negative numbers"),
        ([[1.5, -0.5], [0.5, 0.5]], "responsibilities: expected rows of non-negative numbers"),
        ([[1.0], [1.0]], "responsibilities: expected 2 features, got 1"),
        ([[0.5, 0.5]], "responsibilities: expected 2 rows, got 1"),
        ([[np.nan, 0.5], [0.5, 0.5]], "responsibilities: expected finite numbers"),
    ],
)
def test_bad_responsibilities_are_refused(shares: list[list[float]], message: str) -> None:
    mixture = random_mixture("VVV", 2, 1, seed=4)
    X = [[0.0], [1.0]]
    for function in (lower_bound, gap):
        with pytest.raises(ValueError, match=message):
            function(X, mixture, shares)
