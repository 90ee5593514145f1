"""The EM algorithm (:prf:ref:`alg-em`): the loop, its stopping rules, its trace, its starts.

Everything that changes during a fit lives in this module; what it works on are values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from copy import copy
from dataclasses import dataclass, field
from html import escape
from math import inf
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import (
    FloatArray,
    IntArray,
    RandomState,
    SingularCovarianceError,
    as_choice,
    as_count,
    as_generator,
    as_non_negative,
    read_only,
    shown,
)
from gmm.convergence import ACCELERATIONS, NATURAL, Ascent, PlainEM, State, ascent
from gmm.criteria import aic, bic
from gmm.families import FAMILIES, expand, parse_family, restrict
from gmm.initial import refuse_unknown_start, starting_mixture
from gmm.m_step import NARROWEST, SMALLEST_WEIGHT, Held, m_step
from gmm.missing import as_source_with_missing
from gmm.mixture import Mixture
from gmm.natural import statistics_size
from gmm.prior import Prior, as_prior
from gmm.rows import Rows, Source
from gmm.small import SmallSteps
from gmm.statistics import Statistics
from gmm.sweep import Sweep, sweep_of
from gmm.threads import one_blas_thread

__all__ = ["STOPPING_RULES", "Fit", "Progress", "Run", "Trace", "fit"]

#: The names of the parameters.
PARAMETERS = ("weights", "means", "covariances")
#: The names of the stopping rules.
STOPPING_RULES = ("mean", "absolute", "relative", "aitken")


@dataclass(frozen=True, eq=False)
class Progress:
    """What a callback is shown after each iteration.

    Parameters
    ----------
    iteration : int
        The number of M-steps so far; 0 is the start.
    mixture : Mixture
        The parameters after this iteration.
    log_likelihood : float
        Their log-likelihood.
    statistics : Statistics
        Their expected statistics, from which the next iteration will start.
    """

    iteration: int
    mixture: Mixture
    log_likelihood: float
    statistics: Statistics


@dataclass(frozen=True, eq=False)
class Trace:
    """How a run went; index i tells of the parameters after i iterations, 0 of the start.

    Parameters
    ----------
    log_likelihood : array (n_iter + 1,)
    seconds : array (n_iter + 1,)
        Time since the run began.
    passes : array (n_iter + 1,) of int
        How often the rows had been read by then: once for each iteration, and once for each
        candidate of an accelerator that was not taken.
    mixtures : dict
        The parameters at the iterations that ``keep`` chose.
    """

    log_likelihood: FloatArray
    seconds: FloatArray
    passes: IntArray
    mixtures: dict[int, Mixture] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """The end of one run from one start: its log-likelihood, iterations, reason and passes."""

    log_likelihood: float
    n_iter: int
    reason: str
    n_passes: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """The result of :func:`fit`: a mixture, and how it was found.

    Parameters
    ----------
    mixture : Mixture
        The parameters after the last iteration of the best run.
    log_likelihood : float
        Their log-likelihood.
    trace : Trace
        The best run, iteration by iteration.
    reason : str
        Why the run ended: "converged", "max_iter", "interrupted" or "callback".
    starts : tuple of Run
        Every run, in the order of the starts; "singular" is the reason of one that collapsed.
    n_rows : int
        Rows of positive weight.
    total_weight : float
        The sum of their weights.
    log_prior : float
        The logarithm of the prior's density at the mixture, but for a constant; zero without one.
    fixed : frozenset of str
        Which parameters were held at their start.
    """

    mixture: Mixture
    log_likelihood: float
    trace: Trace
    reason: str
    starts: tuple[Run, ...]
    n_rows: int
    total_weight: float
    log_prior: float = 0.0
    fixed: frozenset[str] = frozenset()

    @property
    def converged(self) -> bool:
        """Whether the stopping rule was met."""
        return self.reason == "converged"

    @property
    def objective(self) -> float:
        """What the fit has maximised: the log-likelihood and the log-prior."""
        return self.log_likelihood + self.log_prior

    @property
    def n_iter(self) -> int:
        """The number of iterations (M-steps) of the best run."""
        return len(self.trace.log_likelihood) - 1

    @property
    def n_passes(self) -> int:
        """How often the rows were read, in all runs; candidates that were not taken count too."""
        return sum(run.n_passes for run in self.starts)

    @property
    def n_parameters(self) -> int:
        """The number of free parameters (:eq:`eq-parameter-count`); those held do not count."""
        k, d = self.mixture.means.shape
        counts = {"weights": k - 1, "means": k * d}
        counts["covariances"] = self.mixture.n_parameters - sum(counts.values())
        return sum(count for name, count in counts.items() if name not in self.fixed)

    @property
    def aic(self) -> float:
        """Akaike's criterion (:eq:`eq-aic`); smaller is better."""
        return aic(self.log_likelihood, self.n_parameters)

    @property
    def bic(self) -> float:
        """The Bayesian information criterion (:eq:`eq-bic`); smaller is better."""
        return bic(self.log_likelihood, self.n_parameters, self.total_weight)

    def _facts(self) -> list[tuple[str, str]]:
        mixture = self.mixture
        ended = {
            "converged": "converged",
            "max_iter": "stopped at max_iter, not converged",
            "interrupted": "interrupted, not converged",
            "callback": "stopped by the callback",
        }[self.reason]
        facts = [
            ("family", f"{mixture.family}, {mixture.n_components} components"),
            ("data", f"{self.n_rows} rows, {mixture.n_features} features"),
            ("log-likelihood", f"{self.log_likelihood:.4f}"),
            ("BIC", f"{self.bic:.3f} with {self.n_parameters} parameters"),
            ("iterations", f"{self.n_iter}, {ended}"),
        ]
        if len(self.starts) > 1:
            best = sum(
                run.reason != "singular" and self.log_likelihood - run.log_likelihood < 1e-3
                for run in self.starts
            )
            facts.append(("starts", f"{len(self.starts)}, of which {best} ended here"))
        return facts

    def __repr__(self) -> str:
        lines = ["Fit"] + [f"  {name:<15} {value}" for name, value in self._facts()]
        for weight, mean in zip(self.mixture.weights, self.mixture.means, strict=True):
            lines.append(f"  weight {weight:.4f}   mean {np.array2string(mean, precision=4)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        return f"<table>{rows}</table>"


def fit(
    X: Any,
    n_components: int,
    family: str = "VVV",
    *,
    start: str | Mixture | ArrayLike = "k-means",
    n_starts: int = 1,
    tol: float = 1e-8,
    stop: str = "mean",
    max_iter: int = 1000,
    ridge: float = 0.0,
    prior: Prior | str | None = None,
    fixed: str | Iterable[str] = (),
    sample_weight: ArrayLike | None = None,
    missing: str = "raise",
    accelerate: str = "none",
    keep: int | str | Iterable[int] = (),
    callback: Callable[[Progress], object] | None = None,
    progress: bool = False,
    random_state: RandomState = None,
) -> Fit:
    """Fit a Gaussian mixture by maximum likelihood (:prf:ref:`alg-em`).

    Parameters
    ----------
    X : array (n, d), path, table or BlockRows
        Rows of real numbers: an array or a memory map, the path of a ``.npy`` file, a dataset or
        table of pyarrow, a Dask array, or a :class:`gmm.rows.BlockRows`. They are read in blocks,
        once for each iteration, and never changed.
    n_components : int
        The number K of components, at most n.
    family : str
        What the covariances have in common: VVV (full), EEE (tied), VVI (diag), VII (spherical).
    start : str, Mixture or array (K, d)
        Where EM begins; see :func:`gmm.initial.starting_mixture`.
    n_starts : int
        Runs from different draws of the start; the best is returned.
    tol : float
        The tolerance of the stopping rule; with 0 the fit makes ``max_iter`` iterations.
    stop : str
        "mean"
            The log-likelihood per unit of weight has moved by less than ``tol``
            (:eq:`eq-stop-mean`).
        "absolute"
            The log-likelihood has moved by less than ``tol`` (:eq:`eq-stop-absolute`).
        "relative"
            It has moved by less than ``tol`` times its magnitude (:eq:`eq-stop-relative`).
        "aitken"
            It is predicted to rise by less than ``tol`` in all the iterations to come
            (:eq:`eq-aitken`).
    max_iter : int
        The greatest number of iterations of a run.
    ridge : float
        Added to each variance in each M-step, in squared units of the data. With the default, 0,
        the fit maximises the likelihood itself.
    prior : Prior, "default" or None
        With a :class:`gmm.prior.Prior` the fit maximises the sum of the log-likelihood and the
        prior's log-density, which is bounded: no component can collapse. "default" is
        :func:`gmm.prior.default_prior`.
    fixed : str or collection of str
        Parameters that stay as the start has them: any of "weights", "means", "covariances". The
        others maximise the likelihood, given these; they do not count as free in the criteria.
    sample_weight : array (n,), optional
        Weights of the rows, not negative; a weight of two counts as a row that occurs twice.
    missing : str
        "raise"
            NaN is refused.
        "em"
            NaN marks a missing value, and the fit maximises the likelihood of the others
            (:mod:`gmm.missing`), for arrays and ``.npy`` files. Named starts look at rows that
            one normal distribution has completed. Rows without any value are left out, with a
            :class:`gmm.checks.MissingDataWarning`.
    accelerate : str
        "none"
            Plain EM.
        "squarem", "anderson"
            EM with extrapolated steps (:mod:`gmm.convergence`), which are taken only where they do
            not lower the likelihood.
        "lbfgs"
            SQUAREM while steps gain much, then L-BFGS in natural parameters, with the same
            safeguard. With a ridge, or another family than VVV, EEE, VVI and VII: SQUAREM alone.
        "auto"
            Plain EM as long as it converges quickly; then as "lbfgs" if a pass is dear (300 000
            multiplications or more: rows, times components, times numbers of a row's statistics),
            as "squarem" if it is cheap.
    keep : int, "all" or collection of int
        The iterations whose mixtures the trace keeps: every m-th besides the first and the last,
        all of them, or those named.
    callback : callable, optional
        Called with a :class:`Progress` after each iteration; if it returns True, the fit stops.
    progress : bool
        Whether a bar shows the start, the log-likelihood, the passes and the rows read, while the
        fit runs. It needs tqdm (``pip install 'gmm-first-principles[progress]'``).
    random_state : int, Generator or None
        The source of randomness of the start.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said. The message names it.
    ImportError
        If ``progress`` is true and tqdm is not installed.
    SingularCovarianceError
        If every run ends with a singular covariance (:prf:ref:`thm-unbounded`), or must, because a
        feature is constant. Not with a prior.

    Notes
    -----
    An interrupt (Ctrl-C) ends the fit; what was reached is returned, with the reason
    "interrupted". Each iteration reads the rows once; one more pass gives the log-likelihood of the
    last parameters. Without a ridge the log-likelihood never decreases (:prf:ref:`thm-monotone`).

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> gmm.fit(X, 2, random_state=0).mixture.weights.round(3)
    array([0.356, 0.644])
    """
    k = as_count(n_components, "n_components")
    rows = as_source_with_missing(X, sample_weight, missing, min_rows=k)
    rule = _StoppingRule(
        as_choice(stop, "stop", STOPPING_RULES), as_non_negative(tol, "tol"), rows.total_weight
    )
    name = parse_family(family, rows.n_features)
    width = as_non_negative(ridge, "ridge")
    refuse_unknown_start(start)
    if as_count(n_starts, "n_starts") > 1 and (not isinstance(start, str) or start == "octant"):
        raise ValueError(
            "n_starts: expected 1, as the start that is given leaves nothing to chance"
        )
    rng = as_generator(random_state)
    belief = as_prior(prior, rows, k)
    if not width and belief is None:
        rows.refuse_degenerate()
    names = _fixed(fixed)
    bar = _Bar(progress, n_starts, rows.n_rows)
    problem = _Problem(
        rows,
        k,
        name,
        width,
        belief,
        rule,
        as_count(max_iter, "max_iter", minimum=0),
        _kept_iterations(keep),
        as_choice(accelerate, "accelerate", ACCELERATIONS),
        callback,
        _steps(rows, k, name, width, belief, names),
        bar,
    )
    with bar, one_blas_thread():  # once for all passes: to ask and to give back takes time
        best, runs, failure = _runs(problem, start, rng.integers(2**63, size=n_starts))
    if best is None:
        assert failure is not None
        raise failure
    reason = best.run.reason
    if any(run.reason == "interrupted" for run in runs):
        reason = "interrupted"
    return Fit(
        best.mixture,
        best.run.log_likelihood,
        best.trace,
        reason,
        tuple(runs),
        rows.n_rows,
        rows.total_weight,
        0.0 if belief is None else belief.log_density(best.mixture),
        names,
    )


def _fixed(fixed: str | Iterable[str]) -> frozenset[str]:
    given = (fixed,) if isinstance(fixed, str) else tuple(fixed)
    names = frozenset(as_choice(name, "fixed", tuple(PARAMETERS)) for name in given)
    if len(names) == len(PARAMETERS):
        raise ValueError("fixed: expected some parameters to be free, got all of them")
    return names


def _runs(
    problem: _Problem, start: str | Mixture | ArrayLike, seeds: IntArray
) -> tuple[_Outcome | None, list[Run], SingularCovarianceError | None]:
    """EM from all starts: the best outcome, every run, and the last failure."""
    best: _Outcome | None = None
    runs: list[Run] = []
    failure: SingularCovarianceError | None = None
    for seed in seeds:
        problem.bar.next_start()
        try:
            begin = starting_mixture(
                problem.rows,
                problem.n_components,
                problem.family,
                start,
                int(seed),
                ridge=problem.start_ridge,
            )
            outcome = _run(problem, begin)
        except SingularCovarianceError as error:
            failure = error
            runs.append(Run(-inf, 0, "singular"))
            continue
        except KeyboardInterrupt:
            if best is None:
                raise
            runs.append(Run(-inf, 0, "interrupted"))
            break
        runs.append(outcome.run)
        if best is None or outcome.objective > best.objective:
            best = outcome
        if outcome.run.reason in ("interrupted", "callback"):
            break
    return best, runs, failure


class _Bar:
    """The bar that ``progress=True`` shows, which counts passes; nothing if it is not wanted."""

    def __init__(self, progress: bool, n_starts: int, n_rows: int) -> None:
        if not isinstance(progress, bool | np.bool_):
            raise TypeError(f"progress: expected True or False, got {shown(progress)}")
        self.tqdm = _tqdm() if progress else None
        self.shown: Any = None
        self.n_starts = n_starts
        self.n_rows = n_rows
        self.start = 0

    def __enter__(self) -> None:
        if self.tqdm is not None:
            self.shown = self.tqdm(unit=" passes")

    def __exit__(self, *_: object) -> None:
        if self.shown is not None:
            self.shown.close()

    def next_start(self) -> None:
        """Say which start is running."""
        self.start += 1
        if self.shown is not None:
            self.shown.set_description(f"start {self.start} of {self.n_starts}")

    def advance(self, passes: int, log_likelihood: float) -> None:
        """Count passes, and show what they have led to."""
        if self.shown is not None:
            self.shown.update(passes)
            rows = self.shown.n * self.n_rows
            self.shown.set_postfix_str(
                f"log-likelihood {log_likelihood:.6g}, {rows:,} rows read", refresh=False
            )


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError(
            "progress: needs tqdm: pip install 'gmm-first-principles[progress]'"
        ) from None
    return tqdm


# ---------------------------------------------------------------- one run


class MixtureSteps:
    """The two steps of EM on values: a mixture gives statistics, statistics give a mixture.

    Parameters
    ----------
    rows : Source
    sweep : callable
        The E-step of all rows: statistics from a mixture.
    family : str
    ridge : float
    prior : Prior, optional
    fixed : frozenset of str
        Parameters that stay as they are loaded.
    """

    def __init__(
        self,
        rows: Source,
        sweep: Any,
        family: str,
        ridge: float,
        prior: Prior | None = None,
        fixed: frozenset[str] = frozenset(),
    ) -> None:
        self.sweep = sweep
        self.family = family
        self.ridge = ridge
        self.prior = prior
        self.fixed = fixed
        self.held: Held | None = None
        self.narrowest = NARROWEST**2 * rows.variances
        self.made: Mixture | None = None

    def load(self, mixture: Mixture) -> Mixture:
        """The parameters of a mixture, in the form in which the steps take them."""
        self.made = None
        return mixture

    def begin(self, start: Mixture) -> Mixture:
        """The parameters of a start, of which some may be held."""
        self.held = Held(start, self.fixed) if self.fixed else None
        return self.load(start)

    def mixture(self, parameters: Mixture) -> Mixture:
        """The mixture that has these parameters."""
        return parameters

    def expect(self, parameters: Mixture) -> tuple[Statistics, float]:
        """The E-step of all rows, and the objective: the log-likelihood and the log-prior."""
        statistics = self.sweep(parameters)
        objective = statistics.log_likelihood
        if self.prior is not None:
            objective += self.prior.log_density(parameters)
        return statistics, objective

    def log_likelihood(self, statistics: Statistics, objective: float) -> float:
        """The log-likelihood alone."""
        return statistics.log_likelihood

    def maximise(self, statistics: Statistics) -> Mixture:
        """The M-step; a component that has become nothing beside the data is refused.

        An inner iteration begins where that of the last M-step has ended.
        """
        mixture = m_step(
            statistics,
            self.family,
            self.ridge,
            prior=self.prior,
            previous=self.made,
            held=self.held,
        )
        self.made = mixture
        collapsed = mixture.variances < self.narrowest
        if collapsed.any():
            k = int(np.argmax(collapsed.any(axis=1)))
            raise SingularCovarianceError(f"component {k} has almost no width")
        return mixture

    def statistics(self, statistics: Statistics, log_likelihood: float) -> Statistics:
        """The statistics as one value."""
        return statistics

    def vector(self, parameters: Mixture) -> FloatArray:
        """The parameters as one vector, in units of the data's own spread."""
        means = (parameters.means - self.sweep.centre) / self.sweep.scales
        stored = parameters.stored / self._units(parameters.kind)
        return np.concatenate([parameters.weights, means.ravel(), stored.ravel()])

    def _units(self, kind: str) -> FloatArray:
        scales = self.sweep.scales
        if kind in ("full", "tied"):
            return np.outer(scales, scales)
        return scales**2 if kind == "diag" else np.array(scales @ scales / len(scales))

    def from_vector(self, vector: FloatArray, like: Mixture) -> Mixture | None:
        """The mixture of a vector; None if there is none.

        Parameters
        ----------
        vector : array
        like : Mixture
            One of the same family and sizes.
        """
        k, d = like.means.shape
        weights, means, stored = np.split(vector, [k, k + k * d])
        if not weights.min() > SMALLEST_WEIGHT:
            return None
        means = means.reshape(k, d) * self.sweep.scales + self.sweep.centre
        covariances = stored.reshape(like.stored.shape) * self._units(like.kind)
        weights = weights / weights.sum()
        if self.held is not None:  # extrapolated, they would be the same but for rounding
            weights, means = self.held.weights(weights), self.held.means(means)
            if self.held.has_covariances:
                covariances = self.held.mixture.stored
        try:
            if self.family not in SmallSteps.FAMILIES:  # sums of its members are not of the family
                matrices = expand(covariances, like.kind, k, d)
                covariances = restrict(matrices, self.family, weights)
            mixture = Mixture.from_stored(weights, means, covariances, self.family)
        except (SingularCovarianceError, np.linalg.LinAlgError):
            return None
        return None if (mixture.variances < self.narrowest).any() else mixture


def _steps(
    rows: Source,
    n_components: int,
    family: str,
    ridge: float,
    prior: Prior | None,
    fixed: frozenset[str],
) -> Any:
    """The form of the two steps that costs least for rows of this kind, number and width."""
    kind = FAMILIES[family]
    if not isinstance(rows, Rows):
        chunks = sweep_of(rows, n_components, kind)
        return MixtureSteps(rows, chunks, family, ridge, prior, fixed)
    sweep = Sweep(rows, n_components, kind)
    if prior is None and not fixed and SmallSteps.suit(rows, n_components, family):
        return SmallSteps(rows, sweep, family, ridge)
    return MixtureSteps(rows, sweep, family, ridge, prior, fixed)


@dataclass(frozen=True, eq=False)
class _Problem:
    rows: Source
    n_components: int
    family: str
    ridge: float
    prior: Prior | None
    rule: _StoppingRule
    max_iter: int
    kept: _Kept
    accelerate: str
    callback: Callable[[Progress], object] | None
    steps: Any
    bar: _Bar

    @property
    def start_ridge(self) -> float:
        """The ridge of a start: with a prior, a trifle lets it begin with degenerate clusters."""
        if self.prior is None:
            return self.ridge
        return self.ridge + 1e-6 * float(np.diagonal(self.prior.scale).mean())

    def way_up(self) -> Ascent:
        """A new way up, for one run."""
        rows = self.rows
        size = statistics_size(FAMILIES[self.family], rows.n_features)
        work = float(rows.n_rows) * self.n_components * size
        free = not (self.ridge or self.prior or self.steps.fixed)
        exact = self.family in NATURAL and free
        return ascent(self.accelerate, rows.total_weight, work, exact=exact)


@dataclass(frozen=True, eq=False)
class _Outcome:
    mixture: Mixture
    trace: Trace
    run: Run
    objective: float


def _run(problem: _Problem, start: Mixture) -> _Outcome:
    """EM from one start, until the rule is met or something else ends it."""
    steps = problem.steps
    began = time.perf_counter()
    log_likelihoods: list[float] = []
    objectives: list[float] = []
    seconds: list[float] = []
    passes = [1]
    mixtures: dict[int, Mixture] = {}
    watched = problem.callback is not None or problem.kept.any
    way = problem.way_up()
    plain = PlainEM()
    rule = copy(problem.rule)
    reason = "max_iter"
    state = State(steps.begin(start), None, -inf)

    def stops() -> bool:
        """Keep or show the parameters whose pass has just ended; whether to stop here."""
        iteration = len(log_likelihoods) - 1
        mixture = steps.mixture(state.parameters) if iteration else start
        if problem.kept(iteration):
            mixtures[iteration] = mixture
        if problem.callback is None:
            return False
        value = steps.statistics(state.statistics, log_likelihoods[-1])
        return problem.callback(Progress(iteration, mixture, log_likelihoods[-1], value)) is True

    def note(tried: int) -> None:
        objectives.append(state.objective)
        log_likelihoods.append(steps.log_likelihood(state.statistics, state.objective))
        seconds.append(time.perf_counter() - began)
        problem.bar.advance(tried, log_likelihoods[-1])

    try:
        state = State(state.parameters, *steps.expect(state.parameters))
        note(1)
        stopped = watched and stops()
        gain = inf
        small = False
        em_steps = 0
        for _ in range(problem.max_iter):
            if stopped:
                reason = "callback"
                break
            state, tried, is_em_step = _advanced(plain if small else way, steps, state, gain)
            gain = state.objective - objectives[-1]
            passes.append(passes[-1] + tried)
            note(tried)
            stopped = watched and stops()
            em_steps = em_steps + 1 if is_em_step else 0
            small = rule.is_met(objectives, em_steps)
            if small and em_steps >= rule.em_steps:
                reason = "converged"
                break
        else:
            reason = "callback" if stopped else reason
    except KeyboardInterrupt:
        if not log_likelihoods:
            raise
        reason = "interrupted"
    n_iter = len(log_likelihoods) - 1
    mixture = mixtures.get(n_iter) or (steps.mixture(state.parameters) if n_iter else start)
    if problem.kept.last:
        mixtures[n_iter] = mixture
    trace = Trace(
        read_only(np.array(log_likelihoods)),
        read_only(np.array(seconds)),
        read_only(np.array(passes[: n_iter + 1])),
        mixtures,
    )
    run = Run(log_likelihoods[-1], n_iter, reason, passes[n_iter])
    return _Outcome(mixture, trace, run, objectives[-1])


def _advanced(way: Ascent, steps: Any, state: State, gain: float) -> tuple[State, int, bool]:
    """The next state, with advice for whoever meets a singular covariance."""
    try:
        return way.advance(steps, state, gain)
    except SingularCovarianceError as error:
        raise SingularCovarianceError(
            f"a component has collapsed: {error}; the likelihood is unbounded there (take fewer "
            "components, more starts, a family with fewer parameters, or a positive ridge)"
        ) from None


class _StoppingRule:
    """Whether the last change of the log-likelihood is small enough; one for each run."""

    def __init__(self, name: str, tol: float, total_weight: float) -> None:
        self.name = name
        self.tol = tol
        self.total_weight = total_weight
        self.rate = 1.0  # of EM's gains, as far as they have told
        self.em_steps = 2 if name == "aitken" else 1  # that must have come last

    def is_met(self, log_likelihoods: list[float], em_steps: int) -> bool:
        """Whether the last change is small, once the log-likelihoods up to it are known.

        Parameters
        ----------
        log_likelihoods : list of float
        em_steps : int
            How many of the last steps were EM steps, without interruption.
        """
        now, gain = log_likelihoods[-1], log_likelihoods[-1] - log_likelihoods[-2]
        if self.name == "mean":
            return abs(gain) < self.tol * self.total_weight
        if self.name == "absolute":
            return abs(gain) < self.tol
        if self.name == "relative":
            return abs(gain) < self.tol * abs(now)
        if len(log_likelihoods) < 3:
            return False
        if gain == 0:
            return self.tol > 0
        before = log_likelihoods[-2] - log_likelihoods[-3]
        rate = gain / before if before else 1.0
        if em_steps == len(log_likelihoods) - 1:
            self.rate = rate
        elif em_steps > 1 and rate < 1:  # what an accelerator has stirred up hides slow directions
            self.rate = max(self.rate, rate) if self.rate < 1 else rate
        return 0 <= self.rate < 1 and gain * self.rate / (1 - self.rate) < self.tol


class _Kept:
    """Which iterations the trace keeps."""

    def __init__(self, every: int = 0, chosen: Collection[int] = ()) -> None:
        self.every = every
        self.chosen = chosen

    @property
    def any(self) -> bool:
        return bool(self.chosen) or self.every > 0

    @property
    def last(self) -> bool:
        return self.every > 0

    def __call__(self, iteration: int) -> bool:
        return iteration in self.chosen or (self.every > 0 and iteration % self.every == 0)


def _kept_iterations(keep: int | str | Iterable[int]) -> _Kept:
    if isinstance(keep, str):
        as_choice(keep, "keep", ("all",))
        return _Kept(every=1)
    if isinstance(keep, Iterable):
        return _Kept(chosen={as_count(i, "keep", minimum=0) for i in keep})
    return _Kept(every=as_count(keep, "keep"))
