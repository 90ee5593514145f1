"""What is accepted, and how the rest is refused: one sentence that names the argument.

Every public function passes its arguments through these checks before it does any work. A check
returns the argument in the form in which the package uses it, or raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ConvergenceWarning",
    "EmptyComponentError",
    "FileFormatError",
    "MissingDataWarning",
    "SingularCovarianceError",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
RandomState = int | np.random.Generator | np.random.RandomState | None

#: The rounding unit: one and the next number differ by it.
EPS = float(np.finfo(np.float64).eps)

#: Features that vary less or more than this are refused: squares would leave the range of numbers.
#: Between them a variance, 1e-18 of it and all that Cholesky factors make of these are normal.
NARROWEST_RANGE, WIDEST_RANGE = 1e-130, 1e130
#: So are rows of which the weights add up to less or more than this.
LIGHTEST, HEAVIEST = 1e-40, 1e40
#: Means that are given may be this many times as far away as rows are from each other.
FARTHEST = 1e100
#: And variances, where they are given, that are greater than this, or whose reciprocals are.
WIDEST = 1e280


class SingularCovarianceError(ValueError):
    """A covariance matrix is not positive definite, so the density does not exist.

    Raised for a covariance that the caller gave, and for data or components on which the
    likelihood is unbounded (:prf:ref:`thm-unbounded`): a constant column, equal rows, a component
    that has shrunk onto fewer than ``d + 1`` distinct points.
    """


class EmptyComponentError(SingularCovarianceError):
    """A component is responsible for no row, so its mean and its covariance are undefined."""

    @classmethod
    def of(cls, k: int) -> EmptyComponentError:
        """The error of component k."""
        return cls(
            f"component {k} is responsible for no row, so its mean is undefined; "
            "take fewer components or another start"
        )


class ConvergenceWarning(UserWarning):
    """A fit stopped before its stopping rule was met."""


class MissingDataWarning(UserWarning):
    """Rows in which every value is missing say nothing, and were left out."""


#: What NumPy raises for a file that is no array, or whose header says what cannot be.
NO_ARRAY = (
    ValueError,
    TypeError,
    EOFError,
    OverflowError,
    RecursionError,
    SyntaxError,
    TokenError,
)


class FileFormatError(ValueError):
    """A file is not one of ours, is cut short, or was written by a newer version."""


def shown(value: object) -> str:
    """A short text for ``value``, for use in messages."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def as_numbers(values: ArrayLike, name: str) -> NDArray[Any]:
    """``values`` as an array of real numbers; integers, booleans and floats keep their type."""
    if np.ma.isMaskedArray(values) and np.ma.getmaskarray(values).any():
        raise ValueError(f"{name}: expected numbers, got a masked array with masked entries")
    if hasattr(values, "tocsr") and hasattr(values, "nnz"):
        raise TypeError(f"{name}: expected a dense array, got a sparse one; use {name}.toarray()")
    try:
        array = np.asarray(values)
        if array.dtype == object:
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: expected an array of real numbers, got {error}") from None
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name}: expected real numbers, got an array of type {array.dtype}")
    if array.dtype.itemsize > 8:  # a longer type's numbers may be infinite as float64
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
    return array


def as_matrix(
    values: ArrayLike, name: str = "X", *, n_features: int | None = None, min_rows: int = 1
) -> NDArray[Any]:
    """``values`` as an array of real numbers with rows and columns; its type is kept.

    Finiteness is not looked at here: see :func:`refuse_non_finite`.
    """
    array = as_numbers(values, name)
    if array.ndim != 2:
        hint = f"; use {name}.reshape(-1, 1) for a single feature" if array.ndim == 1 else ""
        raise ValueError(
            f"{name}: expected a 2-D array (rows, features), got shape {array.shape}{hint}"
        )
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise ValueError(f"{name}: expected at least one row and one feature, got {array.shape}")
    if n_features is not None and array.shape[1] != n_features:
        raise ValueError(f"{name}: expected {n_features} features, got {array.shape[1]}")
    if array.shape[0] < min_rows:
        raise ValueError(
            f"{name}: expected at least {min_rows} rows, one for each component, "
            f"got {array.shape[0]}"
        )
    return array


