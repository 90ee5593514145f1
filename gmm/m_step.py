"""The M-step: the mixture that matches given expected statistics.

Each update is the global maximum of the expected complete-data log-likelihood over the parameters
of a family; :prf:ref:`thm-matched-statistics` says what they have in common.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gmm.checks import FloatArray, SingularCovarianceError, as_non_negative
from gmm.families import FAMILIES, parse_family
from gmm.mixture import Mixture
from gmm.statistics import Statistics

__all__ = [
    "diag_covariances",
    "full_covariances",
    "m_step",
    "spherical_covariances",
    "tied_covariance",
    "updated_weights",
]


#: A component with this share of the rows, or less, has none.
EMPTY = 2.0**-150
#: A component narrower than this part of the data's own deviation has collapsed.
NARROWEST = 1e-9
#: No weight of a candidate of an accelerator may be smaller.
SMALLEST_WEIGHT = 1e-12


def m_step(statistics: Statistics, family: str = "VVV", ridge: float = 0.0) -> Mixture:
    """The mixture of greatest expected log-likelihood, given the statistics of an E-step.

    Parameters
    ----------
    statistics : Statistics
        Of the kind that the family needs.
    family : str
        What the covariances have in common: one of the names in :mod:`gmm.families`.
    ridge : float
        Added to each variance, in squared units of the data.

    Returns
    -------
    Mixture
        Weights :eq:`eq-weight-update`, means :eq:`eq-mean-update`, and covariances by the update
        of the family: :eq:`eq-covariance-update`, :eq:`eq-tied-update`, :eq:`eq-diag-update` or
        :eq:`eq-spherical-update`.

    Raises
    ------
    SingularCovarianceError
        If a component is responsible for no row, or if its covariance is not positive definite.

    Examples
    --------
    >>> from gmm.e_step import expected_statistics
    >>> X = np.array([[0.0], [2.0], [10.0], [12.0]])
    >>> labels = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> m_step(expected_statistics(X, labels, np.zeros((2, 1)), "full"))
    Mixture(VVV, 2 components, 1 features)
      weight 0.5000  mean [1.]
      weight 0.5000  mean [11.]
    """
    name = parse_family(family)
    kind = FAMILIES[name]
    if statistics.kind != kind:
        raise ValueError(
            f"statistics: expected the kind {kind!r} for the family {name}, got {statistics.kind!r}"
        )
    ridge = as_non_negative(ridge, "ridge")
    responsible = statistics.counts > EMPTY * statistics.total_weight
    if not responsible.all():
        empty = int(np.argmin(responsible))
        raise SingularCovarianceError(
            f"component {empty} is responsible for no row, so its mean is undefined; "
            "take fewer components or another start"
        )
    covariances = _UPDATES[kind](statistics)
    if ridge:
        _add_to_variances(covariances, kind, ridge)
    return Mixture.from_stored(updated_weights(statistics), statistics.means(), covariances, name)


def updated_weights(statistics: Statistics) -> FloatArray:
    """π_k = N_k / Σ_j N_j (:eq:`eq-weight-update`), shape ``(K,)``."""
    return statistics.counts / statistics.total_weight


def full_covariances(statistics: Statistics) -> FloatArray:
    """Σ_k = scatter of component k / N_k (:eq:`eq-covariance-update`), shape ``(K, d, d)``."""
    return statistics.scatter() / statistics.counts[:, None, None]


def tied_covariance(statistics: Statistics) -> FloatArray:
    """Σ = scatter of all components / Σ_k N_k (:eq:`eq-tied-update`), shape ``(d, d)``."""
    return statistics.scatter() / statistics.total_weight


def diag_covariances(statistics: Statistics) -> FloatArray:
    """The diagonals of the full update (:eq:`eq-diag-update`), shape ``(K, d)``."""
    return statistics.scatter() / statistics.counts[:, None]


def spherical_covariances(statistics: Statistics) -> FloatArray:
    """The mean variances of the full update (:eq:`eq-spherical-update`), shape ``(K,)``."""
    return statistics.scatter() / (statistics.counts * statistics.n_features)


_UPDATES: dict[str, Callable[[Statistics], FloatArray]] = {
    "full": full_covariances,
    "tied": tied_covariance,
    "diag": diag_covariances,
    "spherical": spherical_covariances,
}


def _add_to_variances(covariances: FloatArray, kind: str, ridge: float) -> None:
    """Add the ridge to every variance, in place: the array is fresh from an update."""
    if kind in ("full", "tied"):
        d = covariances.shape[-1]
        covariances.reshape(-1, d * d)[:, :: d + 1] += ridge
    else:
        covariances += ridge
