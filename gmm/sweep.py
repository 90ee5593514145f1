"""One pass over all rows: the E-step, block by block, in the form that is fast and exact enough.

A :class:`Sweep` is made once for a fit. Calling it with a mixture gives the expected statistics of
all rows. It takes the natural-parameter form of :mod:`gmm.natural` where that form's error bound
allows (:eq:`eq-cancellation`), and centred residuals elsewhere. Rows are dealt with in
blocks that stay in cache, blocks in groups that threads may share; groups are added in their order,
so that a result does not depend on the number of threads, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce, singledispatch
from itertools import pairwise
from math import ceil, prod
from operator import add
from typing import TypeVar

import numpy as np

from gmm import threads
from gmm.cached import cached_property
from gmm.checks import FloatArray
from gmm.e_step import e_step
from gmm.mixture import Mixture
from gmm.natural import (
    LOG_2,
    MANY_FEATURES,
    TOLERANCE,
    cancellation,
    features,
    natural_parameters,
    statistics_size,
    unpacked,
)
from gmm.normal import LOG_2PI
from gmm.residual import Narrow, Residuals
from gmm.rows import Rows, Source
from gmm.statistics import Statistics

__all__ = ["ChunkSweep", "Frame", "Sweep", "sweep_of"]

Result = TypeVar("Result")

#: Multiplications in one matrix product of a block: OpenBLAS does smaller ones without packing.
PRODUCT = 1_000_000
#: Rows in a block, at least and at most.
SHORTEST, LONGEST, LONGEST_SHARED = 64, 8192, 32_768
#: Responsibilities (rows times components) from which threads pay.
SHARED = 200_000
#: Groups of blocks: no more threads than this can be of use.
GROUPS = 64
#: Rows in a block of residuals.
RESIDUAL_ROWS = 2048
#: Memory for prepared features and for centred rows, in bytes.
FEATURE_MEMORY, ROW_MEMORY = 12_000_000, 32_000_000
#: Exponents below this many powers of two are raised to it: smaller powers are slow, and nothing.
LOWEST = -1000.0
#: Every so many passes blocks are looked through for such exponents.
LOOK = 16


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the rows lie: the same for all chunks of them, so that their statistics add.

    Parameters
    ----------
    centre : array (d,)
    scales : array (d,)
        Units in which the features are of comparable size.
    reach : array (d,)
        No row is farther than this from the centre in any feature.
    """

    centre: FloatArray
    scales: FloatArray
    reach: FloatArray

    @property
    def squared_radius(self) -> float:
        """No row is farther than this from the centre, squared, in units of the scales."""
        return float(((self.reach / self.scales) ** 2).sum())

    @classmethod
    def of(cls, rows: Source) -> Frame:
        """The frame of all rows, from their survey."""
        survey = rows.survey
        scales = np.sqrt(rows.variances)
        scales[~(scales > 0)] = 1.0
        reach = np.maximum(survey.greatest - survey.mean, survey.mean - survey.least)
        return cls(survey.mean, scales, reach)


class Workspace:
    """Memory that is used for block after block: new memory costs more than the work in it."""

    def __init__(self) -> None:
        self.buffers: dict[str, FloatArray] = {}

    def array(self, name: str, *shape: int) -> FloatArray:
        """An array of this shape, of any content, in the memory of this name."""
        size = prod(shape)
        buffer = self.buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self.buffers[name] = np.empty(size)
        return buffer[:size].reshape(shape)


@dataclass
class Notes:
    """What passes over some rows have told of their blocks."""

    passes: int = 0
    #: For the first row of a block, whether it had exponents that are slow.
    small: dict[int, bool] = field(default_factory=dict)


class ChunkSweep:
    """The E-step of rows that arrive in blocks: one :class:`Sweep` for each, added in order.

    Parameters
    ----------
    rows : Source
    n_components : int
    kind : str
    """

    def __init__(self, rows: Source, n_components: int, kind: str) -> None:
        self.rows = rows
        self.n_components = n_components
        self.kind = kind
        self.frame = Frame.of(rows)
        self.centre, self.scales = self.frame.centre, self.frame.scales
        self.workspaces: dict[int, Workspace] = {}

    def __call__(self, mixture: Mixture) -> Statistics:
        """Expected statistics of all rows, and their log-likelihood, under a mixture."""
        return _added(
            Sweep(
                Rows(block, weights),
                self.n_components,
                self.kind,
                self.frame,
                once=True,
                workspaces=self.workspaces,
            )(mixture)
            for block, weights in self.rows
        )


