"""k-means: Lloyd's iteration, by fewer looks at the rows, and the seeds of k-means++."""

from __future__ import annotations

import warnings
from itertools import combinations, product

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, optimize, special, stats
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

import gmm
from gmm import threads
from gmm.bound import lower_bound
from gmm.checks import EmptyComponentError
from gmm.kmeans import classification_em, drawn_partitions, kmeans, kmeans_plus_plus
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


def test_rows_too_many_to_keep_give_the_same_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit: their blocks are made anew in each pass."""
    X = gmm.datasets.iris().X
    kept = kmeans(X, 3, random_state=0)
    monkeypatch.setattr("gmm.kmeans.ROW_MEMORY", 0)
    for again, before in zip(kmeans(X, 3, random_state=0), kept, strict=True):
        np.testing.assert_array_equal(again, before)


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
@pytest.mark.parametrize("weighted", [False, True])
def test_small_variances_make_the_likelihood_a_sum_of_squares(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    X, means = rng.standard_normal((40, 3)), rng.standard_normal((4, 3))
    weights = rng.uniform(0.2, 3.0, 40) if weighted else np.ones(40)
    squares = cdist(X, means) ** 2
    least, total = float(weights @ squares.min(axis=1)), float(weights.sum())
    for variance in (10.0, 1.0, 1e-2, 1e-4):
        mixture = gmm.Mixture(np.full(4, 0.25), means, np.full(4, variance), "VII")
        constant = 0.5 * 3 * total * np.log(2 * np.pi * variance)
        value = -2 * variance * (mixture.log_likelihood(X, weights) + constant)
        assert least * (1 - 1e-9) <= value
        assert value <= (least + 2 * variance * total * np.log(4)) * (1 + 1e-9)
    shares = mixture.responsibilities(X)
    np.testing.assert_allclose(shares, np.eye(4)[squares.argmin(axis=1)], atol=1e-6)


def exact_shares(x: Floats, means: Floats, variance: float) -> list[mpmath.mpf]:
    """Responsibilities of equal components for one row, with 200 digits."""
    with mpmath.workdps(200):
        squares = [
            sum((mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(x, m, strict=True))
            for m in means.tolist()
        ]
        heights = [mpmath.exp(-s / (2 * mpmath.mpf(variance))) for s in squares]
        total = mpmath.fsum(heights)
        return [h / total for h in heights]


@pytest.mark.derives("prop-small-variance", "eq-hard-rate", "eq-boundary-layer")
def test_what_far_means_keep_of_a_row_vanishes_at_the_rate_of_the_proposition() -> None:
    """Rows with one, two, three and four nearest means, at variances down to a thousandth."""
    means = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    rows = {1: [0.5, 0.125], 2: [0.5, 0.5], 4: [0.0, 0.0]}
    with mpmath.workdps(200):
        for ties, x in rows.items():
            squares = np.sum((means - x) ** 2, axis=1)
            nearest = squares == squares.min()
            assert nearest.sum() == ties
            for variance in (1.0, 0.1, 0.01, 0.001):
                shares = exact_shares(np.array(x), means, variance)
                own = [s for s, near in zip(shares, nearest, strict=True) if near]
                rest = mpmath.fsum(s for s, near in zip(shares, nearest, strict=True) if not near)
                assert all(abs(s - own[0]) < mpmath.mpf(10) ** -190 for s in own)  # equal shares
                if ties == 4:
                    continue
                gap = float(squares[~nearest].min() - squares.min())
                rate = mpmath.exp(-mpmath.mpf(gap) / (2 * mpmath.mpf(variance)))
                assert rate / 4 <= rest <= rate * (4 - ties) / ties
    # the logistic curve across a border
    two = np.array([[3.0, 1.0], [0.0, -3.0]])
    for x in np.random.default_rng(0).uniform(-2, 4, (20, 2)):
        u = (two[0] - two[1]) / 5.0
        t = float(u @ (x - two.mean(axis=0)))
        for variance in (2.0, 0.5):
            share = float(exact_shares(x, two, variance)[0])
            assert share == pytest.approx(special.expit(5.0 * t / variance), rel=1e-10)


@pytest.mark.derives("prop-em-limit-step")
def test_one_step_of_em_in_the_limit_shares_ties_and_finds_the_cheapest_row() -> None:
    """Means with a cluster, with a tied row, and a mean that is nearest to no row."""
    X = np.array([[0.0], [1.0], [2.0], [2.5], [4.0]])
    weights = np.array([1.0, 2.0, 1.0, 3.0, 1.0])
    means = np.array([[0.0], [2.0], [7.0]])  # 1 is tied, and 7 has no row
    squares = (X - means[:, 0]) ** 2
    lost = squares - squares.min(axis=1, keepdims=True)
    ties = (lost == 0).sum(axis=1)
    assert ties.tolist() == [1, 2, 1, 1, 1]
    wanted = []
    for k in range(3):
        cheapest = lost[:, k] == lost[:, k].min()
        wanted.append(np.average(X[cheapest, 0], weights=(weights / ties)[cheapest]))
    assert wanted[2] == 4.0
    with mpmath.workdps(200):
        shares = [exact_shares(x, means, 0.004) for x in X]
        for k in range(3):
            top = mpmath.fsum(w * r[k] * x[0] for w, r, x in zip(weights, shares, X, strict=True))
            new = top / mpmath.fsum(w * r[k] for w, r in zip(weights, shares, strict=True))
            assert float(new) == pytest.approx(wanted[k], abs=1e-12)


def least_loss(X: Floats, means: Floats) -> float:
    return float((cdist(X, means) ** 2).min(axis=1).sum())


def em_for_means(X: Floats, means: Floats, variance: float, n_iter: int) -> gmm.Mixture:
    k = len(means)
    start = gmm.Mixture(np.full(k, 1 / k), means, np.full(k, variance), "VII")
    return gmm.fit(
        X, k, "VII", start=start, fixed=("weights", "covariances"), tol=0, max_iter=n_iter
    ).mixture


@pytest.mark.derives("thm-kmeans-bound", "eq-soft-loss", "eq-loss-of-maximiser")
def test_the_bound_is_the_soft_loss_and_its_maximisers_nearly_minimise_the_hard_one() -> None:
    rng = np.random.default_rng(2)
    X = rng.standard_normal((9, 2)) + 3.0 * rng.integers(0, 2, (9, 1))
    weights = rng.uniform(0.5, 2.0, 9)
    for variance in (4.0, 0.3, 1e-3):
        for _ in range(5):
            means, shares = rng.standard_normal((3, 2)), rng.dirichlet(np.full(3, 0.4), 9)
            mixture = gmm.Mixture(np.full(3, 1 / 3), means, np.full(3, variance), "VII")
            W = float(weights.sum())
            bound = lower_bound(X, mixture, shares, weights)
            left = -2 * variance * (bound + W * np.log(2 * np.pi * variance) + W * np.log(3))
            energy = float(weights @ (shares * cdist(X, means) ** 2).sum(axis=1))
            entropy = float(weights @ special.entr(shares).sum(axis=1))
            assert left == pytest.approx(energy - 2 * variance * entropy, rel=1e-9)
            assert energy - 2 * variance * W * np.log(3) <= left + 1e-9 <= energy + 2e-9
    # the least loss by trying all labels; maximisers of the likelihood from all pairs of rows
    least = np.inf
    for code in range(1, 2**8):
        mask = (code >> np.arange(9)) % 2 == 1
        least = min(least, sum(((p - p.mean(axis=0)) ** 2).sum() for p in (X[mask], X[~mask])))
    for variance in (1.0, 0.2, 0.02):
        ends = [em_for_means(X, X[list(pair)], variance, 200) for pair in combinations(range(9), 2)]
        best = max(ends, key=lambda m: m.log_likelihood(X))
        loss = least_loss(X, best.means)
        assert least * (1 - 1e-12) <= loss <= least + 2 * variance * 9 * np.log(2)


@pytest.mark.derives("thm-kmeans-maxima", "eq-maximum-rate")
def test_near_every_end_of_kmeans_the_likelihood_has_a_maximum() -> None:
    """Also near a bad end: the long sides of a rectangle."""
    rng = np.random.default_rng(3)
    rectangle = np.array([[2.0, 1.0], [2.0, -1.0], [-2.0, 1.0], [-2.0, -1.0]])
    clouds = np.vstack([c + rng.standard_normal((12, 2)) for c in ([0, 0], [4, 0], [2, 3])])
    for X, begin in ((rectangle, [[0.0, 1.0], [0.0, -1.0]]), (clouds, clouds[[0, 12, 24]])):
        _, end = kmeans(X, len(begin), start=begin)
        squares = np.sort(cdist(X, end) ** 2, axis=1)
        margin = float((squares[:, 1] - squares[:, 0]).min())
        assert margin > 0
        logs = []
        variances = margin / np.array([30.0, 40.0, 50.0])
        for variance in variances:
            away = 0.02 * rng.standard_normal(end.shape)
            for n_iter in (1, 2, 30):
                found = em_for_means(X, end + away, float(variance), n_iter)
                apart = float(np.abs(found.means - end).max())
                assert apart <= np.exp(-0.8 * margin / (2 * variance))
            top = found.log_likelihood(X)
            for _ in range(20):
                moved = found.means + 1e-3 * rng.standard_normal(end.shape)
                near = gmm.Mixture(found.weights, moved, found.stored, "VII").log_likelihood(X)
                assert near < top
            logs.append(np.log(max(apart, 1e-300)))
        if X is clouds:  # those of the rectangle are symmetric, and do not move along it
            slopes = np.diff(logs) / np.diff(1 / (2 * variances))
            np.testing.assert_allclose(slopes, -margin, rtol=1e-2)


@pytest.mark.derives("thm-lloyd-ends")
def test_kmeans_rests_in_minima_of_the_loss_and_not_where_centres_tie() -> None:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((50, 2))
    counts = []
    for seed in range(5):
        labels, end = kmeans(X, 4, seed)
        sizes = np.bincount(labels, minlength=4)
        loss = least_loss(X, end)
        squares = np.sort(cdist(X, end), axis=1)
        reach = float((squares[:, 1] - squares[:, 0]).min()) / 2  # no label changes so near
        for _ in range(20):
            step = rng.standard_normal(end.shape)
            step *= 0.9 * reach / np.linalg.norm(step, axis=1).max()
            rise = float(sizes @ (step**2).sum(axis=1))
            assert least_loss(X, end + step) == pytest.approx(loss + rise, rel=1e-12)
        counts.append(loss)
    assert len(set(np.round(counts, 6))) > 1  # local minima, not one global
    # fixed points with a tie: the tied row is in the first cluster, and in the second
    tied = np.array([[-2.0], [0.0], [1.0]])
    for centres in ([[-1.0], [1.0]], [[-2.0], [0.5]]):
        at = np.array(centres)
        squares = cdist(tied, at) ** 2
        assert (squares[1, 0] == squares[1, 1]) == (centres[0][0] == -1.0)
    at = np.array([[-1.0], [1.0]])
    _, stays = kmeans(tied, 2, start=at)
    np.testing.assert_array_equal(stays, at)
    for size in (1e-2, 1e-4, 1e-6):
        lower = min(
            least_loss(tied, at + size * np.array([[a], [b]]))
            for a, b in product((-1, 0, 1), repeat=2)
        )
        assert lower < least_loss(tied, at) - 0.5 * size


@pytest.mark.derives("prop-voronoi", "eq-bisector")
def test_cells_are_cut_out_by_bisecting_hyperplanes() -> None:
    rng = np.random.default_rng(5)
    X = gmm.datasets.iris().X
    labels, centres = kmeans(X, 3, 0)
    for j, k in combinations(range(3), 2):
        middle, normal = centres[[j, k]].mean(axis=0), centres[k] - centres[j]
        length = float(np.linalg.norm(normal))
        t = (X - middle) @ normal / length
        squares = cdist(X, centres) ** 2
        np.testing.assert_allclose(squares[:, j] - squares[:, k], 2 * length * t, atol=1e-11)
        assert (t[labels == k] > 0).all()
        assert (t[labels == j] < 0).all()
        # the hyperplane halves the segment: both centres are as far from it
        assert (centres[k] - middle) @ normal == pytest.approx((middle - centres[j]) @ normal)
    for k in range(3):  # convex: between two points of a cell is the cell
        cell = X[labels == k]
        a, b = cell[rng.integers(len(cell), size=(2, 200))]
        share = rng.random((200, 1))
        between = share * a + (1 - share) * b
        assert (cdist(between, centres).argmin(axis=1) == k).all()


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


# ---------------------------------------------------------------- classification EM


def hard_by_hand(X: Floats, mixture: gmm.Mixture, n_iter: int) -> tuple[Floats, Floats]:
    """Labels by scipy's densities, weights and moments by NumPy's."""
    weights, means, covariances = mixture.weights, mixture.means, mixture.covariances
    for _ in range(n_iter):
        joint = np.column_stack(
            [
                np.log(w) + stats.multivariate_normal(m, c).logpdf(X)
                for w, m, c in zip(weights, means, covariances, strict=True)
            ]
        )
        labels = joint.argmax(axis=1)
        parts = [X[labels == k] for k in range(len(weights))]
        weights = np.array([len(part) / len(X) for part in parts])
        means = np.array([part.mean(axis=0) for part in parts])
        covariances = np.array([np.cov(part.T, ddof=0) for part in parts])
    return means, covariances


def test_classification_em_takes_the_path_of_its_definition() -> None:
    X = gmm.datasets.watching_em().X
    start = gmm.Mixture(np.full(3, 1 / 3), X[[0, 100, 200]], np.tile(np.cov(X.T), (3, 1, 1)))
    for passes in (1, 3, 10):
        got = classification_em(X, start, max_iter=passes)
        means, covariances = hard_by_hand(X, start, passes)
        np.testing.assert_allclose(got.mixture.means, means, rtol=1e-10)
        np.testing.assert_allclose(got.mixture.covariances, covariances, rtol=1e-9, atol=1e-12)
        assert len(got.objective) == passes + 1


@pytest.mark.derives("thm-cem", "eq-hard-gap", "eq-classification-objective")
@pytest.mark.parametrize("family", ["VVV", "EEE", "VVI", "VII", "VEV"])
def test_classification_em_ascends_and_ends_where_each_is_best_for_the_other(family: str) -> None:
    X = gmm.datasets.iris().X
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    start = gmm.initial.starting_mixture(X, 3, family, "random", 1)
    end = classification_em(X, start, sample_weight=weights)
    assert len(end.objective) > 3
    assert (np.diff(end.objective) >= -1e-7).all()
    joint = end.mixture.component_log_densities(X)
    np.testing.assert_array_equal(end.labels, joint.argmax(axis=1))
    assert end.objective[-1] == pytest.approx(float(weights @ joint.max(axis=1)), rel=1e-12)
    again = classification_em(X, end.mixture, sample_weight=weights)
    assert len(again.objective) == 2
    np.testing.assert_array_equal(again.labels, end.labels)
    # the objective is the bound for point masses, and what it lacks is the formula's
    hard = np.eye(3)[end.labels]
    bound = lower_bound(X, end.mixture, hard, weights)
    assert end.objective[-1] == pytest.approx(bound, rel=1e-12)
    shares = end.mixture.responsibilities(X)
    lack = end.mixture.log_likelihood(X, weights) - end.objective[-1]
    assert lack == pytest.approx(float(-weights @ np.log(shares.max(axis=1))), rel=1e-9)
    entropy = float(weights @ special.entr(shares).sum(axis=1))
    assert 0 <= lack <= min(entropy, weights.sum() * np.log(3)) + 1e-9


def test_weights_of_classification_em_mean_repetition() -> None:
    X = gmm.datasets.old_faithful().X
    start = gmm.fit(X, 2, random_state=0).mixture
    weights = np.random.default_rng(0).integers(1, 4, len(X))
    one = classification_em(X, start, sample_weight=weights)
    other = classification_em(np.repeat(X, weights, axis=0), start)
    np.testing.assert_allclose(one.mixture.covariances, other.mixture.covariances, rtol=1e-10)
    assert one.objective == pytest.approx(other.objective, rel=1e-12)


def test_classification_em_refuses_what_it_cannot_use() -> None:
    X = gmm.datasets.old_faithful().X
    with pytest.raises(TypeError, match="start: expected a Mixture, got list"):
        classification_em(X, [[1.0, 2.0]])  # type: ignore[arg-type]
    far = gmm.Mixture([0.5, 0.5], [[3.0, 70.0], [1e3, 1e3]], [np.eye(2)] * 2)
    with pytest.raises(EmptyComponentError, match="component 1 is responsible for no row"):
        classification_em(X, far)
    single = gmm.Mixture([0.5, 0.5], [[3.0, 70.0], X[0]], [np.eye(2) * 100, np.eye(2) * 1e-4])
    with pytest.raises(gmm.SingularCovarianceError):
        classification_em(X, single)


@pytest.mark.derives("prop-cem-kmeans", "eq-cem-kmeans")
def test_kmeans_is_classification_em_with_equal_circles() -> None:
    """Pass by pass, from any variance; and the best variance by a search."""
    X = gmm.datasets.iris().X
    begin = X[[3, 60, 140]]
    for variance in (1e-3, 1.0, 1e3):
        start = gmm.Mixture(np.array([0.2, 0.3, 0.5]), begin, np.full(3, variance), "EII")
        for passes in (1, 2, 5, 100):
            hard = classification_em(X, start, equal_weights=True, max_iter=passes)
            _, centres = kmeans(X, 3, start=begin, max_iter=passes)
            np.testing.assert_allclose(hard.mixture.means, centres, rtol=1e-12)
            np.testing.assert_array_equal(hard.mixture.weights, np.full(3, 1 / 3))
    J = float((cdist(X, centres) ** 2).min(axis=1).sum())

    def negative(log_variance: float) -> float:
        v = float(np.exp(log_variance))
        half = 0.5 * X.size * np.log(2 * np.pi * v) + 0.5 * J / v
        return float(len(X) * np.log(3) + half)

    best = optimize.minimize_scalar(negative, bracket=(-3, 1), tol=1e-12)
    formula = -len(X) * np.log(3) - 0.5 * X.size * (1 + np.log(2 * np.pi * J / X.size))
    assert -best.fun == pytest.approx(formula, rel=1e-12)
    assert hard.objective[-1] == pytest.approx(formula, rel=1e-12)


@pytest.mark.derives("thm-hard-bias")
@pytest.mark.parametrize("family", ["V", "E"])
@pytest.mark.parametrize("seed", range(4))
def test_the_truth_is_no_fixed_point_of_hard_assignments(family: str, seed: int) -> None:
    """The M-step of the population by quadrature on a fine lattice."""
    rng = np.random.default_rng(seed)
    k = 3
    weights, means = rng.dirichlet(np.full(k, 5.0)), np.sort(rng.uniform(-4, 4, k))
    variances = rng.uniform(0.4, 2.5, k) if family == "V" else np.full(k, 1.3)
    x = np.linspace(-25, 25, 400_001)
    joint = np.log(weights) + stats.norm(means, np.sqrt(variances)).logpdf(x[:, None])
    density, labels = np.exp(joint).sum(axis=1), joint.argmax(axis=1)
    step = x[1] - x[0]
    best = float((density * joint.max(axis=1)).sum() * step)
    true = float((np.exp(joint) * joint).sum() * step)
    entropy = float((weights * (np.log(weights) - 0.5 * np.log(2 * np.pi * variances))).sum() - 0.5)
    assert true == pytest.approx(entropy, rel=1e-9)  # the value at the true labels
    assert best > true + 1e-3
    p = np.array([density[labels == j].sum() * step for j in range(k)])
    if not p.all():
        return  # a component that wins nowhere has not even its weight
    m = np.array([(density * x)[labels == j].sum() * step for j in range(k)]) / p
    second = np.array([(density * x**2)[labels == j].sum() * step for j in range(k)]) / p
    v = second - m**2
    if family == "E":
        v = np.full(k, p @ v)
    after = float((p * (np.log(p) - 0.5 * np.log(2 * np.pi * v))).sum() - 0.5)
    assert after >= best - 1e-9  # the M-step is at least as good as the truth for these labels
    assert max(np.abs(p - weights).max(), np.abs(v / variances - 1).max()) > 1e-3


@pytest.mark.derives("cor-cem-inconsistent")
def test_more_rows_do_not_bring_classification_em_to_the_truth() -> None:
    truth = gmm.Mixture(
        [0.4, 0.6],
        [[-1.0, 0.0], [1.5, 1.0]],
        [[[1.0, 0.3], [0.3, 0.8]], [[1.5, -0.4], [-0.4, 1.0]]],
    )
    lacks, soft = [], []
    for n in (2_000, 20_000, 200_000):
        X, _ = truth.sample(n, random_state=0)
        end = classification_em(X, truth).mixture
        lacks.append(np.abs(end.covariances - truth.covariances).max())
        # EM's is of the order of the standard error
        fitted = gmm.fit(X, 2, start=truth, max_iter=100).mixture
        soft.append(np.abs(fitted.covariances - truth.covariances).max())
    assert min(lacks) > 0.3
    assert abs(lacks[2] - lacks[1]) < 0.1
    assert soft[2] < 0.05 < 0.2 * lacks[2]


def border_by_hand(t: float, a: float, w: float) -> tuple[float, float, float, float, float]:
    """p, the means, the variance and the next border, by numerical integrals."""

    def density(x: float) -> float:
        return float((1 - w) * stats.norm.pdf(x + a) + w * stats.norm.pdf(x - a))

    def moment(j: int, low: float, high: float) -> float:
        return float(integrate.quad(lambda x: x**j * density(x), low, high, epsabs=1e-13)[0])

    p1, p2 = moment(0, -12, t), moment(0, t, 12)
    m1, m2 = moment(1, -12, t) / p1, moment(1, t, 12) / p2
    v = moment(2, -12, t) + moment(2, t, 12) - p1 * m1**2 - p2 * m2**2
    line = optimize.brentq(
        lambda x: np.log(p1 / p2) - ((x - m1) ** 2 - (x - m2) ** 2) / (2 * v), -60, 60
    )
    return p2, m1, m2, v, float(line)


def border_by_formula(t: float, a: float, w: float) -> tuple[float, float, float, float, float]:
    Phi, phi = stats.norm.cdf, stats.norm.pdf
    p2 = (1 - w) * Phi(-a - t) + w * Phi(a - t)
    s2 = (1 - w) * (phi(t + a) - a * Phi(-a - t)) + w * (phi(t - a) + a * Phi(a - t))
    m2, m1 = s2 / p2, ((2 * w - 1) * a - s2) / (1 - p2)
    v = 1 + a**2 - (1 - p2) * m1**2 - p2 * m2**2
    return p2, m1, m2, v, (m1 + m2) / 2 + v / (m2 - m1) * np.log((1 - p2) / p2)


@pytest.mark.derives(
    "thm-cem-population",
    "eq-cem-population",
    "eq-cem-border",
    "eq-cem-symmetric",
    "eq-cem-slope",
)
def test_the_population_equation_of_hard_assignments() -> None:
    for a, w, t in ((0.5, 0.5, 0.3), (1.0, 0.3, -0.4), (2.0, 0.8, 0.1), (0.2, 0.6, 1.5)):
        np.testing.assert_allclose(border_by_formula(t, a, w), border_by_hand(t, a, w), rtol=1e-8)
    for a in (0.05, 0.3, 1.0, 2.0, 4.0):
        _, m1, m2, v, line = border_by_formula(0.0, a, 0.5)
        Phi, phi = stats.norm.cdf, stats.norm.pdf
        m = a + 2 * (phi(a) - a * Phi(-a))
        assert -m1 == pytest.approx(m, rel=1e-13)
        assert m2 == pytest.approx(m, rel=1e-13)
        assert v == pytest.approx(1 + a**2 - m**2, rel=1e-10)
        assert line == pytest.approx(0.0, abs=1e-14)
        assert 0 < m - a < 2 * phi(a) / a**2
        assert 0 < v < 1
        h = 1e-5
        slope = (border_by_hand(h, a, 0.5)[4] - border_by_hand(-h, a, 0.5)[4]) / (2 * h)
        assert slope == pytest.approx(2 * phi(a) * (1 + a**2) / m, rel=1e-5)
        assert slope < 1


def test_hard_assignments_of_many_rows_solve_the_population_equation() -> None:
    for a, w in ((1.0, 0.5), (1.5, 0.7), (2.0, 0.7)):
        t = float(np.log((1 - w) / w) / (2 * a))
        for _ in range(2000):
            *_, t = border_by_formula(t, a, w)
        p2, m1, m2, v, _ = border_by_formula(t, a, w)
        truth = gmm.Mixture([1 - w, w], [[-a], [a]], np.ones((2, 1, 1)), "E")
        X, _ = truth.sample(100_000, random_state=2)
        end = classification_em(X, truth).mixture
        found = [end.weights[1], *end.means[:, 0], end.covariances[0, 0, 0]]
        # a few standard errors of a hundred thousand rows, amplified by 1 / (1 - T') < 5
        np.testing.assert_allclose(found, [p2, m1, m2, v], atol=0.03)


def test_merged_means_part_below_the_greatest_eigenvalue() -> None:
    """The second derivative of the annealing exercise, by differences."""
    rng = np.random.default_rng(6)
    X = rng.standard_normal((30, 2)) * [2.0, 0.7]
    S, mean = np.cov(X.T, ddof=0), X.mean(axis=0)
    u = rng.standard_normal((3, 2))
    u -= u.mean(axis=0)
    for variance in (0.5, 2.0, 8.0):

        def value(t: float, variance: float = variance) -> float:
            means = mean + t * u
            mixture = gmm.Mixture(np.full(3, 1 / 3), means, np.full(3, variance), "VII")
            return float(mixture.log_likelihood(X))

        h = 1e-3
        second = (value(h) - 2 * value(0.0) + value(-h)) / h**2
        form = float(np.einsum("ki,ij,kj->", u, S - variance * np.eye(2), u)) / 3
        assert second == pytest.approx(len(X) / variance**2 * form, rel=1e-3)
