"""Starting points: where EM begins decides which of the likelihood's maxima it finds.

A start makes a :class:`~gmm.mixture.Mixture` from rows, either by way of means (the covariances are
then those of all the data) or by way of labels (the M-step then does the rest). k-means is itself
the EM pass with hard assignments: :func:`hard_step` gives statistics, their means are the centres.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import (
    FloatArray,
    IntArray,
    RandomState,
    SingularCovarianceError,
    as_count,
    as_generator,
    as_matrix,
    refuse_non_finite,
    shown,
)
from gmm.e_step import expected_statistics
from gmm.families import FAMILIES, expand, parse_family, restrict
from gmm.m_step import m_step
from gmm.mixture import Mixture
from gmm.rows import Rows, Source, as_rows, as_source
from gmm.statistics import Statistics

__all__ = ["STARTS", "hard_step", "kmeans", "kmeans_plus_plus", "starting_mixture"]

#: The names of the starts.
STARTS = ("k-means", "k-means++", "random", "octant")

#: Rows that a start looks at: of more, a random subset is taken.
START_ROWS = 50_000


def starting_mixture(
    X: Any,
    n_components: int,
    family: str = "VVV",
    start: str | Mixture | ArrayLike = "k-means",
    random_state: RandomState = None,
    *,
    ridge: float = 0.0,
) -> Mixture:
    """The mixture from which a fit begins.

    Parameters
    ----------
    X : array (n, d)
    n_components : int
    family : str
        One of the names in :mod:`gmm.families`.
    start : str, Mixture or array (K, d)
        "k-means"
            Clusters of :func:`kmeans` on features of unit variance, then an M-step.
        "k-means++"
            Each row belongs to the nearest of the seeds of :func:`kmeans_plus_plus`, on the same
            features, then an M-step.
        "random"
            The means are distinct rows drawn at random; weights are equal, and every covariance is
            that of the data.
        "octant"
            Space is cut at the mean of the data into 2^d orthants, and each of the K fullest gives
            the mean and the share of its rows; the covariance is that within orthants.
        Mixture
            It is taken as it is, in the family asked for.
        array (K, d)
            Means; weights are equal, and every covariance is that of the data.
    random_state : int, Generator or None
    ridge : float
        Added to each variance, in squared units of the data.

    Returns
    -------
    Mixture

    Raises
    ------
    SingularCovarianceError
        If the rows lie in a hyperplane and no ridge is given.
    ValueError
        If the start is unknown or does not fit the data.

    Notes
    -----
    Of more than 50 000 rows, a named start looks at a random subset. It orders the components by
    the first coordinate of their means.
    """
    rows = as_source(X, min_rows=as_count(n_components, "n_components"))
    name = parse_family(family)
    if isinstance(start, Mixture):
        return _given_mixture(start, n_components, rows.n_features, name)
    if not isinstance(start, str):
        return _from_means(rows, _given_means(start, n_components, rows), name, ridge)
    refuse_unknown_start(start)
    rng = as_generator(random_state)
    subset = rows.sample(max(START_ROWS, n_components), rng)
    if start == "random":
        mixture = _from_means(rows, _distinct_rows(subset, n_components, rng), name, ridge)
    elif start == "octant":
        labels = _octants(subset, n_components)
        mixture = _from_labels(subset, labels, n_components, name, ridge, pooled=True)
    else:
        scaled = _standardised(subset)
        if start == "k-means":
            labels, _ = kmeans(scaled.X, n_components, rng, sample_weight=scaled.weights)
        else:
            seeds = kmeans_plus_plus(scaled.X, n_components, rng, sample_weight=scaled.weights)
            labels = _nearest(scaled.X, scaled.X[seeds])
        mixture = _from_labels(subset, labels, n_components, name, ridge)
    return mixture.reordered(np.lexsort(mixture.means.T[::-1]))


def refuse_unknown_start(start: object) -> None:
    """Raise for a name that is not that of a start."""
    if isinstance(start, str) and start not in STARTS:
        known = ", ".join(repr(s) for s in STARTS)
        raise ValueError(
            f"start: expected one of {known}, a Mixture or an array of means; got {shown(start)}"
        )


# ---------------------------------------------------------------- k-means


def kmeans(
    X: ArrayLike,
    n_clusters: int,
    random_state: RandomState = None,
    *,
    sample_weight: ArrayLike | None = None,
    max_iter: int = 100,
) -> tuple[IntArray, FloatArray]:
    """Lloyd's algorithm from the seeds of k-means++: the EM pass with hard assignments.

    Parameters
    ----------
    X : array (n, d)
    n_clusters : int
    random_state : int, Generator or None
    sample_weight : array (n,), optional
    max_iter : int
        Passes at most; it stops as soon as no row changes its cluster.

    Returns
    -------
    labels : array (n,) of int
    centres : array (K, d)
        The means of the clusters. A cluster that has lost all its rows takes the row that is
        farthest from its own centre.

    Examples
    --------
    >>> labels, centres = kmeans([[0.0], [1.0], [8.0], [9.0]], 2, random_state=0)
    >>> sorted(centres[:, 0].tolist())
    [0.5, 8.5]
    """
    rows = as_rows(X, sample_weight, min_rows=as_count(n_clusters, "n_clusters"))
    values = np.asarray(rows.X, dtype=np.float64)
    seeds = kmeans_plus_plus(values, n_clusters, random_state, sample_weight=rows.weights)
    centres = values[seeds]
    labels = np.full(rows.n_rows, -1)
    for _ in range(as_count(max_iter, "max_iter")):
        before, labels = labels, _nearest(values, centres)
        if (labels == before).all():
            break
        statistics = hard_step(values, labels, centres, "spherical", rows.weights)
        empty = np.flatnonzero(statistics.counts == 0)
        if len(empty):
            off_centre = ((values - centres[labels]) ** 2).sum(axis=1)
            labels[np.argsort(off_centre)[::-1][: len(empty)]] = empty
            statistics = hard_step(values, labels, centres, "spherical", rows.weights)
        filled = statistics.counts > 0
        centres = centres.copy()
        centres[filled] += statistics.first[filled] / statistics.counts[filled, None]
    return labels, centres


def hard_step(
    block: FloatArray,
    labels: IntArray,
    centres: FloatArray,
    kind: str,
    weights: FloatArray | None = None,
) -> Statistics:
    """Statistics of rows that belong to one component each: the E-step with hard assignments.

    Parameters
    ----------
    block : array (b, d)
    labels : array (b,) of int
        The component of each row; a row with the label −1 belongs to none.
    centres : array (K, d)
    kind : str
        full, tied, diag or spherical.
    weights : array (b,), optional
    """
    one_hot = (labels[:, None] == np.arange(len(centres))).astype(np.float64)
    return expected_statistics(block, one_hot, centres, kind, weights)


def kmeans_plus_plus(
    X: ArrayLike,
    n_clusters: int,
    random_state: RandomState = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> IntArray:
    """Seeds that lie far apart: k-means++ in its greedy form.

    Each seed is drawn with probability proportional to the squared distance to the nearest seed so
    far; of ``2 + log K`` candidates the one that lowers the sum of these distances most is kept.

    Parameters
    ----------
    X : array (n, d)
    n_clusters : int
    random_state : int, Generator or None
    sample_weight : array (n,), optional

    Returns
    -------
    array (K,) of int
        Positions of the seeds.
    """
    rows = as_rows(X, sample_weight, min_rows=as_count(n_clusters, "n_clusters"))
    values = np.asarray(rows.X, dtype=np.float64)
    weights = np.ones(rows.n_rows) if rows.weights is None else rows.weights
    rng = as_generator(random_state)
    n_candidates = 2 + int(np.log(n_clusters))
    seeds = [_drawn(weights, 1, rng)[0]]
    nearest = ((values - values[seeds[0]]) ** 2).sum(axis=1)
    for _ in range(1, n_clusters):
        candidates = _drawn(weights * nearest, n_candidates, rng)
        distances = _squared_distances(values, values[candidates])
        np.minimum(distances, nearest[:, None], out=distances)
        best = int((weights @ distances).argmin())
        nearest = distances[:, best]
        seeds.append(candidates[best])
    return np.array(seeds, dtype=np.int64)


def _drawn(weights: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Positions drawn with probability proportional to weights; any position if all are zero."""
    cumulative = np.cumsum(weights)
    if not cumulative[-1] > 0:
        return rng.integers(len(weights), size=size)
    draws = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    return cast(IntArray, np.minimum(draws, np.flatnonzero(weights)[-1]))


