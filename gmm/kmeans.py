"""k-means and classification EM: hard assignments (:prf:ref:`thm-lloyd`), and seeds for them.

Like the pass of EM, that of k-means is two matrix products, in blocks that stay in cache; most rows
keep their cluster without another look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from math import frexp
from operator import add
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm import threads
from gmm.checks import (
    EPS,
    FloatArray,
    IntArray,
    RandomState,
    as_count,
    as_generator,
    as_matrix,
    refuse_far,
    refuse_non_finite,
)
from gmm.e_step import hard_step
from gmm.m_step import Held, m_step
from gmm.mixture import Mixture
from gmm.rows import Rows, Source, as_rows
from gmm.statistics import Statistics
from gmm.sweep import ROW_MEMORY, SHORTEST

__all__ = [
    "Classification",
    "classification_em",
    "drawn_partitions",
    "kmeans",
    "kmeans_plus_plus",
]

#: Rounding errors may be this part of what they are compared with.
FAINT = 1e-6
#: The error of a distance by expanded squares, in roots of a rounding unit times the radius.
ROUNDING = 16.0

#: Multiplications for a row from which it pays to know which rows to look at.
MANY_PRODUCTS = 200
#: Multiplications in a pass from which threads pay.
SHARED = 5_000_000
#: Numbers in a block and its exponents together, so that they stay in cache; and its rows, at most.
ROOM, LONGEST = 2**18, 16_384
#: Half the square of a distance beyond all others; a power of two.
FAR = 2.0**500


Result = TypeVar("Result")


def kmeans(
    X: ArrayLike | Source,
    n_clusters: int,
    random_state: RandomState = None,
    *,
    start: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    max_iter: int = 100,
) -> tuple[IntArray, FloatArray]:
    """Lloyd's algorithm: the EM pass with hard assignments (:eq:`eq-sum-of-squares`).

    Parameters
    ----------
    X : array (n, d)
    n_clusters : int
    random_state : int, Generator or None
        For the seeds.
    start : array (K, d), optional
        Centres to begin with; by default the seeds of :func:`kmeans_plus_plus`.
    sample_weight : array (n,), optional
    max_iter : int
        Passes at most; it stops as soon as the centres stay where they are.

    Returns
    -------
    labels : array (n,) of int
        The nearest of the centres that the last pass began with; of equally near ones, the first.
    centres : array (K, d)
        The means of the clusters. A cluster that has lost all its rows takes the row that is
        farthest from its own centre.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said. The message names it.

    Notes
    -----
    With equal weights and unit variances the exponents of the spherical kind are −‖x − c‖²/2: one
    matrix product, and the sums over clusters are another (:prf:ref:`thm-two-products`). Where
    centres are so close that the expanded square might not tell them apart
    (:eq:`eq-cancellation`), residuals are squared. By the triangle inequality most rows keep their
    cluster without another look; the result is that of looking at all (Hamerly 2010).

    Examples
    --------
    >>> labels, centres = kmeans([[0.0], [1.0], [8.0], [9.0]], 2, random_state=0)
    >>> sorted(centres[:, 0].tolist())
    [0.5, 8.5]
    """
    k = as_count(n_clusters, "n_clusters")
    passes = as_count(max_iter, "max_iter")
    cloud = _Cloud(as_rows(X, sample_weight, min_rows=k), k)
    if start is None:
        centres = cloud.points(_seeds(cloud, k, as_generator(random_state)))
    else:
        centres = cloud.in_units(given_means(start, k, cloud.rows.n_features, cloud.rows))
    labels, centres = _lloyd(cloud, centres, passes)
    return labels, centres * cloud.unit + cloud.centre


def kmeans_plus_plus(
    X: ArrayLike | Source,
    n_clusters: int,
    random_state: RandomState = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> IntArray:
    """Seeds that lie far apart: k-means++ in its greedy form (:prf:ref:`alg-kmeanspp`).

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
    k = as_count(n_clusters, "n_clusters")
    return _seeds(_Cloud(as_rows(X, sample_weight, min_rows=k), k), k, as_generator(random_state))


