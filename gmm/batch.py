r"""EM for many mixtures on the same rows, all of them in one pass.

The features T(x) of :mod:`gmm.natural` are the same for every mixture. The natural parameters of
all components of all mixtures are the rows of one matrix Θ, and the E-step of all of them is one
product ΘT, sums over the components of each, and one product back (:prf:ref:`thm-two-products`).
The M-steps are done family by family (:func:`gmm.families.inverse_update`). A pass for a hundred
small mixtures costs little more than one for a large one; mixtures leave as they converge, or as
they fall behind others of their kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

from gmm.cached import cached_property
from gmm.checks import FloatArray, IntArray, SingularCovarianceError
from gmm.chunks import chunks, room_for, weighted_shares
from gmm.families import FAMILIES, Groups, Scatter, inverse_update
from gmm.m_step import EMPTY
from gmm.mixture import Mixture
from gmm.natural import LOG2_E, features, log_weights, packing, statistics_size, unpacked
from gmm.normal import LOG_2PI
from gmm.prior import Prior
from gmm.rows import Rows
from gmm.threads import one_blas_thread

__all__ = ["Batch", "Candidate", "Notes", "Outcome", "are_plausible", "most_rows"]

#: Numbers that a batch may hold.
LARGEST = 20_000_000
#: A component narrower than this part of the data, in variance and on average, has collapsed.
NARROWEST = 1e-12
#: Inner steps of the first M-step and of the others: each step raises the bound.
FIRST_STEPS = 10
#: A fit whose components are, on average, this many times narrower than the data in variance is
#: taken for one of the likelihood's spikes.
SPIKE = 1e4


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
class Notes:
    """Where in a batch's notes those of one candidate are: its column, as far as it went.

    Parameters
    ----------
    history : list of array
        The log-likelihoods of all candidates, iteration by iteration; NaN for those that were not
        running, or took a step back.
    length, position : int
    """

    history: list[FloatArray]
    length: int
    position: int

    def values(self) -> list[float]:
        """The log-likelihoods of the candidate."""
        column = [float(values[self.position]) for values in self.history[: self.length]]
        last = self.length - 1  # NaN, if the fit has ended there as singular
        return [value for i, value in enumerate(column) if i == last or not isnan(value)]


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a candidate ended.

    Parameters
    ----------
    family : str
    log_likelihood : float
        NaN if it became singular.
    objective : float
        The same and, with a prior, its log-density, but for a constant that all fits with as many
        components share.
    parameters : tuple of arrays, optional
        Weights ``(K,)``, means ``(K, d)`` and covariances ``(K, d, d)`` in units of the data; None
        if it became singular.
    smallest : float
        The least count N_k; zero if it became singular.
    moments : array (K, P)
        From these its next M-step would be made.
    theta : array (K, P)
        Its natural parameters, for powers of two; but for a constant that components share.
    narrowness : float
        The greatest mean inverse relative variance tr(S Σ_k⁻¹) / d, with S the covariance of the
        data: great for a component that has shrunk onto a few rows.
    plausible : bool
        Whether it may stand in a table (:func:`are_plausible`); with a prior, whether it is not
        singular.
    converged : bool
    notes : Notes, optional
        The log-likelihoods on the way.
    """

    family: str
    log_likelihood: float
    objective: float
    parameters: tuple[FloatArray, FloatArray, FloatArray] | None
    smallest: float
    moments: FloatArray
    theta: FloatArray
    narrowness: float
    plausible: bool
    converged: bool
    notes: Notes | None = None

    @property
    def trace(self) -> list[float]:
        """The log-likelihoods after each M-step that was not taken back."""
        return [] if self.notes is None else self.notes.values()

    @property
    def is_mixture(self) -> bool:
        """Whether the parameters are those of a mixture."""
        try:
            _ = self.mixture
        except SingularCovarianceError:
            return False
        return True

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


