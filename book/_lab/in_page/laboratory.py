"""The lab's state and what may be done with it. All computing is :mod:`gmm`'s.

A laboratory holds rows, a setting, and a history of moments: the start, and the state after every
half-step since. One may go back in it, and go on from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import gmm
from gmm.bound import lower_bound
from gmm.checks import FloatArray, SingularCovarianceError, as_matrix
from gmm.e_step import e_step
from gmm.inference import LINEAR, information
from gmm.initial import starting_mixture
from gmm.marks import both_themes
from gmm.prior import Prior, default_prior
from gmm.rows import as_rows
from gmm.statistics import Statistics
from gmm.steps import MixtureSteps

#: Features that are drawn, and how the rows are had in a program.
DATA = {
    "old_faithful": ([0, 1], "gmm.datasets.old_faithful().X"),
    "iris": ([2, 3], "gmm.datasets.iris().X[:, [2, 3]]"),
    "course_project": ([0, 1], "gmm.datasets.course_project().X"),
    "watching_em": ([0, 1], "gmm.datasets.watching_em().X"),
    "three_components": ([0, 1], "gmm.datasets.three_components().X"),
    "galaxies": ([0], "gmm.datasets.galaxies().X"),
    "acidity": ([0], "gmm.datasets.acidity().X"),
}
#: A run is at its end when a row gains less than this in an iteration, in nats.
TOLERANCE = 1e-8
#: Widths, as parts of the data's, of a component that is pressed onto a row: the widest from which
#: the run collapses is taken, so that the reader sees it happen.
PRESSED = [0.05 * 0.8**i for i in range(25)]
#: Iterations within which a run has collapsed, or will not.
PATIENCE = 100


@dataclass(frozen=True)
class Moment:
    """What the lab shows: parameters, and the responsibilities that the points have.

    Parameters
    ----------
    step : str
        How it came about: "start", "E", "M" or "moved".
    mixture : Mixture
    shares : array (n, K) or None
        None before the first E-step.
    statistics : Statistics or None
        What an M-step would use.
    log_likelihood : float
    bound : float or None
        The evidence lower bound of the parameters with the responsibilities, if there are any.
    objective : float
        The log-likelihood, and with a prior its log-density.
    """

    step: str
    mixture: gmm.Mixture
    shares: FloatArray | None
    statistics: Statistics | None
    log_likelihood: float
    bound: float | None
    objective: float


class Laboratory:
    """Rows, a model and a history.

    Every public method but :meth:`answer` takes keyword arguments and returns what JSON can hold.
    """

    def __init__(self) -> None:
        self.rows: FloatArray = np.zeros((0, 2))
        self.source = ""
        self.has_prior = False
        self.begun = ""  # the start, in a program
        self.history: list[Moment] = []
        self.place = 0
        self.steps: MixtureSteps | None = None

    def answer(self, name: str, arguments: str) -> str:
        """Call a method by name, with arguments and result in JSON."""
        if name.startswith("_") or name == "answer":
            raise ValueError(f"no such question: {name}")
        result = getattr(self, name)(**json.loads(arguments))
        return json.dumps(result, allow_nan=False)

    # ------------------------------------------------------------------ data and setting

    def colours(self) -> dict[str, Any]:
        """The figures' colours, each with its counterpart on a dark page."""
        return {"colours": both_themes()}

    def data(
        self, name: str | None = None, points: list[list[float]] | None = None
    ) -> dict[str, Any]:
        """Choose a data set by its name, or give points."""
        if points is not None:
            rows = as_matrix(points)
            if rows.shape[1] not in (1, 2):
                raise ValueError(f"points: expected one or two numbers each, got {rows.shape[1]}")
            self.source = f"np.array({rows.tolist()})"
            names = ["x", "y"][: rows.shape[1]]
        elif name in DATA:
            chosen, self.source = DATA[name]
            dataset = getattr(gmm.datasets, name)()
            rows = dataset.X[:, chosen]
            names = [dataset.columns[j] for j in chosen]
        else:
            raise ValueError(f"name: expected one of {', '.join(DATA)}, got {name!r}")
        self.rows = rows
        self.history, self.place = [], 0
        return {"points": rows.tolist(), "names": names}

    def begin(
        self,
        n_components: int,
        family: str = "VVV",
        start: str = "random",
        prior: bool = False,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Choose a model and a start."""
        mixture = starting_mixture(self.rows, n_components, family, start, seed)
        arguments = f'X, {n_components}, "{mixture.family}", "{start}", {seed}'
        return self._begin(mixture, f"gmm.initial.starting_mixture({arguments})", prior)

    def begin_at(self, mixture: dict[str, Any], prior: bool = False) -> dict[str, Any]:
        """Start from given parameters, as a shared address has them."""
        start = gmm.Mixture(
            mixture["weights"], mixture["means"], mixture["covariances"], mixture["family"]
        )
        return self._begin(start, _written(start), prior)

    def _begin(self, mixture: gmm.Mixture, begun: str, prior: bool) -> dict[str, Any]:
        self.has_prior = prior
        self.begun = begun
        chosen = self._prior(mixture.n_components)
        rows = as_rows(self.rows)
        self.steps = MixtureSteps(rows, self._sweep, mixture.family, 0.0, chosen)
        self.steps.begin(mixture)
        self.history, self.place = [self._moment("start", mixture, None, None)], 0
        return self.state()

    def _prior(self, n_components: int) -> Prior | None:
        return default_prior(self.rows, n_components) if self.has_prior else None

    def _sweep(self, mixture: gmm.Mixture) -> Statistics:
        return e_step(self.rows, mixture)

    def _moment(
        self,
        step: str,
        mixture: gmm.Mixture,
        shares: FloatArray | None,
        statistics: Statistics | None,
    ) -> Moment:
        value = mixture.log_likelihood(self.rows)
        bound = None if shares is None else lower_bound(self.rows, mixture, shares)
        prior = None if self.steps is None else self.steps.prior
        objective = value if prior is None else value + prior.log_density(mixture)
        return Moment(step, mixture, shares, statistics, value, bound, objective)

    # ------------------------------------------------------------------ steps

    @property
    def now(self) -> Moment:
        """The moment that is shown."""
        if not self.history:
            raise ValueError("nothing has begun yet")
        return self.history[self.place]

    def step(self) -> dict[str, Any]:
        """The next half-step: an E-step, or the M-step after one."""
        now = self.now
        try:
            following = self._m_step(now) if now.step == "E" else self._e_step(now)
        except SingularCovarianceError as error:
            return self.state() | {"failure": str(error)}
        del self.history[self.place + 1 :]
        self.history.append(following)
        self.place += 1
        return self.state()

    def _e_step(self, now: Moment) -> Moment:
        shares = now.mixture.responsibilities(self.rows)
        return self._moment("E", now.mixture, shares, self._sweep(now.mixture))

    def _m_step(self, now: Moment) -> Moment:
        assert self.steps is not None
        assert now.statistics is not None
        return self._moment("M", self.steps.maximise(now.statistics), now.shares, None)

    def run(self, n_iterations: int = 1) -> dict[str, Any]:
        """Whole iterations, fewer if the run arrives or collapses; ``arrived`` says whether."""
        for _ in range(n_iterations):
            before = self.now.objective
            state = self.step()
            if "failure" not in state and self.now.step == "E":
                state = self.step()
            if "failure" in state:
                return state
            if self.now.objective - before < TOLERANCE * len(self.rows):
                return state | {"arrived": True}
        return self.state()

    def go(self, place: int) -> dict[str, Any]:
        """Back, or forth again, to a moment of the history."""
        if not 0 <= place < len(self.history):
            raise ValueError(f"place: expected 0 to {len(self.history) - 1}, got {place}")
        self.place = place
        return self.state()

    def move(self, component: int, mean: list[float]) -> dict[str, Any]:
        """Put a mean elsewhere; a run begins there."""
        now = self.now.mixture
        means = now.means.copy()
        means[component] = mean
        moved = gmm.Mixture(now.weights, means, now.covariances, now.family)
        return self._begin(moved, _written(moved), self.has_prior)

    def press(self, component: int = 0) -> dict[str, Any]:
        """Press a component onto the row nearest to its mean, so that a collapse is on its way."""
        pressed = self._pressed(component, PRESSED[-1])
        chosen = self._prior(pressed.n_components)
        for width in PRESSED:
            candidate = self._pressed(component, width)
            try:
                gmm.fit(
                    self.rows,
                    candidate.n_components,
                    candidate.family,
                    start=candidate,
                    max_iter=PATIENCE,
                    prior=chosen,
                )
            except SingularCovarianceError:
                pressed = candidate
                break
        return self._begin(pressed, _written(pressed), self.has_prior)

    def _pressed(self, component: int, width: float) -> gmm.Mixture:
        now = self.now.mixture
        apart = ((self.rows - now.means[component]) ** 2).sum(axis=1)
        means, covariances = now.means.copy(), now.covariances.copy()
        means[component] = self.rows[apart.argmin()]
        covariances[component] = np.diag((width * self.rows.std(axis=0)) ** 2)
        family = "VVV" if self.rows.shape[1] > 1 else "V"
        return gmm.Mixture(now.weights, means, covariances, family)

    # ------------------------------------------------------------------ several runs

    def ends(self, seeds: list[int], starts: list[str]) -> dict[str, Any]:
        """Where runs from several starts end, the best first."""
        found: list[dict[str, Any]] = []
        mixture = self.now.mixture
        chosen = self._prior(mixture.n_components)
        for start, seed in zip(starts, seeds, strict=True):
            try:
                begin = starting_mixture(
                    self.rows, mixture.n_components, mixture.family, start, seed
                )
                fit = gmm.fit(
                    self.rows, mixture.n_components, mixture.family, start=begin, prior=chosen
                )
            except SingularCovarianceError as error:
                found.append({"start": start, "seed": seed, "failure": str(error)})
                continue
            end = {"start": start, "seed": seed, "n_iter": fit.n_iter, "converged": fit.converged}
            end |= {"log_likelihood": fit.log_likelihood, "objective": fit.objective}
            found.append(end | {"mixture": _parameters(fit.mixture)})
        found.sort(key=lambda end: -end.get("objective", -np.inf))
        return {"ends": found}

    def bic(self, largest: int) -> dict[str, Any]:
        """BIC over the number of components, of the family at hand; smaller is better."""
        family = self.now.mixture.family
        chosen = "default" if self.has_prior else None
        table = gmm.select(self.rows, range(1, largest + 1), [family], prior=chosen, random_state=0)
        values = [table.bic(family, k) for k in range(1, largest + 1)]
        return {"bic": [value if np.isfinite(value) else None for value in values]}

    # ------------------------------------------------------------------ what is shown

    def state(self) -> dict[str, Any]:
        """The moment that is shown, the curves so far, and the rate of the run."""
        now = self.now
        return {
            "step": now.step,
            "place": self.place,
            "length": len(self.history),
            "iteration": sum(moment.step == "M" for moment in self.history[: self.place + 1]),
            "mixture": _parameters(now.mixture),
            "shares": None if now.shares is None else now.shares.ravel().tolist(),
            "log_likelihood": now.log_likelihood,
            "bound": now.bound,
            "objective": now.objective,
            "curve": [moment.log_likelihood for moment in self.history],
            "bounds": [moment.bound for moment in self.history],
            "measured_rate": self._measured_rate(),
        }

    def rate(self) -> dict[str, Any]:
        """EM's rate as the missing information at these parameters predicts it, or None."""
        mixture = self.now.mixture
        if self.has_prior or mixture.family not in LINEAR:
            return {"rate": None}
        parts = information(mixture, self.rows)
        try:
            lost = np.linalg.solve(parts.complete, parts.missing)
        except np.linalg.LinAlgError:
            return {"rate": None}
        value = float(np.linalg.eigvals(lost).real.max())
        return {"rate": value if value < 1.0 else None}  # far from a maximum it predicts nothing

    def _measured_rate(self) -> float | None:
        """The square root of the last two gains' ratio (:prf:ref:`prop-gain-ratio`)."""
        values = [m.objective for m in self.history[: self.place + 1] if m.step in ("start", "M")]
        gains = [after - before for before, after in pairwise(values)]
        if len(gains) < 2 or gains[-2] <= 0 or gains[-1] <= 1e-9 * max(1.0, abs(values[-1])):
            return None
        return float(np.sqrt(gains[-1] / gains[-2]))

    def program(self) -> dict[str, str]:
        """Python that does what was done here."""
        mixture = self.now.mixture
        n_iterations = sum(moment.step == "M" for moment in self.history[: self.place + 1])
        chosen = ', prior="default"' if self.has_prior else ""
        lines = ["import gmm", ""]
        if "np." in self.source:
            lines.insert(1, "import numpy as np")
        lines += [f"X = {self.source}", f"start = {self.begun}"]
        if n_iterations:
            shape = f'{mixture.n_components}, "{mixture.family}"'
            lines += [
                f"fit = gmm.fit(X, {shape}, start=start, max_iter={n_iterations}, tol=0{chosen})",
                "mixture = fit.mixture",
            ]
        else:
            lines += ["mixture = start"]
        return {"program": "\n".join([*lines, "print(mixture)", ""])}


def _parameters(mixture: gmm.Mixture) -> dict[str, Any]:
    return {
        "family": mixture.family,
        "weights": mixture.weights.tolist(),
        "means": mixture.means.tolist(),
        "covariances": mixture.covariances.tolist(),
    }


def _written(mixture: gmm.Mixture) -> str:
    """A mixture as an expression of Python, with all its digits."""
    parts = _parameters(mixture)
    return (
        f"gmm.Mixture(\n    {parts['weights']},\n    {parts['means']},\n"
        f'    {parts["covariances"]},\n    "{parts["family"]}",\n)'
    )
