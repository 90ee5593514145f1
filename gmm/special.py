r"""The logarithm of the gamma function and its derivative, of arrays.

The normalising constants of Dirichlet, beta, gamma and Wishart distributions are made of the one
(:eq:`eq-gamma-function`), and their expected logarithms of the other (:eq:`eq-digamma`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import FloatArray

__all__ = ["digamma", "log_beta", "log_gamma", "wishart_digamma", "wishart_log_gamma"]

#: The asymptotic series is used from here on: seven terms are exact there to rounding.
ASYMPTOTIC = 10
#: B_2m / 2m for m = 1, ..., 7, with Bernoulli's numbers B.
SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)

_lgamma = np.frompyfunc(math.lgamma, 1, 1)


def log_gamma(x: ArrayLike) -> FloatArray:
    """The logarithm of the gamma function, for positive numbers.

    Examples
    --------
    >>> log_gamma([1.0, 5.0])  # 0! and 4! are 1 and 24
    array([0.        , 3.17805383])
    """
    return np.asarray(_lgamma(x), dtype=np.float64)


def digamma(x: ArrayLike) -> FloatArray:
    r"""The derivative of :func:`log_gamma`, for positive numbers.

    The recurrence :math:`\psi(x) = \psi(x + 1) - 1 / x` leads to arguments of ten and more, and
    there :math:`\psi(y) = \log y - 1 / 2y - \sum_m B_{2m} / (2m\, y^{2m})`, cut off, is exact to
    rounding.

    Examples
    --------
    >>> digamma([1.0, 2.0])  # minus Euler's constant, and one more
    array([-0.57721566,  0.42278434])
    """
    x = np.asarray(x, dtype=np.float64)
    recurrence = sum(1.0 / (x + j) for j in reversed(range(ASYMPTOTIC)))
    y = x + ASYMPTOTIC
    inverse = 1.0 / y**2
    series = np.zeros_like(y)
    for coefficient in reversed(SERIES):
        series = inverse * (coefficient + series)
    value: FloatArray = np.log(y) - 0.5 / y - series - recurrence
    return value


def log_beta(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """The logarithm of the beta function.

    Examples
    --------
    >>> np.exp(log_beta(2.0, 3.0)).round(12)  # 1! 2! / 4!
    np.float64(0.083333333333)
    """
    return log_gamma(a) + log_gamma(b) - log_gamma(np.add(a, b))


def wishart_log_gamma(degrees_of_freedom: ArrayLike, d: int) -> FloatArray:
    r"""The sum of :math:`\log\Gamma((\nu + 1 - j) / 2)` over j = 1, ..., d.

    But for powers of π, this is the multivariate gamma function's logarithm
    (:eq:`eq-wishart-normaliser`).

    Parameters
    ----------
    degrees_of_freedom : array (K,)
        More than d − 1.
    d : int

    Returns
    -------
    array (K,)
    """
    return np.asarray(log_gamma(_halves(degrees_of_freedom, d)).sum(axis=-1))


def wishart_digamma(degrees_of_freedom: ArrayLike, d: int) -> FloatArray:
    r"""The sum of :math:`\psi((\nu + 1 - j) / 2)` over j = 1, ..., d.

    Parameters
    ----------
    degrees_of_freedom : array (K,)
        More than d − 1.
    d : int

    Returns
    -------
    array (K,)
    """
    return np.asarray(digamma(_halves(degrees_of_freedom, d)).sum(axis=-1))


def _halves(degrees_of_freedom: ArrayLike, d: int) -> FloatArray:
    values: FloatArray = np.asarray(degrees_of_freedom, dtype=np.float64)[..., None]
    return 0.5 * (values - np.arange(d))
