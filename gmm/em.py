"""The EM algorithm (:prf:ref:`alg-em`): a mixture from rows, by runs from one or several starts.

The runs from all starts are :mod:`gmm.starts`, one run is :mod:`gmm.run`, its two steps are
:mod:`gmm.steps`, and what a fit returns is :mod:`gmm.result`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm.checkpoint import Checkpoint, checked_path, digest_of, told
from gmm.checks import (
    RandomState,
    as_choice,
    as_count,
    as_generator,
    as_non_negative,
    as_ridge,
)
from gmm.convergence import ACCELERATIONS
from gmm.families import FAMILIES, parse_family, refuse_units_apart
from gmm.initial import refuse_unknown_start
from gmm.missing import as_source_with_missing
from gmm.mixture import Mixture
from gmm.prior import Prior, as_prior
from gmm.progress import Bar
from gmm.result import Fit, Progress
from gmm.rows import Source
from gmm.run import Kept, Problem
from gmm.starts import Starts
from gmm.steps import steps_for, units_of
from gmm.stopping import STOPPING_RULES, StoppingRule
from gmm.sweep import SHARED
from gmm.threads import one_blas_thread

__all__ = ["fit"]

LOGGER = logging.getLogger(__name__)

#: The names of the parameters.
PARAMETERS = ("weights", "means", "covariances")


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
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
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
        What the covariances have in common: VVV (full), EEE (tied), VVI (diag), VII (spherical), or
        another of those in :mod:`gmm.families`. EVE, VVE, EEV and VEV need features in comparable
        units, whose deviations differ by a factor of no more than 1e7.
    start : str, Mixture or array (K, d)
        Where EM begins: "k-means", "k-means++", "agglomerative", "short-runs", "random",
        "random-responsibilities" or "octant", a mixture, or means; see
        :func:`gmm.initial.starting_mixture`.
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
        Called with a :class:`gmm.result.Progress` after each iteration; if it returns True, the
        fit stops.
    progress : bool
        Whether a bar shows the start, the log-likelihood, the passes and the rows read, while the
        fit runs. It needs tqdm (``pip install 'gmm-first-principles[progress]'``).
    checkpoint : path, optional
        A file that keeps where the fit is, in case it is cut off. The same call goes on from there,
        and ends in the same bits as a fit that was never cut off: mixture, log-likelihood and
        trace, but for its seconds. The file is deleted when the fit has come to its end; it stays
        after an interrupt, an error, or a stop by the callback.
    checkpoint_every : int, optional
        Iterations between two writes of it; by default a minute lies between them.
    random_state : int, Generator or None
        The source of randomness of the start.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said. The message names it. So does that for a checkpoint of other
        data or with other arguments.
    FileFormatError
        If the file at ``checkpoint`` is no checkpoint, is damaged, or comes from a newer version.
    ImportError
        If ``progress`` is true and tqdm is not installed.
    SingularCovarianceError
        If every run ends with a singular covariance (:prf:ref:`thm-unbounded`), or must, because a
        feature is constant. Not with a prior.

    Notes
    -----
    A feature that varies must have a range from 1e-130 to 1e130, and the weights a sum from 1e-40
    to 1e40, so that every square and sum is a number; else the message says which to give in
    another unit.

    An interrupt (Ctrl-C) ends the fit; what was reached is returned, with the reason
    "interrupted". Each iteration reads the rows once; one more pass gives the log-likelihood of the
    last parameters. Without a ridge the log-likelihood never decreases (:prf:ref:`thm-monotone`).

    A checkpoint has one reader: two fits at the same time need two. It holds what an acceleration
    has learnt too, so that it changes no bit whether, when and how often it is written. Its file
    holds numbers and text, and nothing that is executed when it is read (:mod:`gmm.checkpoint`). To
    know the rows again it takes one more look at them. The callback, which no file can know, is
    that of the new call; it sees the iterations that follow. On other processors, or with another
    version of NumPy, the last digits of what follows may differ.

    The logger "gmm" of Python's ``logging`` tells when fits and runs begin and end (INFO), of every
    iteration (DEBUG), and of runs that are left out because a component collapsed (WARNING).

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> gmm.fit(X, 2, random_state=0).mixture.weights.round(3)
    array([0.356, 0.644])
    """
    k = as_count(n_components, "n_components")
    path, every = checked_path(checkpoint, checkpoint_every)
    rows = as_source_with_missing(X, sample_weight, missing, min_rows=k)
    rule = StoppingRule(
        as_choice(stop, "stop", STOPPING_RULES), as_non_negative(tol, "tol"), rows.total_weight
    )
    name = parse_family(family, rows.n_features)
    width = as_ridge(ridge)
    rows.refuse_lost_ridge(width)
    refuse_unknown_start(start)
    if as_count(n_starts, "n_starts") > 1 and (not isinstance(start, str) or start == "octant"):
        raise ValueError(
            "n_starts: expected 1, as the start that is given leaves nothing to chance"
        )
    rng = as_generator(random_state)
    belief = as_prior(prior, rows, k)
    if not width and belief is None:
        rows.refuse_degenerate(spherical=FAMILIES[name] == "spherical")
    names = _fixed(fixed)
    if "covariances" not in names:
        refuse_units_apart(name, units_of(rows, width, belief))
    bar = Bar(progress, "passes")
    problem = Problem(
        rows,
        k,
        name,
        width,
        belief,
        rule,
        as_count(max_iter, "max_iter", minimum=0),
        Kept.of(keep),
        as_choice(accelerate, "accelerate", ACCELERATIONS),
        callback,
        steps_for(rows, k, name, width, belief, names),
        bar,
    )
    if path is not None:
        subject = _subject(problem, start, n_starts, missing, random_state)
        problem = replace(problem, checkpoint=Checkpoint(path, every, subject))
    LOGGER.info(
        "fit of %s with %d components to %d rows of %d features begins",
        name,
        k,
        rows.n_rows,
        rows.n_features,
    )
    starts = Starts(problem, start, rng.integers(2**63, size=n_starts))
    with bar, problem.checkpoint or nullcontext(), _held(rows, k):
        starts.follow()
    return _result(problem, starts)


