"""Starting points: what each one is, and that no data set leaves it without an answer."""

from __future__ import annotations

from itertools import combinations, product
from math import comb, exp, factorial, log, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm
from gmm.agglomerative import agglomerative
from gmm.initial import STARTS, starting_mixture

Floats = NDArray[np.float64]


@pytest.mark.parametrize("start", STARTS)
def test_named_starts_are_repeatable_ordered_mixtures(
    start: str, family: str, old_faithful: Floats
) -> None:
    a, b = (starting_mixture(old_faithful, 2, family, start, 3) for _ in range(2))
    assert (a.family, a.n_components) == (family, 2)
    np.testing.assert_array_equal(a.means, b.means)
    assert (np.diff(a.means[:, 0]) > 0).all()


def test_random_starts_are_rows_with_the_covariance_of_the_data(old_faithful: Floats) -> None:
    start = starting_mixture(old_faithful, 4, "VVV", "random", 0)
    rows = {tuple(row) for row in old_faithful.tolist()}
    assert all(tuple(mean) in rows for mean in start.means.tolist())
    np.testing.assert_array_equal(start.weights, 0.25)
    for covariance in start.covariances:
        np.testing.assert_allclose(covariance, np.cov(old_faithful.T, ddof=0), rtol=1e-12)


def test_random_starts_are_distinct_values() -> None:
    X = np.repeat([[0.0], [1.0], [2.0]], [100, 1, 1], axis=0)
    for seed in range(20):
        start = starting_mixture(X, 3, "VII", "random", seed)
        assert len(np.unique(start.means)) == 3
    with pytest.raises(gmm.SingularCovarianceError, match="X: expected at least 4 distinct rows"):
        starting_mixture(X, 4, "VII", "random", 0)


def test_the_octant_start_has_the_moments_of_the_octants() -> None:
    data = gmm.datasets.cube_corners()
    start = starting_mixture(data.X, 7, "VVV", "octant")
    code = (data.X > data.X.mean(axis=0)).astype(int) @ np.array([1, 2, 4])
    shares = np.bincount(code) / len(data.X)
    np.testing.assert_allclose(
        np.sort(start.weights), np.sort(np.sort(shares)[-7:] / np.sort(shares)[-7:].sum())
    )
    means = {tuple(data.X[code == c].mean(axis=0).round(9)) for c in range(8)}
    assert all(tuple(mean.round(9)) in means for mean in start.means)


def test_the_octant_start_needs_enough_octants() -> None:
    line = np.column_stack([np.arange(9.0), np.arange(9.0)])
    with pytest.raises(ValueError, match="'octant' found rows in 2 orthants, expected at least 3"):
        starting_mixture(line, 3, "VII", "octant")
    with pytest.raises(ValueError, match="'octant' is for at most 30 features, got 31"):
        starting_mixture(np.random.default_rng(0).standard_normal((99, 31)), 2, "VII", "octant")


def test_kmeans_start_does_not_depend_on_units(old_faithful: Floats) -> None:
    scale = np.array([60.0, 1 / 60.0])
    a = starting_mixture(old_faithful, 3, "VVV", "k-means", 1)
    b = starting_mixture(old_faithful * scale, 3, "VVV", "k-means", 1)
    np.testing.assert_allclose(b.means, a.means * scale, rtol=1e-10)


def test_given_means_start_with_equal_weights(old_faithful: Floats, family: str) -> None:
    means = old_faithful[:3]
    start = starting_mixture(old_faithful, 3, family, means)
    np.testing.assert_array_equal(start.means, means)
    np.testing.assert_array_equal(start.weights, 1 / 3)


def test_a_given_mixture_is_taken_in_the_family_asked_for(old_faithful: Floats) -> None:
    full = starting_mixture(old_faithful, 2, "VVV", "k-means", 0)
    assert starting_mixture(old_faithful, 2, "VVV", full) is full
    tied = starting_mixture(old_faithful, 2, "EEE", full)
    np.testing.assert_allclose(
        tied.stored, np.tensordot(full.weights, full.covariances, 1), rtol=1e-13
    )


