"""What a fit reads: rows of numbers with weights, handed out in blocks.

A block is small enough to stay in the processor's cache while the E-step works on it, so that the
memory which a pass needs beside the data does not grow with the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm.checks import (
    FloatArray,
    SingularCovarianceError,
    as_matrix,
    as_sample_weight,
    refuse_non_finite,
)

__all__ = ["Rows", "as_rows", "blocks"]

BLOCK_NUMBERS = 2**15  # numbers in a block: a quarter of a megabyte


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
class Rows:
    """Validated rows and their weights; iterating gives ``(block, weights)`` pairs of float64.

    Make them with :func:`as_rows`.
    """

    X: NDArray[Any]
    weights: FloatArray | None = None

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

    def __iter__(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        for part in blocks(self.n_rows, self.n_features):
            weights = None if self.weights is None else self.weights[part]
            yield np.asarray(self.X[part], dtype=np.float64), weights

    @cached_property
    def mean(self) -> FloatArray:
        """The weighted mean of each feature, shape ``(d,)``."""
        first = np.asarray(self.X[0], dtype=np.float64)
        total = np.zeros(self.n_features)
        for block, weights in self:
            residuals = block - first
            total += residuals.sum(axis=0) if weights is None else weights @ residuals
        return first + total / self.total_weight

    @cached_property
    def covariance(self) -> FloatArray:
        """The weighted covariance of the features, shape ``(d, d)``, with divisor the weight."""
        total = np.zeros((self.n_features, self.n_features))
        for block, weights in self:
            residuals = block - self.mean
            weighted = residuals if weights is None else residuals * weights[:, None]
            total += weighted.T @ residuals
        return total / self.total_weight

    @cached_property
    def variances(self) -> FloatArray:
        """The weighted variance of each feature, shape ``(d,)``, with divisor the weight."""
        return np.diagonal(self.covariance).copy()

    def sample(self, size: int, rng: np.random.Generator) -> Rows:
        """At most ``size`` of the rows, drawn without replacement; all of them if they are few."""
        if self.n_rows <= size:
            return self
        chosen = np.sort(rng.choice(self.n_rows, size, replace=False))
        weights = None if self.weights is None else self.weights[chosen]
        return Rows(np.asarray(self.X[chosen], dtype=np.float64), weights)

    def refuse_degenerate(self) -> None:
        """Raise if a feature is constant: every mixture would then have singular covariances."""
        constant = np.flatnonzero(self._constant_features())
        if len(constant) == self.n_features:
            raise SingularCovarianceError(
                f"X: all {self.n_rows} rows are equal, so the likelihood has no maximum"
            )
        if len(constant):
            raise SingularCovarianceError(
                f"X: feature {constant[0]} is constant, so every covariance is singular; leave the "
                "feature out, or give a positive ridge"
            )

    def _constant_features(self) -> NDArray[np.bool_]:
        first, constant = self.X[0], np.ones(self.n_features, dtype=bool)
        for part in blocks(self.n_rows, self.n_features):
            constant &= (self.X[part] == first).all(axis=0)
        return cast("NDArray[np.bool_]", constant)


def as_rows(
    X: ArrayLike | Rows,
    sample_weight: ArrayLike | None = None,
    *,
    n_features: int | None = None,
    min_rows: int = 1,
) -> Rows:
    """Validate rows and weights, block by block.

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
    array = as_matrix(X, n_features=n_features, min_rows=min_rows)
    for part in blocks(*array.shape):
        refuse_non_finite(array[part], "X", first_row=part.start)
    weights = as_sample_weight(sample_weight, array.shape[0])
    if weights is not None and not weights.all():
        array, weights = array[weights > 0], weights[weights > 0]
        as_matrix(array, "X (rows of positive weight)", min_rows=min_rows)
    return Rows(array, weights)
