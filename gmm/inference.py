r"""How sure an estimate is: scores, observed information, standard errors, the bootstrap.

The scores and the information come from the E-step, without a numerical derivative. With the
labels the log-likelihood would have simple derivatives; their expectation and their covariance,
given the rows, are all that is needed (Louis 1982, :prf:ref:`thm-louis`). This is done for the
*linear* families, in which each covariance is a linear function of free numbers: VVV, EEE, VVI,
VII, EEI, EII, and E and V of one feature. The bootstrap serves for all families.

The free coordinates of a mixture are, in this order,

==================  =======================================================================
weights             the first K − 1; the last is one minus their sum
means               K times d
covariances         vech, column by column (VVV), or the variances (VVI), or one number
                    (VII, V), for each component in turn; only once for EEE, EEI, EII and E
==================  =======================================================================
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gmm.cached import cached_property
from gmm.checks import (
    ConvergenceWarning,
    FloatArray,
    IntArray,
    RandomState,
    SingularCovarianceError,
    as_choice,
    as_count,
    as_generator,
    as_matrix,
    as_positive,
    as_ridge,
    as_vector,
    shown,
)
from gmm.e_step import expected_statistics
from gmm.em import fit
from gmm.families import is_free
from gmm.missing import MISSING, IncompleteRows, as_source_with_missing, responsibilities
from gmm.mixture import Mixture
from gmm.prior import Prior, as_prior
from gmm.progress import Bar
from gmm.result import Fit
from gmm.rows import BLOCK_NUMBERS, Rows, as_rows
from gmm.statistics import Statistics

__all__ = [
    "LINEAR",
    "Information",
    "Parameters",
    "Resampled",
    "SingularInformationError",
    "StandardErrors",
    "assignment",
    "coordinates",
    "from_coordinates",
    "information",
    "matched",
    "observed_information",
    "resampled",
    "scores",
    "standard_errors",
]

LOGGER = logging.getLogger(__name__)

#: The families whose covariances are linear functions of free numbers.
LINEAR = ("VVV", "EEE", "VVI", "VII", "EEI", "EII", "V", "E")
#: The ways to draw a bootstrap sample.
KINDS = ("parametric", "nonparametric")
#: What the weights of rows may be in the bootstrap.
WEIGHTINGS = ("frequency", "importance")
#: A direction in which less than this part of the complete-data information is left is lost.
SINGULAR = 1e-8
#: A mixture that is farther than this from a maximum, in standard errors, is warned of.
FAR = 0.1


class SingularInformationError(ValueError):
    """The rows do not determine all parameters, so that standard errors do not exist.

    Raised at a weight of zero, at a saddle of the likelihood, and where components can be traded
    for one another (:prf:ref:`prop-singular-information`).
    """


class Parameters(NamedTuple):
    """Numbers for all parameters of a mixture, in the shape in which its family is stored.

    Parameters
    ----------
    weights : array (K,)
    means : array (K, d)
    covariances : array
        ``(K, d, d)``, ``(d, d)``, ``(K, d)`` or ``(K,)``, as :mod:`gmm.families` says.
    """

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray


# ---------------------------------------------------------------- coordinates


@dataclass(frozen=True)
class _Chart:
    """Where the parameters of a linear family stand among its free coordinates."""

    family: str
    kind: str
    n_components: int
    n_features: int

    @classmethod
    def of(cls, mixture: Mixture) -> _Chart:
        """The chart of a mixture; refuses families that are not linear."""
        if mixture.family not in LINEAR:
            raise ValueError(
                f"mixture: expected one of the families {', '.join(LINEAR)}, got {mixture.family}, "
                "whose covariances are not linear in free numbers; use the bootstrap "
                "(gmm.inference.resampled)"
            )
        return cls(mixture.family, mixture.kind, mixture.n_components, mixture.n_features)

    @cached_property
    def pattern(self) -> IntArray:
        """Which free number stands where in a covariance matrix; −1 for zeros, ``(d, d)``."""
        d = self.n_features
        if self.kind in ("full", "tied"):
            pattern = np.empty((d, d), dtype=np.int64)
            i, j = np.triu_indices(d)
            pattern[i, j] = pattern[j, i] = np.arange(len(i))
            return pattern
        pattern = np.full((d, d), -1)
        np.fill_diagonal(pattern, np.arange(d) if self.kind == "diag" else 0)
        return pattern

    @cached_property
    def n_numbers(self) -> int:
        """The number m of free numbers of one covariance."""
        return int(self.pattern.max()) + 1

    @cached_property
    def basis(self) -> FloatArray:
        """The matrix B with vec Σ = B φ (:eq:`eq-linear-family`), shape ``(d², m)``."""
        basis: FloatArray = (self.pattern.reshape(-1, 1) == np.arange(self.n_numbers)).astype(float)
        return basis

    @cached_property
    def of_weights(self) -> FloatArray:
        """The derivative of all weights in the free ones, shape ``(K, K - 1)``."""
        k = self.n_components
        return np.vstack([np.eye(k - 1), -np.ones((1, k - 1))])

    @cached_property
    def firsts(self) -> IntArray:
        """The position of the first free number of each covariance, shape ``(K,)``."""
        k = self.n_components
        own = np.arange(k) if is_free(self.family) else np.zeros(k, dtype=np.int64)
        return k - 1 + k * self.n_features + self.n_numbers * own

    @property
    def size(self) -> int:
        """The number p of free coordinates."""
        return int(self.firsts[-1]) + self.n_numbers

    def place(self, k: int) -> IntArray:
        """The positions of the mean and the covariance of component k, shape ``(d + m,)``."""
        d = self.n_features
        mean = self.n_components - 1 + k * d + np.arange(d)
        return np.concatenate([mean, self.firsts[k] + np.arange(self.n_numbers)])

    @cached_property
    def stored(self) -> IntArray:
        """The position of each number of the stored covariances, in their shape."""
        if self.kind == "spherical":
            return self.firsts
        if self.kind == "diag":
            return self.firsts[:, None] + np.diagonal(self.pattern)
        positions: IntArray = self.firsts[:, None, None] + self.pattern
        return positions[0] if self.kind == "tied" else positions

    def means(self, vector: FloatArray) -> FloatArray:
        """The means among coordinates, shape ``(K, d)``."""
        k, d = self.n_components, self.n_features
        return vector[k - 1 : k - 1 + k * d].reshape(k, d)


def coordinates(mixture: Mixture) -> FloatArray:
    """The free coordinates of a mixture of a linear family.

    Parameters
    ----------
    mixture : Mixture

    Returns
    -------
    array (p,)
        In the order of the table at the head of this module.

    Examples
    --------
    >>> coordinates(Mixture([0.25, 0.75], [[0.0], [4.0]], [1.0, 2.0], "V"))
    array([0.25, 0.  , 4.  , 1.  , 2.  ])
    """
    chart = _Chart.of(_as_mixture(mixture))
    vector = np.empty(chart.size)
    vector[: chart.n_components - 1] = mixture.weights[:-1]
    chart.means(vector)[...] = mixture.means
    vector[chart.stored] = mixture.stored
    return vector


def from_coordinates(vector: ArrayLike, like: Mixture) -> Mixture:
    """The mixture that has given free coordinates.

    Parameters
    ----------
    vector : array (p,)
    like : Mixture
        One of the same family and sizes.

    Raises
    ------
    ValueError
        If there is no such mixture: a weight is negative, or a covariance is not positive definite.

    Examples
    --------
    >>> like = Mixture([0.25, 0.75], [[0.0], [4.0]], [1.0, 2.0], "V")
    >>> from_coordinates(coordinates(like) + [0.05, 1.0, 0.0, 0.0, 0.0], like)
    Mixture(V, 2 components, 1 features)
      weight 0.3000  mean [1.]
      weight 0.7000  mean [4.]
    """
    chart = _Chart.of(_as_mixture(like))
    theta = as_vector(vector, "vector", chart.size)
    free = theta[: chart.n_components - 1]
    weights = np.append(free, 1.0 - free.sum())
    return Mixture(weights, chart.means(theta), theta[chart.stored], like.family)


def _as_mixture(value: object, prior: object = None) -> Mixture:
    """The mixture of a fit by maximum likelihood, or with a known prior, or as it is."""
    if isinstance(value, Fit):
        if value.fixed or (value.log_prior and prior is None):
            raise ValueError(
                "mixture: expected a fit by maximum likelihood of all parameters, got one with a "
                "prior or with parameters that were held"
            )
        return value.mixture
    if not isinstance(value, Mixture):
        raise TypeError(f"mixture: expected a Mixture or a Fit, got {shown(value)}")
    return value


# ---------------------------------------------------------------- scores and information


class _Complete:
    """Derivatives of log π_k N(x | μ_k, Σ_k) in the free coordinates, label by label."""

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture
        self.chart = _Chart.of(mixture)
        if not mixture.weights.all():
            k = int(np.argmin(mixture.weights))
            raise SingularInformationError(
                f"mixture: expected positive weights, got zero for component {k}, on the boundary, "
                "where there are no derivatives; leave the component out"
            )
        self.precisions = np.linalg.inv(mixture.covariances)
        self.of_log_weights = self.chart.of_weights / mixture.weights[:, None]  # (K, K - 1)

    def scores(self, block: FloatArray) -> FloatArray:
        """The score of each row, if its label were k (:eq:`eq-component-score`), ``(K, b, p)``."""
        chart, mixture = self.chart, self.mixture
        result = np.zeros((mixture.n_components, len(block), chart.size))
        result[:, :, : mixture.n_components - 1] = self.of_log_weights[:, None, :]
        for k, precision in enumerate(self.precisions):
            u = (block - mixture.means[k]) @ precision  # (b, d)
            squares = (u[:, :, None] * u[:, None, :] - precision).reshape(len(block), -1)
            result[k][:, chart.place(k)] = np.hstack([u, 0.5 * squares @ chart.basis])
        return result

    def moments(
        self, block: FloatArray, responsibilities: FloatArray, weights: FloatArray | None
    ) -> Statistics:
        """The moments about the means that the information is made of."""
        return expected_statistics(block, responsibilities, self.mixture.means, "full", weights)

    def information(self, moments: Statistics) -> FloatArray:
        """The expected complete-data information (:eq:`eq-component-information`), ``(p, p)``."""
        chart, mixture = self.chart, self.mixture
        result = np.zeros((chart.size, chart.size))
        free = slice(mixture.n_components - 1)
        result[free, free] = (self.of_log_weights.T * moments.counts) @ self.of_log_weights
        for k, precision in enumerate(self.precisions):
            count, first, second = moments.counts[k], moments.first[k], moments.second[k]
            curvature = precision @ second @ precision - 0.5 * count * precision
            cross = np.kron(precision @ first, precision) @ chart.basis  # (d, m)
            square = chart.basis.T @ np.kron(curvature, precision) @ chart.basis  # (m, m)
            place = chart.place(k)
            result[np.ix_(place, place)] += np.block(
                [[count * precision, cross], [cross.T, square]]
            )
        return result

    def blocks(self, rows: Rows) -> Iterator[tuple[FloatArray, FloatArray, FloatArray | None]]:
        """Rows, responsibilities and weights, in blocks.

        Scores of a block take the room of a cache, or that of K information matrices.
        """
        p = self.chart.size
        length = max(p, BLOCK_NUMBERS // (self.mixture.n_components * p))
        for start in range(0, len(rows.X), length):
            part = slice(start, start + length)
            block = np.asarray(rows.X[part], dtype=np.float64)
            weights = None if rows.weights is None else rows.weights[part]
            yield block, self.mixture.responsibilities(block), weights


def scores(mixture: Mixture | Fit, X: ArrayLike) -> FloatArray:
    """The gradient of the log-density at each row, in free coordinates (:eq:`eq-row-score`).

    Parameters
    ----------
    mixture : Mixture or Fit
        Of one of the :data:`LINEAR` families, with positive weights.
    X : array (n, d)

    Returns
    -------
    array (n, p)
        Their sum over the rows is the gradient of the log-likelihood
        (:prf:ref:`thm-fisher-identity`), which vanishes at a maximum.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.

    Examples
    --------
    >>> standard = Mixture([1.0], [[0.0]], [1.0], "V")
    >>> scores(standard, [[0.0], [2.0]])  # x, and (x² - 1) / 2
    array([[ 0. , -0.5],
           [ 2. ,  1.5]])
    """
    complete = _Complete(_as_mixture(mixture))
    rows = as_rows(X, n_features=complete.chart.n_features)
    return np.concatenate(
        [
            np.einsum("bk,kbp->bp", shares, complete.scores(block))
            for block, shares, _ in complete.blocks(rows)
        ]
    )


@dataclass(frozen=True, eq=False)
class Information:
    """The information of rows about the free coordinates, in its two parts (:eq:`eq-louis`).

    Parameters
    ----------
    score : array (p,)
        The gradient of the log-likelihood.
    complete : array (p, p)
        What the rows and their labels would tell.
    missing : array (p, p)
        What only the labels would; positive semi-definite.
    """

    score: FloatArray
    complete: FloatArray
    missing: FloatArray

    @property
    def observed(self) -> FloatArray:
        """The negative Hessian of the log-likelihood, shape ``(p, p)``."""
        return self.complete - self.missing

    def inverse(self) -> FloatArray:
        """The inverse of the observed information, shape ``(p, p)``.

        Raises
        ------
        SingularInformationError
            If some direction has less than the part ``SINGULAR`` of its complete-data
            information left (:prf:ref:`prop-missing-share`). This part does not depend on the units
            of the data.
        """
        try:
            whitener = np.linalg.inv(np.linalg.cholesky(self.complete))
        except np.linalg.LinAlgError:
            raise SingularInformationError(
                "mixture: the complete-data information is not positive definite, so this is far "
                "from a maximum of the likelihood; fit it to these rows first"
            ) from None
        left, directions = np.linalg.eigh(whitener @ self.observed @ whitener.T)
        if not left[0] > SINGULAR:
            raise SingularInformationError(
                "mixture: the observed information is not positive definite: in one direction the "
                f"part {left[0]:.1e} of the complete-data information is left. Components can be "
                "traded for one another, or this is a saddle; take fewer components, or a family "
                "with fewer parameters"
            )
        half = whitener.T @ directions
        inverse: FloatArray = (half / left) @ half.T
        return inverse


def information(
    mixture: Mixture | Fit, X: ArrayLike, sample_weight: ArrayLike | None = None
) -> Information:
    """The score, the complete-data and the missing information (:prf:ref:`thm-louis`).

    Parameters
    ----------
    mixture : Mixture or Fit
        Of one of the :data:`LINEAR` families, with positive weights.
    X : array (n, d)
    sample_weight : array (n,), optional
        A row of weight two counts as two rows.

    Returns
    -------
    Information

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> parts = information(gmm.fit(X, 2, random_state=0), X)
    >>> lost = np.linalg.solve(parts.complete, parts.missing)
    >>> round(np.linalg.eigvals(lost).real.max(), 2)  # the rate of EM
    np.float64(0.24)
    """
    complete = _Complete(_as_mixture(mixture))
    rows = as_rows(X, sample_weight, n_features=complete.chart.n_features)
    p = complete.chart.size
    score, missing, moments = np.zeros(p), np.zeros((p, p)), []
    for block, shares, weights in complete.blocks(rows):
        moments.append(complete.moments(block, shares, weights))
        by_label = complete.scores(block)  # (K, b, p)
        by_row = np.einsum("bk,kbp->bp", shares, by_label)
        score += by_row.sum(axis=0) if weights is None else weights @ by_row
        by_label -= by_row
        weighted = shares if weights is None else shares * weights[:, None]
        for k in range(len(by_label)):
            missing += (by_label[k].T * weighted[:, k]) @ by_label[k]
    return Information(score, complete.information(reduce(add, moments)), missing)


def observed_information(
    mixture: Mixture | Fit, X: ArrayLike, sample_weight: ArrayLike | None = None
) -> FloatArray:
    """The negative Hessian of the log-likelihood in free coordinates, by :eq:`eq-louis`.

    Parameters
    ----------
    mixture : Mixture or Fit
        Of one of the :data:`LINEAR` families, with positive weights.
    X : array (n, d)
    sample_weight : array (n,), optional
        A row of weight two counts as two rows.

    Returns
    -------
    array (p, p)
        Symmetric; positive definite at a strict maximum.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.

    Examples
    --------
    >>> standard = Mixture([1.0], [[0.0]], [1.0], "V")
    >>> observed_information(standard, [[-1.0], [1.0]])  # n / σ² and n / 2σ⁴
    array([[2., 0.],
           [0., 1.]])
    """
    return information(mixture, X, sample_weight).observed


# ---------------------------------------------------------------- standard errors


@dataclass(frozen=True, eq=False)
class StandardErrors:
    """What :func:`standard_errors` returns: one standard error for each parameter.

    Parameters
    ----------
    mixture : Mixture
        The estimate.
    weights : array (K,)
    means : array (K, d)
    covariances : array
        In the shape in which the family is stored.
    covariance : array (p, p)
        The estimated covariance matrix of the free coordinates.
    """

    mixture: Mixture
    weights: FloatArray
    means: FloatArray
    covariances: FloatArray
    covariance: FloatArray

    def interval(self, level: float = 0.95) -> tuple[Parameters, Parameters]:
        """Wald intervals (:eq:`eq-wald-interval`): lower and upper ends for each parameter.

        Parameters
        ----------
        level : float
            Between 0 and 1.

        Returns
        -------
        lower, upper : Parameters
            For few rows, ends of weights may lie outside [0, 1] and those of variances below zero.
        """
        z = NormalDist().inv_cdf(0.5 + 0.5 * _as_level(level))
        estimates = (self.mixture.weights, self.mixture.means, self.mixture.stored)
        errors = (self.weights, self.means, self.covariances)
        pairs = list(zip(estimates, errors, strict=True))
        lower = Parameters(*(estimate - z * error for estimate, error in pairs))
        upper = Parameters(*(estimate + z * error for estimate, error in pairs))
        return lower, upper


def standard_errors(
    mixture: Mixture | Fit, X: ArrayLike, sample_weight: ArrayLike | None = None
) -> StandardErrors:
    """Standard errors of all parameters from the observed information.

    Parameters
    ----------
    mixture : Mixture or Fit
        The maximum-likelihood estimate from these rows, of one of the :data:`LINEAR` families.
    X : array (n, d)
    sample_weight : array (n,), optional
        The weights with which it was fitted; a row of weight two counts as two rows.

    Returns
    -------
    StandardErrors

    Raises
    ------
    SingularInformationError
        If the rows do not determine all parameters.
    ValueError, TypeError
        If an argument is not as said.

    Warns
    -----
    ConvergenceWarning
        If the nearest maximum is farther than ``FAR`` standard errors.

    Notes
    -----
    The covariance matrix of the estimates is the inverse of the observed information
    (:prf:ref:`thm-asymptotic-normality`). The last weight is one minus the others, and gets its
    error by the delta method (:prf:ref:`thm-delta-method`).

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> errors = standard_errors(gmm.fit(X, 2, random_state=0), X)
    >>> errors.weights.round(3), errors.means.round(2)
    (array([0.029, 0.029]), array([[0.03, 0.59],
           [0.03, 0.46]]))
    """
    estimate = _as_mixture(mixture)
    parts = information(estimate, X, sample_weight)
    covariance = parts.inverse()
    distance = float(np.sqrt(parts.score @ covariance @ parts.score))
    if distance > FAR:
        warnings.warn(
            f"mixture: {distance:.1f} standard errors away from the maximum for these rows; its "
            "standard errors are those of another estimate",
            ConvergenceWarning,
            stacklevel=2,
        )
    chart = _Chart.of(estimate)
    free = slice(chart.n_components - 1)
    errors = np.sqrt(np.diagonal(covariance))
    of_weights = chart.of_weights @ covariance[free, free] @ chart.of_weights.T
    return StandardErrors(
        estimate,
        np.sqrt(np.diagonal(of_weights)),
        chart.means(errors),
        errors[chart.stored],
        covariance,
    )


def _as_level(level: object) -> float:
    value = as_positive(level, "level")
    if value >= 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {value}")
    return value


# ---------------------------------------------------------------- the bootstrap


@dataclass(frozen=True, eq=False)
class Resampled:
    """What :func:`resampled` returns: the estimates from many samples, component by component.

    Parameters
    ----------
    mixture : Mixture
        The estimate from the data.
    samples : tuple of Mixture
        The estimates from the samples, with their components in the order of ``mixture``.
    n_failed : int
        Samples whose fit collapsed or did not converge; they are not among ``samples``.
    """

    mixture: Mixture
    samples: tuple[Mixture, ...]
    n_failed: int

    @cached_property
    def values(self) -> Parameters:
        """All estimates: ``(B, K)``, ``(B, K, d)`` and ``(B, ...)``."""
        names = ("weights", "means", "stored")
        return Parameters(*(np.array([getattr(m, name) for m in self.samples]) for name in names))

    @property
    def standard_errors(self) -> Parameters:
        """The standard deviations over the samples (:eq:`eq-bootstrap-error`)."""
        return Parameters(*(values.std(axis=0, ddof=1) for values in self.values))

    def interval(self, level: float = 0.95) -> tuple[Parameters, Parameters]:
        """Percentile intervals: the quantiles of the estimates from the samples.

        Parameters
        ----------
        level : float
            Between 0 and 1.

        Returns
        -------
        lower, upper : Parameters
            Never outside the range of a parameter.
        """
        outside = 0.5 - 0.5 * _as_level(level)
        lower, upper = (
            Parameters(*(np.quantile(values, q, axis=0) for values in self.values))
            for q in (outside, 1.0 - outside)
        )
        return lower, upper


def resampled(
    X: ArrayLike,
    mixture: Mixture | Fit,
    *,
    n_samples: int = 200,
    kind: str = "parametric",
    sample_weight: ArrayLike | None = None,
    weighting: str = "frequency",
    ridge: float = 0.0,
    prior: Prior | str | None = None,
    missing: str = "raise",
    progress: bool = False,
    random_state: RandomState = None,
) -> Resampled:
    """The bootstrap: how estimates scatter from sample to sample, for every family.

    Parameters
    ----------
    X : array (n, d)
    mixture : Mixture or Fit
        The estimate from these rows. The fit to each sample starts here.
    n_samples : int
        The number B of samples, at least two.
    kind : str
        "parametric"
            Samples of n rows from the mixture.
        "nonparametric"
            n rows drawn from the rows with replacement (Efron 1979).
    sample_weight : array (n,), optional
        The weights with which the estimate was fitted.
    weighting : str
        What the weights are.

        "frequency"
            How often each row has occurred, in whole numbers of sum W. Samples have W rows; of the
            nonparametric kind each of them is row i with the probability w_i / W.
        "importance"
            How much each of n rows counts, as in a survey that reached some people more easily than
            others. A row is drawn with its weight, each of the n with equal probability. For the
            nonparametric kind only: the rows are not a sample from the weighted mixture.
    ridge : float
        As in the fit: each sample is fitted with it.
    prior : Prior, "default" or None
        As in the fit. The samples then show how the mode of the posterior scatters, which is not
        the posterior itself. "default" is made anew from each sample.
    missing : str
        "raise", or "em": NaN marks a missing value, as in :func:`gmm.fit`. Nonparametric samples
        have rows with their gaps. On parametric ones the gaps of the data are laid, which is right
        if values are missing completely at random (:prf:ref:`def-missing-mechanisms`).
    progress : bool
        Whether a bar counts the samples. It needs tqdm
        (``pip install 'gmm-first-principles[progress]'``).
    random_state : int, Generator or None

    Returns
    -------
    Resampled

    Raises
    ------
    SingularCovarianceError
        If fewer than two samples have a sound fit.
    ValueError, TypeError
        If an argument is not as said.
    ImportError
        If ``progress`` is true and tqdm is not installed.

    Notes
    -----
    The components of each fit are put in the order of the estimate by :func:`matched`.

    The logger "gmm" of Python's ``logging`` tells when the samples begin and end (INFO), of each of
    them (DEBUG), and of those that are left out, as they have no sound fit (WARNING).

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> found = gmm.fit(X, 2, "VEV", random_state=0)
    >>> scatter = resampled(X, found, n_samples=50, random_state=0)
    >>> scatter.standard_errors.weights.round(2), scatter.n_failed
    (array([0.03, 0.03]), 0)
    """
    estimate = _as_mixture(mixture, prior)
    rows = _resampled_rows(X, sample_weight, missing, estimate)
    times = as_count(n_samples, "n_samples", minimum=2)
    parametric = as_choice(kind, "kind", KINDS) == "parametric"
    frequency = as_choice(weighting, "weighting", WEIGHTINGS) == "frequency"
    width = as_ridge(ridge)
    if parametric and not frequency:
        raise ValueError(
            "kind: expected 'nonparametric' for weights of importance, as the rows are not a "
            "sample from the mixture that they make when weighted"
        )
    as_prior(prior, rows, estimate.n_components)  # refuses what is none, before any work
    counts = row_counts(rows) if frequency else None
    draw = _Draw(rows, estimate, counts)
    kept = _certainty(estimate, rows)
    rng = as_generator(random_state)
    samples = []
    LOGGER.info("bootstrap by %d %s samples begins", times, kind)
    with Bar(progress, "samples", times) as bar:
        for i in range(1, times + 1):
            sample, drawn = draw.parametric(rng) if parametric else draw.nonparametric(rng)
            again = _refitted(sample, drawn, estimate, width, prior, missing)
            bar.advance()
            if again is None:
                LOGGER.warning("sample %d of %d is left out: it has no sound fit", i, times)
                continue
            samples.append(again.reordered(assignment(-(kept.T @ _shares(again, rows)))))
            LOGGER.debug("sample %d of %d is fitted", i, times)
    LOGGER.info("bootstrap ends: %d of %d samples have a sound fit", len(samples), times)
    if len(samples) < 2:
        raise SingularCovarianceError(
            f"X: of {times} samples {len(samples)} had a sound fit of {estimate.family} with "
            f"{estimate.n_components} components; take fewer components, or a family with fewer "
            "parameters"
        )
    return Resampled(estimate, tuple(samples), times - len(samples))


def _resampled_rows(
    X: ArrayLike, sample_weight: ArrayLike | None, missing: str, estimate: Mixture
) -> Rows | IncompleteRows:
    """The rows of positive weight, with gaps where that is allowed."""
    d, k = estimate.n_features, estimate.n_components
    if as_choice(missing, "missing", MISSING) == "raise":
        return as_rows(X, sample_weight, n_features=d, min_rows=k)
    matrix = as_matrix(X, n_features=d)
    rows = as_source_with_missing(matrix, sample_weight, missing, min_rows=k)
    assert isinstance(rows, Rows | IncompleteRows)
    return rows


def row_counts(rows: Rows | IncompleteRows) -> IntArray:
    """How often each row has occurred, shape ``(n,)``; refuses weights that are no counts.

    Parameters
    ----------
    rows : Rows or IncompleteRows
    """
    if rows.weights is None:
        return np.ones(rows.n_rows, dtype=np.int64)
    counts = np.rint(rows.weights)
    fractions = counts != rows.weights
    if fractions.any():
        raise ValueError(
            "sample_weight: expected whole numbers, which say how often each row has occurred and "
            f"so how many rows a sample has, got {rows.weights[fractions][0]}"
        )
    return counts.astype(np.int64)


class _Draw:
    """Samples of rows, as pairs of an array and weights or None."""

    def __init__(
        self, rows: Rows | IncompleteRows, mixture: Mixture, counts: IntArray | None
    ) -> None:
        self.rows = rows
        self.mixture = mixture
        self.counts = counts

    def parametric(self, rng: np.random.Generator) -> tuple[FloatArray, None]:
        """As many rows as there are, from the mixture, with the gaps that there are."""
        assert self.counts is not None
        return sample_like(self.rows, self.counts, self.mixture, rng), None

    def nonparametric(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """The rows, with how often they were drawn for weights, or these times their own."""
        n, rows = self.rows.n_rows, self.rows
        if self.counts is not None:
            total = int(self.counts.sum())
            return rows.X, rng.multinomial(total, self.counts / total).astype(np.float64)
        drawn = rng.multinomial(n, np.full(n, 1.0 / n)).astype(np.float64)
        return rows.X, drawn if rows.weights is None else drawn * rows.weights


def sample_like(
    rows: Rows | IncompleteRows, counts: IntArray, mixture: Mixture, rng: np.random.Generator
) -> FloatArray:
    """As many rows from a mixture as there are, with their gaps.

    Parameters
    ----------
    rows : Rows or IncompleteRows
    counts : array (n,) of int
        How often each row has occurred.
    mixture : Mixture
    rng : Generator

    Returns
    -------
    array (W, d)
        W is the sum of the counts.
    """
    sample = mixture.sample(int(counts.sum()), rng)[0]
    if isinstance(rows, IncompleteRows):
        sample[np.repeat(np.isnan(rows.X), counts, axis=0)] = np.nan
    return sample


def _shares(mixture: Mixture, rows: Rows | IncompleteRows) -> FloatArray:
    """The responsibilities, given what is seen of each row, shape ``(n, K)``."""
    if isinstance(rows, IncompleteRows):
        return responsibilities(mixture, rows.X)
    return mixture.responsibilities(rows.X)


def _certainty(mixture: Mixture, rows: Rows | IncompleteRows) -> FloatArray:
    """The responsibilities times the weights, shape ``(n, K)``."""
    shares = _shares(mixture, rows)
    return shares if rows.weights is None else shares * rows.weights[:, None]


def _refitted(
    X: FloatArray,
    weights: FloatArray | None,
    start: Mixture,
    ridge: float,
    prior: Prior | str | None,
    missing: str,
) -> Mixture | None:
    """The estimate from a sample, from the start given; None if it is unsound."""
    try:
        found = fit(
            X,
            start.n_components,
            start.family,
            start=start,
            sample_weight=weights,
            ridge=ridge,
            prior=prior,
            missing=missing,
            accelerate="auto",
        )
    except ValueError:  # a collapse, or fewer different rows than components
        return None
    return found.mixture if found.converged else None


# ---------------------------------------------------------------- labels


def matched(mixture: Mixture, reference: Mixture, X: ArrayLike) -> Mixture:
    """A mixture with its components in the order of another's (:eq:`eq-matching`).

    Parameters
    ----------
    mixture, reference : Mixture
        Of the same numbers of components and features.
    X : array (n, d)
        Rows that show which components mean the same: the order is the one for which most rows
        keep their component, counted by the products of responsibilities.

    Returns
    -------
    Mixture
        It does not depend on the order in which ``mixture`` came, if the best order is unique
        (:prf:ref:`prop-matching`).

    Examples
    --------
    >>> one = Mixture([0.3, 0.7], [[0.0], [4.0]], [1.0, 1.0], "V")
    >>> other = Mixture([0.6, 0.4], [[3.9], [0.2]], [1.0, 1.0], "V")
    >>> matched(other, one, [[0.0], [1.0], [4.0]]).weights
    array([0.4, 0.6])
    """
    mixture, reference = _as_mixture(mixture), _as_mixture(reference)
    if mixture.means.shape != reference.means.shape:
        raise ValueError(
            f"mixture: expected means of shape {reference.means.shape}, as the reference has, "
            f"got {mixture.means.shape}"
        )
    kept = reference.responsibilities(X).T @ mixture.responsibilities(X)  # (K, K)
    return mixture.reordered(assignment(-kept))


def assignment(costs: FloatArray) -> IntArray:
    """The permutation σ that makes Σ_k ``costs[k, σ(k)]`` least.

    Parameters
    ----------
    costs : array (K, K)

    Returns
    -------
    array (K,) of int
        Found by shortest augmenting paths with dual prices (after Kuhn 1955), in time of order K³.

    Examples
    --------
    >>> assignment(np.array([[1.0, 2.0], [1.0, 4.0]]))
    array([1, 0])
    """
    k = len(costs)
    prices = np.zeros(k)  # of columns
    rents = np.zeros(k)  # of rows; costs less both are never negative
    row_of = np.full(k, -1)  # which row each column has been given
    for start in range(k):
        slack = costs[start] - rents[start] - prices
        before = np.full(k, -1)  # the column before each on the shortest path
        reached = np.zeros(k, dtype=bool)
        while True:
            column = int(np.where(reached, np.inf, slack).argmin())
            reached[column] = True
            row = int(row_of[column])
            if row < 0:
                break
            through = slack[column] + costs[row] - rents[row] - prices
            nearer = ~reached & (through < slack)
            slack[nearer], before[nearer] = through[nearer], column
        length = slack[column]
        given = reached & (row_of >= 0)
        gained = length - slack[given]
        prices[given] -= gained
        rents[row_of[given]] += gained
        rents[start] += length
        while before[column] >= 0:
            row_of[column] = row_of[before[column]]
            column = int(before[column])
        row_of[column] = start
    return np.argsort(row_of)
