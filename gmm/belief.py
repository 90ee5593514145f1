r"""A distribution of a mixture's parameters: the prior and the posterior of variational Bayes.

Weights have a Dirichlet distribution or are broken off a stick, each mean and precision has a
normal–Wishart distribution (:eq:`eq-normal-wishart`). What a belief is asked for are expectations,
of logarithms above all, and its posterior, given expected statistics of rows: it merges the prior,
which is statistics of rows that were never seen, with those of the rows
(:prf:ref:`thm-conjugate-update`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self, cast

import numpy as np

from gmm.cached import cached_property
from gmm.checks import FloatArray, read_only
from gmm.families import FAMILIES
from gmm.mixture import Mixture, log_sum_exp
from gmm.natural import log_weights
from gmm.normal import LOG_2PI
from gmm.special import digamma, log_beta, log_gamma, wishart_digamma, wishart_log_gamma
from gmm.statistics import Statistics

__all__ = ["WEIGHT_PRIORS", "Belief", "Dirichlet", "ExpectedJoint", "StickBreaking"]

LOG_2 = float(np.log(2.0))
LOG_PI = float(np.log(np.pi))


# ---------------------------------------------------------------- weights


@dataclass(frozen=True, eq=False)
class Dirichlet:
    """A Dirichlet distribution of K weights (:eq:`eq-dirichlet`).

    Parameters
    ----------
    concentration : array (K,)
        Positive; of a symmetric prior all are equal.

    Examples
    --------
    >>> Dirichlet(np.array([1.0, 3.0])).means
    array([0.25, 0.75])
    """

    concentration: FloatArray
    ordered: ClassVar[bool] = False

    @property
    def means(self) -> FloatArray:
        """Expected weights, shape ``(K,)``."""
        return np.asarray(self.concentration / self.concentration.sum())

    @cached_property
    def expected_logs(self) -> FloatArray:
        """Expected logarithms of the weights, shape ``(K,)`` (:prf:ref:`prop-expected-logs`)."""
        return digamma(self.concentration) - digamma(self.concentration.sum())

    def updated(self, counts: FloatArray) -> Dirichlet:
        """The posterior, given counts of the labels (:eq:`eq-dirichlet-update`)."""
        return Dirichlet(self.concentration + counts)

    def expected_log_density(self, under: Dirichlet) -> float:
        """The expected logarithm of this density, where the weights have another distribution."""
        a = self.concentration
        constant = log_gamma(a.sum()) - log_gamma(a).sum()
        return float(constant + (a - 1.0) @ under.expected_logs)


@dataclass(frozen=True, eq=False)
class StickBreaking:
    r"""Weights broken off a stick, :math:`\pi_k = v_k \prod_{j<k} (1 - v_j)`.

    The shares :math:`v_k` are independent and beta distributed (:eq:`eq-stick-breaking`). What is
    left of the stick after K pieces belongs to further components, which are at the prior and have
    no rows.

    Parameters
    ----------
    first, second : array (K,)
        The parameters of the beta distributions; (1, γ) each for a Dirichlet process.

    Examples
    --------
    >>> StickBreaking(np.ones(3), np.ones(3)).means
    array([0.5  , 0.25 , 0.125])
    """

    first: FloatArray
    second: FloatArray
    ordered: ClassVar[bool] = True

    @property
    def means(self) -> FloatArray:
        """Expected weights of the K components, shape ``(K,)``; their sum is less than one."""
        share = self.first / (self.first + self.second)
        left = np.cumprod(1.0 - share)
        return cast(FloatArray, share * np.concatenate([[1.0], left[:-1]]))

    @cached_property
    def _logs(self) -> tuple[FloatArray, FloatArray]:
        """Expected logarithms of the shares broken off, and of those left."""
        whole = digamma(self.first + self.second)
        return digamma(self.first) - whole, digamma(self.second) - whole

    @cached_property
    def expected_logs(self) -> FloatArray:
        """Expected logarithms of the weights, shape ``(K,)`` (:prf:ref:`prop-expected-logs`)."""
        broken, left = self._logs
        return cast(FloatArray, broken + np.concatenate([[0.0], np.cumsum(left[:-1])]))

    def updated(self, counts: FloatArray) -> StickBreaking:
        """The posterior, given counts of the labels (:eq:`eq-stick-update`)."""
        beyond = np.concatenate([np.cumsum(counts[:0:-1])[::-1], [0.0]])
        return StickBreaking(self.first + counts, self.second + beyond)

    def expected_log_density(self, under: StickBreaking) -> float:
        """The expected logarithm of this density, where the shares have another distribution."""
        broken, left = under._logs
        constant = -log_beta(self.first, self.second).sum()
        return float(constant + (self.first - 1.0) @ broken + (self.second - 1.0) @ left)


#: The names of the priors for the weights.
WEIGHT_PRIORS: dict[str, Callable[[int, float], Dirichlet | StickBreaking]] = {
    "dirichlet": lambda k, c: Dirichlet(np.full(k, c)),
    "dirichlet-process": lambda k, c: StickBreaking(np.ones(k), np.full(k, c)),
}


# ---------------------------------------------------------------- all parameters


@dataclass(frozen=True, eq=False)
class Belief:
    r"""A distribution of a mixture's parameters: a prior, or the posterior of variational Bayes.

    Weights are independent of the rest. The precision :math:`\boldsymbol\Lambda_k` of a component
    has a Wishart distribution (of diagonal kinds: its variances' reciprocals have gamma
    distributions), and given it the mean is normal with precision
    :math:`\kappa_k \boldsymbol\Lambda_k` (:eq:`eq-normal-wishart`).

    Parameters
    ----------
    family : str
        VVV, EEE, VVI or VII.
    weights : Dirichlet or StickBreaking
    means : array (K, d)
    mean_precisions : array (K,)
        κ: how many rows each mean is worth.
    degrees_of_freedom : array (K,), or () if tied
        ν: how many rows each scale is worth.
    scales : array
        **B**, in the shape in which the family stores covariances. The expected precision is
        ν times the inverse of **B**.
    """

    family: str
    weights: Dirichlet | StickBreaking
    means: FloatArray
    mean_precisions: FloatArray
    degrees_of_freedom: FloatArray
    scales: FloatArray

    @property
    def kind(self) -> str:
        """How scales are stored: full, tied, diag or spherical."""
        return FAMILIES[self.family]

    @property
    def n_components(self) -> int:
        """The number K of components."""
        return int(self.means.shape[0])

    @property
    def n_features(self) -> int:
        """The dimension d."""
        return int(self.means.shape[1])

    @cached_property
    def mixture(self) -> Mixture:
        """Expected weights (with sum one), expected means, inverses of the expected precisions."""
        weights = self.weights.means
        freedom = self.degrees_of_freedom
        if self.scales.ndim > freedom.ndim:
            freedom = freedom.reshape(freedom.shape + (1,) * (self.scales.ndim - freedom.ndim))
        return Mixture.from_stored(
            weights / weights.sum(), self.means, self.scales / freedom, self.family
        )

    @cached_property
    def expected_log_determinants(self) -> FloatArray:
        """Expected logarithms of the determinants of the precisions, shape ``(K,)``.

        They are those of :prf:ref:`prop-expected-log-determinant`.
        """
        return self._determinant_corrections() - self.mixture.log_determinants

    def _determinant_corrections(self) -> FloatArray:
        """E log det Λ less log det E Λ, shape ``(K,)`` or () (:eq:`eq-determinant-correction`)."""
        nu, d = self.degrees_of_freedom, self.n_features
        if self.kind == "diag":
            sums = d * digamma(0.5 * nu)
        elif self.kind == "spherical":
            return d * (digamma(0.5 * d * nu) - np.log(0.5 * d * nu))
        else:
            sums = wishart_digamma(nu, d)
        return cast(FloatArray, sums - d * np.log(0.5 * nu))

    @cached_property
    def joint(self) -> Mixture:
        """What an E-step takes for a mixture: the expected log joint densities' exponentials."""
        return ExpectedJoint(self)

    def updated(self, statistics: Statistics) -> Self:
        """The posterior, given expected statistics of rows (:prf:ref:`thm-conjugate-update`).

        Parameters
        ----------
        statistics : Statistics
            Of the family's kind.
        """
        d = self.n_features
        unseen = Statistics(
            self.kind,
            self.means,
            self.mean_precisions,
            np.zeros_like(self.means),
            self.scales * d if self.kind == "spherical" else self.scales,
            0.0,
            0,
        )
        merged = statistics + unseen
        scatter = merged.scatter()
        counts = statistics.counts
        return replace(
            self,
            weights=self.weights.updated(counts),
            means=merged.means(),
            mean_precisions=merged.counts,
            degrees_of_freedom=self.degrees_of_freedom
            + (counts.sum() if self.kind == "tied" else counts),
            scales=scatter / d if self.kind == "spherical" else scatter,
        )

    # ------------------------------------------------------------------ expectations

    def expected_log_likelihood(self, statistics: Statistics) -> float:
        """The expected log-density of rows, given expected labels (:eq:`eq-bound-rows`).

        Parameters
        ----------
        statistics : Statistics
            Of the rows and the labels' distribution.
        """
        d = self.n_features
        constants = self.expected_log_determinants - d * (LOG_2PI + 1.0 / self.mean_precisions)
        moments = statistics.shifted(self.means).second
        return 0.5 * (float(statistics.counts @ constants) - self._trace(moments))

    def _trace(self, moments: FloatArray) -> float:
        """The sum of tr(E Λ_k M_k) for second moments M_k of the kind."""
        white = self.mixture.whiteners
        if self.kind in ("full", "tied"):
            precisions = np.swapaxes(white, -1, -2) @ white
            return float((precisions * moments).sum())
        return float((white**2 * moments).sum())

    def expected_log_density(self, under: Belief) -> float:
        """The expected logarithm of the density of means and precisions under another belief.

        It is (:eq:`eq-bound-components`); weights are not counted in.
        """
        d, nu = self.n_features, self.degrees_of_freedom
        kappa = self.mean_precisions
        log_determinants = under.expected_log_determinants
        offsets = np.array(
            [
                under.mixture.squared_distances_from(k, mean[None])[0]
                for k, mean in enumerate(self.means)
            ]
        )
        means = 0.5 * (
            d * (np.log(kappa) - LOG_2PI - kappa / under.mean_precisions)
            + log_determinants
            - kappa * offsets
        )
        scales = self.scales * d if self.kind == "spherical" else self.scales
        scale_log_determinants = self.mixture.log_determinants + d * np.log(nu)
        if self.kind == "tied":
            log_determinants, scale_log_determinants = (
                log_determinants[0],
                scale_log_determinants[0],
            )
        precisions = (
            (0.5 * nu - self._carrier()) * log_determinants
            + 0.5 * nu * scale_log_determinants
            - self._log_normalisers()
        )
        return float(means.sum() + precisions.sum() - 0.5 * under._trace(scales))

    def _carrier(self) -> float:
        """The power of 1 / det Λ by which the density is multiplied."""
        d = self.n_features
        return {"diag": 1.0, "spherical": 1.0 / d}.get(self.kind, 0.5 * (d + 1))

    def _log_normalisers(self) -> FloatArray:
        """Those of the precisions' densities at unit scale (:eq:`eq-wishart-normaliser`)."""
        nu, d = self.degrees_of_freedom, self.n_features
        if self.kind == "diag":
            return np.asarray(d * log_gamma(0.5 * nu) + 0.5 * nu * d * LOG_2)
        if self.kind == "spherical":
            return np.asarray(log_gamma(0.5 * d * nu) - 0.5 * d * nu * np.log(0.5 * d))
        powers_of_pi = 0.25 * d * (d - 1) * LOG_PI
        return np.asarray(wishart_log_gamma(nu, d) + 0.5 * nu * d * LOG_2 + powers_of_pi)

    def log_predictive(self, block: FloatArray) -> FloatArray:
        """The log-density of a new row that one of the K components gives.

        It is (:eq:`eq-student-predictive`).

        Parameters
        ----------
        block : array (b, d)
            Rows of float64; they are not checked.

        Returns
        -------
        array (b,)
        """
        k, d, kind = self.n_components, self.n_features, self.kind
        nu = np.broadcast_to(self.degrees_of_freedom, (k,))
        widening = 1.0 + 1.0 / self.mean_precisions
        freedom = d * nu if kind == "spherical" else nu
        if kind in ("full", "tied"):
            freedom = nu + 1.0 - d
            widening = widening * nu / freedom
        p = 1 if kind == "diag" else d  # features that share one draw of the precision
        constants = (
            log_weights(self.weights.means)
            + (d // p) * (log_gamma(0.5 * (freedom + p)) - log_gamma(0.5 * freedom))
            - 0.5 * d * np.log(freedom * np.pi * widening)
            - 0.5 * self.mixture.log_determinants
        )
        joint = np.empty((len(block), k))
        for j in range(k):
            if kind == "diag":
                squares = ((block - self.means[j]) * self.mixture.whiteners[j]) ** 2
            else:
                squares = self.mixture.squared_distances_from(j, block)[:, None]
            tails = np.log1p(squares / (freedom[j] * widening[j])).sum(axis=1)
            joint[:, j] = constants[j] - 0.5 * (freedom[j] + p) * tails
        return log_sum_exp(joint)


class ExpectedJoint(Mixture):
    """Densities exp E log π_k N(x | μ_k, Λ_k⁻¹), which do not integrate to one.

    They are those of a mixture with other constants (:eq:`eq-expected-log-joint`): the constants
    take the place of the log-determinants, and the weights are all one.
    """

    def __init__(self, belief: Belief) -> None:
        mixture = belief.mixture
        self._set(np.ones(belief.n_components), belief.means, mixture.stored, belief.family)
        constants = (
            belief.n_features / belief.mean_precisions
            - belief.expected_log_determinants
            - 2.0 * belief.weights.expected_logs
        )
        vars(self)["log_determinants"] = read_only(constants)  # where the cached property looks
        vars(self)["whiteners"] = mixture.whiteners