def test_clusters_of_too_few_rows_share_a_covariance() -> None:
    """A single far row is a cluster by itself, and has no covariance of its own."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.standard_normal((50, 2)), [[100.0, 100.0]]])
    start = starting_mixture(X, 2, "VVV", "k-means", 0)
    np.testing.assert_allclose(start.covariances[0], start.covariances[1], rtol=1e-12)


def test_more_clusters_than_distinct_rows_are_refused_with_a_sentence() -> None:
    X = np.repeat([[0.0, 1.0], [2.0, 0.0]], 5, axis=0)
    with pytest.raises(gmm.SingularCovarianceError, match=r"distinct rows|hyperplane"):
        starting_mixture(X, 3, "VVV", "k-means", 0)


def test_where_too_few_rows_can_be_merged_they_are_drawn() -> None:
    X = np.repeat([[0.0, 1.0], [2.0, 0.0]], 5, axis=0)
    start = starting_mixture(X, 3, "VVV", "agglomerative", 0, ridge=0.1)
    assert {tuple(mean) for mean in start.means} <= {tuple(row) for row in X}
    assert start.n_components == 3


def test_of_many_rows_a_start_looks_at_a_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmm.initial.START_ROWS", 200)
    X = np.random.default_rng(0).standard_normal((5000, 2)) + np.repeat([[0], [9]], 2500, axis=0)
    start = starting_mixture(X, 2, "VVV", "k-means", 0)
    np.testing.assert_allclose(start.means[:, 0], [0.0, 9.0], atol=0.5)


def test_the_agglomerative_start_has_the_moments_of_its_clusters(old_faithful: Floats) -> None:
    start = starting_mixture(old_faithful, 3, "VVV", "agglomerative")
    labels = agglomerative(old_faithful, 3)
    clusters = sorted((old_faithful[labels == k] for k in range(3)), key=lambda c: c[:, 0].mean())
    for k, rows in enumerate(clusters):
        assert start.weights[k] == pytest.approx(len(rows) / len(old_faithful), rel=1e-12)
        np.testing.assert_allclose(start.means[k], rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(start.covariances[k], np.cov(rows.T, ddof=0), rtol=1e-9)


def test_of_many_rows_the_agglomerative_start_merges_a_subset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gmm.initial.MERGED_ROWS", 100)
    X = np.random.default_rng(0).standard_normal((5000, 2)) + np.repeat([[0], [9]], 2500, axis=0)
    one, two = (starting_mixture(X, 2, "VVV", "agglomerative", seed) for seed in (0, 1))
    assert (one.means != two.means).all()
    for start in (one, two):
        np.testing.assert_allclose(start.means[:, 0], [0.0, 9.0], atol=0.7)
    again = starting_mixture(X, 2, "VVV", "agglomerative", 0)
    np.testing.assert_array_equal(one.means, again.means)


def test_short_runs_end_where_the_best_of_their_draws_ends(
    monkeypatch: pytest.MonkeyPatch, family: str, old_faithful: Floats
) -> None:
    """Each short run, made one by one with :func:`gmm.fit`: none is better than the start."""
    monkeypatch.setattr("gmm.initial.SHORT_RUNS", 4)
    start = starting_mixture(old_faithful, 3, family, "short-runs", 5)
    rng = np.random.default_rng(5)
    ends = []
    for _ in range(4):
        begin = starting_mixture(old_faithful, 3, family, "random", rng)
        # the last of twenty M-steps, each but the first after an E-step, as the first starts from
        # the responsibilities of the draw
        ends.append(gmm.fit(old_faithful, 3, family, start=begin, tol=0, max_iter=20))
    best = max(ends, key=lambda fit: fit.log_likelihood)
    assert start.log_likelihood(old_faithful) == pytest.approx(best.log_likelihood, rel=1e-10)
    np.testing.assert_allclose(np.sort(start.weights), np.sort(best.mixture.weights), rtol=1e-7)


def test_short_runs_that_all_collapse_are_an_error_with_a_way_out() -> None:
    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], 4, axis=0)
    with pytest.raises(gmm.SingularCovarianceError, match="in each of 10 short runs"):
        starting_mixture(X, 3, "VVV", "short-runs", 0)
    assert starting_mixture(X, 3, "VVV", "short-runs", 0, ridge=0.01).n_components == 3


def test_random_responsibilities_begin_in_the_middle(old_faithful: Floats) -> None:
    """Each mean is one of some 91 rows at random; its error is a tenth of the data's width."""
    start = starting_mixture(old_faithful, 3, "VVV", "random-responsibilities", 0)
    away = (start.means - old_faithful.mean(axis=0)) / old_faithful.std(axis=0)
    assert np.abs(away).max() < 0.4
    pooled = start.weights @ start.means
    np.testing.assert_allclose(pooled, old_faithful.mean(axis=0), rtol=1e-12)


def test_fits_take_every_start(old_faithful: Floats) -> None:
    for start in STARTS:
        found = gmm.fit(old_faithful, 2, start=start, random_state=0)
        assert found.log_likelihood == pytest.approx(-1130.264, abs=1e-2)


# ---------------------------------------------------------------- the chapter's results


