"""Transport between mixtures: how far one is from another, and which component goes where.

Densities can be compared without looking at which component is which; parameters cannot, because
the order of the components means nothing. Transport does both: it moves the mass of one mixture to
the other, component by component, at the least cost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gmm.checks import FloatArray, shown
from gmm.mixture import Mixture
from gmm.normal import Normal, cholesky

__all__ = ["Transport", "wasserstein"]


class Transport(NamedTuple):
    """A distance and how it comes about; from :func:`wasserstein`.

    Parameters
    ----------
    distance : float
        In the units of the features.
    plan : array (K, L)
        What part of the mass goes from each component of the one to each of the other. Its rows sum
        to the weights of the one, its columns to those of the other; at most K + L - 1 entries are
        not zero.
    costs : array (K, L)
        Squared distances of the components; the squared distance is the sum of ``plan * costs``.
    """

    distance: float
    plan: FloatArray
    costs: FloatArray


def wasserstein(
    one: Mixture | Normal,
    other: Mixture | Normal,
) -> Transport:
    r"""The Wasserstein distance of two normals, or the one of Delon and Desolneux of two mixtures.

    Of two normals it is :eq:`eq-bures`, the least root mean square distance of two vectors with
    these distributions (:prf:ref:`thm-bures`). Of mixtures it is the least for vectors whose joint
    distribution is again a mixture of normals, :eq:`eq-mixture-wasserstein`: a metric, never below
    the Wasserstein distance (:prf:ref:`thm-mixture-wasserstein`, :prf:ref:`prop-mixture-metric`).
    Numbers of components may differ, and the order of the components does not matter. It depends on
    the units of the features: where these are not comparable, divide by standard deviations first
    (:func:`gmm.algebra.affine`).

    Parameters
    ----------
    one, other : Mixture or Normal
        On the same features, of K and L components; a Normal counts as a mixture of one.

    Returns
    -------
    Transport

    Raises
    ------
    TypeError
        If one of them is neither a Mixture nor a Normal.
    ValueError
        If they have different numbers of features.
    ImportError
        If both have several components and SciPy, which solves the linear programme, is not
        installed (``pip install 'gmm-first-principles[transport]'``).

    Examples
    --------
    >>> wasserstein(Normal([0.0], [[1.0]]), Normal([3.0], [[25.0]])).distance
    5.0
    >>> one = Mixture([0.5, 0.5], [[0.0], [10.0]], [1.0, 1.0], "VII")
    >>> other = Mixture([0.25, 0.75], [[11.0], [1.0]], [1.0, 1.0], "VII")
    >>> wasserstein(one, other).plan
    array([[0.  , 0.5 ],
           [0.25, 0.25]])
    """
    a, b = _as_mixture(one, "one"), _as_mixture(other, "other")
    if a.n_features != b.n_features:
        wanted = f"a distribution on {a.n_features} features"
        found = f"one on {b.n_features}"
        raise ValueError(f"other: expected {wanted}, got {found}")
    costs = _costs(a, b)
    plan = _plan(costs, a.weights, b.weights)
    distance = float(np.sqrt((plan * costs).sum()))
    return Transport(distance, plan, costs)


def _as_mixture(value: object, name: str) -> Mixture:
    if isinstance(value, Normal):
        return Mixture.from_stored(np.ones(1), value.mean[None], value.covariance[None], "VVV")
    if isinstance(value, Mixture):
        return value
    raise TypeError(f"{name}: expected a Mixture or a Normal, got {shown(value)}")


def _costs(one: Mixture, other: Mixture) -> FloatArray:
    """Squared distances of all pairs of components (:eq:`eq-procrustes`), without cancellation."""
    A = cholesky(one.covariances, "one")[:, None]  # (K, 1, d, d)
    B = cholesky(other.covariances, "other")  # (L, d, d)
    left, _, right = np.linalg.svd(np.swapaxes(A, -1, -2) @ B)
    shapes = ((A @ (left @ right) - B) ** 2).sum(axis=(-2, -1))
    step = one.means[:, None, :] - other.means
    costs: FloatArray = (step**2).sum(axis=-1) + shapes
    return costs


def _plan(costs: FloatArray, one: FloatArray, other: FloatArray) -> FloatArray:
    """The matrix with these sums of rows and columns for which the cost is least."""
    k, j = costs.shape
    if min(k, j) == 1:
        return np.outer(one, other)
    try:
        from scipy.optimize import linprog
    except ImportError:
        raise ImportError(
            "gmm.transport needs SciPy: pip install 'gmm-first-principles[transport]'"
        ) from None
    of_rows = np.repeat(np.eye(k), j, axis=1)
    of_columns = np.tile(np.eye(j), k)[:-1]  # the last sum follows from the others
    found = linprog(
        costs.ravel() / max(costs.max(), np.finfo(np.float64).tiny),
        A_eq=np.vstack([of_rows, of_columns]),
        b_eq=np.concatenate([one, other[:-1]]),
        method="highs-ds",  # ends at a vertex
    )
    assert found.x is not None  # there always is a plan
    plan: FloatArray = np.maximum(found.x, 0.0).reshape(k, j)
    return plan
