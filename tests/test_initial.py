"""Starting points: what each one is, and that no data set leaves it without an answer."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

import gmm
from gmm import threads
from gmm.initial import STARTS, hard_step, kmeans, kmeans_plus_plus, starting_mixture

Floats = NDArray[np.float64]


@pytest.fixture(params=["every row", "rows that are not sure"])
def looks_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of a pass of k-means, whatever the sizes."""
    way = str(request.param)
    monkeypatch.setattr("gmm.initial.MANY_PRODUCTS", 10**9 if way == "every row" else 0)
    return way


def inertia(X: Floats, centres: Floats) -> float:
    return float((cdist(X, centres) ** 2).min(axis=1).sum())


@pytest.mark.usefixtures("looks_at")
def test_kmeans_ends_in_a_fixed_point_as_good_as_scikit_learns() -> None:
    X = gmm.datasets.iris().X
    ours = []
    for seed in range(10):
        labels, centres = kmeans(X, 3, seed)
        np.testing.assert_array_equal(labels, cdist(X, centres).argmin(axis=1))
        for k in range(3):
            np.testing.assert_allclose(centres[k], X[labels == k].mean(axis=0), rtol=1e-12)
        ours.append(inertia(X, centres))
    peer = KMeans(3, n_init=10, random_state=0).fit(X)
    assert min(ours) == pytest.approx(peer.inertia_, rel=1e-9)


@pytest.mark.usefixtures("looks_at")
def test_kmeans_weights_mean_repetition() -> None:
    X = gmm.datasets.old_faithful().X
    weights = np.random.default_rng(0).integers(1, 4, len(X))
    _, centres = kmeans(X, 2, 0, sample_weight=weights)
    _, repeated = kmeans(np.repeat(X, weights, axis=0), 2, 0)
    np.testing.assert_allclose(np.sort(centres, 0), np.sort(repeated, 0), rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 7])
