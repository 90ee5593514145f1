"""Variational Bayes with scikit-learn's conventions, over :mod:`gmm.variational`.

scikit-learn itself is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from gmm.belief import LOG_2, WEIGHT_PRIORS, Belief, Dirichlet
from gmm.checks import (
    FloatArray,
    RandomState,
    as_choice,
    as_count,
    as_generator,
    as_non_negative,
    as_positive,
    as_vector,
)
from gmm.estimator import MixtureEstimator, enough_rows, warn_not_converged
from gmm.families import FAMILIES, stored_shape
from gmm.mixture import Mixture
from gmm.rows import Rows, as_rows
from gmm.special import log_beta, log_gamma, wishart_digamma, wishart_log_gamma
from gmm.statistics import Statistics
from gmm.sweep import Sweep
from gmm.variational import as_scale, scale_of_data, statistics_of_mixture

__all__ = ["BayesianGaussianMixture"]

_WEIGHT_PRIORS = {
    "dirichlet_process": "dirichlet-process",
    "dirichlet_distribution": "dirichlet",
}


class BayesianGaussianMixture(MixtureEstimator):
    """Variational Bayes with the interface of scikit-learn's class of this name.

    Parameters
    ----------
    n_components : int
        The greatest number of components.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}
        What the covariances have in common.
    tol : float
        The fit stops when ``lower_bound_`` moves by less than this.
    reg_covar : float
        Added to each variance of each component's rows, in squared units of the data.
    max_iter : int
        The greatest number of iterations.
    n_init : int
        The number of starts; the end with the greatest ``lower_bound_`` is kept.
    init_params : str
        How a start is made, as :class:`gmm.GaussianMixture` has it.
    weight_concentration_prior_type : {'dirichlet_process', 'dirichlet_distribution'}
    weight_concentration_prior : float, optional
        By default 1/K.
    mean_precision_prior : float, optional
        By default 1.
    mean_prior : array (d,), optional
        By default the mean of the data.
    degrees_of_freedom_prior : float, optional
        More than d − 1; by default d.
    covariance_prior : array or float, optional
        Shape ``(d, d)`` if full or tied, ``(d,)`` if diag, a number if spherical. By default the
        covariance of the data (divisor n − 1), its diagonal, or the mean of that.
    random_state : int, RandomState, Generator or None
    warm_start : bool
        Whether a second call of ``fit`` begins where the first one ended.
    verbose : int
        1 prints the start and the end of each run, 2 also its progress.
    verbose_interval : int
        Iterations between two lines of progress.

    Attributes
    ----------
    weights_ : array (K,)
        Expected weights, with sum one.
    means_ : array (K, d)
    covariances_, precisions_, precisions_cholesky_ : array
        ``(K, d, d)`` if full, ``(d, d)`` if tied, ``(K, d)`` if diag, ``(K,)`` if spherical.
    weight_concentration_ : array (K,), or two of them
        Of the Dirichlet distribution, or of the beta distributions of the Dirichlet process.
    mean_precision_ : array (K,)
    degrees_of_freedom_ : array (K,), or a number if tied
    weight_concentration_prior_, mean_precision_prior_, mean_prior_, degrees_of_freedom_prior_,
    covariance_prior_
        The prior that was used.
    converged_ : bool
    n_iter_ : int
        The number of iterations of the best run.
    lower_bound_ : float
        The bound after the last iteration, less constants.
    lower_bounds_ : list of float
        The same for each iteration of the best run.
    n_features_in_ : int
    mixture_ : Mixture
        ``weights_``, ``means_`` and ``covariances_`` as one value.
    belief_ : Belief
        The posterior as one value.

    Raises
    ------
    ValueError
        If a parameter or the data are not as said.

    Notes
    -----
    The four covariance types are one model, that of the full type: they restrict the factors of the
    posterior (:prf:ref:`prop-restricted-factors`). ``lower_bound_`` leaves constants out, so that
    it is not below the log-evidence. Both are scikit-learn's conventions (:ref:`sec-scikit-learn`);
    :func:`gmm.variational.fit_variational` fits a model of each family, and returns the bound.

    Examples
    --------
    >>> from gmm import BayesianGaussianMixture, datasets
    >>> X = datasets.old_faithful().X
    >>> model = BayesianGaussianMixture(
    ...     n_components=5, weight_concentration_prior=1e-3, max_iter=500, random_state=0
    ... ).fit(X)
    >>> sorted(model.weights_.round(1).tolist())
    [0.0, 0.0, 0.0, 0.4, 0.6]
    """

    def __init__(
        self,
        *,
        n_components: int = 1,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weight_concentration_prior_type: str = "dirichlet_process",
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float | None = None,
        mean_prior: ArrayLike | None = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: ArrayLike | None = None,
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Approximate the posterior by coordinate ascent.

        Parameters
        ----------
        X : array (n, d)
        y : ignored
        sample_weight : array (n,), optional
            Weights of the rows, not negative; a weight of two counts as a row that occurs twice.
        """
        k, family, ridge = self._problem()
        max_iter = as_count(self.max_iter, "max_iter", minimum=0)
        tol = as_non_negative(self.tol, "tol")
        n_init = as_count(self.n_init, "n_init")
        rows = as_rows(enough_rows(X, k), sample_weight, min_rows=k)
        prior = self._prior(rows, family)
        again = self.warm_start and hasattr(self, "belief_")
        rng = as_generator(self.random_state)
        sweep = Sweep(rows, k, FAMILIES[family])
        best: _Run | None = None
        for number in range(1 if again else n_init):
            if again:
                run = _Run(self.belief_, self.lower_bound_)
            else:
                start = self._drawn_start(rows, family, rng)
                run = _Run(prior.updated(statistics_of_mixture(start, rows.total_weight)))
            self._say(1, f"Initialization {number}")
            self._ascend(run, prior, sweep, ridge, tol, max_iter)
            if best is None or run.bound > best.bound:
                best = run
        assert best is not None
        if not best.converged and max_iter > 0:
            warn_not_converged()
        self._take_belief(best, prior, rows.X.dtype)
        self._remember_names(X)
        return self

    def _ascend(
        self,
        run: _Run,
        prior: _RestrictedBelief,
        sweep: Sweep,
        ridge: float,
        tol: float,
        max_iter: int,
    ) -> None:
        """Coordinate ascent until the bound moves by less than ``tol``."""
        while len(run.bounds) < max_iter and not run.converged:
            statistics = sweep(run.belief.joint)
            entropy = run.belief.label_entropy(statistics)
            run.belief = prior.updated(_with_ridge(statistics, ridge))
            before, run.bound = run.bound, run.belief.lower_bound(entropy)
            run.bounds.append(run.bound)
            run.converged = abs(run.bound - before) < tol
            if len(run.bounds) % self.verbose_interval == 0:
                self._say(2, f"  Iteration {len(run.bounds)}: lower bound {run.bound:.6f}")
        if run.converged:
            self._say(1, f"Initialization converged. Lower bound {run.bound:.6f}")

    def _say(self, level: int, message: str) -> None:
        if self.verbose >= level:
            print(message)

    def _prior(self, rows: Rows, family: str) -> _RestrictedBelief:
        """The prior, in the form of the factors."""
        kind = as_choice(
            self.weight_concentration_prior_type,
            "weight_concentration_prior_type",
            tuple(_WEIGHT_PRIORS),
        )
        k, d = self.n_components, rows.n_features
        concentration, precision, mean, freedom, scale = (
            self.weight_concentration_prior,
            self.mean_precision_prior,
            self.mean_prior,
            self.degrees_of_freedom_prior,
            self.covariance_prior,
        )
        self.weight_concentration_prior_ = (
            1.0 / k
            if concentration is None
            else as_positive(concentration, "weight_concentration_prior")
        )
        self.mean_precision_prior_ = (
            1.0 if precision is None else as_positive(precision, "mean_precision_prior")
        )
        self.mean_prior_ = rows.mean if mean is None else as_vector(mean, "mean_prior", d)
        self.degrees_of_freedom_prior_ = d if freedom is None else freedom
        if not self.degrees_of_freedom_prior_ > d - 1:
            raise ValueError(
                "The parameter 'degrees_of_freedom_prior' should be greater than "
                f"{d - 1}, but got {freedom:.3f}."
            )
        self.covariance_prior_ = (
            scale_of_data(rows, family)
            if scale is None
            else as_scale(scale, "covariance_prior", family, d)
        )
        tied = family == "EEE"
        shape = stored_shape(FAMILIES[family], k, d)
        return _RestrictedBelief(
            family,
            WEIGHT_PRIORS[_WEIGHT_PRIORS[kind]](k, self.weight_concentration_prior_),
            np.broadcast_to(self.mean_prior_, (k, d)),
            np.full(k, self.mean_precision_prior_),
            np.full(() if tied else (k,), self.degrees_of_freedom_prior_ * (k if tied else 1.0)),
            np.broadcast_to(self.covariance_prior_ * (k if tied else 1.0), shape),
        )

    def _take_belief(self, run: _Run, prior: _RestrictedBelief, dtype: np.dtype[Any]) -> None:
        """Set the attributes of a fitted estimator."""
        belief = run.belief
        self._take(belief.mixture, run.converged, dtype)
        self.belief_ = belief
        weights = belief.weights
        self.weight_concentration_: FloatArray | tuple[FloatArray, FloatArray] = (
            weights.concentration
            if isinstance(weights, Dirichlet)
            else (weights.first, weights.second)
        )
        self.mean_precision_ = belief.mean_precisions
        self.degrees_of_freedom_ = belief.factor_freedom
        self.n_iter_ = len(run.bounds)
        self.lower_bound_ = run.bound
        self.lower_bounds_ = run.bounds

    def _evaluated(self) -> Mixture:
        return self.belief_.joint