def _held(rows: Source, n_components: int) -> AbstractContextManager[None]:
    """One hold on the linear algebra's threads for all passes, where passes use our own."""
    shared = rows.n_rows * n_components >= SHARED
    return one_blas_thread() if shared else nullcontext()


def _fixed(fixed: str | Iterable[str]) -> frozenset[str]:
    given = (fixed,) if isinstance(fixed, str) else tuple(fixed)
    names = frozenset(as_choice(name, "fixed", tuple(PARAMETERS)) for name in given)
    if len(names) == len(PARAMETERS):
        raise ValueError("fixed: expected some parameters to be free, got all of them")
    return names


def _subject(
    problem: Problem,
    start: str | Mixture | ArrayLike,
    n_starts: int,
    missing: str,
    random_state: RandomState,
) -> dict[str, Any]:
    """What a checkpoint is of: all that the bits of a fit depend on."""
    seed: object = "a generator"
    if random_state is None or isinstance(random_state, int | np.integer):
        seed = None if random_state is None else int(random_state)
    arguments = {
        "n_components": problem.n_components,
        "family": problem.family,
        "start": start,
        "n_starts": int(n_starts),
        "tol": problem.rule.tol,
        "stop": problem.rule.name,
        "max_iter": problem.max_iter,
        "ridge": problem.ridge,
        "prior": problem.prior,
        "fixed": ", ".join(sorted(problem.steps.fixed)),
        "missing": missing,
        "accelerate": problem.accelerate,
        "keep": f"every {problem.kept.every}, {sorted(problem.kept.chosen)}",
        "random_state": seed,
    }
    subject = {name: told(value) for name, value in arguments.items()}
    shape = {"n_rows": problem.rows.n_rows, "n_features": problem.rows.n_features}
    return {**shape, **digest_of(problem.rows).told(), **subject}


def _result(problem: Problem, starts: Starts) -> Fit:
    """The best run; the checkpoint stays if there is something left to do."""
    checkpoint, best, rows = problem.checkpoint, starts.best, problem.rows
    if checkpoint is not None:
        checkpoint.remove() if starts.are_over else checkpoint.write()
    if best is None:
        assert starts.failure is not None
        raise starts.failure
    interrupted = any(run.reason == "interrupted" for run in starts.runs)
    reason = "interrupted" if interrupted else best.run.reason
    LOGGER.info(
        "fit ends: log-likelihood %.6f after %d iterations, %s",
        best.run.log_likelihood,
        best.run.n_iter,
        reason,
    )
    return Fit(
        best.mixture,
        best.run.log_likelihood,
        best.trace,
        reason,
        tuple(starts.runs),
        rows.n_rows,
        rows.total_weight,
        0.0 if problem.prior is None else problem.prior.log_density(best.mixture),
        problem.steps.fixed,
    )
