"""Many fits at once are each what EM makes of it alone."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_member
from numpy.typing import NDArray

import gmm
from gmm.batch import Batch, Candidate, Outcome, are_plausible
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
    monkeypatch.setattr("gmm.chunks.BLOCK", columns)
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
    assert len(outcome.trace) == 12
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


def outcomes_of(
    X: Floats, families: list[str], k: int, draws: int, stride: float = 1.0
) -> list[Outcome]:
    """Fits from several partitions of random rows."""
    batch = Batch(as_rows(X))
    rng = np.random.default_rng(0)
    labels = [rng.integers(k, size=len(X)) for _ in range(draws)]
    candidates = [Candidate(f, batch.of_labels(each, k)) for f in families for each in labels]
    return batch.run(candidates, 1e-9, 400, stride=stride)


@pytest.mark.parametrize("stride", [1.2, 3.0])
def test_lengthened_steps_never_go_down_and_end_no_lower(stride: float) -> None:
    """Every family: from the same starts, plain and lengthened runs end equally high in the mean.

    A long step may lead to another maximum, better or worse.
    """
    X = gmm.datasets.old_faithful().X
    plain = outcomes_of(X, FOURTEEN, 2, 3)
    longer = outcomes_of(X, FOURTEEN, 2, 3, stride=stride)
    gains, saved = [], 0
    for one, other in zip(plain, longer, strict=True):
        assert (np.diff(other.trace) >= 0).all()
        value = other.mixture.log_likelihood(X)
        assert other.log_likelihood == pytest.approx(value, rel=1e-11)
        gains.append(other.log_likelihood - one.log_likelihood)
        saved += len(one.trace) - len(other.trace)
    assert np.median(gains) > -1e-6
    assert saved > 0


def test_moments_of_a_lengthened_run_are_those_of_its_mixture() -> None:
    X = gmm.datasets.iris().X
    batch = Batch(as_rows(X))
    start = Candidate("VEV", batch.of_labels(labelled(X, 3), 3))
    for most in range(1, 12):
        outcome = batch.run([start], 0.0, most, stride=2.0)[0]
        again = batch.moments(batch.shares(outcome.mixture))
        np.testing.assert_allclose(outcome.moments, again, rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(
            batch.shares_of(outcome), batch.shares(outcome.mixture), rtol=1e-6, atol=1e-9
        )


def test_with_a_prior_it_is_the_posterior_that_does_not_go_down() -> None:
    X = gmm.datasets.old_faithful().X
    prior = gmm.prior.default_prior(X, 3)
    batch = Batch(as_rows(X), prior=lambda _: prior)
    heights, constants = [], []
    for most in range(1, 30):
        start = Candidate("VVV", batch.of_labels(labelled(X, 3), 3))
        outcome = batch.run([start], 0.0, most, stride=1.5)[0]
        mixture = outcome.mixture
        heights.append(mixture.log_likelihood(X) + prior.log_density(mixture))
        constants.append(outcome.objective - heights[-1])
    assert (np.diff(heights) >= -1e-9).all()
    # objectives are in the units of the batch: one constant for all
    np.testing.assert_allclose(constants, constants[0], rtol=1e-9)


def test_a_race_is_won_by_the_best_of_each_family_and_size() -> None:
    X = gmm.datasets.iris().X
    batch = Batch(as_rows(X))
    rng = np.random.default_rng(1)
    candidates, short = [], {}
    for k in (2, 3):
        for family in ("EEE", "VVI"):
            drawn = [
                Candidate(family, batch.of_labels(rng.integers(k, size=150), k)) for _ in range(5)
            ]
            values = [one.log_likelihood for one in batch.run(drawn, 0.0, 4)]
            short[family, k] = drawn[int(np.argmax(values))]
            candidates += drawn
    won = batch.run(candidates, 0.0, 60, race=((2, 3), (4, 1)))
    assert [(w.family, len(w.moments)) for w in won] == [
        (f, k) for k in (2, 3) for f in ("EEE", "VVI")
    ]
    for outcome in won:
        alone = batch.run([short[outcome.family, len(outcome.moments)]], 0.0, 60)[0]
        assert outcome.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-12)


@pytest.mark.derives("eq-narrowness")
def test_spikes_are_not_plausible() -> None:
    cases = [
        ("VVV", 3.0, 100.0, True),
        ("VVV", 3.0, 1e5, False),
        ("VVV", 2.5, 100.0, False),
        ("VEV", 2.5, 100.0, True),
        ("EEE", 1.0, 100.0, True),
        ("EEE", 1.0, np.nan, False),
    ]
    families, smallest, narrowness, wanted = zip(*cases, strict=True)
    got = are_plausible(families, np.array(smallest), np.array(narrowness), 2)
    assert got.tolist() == list(wanted)
