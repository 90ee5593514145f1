r"""The Gaussian mixture as a value: weights, means and covariances that never change.

Its density is :math:`\sum_k \pi_k\,\mathcal N(\boldsymbol x \mid \boldsymbol\mu_k,
\boldsymbol\Sigma_k)` (:eq:`eq-mixture-density`). Densities are handled as logarithms throughout, so
that a row far from every component costs nothing but a large negative number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm import threads
from gmm.cached import cached_property
from gmm.checks import (
    WIDEST,
    FloatArray,
    IntArray,
    RandomState,
    SingularCovarianceError,
    as_count,
    as_generator,
    as_indices,
    as_matrix,
    as_numbers,
    as_probabilities,
    as_vector,
    read_only,
    refuse_distant,
    refuse_extreme,
    refuse_extreme_variances,
    refuse_non_finite,
)
from gmm.families import (
    FAMILIES,
    expand,
    is_free,
    n_parameters,
    of_marginals,
    parse_family,
    restrict,
    restrict_variances,
    stored_shape,
)
from gmm.natural import (
    LOG_2,
    MANY_FEATURES,
    OF_ZERO,
    TOLERANCE,
    cancellation,
    features,
    log_weights,
    natural_parameters,
    statistics_size,
)
from gmm.normal import (
    LOG_2PI,
    Normal,
    as_covariance,
    inverse_cholesky,
    log_determinant,
    split_coordinates,
)
from gmm.rows import Source, as_rows, blocks

__all__ = ["Mixture", "log_sum_exp"]

#: Bounds of :func:`gmm.natural.cancellation` from which some squared distances may be no numbers.
FAR = 1e280


def log_sum_exp(values: FloatArray) -> FloatArray:
    """Logarithm of the sum of exponentials along the last axis (:eq:`eq-log-sum-exp`).

    The greatest value is taken out first, so that no exponential overflows and at least one does
    not underflow; the rounding error is bounded in :prf:ref:`thm-log-sum-exp-error`.

    Parameters
    ----------
    values : array (..., K)
        May hold −∞, the logarithm of zero.

    Returns
    -------
    array (...)

    Examples
    --------
    >>> log_sum_exp(np.array([-1000.0, -1000.0]))  # -1000 + log 2
    np.float64(-999.3068528194401)
    """
    greatest = values.max(axis=-1)
    shift = np.where(np.isfinite(greatest), greatest, 0.0)
    with np.errstate(divide="ignore"):
        total: FloatArray = np.log(np.exp(values - shift[..., None]).sum(axis=-1)) + shift
    return total


@dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    r"""A mixture of K normal distributions on d features; an immutable value.

    Parameters
    ----------
    weights : array (K,)
        Mixing proportions, not negative, with sum 1.
    means : array (K, d)
    covariances : array
        Shape ``(K, d, d)`` for any family, or the shape in which the family is stored: ``(d, d)``
        for EEE, ``(K, d)`` for VVI, ``(K,)`` for VII. In squared units of the means.
    family : str
        What the covariances have in common: one of the names in :mod:`gmm.families`.

    Raises
    ------
    SingularCovarianceError
        If a covariance is not positive definite; the message names the component.
    ValueError
        If shapes do not fit, a number is not finite, weights do not sum to one, a matrix is not
        symmetric, or matrices of shape ``(K, d, d)`` are not of the family.

    Notes
    -----
    The density is :eq:`eq-mixture-density`; its latent variable, the component that a row comes
    from, has the probabilities of :eq:`eq-latent`.

    Examples
    --------
    >>> mixture = Mixture([0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0], family="VII")
    >>> mixture.responsibilities([[1.0], [2.0], [3.0]]).round(2)
    array([[0.98, 0.02],
           [0.5 , 0.5 ],
           [0.02, 0.98]])
    >>> mixture.covariances.shape
    (2, 1, 1)
    """

    weights: FloatArray
    means: FloatArray
    stored: FloatArray
    family: str

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        family: str = "VVV",
    ) -> None:
        weights = as_probabilities(weights, "weights")
        means = as_matrix(means, "means").astype(np.float64)
        refuse_non_finite(means, "means")
        refuse_extreme(means.min(axis=0), means.max(axis=0), name="means", narrow=True)
        if len(means) != len(weights):
            raise ValueError(
                f"means: expected {len(weights)} rows, one for each weight, got {len(means)}"
            )
        name = parse_family(family, means.shape[1])
        stored = _as_stored(covariances, name, weights, means.shape[1])
        self._set(weights, means, stored, name)
        _ = self.whiteners  # refuses what is not positive definite

    def _set(self, weights: FloatArray, means: FloatArray, stored: FloatArray, family: str) -> None:
        for name, value in (("weights", weights), ("means", means), ("stored", stored)):
            object.__setattr__(self, name, read_only(value))
        object.__setattr__(self, "family", family)

    @classmethod
    def from_stored(
        cls, weights: FloatArray, means: FloatArray, stored: FloatArray, family: str
    ) -> Mixture:
        """A mixture from arrays that are known to be valid, as the M-step makes them.

        Raises
        ------
        SingularCovarianceError
            If a covariance is not positive definite.
        """
        mixture = cls.__new__(cls)
        mixture._set(weights, means, stored, family)
        _ = mixture.whiteners
        return mixture

    def __repr__(self) -> str:
        k, d = self.means.shape
        lines = [f"Mixture({self.family}, {k} components, {d} features)"]
        for weight, mean in zip(self.weights[:10], self.means[:10], strict=True):
            lines.append(f"  weight {weight:.4f}  mean {np.array2string(mean, precision=4)}")
        if k > 10:
            lines.append(f"  ... and {k - 10} more")
        return "\n".join(lines)

    # ------------------------------------------------------------------ what it is

    @property
    def n_components(self) -> int:
        """The number K of components."""
        return int(self.means.shape[0])

    @property
    def n_features(self) -> int:
        """The dimension d."""
        return int(self.means.shape[1])

    @property
    def n_parameters(self) -> int:
        """The number of free parameters (:eq:`eq-parameter-count`)."""
        return n_parameters(self.family, self.n_components, self.n_features)

    @property
    def kind(self) -> str:
        """How the covariances are stored: full, tied, diag or spherical."""
        return FAMILIES[self.family]

    @cached_property
    def covariances(self) -> FloatArray:
        """The covariance matrices, shape ``(K, d, d)``."""
        return read_only(expand(self.stored, self.kind, self.n_components, self.n_features))

    @cached_property
    def variances(self) -> FloatArray:
        """The variances of the components in each feature, shape ``(K, d)``."""
        if self.kind == "diag":
            return self.stored
        if self.kind == "spherical":
            return np.broadcast_to(self.stored[:, None], self.means.shape)
        diagonals = np.diagonal(self.stored, axis1=-2, axis2=-1)
        return diagonals if self.kind == "full" else np.broadcast_to(diagonals, self.means.shape)

    @cached_property
    def mean(self) -> FloatArray:
        """The mean of the mixture, shape ``(d,)`` (:eq:`eq-mixture-mean`)."""
        return read_only(self.weights @ self.means)

    @cached_property
    def covariance(self) -> FloatArray:
        """The covariance of the mixture, shape ``(d, d)`` (:eq:`eq-mixture-covariance`)."""
        spread = self.means - self.mean
        within = np.tensordot(self.weights, self.covariances, axes=1)
        return read_only(within + (self.weights[:, None] * spread).T @ spread)

    def component(self, k: int) -> Normal:
        """The normal distribution of component ``k``."""
        index = int(as_indices(k, "k", self.n_components)[0])
        return Normal(self.means[index], self.covariances[index])

    def reordered(self, order: ArrayLike) -> Mixture:
        """The same mixture with its components in another order (:prf:ref:`thm-identifiability`).

        Parameters
        ----------
        order : sequence of int
            A permutation of ``range(K)``.
        """
        positions = as_indices(order, "order", self.n_components)
        if len(positions) != self.n_components:
            raise ValueError(f"order: expected a permutation of {self.n_components} components")
        stored = self.stored if self.kind == "tied" else self.stored[positions]
        return Mixture.from_stored(
            self.weights[positions], self.means[positions], stored, self.family
        )

    # ------------------------------------------------------------------ densities

    @cached_property
    def whiteners(self) -> FloatArray:
        """What turns a residual into a standard normal vector, in the shape of the storage.

        Inverse Cholesky factors for matrices, reciprocal standard deviations for variances.
        """
        if self.kind in ("full", "tied"):
            return inverse_cholesky(self.stored, "covariances")
        if not (self.stored > 1 / WIDEST).all():
            k = int(np.argwhere(~(self.stored > 1 / WIDEST))[0][0])
            raise SingularCovarianceError(
                f"covariances of component {k}: expected positive variances"
            )
        return 1.0 / np.sqrt(self.stored)

    @cached_property
    def log_determinants(self) -> FloatArray:
        """Logarithms of the determinants of the covariances, shape ``(K,)``."""
        k, d = self.means.shape
        if self.kind == "full":
            return -log_determinant(self.whiteners)
        if self.kind == "tied":
            return np.full(k, -log_determinant(self.whiteners))
        per_feature = -2.0 * np.log(self.whiteners)
        if self.kind == "spherical":
            per_feature = per_feature[:, None] * np.ones(d)
        total: FloatArray = per_feature.sum(axis=1)
        return total

    def squared_distances(self, block: FloatArray) -> FloatArray:
        """Squared Mahalanobis distances (:eq:`eq-mahalanobis`) of rows to each component.

        Parameters
        ----------
        block : array (b, d)
            Rows of float64; they are not checked.

        Returns
        -------
        array (b, K)
        """
        distances = [self.squared_distances_from(k, block) for k in range(self.n_components)]
        return np.column_stack(distances)

    def squared_distances_from(self, k: int, block: FloatArray) -> FloatArray:
        """The squared Mahalanobis distances of rows from component k, shape ``(b,)``."""
        whitened = block - self.means[k]  # (b, d)
        if self.kind == "full":
            whitened = whitened @ self.whiteners[k].T
        elif self.kind == "tied":
            whitened = whitened @ self.whiteners.T
        else:
            whitened *= self.whiteners[k]
        squares: FloatArray = np.einsum("ij,ij->i", whitened, whitened)
        return squares

    def log_joint(self, block: FloatArray) -> FloatArray:
        """Log π_k + log N(x | μ_k, Σ_k) for rows that are not checked, shape ``(b, K)``."""
        return self.log_constants - 0.5 * self.squared_distances(block)

    @cached_property
    def log_constants(self) -> FloatArray:
        """The logarithms of the weighted densities at the means, shape ``(K,)``."""
        return log_weights(self.weights) - 0.5 * (self.n_features * LOG_2PI + self.log_determinants)

    @cached_property
    def _natural(self) -> tuple[FloatArray, float, FloatArray]:
        """Natural parameters about the mixture's mean, their shift, and the means' offsets."""
        offsets = self.means - self.mean
        with np.errstate(over="ignore", invalid="ignore"):  # where it would cancel anyway
            theta, shift = natural_parameters(
                self.weights, offsets, self.whiteners, self.log_determinants, self.kind
            )
        return theta, shift - 0.5 * self.n_features * LOG_2PI, np.abs(offsets).max(axis=0)

    def _joint(self, block: FloatArray) -> FloatArray:
        """The log joint densities of rows, shape ``(K, b)``, as :func:`log_joint` or faster.

        Raises
        ------
        ValueError
            If the squared distances of a row are too great for numbers.
        """
        d, b = self.n_features, len(block)
        if self.kind == "full" and d >= MANY_FEATURES:
            return self._log_joint(block)
        theta, shift, farthest = self._natural
        rows = np.empty((statistics_size(self.kind, d), b))
        centred = np.subtract(block.T, self.mean[:, None], out=rows[1 : 1 + d])
        reach = np.maximum(np.abs(centred).max(axis=1), farthest)
        errors = cancellation(self.whiteners, self.kind, reach)
        if not errors.max() < FAR:
            return self._log_joint(block)
        narrow = ~(errors < TOLERANCE)
        if narrow.all():
            return np.ascontiguousarray(self.log_joint(block).T)
        joint: FloatArray = theta @ features(centred, self.kind, rows)
        joint *= LOG_2
        joint += shift
        if self.kind == "tied":
            joint -= 0.5 * ((self.whiteners @ centred) ** 2).sum(axis=0)
        for k in np.flatnonzero(narrow).tolist():
            joint[k] = self.log_constants[k] - 0.5 * self.squared_distances_from(k, block)
        return joint

    def _log_joint(self, block: FloatArray) -> FloatArray:
        """The same by :func:`log_joint`, −∞ for components that are too far away for numbers."""
        joint = np.ascontiguousarray(self.log_joint(block).T)
        joint[np.isnan(joint)] = -np.inf  # the distance was a difference of infinities
        refuse_distant(block[~(joint.max(axis=0) > OF_ZERO)], "a component")
        return joint

    def _by_blocks(
        self, X: ArrayLike, result: NDArray[Any], of: Callable[[FloatArray], NDArray[Any]]
    ) -> NDArray[Any]:
        """Fill ``result`` with a function of the log joint densities ``(K, b)`` of each block."""
        rows = as_rows(X, n_features=self.n_features)
        parts = list(blocks(rows.n_rows, self.n_features + self.n_components))

        def work(_: int, i: int) -> None:
            block = np.asarray(rows.X[parts[i]], dtype=np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # rows may be anywhere
                joint = self._joint(block)
            result[parts[i]] = of(joint)

        _ = self.whiteners, self.log_determinants, self._natural  # once, before threads ask for it
        if len(parts) == 1:
            work(0, 0)
        else:
            with threads.one_blas_thread():
                threads.run(len(parts), work)
        return result

    def component_log_densities(self, X: ArrayLike) -> FloatArray:
        """Logarithms of the weighted densities of the components at each row.

        Parameters
        ----------
        X : array (n, d)

        Returns
        -------
        array (n, K)
            log π_k + log N(x | μ_k, Σ_k); the log-density is their :func:`log_sum_exp`.
        """
        result = np.empty((_n_rows(X), self.n_components))
        self._by_blocks(X, result, lambda joint: joint.T)
        result[:, self.weights == 0] = -np.inf
        return result

    def log_density(self, X: ArrayLike) -> FloatArray:
        """Logarithm of the mixture density at each row (:eq:`eq-mixture-density`).

        Parameters
        ----------
        X : array (n, d)
            Of rows with missing values, :func:`gmm.missing.log_density` takes what is seen.

        Returns
        -------
        array (n,)
        """
        return self._by_blocks(X, np.empty(_n_rows(X)), lambda joint: _shares(joint)[1])

    def log_likelihood(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """The log-likelihood of rows (:eq:`eq-log-likelihood`), weighted if weights are given.

        Parameters
        ----------
        X : array (n, d)
        sample_weight : array (n,), optional
        """
        rows = as_rows(X, sample_weight, n_features=self.n_features)
        log_densities = self.log_density(rows.X)
        return float(log_densities.sum() if rows.weights is None else rows.weights @ log_densities)

    def responsibilities(self, X: ArrayLike) -> FloatArray:
        """Posterior probabilities of the components at each row (:eq:`eq-responsibilities`).

        Parameters
        ----------
        X : array (n, d)

        Returns
        -------
        array (n, K)
            Each row sums to one.
        """
        result = np.empty((_n_rows(X), self.n_components))
        return self._by_blocks(X, result, lambda joint: _shares(joint)[0].T)

    def predict(self, X: ArrayLike) -> IntArray:
        """The component of greatest responsibility for each row.

        Parameters
        ----------
        X : array (n, d)

        Returns
        -------
        array (n,) of int
        """
        result = np.empty(_n_rows(X), dtype=np.int64)
        return self._by_blocks(X, result, lambda joint: joint.argmax(axis=0))

    def sample(self, n: int, random_state: RandomState = None) -> tuple[FloatArray, IntArray]:
        """Draw rows by drawing a component first (:eq:`eq-latent`), then a row from it.

        Parameters
        ----------
        n : int
        random_state : int, Generator or None

        Returns
        -------
        X : array (n, d)
        labels : array (n,) of int
            The component of each row.

        Examples
        --------
        >>> X, labels = Mixture([0.3, 0.7], [[0.0], [9.0]], [1.0, 1.0], "VII").sample(5, 0)
        >>> labels
        array([1, 0, 0, 0, 1])
        """
        rng = as_generator(random_state)
        size = as_count(n, "n", minimum=0)
        labels = rng.choice(self.n_components, size=size, p=self.weights).astype(np.int64)
        rows = rng.standard_normal((size, self.n_features))
        for k in range(self.n_components):
            chosen = labels == k
            factor = np.linalg.cholesky(self.covariances[k])
            rows[chosen] = self.means[k] + rows[chosen] @ factor.T
        return rows, labels

    # ------------------------------------------------------------------ marginal, conditional

    def marginal(self, indices: ArrayLike) -> Mixture:
        """The distribution of some features (:prf:ref:`thm-mixture-marginal`).

        Parameters
        ----------
        indices : int or sequence of int
            The features to keep, in the order wanted.
        """
        kept = as_indices(indices, "indices", self.n_features)
        covariances = self.covariances[:, kept[:, None], kept]
        family = of_marginals(self.family)
        stored = restrict(covariances, family, self.weights)
        return Mixture.from_stored(self.weights, self.means[:, kept], stored, family)

    def conditional(self, indices: ArrayLike, values: ArrayLike) -> Mixture:
        """The distribution of the other features, given some (:prf:ref:`thm-mixture-conditional`).

        Parameters
        ----------
        indices : int or sequence of int
            The features that are known; at least one must remain unknown.
        values : array (len(indices),)
            Their values.

        Returns
        -------
        Mixture
            Of the same family, if conditionals belong to it, otherwise VVI or VVV. Its weights are
            the responsibilities of the known features' marginal mixture
            (:eq:`eq-conditional-weights`).

        Examples
        --------
        >>> mixture = Mixture([0.5, 0.5], [[0, 0], [4, 4]], [np.eye(2), np.eye(2)])
        >>> mixture.conditional([0], [3.0]).weights.round(2)
        array([0.02, 0.98])
        """
        known, _ = split_coordinates(indices, self.n_features)
        given = as_vector(np.atleast_1d(as_numbers(values, "values")), "values", len(known))
        weights = self.marginal(known).responsibilities(given[None, :])[0]
        parts = [self.component(k).conditional(known, given) for k in range(self.n_components)]
        covariances = np.array([part.covariance for part in parts])
        family = of_marginals(self.family)
        stored = restrict(covariances, family, weights)
        return Mixture.from_stored(weights, np.array([part.mean for part in parts]), stored, family)

    def impute(
        self, X: ArrayLike, *, draw: bool = False, random_state: RandomState = None
    ) -> FloatArray:
        """Rows with their missing values filled in (:func:`gmm.missing.impute`).

        Parameters
        ----------
        X : array (n, d)
            NaN marks what is missing.
        draw : bool
            By draws from the conditional distribution instead of its means.
        random_state : int, Generator or None
        """
        from gmm import missing

        return missing.impute(self, X, draw=draw, random_state=random_state)

    # ------------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mixture to a file, atomically (:func:`gmm.persistence.save`).

        Parameters
        ----------
        path : path
            JSON if it ends in ``.json``, ``.npz`` otherwise. An existing file is replaced.
        """
        from gmm import persistence

        persistence.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Mixture:
        """Read a mixture that :meth:`save` wrote. Nothing in the file is executed.

        Raises
        ------
        FileFormatError
            If the file is not such a file, is cut short, or comes from a newer version.
        FileNotFoundError
            If there is no such file.
        """
        from gmm import persistence

        return persistence.load(path)


