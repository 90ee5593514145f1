"""Criteria for the number of components and the family: fit against the number of parameters."""

from __future__ import annotations

import numpy as np

from gmm.checks import as_count

__all__ = ["aic", "bic"]


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
