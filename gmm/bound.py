"""The evidence lower bound of a mixture, for any responsibilities, and its gap to the likelihood.

The functions hold the responsibilities of all rows, which a fit never does: they are here to look
at the theory, on data of moderate size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import FloatArray, as_matrix, as_sample_weight, refuse_non_finite
from gmm.mixture import Mixture
from gmm.rows import as_rows

__all__ = ["entropy", "expected_complete_log_likelihood", "gap", "lower_bound"]


def lower_bound(
    X: ArrayLike,
    mixture: Mixture,
    responsibilities: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """The evidence lower bound (:eq:`eq-elbo`): expected complete log-likelihood plus entropy.

    Parameters
    ----------
    X : array (n, d)
    mixture : Mixture
    responsibilities : array (n, K)
        Any distribution over the components for each row, not only the posterior.
    sample_weight : array (n,), optional

    Returns
    -------
    float
        At most the log-likelihood, by :prf:ref:`thm-decomposition`.

    Examples
    --------
    >>> mixture = Mixture([0.5, 0.5], [[-1.0], [1.0]], [1.0, 1.0], "VII")
    >>> X = [[-1.0], [0.5]]
    >>> bound = lower_bound(X, mixture, mixture.responsibilities(X))
    >>> abs(bound - mixture.log_likelihood(X)) < 1e-12
    True
    """
    return expected_complete_log_likelihood(X, mixture, responsibilities, sample_weight) + entropy(
        responsibilities, sample_weight
    )


def expected_complete_log_likelihood(
    X: ArrayLike,
    mixture: Mixture,
    responsibilities: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Q (:eq:`eq-q-function`): the complete-data log-likelihood, expected under responsibilities.

    Parameters
    ----------
    X : array (n, d)
    mixture : Mixture
        The parameters at which it is evaluated.
    responsibilities : array (n, K)
    sample_weight : array (n,), optional
    """
    shares = _shares(responsibilities, sample_weight, mixture.n_components)
    joint = mixture.component_log_densities(X)
    if len(joint) != len(shares):
        raise ValueError(f"responsibilities: expected {len(joint)} rows, got {len(shares)}")
    # a share of zero counts for nothing, however small the density
    return float((shares * np.where(shares > 0, joint, 0.0)).sum())


def entropy(responsibilities: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Entropy of responsibilities (:eq:`eq-entropy`), summed over rows, in nats.

    Parameters
    ----------
    responsibilities : array (n, K)
    sample_weight : array (n,), optional

    Examples
    --------
    >>> entropy([[0.5, 0.5], [1.0, 0.0]])  # log 2 + 0
    0.6931471805599453
    """
    shares = _shares(responsibilities, sample_weight, None)
    plain = np.asarray(responsibilities, dtype=np.float64)
    return float(0.0 - (shares * np.log(np.where(plain > 0, plain, 1.0))).sum())


def gap(
    X: ArrayLike,
    mixture: Mixture,
    responsibilities: ArrayLike,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Divergence of the posterior from given responsibilities (:eq:`eq-gap`), summed over rows.

    It is what the lower bound lacks to the log-likelihood (:prf:ref:`thm-decomposition`), computed
    here by its definition :eq:`eq-kl`, not as that difference.

    Parameters
    ----------
    X : array (n, d)
    mixture : Mixture
    responsibilities : array (n, K)
    sample_weight : array (n,), optional
    """
    shares = _shares(responsibilities, sample_weight, mixture.n_components)
    rows = as_rows(X, n_features=mixture.n_features)
    if rows.n_rows != len(shares):
        raise ValueError(f"responsibilities: expected {rows.n_rows} rows, got {len(shares)}")
    log_posterior = mixture.component_log_densities(X) - mixture.log_density(X)[:, None]
    plain = np.asarray(responsibilities, dtype=np.float64)
    log_ratio = np.where(plain > 0, np.log(np.where(plain > 0, plain, 1.0)) - log_posterior, 0.0)
    return float((shares * log_ratio).sum())


def _shares(
    responsibilities: ArrayLike, sample_weight: ArrayLike | None, n_components: int | None
) -> FloatArray:
    """Responsibilities times weights, once both are known to be sound."""
    shares = as_matrix(responsibilities, "responsibilities", n_features=n_components)
    shares = shares.astype(np.float64)
    refuse_non_finite(shares, "responsibilities")
    if (shares < 0).any() or (np.abs(shares.sum(axis=1) - 1.0) > 1e-6).any():
        raise ValueError("responsibilities: expected rows of non-negative numbers with sum 1")
    weights = as_sample_weight(sample_weight, len(shares))
    return shares if weights is None else shares * weights[:, None]