def responsibilities(log_joint: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Responsibilities (:eq:`eq-responsibilities`) and log-densities of rows, from the log joint.

    Parameters
    ----------
    log_joint : array (b, K)

    Returns
    -------
    responsibilities : array (b, K)
    log_densities : array (b,)
    """
    greatest = log_joint.max(axis=-1, keepdims=True)
    scaled = np.exp(log_joint - greatest)
    totals = scaled.sum(axis=-1, keepdims=True)
    return scaled / totals, (np.log(totals) + greatest)[:, 0]


def _shares(joint: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Responsibilities ``(K, b)`` and log-densities ``(b,)``, in place of log joint densities."""
    greatest = joint.max(axis=0)
    shift = np.where(np.isfinite(greatest), greatest, 0.0)
    joint -= shift
    np.exp(joint, out=joint)
    totals = joint.sum(axis=0)
    joint /= totals
    return joint, np.log(totals) + shift


def _n_rows(X: ArrayLike | Source) -> int:
    if isinstance(X, Source):
        raise TypeError("X: expected an array, got rows that arrive in blocks")
    return int(as_matrix(X).shape[0])


def _as_stored(
    covariances: ArrayLike, family: str, weights: FloatArray, n_features: int
) -> FloatArray:
    """The covariances that a caller gave, in the shape in which their family is stored."""
    kind, k, d = FAMILIES[family], len(weights), n_features
    shape = as_numbers(covariances, "covariances").shape
    wanted = stored_shape(kind, k, d)
    if shape not in (wanted, (k, d, d)):
        raise ValueError(f"covariances: expected shape {wanted} or {(k, d, d)}, got shape {shape}")
    if len(shape) == 3 or kind == "tied":
        given = as_covariance(covariances, "covariances", shape)
    else:
        given = as_numbers(covariances, "covariances").astype(np.float64)
        refuse_non_finite(given, "covariances")
        refuse_extreme_variances(given, "covariances")
    if shape == wanted and (is_free(family) or kind == "tied"):
        return given
    if shape == wanted and kind in ("diag", "spherical"):  # matrices would take much memory
        rest = np.abs(given - restrict_variances(given, family, weights, d)).max()
    else:
        matrices = given if shape == (k, d, d) else expand(given, kind, k, d)
        stored = restrict(matrices, family, weights)
        rest = np.abs(matrices - expand(stored, kind, k, d)).max()
    if not rest <= 1e-8 * np.abs(given).max():
        raise ValueError(
            f"covariances: expected matrices of the family {family}, got others; "
            "give them in the family's own shape, or another family"
        )
    return given if shape == wanted else stored