def are_plausible(
    families: Sequence[str], smallest: FloatArray, narrowness: FloatArray, n_features: int
) -> NDArray[np.bool_]:
    """Which fits may stand in a table: not singular, and not among the likelihood's spikes.

    A component needs as many rows as its own covariance has to have rank, and may not be
    narrower than the data by more than a hundred times in the mean (:eq:`eq-narrowness`).

    Parameters
    ----------
    families : sequence of str
    smallest : array
        The least count N_k of each fit.
    narrowness : array
        The greatest narrowness of each fit.
    n_features : int
    """
    own = {"VVV": n_features + 1, "EVV": n_features + 1}
    fewest = np.array([own.get(name, 2 if name[0] == "V" else 1) for name in families])
    plausible: NDArray[np.bool_] = (narrowness <= SPIKE) & (smallest >= fewest - 1e-6)
    return plausible


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
        self.scale = float(np.sqrt(rows.variances.mean())) or 1.0  # if all rows are equal
        self.ridge = ridge / self.scale**2
        self.total_weight = rows.total_weight
        self.weights = rows.weights
        self.covariance = rows.covariance / self.scale**2
        scaled = (np.asarray(rows.X, dtype=np.float64).T - self.mean[:, None]) / self.scale
        self.size = statistics_size("full", d)
        self.features = features(scaled, "full", np.empty((self.size, rows.n_rows)))  # (P, n)
        self.transposed = np.ascontiguousarray(self.features.T)  # (n, P)
        self.prior = prior

    def scaled(self, prior: Prior) -> Prior:
        """A prior of the rows, for the scaled rows."""
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

    def shares_of(self, outcome: Outcome) -> FloatArray:
        """The responsibilities of a fit of this batch for all rows, shape ``(K, n)``."""
        shares: FloatArray = outcome.theta @ self.features
        shares -= shares.max(axis=0)
        np.exp2(shares, out=shares)
        shares /= shares.sum(axis=0)
        return shares

    def run(
        self,
        candidates: Sequence[Candidate],
        tol: float,
        max_iter: int = 1000,
        *,
        race: Sequence[tuple[int, int]] = (),
        stride: float = 1.0,
    ) -> list[Outcome]:
        """Fit all candidates, each until its log-likelihood moves by less than ``tol`` a row.

        Parameters
        ----------
        candidates : sequence of Candidate
        tol : float
            In nats for a unit of weight (:eq:`eq-stop-mean`).
        max_iter : int
        race : sequence of (int, int)
            After so many iterations only so many candidates of the same family and number of
            components go on: those with the greatest objectives.
        stride : float
            With more than 1, each step is longer than the last by this factor, as long as the
            objective rises; else the plain step is taken instead, and lengths begin again.

        Returns
        -------
        list of Outcome
            In the order of the candidates, without those that have lost their race.
        """
        running = _Running(self, candidates, stride)
        cuts = dict(race)
        with one_blas_thread(), np.errstate(all="ignore"):  # singular components are marked
            for iteration in range(1, max_iter + 2):  # after the last, a step may be taken back
                running.step()
                running.end(tol * self.total_weight, last=iteration >= max_iter)
                if iteration in cuts:
                    running.cut(cuts[iteration])
                if not running.left():
                    break
        return [running.ended[i] for i in sorted(running.ended)]


@dataclass(frozen=True, eq=False)
class _Unseen:
    """What the priors of all components add to their moments, scatter, counts and weights.

    And the priors themselves, one for each component: their means, scales, packed like moments, and
    mean precisions.
    """

    moments: FloatArray
    scatter: FloatArray
    counts: FloatArray
    weights: FloatArray
    means: FloatArray
    mean_precisions: FloatArray

    @classmethod
    def of(cls, batch: Batch, sizes: IntArray) -> _Unseen | None:
        if batch.prior is None:
            return None
        of_one = {}  # a component, by the number of components of its mixture
        i, j, _ = packing(batch.n_features)
        for k in set(sizes.tolist()):
            prior = batch.scaled(batch.prior(k))
            centre = features(prior.mean[:, None], "full", np.empty((batch.size, 1)))[:, 0]
            of_one[k] = (
                prior.mean_precision * centre,
                prior.scale[i, j],
                prior.covariance_weight,
                prior.concentration - 1,
                prior.mean,
                prior.mean_precision,
            )
        parts = [of_one[k] for k in sizes.tolist() for _ in range(k)]
        return cls(*(np.array(values) for values in zip(*parts, strict=True)))

    def log_density(self, fits: _Running) -> FloatArray:
        """The logarithm of the prior (:eq:`eq-log-prior`) of each fit, but for a constant."""
        traces = fits.inner_products(self.scatter)
        step = fits.means - self.means
        distances = np.einsum("ki,kij,kj->k", step, fits.precisions, step)
        logs = -0.5 * (self.counts * fits.log_determinants + traces)
        logs -= 0.5 * self.mean_precisions * distances
        if self.weights.any():
            logs += self.weights * log_weights(fits.weights)
        return fits.groups.sum(logs)