def drawn_partitions(
    rows: Rows, most: int, n_draws: int, rng: np.random.Generator, passes: int = 1
) -> dict[int, IntArray]:
    """Clusters about draws of seeds, for each number of clusters up to ``most``, all at once.

    The first K seeds of a draw of more are a draw of K, so that each draw serves all numbers of
    clusters. It is for some thousands of rows, whose distances fit into memory.

    Parameters
    ----------
    rows : Rows
    most : int
    n_draws : int
    rng : Generator
    passes : int
        Passes of Lloyd's algorithm.

    Returns
    -------
    dict
        For each K the labels ``(n_draws, n)`` of the partitions.
    """
    X = np.asarray(rows.X, dtype=np.float64) - rows.mean
    weights = np.ones(rows.n_rows) if rows.weights is None else rows.weights
    halves = 0.5 * np.einsum("ij,ij->i", X, X)
    draw, n_candidates = np.arange(n_draws), 2 + int(np.log(most))
    nearness = np.full((n_draws, len(X)), np.inf)  # half the squared distance to the nearest seed
    labels = np.zeros((n_draws, len(X)), dtype=np.int64)
    partitions = {}
    for k in range(most):
        density = weights * (nearness if k else 1.0) * np.ones((n_draws, 1))
        sums = np.cumsum(density, axis=1)
        targets = rng.random((n_draws, n_candidates)) * sums[:, -1:]
        candidates = (sums[:, None, :] <= targets[:, :, None]).sum(axis=2)  # (D, L)
        candidates = np.minimum(candidates, len(X) - 1)
        distances = halves + halves[candidates][:, :, None] - X[candidates] @ X.T
        np.maximum(distances, 0.0, out=distances)
        reached = np.minimum(distances, nearness[:, None, :])
        best = (reached @ weights).argmin(axis=1)
        labels = np.where(distances[draw, best] < nearness, k, labels)
        nearness = reached[draw, best]
        partitions[k + 1] = labels
    for k in range(2, most + 1):
        for _ in range(passes):
            marks = (partitions[k][:, None, :] == np.arange(k)[:, None]) * weights  # (D, K, n)
            counts = marks.sum(axis=2, keepdims=True)
            centres = marks @ X / np.where(counts > 0, counts, 1.0)
            exponents = centres @ X.T - 0.5 * (centres**2).sum(axis=2, keepdims=True)
            exponents[counts[:, :, 0] == 0] = -np.inf
            partitions[k] = exponents.argmax(axis=1)
    return partitions


def given_means(start: ArrayLike, n_components: int, n_features: int, rows: Source) -> FloatArray:
    """Means that a caller has given, validated, shape ``(K, d)``."""
    means = as_matrix(start, "start", n_features=n_features).astype(np.float64)
    refuse_non_finite(means, "start")
    if len(means) != n_components:
        raise ValueError(f"start: expected {n_components} means, got {len(means)}")
    refuse_far(means, rows.survey.least, rows.survey.greatest, "start")
    return means


class Classification(NamedTuple):
    """A mixture with the partition that it was made from; from :func:`classification_em`.

    Parameters
    ----------
    mixture : Mixture
        The parameters that the M-step makes of the labels.
    labels : array (n,) of int
        The component to which each row belongs.
    objective : array (m,)
        The classification likelihood of the start and after each iteration, with the labels that
        are best for the parameters.
    """

    mixture: Mixture
    labels: IntArray
    objective: FloatArray


