r"""Missing values: EM on rows of which only some features are seen, marked by NaN.

If values are missing at random, the likelihood is that of the observed parts
(:prf:ref:`thm-ignorability`), whose densities are marginals of the mixture. The E-step then has two
things to fill in: the component of a row, and its unseen features. Given a component these have the
conditional mean of :eq:`eq-completed-row`; and the second moments get the conditional covariance on
top (:eq:`eq-missing-statistics`), without which variances would come out too small. The result is
an ordinary :class:`~gmm.statistics.Statistics`, so that every M-step, ridge, prior and accelerator
works as on complete rows.

Rows with the same features seen share their algebra. They are laid out in :class:`Group`: several
such *patterns* with equally many rows of each, so that all work is done on stacks of matrices.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm import threads
from gmm.cached import cached_property
from gmm.checks import (
    FloatArray,
    IntArray,
    MissingDataWarning,
    RandomState,
    as_choice,
    as_generator,
    as_matrix,
    as_sample_weight,
    refuse_distant,
    refuse_extreme,
    refuse_non_finite,
)
from gmm.m_step import m_step
from gmm.mixture import Mixture
from gmm.mixture import responsibilities as shares_of
from gmm.natural import OF_ZERO, log_weights
from gmm.normal import LOG_2PI, cholesky, inverse_cholesky, log_determinant
from gmm.rows import Block, Rows, Source, Survey, as_source, blocks, loaded, with_weight
from gmm.statistics import Statistics
from gmm.sweep import ChunkSweep, Sweep, sweep_of

__all__ = [
    "MISSING",
    "Group",
    "IncompleteRows",
    "MissingSweep",
    "as_source_with_missing",
    "e_step",
    "e_step_of_groups",
    "grouped",
    "impute",
    "log_density",
    "responsibilities",
]

#: What a fit may do about NaN.
MISSING = ("raise", "em")

#: Rows of one pattern that are dealt with together, at most; a power of two.
LONGEST = 1024
#: Runs of groups: no more threads than this can be of use.
RUNS = 64
#: Numbers in an array of a group, about.
NUMBERS = 2**18
#: The normal distribution that completes rows for a start: of how many rows at most, of how many
#: features (of more, only their variances are looked at), iterations at most, tolerance and ridge.
NORMAL_ROWS, NORMAL_FEATURES, ITERATIONS, TOLERANCE, RIDGE = 2000, 30, 30, 1e-4, 1e-6

BoolArray = NDArray[np.bool_]


# ---------------------------------------------------------------- rows, by pattern


@dataclass(frozen=True, eq=False)
class Group:
    """Rows of P patterns, b of each: a stack on which the algebra is done at once.

    Parameters
    ----------
    seen : array (P, d) of bool
        The features that the rows of each pattern have.
    values : array (P, b, d)
        Zero where nothing is seen.
    weights : array (P, b)
        A pattern with fewer rows repeats its first one with the weight zero.
    places : array (P, b) of int
        Where the rows stand among all.
    """

    seen: BoolArray
    values: FloatArray
    weights: FloatArray
    places: IntArray


def grouped(X: FloatArray, weights: FloatArray | None, n_components: int) -> Iterator[Group]:
    """The rows in groups of equal patterns, with at most as many rows added as there are.

    Parameters
    ----------
    X : array (n, d)
        NaN marks what is missing.
    weights : array (n,), optional
    n_components : int
        Bounds the memory that work on a group will take.

    Examples
    --------
    >>> X = np.array([[1.0, np.nan], [2.0, 3.0], [4.0, np.nan]])
    >>> [group.places.tolist() for group in grouped(X, None, 1)]
    [[[1]], [[0, 2]]]
    """
    n, d = X.shape
    seen = ~np.isnan(X)
    filled = np.where(seen, X, 0.0)
    packed = np.packbits(seen, axis=1)
    _, pattern, sizes = np.unique(packed, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(pattern.reshape(-1), kind="stable")
    rank = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # among rows of its pattern
    heads = np.flatnonzero(rank % LONGEST == 0)
    lengths = np.diff(np.append(heads, n))
    rooms = 2 ** np.ceil(np.log2(lengths)).astype(np.int64)
    for room in np.unique(rooms).tolist():
        pieces = np.flatnonzero(rooms == room)
        step = max(1, NUMBERS // (n_components * d * max(room, d)))
        for start in range(0, len(pieces), step):
            chosen = pieces[start : start + step]
            offsets = np.arange(room)
            real = offsets < lengths[chosen][:, None]  # (P, b)
            places = order[heads[chosen][:, None] + np.where(real, offsets, 0)]
            share = np.where(real, 1.0 if weights is None else weights[places], 0.0)
            yield Group(seen[places[:, 0]], filled[places], share, places)


class IncompleteRows(Source):
    """Rows with NaN where a value is missing, already validated: each has at least one value.

    Parameters
    ----------
    X : array (n, d)
    weights : array (n,), optional

    Notes
    -----
    Mean and covariance are those of one normal distribution that EM fits to these rows, roughly;
    a start sees the rows that this distribution completes by conditional means.
    """

    def __init__(self, X: FloatArray, weights: FloatArray | None = None) -> None:
        self.X = X
        self.weights = weights

    def __iter__(self) -> Iterator[Block]:
        for part in blocks(*self.X.shape):
            yield self.X[part], None if self.weights is None else self.weights[part]

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.X)

    @property
    def n_features(self) -> int:
        """The dimension d."""
        return int(self.X.shape[1])

    @cached_property
    def total_weight(self) -> float:
        """The sum of the weights: the number of rows where there are none."""
        return float(len(self.X) if self.weights is None else self.weights.sum())

    @cached_property
    def normal(self) -> Mixture:
        """One normal distribution for all rows, as a mixture; from a part of many rows."""
        return _one_normal(self._some(NORMAL_ROWS, np.random.default_rng(0)))

    @cached_property
    def survey(self) -> Survey:
        """One look at all rows."""
        least, greatest = np.nanmin(self.X, axis=0), np.nanmax(self.X, axis=0)
        refuse_extreme(least, greatest, self.total_weight)  # before a distribution is fitted
        return Survey(
            self.n_rows,
            self.total_weight,
            self.normal.means[0],
            self.total_weight * self.normal.covariances[0],
            least,
            greatest,
        )

    def sample(self, size: int, rng: np.random.Generator) -> Rows:
        """At most ``size`` of the rows, completed by conditional means."""
        some = self._some(size, rng)
        return Rows(impute(self.normal, some.X), some.weights)

    def subset(self, chosen: IntArray | BoolArray) -> IncompleteRows:
        """Some of the rows, by their positions or by a mask."""
        weights = None if self.weights is None else self.weights[chosen]
        return IncompleteRows(self.X[chosen], weights)

    def _some(self, size: int, rng: np.random.Generator) -> IncompleteRows:
        if self.n_rows <= size:
            return self
        return self.subset(np.sort(rng.choice(self.n_rows, size, replace=False, shuffle=False)))


def _one_normal(rows: IncompleteRows) -> Mixture:
    """The normal distribution of incomplete rows, nearly; always one of positive definite form."""
    seen = ~np.isnan(rows.X)
    weights = np.ones(rows.n_rows) if rows.weights is None else rows.weights
    filled, counts = np.where(seen, rows.X, 0.0), weights @ seen
    mean = weights @ filled / counts
    deviations = np.sqrt(weights @ np.where(seen, rows.X - mean, 0.0) ** 2 / counts)
    deviations[~(deviations > 0)] = 1.0
    d = rows.n_features
    family = "VVV" if d <= NORMAL_FEATURES else "VVI"
    mixture = Mixture(np.ones(1), np.zeros((1, d)), np.eye(d)[None], family)
    groups = list(grouped((rows.X - mean) / deviations, rows.weights, 1))
    before = -np.inf
    for _ in range(ITERATIONS):
        statistics = e_step_of_groups(groups, mixture)
        if statistics.log_likelihood - before < TOLERANCE * rows.total_weight:
            break
        before = statistics.log_likelihood
        mixture = m_step(statistics, family, RIDGE)
    covariance = mixture.covariances * np.outer(deviations, deviations)
    return Mixture(np.ones(1), mean + deviations * mixture.means, covariance, family)


def as_source_with_missing(
    X: Any,
    sample_weight: ArrayLike | None,
    missing: str,
    *,
    min_rows: int = 1,
    every_feature: bool = True,
) -> Source:
    """Rows from whatever a fit accepts, with or without missing values.

    Parameters
    ----------
    X : array (n, d), path, table or Source
        With missing values an array, or the path of a ``.npy`` file, which is then loaded.
    sample_weight : array (n,), optional
    missing : str
        "raise" or "em".
    min_rows : int
        The least number of rows of positive weight that have a value.
    every_feature : bool
        Whether each feature must have a value in some row.

    Returns
    -------
    Source
        Of rows without NaN what :func:`gmm.rows.as_rows` makes of them.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said, a number is infinite, or a feature has no value at all.

    Warns
    -----
    MissingDataWarning
        If rows have no value at all; they are left out.
    """
    if as_choice(missing, "missing", MISSING) == "raise" or isinstance(X, Rows | IncompleteRows):
        return as_source(X, sample_weight, min_rows=min_rows)
    if isinstance(X, Source) or hasattr(X, "to_batches") or hasattr(X, "dask"):
        raise TypeError(
            "missing: 'em' needs an array or the path of a .npy file, got rows that arrive in "
            f"blocks ({type(X).__name__})"
        )
    values = _as_incomplete(loaded(X))
    weights = as_sample_weight(sample_weight, len(values))
    values, weights = with_weight(values, weights)
    gaps = np.isnan(values)
    never = np.flatnonzero(gaps.all(axis=0))
    if len(never) and every_feature:
        raise ValueError(
            f"X: expected each feature to have a value in some row, feature {never[0]} has none; "
            "leave it out"
        )
    empty = gaps.all(axis=1)
    if empty.any():
        warnings.warn(
            f"X: {np.count_nonzero(empty)} of {len(values)} rows have no value at all, and are "
            "left out",
            MissingDataWarning,
            stacklevel=3,
        )
        values = values[~empty]
        weights = None if weights is None else weights[~empty]
    as_matrix(values, "X (rows of positive weight with a value)", min_rows=min_rows)
    return IncompleteRows(values, weights) if gaps[~empty].any() else Rows(values, weights)


def _as_incomplete(X: ArrayLike, n_features: int | None = None) -> FloatArray:
    """Rows of float64 that may hold NaN, but no infinity."""
    values = as_matrix(X, n_features=n_features).astype(np.float64)
    refuse_non_finite(np.where(np.isnan(values), 0.0, values), "X")
    return values


# ---------------------------------------------------------------- the E-step


class Completion(NamedTuple):
    """The rows of a group under each component.

    Parameters
    ----------
    shares : array (P, b, K)
        Responsibilities, from what is seen (:eq:`eq-missing-responsibilities`).
    log_densities : array (P, b)
        Of what is seen (:eq:`eq-observed-likelihood`).
    residuals : array (P, K, b, d)
        Completed rows less the component's mean (:eq:`eq-completed-row`).
    spread : array (P, K, d, d) or (P, K, d)
        The conditional covariance of what is missing, zero elsewhere; one for all components of a
        tied kind, variances only of a diagonal or spherical one.
    """

    shares: FloatArray
    log_densities: FloatArray
    residuals: FloatArray
    spread: FloatArray


def completion(group: Group, mixture: Mixture) -> Completion:
    """What the seen features say about the component and about the other features.

    Notes
    -----
    In place of the block of a covariance that belongs to seen features, the whole matrix is used
    with its other rows and columns replaced by those of the identity: it has the same determinant,
    and its inverse holds the inverse of the block (:prf:ref:`lem-masked-covariance`). So matrices
    of all patterns have one size.
    """
    seen = group.seen[:, None, None, :]  # (P, 1, 1, d)
    residuals = np.where(seen, group.values[:, None] - mixture.means[:, None], 0.0)
    if mixture.kind in ("full", "tied"):
        stored = mixture.stored.reshape(-1, *mixture.stored.shape[-2:])  # (K, d, d), one if tied
        across = np.swapaxes(seen, 2, 3)  # (P, 1, d, 1)
        visible = np.where(seen & across, stored, np.eye(mixture.n_features))
        whiteners = inverse_cholesky(visible, "covariances")
        turned = np.swapaxes(whiteners, 2, 3)
        whitened = residuals @ turned
        known = np.where(seen, stored, 0.0) @ turned
        residuals = np.where(seen, residuals, whitened @ np.swapaxes(known, 2, 3))
        rest = stored - known @ np.swapaxes(known, 2, 3)
        spread = np.where(seen | across, 0.0, rest)
        log_determinants: FloatArray = -log_determinant(whiteners)  # (P, K)
    else:
        whitened = residuals / np.sqrt(mixture.variances)[:, None]
        spread = np.where(group.seen[:, None], 0.0, mixture.variances)
        log_determinants = np.matmul(group.seen, np.log(mixture.variances).T, dtype=np.float64)
    squares: FloatArray = np.einsum("pkbi,pkbi->pbk", whitened, whitened)
    constants = log_determinants + group.seen.sum(axis=1)[:, None] * LOG_2PI  # (P, K)
    log_joint = log_weights(mixture.weights) - 0.5 * (constants[:, None] + squares)
    flat, log_densities = shares_of(log_joint.reshape(-1, mixture.n_components))
    return Completion(
        flat.reshape(log_joint.shape),
        log_densities.reshape(group.places.shape),
        residuals,
        spread,
    )


def e_step(group: Group, mixture: Mixture) -> Statistics:
    """Expected statistics of a group of incomplete rows (:eq:`eq-missing-statistics`).

    Parameters
    ----------
    group : Group
    mixture : Mixture
        Its means are the centres.

    Returns
    -------
    Statistics
        With the log-likelihood of what is seen (:eq:`eq-observed-likelihood`).

    Examples
    --------
    >>> mixture = Mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
    >>> (group,) = grouped(np.array([[2.0, np.nan]]), None, 1)
    >>> e_step(group, mixture).second  # 1 = (0.5 · 2)², and 1 − 0.5² on top
    array([[[4.  , 2.  ],
            [2.  , 1.75]]])
    """
    shares, log_densities, residuals, spread = completion(group, mixture)
    weighted = np.moveaxis(shares * group.weights[:, :, None], 2, 0)  # (K, P, b)
    counts = weighted.sum(axis=2)  # (K, P)
    k, d = mixture.means.shape
    rows = np.swapaxes(residuals, 0, 1).reshape(k, -1, d)  # (K, P b, d)
    share = weighted.reshape(k, -1, 1)
    first = (share * rows).sum(axis=1)
    second: FloatArray
    if mixture.kind in ("full", "tied"):
        second = np.swapaxes(share * rows, 1, 2) @ rows
        second += np.einsum("kp,pkij->kij", counts, np.broadcast_to(spread, (len(spread), k, d, d)))
        second = second.sum(axis=0) if mixture.kind == "tied" else second
    else:
        second = (share * rows**2).sum(axis=1) + np.einsum("kp,pki->ki", counts, spread)
        second = second.sum(axis=1) if mixture.kind == "spherical" else second
    return Statistics(
        mixture.kind,
        mixture.means,
        counts.sum(axis=1),
        first,
        second,
        float((group.weights * log_densities).sum()),
        int(np.count_nonzero(group.weights)),
    )


def e_step_of_groups(groups: Sequence[Group], mixture: Mixture) -> Statistics:
    """The expected statistics of several groups, which threads share.

    Parameters
    ----------
    groups : sequence of Group
        At least one.
    mixture : Mixture

    Returns
    -------
    Statistics

    Notes
    -----
    Groups are added one after another within runs, and so are the runs. Both are the same for any
    number of threads, and so is the sum, to the last bit.

    Examples
    --------
    >>> mixture = Mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.5, 1.0]]])
    >>> groups = list(grouped(np.array([[2.0, np.nan], [4.0, 1.0]]), None, 1))
    >>> e_step_of_groups(groups, mixture).first
    array([[6., 2.]])
    """
    runs = min(RUNS, len(groups))
    bounds = [len(groups) * i // runs for i in range(runs + 1)]
    parts = [groups[a:b] for a, b in pairwise(bounds)]
    size = mixture.n_components * sum(group.values.size for group in groups)
    n_threads = None if size >= NUMBERS else 1  # threads do not pay for less
    _ = mixture.variances  # once, before threads ask for it

    def of_run(_: int, i: int) -> Statistics:
        return reduce(add, (e_step(group, mixture) for group in parts[i]))

    with threads.one_blas_thread():
        return reduce(add, threads.run(runs, of_run, n_threads))


class MissingSweep(ChunkSweep):
    """The E-step of all incomplete rows; complete ones among them go the way of complete rows.

    Parameters
    ----------
    rows : IncompleteRows
    n_components : int
    kind : str
        full, tied, diag or spherical.
    """

    def __init__(self, rows: IncompleteRows, n_components: int, kind: str) -> None:
        super().__init__(rows, n_components, kind)
        gaps = np.isnan(rows.X.sum(axis=1))
        some = rows.subset(gaps)
        self.groups = list(grouped(some.X, some.weights, n_components))
        self.complete: Sweep | None = None
        if not gaps.all():
            whole = rows.subset(~gaps)
            self.complete = Sweep(Rows(whole.X, whole.weights), n_components, kind, self.frame)

    def __call__(self, mixture: Mixture) -> Statistics:
        """Expected statistics of all rows, and their log-likelihood, under a mixture."""
        if self.complete is None:
            return e_step_of_groups(self.groups, mixture)
        complete = self.complete(mixture)
        return e_step_of_groups(self.groups, mixture) + complete if self.groups else complete


@sweep_of.register
def _(rows: IncompleteRows, n_components: int, kind: str) -> MissingSweep:
    return MissingSweep(rows, n_components, kind)


# ---------------------------------------------------------------- what a mixture says of such rows


def log_density(mixture: Mixture, X: ArrayLike) -> FloatArray:
    """Logarithm of the density of what is seen of each row (:eq:`eq-observed-likelihood`).

    Parameters
    ----------
    mixture : Mixture
    X : array (n, d)
        NaN marks what is missing.

    Returns
    -------
    array (n,)
        That of the marginal mixture of the features seen; zero for a row without any value.

    Examples
    --------
    >>> mixture = Mixture([0.5, 0.5], [[0.0, 0.0], [4.0, 4.0]], [1.0, 1.0], "VII")
    >>> log_density(mixture, [[1.0, np.nan]]) == mixture.marginal([0]).log_density([[1.0]])
    array([ True])
    """
    values = _as_incomplete(X, mixture.n_features)
    result = np.empty(len(values))
    for group, made in _completed(values, mixture):
        result[group.places] = made.log_densities
    return result


def responsibilities(mixture: Mixture, X: ArrayLike) -> FloatArray:
    """Posterior probabilities of the components, given what is seen of each row.

    Parameters
    ----------
    mixture : Mixture
    X : array (n, d)
        NaN marks what is missing.

    Returns
    -------
    array (n, K)
        :eq:`eq-missing-responsibilities`; the mixture's weights for a row without any value.

    Examples
    --------
    >>> mixture = Mixture([0.5, 0.5], [[0.0, 0.0], [4.0, 4.0]], [1.0, 1.0], "VII")
    >>> responsibilities(mixture, [[1.0, np.nan], [np.nan, np.nan]]).round(2)
    array([[0.98, 0.02],
           [0.5 , 0.5 ]])
    """
    values = _as_incomplete(X, mixture.n_features)
    result = np.empty((len(values), mixture.n_components))
    for group, made in _completed(values, mixture):
        result[group.places] = made.shares
    return result


def impute(
    mixture: Mixture, X: ArrayLike, *, draw: bool = False, random_state: RandomState = None
) -> FloatArray:
    """The rows with their missing values filled in.

    Parameters
    ----------
    mixture : Mixture
    X : array (n, d)
        NaN marks what is missing.
    draw : bool
        False: by conditional means (:eq:`eq-imputed-mean`), the best guess of each value, whose
        spread is too small. True: by draws from the conditional distribution
        (:prf:ref:`thm-mixture-conditional`), whose spread is right.
    random_state : int, Generator or None
        For draws.

    Returns
    -------
    array (n, d)
        A copy.

    Examples
    --------
    >>> mixture = Mixture([0.5, 0.5], [[0.0, 0.0], [4.0, 4.0]], [1.0, 1.0], "VII")
    >>> impute(mixture, [[1.0, np.nan], [2.0, np.nan]]).round(2)
    array([[1.  , 0.07],
           [2.  , 2.  ]])
    """
    values = _as_incomplete(X, mixture.n_features)
    rng = as_generator(random_state)
    result = values.copy()
    for group, made in _completed(values, mixture):
        guesses = _drawn(group, made, mixture, rng) if draw else _expected(made, mixture)
        result[group.places] = np.where(group.seen[:, None], group.values, guesses)
    return result


def _completed(X: FloatArray, mixture: Mixture) -> Iterator[tuple[Group, Completion]]:
    """Groups of rows with what is known of them, which may be anywhere.

    Raises
    ------
    ValueError
        If the squared distances of a row are too great for numbers.
    """
    for group in grouped(X, None, mixture.n_components):
        with np.errstate(over="ignore", invalid="ignore"):
            made = completion(group, mixture)
        sound = (made.log_densities > OF_ZERO) & np.isfinite(made.residuals).all(axis=(1, 3))
        refuse_distant(X[group.places[~sound]], "the components")
        yield group, made


def _expected(made: Completion, mixture: Mixture) -> FloatArray:
    """Σ_k r_k (μ_k + completed residual), ``(P, b, d)``."""
    expected: FloatArray = np.einsum("pbk,pkbi->pbi", made.shares, made.residuals)
    expected += made.shares @ mixture.means
    return expected


def _drawn(
    group: Group, made: Completion, mixture: Mixture, rng: np.random.Generator
) -> FloatArray:
    """A component, then its conditional mean and a normal vector of its spread, ``(P, b, d)``."""
    patterns, b, k = made.shares.shape
    d = mixture.n_features
    below = np.cumsum(made.shares, axis=2) < rng.random((patterns, b, 1))
    labels = np.minimum(below.sum(axis=2), k - 1)  # (P, b)
    noise = rng.standard_normal((patterns, 1, b, d))
    if made.spread.ndim == 3:
        noise = noise * np.sqrt(made.spread)[:, :, None]
    else:
        unit = group.seen[:, None, :, None] * np.eye(d)  # makes it positive definite
        factors = cholesky(made.spread + unit, "spread")
        noise = noise @ np.swapaxes(factors, 2, 3)
    every = made.residuals + noise + mixture.means[:, None]  # (P, K, b, d)
    chosen = np.take_along_axis(every, labels[:, None, :, None], axis=1)
    return chosen[:, 0]
