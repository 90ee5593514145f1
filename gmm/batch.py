r"""EM for many mixtures on the same rows, all of them in one pass.

The features T(x) of :mod:`gmm.natural` are the same for every mixture. The natural parameters of
all components of all mixtures are the rows of one matrix Θ, and the E-step of all of them is one
product ΘT, sums over the components of each, and one product back (:prf:ref:`thm-two-products`).
The M-steps are done family by family (:func:`gmm.families.update`). A pass for a hundred small
mixtures costs little more than one for a large one; mixtures leave as they converge.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gmm.checks import FloatArray, IntArray, SingularCovarianceError
from gmm.families import FAMILIES, Groups, Scatter, expand, finite, update
from gmm.m_step import EMPTY
from gmm.mixture import Mixture
from gmm.natural import LOG2_E, LOG_2, features, log_weights, packing, statistics_size, unpacked
from gmm.normal import LOG_2PI
from gmm.prior import Prior
from gmm.rows import Rows
from gmm.sweep import LOWEST
from gmm.threads import one_blas_thread

__all__ = ["Batch", "Candidate", "Outcome", "most_rows"]

#: Numbers that a batch may hold.
LARGEST = 20_000_000
#: Numbers in a block of exponents: what stays in cache.
BLOCK = 400_000
#: A component narrower than this part of the data, in variance and on average, has collapsed.
NARROWEST = 1e-12
#: Inner steps of the first M-step and of the others: each step raises the bound.
FIRST_STEPS = 10


@dataclass(frozen=True, eq=False)
class Candidate:
    """A fit to make: a family, and the moments from which its first M-step is made.

    Parameters
    ----------
    family : str
    moments : array (K, P)
        Σ r T(y) of each component, for rows y as :class:`Batch` scales them.
    """

    family: str
    moments: FloatArray


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a candidate ended.

    Parameters
    ----------
    family : str
    log_likelihood : float
        NaN if it became singular.
    parameters : tuple of arrays, optional
        Weights ``(K,)``, means ``(K, d)`` and covariances ``(K, d, d)`` in units of the data; None
        if it became singular.
    smallest : float
        The least count N_k; zero if it became singular.
    moments : array (K, P)
        From these its next M-step would be made.
    narrowness : float
        The greatest mean inverse relative variance tr(S Σ_k⁻¹) / d, with S the covariance of the
        data: great for a component that has shrunk onto a few rows.
    converged : bool
    trace : list of float
        The log-likelihoods after each M-step.
    seconds : list of float
        When they were known, since the batch began.
    """

    family: str
    log_likelihood: float
    parameters: tuple[FloatArray, FloatArray, FloatArray] | None
    smallest: float
    moments: FloatArray
    narrowness: float
    converged: bool
    trace: list[float]
    seconds: list[float]

    @cached_property
    def mixture(self) -> Mixture:
        """The parameters as one value.

        Raises
        ------
        SingularCovarianceError
            If it became singular.
        """
        if self.parameters is None:
            raise SingularCovarianceError("a component has collapsed, so there is no mixture")
        weights, means, covariances = self.parameters
        kind = FAMILIES[self.family]
        stored = covariances
        if kind == "tied":
            stored = covariances[0]
        elif kind != "full":
            variances = np.diagonal(covariances, axis1=1, axis2=2)
            stored = variances if kind == "diag" else variances[:, 0]
        return Mixture.from_stored(weights, means, np.ascontiguousarray(stored), self.family)


def most_rows(n_features: int) -> int:
    """How many rows a batch should have at most: it holds (d + 1)(d + 2) numbers of each."""
    return LARGEST // ((n_features + 1) * (n_features + 2))


