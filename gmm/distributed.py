"""The same pass on a Dask array or cluster: one task for each chunk, statistics summed in a tree.

The chunks stay where they are; what travels is the mixture, once to each worker, and statistics,
whose size does not depend on the number of rows. The tree is the same whichever worker computes
its parts, so that a result depends neither on their number nor on their order; a lost worker's
chunks are made again by Dask from their recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm.checks import FloatArray, refuse_non_finite
from gmm.mixture import Mixture
from gmm.rows import Block, Rows, Source, Survey, as_rows
from gmm.statistics import Statistics
from gmm.sweep import ChunkSweep, Frame, Sweep

__all__ = ["DaskRows", "DaskSweep"]

Value = TypeVar("Value")


class DaskRows(Source):
    """The rows of a Dask array, chunk by chunk.

    Parameters
    ----------
    X : dask.array.Array (n, d)
        With a distributed client it is persisted on the workers; without one it is computed again
        in each pass, so that it need not fit into memory.
    sample_weight : array (n,), optional
        A Dask array or one that can be cut like the rows.

    Raises
    ------
    ImportError
        If Dask is not installed.
    """

    def __init__(self, X: Any, sample_weight: ArrayLike | None = None) -> None:
        dask = _dask()
        if X.ndim != 2:
            raise ValueError(f"X: expected a 2-D array (rows, features), got shape {X.shape}")
        X = X.rechunk({1: -1})
        if _has_client():
            X = X.persist()
        self.X = X
        sizes = np.array(X.chunks[0], dtype=np.float64)
        if np.isnan(sizes).any():
            raise ValueError(
                "X: expected chunks of known sizes; call X.compute_chunk_sizes() before"
            )
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.chunks = X.to_delayed().ravel().tolist()
        self.chunk_weights: list[Any] = [None] * len(self.chunks)
        if sample_weight is not None:
            weights = import_module("dask.array").asarray(sample_weight)
            if weights.shape != (X.shape[0],):
                raise ValueError(
                    f"sample_weight: expected shape {(X.shape[0],)}, got shape {weights.shape}"
                )
            self.chunk_weights = weights.rechunk((X.chunks[0],)).to_delayed().ravel().tolist()
        self.dask = dask

    def __iter__(self) -> Iterator[Block]:
        for chunk, weights in zip(self.chunks, self.chunk_weights, strict=True):
            rows = self.dask.delayed(_validated)(chunk, weights, 0).compute()
            yield np.asarray(rows.X, dtype=np.float64), rows.weights

    def tree_sum(self, task: Callable[..., Value], *arguments: Any) -> Value:
        """The sum over chunks of ``task(chunk, weights, first row, *arguments)``, in a tree."""
        delayed = self.dask.delayed
        shared = [delayed(argument, traverse=False) for argument in arguments]
        parts = [
            delayed(task)(chunk, weights, int(first), *shared)
            for chunk, weights, first in zip(
                self.chunks, self.chunk_weights, self.starts, strict=False
            )
        ]
        while len(parts) > 1:
            pairs = [delayed(_add)(*parts[i : i + 2]) for i in range(0, len(parts) - 1, 2)]
            parts = pairs + parts[len(pairs) * 2 :]
        total: Value = parts[0].compute()
        return total

    @cached_property
    def survey(self) -> Survey:
        """One look at all rows, by the workers."""
        return self.tree_sum(_survey)

    def sweep(self, n_components: int, kind: str) -> DaskSweep:
        """The E-step of all rows, as a function of the mixture."""
        return DaskSweep(self, n_components, kind)

    def sample(self, size: int, rng: np.random.Generator) -> Rows:
        """At most ``size`` of the rows, drawn on the workers without replacement."""
        sizes = np.diff(self.starts)
        wanted = min(size, int(sizes.sum()))
        shares = rng.multivariate_hypergeometric(sizes, wanted, method="marginals")
        seeds = rng.integers(2**63, size=len(sizes))
        parts = [
            self.dask.delayed(_sampled)(chunk, weights, int(share), int(seed))
            for chunk, weights, share, seed in zip(
                self.chunks, self.chunk_weights, shares, seeds, strict=True
            )
            if share
        ]
        drawn: tuple[Rows, ...] = self.dask.compute(*parts)
        weights = None
        if drawn[0].weights is not None:
            weights = np.concatenate([rows.weights for rows in drawn if rows.weights is not None])
        return Rows(np.concatenate([rows.X for rows in drawn]), weights)


class DaskSweep(ChunkSweep):
    """The E-step of all chunks, where they are.

    Parameters
    ----------
    rows : DaskRows
    n_components : int
    kind : str
    """

    rows: DaskRows

    def __call__(self, mixture: Mixture) -> Statistics:
        """Expected statistics of all rows, and their log-likelihood, under a mixture."""
        return self.rows.tree_sum(_swept, mixture, self.n_components, self.kind, self.frame)


def _validated(chunk: NDArray[Any], weights: FloatArray | None, first: int) -> Rows:
    refuse_non_finite(np.asarray(chunk), "X", first_row=first)
    return as_rows(chunk, weights)


def _survey(chunk: NDArray[Any], weights: FloatArray | None, first: int) -> Survey:
    return _validated(chunk, weights, first).survey


def _swept(
    chunk: NDArray[Any],
    weights: FloatArray | None,
    first: int,
    mixture: Mixture,
    n_components: int,
    kind: str,
    frame: Frame,
) -> Statistics:
    """One chunk's statistics, by one thread: Dask has its own."""
    rows = Rows(np.asarray(chunk)) if weights is None else as_rows(chunk, weights)
    return Sweep(rows, n_components, kind, frame, n_threads=1)(mixture)


def _sampled(chunk: NDArray[Any], weights: FloatArray | None, size: int, seed: int) -> Rows:
    rows = as_rows(chunk, weights).sample(size, np.random.default_rng(seed))
    return Rows(np.asarray(rows.X, dtype=np.float64), rows.weights)


def _add(left: Any, right: Any) -> Any:
    return left + right


def _dask() -> Any:
    try:
        import dask
    except ImportError:
        raise ImportError(
            "gmm.distributed needs Dask: pip install 'gmm-first-principles[dask]'"
        ) from None
    return dask


def _has_client() -> bool:
    """Whether there is a cluster to compute on."""
    try:
        from distributed import get_client
    except ImportError:
        return False
    try:
        get_client()
    except ValueError:
        return False
    return True
