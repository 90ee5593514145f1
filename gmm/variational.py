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

import logging
from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm.belief import WEIGHT_PRIORS, Belief
from gmm.checks import (
    FloatArray,
    IntArray,
    RandomState,
    SingularCovarianceError,
    as_choice,
    as_count,
    as_generator,
    as_matrix,
    as_non_negative,
    as_positive,
    as_vector,
)
from gmm.convergence import PlainEM, State, ascent
from gmm.families import FAMILIES, KINDS, parse_family, stored_shape
from gmm.initial import refuse_unknown_start, starting_mixture
from gmm.mixture import Mixture
from gmm.normal import as_covariance, cholesky
from gmm.progress import Bar
from gmm.rows import Rows, Source, as_rows, as_source, blocks
from gmm.statistics import Statistics
from gmm.sweep import Sweep, sweep_of

__all__ = [
    "VariationalFit",
    "as_scale",
    "bound_terms",
    "fit_variational",
    "prior_belief",
    "scale_of_data",
    "statistics_of_mixture",
]

LOGGER = logging.getLogger(__name__)

#: How steps may be lengthened.
ACCELERATIONS = ("none", "squarem")


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
    n_passes : int
        How often the rows were read in this run; with acceleration, candidates that were not taken
        count too.
    """

    prior: Belief
    posterior: Belief
    bound_terms: dict[str, float]
    trace: FloatArray
    converged: bool
    starts: tuple[float, ...]
    statistics: Statistics
    n_passes: int

    @property
    def bound(self) -> float:
        """The lower bound on the logarithm of the evidence, with all its constants."""
        return float(self.trace[-1])

    @property
    def n_iter(self) -> int:
        """The number of steps: updates of the posterior, or candidates in their place."""
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
    accelerate: str = "none",
    sample_weight: ArrayLike | None = None,
    progress: bool = False,
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
        The greatest number of steps.
    accelerate : str
        "none", or "squarem": every third step goes on along the last two, as far as it may without
        lowering the bound (:prf:ref:`prop-variational-safeguard`). It helps where superfluous
        components vanish slowly.
    sample_weight : array (n,), optional
        Weights of the rows, not negative; a weight of two counts as a row that occurs twice.
    progress : bool
        Whether a bar shows the start, the iterations and the bound. It needs tqdm
        (``pip install 'gmm-first-principles[progress]'``).
    random_state : int, Generator or None

    Returns
    -------
    VariationalFit

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said. The message names it.
    ImportError
        If ``progress`` is true and tqdm is not installed.
    SingularCovarianceError
        If no scale is given and the covariance of the data is singular.

    Notes
    -----
    Each iteration reads the rows once. With a Dirichlet process the components are kept in the
    order of their counts, which never lowers the bound (:prf:ref:`prop-stick-order`).

    The logger "gmm" of Python's ``logging`` tells when the fit and its runs begin and end (INFO),
    and of every iteration (DEBUG).

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
    way = as_choice(accelerate, "accelerate", ACCELERATIONS)
    seeds = as_generator(random_state).integers(2**63, size=as_count(n_starts, "n_starts"))
    ridge = 1e-6 * float(prior.mixture.variances.mean())  # a start may be degenerate: a trifle
    sweep = Sweep(rows, k, prior.kind) if isinstance(rows, Rows) else sweep_of(rows, k, prior.kind)
    fits = []
    LOGGER.info("variational fit of %s with up to %d components begins", prior.family, k)
    with Bar(progress, "iterations") as bar:
        for number, seed in enumerate(seeds, 1):
            name = f"start {number} of {len(seeds)}"
            bar.describe(name)
            begin = starting_mixture(rows, k, prior.family, start, int(seed), ridge=ridge)
            first = statistics_of_mixture(begin, rows.total_weight)
            found = _run(_Updates(prior, sweep), first, least_gain, limit, way, bar)
            fits.append(found)
            ended = "converged" if found.converged else "max_iter"
            LOGGER.info(
                "%s ends: bound %.6f after %d iterations, %s",
                name,
                found.bound,
                found.n_iter,
                ended,
            )
    best = max(fits, key=lambda fit: fit.bound)
    LOGGER.info("variational fit ends: bound %.6f after %d iterations", best.bound, best.n_iter)
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


class _Point(NamedTuple):
    """A posterior, and the statistics that have made it from the prior."""

    belief: Belief
    statistics: Statistics


class _Updates:
    """The two updates, in the form in which :mod:`gmm.convergence` takes the steps of EM.

    Parameters
    ----------
    prior : Belief
    sweep : callable
        The E-step of all rows.
    """

    def __init__(self, prior: Belief, sweep: Any) -> None:
        self.prior = prior
        self.sweep = sweep
        self.centres = np.broadcast_to(sweep.centre, prior.means.shape)
        scales = sweep.scales
        self.units = {
            "full": np.outer(scales, scales),
            "tied": np.outer(scales, scales),
            "diag": scales**2,
            "spherical": np.asarray(scales @ scales),
        }[prior.kind]

    def expect(self, point: _Point) -> tuple[Statistics, float]:
        """The update of the labels, and the bound."""
        statistics = self.sweep(point.belief.joint)
        divergence = -sum(_parameter_terms(self.prior, point.belief).values())
        return statistics, statistics.log_likelihood - divergence

    def maximise(self, statistics: Statistics) -> _Point:
        """The update of the parameters."""
        ordered = _in_order(statistics, self.prior)
        return _Point(self.prior.updated(ordered), ordered)

    def vector(self, point: _Point) -> FloatArray:
        """The statistics about one centre, of which all parameters' natural ones are linear."""
        moved = point.statistics.shifted(self.centres)
        second = moved.second / self.units
        return np.concatenate(
            [moved.counts, (moved.first / self.sweep.scales).ravel(), second.ravel()]
        )

    def from_vector(self, vector: FloatArray, like: _Point) -> _Point | None:
        """The posterior of a vector; None if there is none. Negative counts are not taken over."""
        k, d = self.prior.means.shape
        vector = np.where(self._is_below_zero(vector), self.vector(like), vector)
        counts, first, second = np.split(vector, [k, k + k * d])
        statistics = replace(
            like.statistics,
            centres=self.centres,
            counts=counts,
            first=first.reshape(k, d) * self.sweep.scales,
            second=second.reshape(like.statistics.second.shape) * self.units,
        )
        try:
            point = self.maximise(statistics)
            _ = point.belief.mixture  # refuses what is not positive definite
        except SingularCovarianceError:
            return None
        return point

    def _is_below_zero(self, vector: FloatArray) -> NDArray[np.bool_]:
        """Which numbers belong to components with negative counts."""
        k, d = self.prior.means.shape
        below = vector[:k] < 0
        own = (len(vector) - k - k * d) // k if self.prior.kind != "tied" else 0
        parts = [below, np.repeat(below, d), np.repeat(below, own)]
        shared = np.zeros(len(vector) - sum(map(len, parts)), dtype=bool)
        return np.concatenate([*parts, shared])