def _squared_distances(values: FloatArray, centres: FloatArray) -> FloatArray:
    distances = np.empty((len(values), len(centres)))
    for k, centre in enumerate(centres):
        residuals = values - centre
        np.einsum("ij,ij->i", residuals, residuals, out=distances[:, k])
    return distances


def _nearest(values: FloatArray, centres: FloatArray) -> IntArray:
    labels: IntArray = _squared_distances(values, centres).argmin(axis=1)
    return labels


# ---------------------------------------------------------------- from labels or means to a mixture


def _standardised(rows: Rows) -> Rows:
    """The rows with features of unit variance, so that units do not decide what is near."""
    deviations = np.sqrt(rows.variances)
    scaled = (np.asarray(rows.X, dtype=np.float64) - rows.mean) / np.where(
        deviations > 0, deviations, 1.0
    )
    return Rows(scaled, rows.weights)


def _from_labels(
    rows: Rows, labels: IntArray, n_components: int, family: str, ridge: float, pooled: bool = False
) -> Mixture:
    """The M-step from hard labels; covariances are pooled where a component has too few rows."""
    values = np.asarray(rows.X, dtype=np.float64)
    centres = np.broadcast_to(rows.mean, (n_components, rows.n_features))
    if not pooled:
        try:
            return m_step(
                hard_step(values, labels, centres, FAMILIES[family], rows.weights), family, ridge
            )
        except SingularCovarianceError:
            pass
    statistics = hard_step(values, labels, centres, "tied", rows.weights)
    filled = statistics.counts > 0
    if not filled.all():  # more components than distinct rows
        return _from_means(
            rows, _distinct_rows(rows, n_components, np.random.default_rng(0)), family, ridge
        )
    try:
        tied = m_step(statistics, "EEE", ridge)
    except SingularCovarianceError:
        return _from_means(rows, statistics.means(), family, ridge)
    return _in_family(tied.weights, tied.means, tied.covariances, family)