class _Running:
    """The candidates that have not ended, as rows of shared arrays.

    For the M-steps they are ordered by family, then by their number of components; for the E-step,
    whose sums are over equally many components, by that number alone.
    """

    def __init__(self, batch: Batch, candidates: Sequence[Candidate], stride: float) -> None:
        self.batch = batch
        self.n_candidates = len(candidates)
        keys = [(candidate.family, len(candidate.moments)) for candidate in candidates]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self.positions = np.array(order)
        self.families = np.array([keys[i][0] for i in order])
        self.moments = np.concatenate([candidates[i].moments for i in order])
        cells = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        self.cells = np.array([cells[key] for key in keys])  # of all candidates, in their order
        self.reached = np.full(len(keys), -np.inf)
        self.log_likelihoods = self.before = np.full(len(keys), -np.inf)
        self.stride = stride
        self.lengths = np.ones(len(keys))
        self.heights = np.full(len(keys), -np.inf)
        self.expected = self.moments
        self.states: dict[str, FloatArray | None] = {}
        self.history: list[FloatArray] = []
        self.ended: dict[int, Outcome] = {}
        self._arrange(np.array([keys[i][1] for i in order]))

    def _arrange(self, sizes: IntArray) -> None:
        """Where the components of each family are, and the fits with equally many components."""
        self.groups = groups = Groups(sizes.tolist())
        self.places: list[tuple[str, slice, slice, Groups]] = []
        names, firsts, counts = np.unique(self.families, return_index=True, return_counts=True)
        for family, first, count in zip(names.tolist(), firsts, counts, strict=True):
            fits = slice(int(first), int(first + count))
            start = int(groups.starts[first])
            mine = Groups(sizes[fits].tolist())
            self.places.append((family, fits, slice(start, start + len(mine.index)), mine))
        self.unseen = _Unseen.of(self.batch, sizes)
        self.done = np.zeros(len(sizes), dtype=bool)
        self.taken = ~self.done
        by_size = np.argsort(sizes, kind="stable")
        self.rank = np.argsort(by_size)  # where a fit is in the order of the E-step
        self.to_sweep = np.argsort(self.rank[groups.index], kind="stable")
        self.from_sweep = np.argsort(self.to_sweep)
        self.chunks = list(chunks(sizes[by_size], self.batch.features.shape[1]))
        self.room = room_for(self.chunks)

    # ------------------------------------------------------------------ the two steps

    def step(self) -> None:
        """An M-step and an E-step of all."""
        states = dict(self.states)
        self._maximise()
        log_likelihoods, expected = self._expect()
        if self.stride == 1:
            self.before, self.log_likelihoods = self.log_likelihoods, log_likelihoods
            self.moments = self.expected = expected
        else:
            self._lengthen(log_likelihoods, expected, states)
        values = np.full(self.n_candidates, np.nan)
        values[self.positions[self.taken]] = self.log_likelihoods[self.taken]
        self.history.append(values)

    def _lengthen(
        self,
        log_likelihoods: FloatArray,
        expected: FloatArray,
        states: dict[str, FloatArray | None],
    ) -> None:
        """Go on along the step just made; where it has gone too far, make the plain one instead."""
        heights = self.objectives(log_likelihoods)
        self.taken = (self.lengths == 1) | (heights >= self.heights)
        self.lengths = np.where(self.taken, self.stride * self.lengths, 1.0)
        self.heights = np.where(self.taken, heights, self.heights)
        self.before = np.where(self.taken, self.log_likelihoods, self.before)
        self.log_likelihoods = np.where(self.taken, log_likelihoods, self.log_likelihoods)
        self.singular &= self.taken
        taken = self.groups.spread(self.taken)
        self.expected = np.where(taken[:, None], expected, self.expected)
        lengths = np.where(taken, self.groups.spread(self.lengths), 0.0)[:, None]
        far = self.moments + lengths * (expected - self.moments)
        self.moments = np.where(taken[:, None], far, self.expected)
        if not self.taken.all():
            self._take_back(states, taken)

    def _take_back(self, states: dict[str, FloatArray | None], taken: NDArray[np.bool_]) -> None:
        """The inner iterations go on from where they were."""
        for family, fits, mine, _ in self.places:
            state, before = self.states[family], states.get(family)
            if state is not None and before is not None:
                kept = self.taken[fits, None, None] if state.ndim == 3 else taken[mine]
                self.states[family] = np.where(kept, state, before)

    def _maximise(self) -> None:
        batch, unseen, d = self.batch, self.unseen, self.batch.n_features
        i, j, _ = packing(d)
        self.counts = self.moments[:, 0]
        moments = self.moments if unseen is None else self.moments + unseen.moments
        counts = moments[:, 0]
        means = moments[:, 1 : 1 + d] / counts[:, None]
        products = means.take(i, axis=1) * means.take(j, axis=1)
        scatter = moments[:, 1 + d :] - counts[:, None] * products
        if batch.ridge:
            scatter += batch.ridge * counts[:, None] * (i == j)
        sick = ~((counts > EMPTY * batch.total_weight) & np.isfinite(scatter.sum(axis=1)))
        weights = self.counts
        if unseen is not None:
            scatter += unseen.scatter
            counts, weights = self.counts + unseen.counts, self.counts + unseen.weights
        if sick.any():
            scatter[sick], means[sick] = i == j, 0.0
            counts, weights = np.where(sick, 1.0, counts), np.where(sick, 1.0, weights)
        self.means = means
        self.weights = weights / self.groups.spread(self.groups.sum(weights))
        self._invert(scatter, counts)
        self._theta(sick)

    def _invert(self, scatter: FloatArray, counts: FloatArray) -> None:
        """Precisions and log-determinants, family by family, from packed scatter matrices."""
        d = self.batch.n_features
        i, j, _ = packing(d)
        diagonal, axis = np.flatnonzero(i == j), np.arange(d)
        self.precisions = np.zeros((len(scatter), d, d))
        self.log_determinants = np.empty(len(scatter))
        for family, _, mine, groups in self.places:
            kind, part = FAMILIES[family], scatter[mine]
            if kind == "full":
                part = unpacked(part, d)
            elif kind == "tied":
                part = unpacked(groups.sum(part), d)
            else:
                part = part.take(diagonal, axis=1)
            if kind == "spherical":
                part = part.sum(axis=1)
            inverses, self.log_determinants[mine], self.states[family] = inverse_update(
                family,
                Scatter(part, counts[mine], d, groups),
                self.states.get(family),
                1 if family in self.states else FIRST_STEPS,
            )
            if kind == "full":
                self.precisions[mine] = inverses
            elif kind == "tied":
                self.precisions[mine] = groups.spread(inverses)
            else:
                self.precisions[mine, axis, axis] = inverses.reshape(len(part), -1)

    def _theta(self, sick: NDArray[np.bool_]) -> None:
        """Natural parameters of all components for powers of two, and which fits are singular."""
        batch, d = self.batch, self.batch.n_features
        i, j, factors = packing(d)
        packed = self.precisions[:, i, j]
        packed *= factors
        narrowness = packed @ (-2.0 / d * batch.covariance[i, j])
        narrow = (narrowness >= 0) & (narrowness < 1 / NARROWEST)  # zero for equal rows
        sick |= ~(narrow & np.isfinite(self.log_determinants))
        self.narrowness = np.where(sick, np.inf, narrowness)
        constants = log_weights(self.weights)
        constants -= 0.5 * self.log_determinants
        self.shifts = np.maximum.reduceat(constants, self.groups.starts)
        constants -= self.groups.spread(self.shifts)
        linear = np.einsum("kij,kj->ki", self.precisions, self.means)
        constants -= 0.5 * np.einsum("ki,ki->k", linear, self.means)
        self.theta = np.concatenate([constants[:, None], linear, packed], axis=1)
        self.theta *= LOG2_E
        self.singular = np.zeros(len(self.families), dtype=bool)
        if sick.any():
            self.singular = self.groups.sum(sick.astype(np.float64)) > 0
            self.theta[self.groups.spread(self.singular)] = 0.0

    def _expect(self) -> tuple[FloatArray, FloatArray]:
        """The log-likelihoods of all fits, and the moments of all components."""
        batch = self.batch
        theta = self.theta.take(self.to_sweep, axis=0)
        log_likelihoods = np.zeros(len(self.families))
        moments = np.zeros_like(theta)
        for part, mine, fits, runs in self.chunks:
            weights = None if batch.weights is None else batch.weights[part]
            block = batch.features[:, part]
            shares, logs = weighted_shares(theta[mine], block, weights, runs, self.room)
            log_likelihoods[fits] += logs
            moments[mine] += shares @ batch.transposed[part]
        constant = 0.5 * LOG_2PI + np.log(batch.scale)
        total = log_likelihoods.take(self.rank)
        total += batch.total_weight * (self.shifts - batch.n_features * constant)
        total[self.singular] = np.nan
        return total, moments.take(self.from_sweep, axis=0)

    def objectives(self, log_likelihoods: FloatArray) -> FloatArray:
        """The log-likelihoods, and the log-densities of a prior."""
        if self.unseen is None:
            return log_likelihoods
        return log_likelihoods + self.unseen.log_density(self)

    def inner_products(self, packed: FloatArray) -> FloatArray:
        """tr(A P_k) for packed matrices A of all components, shape ``(C,)``."""
        i, j, factors = packing(self.batch.n_features)
        products: FloatArray = (-2.0 * factors * self.precisions[:, i, j] * packed).sum(axis=1)
        return products

    # ------------------------------------------------------------------ endings

    def end(self, tol: float, last: bool) -> None:
        """Note the fits that have just ended."""
        met = np.abs(self.log_likelihoods - self.before) < tol
        ended = ~self.done & self.taken & (met | self.singular | last)
        if not ended.any():
            return
        self.done |= ended
        objectives, plausible = self.objectives(self.log_likelihoods), self._plausible()
        self.reached[self.positions[ended]] = np.where(plausible, objectives, -np.inf)[ended]
        for i in np.flatnonzero(ended).tolist():
            facts = float(objectives[i]), bool(plausible[i]), bool(met[i])
            self.ended[int(self.positions[i])] = self._outcome(i, *facts)

    def cut(self, survivors: int) -> None:
        """Drop those that are not among the best of their family and number of components."""
        standing = np.where(self._plausible(), self.objectives(self.log_likelihoods), -np.inf)
        standing = np.where(self.taken, standing, self.heights)
        self.reached[self.positions] = np.where(self.done, self.reached[self.positions], standing)
        order = np.lexsort((-self.reached, self.cells))
        _, first, place = np.unique(self.cells[order], return_index=True, return_inverse=True)
        lost = np.empty(self.n_candidates, dtype=bool)
        lost[order] = np.arange(self.n_candidates) - first[place] >= survivors
        lost |= self.reached == -np.inf
        self.done |= lost[self.positions]

    def _plausible(self) -> NDArray[np.bool_]:
        if self.unseen is not None:
            return ~self.singular
        smallest = np.minimum.reduceat(self.counts, self.groups.starts)
        narrowness = np.maximum.reduceat(self.narrowness, self.groups.starts)
        return are_plausible(self.families.tolist(), smallest, narrowness, self.batch.n_features)

    def _outcome(self, i: int, objective: float, plausible: bool, converged: bool) -> Outcome:
        start = int(self.groups.starts[i])
        mine = slice(start, start + int(self.groups.sizes[i]))
        parameters = None if self.singular[i] else self._parameters(mine)
        return Outcome(
            str(self.families[i]),
            float(self.log_likelihoods[i]),
            objective,
            parameters,
            0.0 if parameters is None else float(self.counts[mine].min()),
            self.expected[mine],
            self.theta[mine],
            float(self.narrowness[mine].max()),
            plausible and parameters is not None,
            converged,
            Notes(self.history, len(self.history), int(self.positions[i])),
        )

    def _parameters(self, mine: slice) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """The parameters of a fit in the units of the data; None if a covariance is singular."""
        try:
            inverses = np.asarray(np.linalg.inv(self.precisions[mine]), dtype=np.float64)
        except np.linalg.LinAlgError:
            return None
        covariances = 0.5 * (inverses + np.swapaxes(inverses, 1, 2))
        batch = self.batch
        return (
            self.weights[mine],
            batch.mean + batch.scale * self.means[mine],
            batch.scale**2 * covariances,
        )

    def left(self) -> bool:
        """Whether any are left; if many have ended, the arrays are made shorter."""
        if self.done.mean() < 0.2:
            return True
        stay = ~self.done
        if not stay.any():
            return False
        components = self.groups.spread(stay)
        for family, fits, mine, _ in self.places:
            state = self.states.get(family)
            if state is not None:
                self.states[family] = state[stay[fits] if state.ndim == 3 else components[mine]]
        self.moments, self.expected = self.moments[components], self.expected[components]
        self.log_likelihoods, self.before = self.log_likelihoods[stay], self.before[stay]
        self.lengths, self.heights = self.lengths[stay], self.heights[stay]
        self.positions, self.families = self.positions[stay], self.families[stay]
        self._arrange(self.groups.sizes[stay])
        return True
