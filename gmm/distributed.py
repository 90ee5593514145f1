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

from gmm.checks import as_matrix, as_sample_weight, refuse_non_finite
from gmm.mixture import Mixture
from gmm.rows import Block, Rows, Source, Survey, with_weight
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
            rows = self.dask.delayed(_rows)(chunk, weights).compute()
            if rows.n_rows:
                yield np.asarray(rows.X, dtype=np.float64), rows.weights

    def tree_sum(self, task: Callable[..., Value | None], *arguments: Any) -> Value | None:
        """The sum over chunks of ``task(chunk, weights, first row, *arguments)``, in a tree.

        The tree depends on the number of chunks alone (:prf:ref:`thm-tree-sum`). A task returns
        None for a chunk without rows of positive weight.
        """
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
        total: Value | None = parts[0].compute()
        return total

    @cached_property
    def survey(self) -> Survey:
        """One look at all rows, by the workers; the only one that validates them."""
        survey = self.tree_sum(_survey)
        if survey is None:
            raise ValueError("sample_weight: expected a positive value, got zeros only")
        return survey

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
        if self.chunk_weights[0] is not None:
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
        total = self.rows.tree_sum(_swept, mixture, self.n_components, self.kind, self.frame)
        assert total is not None  # or the survey would have failed
        return total


def _rows(chunk: NDArray[Any], weights: ArrayLike | None) -> Rows:
    """The rows of positive weight, without another look at what they hold."""
    array = np.asarray(chunk)
    if weights is None:
        return Rows(array)
    return Rows(*with_weight(array, np.asarray(weights, dtype=np.float64)))


def _survey(chunk: NDArray[Any], weights: ArrayLike | None, first: int) -> Survey | None:
    if not len(chunk):
        return None
    array = as_matrix(chunk)
    refuse_non_finite(array, "X", first_row=first)
    rows = _rows(array, as_sample_weight(weights, len(array), may_vanish=True))
    return rows.survey if rows.n_rows else None


def _swept(
    chunk: NDArray[Any],
    weights: ArrayLike | None,
    first: int,
    mixture: Mixture,
    n_components: int,
    kind: str,
    frame: Frame,
) -> Statistics | None:
    """One chunk's statistics, by one thread: Dask has its own."""
    rows = _rows(chunk, weights)
    if not rows.n_rows:
        return None
    return Sweep(rows, n_components, kind, frame, n_threads=1)(mixture)


def _sampled(chunk: NDArray[Any], weights: ArrayLike | None, size: int, seed: int) -> Rows:
    rows = _rows(chunk, weights).sample(size, np.random.default_rng(seed))
    return Rows(np.asarray(rows.X, dtype=np.float64), rows.weights)


def _add(left: Any, right: Any) -> Any:
    if left is None or right is None:
        return right if left is None else left
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
