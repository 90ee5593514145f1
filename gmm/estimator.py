"""Mixtures with scikit-learn's conventions: keywords, attributes, messages, over :func:`gmm.fit`.

scikit-learn itself is not needed.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    as_non_negative,
    as_numbers,
    as_sample_weight,
    as_vector,
    shown,
)
from gmm.convergence import ACCELERATIONS
from gmm.criteria import aic, bic, icl
from gmm.em import fit
from gmm.families import FAMILIES, KINDS, parse_family, stored_shape
from gmm.initial import starting_mixture
from gmm.missing import (
    IncompleteRows,
    as_source_with_missing,
    impute,
    log_density,
    responsibilities,
)
from gmm.mixture import Mixture
from gmm.normal import inverse_lower
from gmm.prior import Prior, as_prior
from gmm.result import Fit, Progress
from gmm.rows import Rows, Source
from gmm.stepwise import StepwiseEM

__all__ = ["GaussianMixture", "MixtureEstimator", "NotFittedError"]

_STARTS = {
    "kmeans": "k-means",
    "k-means++": "k-means++",
    "random_from_data": "random",
    "random": "random-responsibilities",
    "agglomerative": "agglomerative",
    "short-runs": "short-runs",
    "octant": "octant",
}

_COLLAPSED = (
    "Fitting the mixture model failed because some components have ill-defined empirical "
    "covariance (for instance caused by singleton or collapsed samples). Try to decrease the "
    "number of components, increase reg_covar, or scale the input data."
)
NOT_CONVERGED = (
    "Best performing initialization did not converge. Try different init parameters, or increase "
    "max_iter, tol, or check for degenerate data."
)


class NotFittedError(ValueError, AttributeError):
    """An estimator was used before it was fitted."""


def _not_fitted(message: str) -> Exception:
    """scikit-learn's error of that name where scikit-learn is loaded, so that it is understood."""
    peer = sys.modules.get("sklearn.exceptions")
    error: Exception = getattr(peer, "NotFittedError", NotFittedError)(message)
    return error


def warn_not_converged() -> None:
    """Warn, in a way that who expects scikit-learn's warning of that name understands too."""
    peer = sys.modules.get("sklearn.exceptions")
    category: type[Warning] = ConvergenceWarning
    if peer is not None:
        category = type("ConvergenceWarning", (ConvergenceWarning, peer.ConvergenceWarning), {})
    warnings.warn(NOT_CONVERGED, category, stacklevel=3)


