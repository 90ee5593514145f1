"""The E-step: expected sufficient statistics of a block of rows.

The step computes the responsibilities of a block and folds them at once into
:class:`~gmm.statistics.Statistics`, so that the responsibilities of all rows never exist together.
"""

from __future__ import annotations

import numpy as np

from gmm.checks import FloatArray, IntArray
from gmm.mixture import Mixture, log_sum_exp, responsibilities
from gmm.rows import Rows
from gmm.statistics import Statistics

__all__ = [
    "e_step",
    "expected_statistics",
    "hard_step",
    "log_sum_exp",
    "one_pass",
    "responsibilities",
]


def e_step(block: FloatArray, mixture: Mixture, weights: FloatArray | None = None) -> Statistics:
    """Expected statistics of a block of rows, and its log-likelihood.

    Parameters
    ----------
    block : array (b, d)
        Rows of float64; they are not checked.
    mixture : Mixture
        The present parameters: they give the responsibilities (:eq:`eq-responsibilities`), and
        their means are the centres of the statistics, so that nothing cancels.
    weights : array (b,), optional
        Weights of the rows.

    Returns
    -------
    Statistics
        Those of :eq:`eq-expected-statistics`.

    Examples
    --------
    >>> mixture = Mixture([0.5, 0.5], [[-1.0], [1.0]], [1.0, 1.0], "VII")
    >>> statistics = e_step(np.array([[-1.0], [1.0]]), mixture)
    >>> statistics.counts
    array([1., 1.])
    """
    shares, log_densities = responsibilities(mixture.log_joint(block))
    if weights is None:
        log_likelihood = float(log_densities.sum())
    else:
        log_likelihood = float(weights @ log_densities)
    return expected_statistics(
        block, shares, mixture.means, mixture.kind, weights, log_likelihood=log_likelihood
    )


def expected_statistics(
    block: FloatArray,
    responsibilities: FloatArray,
    centres: FloatArray,
    kind: str,
    weights: FloatArray | None = None,
    *,
    log_likelihood: float = 0.0,
) -> Statistics:
    """Statistics of rows that are shared among components (:eq:`eq-expected-statistics`).

    Parameters
    ----------
    block : array (b, d)
    responsibilities : array (b, K)
        Any shares, soft or hard.
    centres : array (K, d)
        The points about which moments are taken.
    kind : str
        Which second moments are wanted: full, tied, diag or spherical.
    weights : array (b,), optional
        Weights of the rows.
    log_likelihood : float
        The block's log-likelihood, if it is known.

    Returns
    -------
    Statistics
    """
    shares = responsibilities if weights is None else responsibilities * weights[:, None]
    k, d = centres.shape
    first = np.empty((k, d))
    second = np.empty({"full": (k, d, d), "tied": (k, d, d), "diag": (k, d)}.get(kind, (k,)))
    for j in range(k):
        residuals = block - centres[j]  # (b, d)
        share = shares[:, j]
        first[j] = share @ residuals
        if kind in ("full", "tied"):
            second[j] = (residuals * share[:, None]).T @ residuals
        elif kind == "diag":
            second[j] = share @ residuals**2
        else:
            second[j] = share @ np.einsum("ij,ij->i", residuals, residuals)
    if kind == "tied":
        second = second.sum(axis=0)
    return Statistics(kind, centres, shares.sum(axis=0), first, second, log_likelihood, len(block))


def hard_step(
    block: FloatArray,
    labels: IntArray,
    centres: FloatArray,
    kind: str,
    weights: FloatArray | None = None,
) -> Statistics:
    """Statistics of rows that belong to one component each: the E-step with hard assignments.

    Parameters
    ----------
    block : array (b, d)
    labels : array (b,) of int
        The component of each row; a row with the label −1 belongs to none.
    centres : array (K, d)
    kind : str
        full, tied, diag or spherical.
    weights : array (b,), optional

    Returns
    -------
    Statistics

    Examples
    --------
    >>> rows, labels = np.array([[0.0], [2.0], [9.0]]), np.array([0, 0, 1])
    >>> hard_step(rows, labels, np.zeros((2, 1)), "full").means().ravel()
    array([1., 9.])
    """
    parts = []
    for k in range(len(centres)):
        mine = labels == k
        rows = block[mine]
        own = None if weights is None else weights[mine]
        parts.append(expected_statistics(rows, np.ones((len(rows), 1)), centres[[k]], kind, own))
    seconds = [part.second for part in parts]
    return Statistics(
        kind,
        centres,
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.add.reduce(seconds) if kind == "tied" else np.concatenate(seconds),
        0.0,
        len(block),
    )


def one_pass(rows: Rows, mixture: Mixture) -> Statistics:
    """The E-step of all rows: the blocks' statistics, added in their order."""
    parts = (e_step(block, mixture, weights) for block, weights in rows)
    total = next(parts)
    for part in parts:
        total = total + part
    return total
