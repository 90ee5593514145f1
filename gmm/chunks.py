"""The E-step of many mixtures on the same rows, chunk by chunk.

A chunk is some of the mixtures and some of the rows: few enough that the exponents of all its
components stay in cache from the product that makes them to the product that uses them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gmm.checks import FloatArray, IntArray
from gmm.natural import LOG_2
from gmm.sweep import LOWEST

__all__ = ["chunks", "room_for", "weighted_shares"]

#: Numbers in a chunk's exponents: what stays in cache.
BLOCK = 100_000
#: A sum of exponentials that is less has lost digits, or all of them.
FAINTEST = 1e-250

#: Rows, components and fits of a chunk, and the fits in it that have equally many components: their
#: number, and where they and their components are within the chunk.
Run = tuple[int, slice, slice]
Chunk = tuple[slice, slice, slice, list[Run]]


def chunks(sizes: IntArray, n_rows: int) -> Iterator[Chunk]:
    """What an E-step works on at a time, so that it stays in cache.

    Parameters
    ----------
    sizes : array (G,)
        The numbers of components of the fits, ascending.
    n_rows : int
    """
    length = max(64, min(n_rows, BLOCK // int(sizes[-1])))
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        start = int(ends[first] - sizes[first])
        most = start + max(BLOCK // length, int(sizes[first]))
        last = max(first + 1, int(np.searchsorted(ends, most, side="right")))
        runs: list[Run] = []
        below = 0
        numbers, counts = np.unique(sizes[first:last], return_counts=True)
        for k, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            fit = runs[-1][1].stop if runs else 0
            runs.append((k, slice(fit, fit + count), slice(below, below + k * count)))
            below += k * count
        for row in range(0, n_rows, length):
            part = slice(row, min(row + length, n_rows))
            yield part, slice(start, start + below), slice(first, last), runs
        first = last


def room_for(parts: list[Chunk]) -> FloatArray:
    """Memory that :func:`weighted_shares` uses again and again: new memory costs more than work."""
    numbers = [(p.stop - p.start) * (c.stop - c.start) for p, c, _, _ in parts]
    return np.empty((3, max(numbers)))


def weighted_shares(
    theta: FloatArray,
    block: FloatArray,
    weights: FloatArray | None,
    runs: list[Run],
    room: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Weighted responsibilities ``(C, b)``, and Σ w log Σ_k 2^a of each fit."""
    components, columns, fits = len(theta), block.shape[1], runs[-1][1].stop
    shares = room[0, : components * columns].reshape(components, columns)
    totals = room[1, : fits * columns].reshape(fits, columns)
    inverses = room[2, : fits * columns].reshape(fits, columns)
    np.matmul(theta, block, out=shares)
    if shares.min() < LOWEST:
        np.maximum(shares, np.full(columns, LOWEST), out=shares)
    np.exp2(shares, out=shares)
    for k, whole, mine in runs:
        np.add.reduce(shares[mine].reshape(-1, k, columns), axis=1, out=totals[whole])
    extra = None
    if totals.min() < FAINTEST:
        extra = _done_again(theta, block, weights, runs, shares, totals)
    np.divide(1.0 if weights is None else weights, totals, out=inverses)
    logs = np.log(totals, out=totals)
    sums: FloatArray = logs.sum(axis=1) if weights is None else logs @ weights
    for k, whole, mine in runs:
        shares[mine].reshape(-1, k, columns)[...] *= inverses[whole, None]
    return shares, sums if extra is None else sums + extra


def _done_again(
    theta: FloatArray,
    block: FloatArray,
    weights: FloatArray | None,
    runs: list[Run],
    shares: FloatArray,
    totals: FloatArray,
) -> FloatArray:
    """Do the fits again that have rows far from all components; what to add to their sums."""
    extra = np.zeros(len(totals))
    for k, fits, mine in runs:
        for fit in np.flatnonzero(totals[fits].min(axis=1) < FAINTEST).tolist():
            own = slice(mine.start + k * fit, mine.start + k * (fit + 1))
            exponents = theta[own] @ block
            top = exponents.max(axis=0)
            shares[own] = np.exp2(np.maximum(exponents - top, LOWEST))
            totals[fits.start + fit] = shares[own].sum(axis=0)
            extra[fits.start + fit] = LOG_2 * float(top.sum() if weights is None else top @ weights)
    return extra