def refuse_non_finite(block: NDArray[Any], name: str, first_row: int = 0) -> None:
    """Raise if ``block`` holds NaN or infinity, and say where."""
    if np.isfinite(block).all():
        return
    place = np.argwhere(~np.isfinite(block))[0]
    value = block[tuple(place)]
    missing = bool(np.isnan(value))
    what = "NaN" if missing else "infinity"
    where = ", ".join(str(int(i) + (first_row if axis == 0 else 0)) for axis, i in enumerate(place))
    advice = "; for missing values see gmm.missing" if missing and name == "X" else ""
    raise ValueError(f"{name}: expected finite numbers, got {what} at [{where}]{advice}")


def refuse_extreme(
    least: FloatArray,
    greatest: FloatArray,
    weight: float = 1.0,
    name: str = "X",
    *,
    narrow: bool = False,
) -> None:
    """Raise if squares of the features' ranges, or weighted sums of them, might not be numbers.

    Parameters
    ----------
    least, greatest : array (d,)
        The range of each feature; one that is constant has none.
    weight : float
        The sum of the rows' weights.
    name : str
    narrow : bool
        Whether a feature may vary as little as it likes.
    """
    with np.errstate(over="ignore"):
        ranges = greatest - least
    wrong = ranges > WIDEST_RANGE
    if not narrow:
        wrong |= (ranges > 0) & (ranges < NARROWEST_RANGE)
    if wrong.any():
        j = int(np.argmax(wrong))
        raise ValueError(
            f"{name}: expected features with a range from {NARROWEST_RANGE:.0e} to "
            f"{WIDEST_RANGE:.0e}, got one of {ranges[j]:.3g} of feature {j}; give it in another "
            "unit, as its squares would be too small or too great for numbers"
        )
    if not LIGHTEST <= weight <= HEAVIEST:
        raise ValueError(
            f"sample_weight: expected a sum from {LIGHTEST:.0e} to {HEAVIEST:.0e}, got {weight:.3g}"
        )


def refuse_far(points: FloatArray, least: FloatArray, greatest: FloatArray, name: str) -> None:
    """Raise if points ``(K, d)`` are so far from all rows that squares might not be numbers.

    Parameters
    ----------
    points : array (K, d)
    least, greatest : array (d,)
        The range of the rows' features.
    name : str
    """
    with np.errstate(over="ignore"):
        distances = np.maximum(np.abs(points - least), np.abs(points - greatest)).max(axis=0)
        ranges = greatest - least
        most = np.where(ranges > 0, np.minimum(FARTHEST * ranges, WIDEST_RANGE), WIDEST_RANGE)
    if not (distances <= most).all():
        j = int(np.argmin(distances <= most))
        raise ValueError(
            f"{name}: expected means at most {most[j]:.3g} from the rows in feature {j}, "
            f"got one at a distance of {distances[j]:.3g}"
        )


def refuse_distant(far: FloatArray, centre: str) -> None:
    """Raise if there are rows ``(n, d)`` so far from a centre that squares are not numbers."""
    if len(far):
        raise ValueError(
            f"X: expected rows whose squared distances from {centre} are numbers, got "
            f"{shown(far[0].tolist())}, too far away"
        )


def as_ridge(value: object) -> float:
    """A variance to be added to others, zero for none."""
    ridge = as_non_negative(value, "ridge")
    refuse_extreme_variances(np.array([ridge]), "ridge")
    return ridge


def refuse_extreme_variances(variances: FloatArray, name: str) -> None:
    """Raise if positive variances, or their reciprocals, are near the end of the numbers' range."""
    wrong = (variances > 0) & ~((variances >= 1 / WIDEST) & (variances <= WIDEST))
    if wrong.any():
        raise ValueError(
            f"{name}: expected variances from {1 / WIDEST:.0e} to {WIDEST:.0e}, "
            f"got {variances[wrong][0]:.3g}; give them in another unit"
        )


