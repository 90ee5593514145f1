"""k-means: Lloyd's iteration, by fewer looks at the rows, and the seeds of k-means++."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

import gmm
from gmm import threads
from gmm.kmeans import drawn_partitions, kmeans, kmeans_plus_plus
from gmm.rows import as_rows

Floats = NDArray[np.float64]


@pytest.fixture(params=["every row", "rows that are not sure"])
def looks_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of a pass of k-means, whatever the sizes."""
    way = str(request.param)
    monkeypatch.setattr("gmm.kmeans.MANY_PRODUCTS", 10**9 if way == "every row" else 0)
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


def test_partitions_about_seeds_are_those_of_one_draw_of_most_seeds() -> None:
    """Each number of clusters has one seed more: rows stay, or go to the new one."""
    X = gmm.datasets.iris().X
    partitions = drawn_partitions(as_rows(X), 6, 4, np.random.default_rng(0), passes=0)
    assert sorted(partitions) == [1, 2, 3, 4, 5, 6]
    for k in range(2, 7):
        before, labels = partitions[k - 1], partitions[k]
        assert labels.shape == (4, 150)
        moved = labels != before
        assert (labels[moved] == k - 1).all()
        for draw in range(4):
            assert set(labels[draw].tolist()) == set(range(k))
    assert len({tuple(labels) for labels in partitions[3].tolist()}) > 1


def test_a_pass_gives_rows_to_the_nearest_mean() -> None:
    X = gmm.datasets.iris().X
    weights = np.random.default_rng(1).uniform(0.5, 2, 150)
    rows = as_rows(X, weights)
    drawn, moved = (
        drawn_partitions(rows, 3, 5, np.random.default_rng(2), passes=passes)[3]
        for passes in (0, 1)
    )
    for before, after in zip(drawn, moved, strict=True):
        means = [np.average(X[before == k], axis=0, weights=weights[before == k]) for k in range(3)]
        np.testing.assert_array_equal(after, cdist(X, means).argmin(axis=1))


def test_draws_take_far_rows_first_and_rows_that_are_equal_last() -> None:
    X = np.repeat([[0.0, 0.0], [50.0, 0.0], [0.0, 70.0]], [40, 2, 3], axis=0)
    truth = np.repeat([0, 1, 2], [40, 2, 3])
    for labels in drawn_partitions(as_rows(X), 3, 6, np.random.default_rng(0))[3]:
        assert len(np.unique(np.column_stack([truth, labels]), axis=0)) == 3
    assert drawn_partitions(as_rows(np.ones((5, 1))), 3, 2, np.random.default_rng(0))[3].max() == 0


# ---------------------------------------------------------------- the chapter's results


@pytest.mark.derives("prop-small-variance", "eq-small-variance")
def test_small_variances_make_the_likelihood_a_sum_of_squares() -> None:
    rng = np.random.default_rng(0)
    X, means = rng.standard_normal((40, 3)), rng.standard_normal((4, 3))
    squares = cdist(X, means) ** 2
    least = squares.min(axis=1).sum()
    for variance in (10.0, 1.0, 1e-2, 1e-4):
        mixture = gmm.Mixture(np.full(4, 0.25), means, np.full(4, variance), "VII")
        constant = 0.5 * X.size * np.log(2 * np.pi * variance)
        value = -2 * variance * (mixture.log_likelihood(X) + constant)
        assert least * (1 - 1e-9) <= value
        assert value <= (least + 2 * variance * len(X) * np.log(4)) * (1 + 1e-9)
    shares = mixture.responsibilities(X)
    np.testing.assert_allclose(shares, np.eye(4)[squares.argmin(axis=1)], atol=1e-6)


@pytest.mark.derives("thm-lloyd", "eq-sum-of-squares")
@pytest.mark.parametrize("weighted", [False, True])
def test_no_pass_raises_the_sum_of_squares_and_the_last_changes_nothing(weighted: bool) -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 2))
    weights = rng.uniform(0.2, 3, 60) if weighted else None
    w = np.ones(60) if weights is None else weights

    def cost(labels: NDArray[np.int64], centres: Floats) -> float:
        return float(w @ ((X - centres[labels]) ** 2).sum(axis=1))

    centres = X[:5]
    values = []
    for _ in range(200):
        before = centres
        labels, centres = kmeans(X, 5, start=before, max_iter=1, sample_weight=weights)
        values += [cost(labels, before), cost(labels, centres)]
        if (before == centres).all():
            break
    assert len(values) < 400
    assert len(values) > 6
    assert (np.diff(values) <= 1e-12 * values[0]).all()
    np.testing.assert_array_equal(labels, cdist(X, centres).argmin(axis=1))


def cost_of(A: Floats, seeds: Floats) -> float:
    return float((cdist(A, seeds) ** 2).min(axis=1).sum())


@pytest.mark.derives("lem-uniform-seed", "lem-distant-seed")
@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_seed_costs_at_most_as_much_as_the_lemmas_say(seed: int) -> None:
    """Expectations as sums over all rows that can be drawn."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((12, 2)) * rng.uniform(0.1, 5, 2)
    least = float(((A - A.mean(axis=0)) ** 2).sum())
    uniform = np.mean([cost_of(A, row[None]) for row in A])
    assert uniform == pytest.approx(2 * least, rel=1e-12)
    for far in (0.1, 1.0, 100.0):
        S = far * rng.standard_normal((3, 2))
        squares = (cdist(A, S) ** 2).min(axis=1)
        costs = np.array([cost_of(A, np.vstack([S, row])) for row in A])
        assert squares @ costs / squares.sum() <= 8 * least * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_two_seeds_keep_the_guarantee_of_arthur_and_vassilvitskii(seed: int) -> None:
    """The expectation over both draws, against the best of all divisions in two."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((9, 2)) + 8.0 * rng.integers(0, 2, (9, 1))
    expected = 0.0
    for first in X:
        squares = ((X - first) ** 2).sum(axis=1)
        costs = np.array([cost_of(X, np.vstack([first, second])) for second in X])
        expected += float(squares @ costs / squares.sum()) / len(X)
    least = min(
        sum(((part - part.mean(axis=0)) ** 2).sum() for part in (X[mask], X[~mask]))
        for code in range(1, 2**8)
        for mask in [(code >> np.arange(9)) % 2 == 1]
    )
    assert least <= expected <= 8 * (np.log(2) + 2) * least
