r"""Acceleration of EM: larger steps along the directions in which EM creeps.

Near a maximum the EM map :math:`M` is almost linear, and its errors shrink by the eigenvalues of
the missing-information fraction. :class:`Squarem` and :class:`Anderson` look at a few iterates and
their images and propose where the sequence is heading. :class:`QuasiNewton` uses that each pass
gives a gradient besides (:prf:ref:`thm-natural-gradient`), and learns the curvature from it. All
proposals are only ever *candidates*: one is taken if it is feasible and its log-likelihood is at
least the present one, and an EM step otherwise, so that the likelihood still never falls
(:prf:ref:`thm-safeguard`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from gmm.checks import EPS, FloatArray, SingularCovarianceError
from gmm.m_step import SMALLEST_WEIGHT
from gmm.mixture import Mixture
from gmm.normal import inverse_cholesky, log_determinant
from gmm.statistics import Statistics

__all__ = [
    "ACCELERATIONS",
    "Accelerator",
    "Anderson",
    "Ascent",
    "Extrapolation",
    "HandOver",
    "LimitedMemory",
    "NaturalPoint",
    "PlainEM",
    "QuasiNewton",
    "Squarem",
    "State",
    "Steps",
    "WhenSlow",
    "ascent",
]

#: The names of the accelerations.
ACCELERATIONS = ("none", "auto", "squarem", "lbfgs", "anderson")


#: The families whose labelled rows are an exponential family, without constraints.
NATURAL = ("VVV", "EEE", "VVI", "VII", "V")

#: One step in so many is an EM step, whatever else is proposed.
SPACING = 10

#: Multiplications in a pass from which it takes longer than what L-BFGS does between two passes.
DEAR = 300_000


# ---------------------------------------------------------------- extrapolation of vectors


class Accelerator(Protocol):
    """Proposes a next point from the present one and its image under the EM map."""

    def propose(self, point: FloatArray, image: FloatArray, gain: float) -> FloatArray | None:
        """A candidate for the next point, or None for the image itself.

        Parameters
        ----------
        point, image : array
            The present parameters as a vector, and what an EM step makes of them.
        gain : float
            What the last step has added to the log-likelihood.
        """

    def rejected(self) -> None:
        """Take note that the last candidate was infeasible or lowered the likelihood."""


class Squarem:
    """SQUAREM: two EM steps, then a step of the length that squares their extrapolation.

    Notes
    -----
    With r the first of two EM steps and v the change from the first to the second, the candidate is
    θ + 2 α r + α² v for α = ‖r‖ / ‖v‖ (:eq:`eq-squarem`), the scheme S3 of Varadhan and Roland
    (2008). With α = 1 it is the second EM step. The bound on α is 1 at first; it grows fourfold
    whenever it has been in force, unless that candidate fails: then it shrinks to a quarter. An EM
    step follows each candidate, to settle what the extrapolation has stirred up.
    """

    def __init__(self) -> None:
        self.longest = 1.0
        self.first: tuple[FloatArray, FloatArray] | None = None
        self.settling = False
        self.bounded = False

    def propose(self, point: FloatArray, image: FloatArray, gain: float) -> FloatArray | None:
        """See :class:`Accelerator`."""
        if self.settling:
            self.settling = False
            return None
        if self.first is None:
            self.first = point, image - point
            return None
        origin, r = self.first
        v = (image - point) - r
        squared = float(v @ v)
        alpha = float(np.sqrt(r @ r / squared)) if squared > 0 else 1.0
        self.first = None
        self.settling = True
        self.bounded = alpha >= self.longest
        if self.bounded:
            alpha = self.longest
            self.longest *= 4.0
        return origin + 2.0 * alpha * r + alpha**2 * v if alpha > 1.0 else None

    def rejected(self) -> None:
        """See :class:`Accelerator`."""
        if self.bounded:
            self.longest = max(1.0, self.longest / 16.0)


class Anderson:
    """Damped Anderson acceleration of the EM map, with a memory of a few steps.

    Parameters
    ----------
    memory : int
        How many differences of iterates are combined.

    Notes
    -----
    The candidate is the image less the combination of past changes that fits the present EM step
    best (:eq:`eq-anderson`), with a ridge that keeps the combination short while the map is not yet
    linear; the damping grows with each rejection and fades with success (Henderson and Varadhan
    2019). One step in ten is an EM step, so that :prf:ref:`thm-safeguard` speaks of limits too.
    """

    def __init__(self, memory: int = 5) -> None:
        self.memory = memory
        self.points: list[FloatArray] = []
        self.steps: list[FloatArray] = []
        self.damping = 1e-4
        self.since = 0

    def propose(self, point: FloatArray, image: FloatArray, gain: float) -> FloatArray | None:
        """See :class:`Accelerator`."""
        self.points.append(point)
        self.steps.append(image - point)
        del self.points[: -self.memory - 1], self.steps[: -self.memory - 1]
        self.since += 1
        if len(self.points) < 2 or self.since == SPACING:
            self.since = 0
            return None
        d_points = np.diff(self.points, axis=0)  # (m, p)
        d_steps = np.diff(self.steps, axis=0)
        gram = d_steps @ d_steps.T
        ridge = self.damping * float(np.trace(gram)) + 1e-300
        gamma = np.linalg.solve(gram + ridge * np.eye(len(gram)), d_steps @ self.steps[-1])
        self.damping = max(1e-12, self.damping / 4.0)
        candidate: FloatArray = image - gamma @ (d_points + d_steps)
        return candidate

    def rejected(self) -> None:
        """See :class:`Accelerator`."""
        self.points, self.steps = self.points[-1:], self.steps[-1:]
        self.damping = min(1.0, 64.0 * self.damping)


class WhenSlow:
    """Leaves EM alone until its gains shrink slowly, then hands over to an accelerator.

    Parameters
    ----------
    helper : Accelerator
    rate : float
        The ratio of two successive gains from which EM counts as slow.
    """

    def __init__(self, helper: Accelerator, rate: float = 0.6) -> None:
        self.helper = helper
        self.rate = rate
        self.last_gain = np.inf
        self.slow = False

    def propose(self, point: FloatArray, image: FloatArray, gain: float) -> FloatArray | None:
        """See :class:`Accelerator`."""
        if self.slow:
            return self.helper.propose(point, image, gain)
        self.slow = gain > self.rate * self.last_gain
        self.last_gain = gain
        return None

    def rejected(self) -> None:
        """See :class:`Accelerator`."""
        self.helper.rejected()


# ---------------------------------------------------------------- ways up


class State(NamedTuple):
    """A point of a fit: parameters, their expected statistics, what the fit maximises.

    The objective is the log-likelihood, or with a prior its sum with the log-prior.
    """

    parameters: Any
    statistics: Any
    objective: float


class Steps(Protocol):
    """The two steps of EM, in whatever form they take parameters and statistics."""

    sweep: Any
    narrowest: Any

    def expect(self, parameters: Any) -> tuple[Any, float]:
        """The E-step."""

    def maximise(self, statistics: Any) -> Any:
        """The M-step."""

    def vector(self, parameters: Any) -> FloatArray:
        """The parameters as a vector."""

    def from_vector(self, vector: FloatArray, like: Any) -> Any:
        """The parameters of a vector; None if there are none."""

    def mixture(self, parameters: Any) -> Mixture:
        """The parameters as a mixture."""

    def load(self, mixture: Mixture) -> Any:
        """The parameters of a mixture."""

    def statistics(self, statistics: Any, log_likelihood: float) -> Statistics:
        """The statistics as one value."""


class Ascent(Protocol):
    """A way from one state of a fit to the next, which is not lower."""

    def advance(self, steps: Steps, state: State, gain: float) -> tuple[State, int, bool]:
        """The next state, the passes that it took, and whether it is an EM step.

        Parameters
        ----------
        steps : Steps
        state : State
        gain : float
            What the last step has added to the log-likelihood.
        """


def em_step(steps: Steps, state: State) -> State:
    """The state after an EM step: one pass."""
    parameters = steps.maximise(state.statistics)
    return State(parameters, *steps.expect(parameters))


def safeguarded(steps: Steps, state: State, candidate: Any) -> State | None:
    """The state at a candidate if it is not lower (:prf:ref:`thm-safeguard`): one pass."""
    reached = State(candidate, *steps.expect(candidate))
    return reached if reached.objective >= state.objective else None


class PlainEM:
    """EM itself."""

    def advance(self, steps: Steps, state: State, gain: float) -> tuple[State, int, bool]:
        """See :class:`Ascent`."""
        return em_step(steps, state), 1, True


class Extrapolation:
    """EM whose steps an accelerator of vectors may lengthen.

    Parameters
    ----------
    helper : Accelerator
    """

    def __init__(self, helper: Accelerator) -> None:
        self.helper = helper

    def advance(self, steps: Steps, state: State, gain: float) -> tuple[State, int, bool]:
        """See :class:`Ascent`."""
        image = steps.maximise(state.statistics)
        vector, passes = None, 0
        with np.errstate(over="ignore", invalid="ignore"):  # where units are worlds apart
            ends = steps.vector(state.parameters), steps.vector(image)
            if all(np.isfinite(end @ end) for end in ends):
                vector = self.helper.propose(*ends, gain)
        if vector is not None:
            candidate = steps.from_vector(vector, image)
            if candidate is not None:
                passes = 1
                reached = safeguarded(steps, state, candidate)
                if reached is not None:
                    return reached, passes, False
            self.helper.rejected()
        return State(image, *steps.expect(image)), passes + 1, True


# ---------------------------------------------------------------- L-BFGS in natural parameters


class NaturalPoint:
    r"""A mixture in the natural parameters of labelled rows, and the gradient there.

    Parameters
    ----------
    mixture : Mixture
    statistics : Statistics
        Its expected statistics.
    centre : array (d,)
        About which rows and means are taken.

    Attributes
    ----------
    vector : array (p,)
        :math:`\boldsymbol\eta` of :eq:`eq-complete-family`: a constant, a linear and a quadratic
        part for each component; one quadratic part for all of a tied family.
    gradient : array (p,)
        That of the log-likelihood (:prf:ref:`thm-natural-gradient`): the expected statistics of
        the pass, less those that rows of the mixture itself would have.
    """

    def __init__(self, mixture: Mixture, statistics: Statistics, centre: FloatArray) -> None:
        self.mixture = mixture
        self.weight = statistics.total_weight
        self.centres = np.broadcast_to(centre, mixture.means.shape)
        self.offsets = mixture.means - centre
        self.matrices = mixture.kind in ("full", "tied")
        whiteners = mixture.whiteners
        self.precisions = (
            np.matmul(np.swapaxes(whiteners, -1, -2), whiteners) if self.matrices else whiteners**2
        )
        linear = self._times(self.precisions, self.offsets)
        constant = np.log(mixture.weights) - 0.5 * (
            mixture.log_determinants + np.einsum("ki,ki->k", linear, self.offsets)
        )
        self.vector = _joined(constant, linear, -0.5 * self.precisions)
        seen, expected = statistics.shifted(self.centres), self._expected()
        self.gradient = _joined(
            seen.counts - expected.counts,
            seen.first - expected.first,
            seen.second - expected.second,
        )

    def _expected(self) -> Statistics:
        """The expected statistics of as many rows of the mixture itself."""
        mixture = self.mixture
        counts = self.weight * mixture.weights
        if mixture.kind == "tied":
            second = self.weight * mixture.stored
        else:
            second = self._each(counts) * mixture.stored * self._traced
        zero = np.zeros_like(mixture.means)
        return Statistics(mixture.kind, mixture.means, counts, zero, second, 0.0, 0).shifted(
            self.centres
        )

    @property
    def _traced(self) -> int:
        """How many variances a second moment of this kind adds up."""
        return self.mixture.n_features if self.mixture.kind == "spherical" else 1

    def _each(self, values: FloatArray) -> FloatArray:
        """One number for each component, in a shape that multiplies its covariance."""
        return values.reshape(-1, *[1] * (self.mixture.stored.ndim - 1))

    def _times(self, precisions: FloatArray, vectors: FloatArray) -> FloatArray:
        """Precisions, or changes of them, times one vector for each component."""
        if self.matrices:
            product: FloatArray = np.matmul(precisions, vectors[:, :, None])[:, :, 0]
            return product
        return precisions.reshape(len(precisions), -1) * vectors

    def precondition(self, dual: FloatArray) -> FloatArray:
        r"""The inverse of the complete-data information, times a vector of statistics.

        Notes
        -----
        :math:`\boldsymbol I_c^{-1}\boldsymbol q` is the change of the natural parameters that a
        change :math:`\boldsymbol q / W` of the mean statistics brings about
        (:eq:`eq-natural-preconditioner`): an M-step to first order. Statistics about the
        components' own means keep it short.
        """
        mixture, precisions = self.mixture, self.precisions
        counts, first, second = self._split(dual)
        change = Statistics(mixture.kind, self.centres, counts, first, second, 0.0, 0).shifted(
            mixture.means
        )
        shares = self.weight * mixture.weights
        means = change.first / shares[:, None]
        if mixture.kind == "tied":
            covariances = (change.second - counts.sum() * mixture.stored) / self.weight
        else:
            excess = change.second / self._traced - self._each(counts) * mixture.stored
            covariances = excess / self._each(shares)
        if self.matrices:
            turned = np.matmul(precisions, covariances)
            narrower = -np.matmul(turned, precisions)
            growth = np.trace(turned, axis1=-2, axis2=-1)
        else:
            narrower = -(precisions**2) * covariances
            growth = self._traced * (precisions * covariances).reshape(len(shares), -1).sum(axis=1)
        turn, shift = self._times(narrower, self.offsets), self._times(precisions, means)
        constant = counts / shares - 0.5 * growth
        constant -= np.einsum("ki,ki->k", 0.5 * turn + shift, self.offsets)
        return _joined(constant, turn + shift, -0.5 * narrower)

    def moved(self, step: FloatArray) -> Mixture | None:
        """The mixture whose natural parameters are these plus a step; None if there is none."""
        constant, linear, quadratic = self._split(self.vector + step)
        precisions = -2.0 * quadratic
        try:
            if self.matrices:
                inverses = inverse_cholesky(precisions)
                covariances = np.matmul(np.swapaxes(inverses, -1, -2), inverses)
                logs = -log_determinant(inverses)
            elif precisions.min() > 0:
                covariances = 1.0 / precisions
                logs = self._traced * np.log(precisions).reshape(len(constant), -1).sum(axis=1)
            else:
                return None
            offsets = self._times(covariances, linear)
            constant = constant + 0.5 * (np.einsum("ki,ki->k", linear, offsets) - logs)
            weights = np.exp(constant - constant.max())
            weights /= weights.sum()
            if not weights.min() > SMALLEST_WEIGHT:
                return None
            means = offsets + self.centres
            return Mixture.from_stored(weights, means, covariances, self.mixture.family)
        except SingularCovarianceError:
            return None

    def _split(self, vector: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        k, d = self.offsets.shape
        constant, linear, quadratic = np.split(vector, [k, k + k * d])
        return constant, linear.reshape(k, d), quadratic.reshape(self.mixture.stored.shape)


def _joined(constant: FloatArray, linear: FloatArray, quadratic: FloatArray) -> FloatArray:
    return np.concatenate([constant, linear.ravel(), quadratic.ravel()])


class LimitedMemory:
    """The inverse curvature of a function that is to be maximised, from its last few gradients.

    Parameters
    ----------
    length : int
        How many changes are remembered.
    """

    def __init__(self, length: int = 10) -> None:
        self.changes: deque[tuple[FloatArray, FloatArray, float]] = deque(maxlen=length)
        self.last: tuple[FloatArray, FloatArray] | None = None

    def note(self, point: FloatArray, gradient: FloatArray) -> bool:
        """Learn from the change since the last point; whether the function is concave along it.

        Where it is not, what has been learnt is of no use, and is forgotten.
        """
        last, self.last = self.last, (point, gradient)
        if last is None:
            return True
        s, y = point - last[0], last[1] - gradient
        curvature = float(s @ y)
        with np.errstate(over="ignore"):  # where units are worlds apart nothing is learnt
            lengths = float(np.sqrt(s @ s) * np.sqrt(y @ y))
        if curvature < 0:
            self.changes.clear()
        elif curvature > 1e-10 * lengths:
            self.changes.append((s, y, curvature))
        return curvature >= 0

    def clear(self) -> None:
        """Forget all changes."""
        self.changes.clear()

    def direction(
        self, gradient: FloatArray, precondition: Callable[[FloatArray], FloatArray]
    ) -> FloatArray:
        """The quasi-Newton direction (:eq:`eq-lbfgs`), by the two loops of Nocedal (1980)."""
        q = gradient
        parts = []
        for s, y, curvature in reversed(self.changes):
            part = float(s @ q) / curvature
            parts.append(part)
            q = q - part * y
        direction = precondition(q)
        for (s, y, curvature), part in zip(self.changes, reversed(parts), strict=True):
            direction = direction + (part - float(y @ direction) / curvature) * s
        return direction


class QuasiNewton:
    """L-BFGS in natural parameters, with the information of complete data as preconditioner.

    Notes
    -----
    A step that fails is shortened a few times, then an EM step is made instead. Where the
    log-likelihood is convex along the last step, on the way up from a plateau, the steps are
    preconditioned gradients that become longer and longer.
    """

    #: Parts of a step that are tried.
    PARTS = (1.0, 0.25, 0.05)

    def __init__(self) -> None:
        self.memory = LimitedMemory()
        self.length = 1.0
        self.since = 0

    def advance(self, steps: Steps, state: State, gain: float) -> tuple[State, int, bool]:
        """See :class:`Ascent`."""
        statistics = steps.statistics(state.statistics, state.objective)
        here = NaturalPoint(steps.mixture(state.parameters), statistics, steps.sweep.centre)
        concave = self.memory.note(here.vector, here.gradient)
        self.length = 1.0 if concave else min(4.0 * self.length, 1e4)
        direction = self.memory.direction(here.gradient, here.precondition)
        promise = float(here.gradient @ direction)  # what the step would gain, to first order
        passes = 0
        self.since += 1
        if self.since < SPACING and promise > 8 * EPS * abs(state.objective):
            for part in self.PARTS:
                mixture = here.moved(part * self.length * direction)
                if mixture is None or (mixture.variances < steps.narrowest).any():
                    continue
                passes += 1
                reached = safeguarded(steps, state, steps.load(mixture))
                if reached is not None:
                    return reached, passes, False
            self.memory.clear()
            self.length = 1.0
        self.since = 0
        return em_step(steps, state), passes + 1, True


class HandOver:
    """One way up while steps gain much, and another from then on.

    Parameters
    ----------
    early, late : Ascent
    enough : float
        In nats: the late way begins when three steps together gain less than three times this.
    """

    #: Steps that the early way makes at least.
    FIRST = 9

    def __init__(self, early: Ascent, late: Ascent, enough: float) -> None:
        self.early = early
        self.late = late
        self.enough = enough
        self.gains: list[float] = []

    def advance(self, steps: Steps, state: State, gain: float) -> tuple[State, int, bool]:
        """See :class:`Ascent`."""
        if len(self.gains) < self.FIRST or sum(self.gains[-3:]) >= 3 * self.enough:
            self.gains.append(gain)
            return self.early.advance(steps, state, gain)
        return self.late.advance(steps, state, gain)


def ascent(
    name: str, total_weight: float = 1.0, work: float = np.inf, *, exact: bool = True
) -> Ascent:
    """A new way up of this name.

    Parameters
    ----------
    name : {"none", "auto", "squarem", "lbfgs", "anderson"}
        "lbfgs" is SQUAREM until its steps gain less than 1e-4 nats per unit of weight, and L-BFGS
        from then on. "auto" begins when EM is seen to be slow; it is the same where a pass is dear,
        and SQUAREM alone where it is cheap. "anderson" too begins when EM is seen to be slow.
    total_weight : float
        Of the rows.
    work : float
        Multiplications in a pass.
    exact : bool
        Whether the family is one of ``NATURAL`` and there is no ridge. Otherwise SQUAREM takes
        the place of L-BFGS: with a ridge, EM does not follow the gradient of the likelihood.
    """
    if name == "none":
        return PlainEM()
    if name == "anderson":
        return Extrapolation(WhenSlow(Anderson()))
    squarem = Extrapolation(WhenSlow(Squarem()) if name == "auto" else Squarem())
    if not exact or name == "squarem" or (name == "auto" and work < DEAR):
        return squarem
    return HandOver(squarem, QuasiNewton(), 1e-4 * total_weight)