class MixtureEstimator(ABC):
    """What the estimators of mixtures share: parameters by name, starts, and the use of a fit."""

    n_components: int
    covariance_type: str
    reg_covar: float
    init_params: str
    random_state: RandomState
    #: What ``covariance_type`` may be.
    _covariance_types: tuple[str, ...] = tuple(KINDS)

    # ------------------------------------------------------------------ parameters

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        parameters = inspect.signature(cls.__init__).parameters
        return {name: p.default for name, p in parameters.items() if name != "self"}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments; ``deep`` has no effect."""
        return {name: getattr(self, name) for name in self._defaults()}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; unknown names are refused."""
        known = self._defaults()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {self}. "
                    f"Valid parameters are: {sorted(known)!r}."
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = self._defaults()
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not defaults[name]
            and not (isinstance(value, int | float | str) and value == defaults[name])
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator, when it meets this one."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="density_estimator",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(),
        )

    def set_fit_request(self, *, sample_weight: bool | str | None) -> Self:
        """Say whether metadata routing of scikit-learn hands ``sample_weight`` to ``fit``.

        Parameters
        ----------
        sample_weight : bool, str or None
            True or False, or the name under which it is passed; None raises if it is passed.
        """
        request = self.get_metadata_routing()
        request.fit.add_request(param="sample_weight", alias=sample_weight)
        self._metadata_request = request
        return self

    def get_metadata_routing(self) -> Any:
        """What scikit-learn's metadata routing asks; it needs scikit-learn."""
        from sklearn.utils.metadata_routing import MetadataRequest

        known = getattr(self, "_metadata_request", None)
        if known is not None:
            return known
        request = MetadataRequest(owner=type(self).__name__)
        request.fit.add_request(param="sample_weight", alias=None)
        return request

    # ------------------------------------------------------------------ fitting

    @abstractmethod
    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Estimate the parameters."""

    def _problem(self) -> tuple[int, str, float]:
        """The number of components, the family and the ridge, once they are known to be valid."""
        kind = as_choice(self.covariance_type, "covariance_type", self._covariance_types)
        return (
            as_count(self.n_components, "n_components"),
            parse_family(kind),
            as_non_negative(self.reg_covar, "reg_covar"),
        )

    def _drawn_start(
        self, rows: Source, family: str, rng: np.random.Generator, prior: Prior | None = None
    ) -> Mixture:
        """The start that ``init_params`` asks for; with a prior, clusters may be degenerate."""
        name = as_choice(self.init_params, "init_params", tuple(_STARTS))
        ridge = self.reg_covar + (0.0 if prior is None else prior.trifle)
        k, seed = self.n_components, int(rng.integers(2**63))
        return starting_mixture(rows, k, family, _STARTS[name], seed, ridge=ridge)

    def _take(self, mixture: Mixture, converged: bool, dtype: np.dtype[Any]) -> None:
        """Set the parameters of a fitted estimator, in float32 if it holds them and data were."""
        whiteners = mixture.whiteners
        upper = np.swapaxes(whiteners, -1, -2) if whiteners.ndim >= 2 else whiteners
        if mixture.kind in ("full", "tied"):
            factors, precisions = upper, upper @ np.swapaxes(upper, -1, -2)
        else:
            factors, precisions = whiteners, whiteners**2
        exact = (mixture.weights, mixture.means, mixture.stored, factors, precisions)
        kept = np.dtype(np.float64)
        if dtype == np.float32 and all(_is_single(array) for array in exact):
            kept = dtype
        self.mixture_ = mixture
        self.weights_, self.means_, self.covariances_ = (array.astype(kept) for array in exact[:3])
        self.precisions_cholesky_, self.precisions_ = (array.astype(kept) for array in exact[3:])
        self.converged_ = converged
        self.n_features_in_ = mixture.n_features

    def fit_predict(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> IntArray:
        """Fit, then give the component of each row.

        Parameters
        ----------
        X : array (n, d)
        y : ignored
        sample_weight : array (n,), optional

        Returns
        -------
        array (n,) of int
        """
        return self.fit(X, y, sample_weight).predict(X)

    # ------------------------------------------------------------------ using the fit

    def _fitted(self, X: ArrayLike | None = None) -> Mixture:
        if not hasattr(self, "mixture_"):
            raise _not_fitted(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with "
                "appropriate arguments before using this estimator."
            )
        if X is not None:
            self._refuse_other_features(X)
        return self._evaluated()

    def _n_parameters(self) -> int:
        """The number of free parameters, by scikit-learn's name (:eq:`eq-parameter-count`)."""
        return self._fitted().n_parameters

    def _evaluated(self) -> Mixture:
        """What gives densities and responsibilities."""
        return self.mixture_

    def _remember_names(self, X: ArrayLike) -> None:
        """Keep the names of the features, if all of them are text."""
        names = _names(X)
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _compare_names(self, X: ArrayLike) -> None:
        """Warn or raise if the names of the features are not those of the fit."""
        known, given = getattr(self, "feature_names_in_", None), _names(X)
        name = type(self).__name__
        if known is None and given is not None:
            warnings.warn(
                f"X has feature names, but {name} was fitted without feature names",
                UserWarning,
                stacklevel=5,
            )
        elif known is not None and given is None:
            warnings.warn(
                f"X does not have valid feature names, but {name} was fitted with feature names",
                UserWarning,
                stacklevel=5,
            )
        elif known is not None and given is not None and known.tolist() != given.tolist():
            raise ValueError(
                "The feature names should match those that were passed during fit.\n"
                f"expected {known.tolist()}, got {given.tolist()}"
            )

    def _refuse_other_features(self, X: ArrayLike) -> None:
        self._compare_names(X)
        found = _matrix(X).shape[1]
        if found != self.n_features_in_:
            raise ValueError(
                f"X has {found} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )

    def predict(self, X: ArrayLike) -> IntArray:
        """The most probable component of each row, shape ``(n,)``."""
        return self._fitted(X).predict(X)

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """The responsibilities of the components for each row, shape ``(n, K)``."""
        return self._fitted(X).responsibilities(X)

    def score_samples(self, X: ArrayLike) -> FloatArray:
        """The log-density at each row, shape ``(n,)``."""
        return self._fitted(X).log_density(X)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """The mean log-density of the rows."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1) -> tuple[FloatArray, IntArray]:
        """Draw rows, ordered by component.

        Parameters
        ----------
        n_samples : int

        Returns
        -------
        X : array (n_samples, d)
        y : array (n_samples,) of int
        """
        self._fitted()
        if isinstance(n_samples, int | np.integer) and n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one "
                "sample."
            )
        X, labels = self.mixture_.sample(n_samples, as_generator(self.random_state))
        order = np.argsort(labels, kind="stable")
        return X[order], labels[order]


class GaussianMixture(MixtureEstimator):
    """A Gaussian mixture with the interface of scikit-learn's class of this name, and more.

    Parameters
    ----------
    n_components : int
        The number of components.
    covariance_type : str
        What the covariances have in common: 'full', 'tied', 'diag', 'spherical', or one of the
        fourteen families of :mod:`gmm.families` by its name, 'EII' to 'VVV'; of one feature also
        'E' or 'V'.
    tol : float
        EM stops when the mean log-likelihood of a row moves by less than this.
    reg_covar : float
        Added to each variance, in squared units of the data.
    max_iter : int
        The greatest number of iterations.
    n_init : int
        The number of starts; the best end is kept.
    init_params : str
        How a start is made: 'kmeans', 'k-means++', 'random_from_data' or 'random' (responsibilities
        drawn at random); and as :func:`gmm.initial.starting_mixture` has them, 'agglomerative',
        'short-runs' and 'octant'. The last leaves nothing to chance: one start is enough.
    weights_init : array (K,), optional
    means_init : array (K, d), optional
    precisions_init : array, optional
        Inverse covariances, in the shape of ``precisions_``; a family takes its member that fits
        them best. Given parameters take the place of those of the start.
    random_state : int, RandomState, Generator or None
    warm_start : bool
        Whether a second call of ``fit`` begins where the first one ended.
    verbose : int
        1 prints the start and the end of each run, 2 also its progress.
    verbose_interval : int
        Iterations between two lines of progress.
    missing : {'raise', 'em'}
        'raise'
            NaN is refused.
        'em'
            NaN marks a missing value, in all methods. ``fit`` maximises the likelihood of what is
            seen (:prf:ref:`thm-missing-monotone`), and all else is said given what is seen.
    prior : Prior, 'default' or None
        With a :class:`gmm.Prior` the fit maximises the sum of log-likelihood and log-prior
        (:prf:ref:`thm-map-m-step`); 'default' is :func:`gmm.default_prior`, made from the data.
    accelerate : {'none', 'squarem', 'anderson', 'lbfgs', 'auto'}
        How steps of EM are lengthened, as :func:`gmm.fit` does it. Other than with 'none', a run
        ends with an EM step that gains less than ``tol``.

    Attributes
    ----------
    weights_ : array (K,)
    means_ : array (K, d)
    covariances_, precisions_, precisions_cholesky_ : array
        In the shape in which the family is stored: ``(K,)`` if spherical, EII, VII, E or V;
        ``(K, d)`` if diag, EEI, VEI, EVI or VVI; ``(d, d)`` if tied or EEE; else ``(K, d, d)``.
        Precisions are inverse covariances, and ``precisions_cholesky_`` holds upper triangular
        matrices U with U Uᵀ the precision; of variances it is the root of the precision.
    converged_ : bool
    n_iter_ : int
        The number of iterations of the best run.
    lower_bound_ : float
        The mean log-likelihood of a row that the last iteration's E-step saw; with a prior, its
        logarithm (but for a constant) divided by the weight of the rows is added.
    lower_bounds_ : list of float
        The same for each iteration of the best run.
    n_features_in_ : int
    feature_names_in_ : array (d,) of str
        Only if the data are a table whose columns all have text for names.
    mixture_ : Mixture
        The same parameters as one value, with all that a :class:`gmm.Mixture` can do.
    prior_ : Prior or None
        The prior that was used.

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data are not as said.
    SingularCovarianceError
        If a component collapses in every run.

    Notes
    -----
    The E-step is :eq:`eq-responsibilities`, the M-step :eq:`eq-weight-update` to
    :eq:`eq-spherical-update` or that of the family (:func:`gmm.families.update`), with
    ``reg_covar`` on the diagonal. Parameters up to ``verbose_interval`` are scikit-learn's; with
    the defaults of the others nothing changes.

    Examples
    --------
    >>> from gmm import GaussianMixture, datasets
    >>> X = datasets.old_faithful().X
    >>> model = GaussianMixture(2, random_state=0).fit(X)
    >>> model.means_.round(2)
    array([[ 2.04, 54.48],
           [ 4.29, 79.97]])
    >>> model
    GaussianMixture(n_components=2, random_state=0)

    One orientation and shape, two volumes; and an eruption of whose duration nothing is known:

    >>> model = GaussianMixture(2, covariance_type="VEE", missing="em", random_state=0).fit(X)
    >>> model.predict_proba([[np.nan, 70.0]]).round(2)
    array([[0.03, 0.97]])
    """

    _covariance_types = (*KINDS, *FAMILIES)
    _stream: StepwiseEM | None = None

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: str = "kmeans",
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        missing: str = "raise",
        prior: Prior | str | None = None,
        accelerate: str = "none",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.missing = missing
        self.prior = prior
        self.accelerate = accelerate

    @classmethod
    def from_mixture(cls, mixture: Mixture, **params: Any) -> Self:
        """An estimator that is already fitted, from known parameters.

        Parameters
        ----------
        mixture : Mixture
        **params
            Other parameters of the constructor, such as ``missing``.

        Returns
        -------
        GaussianMixture
            It predicts, scores and samples as after a ``fit`` that has led to this mixture;
            ``n_iter_`` is 0. With ``warm_start`` a ``fit`` begins there.

        Raises
        ------
        TypeError
            If ``mixture`` is not a Mixture.

        Examples
        --------
        >>> from gmm import GaussianMixture, Mixture
        >>> known = Mixture([0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0], "E")
        >>> GaussianMixture.from_mixture(known).predict([[1.0], [3.0]])
        array([0, 1])
        """
        if not isinstance(mixture, Mixture):
            raise TypeError(f"mixture: expected a Mixture, got {shown(mixture)}")
        own = {
            "n_components": mixture.n_components,
            "covariance_type": _covariance_type(mixture),
        }
        for name in own.keys() & params.keys():
            raise ValueError(f"{name}: expected to be left to the mixture, got {params[name]!r}")
        model = cls().set_params(**own, **params)
        model._take(mixture, True, np.dtype(np.float64))
        model.prior_ = None
        model.n_iter_, model.lower_bound_, model.lower_bounds_ = 0, -np.inf, []
        return model

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator, when it meets this one."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "em"
        return tags

    # ------------------------------------------------------------------ fitting

    def fit(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> Self:
        """Estimate the parameters by EM.

        Parameters
        ----------
        X : array (n, d)
            With ``missing="em"`` NaN marks a missing value; each feature must have a value in some
            row, and rows without any value are left out with a warning.
        y : ignored
        sample_weight : array (n,), optional
            Weights of the rows, not negative; a weight of two counts as a row that occurs twice.
        """
        k, family, ridge = self._problem()
        max_iter = as_count(self.max_iter, "max_iter", minimum=0)
        tol = as_non_negative(self.tol, "tol")
        plain = as_choice(self.accelerate, "accelerate", ACCELERATIONS) == "none"
        matrix = self._enough(X, k, family)
        rows = as_source_with_missing(matrix, sample_weight, self.missing, min_rows=k)
        prior = self._prior(rows)
        again = self.warm_start and hasattr(self, "mixture_")
        rng = as_generator(self.random_state)
        best: Fit | None = None
        seen: list[float] = []
        met: bool = False
        for number in range(1 if again else as_count(self.n_init, "n_init")):
            try:
                start = self.mixture_ if again else self._start(rows, family, rng, prior)
                watch = _Watch(self, tol if plain else 0.0, rows.total_weight, prior, number, again)
                result = fit(
                    rows,
                    k,
                    family,
                    start=start,
                    tol=0.0 if plain else tol,
                    max_iter=max_iter,
                    ridge=ridge,
                    prior=prior,
                    accelerate=self.accelerate,
                    callback=watch,
                )
            except SingularCovarianceError:
                continue
            if best is None or result.objective > best.objective:
                best, seen, met = result, watch.objectives, watch.met or result.converged
            if result.reason == "interrupted":
                break
        if best is None:
            raise SingularCovarianceError(_COLLAPSED)
        if not met and max_iter > 0:
            warn_not_converged()
        self._take(best.mixture, met, matrix.dtype)
        self._remember_names(X)
        self.prior_ = prior
        self.n_iter_ = best.n_iter
        self.lower_bounds_ = [one / best.total_weight for one in seen[: max(1, best.n_iter)]]
        self.lower_bound_ = self.lower_bounds_[-1]
        self._stream = None
        return self

    def partial_fit(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn one block of a stream by a step of stepwise EM (:class:`gmm.StepwiseEM`).

        The first call makes the start from its block, unless there was a ``fit``: then it goes on
        from there. A call of ``fit`` ends the stream.

        Parameters
        ----------
        X : array (b, d)
            The first block must have at least ``n_components`` rows, and should be typical of what
            will come; ``prior="default"`` is made from it.
        y : ignored
        sample_weight : array (b,), optional

        Notes
        -----
        ``n_iter_`` is the number of blocks so far, and ``lower_bounds_`` has for each of them the
        mean log-likelihood of a row before it was learned. ``converged_`` is false: a stream has no
        end. ``accelerate`` has no effect: nothing is read twice.
        """
        k, family, ridge = self._problem()
        known: Mixture | None = getattr(self, "mixture_", None)
        if known is not None:
            self._refuse_other_features(X)
            if (known.n_components, known.family) != (k, family):
                raise ValueError(
                    "n_components, covariance_type: expected those of the calls before, "
                    f"{known.n_components} and {_covariance_type(known)!r}; call fit to begin anew"
                )
        fewest = k if known is None else 1
        matrix = self._enough(X, fewest, family)
        rows = as_source_with_missing(
            matrix, sample_weight, self.missing, min_rows=fewest, every_feature=known is None
        )
        assert isinstance(rows, Rows | IncompleteRows)
        stream = self._stream
        if stream is None:
            stream = self._new_stream(rows, family, ridge)
            self.lower_bounds_ = []
        stream.update(rows.X, rows.weights)
        self._take(stream.mixture, False, matrix.dtype)
        if known is None:
            self._remember_names(X)
        self.prior_ = stream.prior
        self.n_iter_ = stream.n_steps
        self.lower_bound_ = stream.log_likelihood / rows.total_weight
        self.lower_bounds_.append(self.lower_bound_)
        self._stream = stream
        return self

    def _new_stream(self, rows: Source, family: str, ridge: float) -> StepwiseEM:
        """A stream that goes on from a fit, or begins with a start from its first block."""
        known: Mixture | None = getattr(self, "mixture_", None)
        prior: Prior | None = getattr(self, "prior_", None)
        if prior is None or not isinstance(self.prior, str):
            prior = self._prior(rows)
        start = known or self._start(rows, family, as_generator(self.random_state), prior)
        return StepwiseEM(start, ridge=ridge, prior=prior, missing=self.missing)

    def _prior(self, rows: Source) -> Prior | None:
        """The prior that is asked for."""
        if isinstance(self.prior, str) and rows.n_rows == 1:
            raise ValueError("prior: the default is made from rows that differ, got n_samples = 1")
        return as_prior(self.prior, rows, self.n_components)

    def _enough(self, X: ArrayLike, n_rows: int, family: str) -> NDArray[Any]:
        """``X`` as a matrix of at least so many rows, with features that suit the family."""
        matrix = enough_rows(X, n_rows)
        if len(family) == 1 and matrix.shape[1] > 1:
            raise ValueError(
                "covariance_type: expected one of three letters for "
                f"{matrix.shape[1]} features, got {family!r}, which is for one"
            )
        return matrix

    def _start(
        self, rows: Source, family: str, rng: np.random.Generator, prior: Prior | None = None
    ) -> Mixture:
        """The start that ``init_params`` asks for, with the parameters that were given."""
        k, d, kind = self.n_components, rows.n_features, FAMILIES[family]
        given = (self.weights_init, self.means_init, self.precisions_init)
        as_choice(self.init_params, "init_params", tuple(_STARTS))
        base: Mixture | None = None
        if any(value is None for value in given):
            base = self._drawn_start(rows, family, rng, prior)
            if all(value is None for value in given):
                return base
        weights, means, precisions = given
        if weights is not None:
            weights = _weights(weights, k)
        if means is not None:
            means = _of_shape(means, "means", (k, d))
        if precisions is None:
            assert base is not None
            covariances = base.stored
        else:
            covariances = _inverse(precisions, kind, stored_shape(kind, k, d))
        start = Mixture(
            _given_or(weights, base, "weights"), _given_or(means, base, "means"),
            covariances, KINDS[kind],
        )  # fmt: skip
        return starting_mixture(rows, k, family, start)

    # ------------------------------------------------------------------ using the fit

    def _has_gaps(self, X: ArrayLike) -> bool:
        """Whether values are missing, and may be."""
        if self.missing != "em":
            return False
        return bool(np.isnan(_matrix(X).sum(axis=1)).any())

    def predict(self, X: ArrayLike) -> IntArray:
        """The most probable component of each row, given what is seen of it, shape ``(n,)``."""
        mixture = self._fitted(X)
        if not self._has_gaps(X):
            return mixture.predict(X)
        labels: IntArray = responsibilities(mixture, X).argmax(axis=1)
        return labels

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """The responsibilities of the components for each row, shape ``(n, K)``.

        Where values are missing, given what is seen (:eq:`eq-missing-responsibilities`): of a row
        without any value, the weights.
        """
        mixture = self._fitted(X)
        return responsibilities(mixture, X) if self._has_gaps(X) else mixture.responsibilities(X)

    def score_samples(self, X: ArrayLike) -> FloatArray:
        """The log-density of what is seen of each row, shape ``(n,)``.

        Of a row without any value it is zero (:eq:`eq-observed-likelihood`).
        """
        mixture = self._fitted(X)
        return log_density(mixture, X) if self._has_gaps(X) else mixture.log_density(X)

    def impute(self, X: ArrayLike, *, draw: bool = False) -> FloatArray:
        """The rows with their missing values filled in, shape ``(n, d)``.

        Parameters
        ----------
        X : array (n, d)
            NaN marks what is missing, whatever ``missing`` is.
        draw : bool
            False: by conditional means (:eq:`eq-imputed-mean`), whose spread is too small. True: by
            draws from the conditional distribution, with ``random_state``.
        """
        mixture = self._fitted(X)
        return impute(mixture, X, draw=draw, random_state=self.random_state if draw else None)

    def aic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Akaike's criterion on rows (:eq:`eq-aic`); smaller is better.

        Parameters
        ----------
        X : array (n, d)
        sample_weight : array (n,), optional
        """
        log_likelihood, _ = self._weighed(X, sample_weight)
        return aic(log_likelihood, self.mixture_.n_parameters)

    def bic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The Bayesian information criterion on rows (:eq:`eq-bic`); smaller is better.

        Parameters
        ----------
        X : array (n, d)
            Rows without any value do not count.
        sample_weight : array (n,), optional
        """
        log_likelihood, weights = self._weighed(X, sample_weight)
        return bic(log_likelihood, self.mixture_.n_parameters, weights.sum())

    def icl(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The integrated completed likelihood on rows (:eq:`eq-icl`); smaller is better.

        Parameters
        ----------
        X : array (n, d)
            Rows without any value do not count.
        sample_weight : array (n,), optional
        """
        log_likelihood, weights = self._weighed(X, sample_weight)
        certain = float(weights @ np.log(self.predict_proba(X).max(axis=1)))
        count = self.mixture_.n_parameters
        return icl(log_likelihood, count, weights.sum(), min(certain, 0.0))

    def _weighed(self, X: ArrayLike, sample_weight: ArrayLike | None) -> tuple[float, FloatArray]:
        """The log-likelihood of rows, and their weights: zero without any value, ``(n,)``."""
        log_densities = self.score_samples(X)
        weights = as_sample_weight(sample_weight, len(log_densities))
        if weights is None:
            weights = np.ones(len(log_densities))
        if self._has_gaps(X):
            weights = np.where(np.isnan(_matrix(X)).all(axis=1), 0.0, weights)
        return float(weights @ log_densities), weights


def _covariance_type(mixture: Mixture) -> str:
    """The name of a mixture's family, as a user of scikit-learn knows it if there is one."""
    kinds = {family: kind for kind, family in KINDS.items()}
    return kinds.get(mixture.family, mixture.family)


class _Watch:
    """scikit-learn's stopping rule: it compares what the E-steps of two iterations saw."""

    def __init__(
        self,
        model: GaussianMixture,
        tol: float,
        total_weight: float,
        prior: Prior | None,
        number: int,
        again: bool,
    ) -> None:
        self.model = model
        self.tolerance = tol * total_weight
        self.prior = prior
        self.objectives: list[float] = []
        # what the last E-step of an earlier fit saw, if this one goes on from there
        self.before = [model.lower_bound_ * total_weight] if again else []
        self.met: bool = False
        if model.verbose:
            print(f"Initialization {number}")

    def __call__(self, progress: Progress) -> bool:
        objective = progress.log_likelihood
        if self.prior is not None:
            objective += self.prior.log_density(progress.mixture)
        self.objectives.append(objective)
        t, seen = progress.iteration, self.before + self.objectives[-3:]
        if t >= 1 and len(seen) > 2:
            self.met = abs(seen[-2] - seen[-3]) < self.tolerance
        if self.model.verbose and self.met:
            print(f"Initialization converged. Log-likelihood {progress.log_likelihood:.6f}")
        elif self.model.verbose > 1 and t and t % self.model.verbose_interval == 0:
            print(f"  Iteration {t}: log-likelihood {progress.log_likelihood:.6f}")
        return self.met


def _names(X: object) -> NDArray[np.object_] | None:
    """The names of a table's columns, if all of them are text."""
    columns = getattr(X, "columns", None)
    if columns is None:
        return None
    names = np.asarray(list(columns), dtype=object)
    texts = [isinstance(name, str) for name in names]
    if any(texts) and not all(texts):
        raise TypeError(
            "Feature names are only supported if all input features have string names, but the "
            f"names are of the types {sorted({type(name).__name__ for name in names})}."
        )
    return names if len(names) and all(texts) else None


def _matrix(X: ArrayLike) -> NDArray[Any]:
    """``X`` as a matrix; where the trouble has a name in scikit-learn, its message is used."""
    if getattr(getattr(X, "dtype", None), "kind", "") == "c":
        raise ValueError("X: Complex data not supported; expected real numbers")
    array = as_numbers(X, "X")
    if array.ndim == 1:
        raise ValueError(
            f"X: expected a 2-D array (rows, features), got shape {array.shape}. Reshape your data "
            "by X.reshape(-1, 1) for a single feature, X.reshape(1, -1) for a single row."
        )
    if array.ndim == 2 and array.shape[1] == 0:
        raise ValueError(f"X: 0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
    return as_matrix(array)


def enough_rows(X: ArrayLike, n_components: int) -> NDArray[Any]:
    """``X`` as a matrix with a row for each component."""
    matrix = _matrix(X)
    if len(matrix) < n_components:
        raise ValueError(
            "Expected n_samples >= n_components but got "
            f"n_components = {n_components}, n_samples = {len(matrix)}"
        )
    return matrix


def _given_or(value: ArrayLike | None, base: Mixture | None, name: str) -> ArrayLike:
    if value is not None:
        return value
    chosen: FloatArray = getattr(base, name)
    return chosen


def _of_shape(values: ArrayLike, name: str, shape: tuple[int, ...]) -> FloatArray:
    array = as_numbers(values, name).astype(np.float64)
    if array.shape != shape:
        raise ValueError(
            f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}"
        )
    return array


def _weights(values: ArrayLike, n_components: int) -> FloatArray:
    """Mixing proportions, refused in scikit-learn's words (which swap the extremes)."""
    weights = _of_shape(values, "weights", (n_components,))
    if not ((weights >= 0) & (weights <= 1)).all():
        raise ValueError(
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{np.min(weights):.5f}, min value {np.max(weights):.5f}"
        )
    if not np.isclose(weights.sum(), 1.0):
        raise ValueError(
            "The parameter 'weights' should be normalized, but got sum(weights) = "
            f"{np.sum(weights):.5f}"
        )
    weights /= weights.sum()
    return weights


def _is_single(array: FloatArray) -> bool:
    """Whether float32 holds the numbers of an array: makes them neither infinite nor zero."""
    with np.errstate(over="ignore", under="ignore"):
        single = array.astype(np.float32)
    return bool((np.isfinite(single) & ((single == 0) == (array == 0))).all())


def _inverse(precisions: ArrayLike, kind: str, shape: tuple[int, ...]) -> FloatArray:
    """Covariances from precisions, through the Cholesky factors of the latter."""
    array = _of_shape(precisions, f"{kind} precision", shape)
    if kind in ("diag", "spherical"):
        as_vector(array.ravel(), "precisions_init")
        if (array <= 0).any():
            raise ValueError(f"'{kind} precision' should be positive")
        return 1.0 / array
    try:
        if not np.allclose(array, np.swapaxes(array, -1, -2)):
            raise np.linalg.LinAlgError
        factor = inverse_lower(np.linalg.cholesky(array).astype(np.float64, copy=False))
    except np.linalg.LinAlgError:
        raise ValueError(f"'{kind} precision' should be symmetric, positive-definite") from None
    return np.swapaxes(factor, -1, -2) @ factor