class Sweep:
    """The E-step of all rows as a function of the mixture.

    Parameters
    ----------
    rows : Rows
    n_components : int
    kind : str
        full, tied, diag or spherical.
    frame : Frame, optional
        By default that of these rows; chunks of more rows share one.
    n_threads : int, optional
        By default :func:`gmm.threads.number`. The result does not depend on it.
    once : bool
        Whether there will be one pass only, so that nothing is worth keeping.
    workspaces : dict of int to Workspace, optional
        One for each thread, from an earlier sweep that is over.
    notes : Notes, optional
        From an earlier sweep of the same rows.
    """

    def __init__(
        self,
        rows: Rows,
        n_components: int,
        kind: str,
        frame: Frame | None = None,
        n_threads: int | None = None,
        *,
        once: bool = False,
        workspaces: dict[int, Workspace] | None = None,
        notes: Notes | None = None,
    ) -> None:
        self.rows = rows
        self.n_threads = n_threads
        self.kind = kind
        frame = Frame.of(rows) if frame is None else frame
        self.centre, self.scales = frame.centre, frame.scales
        self.reach = frame.reach
        self.squared_radius = frame.squared_radius
        self.centres = np.broadcast_to(self.centre, (n_components, rows.n_features))
        n, d, k = rows.n_rows, rows.n_features, n_components
        self.size = statistics_size(kind, d)
        self.shared = n * k >= SHARED
        longest = LONGEST_SHARED if self.shared else LONGEST
        self.parts = _parts(n, min(longest, max(SHORTEST, PRODUCT // (k * self.size))))
        self.workspaces = {} if workspaces is None else workspaces
        self.kept_features: dict[int, FloatArray] = {}
        self.kept_rows: FloatArray | None = None
        self.notes = Notes() if notes is None else notes
        self._prepare(once)

    def _prepare(self, once: bool) -> None:
        """Keep what of the rows can be kept."""
        n, d = self.rows.n_rows, self.rows.n_features
        keep_features = not once and n * self.size * 8 <= FEATURE_MEMORY
        if not (once or keep_features) and n * d * 8 <= ROW_MEMORY:
            self.kept_rows = np.empty((d, n))
        total = np.zeros((d, d))
        if not (keep_features or self.kept_rows is not None or self.kind == "tied"):
            return
        for part in self.parts:
            centred = self.rows.X[part].T - self.centre[:, None]  # (d, b)
            if keep_features:
                out = np.empty((self.size, centred.shape[1]))
                self.kept_features[part.start] = features(centred, self.kind, out)
            elif self.kept_rows is not None:
                self.kept_rows[:, part] = centred
            if self.kind == "tied":
                weights = None if self.rows.weights is None else self.rows.weights[part]
                total += (centred if weights is None else centred * weights) @ centred.T
        self.total_scatter = total

    def __call__(self, mixture: Mixture) -> Statistics:
        """Expected statistics of all rows, and their log-likelihood, under a mixture."""
        self.notes.passes += 1
        if self.kind == "full" and self.rows.n_features >= MANY_FEATURES:
            return self._by_residuals(mixture)
        farthest = np.abs(mixture.means - self.centre).max(
            axis=0
        )  # a start may lie beyond all rows
        errors = cancellation(mixture.whiteners, self.kind, np.maximum(self.reach, farthest))
        if self.kind == "tied" and not errors[0] < TOLERANCE:
            return self._by_residuals(mixture)
        return self._in_natural_form(mixture, errors)

    def _run(self, tasks: int, work: Callable[[int, int], Result]) -> list[Result]:
        """The results of all groups, in order, by as many threads as may be used."""
        with threads.one_blas_thread():
            return threads.run(tasks, work, self.n_threads)

    # ------------------------------------------------------------------ natural parameters

    def _in_natural_form(self, mixture: Mixture, errors: FloatArray) -> Statistics:
        theta, shift = natural_parameters(
            mixture.weights,
            mixture.means - self.centre,
            mixture.whiteners,
            mixture.log_determinants,
            self.kind,
        )
        d = self.rows.n_features
        shift -= 0.5 * d * LOG_2PI
        narrow, centres = None, self.centres
        if not (errors < TOLERANCE).all():
            narrow = Narrow(mixture, errors, shift)
            centres = centres.copy()
            centres[narrow.components] = mixture.means[narrow.components]
        if self.shared and len(self.parts) > 1:
            groups = _groups(self.parts)
            results = self._run(len(groups), lambda w, g: self._group(w, groups[g], theta, narrow))
        else:
            results = [self._group(0, self.parts, theta, narrow)]
        sums, log_likelihood = results[0]
        for more_sums, more in results[1:]:
            sums += more_sums
            log_likelihood += more
        log_likelihood += self.rows.total_weight * shift
        if self.kind == "full":
            second = unpacked(sums[:, 1 + d :], d)
        elif self.kind == "tied":
            second = self.total_scatter
            whitened = mixture.whiteners @ self.total_scatter
            log_likelihood -= 0.5 * float((whitened * mixture.whiteners).sum())
        else:
            second = sums[:, 1 + d :] if self.kind == "diag" else sums[:, 1 + d]
        return Statistics(
            self.kind,
            centres,
            sums[:, 0],
            sums[:, 1 : 1 + d],
            second,
            log_likelihood,
            self.rows.n_rows,
        )

    def _group(
        self, worker: int, parts: list[slice], theta: FloatArray, narrow: Narrow | None
    ) -> tuple[FloatArray, float]:
        """Σ R Tᵀ and the log-likelihood, but for constants, of some blocks in their order."""
        k = len(theta)
        room = self.workspaces.setdefault(worker, Workspace())
        sums = np.zeros((k, self.size))
        log_likelihood = 0.0
        for part in parts:
            b = part.stop - part.start
            block = self._features(part, room)
            a = np.matmul(theta, block, out=room.array("exponents", k, b))
            totals = room.array("totals", b)
            weights = None if self.rows.weights is None else self.rows.weights[part]
            if narrow is None:
                lowest = self.lowest[:b] if self._has_small(part, a) else None
                log_likelihood += shares_from_exponents(a, theta, block, totals, lowest, weights)
            else:
                rows = np.asarray(self.rows.X[part], dtype=np.float64)
                matter = narrow.correct(a, rows)
                log_likelihood += shares_about_greatest(a, totals, weights)
                narrow.add_moments(sums, a, rows, matter)
            # np.dot, because np.matmul does not give up Python's lock for so small a result
            if k * self.size > 1200:  # OpenBLAS has no small kernel for a transposed product there
                sums += np.dot(block, np.ascontiguousarray(a.T)).T
            else:
                sums += np.dot(a, block.T)
        return sums, log_likelihood

    def _has_small(self, part: slice, exponents: FloatArray) -> bool:
        """Whether a block has exponents that powers of two cannot show, which would be slow.

        From one pass to the next that hardly changes: only now and then is it looked at.
        """
        small = self.notes.small
        if self.notes.passes % LOOK == 1 or part.start not in small:
            small[part.start] = bool(exponents.min() < LOWEST)
        return small[part.start]

    @cached_property
    def lowest(self) -> FloatArray:
        """The row to which exponents are raised: faster than a number."""
        return np.full(self.parts[0].stop, LOWEST)

    def _features(self, part: slice, room: Workspace) -> FloatArray:
        if self.kept_features:
            return self.kept_features[part.start]
        out = room.array("features", self.size, part.stop - part.start)
        linear = out[1 : 1 + self.rows.n_features]
        if self.kept_rows is not None:
            linear[...] = self.kept_rows[:, part]
        else:
            np.subtract(self.rows.X[part].T, self.centre[:, None], out=linear)
        return features(linear, self.kind, out)

    # ------------------------------------------------------------------ centred residuals

    def _by_residuals(self, mixture: Mixture) -> Statistics:
        n = self.rows.n_rows
        parts = [slice(i, min(i + RESIDUAL_ROWS, n)) for i in range(0, n, RESIDUAL_ROWS)]
        groups = _groups(parts)
        form = Residuals(mixture, self.centre) if self.kind == "full" else None

        def of_block(part: slice) -> Statistics:
            weights = None if self.rows.weights is None else self.rows.weights[part]
            block = np.asarray(self.rows.X[part], dtype=np.float64)
            if form is None:
                return e_step(block, mixture, weights)
            block = block - self.centre
            rows = np.empty((1 + block.shape[1], len(block)))
            rows[0] = 1.0
            rows[1:] = block.T
            return form.statistics(rows, block, weights)

        def of_group(_: int, g: int) -> Statistics:
            return _added(of_block(part) for part in groups[g])

        with threads.one_blas_thread():
            return _added(self._run(len(groups), of_group))


@singledispatch
def sweep_of(rows: Source, n_components: int, kind: str) -> ChunkSweep:
    """The E-step of rows that arrive in blocks, in the way that suits their source.

    A source with a way of its own registers it here, as that of :mod:`gmm.distributed` does.

    Parameters
    ----------
    rows : Source
    n_components : int
    kind : str
        full, tied, diag or spherical.
    """
    return ChunkSweep(rows, n_components, kind)


def _added(parts: Iterable[Statistics]) -> Statistics:
    """The sum of statistics, in their order."""
    return reduce(add, parts)


def shares_from_exponents(
    a: FloatArray,
    theta: FloatArray,
    block: FloatArray,
    totals: FloatArray,
    lowest: FloatArray | None,
    weights: FloatArray | None,
) -> float:
    """Turn exponents of two into (weighted) responsibilities in place; return Σ w log Σ_k 2^a.

    Parameters
    ----------
    a : array (K, b)
        ``theta @ block``; overwritten.
    theta : array (K, P)
    block : array (P, b)
        They are multiplied again, with the greatest exponent taken out, where a sum is too small or
        too great to be trusted.
    totals : array (b,)
        Room; overwritten.
    lowest : array (b,), optional
        Exponents are raised to this, if some may be below what powers of two can show. (A row
        makes this faster than a number would.)
    weights : array (b,), optional

    Returns
    -------
    float
        In nats.
    """
    if lowest is not None:
        np.maximum(a, lowest, out=a)
    with np.errstate(over="ignore"):  # of a tied kind: see below
        np.exp2(a, out=a)
        np.add.reduce(a, axis=0, out=totals)
    least, greatest = float(totals.min()), float(totals.max())
    if not (least > 1e-250 and greatest < 1e250):
        np.matmul(theta, block, out=a)
        return shares_about_greatest(a, totals, weights)
    return _divided(a, totals, least, greatest, weights)


def shares_about_greatest(a: FloatArray, totals: FloatArray, weights: FloatArray | None) -> float:
    """The same as :func:`shares_from_exponents`, with each row's greatest exponent taken out."""
    top = np.maximum.reduce(a, axis=0)
    a -= top
    np.maximum(a, np.full(a.shape[1], LOWEST), out=a)
    np.exp2(a, out=a)
    np.add.reduce(a, axis=0, out=totals)
    taken = LOG_2 * float(top.sum() if weights is None else weights @ top)
    return taken + _divided(a, totals, 1.0, float(len(a)), weights)


def _divided(
    a: FloatArray,
    totals: FloatArray,
    least: float,
    greatest: float,
    weights: FloatArray | None,
) -> float:
    """Divide by the totals (overwritten) and multiply by the weights; return Σ w log totals."""
    if weights is not None:
        log_likelihood = float(weights @ np.log(totals))
        np.divide(weights, totals, out=totals)
    else:
        log_likelihood = _sum_of_logs(totals, least, greatest)
        np.divide(1.0, totals, out=totals)
    a *= totals
    return log_likelihood


def _sum_of_logs(values: FloatArray, least: float, greatest: float) -> float:
    """Σ log of positive values, with one logarithm for sixteen where no product can overflow."""
    b = len(values)
    if b % 16 == 0 and least > 1e-18 and greatest < 1e18:
        return float(np.log(np.multiply.reduce(values.reshape(16, -1), axis=0)).sum())
    return float(np.log(values).sum())


def _parts(n: int, size: int) -> list[slice]:
    """Blocks of nearly equal length, a multiple of sixteen, that is no multiple of a page."""
    count = ceil(n / size)
    length = 16 * ceil(n / count / 16)
    if length % 512 == 0:
        length += 16
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]


def _groups(parts: list[slice]) -> list[list[slice]]:
    """Blocks in at most GROUPS runs of nearly equal number; independent of the threads."""
    count = min(GROUPS, len(parts))
    bounds = [len(parts) * g // count for g in range(count + 1)]
    return [parts[a:b] for a, b in pairwise(bounds)]
