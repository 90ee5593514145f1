"""One run of EM from one start (:prf:ref:`alg-em`): the loop, its trace, and what ends it.

What changes while a fit goes on is a :class:`Course`; all it works on are values.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from copy import copy
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import numpy as np

from gmm.checkpoint import (
    Checkpoint,
    checked_kept,
    checked_mixture,
    checked_numbers,
    inner_state,
    set_inner_state,
)
from gmm.checks import (
    EPS,
    EmptyComponentError,
    SingularCovarianceError,
    as_choice,
    as_count,
    read_only,
)
from gmm.convergence import NATURAL, Ascent, PlainEM, State, ascent
from gmm.families import FAMILIES
from gmm.mixture import Mixture
from gmm.natural import statistics_size
from gmm.prior import Prior
from gmm.progress import Bar
from gmm.result import Progress, Run, Trace
from gmm.rows import Source
from gmm.stopping import StoppingRule

__all__ = ["Course", "Kept", "Outcome", "Problem", "run"]

LOGGER = logging.getLogger(__name__)


class Kept:
    """Which iterations the trace keeps.

    Parameters
    ----------
    every : int
        Every so many, and the last; 0 for none.
    chosen : collection of int
        Or these.
    """

    def __init__(self, every: int = 0, chosen: Collection[int] = ()) -> None:
        self.every = every
        self.chosen = chosen

    @classmethod
    def of(cls, keep: int | str | Iterable[int]) -> Kept:
        """From what a user says: "all", a number, or the iterations."""
        if isinstance(keep, str):
            as_choice(keep, "keep", ("all",))
            return cls(every=1)
        if isinstance(keep, Iterable):
            return cls(chosen={as_count(i, "keep", minimum=0) for i in keep})
        return cls(every=as_count(keep, "keep"))

    @property
    def any(self) -> bool:
        """Whether any iteration is kept."""
        return bool(self.chosen) or self.every > 0

    @property
    def last(self) -> bool:
        """Whether the last iteration is kept, whatever its number."""
        return self.every > 0

    def __call__(self, iteration: int) -> bool:
        """Whether this iteration is kept."""
        return iteration in self.chosen or (self.every > 0 and iteration % self.every == 0)


@dataclass(frozen=True, eq=False)
class Problem:
    """What all runs of a fit have in common.

    Parameters
    ----------
    rows : Source
    n_components : int
    family : str
    ridge : float
    prior : Prior or None
    rule : StoppingRule
        As it is before a run.
    max_iter : int
    kept : Kept
    accelerate : str
        One of :data:`gmm.convergence.ACCELERATIONS`.
    callback : callable or None
    steps : Steps
        The two steps of EM (:func:`gmm.steps.steps_for`).
    bar : Bar
    checkpoint : Checkpoint or None
    """

    rows: Source
    n_components: int
    family: str
    ridge: float
    prior: Prior | None
    rule: StoppingRule
    max_iter: int
    kept: Kept
    accelerate: str
    callback: Callable[[Progress], object] | None
    steps: Any
    bar: Bar
    checkpoint: Checkpoint | None = None

    @property
    def form(self) -> tuple[str, int, int]:
        """The family, the number of components and that of features of all its mixtures."""
        return self.family, self.n_components, self.rows.n_features

    @property
    def start_ridge(self) -> float:
        """The ridge of a start: with a prior, a trifle lets it begin with degenerate clusters."""
        if self.prior is None:
            return self.ridge
        return self.ridge + self.prior.trifle

    def way_up(self) -> Ascent:
        """A new way up, for one run."""
        rows = self.rows
        size = statistics_size(FAMILIES[self.family], rows.n_features)
        work = float(rows.n_rows) * self.n_components * size
        free = not (self.ridge or self.prior or self.steps.fixed)
        exact = self.family in NATURAL and free
        return ascent(self.accelerate, rows.total_weight, work, exact=exact)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run has come to: its last mixture, its trace, its end, what it has maximised."""

    mixture: Mixture
    trace: Trace
    run: Run
    objective: float


def run(problem: Problem, start: Mixture, saved: dict[str, Any] | None = None) -> Outcome:
    """EM from one start, until the rule is met or something else ends it.

    Parameters
    ----------
    problem : Problem
    start : Mixture
    saved : dict, optional
        How far the same run has come before, from a checkpoint.

    Raises
    ------
    SingularCovarianceError
        If a component collapses.
    KeyboardInterrupt
        If an interrupt comes before anything is reached; a later one ends the run.
    """
    course = Course(problem, start)
    try:
        if saved is not None:
            course.restore(saved)
        reason = course.follow()
    except KeyboardInterrupt:
        if course.n_iter < 0:
            raise
        reason = "interrupted"
    return course.outcome(reason)


