"""The E-step's statistics are the weighted sums that its equations say."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_mixture
from hypothesis import given, settings
from hypothesis import strategies as st

from gmm.e_step import e_step, expected_statistics, one_pass
from gmm.rows import as_rows


@pytest.mark.derives("eq-expected-statistics")
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_statistics_are_their_sums_row_by_row(kind: str) -> None:
    rng = np.random.default_rng(0)
    X, shares = rng.standard_normal((20, 3)), rng.dirichlet(np.ones(2), 20)
    weights, centres = rng.uniform(0, 2, 20), rng.standard_normal((2, 3))
    got = expected_statistics(X, shares, centres, kind, weights)
    counts, first, second = np.zeros(2), np.zeros((2, 3)), np.zeros((2, 3, 3))
    for i in range(20):
        for k in range(2):
            share, z = weights[i] * shares[i, k], X[i] - centres[k]
            counts[k] += share
            first[k] += share * z
            second[k] += share * np.outer(z, z)
    wanted = {
        "full": second,
        "tied": second.sum(axis=0),
        "diag": np.diagonal(second, axis1=1, axis2=2),
        "spherical": np.trace(second, axis1=1, axis2=2),
    }
    np.testing.assert_allclose(got.counts, counts, rtol=1e-13)
    np.testing.assert_allclose(got.first, first, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got.second, wanted[kind], rtol=1e-12, atol=1e-13)


def test_the_step_uses_the_posterior_and_reports_the_likelihood(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=1)
    X = mixture.sample(60, 0)[0]
    weights = np.random.default_rng(2).uniform(0, 2, 60)
    got = e_step(X, mixture, weights)
    wanted = expected_statistics(
        X, mixture.responsibilities(X), mixture.means, mixture.kind, weights
    )
    np.testing.assert_allclose(got.second, wanted.second, rtol=1e-13)
    assert got.log_likelihood == pytest.approx(mixture.log_likelihood(X, weights), rel=1e-13)
    assert got.n_rows == 60


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_weights_mean_repetition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixture = random_mixture("VVV", 2, 2, seed)
    X, weights = rng.standard_normal((25, 2)), rng.integers(1, 4, 25)
    a = one_pass(as_rows(X, weights), mixture)
    b = one_pass(as_rows(np.repeat(X, weights, axis=0)), mixture)
    np.testing.assert_allclose(a.counts, b.counts, rtol=1e-12)
    np.testing.assert_allclose(a.second, b.second, rtol=1e-11, atol=1e-12)
    assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-12)


def test_a_pass_over_many_blocks_is_the_step_of_all_rows() -> None:
    mixture = random_mixture("VVV", 3, 2, seed=3)
    X = mixture.sample(40_000, 0)[0]
    whole, blocks = e_step(X, mixture), one_pass(as_rows(X), mixture)
    # sums of 40 000 terms in another order
    np.testing.assert_allclose(blocks.counts, whole.counts, rtol=1e-12)
    np.testing.assert_allclose(blocks.second, whole.second, rtol=1e-10)
    assert blocks.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-13)
    assert blocks.n_rows == 40_000
