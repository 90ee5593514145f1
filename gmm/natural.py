r"""The E-step in natural parameters: two matrix products and one exponential.

The logarithm of a weighted normal density is linear in :math:`T(\boldsymbol x) =
(1, \boldsymbol x, \operatorname{vech}(\boldsymbol x \boldsymbol x^{\mathsf T}))`, so
that the log joint densities of a block of rows are one product :math:`\boldsymbol\Theta T`, and
their expected statistics another, :math:`\boldsymbol R T^{\mathsf T}`
(:prf:ref:`thm-two-products`): little work, in the operations that computers do best. What it costs
is accuracy: the expanded square cancels when components are narrow beside their distance from the
centre, with an error that :func:`cancellation` bounds. Rows are therefore centred first, and
callers look at the bound.

All arrays here are features-major: one row for each feature, so that sums over components and
products of features run along contiguous memory.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gmm.checks import EPS, FloatArray, IntArray

__all__ = [
    "cancellation",
    "features",
    "natural_parameters",
    "statistics_size",
    "unpacked",
]

LOG_2 = float(np.log(2.0))
LOG2_E = 1.0 / LOG_2

#: Stands for the logarithm of zero: matrix products must not meet an infinity.
OF_ZERO = -1e300
SMALLEST = float(np.finfo(np.float64).tiny)

#: Features of a full kind from which centred residuals are faster.
MANY_FEATURES = 28

#: The greatest error of a log-density, in nats, for which the expanded form is used.
TOLERANCE = 1e-10


def statistics_size(kind: str, d: int) -> int:
    """The length of T(x): how many numbers of a row the kind's statistics need.

    Examples
    --------
    >>> [statistics_size(kind, 3) for kind in ("full", "tied", "diag", "spherical")]
    [10, 4, 7, 5]
    """
    return 1 + d + {"full": d * (d + 1) // 2, "tied": 0, "diag": d, "spherical": 1}[kind]


def features(rows: FloatArray, kind: str, out: FloatArray) -> FloatArray:
    """T(x) for a block of centred rows.

    Parameters
    ----------
    rows : array (d, b)
        Centred rows, features-major; it may be ``out[1 : 1 + d]`` itself.
    kind : str
        full, tied, diag or spherical.
    out : array (P, b)
        Where to write; it is returned. Row 0 is one, the next d are the row, the rest its products:
        (0, 0), (1, 0), (1, 1), (2, 0), ... if full, squares if diag, their sum if spherical.
    """
    d = len(rows)
    out[0] = 1.0
    linear = out[1 : 1 + d]
    if not np.may_share_memory(linear, rows):
        linear[...] = rows
    if kind == "full":
        p = 1 + d
        for i in range(d):
            np.multiply(linear[i], linear[: i + 1], out=out[p : p + i + 1])
            p += i + 1
    elif kind == "diag":
        np.multiply(linear, linear, out=out[1 + d :])
    elif kind == "spherical":
        np.einsum("ij,ij->j", linear, linear, out=out[1 + d])
    return out


def natural_parameters(
    weights: FloatArray,
    offsets: FloatArray,
    whiteners: FloatArray,
    log_determinants: FloatArray,
    kind: str,
) -> tuple[FloatArray, float]:
    r"""Θ (:eq:`eq-natural-parameters`) for powers of two, and what was taken out of it.

    Parameters
    ----------
    weights : array (K,)
    offsets : array (K, d)
        Means less the centre.
    whiteners : array
        Inverse Cholesky factors or reciprocal deviations, in the shape of the kind.
    log_determinants : array (K,)
    kind : str

    Returns
    -------
    theta : array (K, P)
        ``theta @ T`` is the log joint density in units of log 2, less ``shift``; of a tied kind
        also less the quadratic term that all components share.
    shift : float
        In nats. Every exponent of a kind that is not tied is then at most rounding above zero
        (:prf:ref:`prop-no-overflow`).

    Notes
    -----
    The normalising constant :math:`-\tfrac d2 \log 2\pi` is left out too.
    """
    k, d = offsets.shape
    theta = np.empty((k, statistics_size(kind, d)))
    constants = log_weights(weights) - 0.5 * log_determinants
    shift = float(constants.max())
    if kind == "full":
        precisions = np.matmul(whiteners.transpose(0, 2, 1), whiteners)
        linear = np.matmul(precisions, offsets[:, :, None])[:, :, 0]
        theta[:, 1 : 1 + d] = linear
        squares = np.einsum("ki,ki->k", linear, offsets)
        i, j, factors = packing(d)
        np.multiply(precisions[:, i, j], factors, out=theta[:, 1 + d :])
    elif kind == "tied":
        white = offsets @ whiteners.T  # (K, d)
        theta[:, 1:] = white @ whiteners
        squares = np.einsum("ki,ki->k", white, white)
    else:
        scale = whiteners if kind == "diag" else whiteners[:, None]
        white = offsets * scale
        theta[:, 1 : 1 + d] = white * scale
        theta[:, 1 + d :] = -0.5 * scale**2
        squares = np.einsum("ki,ki->k", white, white)
    theta[:, 0] = constants - shift - 0.5 * squares
    theta *= LOG2_E
    return theta, shift


def log_weights(weights: FloatArray) -> FloatArray:
    """Logarithms of mixing proportions; a finite number beyond all others for zero."""
    if weights.min() > 0:
        return np.log(weights)
    return np.log(np.maximum(weights, SMALLEST)) + np.where(weights > 0, 0.0, OF_ZERO)


@lru_cache
def packing(d: int) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows and columns of a lower triangle, and the factors of its entries in a quadratic form."""
    i, j = np.tril_indices(d)
    return i, j, np.where(i == j, -0.5, -1.0)


def unpacked(packed: FloatArray, d: int) -> FloatArray:
    """Symmetric matrices ``(K, d, d)`` from their lower triangles ``(K, d (d + 1) / 2)``."""
    matrices = np.empty((len(packed), d, d))
    i, j, _ = packing(d)
    matrices[:, i, j] = packed
    matrices[:, j, i] = packed
    return matrices


def cancellation(whiteners: FloatArray, kind: str, reach: FloatArray) -> FloatArray:
    r"""A bound, but for a small constant, on the rounding error of the expanded form, in nats.

    Parameters
    ----------
    whiteners : array
        In the shape of the kind.
    kind : str
    reach : array (d,)
        No row and no mean is farther than this from the centre in any feature.

    Returns
    -------
    array (K,)
        :math:`\kappa_k = \varepsilon\, \lVert |\boldsymbol V_k|\, \boldsymbol h \rVert^2`
        (:eq:`eq-cancellation`), for each component, or for all if tied, shape ``(1,)``: the terms
        of the quadratic form can be that large, times a rounding unit, whatever their sum.
    """
    if kind == "spherical":
        return EPS * float(reach @ reach) * whiteners**2
    white = whiteners * reach if kind == "diag" else np.atleast_2d(np.abs(whiteners) @ reach)
    bounds: FloatArray = EPS * np.einsum("ki,ki->k", white, white)
    return bounds