def classification_em(
    X: ArrayLike,
    start: Mixture,
    *,
    equal_weights: bool = False,
    sample_weight: ArrayLike | None = None,
    max_iter: int = 1000,
) -> Classification:
    """EM that gives each row to its most probable component alone (:prf:ref:`alg-cem`).

    Parameters
    ----------
    X : array (n, d)
    start : Mixture
        Where it begins; its family is kept.
    equal_weights : bool
        Whether all weights stay 1/K, those of the start included.
    sample_weight : array (n,), optional
        A row of weight zero counts as absent.
    max_iter : int
        Iterations at most; it stops as soon as no row changes its component.

    Returns
    -------
    Classification

    Raises
    ------
    EmptyComponentError
        If a component has lost all its rows.
    SingularCovarianceError
        If the rows of a component lie in a hyperplane.
    ValueError, TypeError
        If another argument is not as said. The message names it.

    Notes
    -----
    It maximises :eq:`eq-classification-objective`, which never falls (:prf:ref:`thm-cem`), and not
    the likelihood: with any number of rows it misses the parameters that they were drawn from
    (:prf:ref:`thm-hard-bias`). With equal weights and the family EII it is :func:`kmeans`
    (:prf:ref:`prop-cem-kmeans`).

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> soft = gmm.fit(X, 2, random_state=0).mixture
    >>> classification_em(X, soft).mixture.weights.round(3)
    array([0.357, 0.643])
    """
    passes = as_count(max_iter, "max_iter")
    if not isinstance(start, Mixture):
        raise TypeError(f"start: expected a Mixture, got {type(start).__name__}")
    rows = as_rows(X, sample_weight, n_features=start.n_features, min_rows=start.n_components)
    mixture, held = start, None
    if equal_weights:
        shares = np.full(start.n_components, 1.0 / start.n_components)
        mixture = Mixture.from_stored(shares, start.means, start.stored, start.family)
        held = Held(mixture, frozenset({"weights"}))
    labels, statistics = _classified(rows, mixture)
    objective = [statistics.log_likelihood]
    for _ in range(passes):
        mixture = m_step(statistics, mixture.family, previous=mixture, held=held)
        before = labels
        labels, statistics = _classified(rows, mixture)
        objective.append(statistics.log_likelihood)
        if np.array_equal(before, labels):
            break
    return Classification(mixture, labels, np.array(objective))


def _classified(rows: Rows, mixture: Mixture) -> tuple[IntArray, Statistics]:
    """The likeliest component of each row, and the statistics of the rows of each component.

    What the statistics hold as their log-likelihood is that of the rows with these labels.
    """
    labels, parts = [], []
    for block, weights in rows:
        joint = mixture.log_joint(block)
        labels.append(joint.argmax(axis=1))
        greatest = joint.max(axis=1)
        value = float(greatest.sum() if weights is None else weights @ greatest)
        part = hard_step(block, labels[-1], mixture.means, mixture.kind, weights)
        parts.append(replace(part, log_likelihood=value))
    return np.concatenate(labels), reduce(add, parts)


