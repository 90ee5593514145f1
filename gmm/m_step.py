"""The M-step: the mixture that matches given expected statistics.

Each update is the global maximum of the expected complete-data log-likelihood over the parameters
of a family; :prf:ref:`thm-matched-statistics` says what they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmm.checks import EmptyComponentError, FloatArray, as_non_negative
from gmm.families import FAMILIES, Groups, Scatter, parse_family, update
from gmm.mixture import Mixture
from gmm.prior import Prior
from gmm.statistics import Statistics, squares_of

__all__ = ["Held", "m_step", "updated_weights"]


#: A component with this share of the rows, or less, has none.
EMPTY = 2.0**-150
#: A component narrower than this part of the data's own deviation has collapsed.
NARROWEST = 1e-9
#: No weight of a candidate of an accelerator may be smaller.
SMALLEST_WEIGHT = 1e-12


def m_step(
    statistics: Statistics,
    family: str = "VVV",
    ridge: float = 0.0,
    *,
    prior: Prior | None = None,
    previous: Mixture | None = None,
    held: Held | None = None,
) -> Mixture:
    """The mixture of greatest expected log-likelihood, given the statistics of an E-step.

    With a prior, that of the greatest sum of this and the prior's log-density.

    Parameters
    ----------
    statistics : Statistics
        Of the kind that the family needs.
    family : str
        What the covariances have in common: one of the names in :mod:`gmm.families`.
    ridge : float
        In squared units of the data. Added to the variances of each component's share of the rows,
        in all directions, before the covariances of the family are found: every component is seen
        with this much noise.
    prior : Prior, optional
    previous : Mixture, optional
        Of the same family: where the inner iteration of VEI, VEE, VEV, EVE and VVE begins. The
        result depends on it by no more than that iteration's tolerance.
    held : Held, optional
        Parameters that stay as they are; the others maximise the same function.

    Returns
    -------
    Mixture
        Weights :eq:`eq-weight-update`, means :eq:`eq-mean-update`, and covariances by the update
        of the family (:func:`gmm.families.update`).

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
    name = parse_family(family, statistics.n_features)
    kind = FAMILIES[name]
    if statistics.kind != kind:
        raise ValueError(
            f"statistics: expected the kind {kind!r} for the family {name}, got {statistics.kind!r}"
        )
    ridge = as_non_negative(ridge, "ridge")
    counts = statistics.counts
    weights = updated_weights(statistics)
    if prior is not None:
        weights = prior.weights(counts)
        statistics = prior.completed(statistics)
    responsible = statistics.counts > EMPTY * statistics.total_weight
    if not responsible.all():
        empty = int(np.argmin(responsible))
        raise EmptyComponentError.of(empty)
    means = statistics.means()
    if held is not None:
        weights, means = held.weights(weights), held.means(means)
        if held.has_covariances:
            return Mixture.from_stored(weights, means, held.mixture.stored, name)
    scatter = scatter_of(statistics, means, ridge)
    if prior is not None:
        scatter = prior.raised(scatter, counts, kind)
    state = None if previous is None else inner_state(previous)
    stored, _ = update(name, scatter, state)
    if kind == "tied":
        stored = stored[0]
    return Mixture.from_stored(weights, means, stored, name)


@dataclass(frozen=True, eq=False)
class Held:
    """Parameters that an M-step leaves as they are.

    Parameters
    ----------
    mixture : Mixture
        Which has them.
    names : frozenset of str
        Some of "weights", "means", "covariances".
    """

    mixture: Mixture
    names: frozenset[str]

    @property
    def has_covariances(self) -> bool:
        """Whether the covariances are held."""
        return "covariances" in self.names

    def weights(self, updated: FloatArray) -> FloatArray:
        """The weights to take."""
        return self.mixture.weights if "weights" in self.names else updated

    def means(self, updated: FloatArray) -> FloatArray:
        """The means to take."""
        return self.mixture.means if "means" in self.names else updated


def updated_weights(statistics: Statistics) -> FloatArray:
    """π_k = N_k / Σ_j N_j (:eq:`eq-weight-update`), shape ``(K,)``."""
    return statistics.counts / statistics.total_weight


def scatter_of(statistics: Statistics, means: FloatArray, ridge: float = 0.0) -> Scatter:
    """The scatter about the new means, with N_k times the ridge in each direction.

    Parameters
    ----------
    statistics : Statistics
    means : array (K, d)
        Those of the statistics, or others that are held.
    ridge : float
    """
    counts, d = statistics.counts, statistics.n_features
    matrices = statistics.scatter()
    apart = (means - statistics.means()) * np.sqrt(counts)[:, None]
    if apart.any():
        matrices = matrices + squares_of(apart, statistics.kind)
    if ridge:
        added = {
            "full": lambda: counts[:, None, None] * np.eye(d),
            "tied": lambda: statistics.total_weight * np.eye(d),
            "diag": lambda: counts[:, None],
            "spherical": lambda: counts * d,
        }[statistics.kind]()
        matrices = matrices + ridge * added
    if statistics.kind == "tied":
        matrices = matrices[None]
    return Scatter(matrices, counts, d, Groups([len(counts)]))


def inner_state(mixture: Mixture) -> FloatArray | None:
    """The volumes or the common axes of a mixture, if its family's update is iterative."""
    if mixture.family in ("VEI", "VEE", "VEV"):
        volumes: FloatArray = np.exp(mixture.log_determinants / mixture.n_features)
        return volumes
    if mixture.family in ("EVE", "VVE"):
        # all covariances have these axes; unequal multipliers keep the sum's eigenvalues apart
        multipliers = np.exp(-mixture.log_determinants / mixture.n_features)
        multipliers /= np.sqrt(np.arange(1.0, len(multipliers) + 1.0))
        return np.linalg.eigh(np.tensordot(multipliers, mixture.stored, axes=1)[None])[1]
    return None