def _from_means(rows: Source, means: FloatArray, family: str, ridge: float) -> Mixture:
    """Equal weights, given means, and everywhere the covariance of the data."""
    k, d = means.shape
    covariance = rows.covariance + ridge * np.eye(d)
    weights = np.full(k, 1.0 / k)
    try:
        return _in_family(weights, means, np.broadcast_to(covariance, (k, d, d)), family)
    except SingularCovarianceError:
        raise SingularCovarianceError(
            f"X: the rows lie in a hyperplane of the {d}-dimensional space, so every covariance is "
            "singular; leave features out, take the family VVI or VII, or give a positive ridge"
        ) from None


def _in_family(
    weights: FloatArray, means: FloatArray, covariances: FloatArray, family: str
) -> Mixture:
    stored = restrict(covariances, family, weights)
    return Mixture.from_stored(weights, means, np.ascontiguousarray(stored), family)


def _given_mixture(start: Mixture, n_components: int, n_features: int, family: str) -> Mixture:
    if start.means.shape != (n_components, n_features):
        raise ValueError(
            f"start: expected a mixture of {n_components} components on {n_features} features, "
            f"got {start.n_components} components on {start.n_features} features"
        )
    if start.family == family:
        return start
    full = expand(start.stored, start.kind, n_components, n_features)
    return _in_family(start.weights, start.means, full, family)


def _given_means(start: ArrayLike, n_components: int, rows: Source) -> FloatArray:
    means = as_matrix(start, "start", n_features=rows.n_features).astype(np.float64)
    refuse_non_finite(means, "start")
    if len(means) != n_components:
        raise ValueError(f"start: expected {n_components} means, got {len(means)}")
    return means


def _distinct_rows(rows: Rows, size: int, rng: np.random.Generator) -> FloatArray:
    """Rows drawn at random, by weight; distinct as values if there are enough distinct ones."""
    weights = np.ones(rows.n_rows) if rows.weights is None else rows.weights
    order = np.argsort(rng.exponential(size=rows.n_rows) / weights)
    values = np.asarray(rows.X[order], dtype=np.float64)
    _, first = np.unique(values, axis=0, return_index=True)
    chosen = np.sort(first)[:size]
    if len(chosen) < size:
        raise SingularCovarianceError(
            f"X: expected at least {size} distinct rows, one for each component, got {len(chosen)}"
        )
    return values[chosen]


def _octants(rows: Rows, n_components: int) -> IntArray:
    """Labels by orthant about the mean, for the fullest orthants; other rows get −1."""
    if rows.n_features > 30:
        raise ValueError(
            f"start: 'octant' is for at most 30 features, got {rows.n_features}; take 'k-means'"
        )
    above = (np.asarray(rows.X, dtype=np.float64) > rows.mean).astype(np.int64)
    code = above @ (2 ** np.arange(rows.n_features))
    occupied, place = np.unique(code, return_inverse=True)
    if len(occupied) < n_components:
        raise ValueError(
            f"start: 'octant' found rows in {len(occupied)} orthants, expected at least "
            f"{n_components}, one for each component"
        )
    counts = np.bincount(place, weights=rows.weights)
    fullest = np.sort(np.argsort(-counts, kind="stable")[:n_components])
    rank = np.full(len(occupied), -1)
    rank[fullest] = np.arange(n_components)
    return rank[place]
