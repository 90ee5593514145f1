"""Starting points: where EM begins decides which of the likelihood's maxima it finds.

A start makes a :class:`~gmm.mixture.Mixture` from rows, either by way of means (the covariances are
then those of all the data) or by way of labels (:func:`gmm.e_step.hard_step` and the M-step then do
the rest).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm.agglomerative import hierarchy
from gmm.batch import Batch, Candidate, most_rows
from gmm.checks import (
    FARTHEST,
    FloatArray,
    IntArray,
    RandomState,
    SingularCovarianceError,
    as_count,
    as_generator,
    refuse_far,
    shown,
)
from gmm.e_step import expected_statistics, hard_step
from gmm.families import FAMILIES, expand, parse_family, restrict
from gmm.kmeans import given_means, kmeans
from gmm.m_step import m_step
from gmm.mixture import Mixture
from gmm.rows import Rows, Source, as_source

__all__ = ["STARTS", "starting_mixture"]

#: Rows that a start looks at: of more, a random subset is taken.
START_ROWS = 50_000
#: Rows that are merged: the time of an agglomerative start grows with their square.
MERGED_ROWS = 1000
#: Short runs, and the iterations of each.
SHORT_RUNS, SHORT_ITERATIONS = 10, 20


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
            Clusters of :func:`gmm.kmeans.kmeans` on features of unit variance, then an M-step.
        "k-means++"
            Each row belongs to the nearest of the seeds of :func:`gmm.kmeans.kmeans_plus_plus`, on
            the same features, then an M-step.
        "agglomerative"
            Clusters of :func:`gmm.agglomerative.agglomerative`, then an M-step. Of more than 1000
            rows a random subset is clustered.
        "short-runs"
            The best of ten runs of twenty iterations from "random".
        "random"
            The means are distinct rows drawn at random; weights are equal, and every covariance is
            that of the data.
        "random-responsibilities"
            Responsibilities are drawn uniformly and divided by their sum in each row, then an
            M-step. All components begin near the middle of the data.
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
        If the rows lie in a hyperplane and no ridge is given, or if every short run collapses.
    ValueError
        If the start is unknown or does not fit the data.

    Notes
    -----
    Of more than 50 000 rows, a named start looks at a random subset. It orders the components by
    the first coordinate of their means.

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> starting_mixture(X, 2, start="agglomerative").weights.round(2)
    array([0.35, 0.65])
    """
    rows = as_source(X, min_rows=as_count(n_components, "n_components"))
    name = parse_family(family)
    if isinstance(start, Mixture):
        mixture = _given_mixture(start, n_components, rows.n_features, name)
        _refuse_extreme(mixture, rows, ridge)
        return mixture
    if not isinstance(start, str):
        means = given_means(start, n_components, rows.n_features, rows)
        return _from_means(rows, means, name, ridge)
    refuse_unknown_start(start)
    rng = as_generator(random_state)
    subset = rows.sample(max(START_ROWS, n_components), rng)
    mixture = _STARTS[start](subset, n_components, name, ridge, rng)
    return mixture.reordered(np.lexsort(mixture.means.T[::-1]))


def refuse_unknown_start(start: object) -> None:
    """Raise for a name that is not that of a start."""
    if isinstance(start, str) and start not in STARTS:
        known = ", ".join(repr(s) for s in STARTS)
        raise ValueError(
            f"start: expected one of {known}, a Mixture or an array of means; got {shown(start)}"
        )


# ---------------------------------------------------------------- the starts by name


def _by_kmeans(
    rows: Rows, k: int, family: str, ridge: float, rng: np.random.Generator, passes: int = 100
) -> Mixture:
    labels, _ = kmeans(rows.standardised(), k, rng, max_iter=passes)
    return _from_labels(rows, labels, k, family, ridge)


def _by_seeds(rows: Rows, k: int, family: str, ridge: float, rng: np.random.Generator) -> Mixture:
    return _by_kmeans(rows, k, family, ridge, rng, passes=1)


def _at_random(rows: Rows, k: int, family: str, ridge: float, rng: np.random.Generator) -> Mixture:
    return _from_means(rows, _distinct_rows(rows, k, rng, ridge), family, ridge)


