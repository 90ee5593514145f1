"""What a fit reads: rows of numbers with weights, handed out in blocks.

Rows may be an array, a memory map, a ``.npy`` file, a table that gives record batches (Parquet
through Arrow), or anything that can be iterated over more than once and gives blocks. One look at
all of them, the :class:`Survey`, finds what every fit needs: their number, mean, covariance and
range, and whether all numbers are finite. A block is small enough to stay in the processor's cache,
so that the memory which a pass needs beside the data does not grow with the number of rows.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm.cached import cached_property
from gmm.checks import (
    FARTHEST,
    NO_ARRAY,
    FileFormatError,
    FloatArray,
    SingularCovarianceError,
    as_matrix,
    as_numbers,
    as_sample_weight,
    refuse_extreme,
    refuse_non_finite,
)

__all__ = ["BlockRows", "Rows", "Source", "Survey", "as_rows", "blocks"]

BLOCK_NUMBERS = 2**15  # numbers in a block: a quarter of a megabyte

#: What iterating over a source gives: rows of float64 ``(b, d)``, and weights ``(b,)`` or None.
Block = tuple[FloatArray, FloatArray | None]


def blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Slices that cut ``n_rows`` rows of ``n_columns`` numbers into blocks, in order.

    Examples
    --------
    >>> [(s.start, s.stop) for s in blocks(40_000, 2)]
    [(0, 16384), (16384, 32768), (32768, 40000)]
    """
    size = max(64, BLOCK_NUMBERS // max(1, n_columns))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


@dataclass(frozen=True, eq=False)
class Survey:
    """What one look at rows finds; ``+`` merges the surveys of two sets (:prf:ref:`thm-merging`).

    Parameters
    ----------
    n_rows : int
        Rows of positive weight.
    weight : float
        The sum of their weights.
    mean : array (d,)
    scatter : array (d, d)
        The weighted sum of products of residuals.
    least, greatest : array (d,)
        The range of each feature.
    """

    n_rows: int
    weight: float
    mean: FloatArray
    scatter: FloatArray
    least: FloatArray
    greatest: FloatArray

    @classmethod
    @np.errstate(over="ignore", invalid="ignore")  # see checked
    def of(cls, block: FloatArray, weights: FloatArray | None) -> Survey:
        """The survey of one block."""
        weight = float(len(block) if weights is None else weights.sum())
        columns = np.array(block.T, order="C")  # sums along contiguous memory are fast
        least, greatest = columns.min(axis=1), columns.max(axis=1)
        first = block[0]
        columns -= first[:, None]
        shift = (columns.sum(axis=1) if weights is None else columns @ weights) / weight
        columns -= shift[:, None]
        weighted = columns if weights is None else columns * weights
        return cls(len(block), weight, first + shift, weighted @ columns.T, least, greatest)

    @np.errstate(over="ignore", invalid="ignore")
    def __add__(self, other: Survey) -> Survey:
        weight = self.weight + other.weight
        step = other.mean - self.mean
        between = np.outer(step, step) * (self.weight * other.weight / weight)
        return Survey(
            self.n_rows + other.n_rows,
            weight,
            self.mean + step * (other.weight / weight),
            self.scatter + other.scatter + between,
            np.minimum(self.least, other.least),
            np.maximum(self.greatest, other.greatest),
        )

    def checked(self) -> Survey:
        """The same, if squares of its rows are numbers (``gmm.checks.refuse_extreme``).

        Raises
        ------
        ValueError
            If a feature varies too little or too much for that, or the weights add up to too little
            or too much.
        """
        refuse_extreme(self.least, self.greatest, self.weight)
        return self


def surveyed(rows: Iterable[Block]) -> Survey:
    """The survey of blocks that may be a part of all rows only."""
    return reduce(add, (Survey.of(block, weights) for block, weights in rows))


class Source(ABC):
    """Rows that can be read again and again, in blocks; see :class:`Rows`, :class:`BlockRows`."""

    @abstractmethod
    def __iter__(self) -> Iterator[Block]:
        """The blocks, in order."""

    @cached_property
    def survey(self) -> Survey:
        """One look at all rows."""
        return surveyed(self).checked()

    @property
    def n_rows(self) -> int:
        """The number of rows whose weight is not zero."""
        return self.survey.n_rows

    @property
    def n_features(self) -> int:
        """The dimension d."""
        return len(self.survey.mean)

    @property
    def total_weight(self) -> float:
        """The sum of the weights: the number of rows where there are none."""
        return self.survey.weight

    @property
    def mean(self) -> FloatArray:
        """The weighted mean of each feature, shape ``(d,)``."""
        return self.survey.mean

    @cached_property
    def covariance(self) -> FloatArray:
        """The weighted covariance of the features, shape ``(d, d)``, with divisor the weight."""
        return self.survey.scatter / self.survey.weight

    @cached_property
    def variances(self) -> FloatArray:
        """The weighted variance of each feature, shape ``(d,)``, with divisor the weight."""
        return np.diagonal(self.covariance).copy()

    def sample(self, size: int, rng: np.random.Generator) -> Rows:
        """At most ``size`` of the rows, drawn without replacement; all of them if they are few."""
        kept = np.empty((0, self.n_features))
        kept_weights, keys = np.empty(0), np.empty(0)
        for block, weights in self:
            kept = np.concatenate([kept, block])
            plain = np.ones(len(block)) if weights is None else weights
            kept_weights = np.concatenate([kept_weights, plain])
            keys = np.concatenate([keys, rng.random(len(block))])
            if len(keys) > size:  # the smallest keys are a sample of the rows so far
                chosen = np.sort(np.argpartition(keys, size)[:size])
                kept, kept_weights, keys = kept[chosen], kept_weights[chosen], keys[chosen]
        return Rows(kept, None if (kept_weights == 1).all() else kept_weights)

    def refuse_degenerate(self, spherical: bool = False) -> None:
        """Raise if the covariances of every mixture of these rows are singular for a plain reason.

        Parameters
        ----------
        spherical : bool
            Whether all covariances are multiples of the identity. Then rows must not all be equal;
            otherwise no feature may be constant (:prf:ref:`thm-em-well-defined`).
        """
        survey = self.survey
        constant = np.flatnonzero(survey.least == survey.greatest)
        if len(constant) == self.n_features:
            raise SingularCovarianceError(
                f"X: all {self.n_rows} rows are equal, so the likelihood has no maximum"
            )
        if len(constant) and not spherical:
            raise SingularCovarianceError(
                f"X: feature {constant[0]} is constant, so every covariance is singular; leave the "
                "feature out, or give a positive ridge"
            )

    def refuse_lost_ridge(self, ridge: float) -> None:
        """Raise if a component of no width but a ridge might be so narrow that squares overflow.

        Parameters
        ----------
        ridge : float
            Zero for none.
        """
        smallest = float((self.survey.greatest - self.survey.least).max() / FARTHEST) ** 2
        if 0 < ridge < smallest:
            raise ValueError(
                f"ridge: expected 0, or a variance of at least {smallest:.3g} for data with such a "
                f"range, got {ridge:.3g}"
            )


class Rows(Source):
    """Rows of an array or a memory map, already validated. Make them with :func:`as_rows`.

    Parameters
    ----------
    X : array (n, d)
    weights : array (n,), optional
    """

    def __init__(self, X: NDArray[Any], weights: FloatArray | None = None) -> None:
        self.X = X
        self.weights = weights

    def __sizeof__(self) -> int:
        """Bytes of the rows and their weights, for whoever keeps account of memory (Dask does)."""
        return self.X.nbytes + (0 if self.weights is None else self.weights.nbytes)

    @property
    def n_rows(self) -> int:
        """The number of rows whose weight is not zero."""
        return int(self.X.shape[0])

    @property
    def n_features(self) -> int:
        """The dimension d."""
        return int(self.X.shape[1])

    @cached_property
    def total_weight(self) -> float:
        """The sum of the weights: the number of rows where there are none."""
        return float(self.n_rows if self.weights is None else self.weights.sum())

    def __iter__(self) -> Iterator[Block]:
        for part in blocks(self.n_rows, self.n_features):
            weights = None if self.weights is None else self.weights[part]
            yield np.asarray(self.X[part], dtype=np.float64), weights

    def sample(self, size: int, rng: np.random.Generator) -> Rows:
        """At most ``size`` of the rows, drawn without replacement; all of them if they are few."""
        if self.n_rows <= size:
            return self
        return self.subset(np.sort(rng.choice(self.n_rows, size, replace=False, shuffle=False)))

    def standardised(self) -> Rows:
        """The rows with features of mean zero and unit variance, so that units do not matter.

        A constant feature becomes zero.
        """
        deviations = np.sqrt(self.variances)
        scaled = (np.asarray(self.X, dtype=np.float64) - self.mean) / np.where(
            deviations > 0, deviations, 1.0
        )
        return Rows(scaled, self.weights)

    def subset(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        """Some of the rows, by their positions or by a mask."""
        weights = None if self.weights is None else self.weights[chosen]
        return Rows(np.asarray(self.X[chosen], dtype=np.float64), weights)


class BlockRows(Source):
    """Rows that arrive in blocks: from files, a database, a generator that can be started again.

    Parameters
    ----------
    blocks : iterable, or callable
        An object that can be iterated over more than once, or a function that gives a new iterator
        each time. It gives arrays ``(b, d)``, or pairs of such an array and weights ``(b,)``.

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> halves = gmm.rows.BlockRows([X[:136], X[136:]])
    >>> round(gmm.fit(halves, 2, random_state=0).log_likelihood, 4)
    -1130.264
    """

    def __init__(self, blocks: Iterable[Any] | Callable[[], Iterator[Any]]) -> None:
        if isinstance(blocks, Iterator) or not (callable(blocks) or isinstance(blocks, Iterable)):
            raise TypeError(
                "blocks: expected an iterable that can be read more than once, or a function that "
                f"returns a new iterator; got {type(blocks).__name__}"
            )
        self.blocks = blocks

    def __iter__(self) -> Iterator[Block]:
        source = self.blocks() if callable(self.blocks) else iter(self.blocks)
        n_features: int | None = None
        first = counted = 0
        for item in source:
            values, weights = item if isinstance(item, tuple) else (item, None)
            array = as_matrix(values, "block", n_features=n_features)
            n_features = array.shape[1]
            refuse_non_finite(array, "X", first_row=first)
            first += len(array)
            checked = as_sample_weight(weights, len(array), may_vanish=True)
            array, checked = with_weight(array, checked)
            if len(array):
                counted += len(array)
                yield np.asarray(array, dtype=np.float64), checked
        if first == 0:
            raise ValueError("blocks: expected at least one block of rows, got none")
        if counted == 0:
            raise ValueError("sample_weight: expected a positive value, got zeros only")


def as_rows(
    X: ArrayLike | Source,
    sample_weight: ArrayLike | None = None,
    *,
    n_features: int | None = None,
    min_rows: int = 1,
) -> Rows:
    """Validate rows of an array and their weights, block by block.

    Parameters
    ----------
    X : array (n, d)
        Real numbers of any type; a memory map is not loaded as a whole.
    sample_weight : array (n,), optional
        Not negative, not all zero. A row of weight zero counts as absent; a row of weight two as
        the same row twice.
    n_features : int, optional
        The number of features that is expected.
    min_rows : int
        The least number of rows of positive weight.

    Returns
    -------
    Rows

    Raises
    ------
    TypeError, ValueError
        If the rank, the type, the size or a value is not as said.

    Examples
    --------
    >>> rows = as_rows([[1.0, 2.0], [3.0, 4.0]], sample_weight=[1.0, 3.0])
    >>> rows.n_rows, rows.total_weight, rows.mean
    (2, 4.0, array([2.5, 3.5]))
    """
    if isinstance(X, Rows):
        return X
    if isinstance(X, Source):
        raise TypeError("X: expected an array, got rows that arrive in blocks")
    array = as_matrix(X, n_features=n_features, min_rows=min_rows)
    for part in blocks(*array.shape):
        refuse_non_finite(array[part], "X", first_row=part.start)
    weights = as_sample_weight(sample_weight, array.shape[0])
    array, weights = with_weight(array, weights)
    as_matrix(array, "X (rows of positive weight)", min_rows=min_rows)
    return Rows(array, weights)


def with_weight(
    array: NDArray[Any], weights: FloatArray | None
) -> tuple[NDArray[Any], FloatArray | None]:
    """The rows whose weight is not zero, and their weights."""
    if weights is None or weights.all():
        return array, weights
    return array[weights > 0], weights[weights > 0]


def as_source(X: Any, sample_weight: ArrayLike | None = None, *, min_rows: int = 1) -> Source:
    """Rows from whatever a fit accepts.

    Parameters
    ----------
    X : array (n, d), path, table or Source
        An array or memory map; the path of a ``.npy`` file, which is read as a memory map; an
        object with ``to_batches()``, such as a dataset or table of pyarrow; a Dask array; a
        :class:`BlockRows`.
    sample_weight : array (n,), optional
        For arrays and files only: blocks bring their own weights.
    min_rows : int
        The least number of rows of positive weight.
    """
    X = loaded(X)
    if isinstance(X, Source):
        pass
    elif hasattr(X, "to_batches"):
        X = BlockRows(_Batches(X))
    elif hasattr(X, "dask") and hasattr(X, "chunks"):
        from gmm.distributed import DaskRows

        X = DaskRows(X, sample_weight)
        sample_weight = None
    if not isinstance(X, Source):
        return as_rows(X, sample_weight, min_rows=min_rows)
    if sample_weight is not None:
        raise ValueError("sample_weight: expected None, as blocks bring their own weights")
    if X.n_rows < min_rows:
        raise ValueError(
            f"X: expected at least {min_rows} rows, one for each component, got {X.n_rows}"
        )
    return X


def loaded(X: Any) -> Any:
    """A memory map, if it is the path of a ``.npy`` file; anything else as it is."""
    if not isinstance(X, str | os.PathLike):
        return X
    path = os.fspath(X)
    if not path.endswith(".npy"):
        raise ValueError(f"X: expected the path of a .npy file, got {path!r}")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except NO_ARRAY as error:
        raise FileFormatError(f"X: expected a file of an array, got {path!r}: {error}") from None


class _Batches:
    """The record batches of an Arrow table or dataset, as arrays."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __iter__(self) -> Iterator[FloatArray]:
        for batch in self.table.to_batches():
            if batch.num_rows:
                # a missing value becomes NaN, and is refused later
                columns = [column.to_numpy(zero_copy_only=False) for column in batch.columns]
                yield np.column_stack([as_numbers(c, "X") for c in columns]).astype(np.float64)
