"""What can be made of mixtures: maps, products, regressions, divergences, overlaps and modes.

Normal mixtures are closed under affine maps, products, marginals and conditionals
(:prf:ref:`thm-affine`, :prf:ref:`thm-mixture-marginal`, :prf:ref:`thm-mixture-conditional`), so
that all of these are again values of :class:`~gmm.mixture.Mixture`. Divergences between mixtures
have no closed form: there are bounds, and an estimate with its standard error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import (
    FloatArray,
    RandomState,
    as_count,
    as_matrix,
    as_vector,
    refuse_non_finite,
)
from gmm.mixture import Mixture, log_sum_exp
from gmm.natural import log_weights
from gmm.normal import LOG_2PI, cholesky, inverse_cholesky, log_determinant, split_coordinates

__all__ = [
    "Divergence",
    "Regression",
    "affine",
    "divergence",
    "divergence_bounds",
    "modes",
    "overlap",
    "product",
    "regress",
]


def affine(mixture: Mixture, matrix: ArrayLike, shift: ArrayLike | None = None) -> Mixture:
    """The distribution of A x + b for x from a mixture (:prf:ref:`thm-affine`).

    Parameters
    ----------
    mixture : Mixture
    matrix : array (q, d)
        A, of rank q ≤ d.
    shift : array (q,), optional
        b; zero by default.

    Returns
    -------
    Mixture
        Of the family VVV, or EEE if the given one has equal covariances.

    Raises
    ------
    SingularCovarianceError
        If A has a lower rank than rows.

    Examples
    --------
    >>> mixture = Mixture([0.5, 0.5], [[0.0, 0.0], [4.0, 2.0]], [1.0, 1.0], "VII")
    >>> affine(mixture, [[1.0, -1.0]]).means.ravel()
    array([0., 2.])
    """
    A = as_matrix(matrix, "matrix", n_features=mixture.n_features).astype(np.float64)
    refuse_non_finite(A, "matrix")
    b = np.zeros(len(A)) if shift is None else as_vector(shift, "shift", len(A))
    family = "EEE" if mixture.family in ("EII", "EEI", "EEE", "E") else "VVV"
    covariances = A @ mixture.covariances @ A.T
    covariances = 0.5 * (covariances + np.swapaxes(covariances, 1, 2))
    stored = covariances[0] if family == "EEE" else covariances
    return Mixture.from_stored(mixture.weights, mixture.means @ A.T + b, stored, family)


def product(one: Mixture, other: Mixture) -> tuple[Mixture, float]:
    r"""The mixture proportional to the product of two densities, and the log of their integral.

    For two normals :math:`\mathcal N(\boldsymbol a, \boldsymbol A)\, \mathcal N(\boldsymbol b,
    \boldsymbol B)` the product is :math:`\mathcal N(\boldsymbol a; \boldsymbol b, \boldsymbol A +
    \boldsymbol B)` times a normal density with the precision
    :math:`\boldsymbol A^{-1} + \boldsymbol B^{-1}`.

    Parameters
    ----------
    one, other : Mixture
        On the same features, of K and L components.

    Returns
    -------
    mixture : Mixture
        Of K L components, those of the first with the first of the other coming first.
    log_integral : float
        log ∫ p q.

    Examples
    --------
    >>> normal = Mixture([1.0], [[0.0]], [2.0], "VII")
    >>> squared, log_integral = product(normal, normal)
    >>> squared.covariances.ravel()
    array([1.])
    """
    _refuse_other_features(one, other)
    d = one.n_features
    k, j = (index.ravel() for index in np.indices((one.n_components, other.n_components)))
    sums = one.covariances[k] + other.covariances[j]
    step = other.means[j] - one.means[k]
    log_joint = log_weights(one.weights)[k] + log_weights(other.weights)[j]
    log_joint += _log_normal(step, sums)
    gain = one.covariances[k] @ np.linalg.inv(sums)  # A (A + B)^-1
    means = one.means[k] + (gain @ step[:, :, None])[:, :, 0]
    # A - A (A + B)^-1 A in a form that stays positive definite
    rest = np.eye(d) - gain
    turned = rest @ one.covariances[k] @ np.swapaxes(rest, 1, 2)
    covariances = turned + gain @ other.covariances[j] @ np.swapaxes(gain, 1, 2)
    covariances = 0.5 * (covariances + np.swapaxes(covariances, 1, 2))
    total = float(log_sum_exp(log_joint))
    weights = np.exp(log_joint - log_joint.max())  # the total of large ones is rounded
    return Mixture.from_stored(weights / weights.sum(), means, covariances, "VVV"), total


class Regression(NamedTuple):
    """The conditional distributions of some features, row by row; from :func:`regress`.

    Parameters
    ----------
    mean : array (n, q)
        E(y | x).
    covariance : array (n, q, q)
        Var(y | x): within and between components.
    responsibilities : array (n, K)
        P(component | x).
    """

    mean: FloatArray
    covariance: FloatArray
    responsibilities: FloatArray


def regress(mixture: Mixture, known: ArrayLike, X: ArrayLike) -> Regression:
    """Mean and covariance of the other features, given some (:eq:`eq-mixture-regression`).

    The covariance is :eq:`eq-mixture-regression-variance`.

    Parameters
    ----------
    mixture : Mixture
    known : int or sequence of int
        The features that are given; at least one must remain.
    X : array (n, len(known))
        Their values, row by row.

    Returns
    -------
    Regression

    Examples
    --------
    >>> mixture = Mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.8], [0.8, 1.0]]])
    >>> regress(mixture, 0, [[1.0], [2.0]]).mean.ravel()
    array([0.8, 1.6])
    """
    given, unknown = split_coordinates(known, mixture.n_features)
    rows = as_matrix(X, "X", n_features=len(given)).astype(np.float64)
    refuse_non_finite(rows, "X")
    shares = mixture.marginal(given).responsibilities(rows)  # (n, K)
    means, covariances = mixture.means, mixture.covariances
    inner = covariances[:, given[:, None], given]  # (K, p, p)
    cross = covariances[:, given[:, None], unknown]  # (K, p, q)
    slopes = np.swapaxes(np.linalg.solve(inner, cross), 1, 2)  # (K, q, p)
    within = covariances[:, unknown[:, None], unknown] - slopes @ cross
    residuals = rows[:, None, :] - means[:, given]  # (n, K, p)
    lines = means[:, unknown] + np.einsum("kqp,nkp->nkq", slopes, residuals)
    mean = np.einsum("nk,nkq->nq", shares, lines)
    apart = lines - mean[:, None, :]  # (n, K, q)
    between = np.einsum("nk,nkq,nkr->nqr", shares, apart, apart)
    covariance = np.einsum("nk,kqr->nqr", shares, within) + between
    covariance = 0.5 * (covariance + np.swapaxes(covariance, 1, 2))
    return Regression(mean, covariance, shares)


# ---------------------------------------------------------------- divergences


class Divergence(NamedTuple):
    """An estimate and its standard error, in nats; from :func:`divergence`."""

    value: float
    standard_error: float


def divergence(
    one: Mixture, other: Mixture, n_samples: int = 10_000, random_state: RandomState = None
) -> Divergence:
    """The Kullback–Leibler divergence of two mixtures by simulation (:eq:`eq-kl`).

    The mean of log p(x) − log q(x) over rows from p.

    Parameters
    ----------
    one, other : Mixture
        p and q, on the same features.
    n_samples : int
        Rows drawn from p.
    random_state : int, Generator or None

    Returns
    -------
    Divergence

    Examples
    --------
    >>> p, q = (Mixture([1.0], [[m]], [1.0], "VII") for m in (0.0, 1.0))
    >>> abs(divergence(p, q, 20_000, 0).value - 0.5) < 0.02
    True
    """
    _refuse_other_features(one, other)
    rows, _ = one.sample(as_count(n_samples, "n_samples", minimum=2), random_state)
    terms = one.log_density(rows) - other.log_density(rows)
    return Divergence(float(terms.mean()), float(terms.std(ddof=1) / np.sqrt(len(terms))))


def divergence_bounds(one: Mixture, other: Mixture) -> tuple[float, float]:
    r"""A lower and an upper bound on the Kullback–Leibler divergence of two mixtures, in nats.

    Convexity bounds it from above by matching components (the variational upper bound of Hershey
    and Olsen 2007, iterated). From below: the entropy of a mixture is at most that of its
    components and of their weights together, and its cross-entropy is bounded by Jensen's
    inequality with integrals of products of normals.

    Parameters
    ----------
    one, other : Mixture
        On the same features.

    Returns
    -------
    lower, upper : float
        The lower bound is not negative.

    Examples
    --------
    >>> p, q = (Mixture([1.0], [[m]], [1.0], "VII") for m in (0.0, 1.0))
    >>> lower, upper = divergence_bounds(p, q)
    >>> lower <= 0.5 <= upper
    True
    """
    _refuse_other_features(one, other)
    pairs = _component_divergences(one, other)  # (K, L)
    upper = _upper_bound(one.weights, other.weights, pairs)
    # E_p log p >= Σ_k π_k (log π_k - h_k), by a mixture being at least each weighted component
    entropies = 0.5 * (one.n_features * (1 + LOG_2PI) + one.log_determinants)
    below = float(one.weights @ (log_weights(one.weights) - entropies))
    _, crossed = _log_overlaps(one, other)  # log ∫ N_k q
    lower = below - float(one.weights @ crossed)
    return max(0.0, lower), upper


def _upper_bound(one: FloatArray, other: FloatArray, pairs: FloatArray) -> float:
    """Split the weights of both among pairs of components, and improve the split by turns."""
    pairs = pairs[np.ix_(one > 0, other > 0)]  # the others have nothing to split
    log_one, log_other = np.log(one[one > 0]), np.log(other[other > 0])
    split = log_one[:, None] + log_other[None, :]  # of p's weight: sums over columns give p
    excess = pairs - pairs.min(axis=1, keepdims=True)  # or rounding of large ones would matter
    for _ in range(200):
        part = log_other + split - np.logaddexp.reduce(split, axis=0)  # of q's weight
        before, split = split, part - excess
        split = log_one[:, None] + split - np.logaddexp.reduce(split, axis=1)[:, None]
        if np.abs(np.exp(split) - np.exp(before)).max() < 1e-12:
            break
    part = log_other + split - np.logaddexp.reduce(split, axis=0)
    with np.errstate(invalid="ignore"):
        terms = np.exp(split) * (split - part + pairs)
    return float(np.nansum(terms))


def _component_divergences(one: Mixture, other: Mixture) -> FloatArray:
    """The divergences of the components of one from those of the other: those of normals."""
    whiteners = inverse_cholesky(other.covariances, "other")  # (L, d, d)
    step = one.means[:, None, :, None] - other.means[..., None]  # (K, L, d, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = whiteners @ cholesky(one.covariances, "mixture")[:, None]  # (K, L, d, d)
        squares = (spread**2).sum(axis=(2, 3)) + ((whiteners @ step) ** 2).sum(axis=(2, 3))
    if not np.isfinite(squares).all():
        raise ValueError("other: expected a mixture at a distance whose square is a number")
    determinants = other.log_determinants - one.log_determinants[:, None]
    result: FloatArray = 0.5 * (determinants + squares - one.n_features)
    return result


def overlap(mixture: Mixture) -> FloatArray:
    r"""How much the components overlap: Bhattacharyya coefficients :math:`\int \sqrt{p_j p_k}`.

    Parameters
    ----------
    mixture : Mixture

    Returns
    -------
    array (K, K)
        One on the diagonal; 0 for components without common ground. The probability of taking the
        one for the other, when both are equally likely, is at most half of it.

    Examples
    --------
    >>> mixture = Mixture([0.5, 0.5], [[0.0], [2.0]], [1.0, 1.0], "VII")
    >>> overlap(mixture).round(4)
    array([[1.    , 0.6065],
           [0.6065, 1.    ]])
    """
    covariances = mixture.covariances
    middle = 0.5 * (covariances[:, None] + covariances)
    stack = middle.reshape(-1, *middle.shape[2:])
    whiteners = inverse_cholesky(stack, "covariances").reshape(middle.shape)
    step = mixture.means[:, None, :] - mixture.means
    white = np.einsum("jkab,jkb->jka", whiteners, step)
    half = 0.5 * (mixture.log_determinants[:, None] + mixture.log_determinants)
    logs = -0.125 * (white**2).sum(axis=2) + 0.5 * (log_determinant(whiteners) + half)
    result: FloatArray = np.exp(np.minimum(logs, 0.0))
    return result


# ---------------------------------------------------------------- modes


def modes(mixture: Mixture, tol: float = 1e-9, max_iter: int = 10_000) -> FloatArray:
    """The modes of the density, highest first.

    From each mean the fixed-point iteration of Carreira-Perpiñán (2000), which is EM with a single
    row and never lowers the density, climbs to a mode. Of components with equal covariances all
    modes are reached in practice; in general a mode that no mean leads to may be missed (a mixture
    can have more modes than components).

    Parameters
    ----------
    mixture : Mixture
    tol : float
        Modes closer than this, in standard deviations of the data, are one; the iteration stops at
        a hundredth of it.
    max_iter : int

    Returns
    -------
    array (M, d)

    Examples
    --------
    >>> modes(Mixture([0.5, 0.5], [[-3.0], [3.0]], [1.0, 1.0], "VII")).round(3).ravel().tolist()
    [-3.0, 3.0]
    """
    precisions: FloatArray = np.linalg.inv(mixture.covariances).astype(np.float64, copy=False)
    linear = np.einsum("kij,kj->ki", precisions, mixture.means)
    unit = np.sqrt(np.diagonal(mixture.covariance))
    points = mixture.means.copy()
    for _ in range(as_count(max_iter, "max_iter")):
        shares = mixture.responsibilities(points)
        matrices = np.einsum("nk,kij->nij", shares, precisions)
        moved = np.linalg.solve(matrices, (shares @ linear)[:, :, None])[:, :, 0]
        change = np.abs((moved - points) / unit).max()
        points = moved
        if change < 0.01 * tol:
            break
    order = np.argsort(-mixture.log_density(points), kind="stable")
    kept: list[FloatArray] = []
    for point in points[order]:
        far = (np.abs((point - other) / unit).max() > max(tol, 1e-5) for other in kept)
        if all(far) and _is_mode(mixture, point, precisions):
            kept.append(point)
    return np.array(kept)


def _is_mode(mixture: Mixture, point: FloatArray, precisions: FloatArray) -> bool:
    """Whether the Hessian of the log-density is negative there: the climb may end on a saddle."""
    shares = mixture.responsibilities(point[None])[0]
    pulls = np.einsum("kij,kj->ki", precisions, mixture.means - point)
    hessian = np.einsum("k,ki,kj->ij", shares, pulls, pulls)
    hessian -= np.tensordot(shares, precisions, axes=1)
    top = float(np.linalg.eigvalsh(hessian)[-1])
    return top <= 1e-7 * float(np.trace(precisions, axis1=1, axis2=2).max())


# ---------------------------------------------------------------- parts


def _refuse_other_features(one: Mixture, other: Mixture) -> None:
    if one.n_features != other.n_features:
        raise ValueError(
            f"other: expected a mixture on {one.n_features} features, got one on {other.n_features}"
        )


def _log_normal(step: FloatArray, covariances: FloatArray) -> FloatArray:
    """Log-densities of centred normals with these covariances at these points."""
    whiteners = inverse_cholesky(covariances, "covariances")
    white = np.einsum("nij,nj->ni", whiteners, step)
    logs: FloatArray = -0.5 * ((white**2).sum(axis=1) + step.shape[1] * LOG_2PI)
    return logs + 0.5 * log_determinant(whiteners)


def _log_overlaps(one: Mixture, other: Mixture) -> tuple[FloatArray, FloatArray]:
    """Log ∫ N_k N_l for all pairs ``(K, L)``, and log ∫ N_k q for the other mixture q ``(K,)``."""
    k, j = (index.ravel() for index in np.indices((one.n_components, other.n_components)))
    sums = one.covariances[k] + other.covariances[j]
    logs = _log_normal(other.means[j] - one.means[k], sums).reshape(one.n_components, -1)
    return logs, log_sum_exp(logs + log_weights(other.weights))
