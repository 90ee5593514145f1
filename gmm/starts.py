"""The runs of a fit from all its starts, of which the best is taken."""

from __future__ import annotations

import logging
from dataclasses import astuple
from math import inf
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm.checkpoint import checked_kept, checked_mixture, checked_numbers
from gmm.checks import IntArray, SingularCovarianceError, read_only
from gmm.initial import starting_mixture
from gmm.mixture import Mixture
from gmm.result import Run, Trace
from gmm.run import Outcome, Problem, run

__all__ = ["Starts"]

LOGGER = logging.getLogger(__name__)


class Starts:
    """Runs from several starts, as far as they have come.

    Parameters
    ----------
    problem : Problem
    start : str, Mixture or array (K, d)
        Where a run begins; see :func:`gmm.initial.starting_mixture`.
    seeds : array of int
        One for each run.

    Attributes
    ----------
    best : Outcome or None
        That of the greatest objective.
    runs : list of Run
        Those that are over, in the order of the starts.
    failure : SingularCovarianceError or None
        Of the last run that collapsed.
    """

    def __init__(self, problem: Problem, start: str | Mixture | ArrayLike, seeds: IntArray) -> None:
        self.problem = problem
        self.start = start
        self.seeds = seeds
        self.best: Outcome | None = None
        self.runs: list[Run] = []
        self.failure: SingularCovarianceError | None = None
        self.course: dict[str, Any] | None = None  # of a run that was cut off
        if problem.checkpoint is not None and problem.checkpoint.found is not None:
            self.restore(problem.checkpoint.found)

    @property
    def are_over(self) -> bool:
        """Whether every run has come to an end of its own."""
        cut_off = any(run.reason in ("interrupted", "callback") for run in self.runs)
        return len(self.runs) == len(self.seeds) and not cut_off

    def follow(self) -> None:
        """Run from one start after the other, unless an interrupt or the callback ends it.

        Raises
        ------
        KeyboardInterrupt
            If an interrupt comes before any run has reached anything.
        """
        n_starts = len(self.seeds)
        for number in range(len(self.runs), n_starts):
            name = f"start {number + 1} of {n_starts}"
            self.problem.bar.describe(name)
            LOGGER.info("%s begins", name)
            if self.problem.checkpoint is not None:
                self.problem.checkpoint.begin(self.saved(), self.course)
            try:
                outcome = self._outcome(int(self.seeds[number]))
            except SingularCovarianceError as error:
                self.failure = error
                self.runs.append(Run(-inf, 0, "singular"))
                if n_starts > 1:  # else the error itself says it
                    LOGGER.warning("%s is left out: %s", name, error)
                continue
            except KeyboardInterrupt:
                if self.best is None:
                    raise
                self.runs.append(Run(-inf, 0, "interrupted"))
                break
            end = outcome.run
            self.runs.append(end)
            LOGGER.info(
                "%s ends: log-likelihood %.6f after %d iterations, %s",
                name,
                end.log_likelihood,
                end.n_iter,
                end.reason,
            )
            if self.best is None or outcome.objective > self.best.objective:
                self.best = outcome
            if end.reason in ("interrupted", "callback"):
                break

    def _outcome(self, seed: int) -> Outcome:
        """The run from one start, or the rest of it."""
        problem = self.problem
        course, self.course = self.course, None
        if course is not None:
            return run(problem, course["start"], course)
        begin = starting_mixture(
            problem.rows,
            problem.n_components,
            problem.family,
            self.start,
            seed,
            ridge=problem.start_ridge,
        )
        return run(problem, begin)

    # ------------------------------------------------------------------ checkpoints

    def saved(self) -> dict[str, Any]:
        """The seeds, and the runs that are over, for a checkpoint."""
        return {
            "seeds": self.seeds,
            "runs": [astuple(run) for run in self.runs],
            "failure": None if self.failure is None else str(self.failure),
            "best": None if self.best is None else _saved(self.best),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go to where a checkpoint was: its seeds take the place of those that were drawn."""
        assert self.problem.checkpoint is not None
        form = self.problem.form
        with self.problem.checkpoint.restoring():
            seeds = checked_numbers(saved["seeds"], "seeds", len(self.seeds))
            if seeds.dtype.kind != "i" or seeds.min() < 0:
                raise ValueError("seeds that are no counts")
            self.seeds = seeds.astype(np.int64)
            self.runs = [_run(values) for values in saved["runs"]]
            if len(self.runs) > len(seeds):
                raise ValueError(f"{len(self.runs)} runs from {len(seeds)} starts")
            if saved["failure"] is not None:
                self.failure = SingularCovarianceError(str(saved["failure"]))
            if saved["best"] is not None:
                self.best = _restored(saved["best"], *form)
            if len(self.runs) == len(seeds) and self.best is None and self.failure is None:
                raise ValueError("runs that have come to nothing")
            self.course = saved["course"]
            if self.course is not None:
                checked_mixture(self.course["start"], *form)


def _saved(outcome: Outcome) -> dict[str, Any]:
    trace = outcome.trace
    return {
        "mixture": outcome.mixture,
        "trace": (trace.log_likelihood, trace.seconds, trace.passes),
        "kept": [list(trace.mixtures), list(trace.mixtures.values())],
        "run": astuple(outcome.run),
        "objective": outcome.objective,
    }


def _restored(saved: dict[str, Any], family: str, n_components: int, n_features: int) -> Outcome:
    kept = checked_kept(saved["kept"], family, n_components, n_features)
    log_likelihood, seconds, passes = (checked_numbers(part, "a trace") for part in saved["trace"])
    if not len(log_likelihood) == len(seconds) == len(passes):
        raise ValueError("a trace of unequal parts")
    trace = Trace(read_only(log_likelihood), read_only(seconds), read_only(passes), kept)
    mixture = checked_mixture(saved["mixture"], family, n_components, n_features)
    return Outcome(mixture, trace, _run(saved["run"]), float(saved["objective"]))


def _run(values: Any) -> Run:
    """A run that is over."""
    log_likelihood, n_iter, reason, passes = values
    kinds = (type(log_likelihood), type(n_iter), type(reason), type(passes))
    if kinds != (float, int, str, int):
        raise ValueError("a run of another kind")
    return Run(log_likelihood, n_iter, reason, passes)
