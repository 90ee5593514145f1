"""Criteria for the number of components and the family: fit against the number of parameters."""

from __future__ import annotations

import numpy as np

from gmm.checks import as_count

__all__ = ["aic", "bic", "icl"]


def aic(log_likelihood: float, n_parameters: int) -> float:
    """Akaike's criterion (:eq:`eq-aic`); smaller is better.

    Parameters
    ----------
    log_likelihood : float
        At its maximum.
    n_parameters : int

    Examples
    --------
    >>> aic(-100.0, 5)
    210.0
    """
    return float(-2.0 * log_likelihood + 2.0 * as_count(n_parameters, "n_parameters"))


def bic(log_likelihood: float, n_parameters: int, n: float) -> float:
    """The Bayesian information criterion (:eq:`eq-bic`); smaller is better.

    It is −2 times Laplace's approximation to the log-evidence (:prf:ref:`thm-laplace`), without the
    terms that stay bounded as n grows.

    Parameters
    ----------
    log_likelihood : float
        At its maximum.
    n_parameters : int
    n : float
        The number of rows, or their total weight.

    Examples
    --------
    >>> round(bic(-1130.2640, 11, 272), 3)
    2322.192
    """
    if not n > 0:
        raise ValueError(f"n: expected a positive number, got {n}")
    penalty = as_count(n_parameters, "n_parameters") * np.log(n)
    return float(-2.0 * log_likelihood + penalty)


def icl(log_likelihood: float, n_parameters: int, n: float, log_assignments: float) -> float:
    r"""The integrated completed likelihood (:eq:`eq-icl`); smaller is better.

    BIC, and a charge for rows that might belong to more than one component (Biernacki, Celeux and
    Govaert 2000, with hard assignments, as mclust computes it).

    Parameters
    ----------
    log_likelihood : float
        At its maximum.
    n_parameters : int
    n : float
        The number of rows, or their total weight.
    log_assignments : float
        :math:`\sum_i w_i \log \max_k r_{ik}`, which is not positive.

    Examples
    --------
    >>> round(icl(-1126.326, 11, 272, -21.754), 2)
    2357.82
    """
    if not log_assignments <= 0:
        raise ValueError(f"log_assignments: expected a number of at most 0, got {log_assignments}")
    return bic(log_likelihood, n_parameters, n) - 2.0 * float(log_assignments)
