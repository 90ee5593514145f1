r"""Model-based agglomerative clustering: a start that looks at shapes, not at distances alone.

Every row begins as a cluster of its own, and at each step the two clusters are merged that raise

.. math::

    \sum_k n_k \log \Bigl( \det \frac{\boldsymbol W_k}{n_k}
    + \frac{\operatorname{tr} \boldsymbol W_k + \alpha}{n_k} \Bigr)

least (:eq:`eq-agglomerative-criterion`), with the scatter matrices :math:`\boldsymbol W_k`. The
determinant alone would be the classification likelihood of normal clusters (Banfield and Raftery
1993); the trace keeps clusters of few rows, whose determinant is zero, from costing nothing (Fraley
1998). The whole hierarchy is found at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import FloatArray, IntArray, as_count
from gmm.rows import Rows, as_rows

__all__ = ["agglomerative", "hierarchy"]

#: A variance that counts as none, in the units of the whitened rows.
NOTHING = float(np.finfo(np.float64).eps)
#: A direction in which the rows spread less than this part of the greatest spread is left out.
FLAT = 1e-10


def agglomerative(
    X: ArrayLike, n_clusters: int, *, sample_weight: ArrayLike | None = None
) -> IntArray:
    """Labels of ``n_clusters`` clusters.

    Parameters
    ----------
    X : array (n, d)
        A few thousand rows at most: time and memory grow with n².
    n_clusters : int
        At most the number of distinct rows.
    sample_weight : array (n,), optional

    Returns
    -------
    array (n,) of int

    Examples
    --------
    >>> agglomerative([[0.0], [1.0], [2.0], [9.0], [9.5], [10.0]], 2)
    array([0, 0, 0, 1, 1, 1])
    """
    k = as_count(n_clusters, "n_clusters")
    rows = as_rows(X, sample_weight, min_rows=k)
    levels = hierarchy(rows, k)
    if k not in levels:
        raise ValueError(f"n_clusters: expected at most the {max(levels)} distinct rows, got {k}")
    return levels[k]


def hierarchy(rows: Rows, most: int) -> dict[int, IntArray]:
    """Labels for each number of clusters up to ``most``, or to the number of distinct rows."""
    whitened = _whitened(rows)
    weights = np.ones(rows.n_rows) if rows.weights is None else rows.weights
    distinct, place = np.unique(whitened, axis=0, return_inverse=True)
    counts: FloatArray = np.bincount(place.ravel(), weights).astype(np.float64)
    merging = _Merging(distinct, counts)
    levels: dict[int, IntArray] = {}
    for k in range(len(distinct), 0, -1):
        if k <= most:
            levels[k] = np.unique(merging.owner[place.ravel()], return_inverse=True)[1].ravel()
        if k > 1:
            merging.step()
    return levels


def _whitened(rows: Rows) -> FloatArray:
    """Standardised rows in the axes of their principal components, divided by √(spread)."""
    scaled = rows.standardised().X
    weighted = scaled if rows.weights is None else scaled * np.sqrt(rows.weights)[:, None]
    _, spreads, axes = np.linalg.svd(weighted, full_matrices=False)
    flat = spreads <= FLAT * max(spreads.max(), NOTHING)
    turned: FloatArray = scaled @ axes.T
    return turned / np.where(flat, np.inf, np.sqrt(spreads))


class _Merging:
    """The clusters that are left, what each merger would cost, and for each its best partner."""

    def __init__(self, points: FloatArray, counts: FloatArray) -> None:
        n, d = points.shape
        centred = points - counts @ points / counts.sum()
        self.alpha = max(float(counts @ (centred**2).sum(axis=1)) / (d * counts.sum()), NOTHING)
        self.means = points.copy()
        self.counts = counts.astype(np.float64)
        self.scatter = np.zeros((n, d, d))
        self.terms = self._terms(self.counts, self.scatter)
        self.owner = np.arange(n)
        self.costs = self._costs_of_pairs()
        self.partner = self.costs.argmin(axis=1)
        self.least = self.costs[np.arange(n), self.partner]
        self.alive = np.ones(n, dtype=bool)

    def _costs_of_pairs(self) -> FloatArray:
        """What it costs to merge two points, for all pairs, shape ``(n, n)``.

        The scatter of two points has rank one, so that its determinant counts in one dimension
        only, where it is the trace.
        """
        n, d = self.means.shape
        counts = np.add.outer(self.counts, self.counts)
        costs = np.zeros((n, n))
        for feature in self.means.T:
            costs += np.subtract.outer(feature, feature) ** 2
        costs *= np.outer(self.counts, self.counts) / counts  # the trace of the scatter
        if d == 1:
            costs *= np.where(counts > d, 2.0, 1.0)
        costs = counts * np.log((costs + self.alpha) / counts)
        costs -= self.terms
        costs -= self.terms[:, None]
        np.fill_diagonal(costs, np.inf)
        return np.asarray(costs, dtype=np.float64)

    def _terms(self, counts: FloatArray, scatter: FloatArray) -> FloatArray:
        """What clusters of these counts and scatter matrices add to the criterion."""
        d = scatter.shape[-1]
        values = (np.einsum("kii->k", scatter) + self.alpha) / counts
        large = counts > d
        if large.any():
            spread = scatter[large] / counts[large, None, None]
            values[large] += np.maximum(np.linalg.det(spread), 0.0)
        terms: FloatArray = counts * np.log(values)
        return terms

    def _joined(self, i: int, others: IntArray) -> tuple[FloatArray, FloatArray]:
        """Counts and scatter matrices of i joined to each of others (:eq:`eq-union-scatter`)."""
        step = self.means[others] - self.means[i]
        counts = self.counts[others] + self.counts[i]
        between = self.counts[others] * self.counts[i] / counts
        joined = (between[:, None] * step)[:, :, None] * step[:, None, :]
        joined += self.scatter.take(others, axis=0)
        joined += self.scatter[i]
        return counts, joined

    def _costs(self, i: int, others: IntArray) -> FloatArray:
        """What it costs to merge cluster i with each of others."""
        costs: FloatArray = self._terms(*self._joined(i, others))
        costs -= self.terms[others]
        costs -= self.terms[i]
        return costs

    def step(self) -> None:
        """Merge the two clusters whose merger costs least."""
        i = int(self.least.argmin())
        j = int(self.partner[i])
        i, j = min(i, j), max(i, j)
        counts, scatter = self._joined(i, np.array([j]))
        share = self.counts[j] / counts[0]
        self.means[i] += share * (self.means[j] - self.means[i])
        self.counts[i], self.scatter[i] = counts[0], scatter[0]
        self.terms[i] = self._terms(counts, scatter)[0]
        self.owner[self.owner == j] = i
        self.alive[j] = False
        self.costs[j], self.costs[:, j], self.least[j] = np.inf, np.inf, np.inf
        others = np.flatnonzero(self.alive)
        others = others[others != i]
        if not len(others):
            return
        costs = self._costs(i, others)
        self.costs[i, others], self.costs[others, i] = costs, costs
        self._update_partners(i, j, others, costs)

    def _update_partners(self, i: int, j: int, others: IntArray, costs: FloatArray) -> None:
        """The best partners after j has gone into i."""
        better = costs < self.least[others]
        self.least[others[better]], self.partner[others[better]] = costs[better], i
        lost = (self.partner[others] == i) | (self.partner[others] == j)
        left = others[~better & lost]
        if len(left):
            self.partner[left] = self.costs[left].argmin(axis=1)
            self.least[left] = self.costs[left, self.partner[left]]
        self.partner[i] = others[costs.argmin()]
        self.least[i] = costs.min()