class Batch:
    """The rows, made ready for many fits.

    Parameters
    ----------
    rows : Rows
        They are centred and divided by one number, which changes no family.
    ridge : float
        As in :func:`gmm.m_step.m_step`.
    prior : callable, optional
        The prior of fits with a given number of components.

    Notes
    -----
    Of n rows and d features it holds n (d + 1)(d + 2) numbers: large data are fitted from a
    random part of the rows first.
    """

    def __init__(
        self, rows: Rows, ridge: float = 0.0, prior: Callable[[int], Prior] | None = None
    ) -> None:
        d = rows.n_features
        self.n_features = d
        self.mean = rows.mean
        self.scale = float(np.sqrt(rows.variances.mean()))
        self.ridge = ridge / self.scale**2
        self.total_weight = rows.total_weight
        self.weights = rows.weights
        self.covariance = rows.covariance / self.scale**2
        scaled = (np.asarray(rows.X, dtype=np.float64).T - self.mean[:, None]) / self.scale
        self.size = statistics_size("full", d)
        self.features = features(scaled, "full", np.empty((self.size, rows.n_rows)))  # (P, n)
        self.transposed = np.ascontiguousarray(self.features.T)  # (n, P)
        self.prior = prior

    def scaled_prior(self, n_components: int) -> Prior | None:
        """The prior of fits with this many components, for the scaled rows."""
        if self.prior is None:
            return None
        prior = self.prior(n_components)
        return Prior(
            (prior.mean - self.mean) / self.scale,
            prior.scale / self.scale**2,
            prior.mean_precision,
            prior.degrees_of_freedom,
            prior.concentration,
        )

    @property
    def rows(self) -> FloatArray:
        """The scaled rows, features-major, shape ``(d, n)``."""
        return self.features[1 : 1 + self.n_features]

    def moments(self, shares: FloatArray) -> FloatArray:
        """Moments of components that take these shares ``(K, n)`` of the rows, shape ``(K, P)``."""
        weighted = shares if self.weights is None else shares * self.weights
        product: FloatArray = weighted @ self.transposed
        return product

    def of_labels(self, labels: IntArray, n_components: int) -> FloatArray:
        """Moments of components that own the rows with their label."""
        return self.moments((labels == np.arange(n_components)[:, None]).astype(np.float64))

    def shares(self, mixture: Mixture) -> FloatArray:
        """The responsibilities of a mixture for all rows, shape ``(K, n)``."""
        return mixture.responsibilities(self.rows.T * self.scale + self.mean).T

    def run(
        self, candidates: Sequence[Candidate], tol: float, max_iter: int = 1000
    ) -> list[Outcome]:
        """Fit all candidates, each until its log-likelihood moves by less than ``tol`` a row.

        Parameters
        ----------
        candidates : sequence of Candidate
        tol : float
            In nats for a unit of weight (:eq:`eq-stop-mean`).
        max_iter : int

        Returns
        -------
        list of Outcome
            In the order of the candidates.
        """
        order = sorted(range(len(candidates)), key=lambda i: len(candidates[i].moments))
        running = _Running(self, [candidates[i] for i in order])
        outcomes: list[Outcome | None] = [None] * len(candidates)
        with one_blas_thread():
            for iteration in range(max_iter):
                running.step()
                last = iteration == max_iter - 1
                for position, outcome in running.finished(tol * self.total_weight, last):
                    outcomes[order[position]] = outcome
                if not running.left():
                    break
        return [outcome for outcome in outcomes if outcome is not None]


@dataclass(frozen=True, eq=False)
class _Unseen:
    """What the priors of all components add to their moments, scatter, counts and weights."""

    moments: FloatArray
    scatter: FloatArray
    counts: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, batch: Batch, groups: Groups) -> _Unseen | None:
        if batch.prior is None:
            return None
        of_one = {}  # a component, by the number of components of its mixture
        for k in set(groups.sizes.tolist()):
            prior = batch.scaled_prior(k)
            assert prior is not None
            centre = features(prior.mean[:, None], "full", np.empty((batch.size, 1)))[:, 0]
            of_one[k] = (
                prior.mean_precision * centre,
                prior.scale,
                prior.covariance_weight,
                prior.concentration - 1,
            )
        parts = [of_one[k] for k in groups.sizes.tolist() for _ in range(k)]
        return cls(*(np.array(values) for values in zip(*parts, strict=True)))