def _run(
    updates: _Updates,
    first: Statistics,
    least_gain: float,
    max_iter: int,
    accelerate: str,
    bar: Bar,
) -> VariationalFit:
    """Ascent from one start, until an update of both factors gains less than ``least_gain``."""
    steps: Any = updates
    way, plain = ascent(accelerate), PlainEM()
    point = updates.maximise(first)
    state = State(point, *updates.expect(point))
    bounds, n_passes = [state.objective], 1
    LOGGER.debug("iteration 0: bound %.6f", bounds[0])
    gain, is_near, converged = inf, False, False
    while len(bounds) <= max_iter and not converged:
        state, tried, is_update = (plain if is_near else way).advance(steps, state, gain)
        gain = state.objective - bounds[-1]
        bounds.append(state.objective)
        n_passes += tried
        bar.advance()
        bar.note(f"bound {bounds[-1]:.6g}")
        LOGGER.debug("iteration %d: bound %.6f", len(bounds) - 1, bounds[-1])
        is_near = abs(gain) < least_gain
        converged = is_near and is_update
    posterior = state.parameters.belief
    return VariationalFit(
        updates.prior,
        posterior,
        bound_terms(updates.prior, posterior, state.statistics),
        np.array(bounds),
        converged,
        (bounds[-1],),
        state.statistics,
        n_passes,
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