def means_only(X: Floats, means: Floats, n_iter: int) -> gmm.Fit:
    """EM with equal weights and unit covariances, of which only the means are free."""
    k = len(means)
    start = gmm.Mixture(np.full(k, 1 / k), means, np.ones(k), "VII")
    return gmm.fit(
        X, k, "VII", start=start, fixed=("weights", "covariances"), tol=0, max_iter=n_iter
    )


def far_enough(nu: float, k: int, s: float, least: float, greatest: float) -> bool:
    exponent = 0.5 * (2 * s + 1) ** 2 - 0.5 * least * (least - 4 * s - 2)
    return least >= 4 * s + 2 and nu * k * (greatest + s) * exp(exponent) < 1


@pytest.mark.derives("thm-allotments", "eq-far-groups")
@pytest.mark.parametrize("seed", range(6))
def test_far_groups_keep_the_components_that_are_allotted_to_them(seed: int) -> None:
    """From any means near their groups EM stays, and ends where no step goes up."""
    rng = np.random.default_rng(seed)
    s, k, n = 0.8, 4, 24
    centres = 7.6 * np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.9]])
    gaps = [float(np.linalg.norm(a - b)) for a, b in combinations(centres, 2)]
    assert far_enough(2, k, s, min(gaps), max(gaps))  # eight rows in a group, sixteen outside
    angles, radii = rng.uniform(0, 2 * np.pi, n), s * np.sqrt(rng.random(n))
    circle = radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    X = centres[np.arange(n) % 3] + circle
    allotments = [a for a in product(range(3), repeat=k) if set(a) == {0, 1, 2}]
    allotment = np.array(allotments[int(rng.integers(len(allotments)))])
    directions = rng.standard_normal((k, 2))
    directions *= (s + 1) / np.linalg.norm(directions, axis=1, keepdims=True)
    begin = centres[allotment] + directions  # on the border of the theorem's set
    for n_iter in (1, 2, 500):
        found = means_only(X, begin, n_iter)
        away = np.linalg.norm(found.mixture.means - centres[allotment], axis=1)
        assert (away < s + 1).all()
    top = found.mixture
    for _ in range(50):
        moved = top.means + 1e-3 * rng.standard_normal((k, 2))
        near = gmm.Mixture(top.weights, moved, top.stored, "VII").log_likelihood(X)
        assert near <= found.log_likelihood + 1e-9


@pytest.mark.derives("cor-bad-maxima")
@pytest.mark.parametrize(("u", "m"), [(2.0, 5), (4.0, 5), (4.0, 50)])
def test_a_bad_maximum_lacks_what_the_corollary_says(u: float, m: int) -> None:
    c = 25.0
    assert far_enough(2, 3, u, c, c)  # whatever m
    X = np.repeat([[-u], [u], [c]], m, axis=0)
    best = means_only(X, np.array([[-u], [u], [c]]), 300).log_likelihood
    bad = means_only(X, np.array([[0.1], [c - 0.5], [c + 0.5]]), 300)
    assert abs(bad.mixture.means[0, 0]) < u + 1
    assert best - bad.log_likelihood >= m * u**2 - 3 * m * log(3)
    assert m * u**2 - 3 * m * log(3) > 0


@pytest.mark.derives("prop-restarts", "eq-restarts")
def test_the_best_of_several_runs_by_counting_all_outcomes() -> None:
    p = 0.3
    for runs in range(1, 9):
        hit = 0.0
        for outcome in product((True, False), repeat=runs):
            chance = float(np.prod([p if good else 1 - p for good in outcome]))
            hit += chance * any(outcome)
        assert hit == pytest.approx(1 - (1 - p) ** runs, rel=1e-12)
        for delta in (0.5, 0.1, 0.01):
            assert (1 - hit <= delta) == (runs >= log(delta) / log(1 - p))
    mean = sum(r * p * (1 - p) ** (r - 1) for r in range(1, 400))
    assert mean == pytest.approx(1 / p, rel=1e-12)


@pytest.mark.derives("prop-random-seeds", "eq-random-seeds")
def test_random_rows_hit_every_cluster_as_often_as_counted() -> None:
    for k, m in ((2, 3), (3, 3), (3, 4), (4, 2)):
        draws = list(combinations(range(k * m), k))
        hits = sum(len({row // m for row in draw}) == k for draw in draws)
        assert hits / len(draws) == pytest.approx(m**k / comb(k * m, k), rel=1e-12)
    for k in range(1, 100):
        limit = factorial(k) / k**k
        m = 10**7
        assert m**k / comb(k * m, k) == pytest.approx(limit, rel=1e-4)
        assert limit <= exp(1) * sqrt(k) * exp(-k) * (1 + 1e-12)
