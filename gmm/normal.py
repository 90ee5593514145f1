"""One multivariate normal distribution: density, marginals, conditionals, information, ellipses.

Everything goes through the Cholesky factor of the covariance matrix. A determinant is the squared
product of the factor's diagonal, a Mahalanobis distance is the squared length of a whitened
residual; neither an inverse of the covariance nor a determinant is ever formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm.checks import (
    EPS,
    FloatArray,
    RandomState,
    SingularCovarianceError,
    as_count,
    as_generator,
    as_indices,
    as_matrix,
    as_non_negative,
    as_numbers,
    as_sample_weight,
    as_vector,
    read_only,
    refuse_distant,
    refuse_extreme,
    refuse_extreme_variances,
    refuse_non_finite,
)

__all__ = ["Normal", "cholesky", "inverse_cholesky", "inverse_lower", "log_determinant"]

LOG_2PI = float(np.log(2 * np.pi))


def cholesky(covariances: FloatArray, name: str = "covariance") -> FloatArray:
    """Lower triangular factors: times their transposes, they are the covariances.

    Parameters
    ----------
    covariances : array (..., d, d)
        One symmetric matrix, or a stack of them.
    name : str
        What the message calls them.

    Returns
    -------
    array (..., d, d)

    Raises
    ------
    SingularCovarianceError
        If a matrix is not positive definite to working precision: if the variance inflation factors
        of its features (:eq:`eq-variance-inflation`) add up to more than ``1 / (16 d EPS)``.

    Examples
    --------
    >>> cholesky(np.array([[4.0, 2.0], [2.0, 2.0]]))
    array([[2., 0.],
           [1., 1.]])
    """
    return _factored(covariances, name)[0]


def inverse_cholesky(covariances: FloatArray, name: str = "covariance") -> FloatArray:
    """Inverses of the factors of :func:`cholesky`, which turn residuals into standard normal ones.

    Arguments, shapes and errors are as there.

    Examples
    --------
    >>> inverse_cholesky(np.array([[4.0, 2.0], [2.0, 2.0]]))
    array([[ 0.5,  0. ],
           [-0.5,  1. ]])
    """
    return _factored(covariances, name)[1]


def _factored(covariances: FloatArray, name: str) -> tuple[FloatArray, FloatArray]:
    """Factors and their inverses."""
    d = covariances.shape[-1]
    deviations = np.sqrt(np.abs(np.diagonal(covariances, axis1=-2, axis2=-1)))
    try:
        factors: FloatArray = np.linalg.cholesky(covariances).astype(np.float64, copy=False)
        with np.errstate(all="ignore"):  # what is not finite is refused
            inverses = inverse_lower(factors)
            inflations = (inverses * deviations[..., None, :]) ** 2
            sound = inflations.sum(axis=(-2, -1)) <= 1 / (16 * d * EPS)
        if sound.all():
            return factors, inverses
    except np.linalg.LinAlgError:
        sound = np.array([_has_factor(c) for c in covariances.reshape(-1, d, d)])
        sound = sound.reshape(covariances.shape[:-2])
    which = f" of component {int(np.argmin(sound))}" if covariances.ndim == 3 else ""
    raise SingularCovarianceError(f"{name}{which}: expected a positive definite matrix")


def _has_factor(covariance: FloatArray) -> bool:
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return False
    return True


def inverse_lower(factors: FloatArray) -> FloatArray:
    """Inverses of lower triangular matrices, by forward substitution.

    Parameters
    ----------
    factors : array (..., d, d)
        Lower triangular, with a diagonal free of zeros.

    Returns
    -------
    array (..., d, d)
        Lower triangular.

    Notes
    -----
    Matrices of more than eight rows are split in two by two blocks; their inverse is
    ``[[A⁻¹, 0], [-C⁻¹BA⁻¹, C⁻¹]]``, so that almost all work is done in matrix products.

    Examples
    --------
    >>> inverse_lower(np.array([[2.0, 0.0], [1.0, 1.0]]))
    array([[ 0.5,  0. ],
           [-0.5,  1. ]])
    """
    d = factors.shape[-1]
    inverse = np.zeros_like(factors)
    if d <= 8:
        for i in range(d):
            pivot = factors[..., i, i]
            inverse[..., i, i] = 1.0 / pivot
            if i:
                row = factors[..., i : i + 1, :i] @ inverse[..., :i, :i]
                inverse[..., i, :i] = -row[..., 0, :] / pivot[..., None]
        return inverse
    half = d // 2
    top = inverse_lower(factors[..., :half, :half])
    bottom = inverse_lower(factors[..., half:, half:])
    inverse[..., :half, :half] = top
    inverse[..., half:, half:] = bottom
    inverse[..., half:, :half] = -(bottom @ (factors[..., half:, :half] @ top))
    return inverse


def log_determinant(factors: FloatArray) -> FloatArray:
    """Logarithms of the determinants of the covariances with these Cholesky factors.

    Parameters
    ----------
    factors : array (..., d, d)

    Returns
    -------
    array (...)

    Examples
    --------
    >>> float(log_determinant(np.diag([2.0, 3.0])))  # log 36
    3.58351893845611
    """
    pivots = np.diagonal(factors, axis1=-2, axis2=-1)
    total: FloatArray = 2.0 * np.log(pivots).sum(axis=-1)
    return total


def as_covariance(covariance: ArrayLike, name: str, shape: tuple[int, ...]) -> FloatArray:
    """``covariance`` as finite float64 of the given shape; symmetric in its last two axes."""
    array = as_numbers(covariance, name).astype(np.float64)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got shape {array.shape}")
    refuse_non_finite(array, name)
    refuse_extreme_variances(np.diagonal(array, axis1=-2, axis2=-1), name)
    scale = np.sqrt(np.abs(np.diagonal(array, axis1=-2, axis2=-1)))
    skew = np.abs(array - np.swapaxes(array, -1, -2))
    if (skew > 1e-8 * (scale[..., :, None] * scale[..., None, :])).any():
        raise ValueError(f"{name}: expected a symmetric matrix, got one that is not")
    return 0.5 * (array + np.swapaxes(array, -1, -2))


@dataclass(frozen=True, eq=False, repr=False)
class Normal:
    r"""A multivariate normal distribution :math:`\mathcal N(\boldsymbol\mu, \boldsymbol\Sigma)`.

    Parameters
    ----------
    mean : array (d,)
    covariance : array (d, d)
        Symmetric positive definite, in squared units of the mean.

    Raises
    ------
    SingularCovarianceError
        If the covariance is not positive definite.
    ValueError
        If shapes do not fit, a number is not finite, or the covariance is not symmetric.

    Notes
    -----
    The density is :eq:`eq-normal-density`, evaluated as :eq:`eq-log-density-cholesky`.

    Examples
    --------
    >>> normal = Normal([0.0, 0.0], [[4.0, 2.0], [2.0, 2.0]])
    >>> normal.log_density([[0.0, 0.0]])
    array([-2.53102425])
    >>> normal.conditional([0], [1.0])
    Normal(mean=[0.5], covariance=[[1.0]])
    """

    mean: FloatArray
    covariance: FloatArray
    cholesky: FloatArray

    def __init__(self, mean: ArrayLike, covariance: ArrayLike) -> None:
        mean = as_vector(mean, "mean")
        if mean.size == 0:
            raise ValueError("mean: expected at least one number, got none")
        covariance = as_covariance(covariance, "covariance", (mean.size, mean.size))
        factor = cholesky(covariance)
        for name, value in (("mean", mean), ("covariance", covariance), ("cholesky", factor)):
            object.__setattr__(self, name, read_only(value))

    def __repr__(self) -> str:
        return f"Normal(mean={self.mean.tolist()}, covariance={self.covariance.tolist()})"

    @property
    def n_features(self) -> int:
        """The dimension d."""
        return self.mean.size

    @classmethod
    def fit(cls, X: ArrayLike, sample_weight: ArrayLike | None = None) -> Normal:
        """The normal distribution of greatest likelihood (:prf:ref:`thm-one-gaussian`).

        Parameters
        ----------
        X : array (n, d)
        sample_weight : array (n,), optional
            Weights of the rows, not negative.

        Returns
        -------
        Normal
            With the sample mean :eq:`eq-sample-mean` and the sample covariance
            :eq:`eq-sample-covariance`, whose divisor is the total weight, not one less.

        Raises
        ------
        SingularCovarianceError
            If the rows lie in a hyperplane, as n ≤ d rows always do: the likelihood is then
            unbounded.

        Examples
        --------
        >>> Normal.fit([[0.0], [2.0], [4.0]])
        Normal(mean=[2.0], covariance=[[2.6666666666666665]])
        """
        rows = as_matrix(X).astype(np.float64)
        refuse_non_finite(rows, "X")
        weights = as_sample_weight(sample_weight, len(rows))
        total = float(len(rows) if weights is None else weights.sum())
        refuse_extreme(rows.min(axis=0), rows.max(axis=0), total)
        origin = rows[0].copy()
        rows -= origin  # so that far from zero no digits are lost
        mean = np.average(rows, axis=0, weights=weights)
        residuals = rows - mean
        mean += origin
        share = np.full(len(rows), 1.0) if weights is None else weights
        covariance = (residuals * share[:, None]).T @ residuals / share.sum()
        try:
            return cls(mean, covariance)
        except SingularCovarianceError:
            raise SingularCovarianceError(
                f"X: the {len(rows)} rows lie in a hyperplane of the {rows.shape[1]}-dimensional "
                "space, so no normal density fits them best"
            ) from None

    def _rows(self, X: ArrayLike) -> FloatArray:
        rows = as_matrix(X, n_features=self.n_features).astype(np.float64)
        refuse_non_finite(rows, "X")
        return rows

    def mahalanobis(self, X: ArrayLike) -> FloatArray:
        """Squared Mahalanobis distances of rows from the mean (:eq:`eq-mahalanobis`).

        Parameters
        ----------
        X : array (n, d)

        Returns
        -------
        array (n,)
            They follow the χ² distribution with d degrees of freedom
            (:prf:ref:`thm-mahalanobis-chi2`) if the rows follow this normal distribution.
        """
        rows = self._rows(X)
        with np.errstate(over="ignore", invalid="ignore"):
            whitened = (rows - self.mean) @ inverse_lower(self.cholesky).T
            squares: FloatArray = np.einsum("ij,ij->i", whitened, whitened)
        refuse_distant(rows[~np.isfinite(squares)], "the mean")
        return squares

    def log_density(self, X: ArrayLike) -> FloatArray:
        """Logarithm of the density at each row (:eq:`eq-log-density-cholesky`).

        Parameters
        ----------
        X : array (n, d)

        Returns
        -------
        array (n,)
        """
        constant = self.n_features * LOG_2PI + log_determinant(self.cholesky)
        return -0.5 * (constant + self.mahalanobis(X))

    def marginal(self, indices: ArrayLike) -> Normal:
        """The distribution of some coordinates (:prf:ref:`thm-normal-marginal`).

        Parameters
        ----------
        indices : int or sequence of int
            The coordinates to keep, in the order wanted.
        """
        kept = as_indices(indices, "indices", self.n_features)
        return Normal(self.mean[kept], self.covariance[np.ix_(kept, kept)])

    def conditional(self, indices: ArrayLike, values: ArrayLike) -> Normal:
        """The other coordinates, given the values of some (:prf:ref:`thm-normal-conditional`).

        Parameters
        ----------
        indices : int or sequence of int
            The coordinates that are known; at least one must remain unknown.
        values : array (len(indices),)
            Their values.

        Returns
        -------
        Normal
            With mean :eq:`eq-conditional-mean` and covariance :eq:`eq-conditional-covariance`, on
            the remaining coordinates in their order.
        """
        known, free = split_coordinates(indices, self.n_features)
        given = as_vector(np.atleast_1d(as_numbers(values, "values")), "values", len(known))
        factor = self.cholesky_of(np.concatenate([known, free]))
        m = len(known)
        whitened = inverse_lower(factor[:m, :m]) @ (given - self.mean[known])
        below = factor[m:, m:]
        return Normal(self.mean[free] + factor[m:, :m] @ whitened, below @ below.T)

    def cholesky_of(self, order: NDArray[np.int64]) -> FloatArray:
        """The Cholesky factor of the covariance with its coordinates reordered."""
        return cholesky(self.covariance[np.ix_(order, order)])

    def entropy(self) -> float:
        """Differential entropy in nats (:eq:`eq-normal-entropy`).

        Examples
        --------
        >>> Normal([0.0], [[1.0]]).entropy()
        1.4189385332046727
        """
        d = self.n_features
        return float(0.5 * (d + d * LOG_2PI + log_determinant(self.cholesky)))

    def kl(self, other: Normal) -> float:
        """Kullback–Leibler divergence of ``other`` from this distribution (:eq:`eq-normal-kl`).

        Parameters
        ----------
        other : Normal
            Of the same dimension. The divergence is E[log self − log other] under self, in nats.

        Examples
        --------
        >>> Normal([0.0], [[1.0]]).kl(Normal([1.0], [[1.0]]))
        0.5
        """
        if other.n_features != self.n_features:
            raise ValueError(f"other: expected {self.n_features} features, got {other.n_features}")
        to_white = inverse_lower(other.cholesky)
        spread = to_white @ self.cholesky
        shift = to_white @ (self.mean - other.mean)
        log_ratio = log_determinant(other.cholesky) - log_determinant(self.cholesky)
        return float(0.5 * ((spread**2).sum() + shift @ shift - self.n_features + log_ratio))

    def ellipse(self, n_sigmas: float = 2.0, n_points: int = 200) -> FloatArray:
        """Points of the ellipse at a given Mahalanobis distance (:eq:`eq-sigma-ellipse`).

        Parameters
        ----------
        n_sigmas : float
            The Mahalanobis distance.
        n_points : int
            The first point is repeated as the last one, so that the curve closes.

        Returns
        -------
        array (n_points, 2)

        Raises
        ------
        ValueError
            If the distribution has not two features: take a :meth:`marginal` first.
        """
        if self.n_features != 2:
            raise ValueError(
                f"ellipse: expected a distribution of 2 features, got {self.n_features}; "
                "take a marginal first"
            )
        radius = as_non_negative(n_sigmas, "n_sigmas")
        turn = np.linspace(0.0, 2 * np.pi, as_count(n_points, "n_points", minimum=4))
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        return self.mean + radius * circle @ self.cholesky.T

    def sample(self, n: int, random_state: RandomState = None) -> FloatArray:
        """Draw rows, as A z + μ from independent standard normals z (:prf:ref:`thm-affine`).

        Parameters
        ----------
        n : int
        random_state : int, Generator or None

        Returns
        -------
        array (n, d)
        """
        size = (as_count(n, "n", minimum=0), self.n_features)
        standard = as_generator(random_state).standard_normal(size)
        return self.mean + standard @ self.cholesky.T


def split_coordinates(
    indices: ArrayLike, n_features: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The known coordinates, and those that remain; both must be there."""
    known = as_indices(indices, "indices", n_features)
    free: NDArray[Any] = np.setdiff1d(np.arange(n_features), known)
    if free.size == 0:
        raise ValueError(f"indices: expected fewer than all {n_features} coordinates, got all")
    return known, free
