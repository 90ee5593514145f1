r"""Variational Bayes: a distribution of the parameters in place of one value of them.

Parameters have a conjugate prior: a Dirichlet distribution or a stick-breaking (Dirichlet) process
for the weights, a normal–Wishart distribution for each mean and precision. The posterior is
approximated by the best product of one factor for the labels and one for the parameters
(:prf:ref:`thm-mean-field`). Its two factors are found in turn. The factor of the labels is an
ordinary E-step, under expected logarithms (:eq:`eq-variational-responsibilities`). That of the
parameters merges the prior, which is statistics of rows that were never seen, with the statistics
of the rows (:prf:ref:`thm-conjugate-update`). The bound on the evidence never decreases
(:prf:ref:`thm-variational-monotone`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import (
    FloatArray,
    IntArray,
    RandomState,
    as_choice,
    as_count,
    as_generator,
    as_matrix,
    as_non_negative,
    as_positive,
    as_vector,
    read_only,
)
from gmm.families import FAMILIES, KINDS, parse_family, stored_shape
from gmm.initial import refuse_unknown_start, starting_mixture
from gmm.mixture import Mixture, log_sum_exp
from gmm.normal import LOG_2PI, as_covariance, cholesky
from gmm.rows import Rows, Source, as_rows, as_source, blocks
from gmm.special import digamma, log_beta, log_gamma, wishart_digamma, wishart_log_gamma
from gmm.statistics import Statistics
from gmm.sweep import Sweep, sweep_of

__all__ = [
    "WEIGHT_PRIORS",
    "Belief",
    "Dirichlet",
    "StickBreaking",
    "VariationalFit",
    "as_scale",
    "bound_terms",
    "fit_variational",
    "prior_belief",
    "scale_of_data",
    "statistics_of_mixture",
]

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
        return _ExpectedJoint(self)

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
            np.log(self.weights.means)
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


class _ExpectedJoint(Mixture):
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


def prior_belief(
    X: Any,
    n_components: int,
    family: str = "VVV",
    *,
    weight_prior: str = "dirichlet",
    concentration: float | None = None,
    mean: ArrayLike | None = None,
    mean_precision: float = 1.0,
    degrees_of_freedom: float | None = None,
    scale: ArrayLike | None = None,
) -> Belief:
    """The prior of :func:`fit_variational`, for the same arguments."""
    k = as_count(n_components, "n_components")
    rows: Source = as_source(X, min_rows=k)
    d = rows.n_features
    name = parse_family(family)
    if name not in KINDS.values():
        raise ValueError(f"family: expected one of {', '.join(KINDS.values())}, got {name!r}")
    weights = WEIGHT_PRIORS[as_choice(weight_prior, "weight_prior", tuple(WEIGHT_PRIORS))]
    strength = 1.0 / k if concentration is None else as_positive(concentration, "concentration")
    centre = rows.mean if mean is None else as_vector(mean, "mean", d)
    full = name in ("VVV", "EEE")
    freedom = float(d) if degrees_of_freedom is None else float(degrees_of_freedom)
    least = d - 1 if full else 0
    if not least < freedom < np.inf:
        raise ValueError(f"degrees_of_freedom: expected more than {least}, got {freedom}")
    if scale is None:
        rows.refuse_degenerate()
        matrix = scale_of_data(rows, name)
    else:
        matrix = as_scale(scale, "scale", name, d)
    prior = Belief(
        name,
        weights(k, strength),
        np.broadcast_to(centre, (k, d)),
        np.full(k, as_positive(mean_precision, "mean_precision")),
        np.full(() if name == "EEE" else (k,), freedom),
        np.broadcast_to(matrix, stored_shape(FAMILIES[name], k, d)),
    )
    _ = prior.mixture  # refuses a singular scale
    return prior


def scale_of_data(rows: Source, family: str) -> FloatArray:
    """The covariance of the data (divisor n − 1), its diagonal if VVI, the mean of that if VII."""
    total = rows.total_weight
    covariance = rows.covariance * (total / (total - 1.0) if total > 1 else 1.0)
    if family in ("VVV", "EEE"):
        return covariance
    variances = np.diagonal(covariance)
    return variances if family == "VVI" else np.asarray(variances.mean())


def as_scale(scale: ArrayLike, name: str, family: str, d: int) -> FloatArray:
    """``scale`` as a positive definite matrix, if VVI positive numbers, if VII one."""
    if family in ("VVV", "EEE"):
        matrix = as_covariance(scale, name, (d, d))
        cholesky(matrix, name)
        return matrix
    if family == "VII":
        return np.asarray(as_positive(scale, name))
    vector = as_vector(scale, name, d)
    if not (vector > 0).all():
        raise ValueError(f"{name}: expected positive numbers, got {vector.tolist()}")
    return vector


# ---------------------------------------------------------------- the bound


def bound_terms(prior: Belief, posterior: Belief, statistics: Statistics) -> dict[str, float]:
    """The terms of the bound on the log-evidence (:prf:ref:`prop-bound-terms`).

    Parameters
    ----------
    prior, posterior : Belief
    statistics : Statistics
        From the E-step under ``posterior.joint``.

    Returns
    -------
    dict
        Seven numbers whose sum is the bound: expected logarithms of the densities of the rows, the
        labels, the weights, and the components (means and precisions), and the entropies of the
        last three.
    """
    rows = posterior.expected_log_likelihood(statistics)
    labels = float(statistics.counts @ posterior.weights.expected_logs)
    return {
        "rows": rows,
        "labels": labels,
        "label entropy": statistics.log_likelihood - rows - labels,
        **_parameter_terms(prior, posterior),
    }


def _parameter_terms(prior: Belief, posterior: Belief) -> dict[str, float]:
    """The four terms that add up to minus the divergence of the posterior from the prior."""
    before: Any = prior.weights
    after: Any = posterior.weights
    return {
        "weights": before.expected_log_density(after),
        "weight entropy": -after.expected_log_density(after),
        "components": prior.expected_log_density(posterior),
        "component entropy": -posterior.expected_log_density(posterior),
    }


# ---------------------------------------------------------------- the fit


@dataclass(frozen=True, eq=False, repr=False)
class VariationalFit:
    """The result of :func:`fit_variational`: a posterior, and how it was found.

    Parameters
    ----------
    prior, posterior : Belief
    bound_terms : dict
        The terms of the bound at the posterior, from :func:`bound_terms`.
    trace : array (n_iter + 1,)
        The bound after i iterations.
    converged : bool
    starts : tuple of float
        The bounds that all starts reached, in their order.
    statistics : Statistics
        Of the last E-step: the expected counts and moments of the rows.
    """

    prior: Belief
    posterior: Belief
    bound_terms: dict[str, float]
    trace: FloatArray
    converged: bool
    starts: tuple[float, ...]
    statistics: Statistics

    @property
    def bound(self) -> float:
        """The lower bound on the logarithm of the evidence, with all its constants."""
        return float(self.trace[-1])

    @property
    def n_iter(self) -> int:
        """The number of updates of the posterior."""
        return len(self.trace) - 1

    @property
    def mixture(self) -> Mixture:
        """Expected weights (with sum one), expected means, inverses of the expected precisions."""
        return self.posterior.mixture

    def responsibilities(self, X: ArrayLike) -> FloatArray:
        """The labels' factor for rows, shape ``(n, K)``.

        It is (:eq:`eq-variational-responsibilities`).
        """
        return self.posterior.joint.responsibilities(X)

    def effective_components(self, threshold: float = 0.01) -> int:
        """How many components have an expected weight above the threshold."""
        return int((self.mixture.weights > as_non_negative(threshold, "threshold")).sum())

    def predictive(self, X: ArrayLike) -> FloatArray:
        """The log-density of new rows, with the parameters integrated out under the posterior.

        A mixture of Student t distributions (:prf:ref:`thm-predictive`); with a Dirichlet process,
        what is left of the stick has the prior's predictive density.

        Parameters
        ----------
        X : array (n, d)

        Returns
        -------
        array (n,)
        """
        posterior, prior = self.posterior, self.prior
        rows = as_rows(as_matrix(X, n_features=posterior.n_features))
        left = 1.0 - posterior.weights.means.sum() if posterior.weights.ordered else 0.0
        if posterior.kind == "tied":  # a further component has the same precision
            prior = replace(
                prior, degrees_of_freedom=posterior.degrees_of_freedom, scales=posterior.scales
            )
        result = np.empty(rows.n_rows)
        for part in blocks(rows.n_rows, posterior.n_features + posterior.n_components):
            block = np.asarray(rows.X[part], dtype=np.float64)
            result[part] = posterior.log_predictive(block)
            if left > 0:
                further = prior.log_predictive(block) + np.log(left / prior.weights.means.sum())
                result[part] = np.logaddexp(result[part], further)
        return result

    def __repr__(self) -> str:
        mixture = self.mixture
        ended = "converged" if self.converged else "stopped at max_iter, not converged"
        lines = [
            "VariationalFit",
            f"  family          {mixture.family}, {mixture.n_components} components, "
            f"{self.effective_components()} effective",
            f"  bound           {self.bound:.4f}",
            f"  iterations      {self.n_iter}, {ended}",
        ]
        for weight, mean in zip(mixture.weights, mixture.means, strict=True):
            lines.append(f"  weight {weight:.4f}   mean {np.array2string(mean, precision=4)}")
        return "\n".join(lines)


def fit_variational(
    X: Any,
    n_components: int,
    family: str = "VVV",
    *,
    weight_prior: str = "dirichlet",
    concentration: float | None = None,
    mean: ArrayLike | None = None,
    mean_precision: float = 1.0,
    degrees_of_freedom: float | None = None,
    scale: ArrayLike | None = None,
    start: str | Mixture | ArrayLike = "k-means",
    n_starts: int = 1,
    tol: float = 1e-8,
    max_iter: int = 1000,
    sample_weight: ArrayLike | None = None,
    random_state: RandomState = None,
) -> VariationalFit:
    """Fit a Bayesian Gaussian mixture by mean-field variational inference.

    Parameters
    ----------
    X : array (n, d), path, table or BlockRows
        Rows, as :func:`gmm.fit` takes them.
    n_components : int
        The greatest number K of components; superfluous ones are left without rows.
    family : str
        VVV (full), EEE (tied), VVI (diag) or VII (spherical).
    weight_prior : str
        "dirichlet" (K weights, symmetric) or "dirichlet-process" (infinitely many, of which the
        first K may have rows).
    concentration : float, optional
        Of the weights, positive: the smaller it is, the fewer components are used. By default 1/K.
    mean : array (d,), optional
        Where means are expected; by default the mean of the data.
    mean_precision : float
        How many rows that expectation is worth; positive.
    degrees_of_freedom : float, optional
        How many rows the scale is worth: more than d − 1 (VVV, EEE) or 0. By default d.
    scale : array, optional
        The prior scale: ``degrees_of_freedom`` times the inverse of the expected precision. Shape
        ``(d, d)``, of VVI ``(d,)``, of VII a number. By default the covariance of the data (divisor
        n − 1), its diagonal, or the mean of that.
    start : str, Mixture or array (K, d)
        See :func:`gmm.initial.starting_mixture`. The first posterior is that of rows distributed as
        the start says.
    n_starts : int
        Runs from different draws of the start; the one with the greatest bound is returned.
    tol : float
        A run ends when the bound has risen by less than this per unit of weight.
    max_iter : int
        The greatest number of updates.
    sample_weight : array (n,), optional
        Weights of the rows, not negative; a weight of two counts as a row that occurs twice.
    random_state : int, Generator or None

    Returns
    -------
    VariationalFit

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said. The message names it.
    SingularCovarianceError
        If no scale is given and the covariance of the data is singular.

    Notes
    -----
    Each iteration reads the rows once. With a Dirichlet process the components are kept in the
    order of their counts, which never lowers the bound (:prf:ref:`prop-stick-order`).

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> fit_variational(X, 6, random_state=0, concentration=1e-3).effective_components()
    2
    """
    k = as_count(n_components, "n_components")
    rows = as_source(X, sample_weight, min_rows=k)
    prior = prior_belief(
        rows,
        k,
        family,
        weight_prior=weight_prior,
        concentration=concentration,
        mean=mean,
        mean_precision=mean_precision,
        degrees_of_freedom=degrees_of_freedom,
        scale=scale,
    )
    refuse_unknown_start(start)
    least_gain = as_non_negative(tol, "tol") * rows.total_weight
    limit = as_count(max_iter, "max_iter", minimum=0)
    seeds = as_generator(random_state).integers(2**63, size=as_count(n_starts, "n_starts"))
    ridge = 1e-6 * float(prior.mixture.variances.mean())  # a start may be degenerate: a trifle
    sweep = Sweep(rows, k, prior.kind) if isinstance(rows, Rows) else sweep_of(rows, k, prior.kind)
    fits = []
    for seed in seeds:
        begin = starting_mixture(rows, k, prior.family, start, int(seed), ridge=ridge)
        first = statistics_of_mixture(begin, rows.total_weight)
        fits.append(_run(prior, sweep, first, least_gain, limit))
    best = max(fits, key=lambda fit: fit.bound)
    return replace(best, starts=tuple(fit.bound for fit in fits))


def statistics_of_mixture(mixture: Mixture, total_weight: float) -> Statistics:
    """Statistics of rows, of a total weight, that are distributed as a mixture says.

    Parameters
    ----------
    mixture : Mixture
        Of a family VVV, EEE, VVI or VII.
    total_weight : float
    """
    counts = total_weight * mixture.weights
    second = {
        "full": lambda: counts[:, None, None] * mixture.stored,
        "tied": lambda: total_weight * mixture.stored,
        "diag": lambda: counts[:, None] * mixture.stored,
        "spherical": lambda: mixture.n_features * counts * mixture.stored,
    }[mixture.kind]()
    first = np.zeros_like(mixture.means)
    return Statistics(mixture.kind, mixture.means, counts, first, second, 0.0, 0)


def _run(
    prior: Belief, sweep: Any, first: Statistics, least_gain: float, max_iter: int
) -> VariationalFit:
    """Coordinate ascent from one start, until the bound rises by less than ``least_gain``."""
    posterior = prior.updated(_in_order(first, prior))
    bounds: list[float] = []
    while True:
        statistics = sweep(posterior.joint)
        divergence = -sum(_parameter_terms(prior, posterior).values())
        bounds.append(statistics.log_likelihood - divergence)
        converged = len(bounds) > 1 and abs(bounds[-1] - bounds[-2]) < least_gain
        if converged or len(bounds) > max_iter:
            break
        posterior = prior.updated(_in_order(statistics, prior))
    terms = bound_terms(prior, posterior, statistics)
    return VariationalFit(
        prior, posterior, terms, np.array(bounds), converged, (bounds[-1],), statistics
    )


def _in_order(statistics: Statistics, prior: Belief) -> Statistics:
    """Statistics with the components in the order of their counts, where the prior has one."""
    order: IntArray = np.argsort(-statistics.counts, kind="stable")
    if not prior.weights.ordered or (np.diff(order) == 1).all():
        return statistics
    second = statistics.second
    return replace(
        statistics,
        centres=statistics.centres[order],
        counts=statistics.counts[order],
        first=statistics.first[order],
        second=second if statistics.kind == "tied" else second[order],
    )
