"""The two steps of EM for all rows, in the form that costs least.

What goes up the likelihood (:mod:`gmm.convergence`) does not look into parameters and statistics:
it only hands them from one step to the other. Here they are mixtures and
:class:`gmm.statistics.Statistics`; in :mod:`gmm.small` they are plain numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gmm.checks import FloatArray, SingularCovarianceError
from gmm.families import FAMILIES, expand, restrict
from gmm.m_step import NARROWEST, SMALLEST_WEIGHT, Held, m_step
from gmm.mixture import Mixture
from gmm.prior import Prior
from gmm.rows import Rows, Source
from gmm.small import SmallSteps
from gmm.statistics import Statistics
from gmm.sweep import Sweep, sweep_of

__all__ = ["MixtureSteps", "steps_for"]


class MixtureSteps:
    """The two steps of EM on values: a mixture gives statistics, statistics give a mixture.

    Parameters
    ----------
    rows : Source
    sweep : callable
        The E-step of all rows: statistics from a mixture.
    family : str
    ridge : float
    prior : Prior, optional
    fixed : frozenset of str
        Parameters that stay as they are loaded.
    """

    def __init__(
        self,
        rows: Source,
        sweep: Any,
        family: str,
        ridge: float,
        prior: Prior | None = None,
        fixed: frozenset[str] = frozenset(),
    ) -> None:
        self.sweep = sweep
        self.family = family
        self.ridge = ridge
        self.prior = prior
        self.fixed = fixed
        self.held: Held | None = None
        self.narrowest = NARROWEST**2 * rows.variances
        self.scales = units_of(rows, ridge, prior)
        self.made: Mixture | None = None

    def load(self, mixture: Mixture) -> Mixture:
        """The parameters of a mixture, in the form in which the steps take them."""
        self.made = None
        return mixture

    def begin(self, start: Mixture) -> Mixture:
        """The parameters of a start, of which some may be held."""
        self.held = Held(start, self.fixed) if self.fixed else None
        return self.load(start)

    def mixture(self, parameters: Mixture) -> Mixture:
        """The mixture that has these parameters."""
        return parameters

    def saved(self, parameters: Mixture) -> dict[str, Any]:
        """All that the steps to come depend on, for a checkpoint."""
        return {"mixture": parameters, "made": self.made}

    def restored(self, saved: dict[str, Any]) -> Mixture:
        """The parameters of which :meth:`saved` has told, after :meth:`begin` with their start."""
        mixture: Mixture = saved["mixture"]
        made: Mixture | None = saved["made"]
        if made is not None and (made.family, made.means.shape) != (
            mixture.family,
            mixture.means.shape,
        ):
            raise ValueError("mixtures of different kinds")
        self.made = made
        return mixture

    def expect(self, parameters: Mixture) -> tuple[Statistics, float]:
        """The E-step of all rows, and the objective: the log-likelihood and the log-prior."""
        statistics = self.sweep(parameters)
        objective = statistics.log_likelihood
        if self.prior is not None:
            objective += self.prior.log_density(parameters)
        return statistics, objective

    def log_likelihood(self, statistics: Statistics, objective: float) -> float:
        """The log-likelihood alone."""
        return statistics.log_likelihood

    def maximise(self, statistics: Statistics) -> Mixture:
        """The M-step; a component that has become nothing beside the data is refused.

        An inner iteration begins where that of the last M-step has ended.
        """
        mixture = m_step(
            statistics,
            self.family,
            self.ridge,
            prior=self.prior,
            previous=self.made,
            held=self.held,
        )
        self.made = mixture
        collapsed = mixture.variances < self.narrowest
        if collapsed.any():
            k = int(np.argmax(collapsed.any(axis=1)))
            raise SingularCovarianceError(f"component {k} has almost no width")
        return mixture

    def statistics(self, statistics: Statistics, log_likelihood: float) -> Statistics:
        """The statistics as one value."""
        return statistics

    def vector(self, parameters: Mixture) -> FloatArray:
        """The parameters as one vector, in units of the data's own spread."""
        means = (parameters.means - self.sweep.centre) / self.scales
        stored = parameters.stored / self._units(parameters.kind)
        return np.concatenate([parameters.weights, means.ravel(), stored.ravel()])

    def _units(self, kind: str) -> FloatArray:
        scales = self.scales
        if kind in ("full", "tied"):
            return np.outer(scales, scales)
        return scales**2 if kind == "diag" else np.array(scales @ scales / len(scales))

    def from_vector(self, vector: FloatArray, like: Mixture) -> Mixture | None:
        """The mixture of a vector; None if there is none.

        Parameters
        ----------
        vector : array
        like : Mixture
            One of the same family and sizes.
        """
        k, d = like.means.shape
        weights, means, stored = np.split(vector, [k, k + k * d])
        if not weights.min() > SMALLEST_WEIGHT:
            return None
        means = means.reshape(k, d) * self.scales + self.sweep.centre
        covariances = stored.reshape(like.stored.shape) * self._units(like.kind)
        weights = weights / weights.sum()
        if self.held is not None:  # extrapolated, they would be the same but for rounding
            weights, means = self.held.weights(weights), self.held.means(means)
            if self.held.has_covariances:
                covariances = self.held.mixture.stored
        try:
            if self.family not in SmallSteps.FAMILIES:  # sums of its members are not of the family
                matrices = expand(covariances, like.kind, k, d)
                covariances = restrict(matrices, self.family, weights)
            mixture = Mixture.from_stored(weights, means, covariances, self.family)
        except (SingularCovarianceError, np.linalg.LinAlgError):
            return None
        return None if (mixture.variances < self.narrowest).any() else mixture


def units_of(rows: Source, ridge: float, prior: Prior | None = None) -> FloatArray:
    """Units in which no variance that an M-step finds is large, shape ``(d,)``."""
    squares = rows.variances + ridge
    if prior is not None:
        squares = squares + np.diagonal(prior.scale)
    scales = np.sqrt(squares)
    scales[~(scales > 0)] = 1.0
    return scales


def steps_for(
    rows: Source,
    n_components: int,
    family: str,
    ridge: float,
    prior: Prior | None,
    fixed: frozenset[str],
) -> Any:
    """The form of the two steps that costs least for rows of this kind, number and width."""
    kind = FAMILIES[family]
    if not isinstance(rows, Rows):
        chunks = sweep_of(rows, n_components, kind)
        return MixtureSteps(rows, chunks, family, ridge, prior, fixed)
    sweep = Sweep(rows, n_components, kind)
    if prior is None and not fixed and SmallSteps.suit(rows, n_components, family, ridge):
        return SmallSteps(rows, sweep, family, ridge, units_of(rows, ridge))
    return MixtureSteps(rows, sweep, family, ridge, prior, fixed)