class _Cloud:
    """Rows about their mean, in blocks that stay in cache, and room to work on them.

    A block is T = (1, x, ‖x‖²), features-major. Its product with (−‖c‖²/2, c, −1/2) is
    −‖x − c‖²/2, and a product of shares with it gives the sums over clusters.
    """

    def __init__(self, rows: Rows, n_clusters: int) -> None:
        self.rows = rows
        self.centre = rows.mean
        survey = rows.survey
        reach = np.maximum(survey.greatest - self.centre, self.centre - survey.least)
        #: A power of two, where squares of the rows would become too great or too small.
        self.unit = _unit(float(reach.max()))
        reach /= self.unit
        self.squared_radius = float(reach @ reach)
        n, self.size = rows.n_rows, rows.n_features + 2
        length = min(n, LONGEST, max(SHORTEST, ROOM // (n_clusters + self.size)))
        self.parts = [slice(i, min(i + length, n)) for i in range(0, n, length)]
        self.products = n_clusters * self.size
        self.rooms: dict[int, _Room] = {}
        self.kept: list[FloatArray] = []
        if n * self.size * 8 <= ROW_MEMORY:
            self.kept = [
                self.block(rows.X[p], np.empty((self.size, p.stop - p.start))) for p in self.parts
            ]

    def points(self, which: slice | IntArray) -> FloatArray:
        """Some of the rows, about the centre."""
        return self.in_units(np.asarray(self.rows.X[which], dtype=np.float64))

    def in_units(self, points: FloatArray) -> FloatArray:
        """Points about the centre."""
        return (points - self.centre) / self.unit

    def radius_with(self, points: FloatArray) -> float:
        """No row and none of some points is farther from the centre than this, squared."""
        return max(self.squared_radius, float((points**2).sum(axis=1).max()))

    def tells_apart(self, points: FloatArray) -> bool:
        """Whether expanded squares place the borders between all these points well."""
        i, j = np.triu_indices(len(points), 1)
        squares = ((points[i] - points[j]) ** 2).sum(axis=1)
        return EPS * self.radius_with(points) < FAINT * float(squares.min(initial=np.inf))

    def weights(self, part: slice) -> FloatArray | None:
        """Weights of a block's rows."""
        return None if self.rows.weights is None else self.rows.weights[part]

    def block(self, X: NDArray[Any], out: FloatArray) -> FloatArray:
        """T of rows, shape ``(d + 2, b)``."""
        out[0] = 1.0
        np.subtract(X.T, self.centre[:, None], out=out[1:-1])
        if self.unit != 1.0:
            out[1:-1] /= self.unit
        np.einsum("ij,ij->j", out[1:-1], out[1:-1], out=out[-1])
        return out

    def run(
        self, work: Callable[[slice, FloatArray, _Room], Result], n_points: int
    ) -> list[Result]:
        """The results of ``work(part, block, room)`` for all blocks, in their order."""

        def task(worker: int, i: int) -> Result:
            room = self.rooms.get(worker)
            if room is None or len(room.exponents) < n_points:
                room = self.rooms[worker] = _Room(self, n_points)
            part = self.parts[i]
            if self.kept:
                return work(part, self.kept[i], room)
            X = self.rows.X[part]
            return work(part, self.block(X, room.features[:, : len(X)]), room)

        if self.rows.n_rows * self.products < SHARED:
            return [task(0, i) for i in range(len(self.parts))]
        with threads.one_blas_thread():
            return threads.run(len(self.parts), task)


def _unit(radius: float) -> float:
    """One, for rows that reach so far; a power of two of their size, if they are extreme."""
    if radius == 0 or 1e-40 < radius < 1e40:
        return 1.0
    return 2.0 ** frexp(radius)[1]


class _Room:
    """One worker's room for a block and its exponents: new memory costs more than work in old."""

    def __init__(self, cloud: _Cloud, n_points: int) -> None:
        length = cloud.parts[0].stop
        self.features = np.empty((cloud.size, length))
        self.exponents = np.empty((n_points, length))
        self.nearest = np.empty((n_points, length), dtype=np.bool_)
        self.marks = np.empty((n_points, length))

    def exponents_of(
        self, block: FloatArray, points: FloatArray, expanded: bool, out: FloatArray | None = None
    ) -> FloatArray:
        """−‖x − c‖²/2 of a block and points, shape ``(K, b)``: expanded, or by residuals."""
        k, d = points.shape
        out = self.exponents[:k, : block.shape[1]] if out is None else out
        if expanded:
            theta = np.full((k, d + 2), -0.5)
            theta[:, 0] *= (points**2).sum(axis=1)
            theta[:, 1:-1] = points
            return np.matmul(theta, block, out=out)
        for point, exponents in zip(points, out, strict=True):
            residuals = block[1:-1] - point[:, None]
            np.einsum("ij,ij->j", residuals, residuals, out=exponents)
        out *= -0.5
        return out

    def marks_of(self, exponents: FloatArray, greatest: FloatArray) -> FloatArray:
        """FAR at the nearest point, else zero, ``(K, b)``; of equally near ones, the first."""
        k, b = exponents.shape
        nearest = np.equal(exponents, greatest, out=self.nearest[:k, :b])
        if np.count_nonzero(nearest) > b:
            nearest &= np.cumsum(nearest, axis=0) == 1
        return np.multiply(nearest, FAR, out=self.marks[:k, :b])


def _lloyd(cloud: _Cloud, centres: FloatArray, max_iter: int = 100) -> tuple[IntArray, FloatArray]:
    """Labels and centres, the latter about the cloud's."""
    clusters = (_SureRows if cloud.products > MANY_PRODUCTS else _Clusters)(cloud, len(centres))
    for _ in range(max_iter):
        clusters.assign(centres)
        before, centres = centres, clusters.means(centres)
        if not clusters.move(centres - before):
            break
    return clusters.labels(before), centres


class _Clusters:
    """The sums over clusters, from a look at every row in every pass."""

    def __init__(self, cloud: _Cloud, n_clusters: int) -> None:
        self.cloud = cloud
        self.numbers = np.arange(n_clusters) / FAR
        self.sums = np.zeros((n_clusters, cloud.size))

    def assign(self, centres: FloatArray) -> None:
        """Give every row to its nearest centre, and add up the rows of each."""
        expanded = self.cloud.tells_apart(centres)

        def of_block(part: slice, block: FloatArray, room: _Room) -> FloatArray:
            exponents = room.exponents_of(block, centres, expanded)
            marks = room.marks_of(exponents, exponents.max(axis=0))
            weights = self.cloud.weights(part)
            if weights is not None:
                marks *= weights
            sums: FloatArray = np.dot(marks, block.T)
            return sums

        self.sums = sum(self.cloud.run(of_block, len(centres)), np.zeros_like(self.sums)) / FAR

    def labels(self, centres: FloatArray) -> IntArray:
        """The nearest centre of each row; of equally near ones, the first."""
        expanded = self.cloud.tells_apart(centres)

        def of_block(_: slice, block: FloatArray, room: _Room) -> FloatArray:
            exponents = room.exponents_of(block, centres, expanded)
            numbers: FloatArray = self.numbers @ room.marks_of(exponents, exponents.max(axis=0))
            return numbers

        return np.concatenate(self.cloud.run(of_block, len(centres))).astype(np.int64)

    def means(self, centres: FloatArray) -> FloatArray:
        """The means of the clusters; of empty ones, the rows that are farthest from a centre."""
        counts = self.sums[:, 0]
        empty = counts == 0
        means = self.sums[:, 1:-1] / np.where(empty, 1.0, counts)[:, None]
        if empty.any():
            residuals = self.cloud.points(slice(None)) - centres[self.labels(centres)]
            order = np.argsort(-(residuals**2).sum(axis=1), kind="stable")
            means[empty] = self.cloud.points(order[: np.count_nonzero(empty)])
        return means

    def move(self, steps: FloatArray) -> bool:
        """Let the centres move by steps ``(K, d)``; whether any does."""
        return bool(steps.any())


class _SureRows(_Clusters):
    """The sums over clusters, from a look at those rows alone that may have changed theirs.

    A row is nearer to its own centre than to any other by ``lead`` at least. When centres move,
    the lead shrinks by no more than its own centre moves, and the one that moves farthest: only
    rows without a lead need another look.
    """

    def __init__(self, cloud: _Cloud, n_clusters: int) -> None:
        super().__init__(cloud, n_clusters)
        self.known = np.full(cloud.rows.n_rows, -1)
        self.lead = np.full(cloud.rows.n_rows, -np.inf)

    def assign(self, centres: FloatArray) -> None:
        """Give every row to its nearest centre, and let its weight follow."""
        expanded = self.cloud.tells_apart(centres)
        margin = ROUNDING * np.sqrt(EPS * self.cloud.radius_with(centres))

        def of_block(part: slice, block: FloatArray, room: _Room) -> FloatArray:
            known, lead = self.known[part], self.lead[part]
            which: slice | IntArray = slice(None)
            unsure = np.flatnonzero(lead < margin)
            if 2 * len(unsure) < len(known):  # else to look at all takes less time than to choose
                block, which = block.take(unsure, axis=1), unsure
            exponents = room.exponents_of(block, centres, expanded)
            greatest = exponents.max(axis=0)
            marks = room.marks_of(exponents, greatest)
            now = (self.numbers @ marks).astype(np.int64)
            exponents -= marks
            lead[which] = _distances(exponents.max(axis=0)) - _distances(greatest)
            before = known[which]
            changed = np.flatnonzero(now != before)
            change = self._shares(now[changed]) - self._shares(before[changed])
            known[which] = now
            weights = self.cloud.weights(part)
            if weights is not None:
                change *= weights[which][changed]
            sums: FloatArray = np.dot(change, block.take(changed, axis=1).T)
            return sums

        self.sums = sum(self.cloud.run(of_block, len(centres)), self.sums)
        if self.sums[:, 0].min() < FAINT * self.cloud.rows.total_weight:
            super().assign(centres)  # of what was added and taken away, only errors may be left

    def _shares(self, labels: IntArray) -> FloatArray:
        return np.equal.outer(self.numbers * FAR, labels).astype(np.float64)

    def labels(self, centres: FloatArray) -> IntArray:
        """The nearest centre of each row; of equally near ones, the first."""
        return self.known

    def move(self, steps: FloatArray) -> bool:
        """Let the centres move by steps ``(K, d)``; whether any does."""
        lengths = np.sqrt((steps**2).sum(axis=1))
        self.lead -= (lengths + lengths.max()).take(self.known)
        return super().move(steps)


def _distances(exponents: FloatArray) -> FloatArray:
    """Distances from −½ of their squares; of rounding errors about zero, zero."""
    return np.sqrt(np.maximum(-2.0 * exponents, 0.0))


class _Seeding:
    """How near each row is to the nearest of the seeds so far: minus half the squared distance."""

    def __init__(self, cloud: _Cloud, expanded: bool = True) -> None:
        self.cloud = cloud
        self.expanded = expanded
        self.nearness = np.full(cloud.rows.n_rows, -np.inf)

    def with_one_more(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What the nearness would be with one more seed, for each of some points, and its sum.

        Parameters
        ----------
        points : array (L, d)

        Returns
        -------
        nearness : array (L, n)
            But for rounding errors, at most zero.
        sums : array (L,)
            Over all rows, weighted.
        """
        trials = np.empty((len(points), len(self.nearness)))

        def of_block(part: slice, block: FloatArray, room: _Room) -> FloatArray:
            mine = room.exponents_of(block, points, self.expanded, out=trials[:, part])
            np.maximum(mine, self.nearness[part], out=mine)
            weights = self.cloud.weights(part)
            sums: FloatArray = mine.sum(axis=1) if weights is None else np.dot(mine, weights)
            return sums

        sums = self.cloud.run(of_block, len(points))
        return trials, np.sum(sums, axis=0)

    def add_best(self, points: FloatArray) -> int:
        """Make a seed of the one of some points that brings the rows nearest; its position."""
        trials, sums = self.with_one_more(points)
        best = int(sums.argmax())
        self.nearness = np.minimum(trials[best], 0.0)
        return best

    @property
    def is_exact(self) -> bool:
        """Whether the distances are larger, in the mean, than their rounding errors."""
        return not self.expanded or EPS * self.cloud.squared_radius < -FAINT * self.nearness.mean()


def _seeds(cloud: _Cloud, n_clusters: int, rng: np.random.Generator) -> IntArray:
    """Positions of the seeds of greedy k-means++ (:prf:ref:`alg-kmeanspp`)."""
    weights = cloud.rows.weights
    n_candidates = 2 + int(np.log(n_clusters))
    seeding = _Seeding(cloud)
    seeds = _drawn(np.ones(cloud.rows.n_rows) if weights is None else weights, 1, rng)
    seeding.add_best(cloud.points(seeds))
    for _ in range(1, n_clusters):
        if not seeding.is_exact:
            seeding = _Seeding(cloud, expanded=False)
            for seed in seeds[:, None]:
                seeding.add_best(cloud.points(seed))
        distances = -seeding.nearness
        candidates = _drawn(
            distances if weights is None else weights * distances, n_candidates, rng
        )
        best = seeding.add_best(cloud.points(candidates))
        seeds = np.append(seeds, candidates[best])
    return seeds


def _drawn(weights: FloatArray, size: int, rng: np.random.Generator) -> IntArray:
    """Positions drawn with probability proportional to weights; any position if all are zero."""
    cumulative = np.cumsum(weights)
    if not cumulative[-1] > 0:
        return rng.integers(len(weights), size=size)
    draws = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    return cast(IntArray, np.minimum(draws, np.flatnonzero(weights)[-1]))
