"""Learning block by block: what the statistics are, where it ends, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import random_mixture
from numpy.typing import NDArray

import gmm
from gmm.bound import lower_bound
from gmm.e_step import e_step
from gmm.m_step import m_step
from gmm.rows import BlockRows
from gmm.stepwise import IncrementalEM, StepwiseEM, matched_statistics

Floats = NDArray[np.float64]


@pytest.mark.derives("thm-matched-statistics")
def test_the_start_is_the_m_step_of_its_statistics(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=1)
    again = m_step(matched_statistics(mixture), family)
    np.testing.assert_allclose(again.weights, mixture.weights, rtol=1e-14)
    np.testing.assert_array_equal(again.means, mixture.means)
    np.testing.assert_allclose(again.stored, mixture.stored, rtol=1e-13)


@pytest.mark.derives("eq-stepwise")
def test_a_step_moves_statistics_by_its_share(family: str) -> None:
    """The same recursion written out about the origin, where means and moments can be added."""
    start = random_mixture(family, 2, 2, seed=2)
    X, _ = start.sample(300, 0)
    stream = StepwiseEM(start, exponent=0.8, offset=1.0)
    origin = np.zeros((2, 2))
    plain = matched_statistics(start).shifted(origin)
    for t, block in enumerate(np.array_split(X, 3), start=1):
        found = e_step(block, stream.mixture)
        eta = (t + 1.0) ** -0.8
        counts = (1 - eta) * plain.counts + eta * found.counts / 100
        found = found.shifted(origin)
        first = (1 - eta) * plain.first + eta * found.first / 100
        second = (1 - eta) * plain.second + eta * found.second / 100
        plain = gmm.Statistics(plain.kind, origin, counts, first, second, 0.0, 0)
        stream.update(block)
        expected = m_step(plain, family)
        np.testing.assert_allclose(stream.mixture.weights, expected.weights, rtol=1e-12)
        np.testing.assert_allclose(stream.mixture.means, expected.means, rtol=1e-11)
        # second moments about the origin are some ten times the variances
        np.testing.assert_allclose(stream.mixture.stored, expected.stored, rtol=1e-10, atol=1e-12)
        assert stream.log_likelihood == pytest.approx(found.log_likelihood, rel=1e-12)
    assert (stream.n_rows, stream.n_steps) == (300, 3)


@pytest.mark.derives("thm-step-sizes")
def test_with_one_component_and_shares_one_over_t_the_stream_is_the_sample() -> None:
    """One component leaves nothing to guess: the statistics are plain averages."""
    X = np.random.default_rng(0).standard_normal((400, 3)) @ np.diag([1.0, 2.0, 3.0]) + 5.0
    stream = StepwiseEM(random_mixture("VVV", 1, 3, seed=0), exponent=1.0, offset=0.0)
    for block in np.array_split(X, 10):
        stream.update(block)
    np.testing.assert_allclose(stream.mixture.means[0], X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(stream.mixture.covariances[0], np.cov(X.T, ddof=0), rtol=1e-11)


def test_a_long_stream_finds_the_mixture() -> None:
    """Ten thousand rows tell the means of two unit components to about 0.02; we allow 0.1."""
    truth = gmm.Mixture([0.4, 0.6], [[0.0], [4.0]], np.ones((2, 1, 1)))
    X, _ = truth.sample(10_000, 0)
    stream = StepwiseEM(gmm.Mixture([0.5, 0.5], [[-1.0], [6.0]], [[[3.0]], [[3.0]]]))
    for block in np.array_split(X, 200):
        stream.update(block)
    np.testing.assert_allclose(stream.mixture.means, truth.means, atol=0.1)
    np.testing.assert_allclose(stream.mixture.weights, truth.weights, atol=0.03)


def test_a_stream_far_from_the_origin_loses_nothing() -> None:
    mixture = random_mixture("VVV", 2, 2, seed=4)
    X, _ = mixture.sample(1000, 0)
    far = gmm.Mixture(mixture.weights, mixture.means + 2.0**30, mixture.covariances)
    here, there = StepwiseEM(mixture), StepwiseEM(far)
    for block in np.array_split(X, 10):
        here.update(block)
        there.update(block + 2.0**30)
    # the offset is stored with an error of 2^-23; nothing worse happens to the covariances
    np.testing.assert_allclose(there.mixture.covariances, here.mixture.covariances, atol=1e-5)


def test_a_collapse_changes_nothing() -> None:
    start = random_mixture("VVV", 2, 1, seed=0)
    stream = StepwiseEM(start, offset=0.0)
    with pytest.raises(gmm.SingularCovarianceError):
        stream.update([[0.0]])
    assert stream.mixture is start
    assert (stream.n_steps, stream.n_rows) == (0, 0)
    assert np.isnan(stream.log_likelihood)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exponent": 0.5}, "exponent: expected a number above 1/2 and at most 1, got 0.5"),
        ({"exponent": 1.1}, "exponent: expected a number above 1/2 and at most 1, got 1.1"),
        ({"offset": -1.0}, "offset: expected a finite number of at least 0"),
        ({"ridge": -1.0}, "ridge: expected a finite number of at least 0"),
        ({"missing": "drop"}, "missing: expected one of 'raise', 'em'"),
        ({"prior": "default"}, "prior: expected a Prior or None, got 'default'"),
        ({"prior": gmm.Prior([0.0], [[1.0]])}, "prior: expected one for 2 features, got one for 1"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        StepwiseEM(random_mixture("VII", 2, 2, seed=0), **arguments)


def test_bad_starts_and_blocks_are_refused() -> None:
    start = random_mixture("VII", 2, 2, seed=0)
    with pytest.raises(TypeError, match="start: expected a Mixture, got list"):
        StepwiseEM([0.0])  # type: ignore[arg-type]  # the error is what is tested
    with pytest.raises(ValueError, match="X: expected 2 features, got 3"):
        StepwiseEM(start).update(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="X: expected finite numbers, got NaN"):
        StepwiseEM(start).update([[0.0, np.nan]])
    with pytest.raises(ValueError, match="start: expected 3 features, as the rows have, got 2"):
        IncrementalEM(np.zeros((4, 3)), start)


@pytest.mark.derives("thm-incremental")
def test_incremental_em_never_lowers_the_bound(family: str) -> None:
    """The bound from the responsibilities that each block was last given, by brute force."""
    mixture = random_mixture(family, 3, 2, seed=1)
    X, _ = mixture.sample(300, 0)
    start = gmm.initial.starting_mixture(X, 3, family, "random", 0)
    blocks = np.array_split(X, 6)
    learner = IncrementalEM(BlockRows(blocks), start)
    learner.run_pass()
    np.testing.assert_allclose(
        learner.mixture.means, m_step(e_step(X, start), family).means, rtol=1e-9
    )
    shares = [start.responsibilities(block) for block in blocks]
    bounds = [lower_bound(X, learner.mixture, np.vstack(shares))]
    seen = []

    def spy() -> object:
        for number, block in enumerate(blocks):
            seen.append(learner.mixture)
            if number:
                bounds.append(lower_bound(X, learner.mixture, np.vstack(shares)))
            shares[number] = learner.mixture.responsibilities(block)
            yield block

    learner.rows = BlockRows(spy)  # type: ignore[arg-type]  # a generator is an iterator
    for _ in range(3):
        learner.run_pass()
    assert len(bounds) == 1 + 3 * 5
    # rounding: sums of 300 log-densities of size ten
    assert all(after > before - 1e-9 for before, after in pairwise(bounds))


def test_incremental_em_ends_where_em_ends() -> None:
    X = gmm.datasets.old_faithful().X
    start = gmm.initial.starting_mixture(X, 2, random_state=0)
    learner = IncrementalEM(BlockRows(np.array_split(X, 8)), start)
    for _ in range(12):
        learner.run_pass()
    assert learner.n_passes == 12
    fit = gmm.fit(X, 2, start=start, tol=1e-14)
    np.testing.assert_allclose(learner.mixture.means, fit.mixture.means, rtol=1e-7)
    assert learner.mixture.log_likelihood(X) == pytest.approx(-1130.2640, abs=1e-4)


def test_a_pass_that_breaks_off_can_be_run_again() -> None:
    X = gmm.datasets.old_faithful().X
    blocks = np.array_split(X, 4)
    broken: list[bool] = [False]

    def source() -> Iterator[NDArray[np.float64]]:
        for number, block in enumerate(blocks):
            if number == 2 and broken[0]:
                raise OSError("the line is down")
            yield block

    start = gmm.initial.starting_mixture(X, 2, random_state=0)
    plain, tried = (IncrementalEM(gmm.rows.BlockRows(rows), start) for rows in (blocks, source))
    plain.run_pass()
    broken[0] = True
    with pytest.raises(OSError, match="the line is down"):
        tried.run_pass()
    assert tried.n_passes == 0
    broken[0] = False
    tried.run_pass()
    np.testing.assert_array_equal(tried.mixture.means, plain.mixture.means)


@pytest.mark.parametrize("later", [3, 5])
def test_blocks_may_not_come_or_go(later: int) -> None:
    X = gmm.datasets.old_faithful().X
    counts = [4]

    def source() -> Iterator[NDArray[np.float64]]:
        yield from np.array_split(X, counts[0])

    start = gmm.initial.starting_mixture(X, 2, random_state=0)
    learner = IncrementalEM(gmm.rows.BlockRows(source), start)
    learner.run_pass()
    counts[0] = later
    with pytest.raises(
        ValueError, match=f"X: expected 4 blocks, as in the first pass, got {later}"
    ):
        learner.run_pass()


@pytest.mark.derives("thm-map-m-step")
def test_a_prior_stands_beside_the_rows_that_have_come(family: str) -> None:
    """With the first block in the place of the start, a step is the M-step of a fit with it."""
    start = random_mixture(family, 2, 2, seed=2)
    X, _ = start.sample(50, 0)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 50)
    prior = gmm.Prior([1.0, 2.0], [[2.0, 0.3], [0.3, 1.0]], 3.0, 9.0, 2.0)
    stream = StepwiseEM(start, exponent=1.0, offset=0.0, prior=prior).update(X, weights)
    expected = m_step(e_step(X, start, weights), family, prior=prior)
    np.testing.assert_allclose(stream.mixture.weights, expected.weights, rtol=1e-10)
    np.testing.assert_allclose(stream.mixture.means, expected.means, rtol=1e-10)
    np.testing.assert_allclose(stream.mixture.stored, expected.stored, rtol=1e-8, atol=1e-10)
    assert stream.total_weight == pytest.approx(weights.sum())


@pytest.mark.derives("thm-missing-e-step")
def test_a_stream_takes_what_is_seen() -> None:
    start = random_mixture("VVV", 2, 3, seed=2)
    X, _ = start.sample(80, 0)
    X[np.random.default_rng(0).random(X.shape) < 0.3] = np.nan
    X[:3] = np.nan
    with pytest.warns(gmm.MissingDataWarning, match="3 of 80 rows") as caught:
        stream = StepwiseEM(start, exponent=1.0, offset=0.0, missing="em").update(X)
    assert caught[0].filename == __file__
    seen = X[~np.isnan(X).all(axis=1)]
    whole = gmm.fit(seen, 2, start=start, missing="em", max_iter=1, tol=0).mixture
    np.testing.assert_allclose(stream.mixture.means, whole.means, atol=1e-10)
    np.testing.assert_allclose(stream.mixture.covariances, whole.covariances, atol=1e-10)
    assert stream.n_rows == len(seen)
    stream.update([[1.0, np.nan, np.nan]])
    with pytest.raises(ValueError, match="got NaN"):
        StepwiseEM(start).update(X)
    with pytest.raises(ValueError, match="X: expected 3 features, got 2"):
        stream.update([[1.0, np.nan]])
