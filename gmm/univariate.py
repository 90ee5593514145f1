"""The scalar case: a mixture of K normal densities on the line, in one function.

:func:`gmm_em` needs no other part of the package, so that the whole algorithm can be read on one
page beside its derivation.
"""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import (
    WIDEST_RANGE,
    FloatArray,
    as_count,
    as_non_negative,
    as_vector,
)

__all__ = ["VARIANCE_FLOOR", "ScalarMixture", "gmm_em"]

#: No variance becomes smaller than this.
VARIANCE_FLOOR = 1e-6


class ScalarMixture(TypedDict):
    """What :func:`gmm_em` returns: plain lists and numbers."""

    means: list[float]
    variances: list[float]
    weights: list[float]
    log_likelihood: float
    iterations: int


def gmm_em(
    data: ArrayLike, k: int, max_iter: int = 100, tol: float = 1e-6, seed: int = 42
) -> ScalarMixture:
    """Fit K normal densities to numbers by EM (:eq:`eq-scalar-updates`).

    Parameters
    ----------
    data : array (n,)
        At least k numbers, none beyond ±1e130.
    k : int
        The number of components.
    max_iter : int
        The greatest number of iterations, at least 1.
    tol : float
        EM stops when the log-likelihood moves by less than this.
    seed : int
        Of the generator that picks k of the numbers as the first means.

    Returns
    -------
    dict
        ``means``, ``variances`` and ``weights``, lists of k numbers after the last M-step;
        ``log_likelihood``, the one that the last E-step but one saw if EM stopped by ``tol``, else
        the one that the last E-step saw; ``iterations``, the number of M-steps.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.

    Notes
    -----
    The first means are members of the data at distinct positions, every variance is that of the
    data, the weights are equal. Variances are floored at 1e-6. Densities are handled as logarithms
    (:eq:`eq-scalar-responsibilities`), so that a number far from all components costs nothing.
    A component that is responsible for nothing keeps its mean and variance, with weight zero.

    Examples
    --------
    >>> from gmm.datasets import hastie
    >>> result = gmm_em(hastie().X[:, 0], k=2, max_iter=1000, tol=1e-12)
    >>> sorted(round(mean, 3) for mean in result["means"]), round(result["log_likelihood"], 4)
    ([1.083, 4.656], -38.9134)
    """
    x = as_vector(data, "data")
    if (np.abs(x) > WIDEST_RANGE).any():
        raise ValueError(
            f"data: expected numbers of no more than {WIDEST_RANGE:.0e}, got "
            f"{x[np.abs(x).argmax()]:.3g}; give them in another unit, or squares would be none"
        )
    n_components = as_count(k, "k")
    if x.size < n_components:
        raise ValueError(f"data: expected at least {n_components} numbers, got {x.size}")
    n_iterations = as_count(max_iter, "max_iter")
    tolerance = as_non_negative(tol, "tol")
    chosen = np.random.RandomState(as_count(seed, "seed", minimum=0)).choice(
        x.size, n_components, replace=False
    )
    means = x[chosen]
    variances = np.maximum(np.full(n_components, x.var()), VARIANCE_FLOOR)
    weights = np.full(n_components, 1.0 / n_components)
    previous = -np.inf
    iterations = 0
    while iterations < n_iterations:
        iterations += 1
        shares, log_likelihood = _scalar_e_step(x, means, variances, weights)
        means, variances, weights = _scalar_m_step(x, shares, means, variances)
        if abs(log_likelihood - previous) < tolerance:
            break
        previous = log_likelihood
    return {
        "means": means.tolist(),
        "variances": variances.tolist(),
        "weights": weights.tolist(),
        "log_likelihood": previous,
        "iterations": iterations,
    }


def _scalar_e_step(
    x: FloatArray, means: FloatArray, variances: FloatArray, weights: FloatArray
) -> tuple[FloatArray, float]:
    """Responsibilities (:eq:`eq-scalar-responsibilities`), shape ``(n, K)``; log-likelihood."""
    with np.errstate(divide="ignore"):
        constants = np.log(weights) - 0.5 * np.log(2 * np.pi * variances)
    log_joint = constants - 0.5 * (x[:, None] - means) ** 2 / variances  # (n, K)
    greatest = log_joint.max(axis=1, keepdims=True)
    scaled = np.exp(log_joint - greatest)
    totals = scaled.sum(axis=1, keepdims=True)
    return scaled / totals, float((greatest + np.log(totals)).sum())


def _scalar_m_step(
    x: FloatArray, shares: FloatArray, means: FloatArray, variances: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means, variances and weights by :eq:`eq-scalar-updates`."""
    counts = shares.sum(axis=0)
    alive = counts > 0
    divisor = np.where(alive, counts, 1.0)
    new_means = np.where(alive, (shares * x[:, None]).sum(axis=0) / divisor, means)
    squares = (shares * (x[:, None] - new_means) ** 2).sum(axis=0)
    new_variances = np.where(alive, np.maximum(squares / divisor, VARIANCE_FLOOR), variances)
    return new_means, new_variances, counts / x.size