@pytest.mark.usefixtures("looks_at")
def test_lloyds_algorithm_takes_scikit_learns_path(d: int) -> None:
    """Rows that are not looked at again would not have changed their cluster."""
    rng = np.random.default_rng(d)
    X = 5.0 + rng.standard_normal((3000, d)) + 2.0 * rng.integers(0, 3, (3000, 1))
    for passes in (1, 2, 5, 300):
        _, centres = kmeans(X, 4, start=X[:4], max_iter=passes)
        peer = KMeans(4, init=X[:4], n_init=1, max_iter=passes, tol=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's, that it stopped early
            peer.fit(X)
        # both add thousands of numbers of order one, in different orders
        np.testing.assert_allclose(centres, peer.cluster_centers_, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("looks_at")
def test_kmeans_does_not_depend_on_the_number_of_threads() -> None:
    X = np.random.default_rng(0).standard_normal((250_000, 3))
    weights = np.random.default_rng(1).uniform(size=len(X))
    results = []
    for n_threads in (1, 2, 5):
        with threads.use(n_threads):
            results.append(kmeans(X, 5, 0, sample_weight=weights, max_iter=6))
    for labels, centres in results[1:]:
        np.testing.assert_array_equal(labels, results[0][0])
        np.testing.assert_array_equal(centres, results[0][1])


@pytest.mark.parametrize("width", [1.0, 1e-3, 1e-6, 1e-9])
@pytest.mark.usefixtures("looks_at")
def test_clusters_that_are_narrow_beside_their_distance_are_told_apart(width: float) -> None:
    """Pairs of clusters so close that the expanded square cannot see between them."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 400)
    corners = np.array([[-1.0, 0.0], [-1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    X = corners[truth] * [1e3, 8 * width] + width * rng.standard_normal((400, 2))
    _, start = np.unique(truth, return_index=True)
    for labels in (kmeans(X, 4, start=X[start])[0], kmeans(X, 4, 0)[0]):
        pairs = np.unique(np.column_stack([truth, labels]), axis=0)
        assert len(pairs) == 4


@pytest.mark.usefixtures("looks_at")
def test_equally_near_centres_share_no_row_and_end_the_search() -> None:
    """Rows on a lattice lie on the border between centres; the first centre takes them."""
    X = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), -1).reshape(-1, 2)
    labels, centres = kmeans(X, 2, start=[[0.0, 4.0], [8.0, 4.0]], max_iter=1)
    np.testing.assert_array_equal(labels, X[:, 0] > 4)
    again, _ = kmeans(X, 2, start=centres, max_iter=1000)
    np.testing.assert_array_equal(again, cdist(X, centres).argmin(axis=1))


def test_a_start_of_kmeans_must_fit_the_rows() -> None:
    X = np.zeros((5, 2))
    with pytest.raises(ValueError, match="start: expected 3 means, got 2"):
        kmeans(X, 3, start=X[:2])
    with pytest.raises(ValueError, match="start: expected 2 features, got 1"):
        kmeans(X, 3, start=X[:3, :1])


@pytest.mark.usefixtures("looks_at")
def test_weights_of_any_size_leave_clusters_in_their_place() -> None:
    """A cluster keeps its light rows when the heavy ones leave: subtracting leaves no errors."""
    X = np.array([[0.0], [0.1], [5.0], [5.2], [9.0]])
    weights = np.array([1e-12, 1e-12, 1.0, 1.0, 1.0])
    labels, centres = kmeans(X, 2, start=[[2.5], [9.0]], sample_weight=weights)
    np.testing.assert_array_equal(labels, [0, 0, 0, 0, 1])
    labels, centres = kmeans(X, 3, start=[[0.0], [4.0], [9.0]], sample_weight=weights)
    np.testing.assert_allclose(centres[:, 0], [0.05, 5.1, 9.0], rtol=1e-12)


@pytest.mark.usefixtures("looks_at")
def test_an_empty_cluster_takes_the_row_farthest_from_its_centre() -> None:
    """With three distinct values and three clusters, every cluster ends on one value."""
    X = np.repeat([[0.0], [1.0], [10.0]], [50, 50, 1], axis=0)
    for seed in range(20):
        _, centres = kmeans(X, 3, seed)
        np.testing.assert_allclose(np.sort(centres[:, 0]), [0.0, 1.0, 10.0], atol=1e-12)


def test_seeds_of_kmeans_plus_plus_are_drawn_by_squared_distance() -> None:
    """One cluster of a hundred rows and four far rows: the far rows are among five seeds."""
    rng = np.random.default_rng(0)
    far = 100.0 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    X = np.vstack([rng.standard_normal((100, 2)), far])
    for seed in range(20):
        assert set(range(100, 104)) < set(kmeans_plus_plus(X, 5, seed).tolist())


def test_seeds_exist_even_where_there_are_fewer_distinct_rows() -> None:
    assert len(kmeans_plus_plus(np.ones((5, 1)), 3, 0)) == 3


def test_rows_of_weight_zero_are_never_seeds() -> None:
    X = np.arange(10.0)[:, None]
    weights = np.array([0, 1] * 5)
    values = X[weights > 0]
    for seed in range(10):
        # positions count the rows of positive weight
        seeds = kmeans_plus_plus(X, 2, seed, sample_weight=weights)
        assert set(values[seeds, 0]) <= {1.0, 3.0, 5.0, 7.0, 9.0}


def test_the_hard_step_gives_sums_over_clusters() -> None:
    rng = np.random.default_rng(1)
    X, labels = rng.standard_normal((20, 2)), rng.integers(-1, 2, 20)
    got = hard_step(X, labels, np.zeros((2, 2)), "full")
    for k in range(2):
        mine = X[labels == k]
        assert got.counts[k] == len(mine)
        np.testing.assert_allclose(got.first[k], mine.sum(axis=0), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(got.second[k], mine.T @ mine, rtol=1e-12)


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


def test_of_many_rows_a_start_looks_at_a_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmm.initial.START_ROWS", 200)
    X = np.random.default_rng(0).standard_normal((5000, 2)) + np.repeat([[0], [9]], 2500, axis=0)
    start = starting_mixture(X, 2, "VVV", "k-means", 0)
    np.testing.assert_allclose(start.means[:, 0], [0.0, 9.0], atol=0.5)
