"""What all fuzz tests share: rows of every kind, and what a sound result is.

``pytest`` takes the same cases in every run, ``make fuzz`` new ones each time, and more of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp

import gmm
from gmm.families import FAMILIES

Floats = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
#: How many times more cases ``make fuzz`` takes.
MORE = 12

NAMES = tuple(FAMILIES)
STARTS = gmm.initial.STARTS
SEEDS = st.integers(0, 2**32 - 1)

#: How an error says what it is about: an argument's name, or the component that has collapsed;
#: estimators say some of it in scikit-learn's words.
NAMED = re.compile(
    r"(X|X \(rows of positive weight[a-z ]*\)|block|blocks|start|family|families|n_components|"
    r"n_clusters|n_folds|sample_weight|ridge|prior|missing|means|mean|weights|covariances|covariance|scale|"
    r"indices|known|values|n_starts|data|k|criterion|accelerate|degrees_of_freedom|other|step|"
    r"covariances of component \d+): "
    r"|a component has collapsed: "
    r"|component \d+ (is responsible for no row|has almost no width)"
    r"|covariances of component \d+: "
    r"|Fitting the mixture model failed because some components|Expected n_samples"
)


def cases(number: int) -> settings:
    """Settings for so many cases, or ``MORE`` times as many in the profile "fuzz"."""
    more = MORE if settings.get_current_profile_name() == "fuzz" else 1
    return settings(max_examples=number * more, suppress_health_check=list(HealthCheck))


# ---------------------------------------------------------------- rows

KINDS = (
    "clusters",
    "clusters",
    "one cloud",
    "lattice",
    "few distinct rows",
    "equal rows",
    "constant feature",
    "collinear",
    "nearly collinear",
    "outlier",
    "heavy tails",
    "narrow cluster",
    "two-valued",
)


class Labelled(np.ndarray):
    """A subclass of an array, as other libraries have them."""


@dataclass
class Table:
    """Rows as they are handed over, and what they are: the same numbers in plain float64."""

    X: Any
    values: Floats
    kind: str

    def __repr__(self) -> str:
        form = f"{type(self.X).__name__} {getattr(self.X, 'dtype', '')}"
        return f"Table({self.kind}, {form}, {np.array2string(self.values, threshold=40)})"

    def copied(self) -> Any:
        """What :meth:`is_untouched` compares with."""
        return np.array(self.X, copy=True)

    def is_untouched(self, before: Any) -> bool:
        """Whether the array that was handed over is as it was."""
        now = np.array(self.X)
        return now.dtype == before.dtype and bool((now == before).all())


def _shaped(kind: str, n: int, d: int, rng: np.random.Generator) -> Floats:
    """Rows of a kind, of moderate size."""
    X = rng.standard_normal((n, d))
    if kind in ("clusters", "narrow cluster", "outlier"):
        groups = rng.integers(3, size=n)
        X = X * rng.uniform(0.3, 2.0, d) + 5.0 * rng.standard_normal((3, d))[groups]
        if kind == "narrow cluster":
            X[groups == 0] = X[0] + 10.0 ** -rng.integers(3, 17) * rng.standard_normal(
                (np.count_nonzero(groups == 0), d)
            )
        elif kind == "outlier":
            X[0] *= 10.0 ** rng.integers(2, 15)
    elif kind == "lattice":
        X = np.round(2 * X)
    elif kind == "few distinct rows":
        X = X[rng.integers(min(n, 3), size=n)]
    elif kind == "equal rows":
        X[:] = X[0]
    elif kind == "constant feature":
        X[:, rng.integers(d)] = rng.choice([0.0, 1.0, -3e5])
    elif kind in ("collinear", "nearly collinear") and d > 1:
        X[:, -1] = X[:, 0] - (X[:, 1] if d > 2 else 0.0)
        if kind == "nearly collinear":
            X[:, -1] += 10.0 ** -rng.integers(2, 16) * rng.standard_normal(n)
    elif kind == "heavy tails":
        X = np.sinh(3 * X)
    elif kind == "two-valued":
        X = (X > 0).astype(np.float64)
    return X


LAYOUTS = ("C", "C", "F", "strided", "reversed", "transposed", "read-only", "subclass", "masked")


def _laid_out(array: Any, layout: str) -> Any:
    """The same numbers in another place in memory, or in another class."""
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        room = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
        room[::2, ::3] = array
        return room[::2, ::3]
    if layout == "reversed":
        return array[::-1, ::-1].copy()[::-1, ::-1]
    if layout == "transposed":
        return array.T.copy().T
    if layout == "subclass":
        return array.view(Labelled)
    if layout == "masked":
        return np.ma.masked_array(array)
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array


TYPES = (
    "f8",
    "f8",
    "f8",
    "f8",
    "f4",
    "f2",
    "longdouble",
    ">f8",
    "i8",
    "i2",
    "u1",
    "?",
    "O",
    "list",
)


def _typed(X: Floats, kind: str) -> tuple[Any, Floats]:
    """The numbers in another type, as far as it can hold them, and what has become of them."""
    array: Any
    if kind in ("f4", "f2"):
        most = float(np.finfo(kind).max)
        array = np.clip(X, -most, most).astype(kind)
    elif kind in ("i8", "i2", "u1"):
        limits = np.iinfo(kind)
        array = np.clip(np.round(3 * X), float(limits.min) / 2, float(limits.max) / 2).astype(kind)
    elif kind == "?":
        array = X > np.median(X)
    elif kind == "list":
        return X.tolist(), X
    else:
        array = X.astype(kind)
    return array, np.asarray(array, dtype=np.float64)


@st.composite
def tables(
    draw: Any,
    *,
    most_rows: int = 60,
    most_features: int = 4,
    plain: bool = False,
    least_rows: int = 1,
) -> Table:
    """Rows of any kind, scale, place, type and layout; if ``plain``, of moderate scale only."""
    n = draw(st.integers(least_rows, most_rows))
    d = draw(st.integers(1, most_features))
    if not plain and draw(st.integers(0, 39)) == 0:
        d = draw(st.integers(20, 35))
    rng = np.random.default_rng(draw(SEEDS))
    kind = draw(st.sampled_from(KINDS))
    X = _shaped(kind, n, d, rng)
    X += draw(st.sampled_from((0.0, 0.0, 1.0, -1e3, 1e8))) * rng.standard_normal(d)
    if not plain:
        scale = draw(st.sampled_from(("one", "one", "common", "common", "each")))
        if scale == "common":
            X *= 10.0 ** draw(st.integers(-150, 150))
        elif scale == "each":
            X *= 10.0 ** rng.integers(-150, 151, d)
    array, values = _typed(X, "f8" if plain else draw(st.sampled_from(TYPES)))
    if isinstance(array, np.ndarray):
        array = _laid_out(array, draw(st.sampled_from(LAYOUTS)))
    return Table(array, values, kind)


@st.composite
def weights_of(draw: Any, n: int) -> Any:
    """Weights of n rows: none, equal, random, some zero, repetition counts, of any scale."""
    kind = draw(st.sampled_from(("none", "none", "none", "random", "zeros", "counts", "scaled")))
    if kind == "none":
        return None
    rng = np.random.default_rng(draw(SEEDS))
    weights = rng.uniform(0.1, 2.0, n)
    if kind == "zeros":
        weights *= rng.random(n) < 0.7
    elif kind == "counts":
        return rng.integers(0, 4, n)
    elif kind == "scaled":
        weights *= 10.0 ** draw(st.integers(-60, 60))
    return weights


@st.composite
def mixtures(
    draw: Any, *, features: int | None = None, extreme: bool = True, most_components: int = 4
) -> gmm.Mixture:
    """Mixtures of any family, if ``extreme`` of any scale and narrow in some directions."""
    d = draw(st.integers(1, 4)) if features is None else features
    k = draw(st.integers(1, most_components))
    rng = np.random.default_rng(draw(SEEDS))
    scales = np.ones(d)
    if extreme:
        scales *= 10.0 ** draw(st.integers(-100, 100))
        if draw(st.booleans()):
            scales *= 10.0 ** rng.integers(-9, 9, d)
    family = draw(st.sampled_from([name for name in NAMES if d == 1 or len(name) == 3]))
    factors = rng.standard_normal((k, d, d)) / np.sqrt(d) + np.eye(d)
    matrices = factors @ np.swapaxes(factors, 1, 2) + 0.1 * np.eye(d)
    if extreme:
        matrices *= (10.0 ** rng.uniform(-10, 2, k))[:, None, None]
    weights = rng.dirichlet(np.full(k, 2.0))
    if extreme and k > 1 and draw(st.integers(0, 4)) == 0:
        weights[0] = 0.0
        weights /= weights.sum()
    means = draw(st.sampled_from((0.0, 3.0, 1e6))) * rng.standard_normal((k, d))
    stored = gmm.families.restrict(matrices, family, weights)
    full = gmm.families.expand(stored, FAMILIES[family], k, d) * np.outer(scales, scales)
    if family not in ("VVV", "EEE", "VVI", "EEI") and np.ptp(scales) > 0:
        family = "VVV"  # other families do not survive a change of units
    return gmm.Mixture(weights, means * scales, full, family)


# ---------------------------------------------------------------- outcomes


def outcome(work: Callable[..., Any], *arguments: Any) -> Any:
    """What some work returns, or what it works on; None for an error that names what is wrong.

    Anything else that is raised is a failure, and so is every warning (they are errors here).
    """
    try:
        return work(*arguments)
    except (ValueError, TypeError) as error:
        if not NAMED.match(str(error)):
            raise
        return None


def reference(mixture: gmm.Mixture, X: Floats) -> tuple[Floats, Floats]:
    """Log joint densities ``(n, K)`` by scipy, NaN being missing; and bounds on their errors.

    Each feature is taken in a unit of its own, a power of two, so that nothing overflows.
    """
    exponents = np.frexp(np.sqrt(mixture.variances.max(axis=0)))[1]
    units = np.ldexp(1.0, exponents)
    values, means = X / units, mixture.means / units
    covariances = mixture.covariances / units[:, None] / units
    joint, errors = np.empty((2, len(X), mixture.n_components))
    seen = ~np.isnan(values)
    with np.errstate(divide="ignore"):
        log_weights = np.log(mixture.weights)
    for pattern in np.unique(seen, axis=0):
        rows = (seen == pattern).all(axis=1)
        logs = float(np.log(2.0)) * exponents[pattern].sum()
        for k in range(mixture.n_components):
            if not pattern.any():
                joint[rows, k], errors[rows, k] = log_weights[k], 0.0
                continue
            matrix = covariances[k][np.ix_(pattern, pattern)]
            deviations = np.sqrt(np.diagonal(matrix))
            shape = matrix / np.outer(deviations, deviations)
            factor = scipy.linalg.cholesky(shape, lower=True)
            steps = (values[np.ix_(rows, pattern)] - means[k][pattern]) / deviations
            white = scipy.linalg.solve_triangular(factor, steps.T, lower=True)
            squares = (white**2).sum(axis=0)
            log_determinant = 2 * (np.log(np.diagonal(factor)) + np.log(deviations)).sum()
            joint[rows, k] = log_weights[k] - 0.5 * (
                squares + log_determinant + pattern.sum() * np.log(2 * np.pi)
            )
            joint[rows, k] -= logs
            # rounding of the mean, of the rows' differences from it, and of the factor
            # infinite where a mean is not known to the width of its component
            far = EPS * (np.abs(means[k][pattern]) / deviations).max()
            inverse = scipy.linalg.solve_triangular(factor, np.eye(len(factor)), lower=True)
            least = 1 / np.linalg.norm(inverse)  # its square is at most the least eigenvalue
            length = np.sqrt(squares)
            errors[rows, k] = (
                length * far / least + (far / least) ** 2 + EPS * (1 + squares) * 30 / least**2
            )
    return joint, errors


def reference_log_density(mixture: gmm.Mixture, X: Floats) -> tuple[Floats, Floats]:
    """Log-densities of rows by scipy, and a bound on what rounding may change in them."""
    with np.errstate(over="ignore", invalid="ignore"):
        joint, errors = reference(mixture, X)
    errors[np.isnan(errors)] = np.inf
    densities = logsumexp(joint, axis=1)
    matter = joint > densities[:, None] - 60 - errors
    return densities, 1e-9 * (1 + np.abs(densities)) + 20 * np.where(matter, errors, 0.0).max(
        axis=1
    )


def assert_sound(mixture: gmm.Mixture) -> None:
    """Finite parameters, weights that sum to one, symmetric positive definite covariances."""
    k, d = mixture.means.shape
    weights, covariances = mixture.weights, mixture.covariances
    assert weights.shape == (k,)
    assert covariances.shape == (k, d, d)
    for array in (weights, mixture.means, covariances, mixture.stored):
        assert array.dtype == np.float64
        assert np.isfinite(array).all()
    assert (weights >= 0).all()
    assert abs(weights.sum() - 1) < 1e-12
    variances = np.diagonal(covariances, axis1=1, axis2=2)
    assert (variances > 0).all()
    deviations = 2.0 ** (np.frexp(variances)[1] // 2)  # powers of two, so that nothing is rounded
    shapes = covariances / deviations[:, :, None] / deviations[:, None, :]
    assert np.abs(shapes - np.swapaxes(shapes, 1, 2)).max() < 1e-12
    np.linalg.cholesky(shapes)  # raises for those not positive definite


def assert_never_falls(values: Floats, weight: float, slack: float = 0.0) -> None:
    """A log-likelihood that rises, but for rounding."""
    falls = np.diff(values)
    assert (falls >= -1e-9 * (np.abs(values[1:]) + weight) - slack).all(), values
