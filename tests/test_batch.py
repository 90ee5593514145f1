"""Many fits at once are each what EM makes of it alone."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_member
from numpy.typing import NDArray

import gmm
from gmm import batch as module
from gmm.batch import Batch, Candidate
from gmm.checks import SingularCovarianceError
from gmm.families import FAMILIES
from gmm.kmeans import kmeans
from gmm.rows import as_rows

Floats = NDArray[np.float64]
FOURTEEN = [name for name in FAMILIES if len(name) == 3]


def labelled(X: Floats, k: int) -> NDArray[np.int64]:
    return kmeans((X - X.mean(axis=0)) / X.std(axis=0), k, 0)[0]


@pytest.mark.derives("thm-two-products", "thm-m-step-full")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [10**9, 1500], ids=["one block", "many blocks"])
def test_all_families_at_once_are_each_by_itself(
    weighted: bool, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log-likelihood by log-likelihood, from the same partitions."""
    monkeypatch.setattr(module, "BLOCK", columns)
    X = gmm.datasets.iris().X
    weights = np.random.default_rng(0).uniform(0.2, 2, len(X)) if weighted else None
    rows = as_rows(X, weights)
    batch = Batch(rows)
    cells = [(family, k) for k in (1, 2, 3) for family in FOURTEEN]
    candidates = [Candidate(f, batch.of_labels(labelled(X, k), k)) for f, k in cells]
    outcomes = batch.run(candidates, tol=1e-6)
    for (family, k), outcome in zip(cells, outcomes, strict=True):
        assert outcome.family == family
        mixture = outcome.mixture
        assert mixture.n_components == k
        value = mixture.log_likelihood(X, weights)
        assert outcome.log_likelihood == pytest.approx(value, rel=1e-10)
        assert (np.diff(outcome.trace) >= -1e-9 * abs(value)).all()
        alone = gmm.fit(X, k, family, start=mixture, tol=1e-6, sample_weight=weights)
        assert alone.n_iter <= 3
        # inner iterations of one step, here, end a little before those to convergence
        assert alone.log_likelihood == pytest.approx(value, abs=5e-3)


@pytest.mark.parametrize("family", ["EII", "VVI", "EEE", "EVV", "VVV"])
def test_closed_updates_follow_the_same_path(family: str) -> None:
    X = gmm.datasets.old_faithful().X
    rows = as_rows(X)
    batch = Batch(rows)
    moments = batch.of_labels(labelled(X, 3), 3)
    outcome = batch.run([Candidate(family, moments)], tol=0.0, max_iter=12)[0]
    first = batch.run([Candidate(family, moments)], tol=0.0, max_iter=1)[0]
    alone = gmm.fit(X, 3, family, start=first.mixture, tol=0.0, max_iter=11)
    np.testing.assert_allclose(outcome.trace, alone.trace.log_likelihood, rtol=1e-12)
    np.testing.assert_allclose(outcome.mixture.covariances, alone.mixture.covariances, rtol=1e-9)
    assert len(outcome.seconds) == 12
    assert not outcome.converged


def test_moments_go_on_where_the_outcome_is() -> None:
    X = gmm.datasets.old_faithful().X
    batch = Batch(as_rows(X))
    start = Candidate("VVV", batch.of_labels(labelled(X, 2), 2))
    whole = batch.run([start], tol=0.0, max_iter=9)[0]
    half = batch.run([start], tol=0.0, max_iter=5)[0]
    rest = batch.run([Candidate("VVV", half.moments)], tol=0.0, max_iter=4)[0]
    assert rest.trace == pytest.approx(whole.trace[5:], rel=1e-13)
    again = batch.moments(batch.shares(half.mixture))
    np.testing.assert_allclose(again, half.moments, rtol=1e-9, atol=1e-9)


def test_far_rows_are_done_again_with_their_greatest_exponent() -> None:
    rng = np.random.default_rng(0)
    X = np.vstack([rng.standard_normal((60, 2)), [[300.0, 300.0]]])
    weights = np.append(np.ones(60), 1e-6)
    for w in (None, weights):
        batch = Batch(as_rows(X, w))
        labels = (X[:, 0] > 0).astype(np.int64)
        labels[-1] = 0
        shares = (labels == np.arange(2)[:, None]).astype(np.float64)
        shares[:, -1] = 1e-12  # so far that no component has a density for it
        outcome = batch.run([Candidate("VVV", batch.moments(shares))], 0.0, 1)[0]
        value = outcome.mixture.log_likelihood(X, w)
        assert outcome.log_likelihood == pytest.approx(value, rel=1e-9)


def test_a_collapse_is_an_outcome_and_harms_no_other() -> None:
    X = gmm.datasets.iris().X
    batch = Batch(as_rows(X))
    labels = labelled(X, 3)
    alone = batch.run([Candidate("VVV", batch.of_labels(labels, 3))], 1e-6)[0]
    sick = np.where(np.arange(150) < 2, 1, 0)  # two rows in four dimensions
    both = batch.run(
        [Candidate("VVV", batch.of_labels(sick, 2)), Candidate("VVV", batch.of_labels(labels, 3))],
        1e-6,
    )
    assert np.isnan(both[0].log_likelihood)
    assert both[0].smallest == 0
    assert both[0].narrowness == np.inf
    with pytest.raises(SingularCovarianceError, match="a component has collapsed"):
        _ = both[0].mixture
    assert both[1].trace == pytest.approx(alone.trace, rel=1e-13)


def test_units_do_not_matter() -> None:
    """One scale for all features: a thousand times the data, a thousand times the means."""
    X = gmm.datasets.iris().X
    labels = labelled(X, 3)
    plain, scaled = (
        Batch(as_rows(X * unit)).run(
            [
                Candidate(f, Batch(as_rows(X * unit)).of_labels(labels, 3))
                for f in ("EII", "EVE", "VVV")
            ],
            1e-7,
        )
        for unit in (1.0, 1024.0)
    )
    for a, b in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(1024.0 * a.mixture.means, b.mixture.means, rtol=1e-9)
        shift = X.size * np.log(1024.0)
        assert b.log_likelihood == pytest.approx(a.log_likelihood - shift, rel=1e-10)


def test_a_ridge_is_that_of_the_m_step() -> None:
    X = gmm.datasets.iris().X
    batch = Batch(as_rows(X), ridge=0.1)
    outcome = batch.run([Candidate("VVV", batch.of_labels(labelled(X, 2), 2))], 1e-9)[0]
    alone = gmm.fit(X, 2, start=outcome.mixture, ridge=0.1, tol=1e-9)
    np.testing.assert_allclose(alone.mixture.covariances, outcome.mixture.covariances, rtol=1e-5)


@pytest.mark.derives("eq-narrowness")
def test_narrowness_is_the_mean_inverse_relative_variance() -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 3)) @ random_member("VVV", 1, 3, rng)[0]
    batch = Batch(as_rows(X))
    outcome = batch.run([Candidate("VVV", batch.of_labels(labelled(X, 3), 3))], 0.0, 3)[0]
    data = np.cov(X.T, ddof=0)
    wanted = max(np.trace(data @ np.linalg.inv(c)) / 3 for c in outcome.mixture.covariances)
    assert outcome.narrowness == pytest.approx(wanted, rel=1e-9)
