"""The hierarchy merges, at each step, the two clusters that the criterion names."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm
from gmm.agglomerative import _Merging, _whitened, agglomerative, hierarchy
from gmm.rows import as_rows

Floats = NDArray[np.float64]


def criterion(Z: Floats, labels: NDArray[np.int64], alpha: float) -> float:
    """Σ n log(det(W/n) + (tr W + α)/n); clusters of at most d rows have no determinant."""
    total = 0.0
    d = Z.shape[1]
    for k in np.unique(labels):
        rows = Z[labels == k]
        n = len(rows)
        residuals = rows - rows.mean(axis=0)
        scatter = residuals.T @ residuals
        value = (np.trace(scatter) + alpha) / n
        if n > d:
            value += max(np.linalg.det(scatter / n), 0.0)
        total += n * np.log(value)
    return total


@pytest.mark.derives("eq-agglomerative-criterion")
@pytest.mark.parametrize("d", [1, 2, 3])
def test_every_merger_is_the_best_of_all_pairs(d: int) -> None:
    X = np.random.default_rng(d).standard_normal((18, d))
    rows = as_rows(X)
    Z = _whitened(rows)
    alpha = float((Z**2).mean())
    levels = hierarchy(rows, 18)
    for k in range(18, 1, -1):
        before, after = levels[k], levels[k - 1]
        values = []
        for a, b in combinations(range(k), 2):
            merged = np.where(before == b, a, before)
            values.append(criterion(Z, merged, alpha))
        assert criterion(Z, after, alpha) == pytest.approx(min(values), rel=1e-12)


@pytest.mark.derives("prop-union-scatter", "eq-union-scatter")
def test_the_scatter_of_a_union_is_that_of_its_rows() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 3))
    merging = _Merging(X, np.ones(20))
    for _ in range(15):
        merging.step()
    one, *others = np.flatnonzero(merging.alive).tolist()
    counts, scatter = merging._joined(one, np.array(others))
    for other, count, matrix in zip(others, counts, scatter, strict=True):
        rows = X[np.isin(merging.owner, (one, other))]
        residuals = rows - rows.mean(axis=0)
        assert count == len(rows)
        np.testing.assert_allclose(matrix, residuals.T @ residuals, rtol=1e-10, atol=1e-12)


def test_levels_are_nested_partitions() -> None:
    X = gmm.datasets.iris().X
    levels = hierarchy(as_rows(X), 9)
    assert sorted(levels) == list(range(1, 10))
    for k, labels in levels.items():
        assert set(labels.tolist()) == set(range(k))
        if k > 1:  # each cluster lies in one of the level above
            for j in range(k):
                assert len(set(levels[k - 1][labels == j].tolist())) == 1


def test_iris_is_cut_as_mclust_cuts_it() -> None:
    """Sizes of hclass(hc(iris[,1:4], "VVV", use = "SVD"), 2:4) in mclust 6.1."""
    levels = hierarchy(as_rows(gmm.datasets.iris().X), 4)
    for k, sizes in ((2, [49, 101]), (3, [39, 49, 62]), (4, [16, 33, 39, 62])):
        assert sorted(np.bincount(levels[k]).tolist()) == sizes


def test_long_clusters_are_found_where_distances_mislead() -> None:
    """Two parallel needles: k-means cuts them across, the determinant does not."""
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.uniform(-5, 5, 120), 0.1 * rng.standard_normal(120)])
    X[60:, 1] += 2.0
    wanted = np.repeat([0, 1], 60)
    labels = agglomerative(X, 2)
    assert max((labels == wanted).mean(), (labels != wanted).mean()) == 1
    by_distance = gmm.kmeans.kmeans(X, 2, 0)[0]
    assert 0.3 < (by_distance == wanted).mean() < 0.7


def test_equal_rows_stay_together_and_weights_count_like_copies() -> None:
    rng = np.random.default_rng(3)
    X = np.round(rng.standard_normal((30, 2)), 1)
    copies = rng.integers(1, 4, 30)
    repeated = np.repeat(X, copies, axis=0)
    weighted = hierarchy(as_rows(X, copies.astype(np.float64)), 4)
    plain = hierarchy(as_rows(repeated), 4)
    for k in (2, 3, 4):
        np.testing.assert_array_equal(np.repeat(weighted[k], copies), plain[k])


def test_too_many_clusters_are_refused() -> None:
    X = np.array([[0.0], [0.0], [1.0]])
    with pytest.raises(ValueError, match="n_clusters: expected at most the 2 distinct rows, got 3"):
        agglomerative(X, 3)
    with pytest.raises(ValueError, match="n_clusters"):
        agglomerative(X, 0)


def test_one_cluster_of_equal_rows() -> None:
    assert agglomerative(np.ones((4, 2)), 1).tolist() == [0, 0, 0, 0]