def _by_random_responsibilities(
    rows: Rows, k: int, family: str, ridge: float, rng: np.random.Generator
) -> Mixture:
    shares = rng.random((rows.n_rows, k))
    shares /= shares.sum(axis=1, keepdims=True)
    values = np.asarray(rows.X, dtype=np.float64)
    centres = np.broadcast_to(rows.mean, (k, rows.n_features))
    statistics = expected_statistics(values, shares, centres, FAMILIES[family], rows.weights)
    return m_step(statistics, family, ridge)


def _by_octants(rows: Rows, k: int, family: str, ridge: float, rng: np.random.Generator) -> Mixture:
    return _from_labels(rows, _octants(rows, k), k, family, ridge, pooled=True)


def _by_merging(rows: Rows, k: int, family: str, ridge: float, rng: np.random.Generator) -> Mixture:
    subset = rows.sample(max(MERGED_ROWS, k), rng)
    levels = hierarchy(subset, k)
    if k not in levels:  # fewer distinct rows than components
        return _at_random(rows, k, family, ridge, rng)
    return _from_labels(subset, levels[k], k, family, ridge)


def _by_short_runs(
    rows: Rows, k: int, family: str, ridge: float, rng: np.random.Generator
) -> Mixture:
    subset = rows.sample(max(most_rows(rows.n_features), k), rng)
    batch = Batch(subset, ridge)
    drawn = (_at_random(subset, k, family, ridge, rng) for _ in range(SHORT_RUNS))
    candidates = [Candidate(family, batch.moments(batch.shares(each))) for each in drawn]
    outcomes = batch.run(candidates, 0.0, SHORT_ITERATIONS)
    sound = [outcome for outcome in outcomes if outcome.parameters is not None]
    if not sound:
        raise SingularCovarianceError(
            f"start: in each of {SHORT_RUNS} short runs a component has collapsed onto a few rows; "
            "give fewer components or a positive ridge, or take 'k-means'"
        )
    return max(sound, key=lambda outcome: outcome.log_likelihood).mixture


#: What makes a mixture of rows: their number of components, family, ridge and a generator.
Start = Callable[[Rows, int, str, float, np.random.Generator], Mixture]

_STARTS: dict[str, Start] = {
    "k-means": _by_kmeans,
    "k-means++": _by_seeds,
    "agglomerative": _by_merging,
    "short-runs": _by_short_runs,
    "random": _at_random,
    "random-responsibilities": _by_random_responsibilities,
    "octant": _by_octants,
}
#: The names of the starts.
STARTS = tuple(_STARTS)


# ---------------------------------------------------------------- from labels or means to a mixture


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
        means = _distinct_rows(rows, n_components, np.random.default_rng(0), ridge)
        return _from_means(rows, means, family, ridge)
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


def _refuse_extreme(mixture: Mixture, rows: Source, ridge: float) -> None:
    """Raise for a mixture that is so far from rows, so wide or narrow, that squares overflow."""
    survey = rows.survey
    refuse_far(mixture.means, survey.least, survey.greatest, "start")
    ranges = survey.greatest - survey.least
    units = np.where(ranges > 0, ranges, np.sqrt(mixture.variances.max(axis=0)))
    ratios = np.sqrt(mixture.variances) / units
    if not (ratios.min() >= 1 / FARTHEST and ratios.max() <= FARTHEST):
        raise ValueError(
            f"start: expected deviations from {1 / FARTHEST:.0e} to {FARTHEST:.0e} times the range "
            f"of the rows, got {ratios.min():.3g} to {ratios.max():.3g} times"
        )


def _distinct_rows(
    rows: Rows, size: int, rng: np.random.Generator, ridge: float = 0.0
) -> FloatArray:
    """Rows drawn at random, by weight, distinct as values.

    If there are too few of them, some are taken more than once: with a ridge, components that are
    equal share their rows.
    """
    weights = np.ones(rows.n_rows) if rows.weights is None else rows.weights
    order = np.argsort(rng.exponential(size=rows.n_rows) / weights)
    values = np.asarray(rows.X[order], dtype=np.float64)
    _, first = np.unique(values, axis=0, return_index=True)
    chosen = np.sort(first)[:size]
    if len(chosen) < size and ridge:
        chosen = np.resize(chosen, size)
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