@dataclass
class _Run:
    """One ascent: where it is, and the bounds on its way."""

    belief: _RestrictedBelief
    bound: float = -np.inf
    bounds: list[float] = field(default_factory=list)
    converged: bool = False


class _RestrictedBelief(Belief):
    """Wishart factors of full precisions, with scales of one kind (:eq:`eq-restricted-update`).

    Of the tied kind all K factors are equal. Their sum of log-densities is that of one with K times
    the degrees of freedom and the scale, which is what is stored.
    """

    @property
    def factor_freedom(self) -> FloatArray:
        """Degrees of freedom of each factor, shape ``(K,)``, or () if tied."""
        factors = self.n_components if self.kind == "tied" else 1
        return np.asarray(self.degrees_of_freedom / factors)

    def _determinant_corrections(self) -> FloatArray:
        nu, d = self.factor_freedom, self.n_features
        return np.asarray(wishart_digamma(nu, d) - d * np.log(0.5 * nu))

    def label_entropy(self, statistics: Statistics) -> float:
        """The entropy of the labels, weighted, from the E-step under this belief."""
        labels = float(statistics.counts @ self.weights.expected_logs)
        return statistics.log_likelihood - self.expected_log_likelihood(statistics) - labels

    def lower_bound(self, entropy: float) -> float:
        """The bound after an update, less what scikit-learn leaves out.

        Parameters
        ----------
        entropy : float
            Of the labels from which this belief was updated.
        """
        nu, d = np.broadcast_to(self.factor_freedom, (self.n_components,)), self.n_features
        scale_log_determinants = self.mixture.log_determinants + d * np.log(nu)
        normalisers = wishart_log_gamma(nu, d) + 0.5 * nu * (d * LOG_2 - scale_log_determinants)
        weights = self.weights
        if isinstance(weights, Dirichlet):
            a = weights.concentration
            of_weights = log_gamma(a).sum() - log_gamma(a.sum())
        else:
            of_weights = log_beta(weights.first, weights.second).sum()
        of_means = -0.5 * d * np.log(self.mean_precisions).sum()
        return float(entropy + normalisers.sum() + of_weights + of_means)


def _with_ridge(statistics: Statistics, ridge: float) -> Statistics:
    """Statistics of rows that are blurred by a variance in every feature."""
    d = statistics.n_features
    counts = statistics.counts
    added = {
        "full": counts[:, None, None] * np.eye(d),
        "tied": counts.sum() * np.eye(d),
        "diag": counts[:, None],
        "spherical": counts * d,
    }[statistics.kind]
    return replace(statistics, second=statistics.second + ridge * added)