def as_vector(values: ArrayLike, name: str, size: int | None = None) -> FloatArray:
    """``values`` as a finite vector of float64, of the given size."""
    array = as_numbers(values, name).astype(np.float64)
    if array.ndim != 1 or (size is not None and array.shape[0] != size):
        expected = "a 1-D array" if size is None else f"shape ({size},)"
        raise ValueError(f"{name}: expected {expected}, got shape {array.shape}")
    refuse_non_finite(array, name)
    return array


def as_sample_weight(
    sample_weight: ArrayLike | None, n_rows: int, *, may_vanish: bool = False
) -> FloatArray | None:
    """Weights of the rows, shape ``(n_rows,)``, not negative; None stays None.

    Not all may be zero, unless the rows are a part of more and ``may_vanish`` says so.
    """
    if sample_weight is None:
        return None
    weights = as_vector(sample_weight, "sample_weight", n_rows)
    if (weights < 0).any():
        i = int(np.argmax(weights < 0))
        raise ValueError(f"sample_weight: expected no negative value, got {weights[i]} at [{i}]")
    if not (may_vanish or weights.any()):
        raise ValueError("sample_weight: expected a positive value, got zeros only")
    return weights


def as_probabilities(values: ArrayLike, name: str) -> FloatArray:
    """A vector of non-negative numbers that sum to one (to 1e-6); the sum is made exact."""
    array = as_vector(values, name)
    with np.errstate(over="ignore"):
        total = array.sum()
    if array.size == 0 or (array < 0).any() or abs(total - 1.0) > 1e-6:
        raise ValueError(
            f"{name}: expected non-negative numbers that sum to 1, got {shown(array.tolist())}"
        )
    normalised: FloatArray = array / total
    return normalised


def as_count(value: object, name: str, *, minimum: int = 1) -> int:
    """``value`` as an integer of at least ``minimum``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {shown(value)}")
    if value < minimum:
        raise ValueError(f"{name}: expected an integer of at least {minimum}, got {value}")
    return int(value)


def as_non_negative(value: object, name: str) -> float:
    """``value`` as a finite float that is not negative."""
    if isinstance(value, bool | np.bool_) or not isinstance(
        value, int | float | np.integer | np.floating
    ):
        raise TypeError(f"{name}: expected a number, got {shown(value)}")
    if not 0 <= value < np.inf:
        raise ValueError(f"{name}: expected a finite number of at least 0, got {value}")
    return float(value)


def as_positive(value: object, name: str) -> float:
    """``value`` as a finite positive float."""
    number = as_non_negative(value, name)
    if number == 0:
        raise ValueError(f"{name}: expected a positive number, got 0")
    return number


def as_choice(value: object, name: str, choices: Sequence[str]) -> str:
    """``value`` if it is one of ``choices``; else an error that lists them."""
    if isinstance(value, str) and value in choices:
        return value
    known = ", ".join(repr(c) for c in choices)
    raise ValueError(f"{name}: expected one of {known}; got {shown(value)}")


def as_indices(indices: ArrayLike, name: str, size: int) -> IntArray:
    """Distinct positions in ``range(size)``; negative ones count from the end."""
    array = np.atleast_1d(as_numbers(indices, name))
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.size == 0:
        raise TypeError(f"{name}: expected one or more integers, got {shown(indices)}")
    if array.min() < -size or array.max() >= size:
        raise ValueError(f"{name}: expected integers from 0 to {size - 1}, got {shown(indices)}")
    positions = array.astype(np.int64) % size
    if len(np.unique(positions)) != len(positions):
        raise ValueError(f"{name}: expected distinct positions, got {shown(indices)}")
    return positions


def as_generator(random_state: RandomState) -> np.random.Generator:
    """A generator from a seed, a generator (used as it is), a legacy RandomState, or None."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31, size=4))
    if random_state is None:
        return np.random.default_rng()
    return np.random.default_rng(as_count(random_state, "random_state", minimum=0))


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view of ``array`` that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