class _Running:
    """The candidates that have not ended, the smallest first, as rows of shared arrays."""

    def __init__(self, batch: Batch, candidates: list[Candidate]) -> None:
        self.batch = batch
        self.positions = np.arange(len(candidates))
        self.families = np.array([candidate.family for candidate in candidates])
        self.moments = np.concatenate([candidate.moments for candidate in candidates])
        self.log_likelihoods = np.full(len(candidates), -np.inf)
        self.traces: list[list[float]] = [[] for _ in candidates]
        self.states: dict[str, FloatArray | None] = {}
        self.began = time.perf_counter()
        self.seconds: list[float] = []
        self.first = True
        self._arrange([len(candidate.moments) for candidate in candidates])

    def _arrange(self, sizes: list[int]) -> None:
        """Where the components of each family are, and the fits with equally many components."""
        self.groups = groups = Groups(sizes)
        self.places: list[tuple[str, IntArray, IntArray, Groups]] = []
        for family in dict.fromkeys(self.families.tolist()):
            mine = self.families == family
            components = np.flatnonzero(groups.spread(mine))
            self.places.append(
                (family, np.flatnonzero(mine), components, Groups(groups.sizes[mine].tolist()))
            )
        self.runs: list[tuple[int, slice, slice]] = []
        for k, first, count in zip(
            *np.unique(groups.sizes, return_index=True, return_counts=True), strict=True
        ):
            start = int(groups.starts[first])
            fits = slice(int(first), int(first + count))
            self.runs.append((int(k), fits, slice(start, start + int(k * count))))
        self.unseen = _Unseen.of(self.batch, groups)
        self.done = np.zeros(len(self.families), dtype=bool)
        self.buffers: dict[tuple[str, int], FloatArray] = {}

    # ------------------------------------------------------------------ the two steps

    def step(self) -> None:
        """An M-step and an E-step of all."""
        with np.errstate(all="ignore"):  # of singular components, which are marked
            self._maximise()
            self._expect()

    def _maximise(self) -> None:
        batch, unseen, d = self.batch, self.unseen, self.batch.n_features
        self.counts = self.moments[:, 0].copy()
        moments = self.moments if unseen is None else self.moments + unseen.moments
        present = moments[:, 0].copy()
        self.means = moments[:, 1 : 1 + d] / present[:, None]
        outer = self.means[:, :, None] * self.means[:, None, :]
        scatter = unpacked(moments[:, 1 + d :], d) - present[:, None, None] * outer
        scatter += batch.ridge * present[:, None, None] * np.eye(d)
        sick = ~(present > EMPTY * batch.total_weight) | ~np.isfinite(scatter).all(axis=(1, 2))
        counts, weights = present, self.counts
        if unseen is not None:
            scatter += unseen.scatter
            counts = self.counts + unseen.counts
            weights = self.counts + unseen.weights
        scatter[sick], self.means[sick] = np.eye(d), 0.0
        counts[sick], weights[sick] = 1.0, 1.0
        self.weights = weights / self.groups.spread(self.groups.sum(weights))
        self.covariances = np.empty_like(scatter)
        steps = FIRST_STEPS if self.first else 1
        for family, _, place, groups in self.places:
            part = Scatter.of(scatter[place], counts[place], family, groups)
            stored, self.states[family] = update(family, part, self.states.get(family), steps)
            kind = FAMILIES[family]
            if kind == "tied":
                self.covariances[place] = groups.spread(stored)
            else:
                self.covariances[place] = expand(stored, kind, len(stored), d)
        self.first = False
        signs, self.log_determinants = np.linalg.slogdet(finite(self.covariances))
        sick |= ~((signs > 0) & np.isfinite(self.covariances).all(axis=(1, 2)))
        self.precisions = np.linalg.inv(
            finite(np.where(sick[:, None, None], np.nan, self.covariances))
        )
        relative = np.einsum("kij,ij->k", self.precisions, self.batch.covariance) / d
        sick |= ~((relative > 0) & (relative < 1 / NARROWEST))
        self.narrowness = np.where(sick, np.inf, relative)
        self.singular = self.groups.sum(sick.astype(np.float64)) > 0

    def _theta(self) -> tuple[FloatArray, FloatArray]:
        """Natural parameters of all components for powers of two, and each mixture's shift."""
        groups, d = self.groups, self.batch.n_features
        constants = log_weights(self.weights)
        constants -= 0.5 * self.log_determinants
        shifts = np.maximum.reduceat(constants, groups.starts)
        linear = (self.precisions @ self.means[:, :, None])[:, :, 0]
        theta = np.empty((len(constants), self.batch.size))
        theta[:, 0] = constants - groups.spread(shifts) - 0.5 * (linear * self.means).sum(axis=1)
        theta[:, 1 : 1 + d] = linear
        i, j, factors = packing(d)
        theta[:, 1 + d :] = factors * self.precisions[:, i, j]
        theta *= LOG2_E
        theta[groups.spread(self.singular)] = 0.0
        return theta, shifts - 0.5 * d * LOG_2PI

    def _expect(self) -> None:
        batch = self.batch
        theta, shifts = self._theta()
        n = batch.features.shape[1]
        length = max(64, BLOCK // len(theta))
        log_likelihoods = shifts * batch.total_weight
        moments = np.zeros_like(self.moments)
        for start in range(0, n, length):
            part = slice(start, min(start + length, n))
            weights = None if batch.weights is None else batch.weights[part]
            shares, logs = self._shares(theta, batch.features[:, part], weights)
            log_likelihoods += logs
            moments += shares @ batch.transposed[part]
        offset = batch.total_weight * batch.n_features * np.log(batch.scale)
        self.before = self.log_likelihoods
        self.log_likelihoods = np.where(self.singular, np.nan, log_likelihoods - offset)
        self.moments = moments
        self.seconds.append(time.perf_counter() - self.began)
        for trace, value in zip(self.traces, self.log_likelihoods.tolist(), strict=True):
            trace.append(value)

    def _buffer(self, name: str, rows: int, columns: int) -> FloatArray:
        """Room that is used again in each pass."""
        if (name, columns) not in self.buffers:
            self.buffers[name, columns] = np.empty((rows, columns))
        return self.buffers[name, columns]

    def _shares(
        self, theta: FloatArray, block: FloatArray, weights: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Weighted responsibilities ``(C, b)``, and Σ w log Σ_k 2^a of each fit."""
        groups, columns = self.groups, block.shape[1]
        shares = self._buffer("shares", len(theta), columns)
        totals = self._buffer("totals", len(groups.sizes), columns)
        np.matmul(theta, block, out=shares)
        np.maximum(shares, np.full(columns, LOWEST), out=shares)
        np.exp2(shares, out=shares)
        for k, fits, mine in self.runs:
            np.add.reduce(shares[mine].reshape(-1, k, columns), axis=1, out=totals[fits])
        extra = np.zeros(len(totals))
        for fit in np.flatnonzero(totals.min(axis=1) < 1e-250).tolist():
            mine = slice(groups.starts[fit], groups.starts[fit] + groups.sizes[fit])
            exponents = theta[mine] @ block
            top = exponents.max(axis=0)
            shares[mine] = np.exp2(np.maximum(exponents - top, LOWEST))
            totals[fit] = shares[mine].sum(axis=0)
            extra[fit] = LOG_2 * float(top.sum() if weights is None else top @ weights)
        logs = np.log(totals, out=self._buffer("logs", len(totals), columns))
        sums = logs.sum(axis=1) if weights is None else logs @ weights
        np.divide(1.0 if weights is None else weights, totals, out=totals)
        for k, fits, mine in self.runs:
            shares[mine].reshape(-1, k, columns)[...] *= totals[fits, None]
        return shares, sums + extra

    # ------------------------------------------------------------------ endings

    def finished(self, tol: float, last: bool) -> list[tuple[int, Outcome]]:
        """The fits that have just ended, with their positions."""
        met = np.abs(self.log_likelihoods - self.before) < tol
        ended = ~self.done & (met | self.singular | last)
        self.done |= ended
        return [
            (int(self.positions[i]), self._outcome(i, bool(met[i])))
            for i in np.flatnonzero(ended).tolist()
        ]

    def _outcome(self, i: int, converged: bool) -> Outcome:
        batch, start = self.batch, int(self.groups.starts[i])
        mine = slice(start, start + int(self.groups.sizes[i]))
        parameters = None
        if not self.singular[i]:
            parameters = (
                self.weights[mine],
                batch.mean + batch.scale * self.means[mine],
                batch.scale**2 * self.covariances[mine],
            )
        return Outcome(
            str(self.families[i]),
            float(self.log_likelihoods[i]),
            parameters,
            0.0 if self.singular[i] else float(self.counts[mine].min()),
            self.moments[mine].copy(),
            float(self.narrowness[mine].max()),
            converged,
            list(self.traces[i]),
            list(self.seconds),
        )

    def left(self) -> bool:
        """Whether any are left; if many have ended, the arrays are made shorter."""
        if self.done.mean() < 0.2:
            return True
        stay = ~self.done
        if not stay.any():
            return False
        components = self.groups.spread(stay)
        for family, fits, place, _ in self.places:
            state = self.states.get(family)
            if state is not None:
                self.states[family] = state[stay[fits] if state.ndim == 3 else components[place]]
        self.moments = self.moments[components]
        self.log_likelihoods = self.log_likelihoods[stay]
        self.positions, self.families = self.positions[stay], self.families[stay]
        self.traces = [self.traces[i] for i in np.flatnonzero(stay).tolist()]
        self._arrange(self.groups.sizes[stay].tolist())
        return True