class Course:
    """A run as far as it has come.

    Parameters
    ----------
    problem : Problem
    start : Mixture
    """

    def __init__(self, problem: Problem, start: Mixture) -> None:
        self.problem = problem
        self.steps = problem.steps
        self.start = start
        self.began = time.perf_counter()
        self.log_likelihoods: list[float] = []
        self.objectives: list[float] = []
        self.seconds: list[float] = []
        self.passes: list[int] = []
        self.mixtures: dict[int, Mixture] = {}
        self.state = State(self.steps.begin(start), None, -inf)
        self.n_iter = -1  # nothing is known of the start yet
        self.way = problem.way_up()
        self.plain = PlainEM()
        self.rule = copy(problem.rule)
        self.gain = inf
        self.em_steps = 0  # that came last, without interruption
        self.is_near = False  # the last change was small
        self.is_watched = problem.callback is not None or problem.kept.any
        self.is_logged = LOGGER.isEnabledFor(logging.DEBUG)  # to ask at each iteration takes time
        self.is_shown = problem.bar.is_shown or self.is_logged

    def follow(self) -> str:
        """Go on until something ends the run; return what it was."""
        try:
            return self._follow()
        except EmptyComponentError:
            raise
        except SingularCovarianceError as error:
            raise SingularCovarianceError(
                f"a component has collapsed: {error}; the likelihood is unbounded there (take "
                "fewer components, more starts, a family with fewer parameters, or a positive "
                "ridge)"
            ) from None

    def _follow(self) -> str:
        checkpoint, watched, stopped = self.problem.checkpoint, self.is_watched, False
        if self.n_iter < 0:
            parameters = self.state.parameters
            self._note(State(parameters, *self.steps.expect(parameters)), 1)
            stopped = watched and self._is_stopped()
            if checkpoint is not None:
                checkpoint.note(self.snapshot())
        while self.n_iter < self.problem.max_iter and not stopped:
            self._advance()
            stopped = watched and self._is_stopped()
            self.is_near = self.rule.is_met(self.objectives, self.em_steps)
            if self.is_near and self.em_steps >= self.rule.em_steps:
                self._confirm()
                return "converged"
            if checkpoint is not None:
                checkpoint.note(self.snapshot())
        self._confirm()
        return "callback" if stopped else "max_iter"

    def _confirm(self) -> None:
        """Raise if a variance so small that rounding may have made it has been made by rounding.

        The next M-step tells, from moments about means that are known better
        (:prf:ref:`prop-moment-cancellation`). Where volumes are equal and shapes are not, a
        variance is rescaled by the geometric mean of its component's, and so is its rounding.
        """
        if not self.n_iter:  # a start is what its maker says
            return
        rows, d = self.problem.rows, self.problem.rows.n_features
        reach = np.maximum(rows.survey.greatest - rows.mean, rows.mean - rows.survey.least)
        power = (d - 1) / d if self.problem.family.startswith("EV") else 1.0
        if (self.mixture().variances < (16 * EPS) ** power * reach**2).any():
            self.steps.maximise(self.state.statistics)

    def _advance(self) -> None:
        """One iteration."""
        way = self.plain if self.is_near else self.way
        state, tried, is_em_step = way.advance(self.steps, self.state, self.gain)
        self.gain = state.objective - self.state.objective
        self.em_steps = self.em_steps + 1 if is_em_step else 0
        self._note(state, self.passes[-1] + tried)

    def _note(self, state: State, passes: int) -> None:
        """Write a new state into the trace, with the number of passes by now."""
        objective = state.objective
        self.objectives.append(objective)
        self.log_likelihoods.append(self.steps.log_likelihood(state.statistics, objective))
        self.passes.append(passes)
        self.seconds.append(time.perf_counter() - self.began)
        self.state = state
        self.n_iter += 1
        if self.is_shown:
            self._show()

    def _show(self) -> None:
        """Let the bar and the log say how far this is."""
        bar, passes = self.problem.bar, self.passes
        if self.is_logged:
            LOGGER.debug(
                "iteration %d: log-likelihood %.6f after %d passes",
                self.n_iter,
                self.log_likelihoods[-1],
                passes[-1],
            )
        bar.advance(passes[-1] - (passes[-2] if self.n_iter else 0))
        rows = bar.count * self.problem.rows.n_rows
        bar.note(f"log-likelihood {self.log_likelihoods[-1]:.6g}, {rows:,} rows read")

    def mixture(self) -> Mixture:
        """The mixture that has been reached."""
        return self.steps.mixture(self.state.parameters) if self.n_iter else self.start

    def _is_stopped(self) -> bool:
        """Keep or show the parameters whose pass has just ended; whether to stop here."""
        mixture = self.mixture()
        if self.problem.kept(self.n_iter):
            self.mixtures[self.n_iter] = mixture
        callback, log_likelihood = self.problem.callback, self.log_likelihoods[-1]
        if callback is None:
            return False
        value = self.steps.statistics(self.state.statistics, log_likelihood)
        return callback(Progress(self.n_iter, mixture, log_likelihood, value)) is True

    def outcome(self, reason: str) -> Outcome:
        """What the run has come to, if it ends here for this reason."""
        n_iter = self.n_iter
        known = slice(n_iter + 1)  # an interrupt may have come in the midst of a note
        mixture = self.mixtures.get(n_iter) or self.mixture()
        mixtures = dict(self.mixtures)
        if self.problem.kept.last:
            mixtures[n_iter] = mixture
        trace = Trace(
            read_only(np.array(self.log_likelihoods[known])),
            read_only(np.array(self.seconds[known])),
            read_only(np.array(self.passes[known])),
            mixtures,
        )
        end = Run(self.log_likelihoods[n_iter], n_iter, reason, self.passes[n_iter])
        return Outcome(mixture, trace, end, self.objectives[n_iter])

    # ------------------------------------------------------------------ checkpoints

    def snapshot(self) -> Callable[[], dict[str, Any]]:
        """All that the rest of the run depends on, as it is now; put together when it is called."""
        now = {
            "start": self.start,
            "parameters": self.steps.saved(self.state.parameters),
            "way": inner_state(self.way),
            "rule": inner_state(self.rule),
            "gain": self.gain,
            "em_steps": self.em_steps,
            "is_near": self.is_near,
        }
        return partial(self._with_trace, now, self.n_iter + 1)

    def _with_trace(self, now: dict[str, Any], length: int) -> dict[str, Any]:
        kept = {i: mixture for i, mixture in self.mixtures.items() if i < length}
        return {
            **now,
            "log_likelihoods": np.array(self.log_likelihoods[:length]),
            "objectives": np.array(self.objectives[:length]),
            "seconds": np.array(self.seconds[:length]),
            "passes": np.array(self.passes[:length]),
            "kept": [list(kept), list(kept.values())],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go to where a checkpoint was; the statistics are found again, by one pass."""
        assert self.problem.checkpoint is not None
        with self.problem.checkpoint.restoring():
            parameters = self._restored(saved)
        self.state = State(parameters, self.steps.expect(parameters)[0], self.objectives[-1])
        self.began = time.perf_counter() - self.seconds[-1]
        self.n_iter = len(self.objectives) - 1
        self.problem.bar.advance(self.passes[-1])
        LOGGER.info("the run goes on from iteration %d of a checkpoint", self.n_iter)

    def _restored(self, saved: dict[str, Any]) -> Any:
        """Take over all that a checkpoint says but for the statistics; return the parameters."""
        values = checked_numbers(saved["log_likelihoods"], "log-likelihoods")
        self.log_likelihoods = values.tolist()
        self.objectives, self.seconds, self.passes = (
            checked_numbers(saved[name], name, len(values)).tolist()
            for name in ("objectives", "seconds", "passes")
        )
        if not all(type(number) is int for number in self.passes):
            raise ValueError("passes that are no counts")
        self.mixtures = checked_kept(saved["kept"], *self.problem.form)
        parameters = self.steps.restored(saved["parameters"])
        checked_mixture(self.steps.mixture(parameters), *self.problem.form)
        set_inner_state(self.way, saved["way"])
        set_inner_state(self.rule, saved["rule"])
        rules = [(r.name, r.tol, r.total_weight) for r in (self.rule, self.problem.rule)]
        if rules[0] != rules[1]:
            raise ValueError("another stopping rule")
        present = (self.gain, self.em_steps, self.is_near)
        self.gain, self.em_steps, self.is_near = (saved[n] for n in ("gain", "em_steps", "is_near"))
        found = (self.gain, self.em_steps, self.is_near)
        if [type(value) for value in found] != [type(value) for value in present]:
            raise ValueError("a state of another kind")
        return parameters
