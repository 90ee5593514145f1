r"""Sufficient statistics of rows that are shared among components: the value between E and M.

For responsibilities :math:`r_{ik}` and weights :math:`w_i`, about centres :math:`\boldsymbol c_k`,

.. math::

    N_k = \sum_i w_i r_{ik}, \quad
    \boldsymbol s_k = \sum_i w_i r_{ik} (\boldsymbol x_i - \boldsymbol c_k), \quad
    \boldsymbol S_k = \sum_i w_i r_{ik} (\boldsymbol x_i - \boldsymbol c_k)
    (\boldsymbol x_i - \boldsymbol c_k)^{\mathsf T},

as in :eq:`eq-expected-statistics`. Statistics of disjoint sets of rows add
(:prf:ref:`thm-merging`), which is why blocks, threads and machines can share the work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from gmm.checks import FloatArray

__all__ = ["Statistics", "squares_of"]


def squares_of(vectors: FloatArray, kind: str) -> FloatArray:
    """The products of vectors ``(K, d)`` with themselves, in the shape of a kind's second moments.

    Parameters
    ----------
    vectors : array (K, d)
    kind : str
        full: ``(K, d, d)``; tied: their sum ``(d, d)``; diag: ``(K, d)``; spherical: ``(K,)``.
    """
    if kind == "full":
        return vectors[:, :, None] * vectors[:, None, :]
    if kind == "tied":
        return vectors.T @ vectors
    squares = vectors**2
    return cast(FloatArray, squares if kind == "diag" else squares.sum(axis=1))


@dataclass(frozen=True, eq=False)
class Statistics:
    """Expected counts, first and second moments about stated centres; ``+`` merges exactly.

    Parameters
    ----------
    kind : str
        full, tied, diag or spherical: which second moments are kept.
    centres : array (K, d)
        The points about which the moments are taken, one for each component.
    counts : array (K,)
        N_k, the total weight that each component is responsible for.
    first : array (K, d)
        First moments.
    second : array
        Second moments: ``(K, d, d)`` if full, their sum over components ``(d, d)`` if tied, their
        diagonals ``(K, d)`` if diag, their traces ``(K,)`` if spherical.
    log_likelihood : float
        That of the rows, under the mixture which gave the responsibilities.
    n_rows : int
        How many rows these are.

    Examples
    --------
    >>> from gmm.e_step import expected_statistics
    >>> one = np.ones((1, 1))
    >>> parts = [expected_statistics(x * one, one, 0 * one, "full") for x in (1.0, 3.0)]
    >>> whole = parts[0] + parts[1]
    >>> whole.counts, whole.means(), whole.second
    (array([2.]), array([[2.]]), array([[[10.]]]))
    """

    kind: str
    centres: FloatArray
    counts: FloatArray
    first: FloatArray
    second: FloatArray
    log_likelihood: float
    n_rows: int

    @property
    def n_components(self) -> int:
        """The number K of components."""
        return int(self.centres.shape[0])

    @property
    def n_features(self) -> int:
        """The dimension d."""
        return int(self.centres.shape[1])

    @property
    def total_weight(self) -> float:
        """The total weight of the rows."""
        return float(self.counts.sum())

    def means(self) -> FloatArray:
        """The mean of each component's share of the rows, shape ``(K, d)``."""
        return self.centres + self.first / self.counts[:, None]

    def __add__(self, other: Statistics) -> Statistics:
        """Merge the statistics of two disjoint sets of rows (:prf:ref:`thm-merging`)."""
        if not isinstance(other, Statistics):
            return NotImplemented
        if self.kind != other.kind or self.centres.shape != other.centres.shape:
            raise ValueError(
                f"statistics: expected the same kind and sizes to add, got {self.kind} "
                f"{self.centres.shape} and {other.kind} {other.centres.shape}"
            )
        if self.centres is not other.centres and (self.centres != other.centres).any():
            other = other.shifted(self.centres)
        return replace(
            self,
            counts=self.counts + other.counts,
            first=self.first + other.first,
            second=self.second + other.second,
            log_likelihood=self.log_likelihood + other.log_likelihood,
            n_rows=self.n_rows + other.n_rows,
        )

    def shifted(self, centres: FloatArray) -> Statistics:
        """The same statistics about other centres (:eq:`eq-shift-centre`).

        Parameters
        ----------
        centres : array (K, d)
        """
        step = self.centres - centres  # (K, d)
        moved = self.counts[:, None] * step
        if self.kind in ("full", "tied"):
            cross = self.first[:, :, None] * step[:, None, :]
            change = cross + np.swapaxes(cross, 1, 2) + moved[:, :, None] * step[:, None, :]
            second = self.second + (change if self.kind == "full" else change.sum(axis=0))
        else:
            change = (2.0 * self.first + moved) * step
            second = self.second + (change if self.kind == "diag" else change.sum(axis=1))
        return replace(self, centres=centres, first=self.first + moved, second=second)

    def scatter(self) -> FloatArray:
        """Second moments about the components' own means, in the shape of ``second``."""
        correction = self.first / np.sqrt(self.counts)[:, None]
        matrices = self.second - squares_of(correction, self.kind)
        if self.kind in ("full", "tied"):  # beside a small variance, rounding is not symmetric
            matrices = 0.5 * (matrices + np.swapaxes(matrices, -1, -2))
        return matrices
