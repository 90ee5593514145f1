"""The covariance families: their names, how many numbers they hold, and how these are stored.

A family says what the K covariance matrices have in common. Its name has three letters, for volume,
shape and orientation: E is equal for all components, V varies, I stands for the identity. Four of
the families have a second name, after what a reader sees.

=======  =============  =====================================  ==================
name     second name    covariance of component k              stored as
=======  =============  =====================================  ==================
``VVV``  ``full``       any positive definite matrix           (K, d, d)
``EEE``  ``tied``       one such matrix for all components     (d, d)
``VVI``  ``diag``       diagonal                               (K, d)
``VII``  ``spherical``  a multiple of the identity             (K,)
=======  =============  =====================================  ==================
"""

from __future__ import annotations

import numpy as np

from gmm.checks import FloatArray, as_choice

__all__ = ["FAMILIES", "n_parameters", "parse_family"]

#: The kind of storage of each family.
FAMILIES = {"VVV": "full", "EEE": "tied", "VVI": "diag", "VII": "spherical"}
_NAMES = {name: name for name in FAMILIES} | {kind: name for name, kind in FAMILIES.items()}


def parse_family(family: object) -> str:
    """The three-letter name of a family.

    Examples
    --------
    >>> parse_family("full"), parse_family("EEE")
    ('VVV', 'EEE')
    """
    return _NAMES[as_choice(family, "family", tuple(_NAMES))]


def stored_shape(kind: str, n_components: int, n_features: int) -> tuple[int, ...]:
    """The shape in which the covariances of one kind are stored."""
    k, d = n_components, n_features
    return {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[kind]


def n_parameters(family: str, n_components: int, n_features: int) -> int:
    """The number of free parameters of a mixture (:eq:`eq-parameter-count`).

    Parameters
    ----------
    family : str
    n_components, n_features : int

    Returns
    -------
    int
        K − 1 weights, K d means, and the covariances of the family.

    Examples
    --------
    >>> n_parameters("VVV", 2, 2), n_parameters("EEE", 3, 2)
    (11, 11)
    """
    k, d = n_components, n_features
    matrix = d * (d + 1) // 2
    covariances = {"VVV": k * matrix, "EEE": matrix, "VVI": k * d, "VII": k}
    return k - 1 + k * d + covariances[parse_family(family)]


def expand(stored: FloatArray, kind: str, n_components: int, n_features: int) -> FloatArray:
    """The stored covariances as matrices, shape ``(K, d, d)``."""
    shape = (n_components, n_features, n_features)
    if kind == "full":
        return stored
    if kind == "tied":
        return np.broadcast_to(stored, shape)
    variances = stored if kind == "diag" else np.broadcast_to(stored[:, None], shape[:2])
    return variances[:, :, None] * np.eye(n_features)


def restrict(covariances: FloatArray, kind: str, weights: FloatArray) -> FloatArray:
    """The member of a family that fits given matrices ``(K, d, d)`` best, in its stored shape.

    It is what the M-step of the family makes of statistics whose scatter matrices are these
    covariances with counts proportional to the weights: :eq:`eq-tied-update`,
    :eq:`eq-diag-update`, :eq:`eq-spherical-update`.
    """
    if kind == "full":
        return covariances
    if kind == "tied":
        return np.tensordot(weights, covariances, axes=1)
    variances = np.diagonal(covariances, axis1=-2, axis2=-1)
    return variances.copy() if kind == "diag" else variances.mean(axis=-1)
