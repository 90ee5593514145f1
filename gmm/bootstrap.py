"""A test for one more component: the likelihood ratio, with its distribution simulated.

Under a mixture of K components the likelihood ratio of K + 1 against K has no known distribution
(:prf:ref:`prop-singular-information`). So it is sampled: from the fitted mixture with K components
come data sets of the same size, and both models are fitted to each (McLachlan 1987).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gmm.batch import Outcome
from gmm.checks import (
    FloatArray,
    RandomState,
    SingularCovarianceError,
    as_choice,
    as_count,
    as_generator,
    as_ridge,
)
from gmm.em import fit
from gmm.families import parse_family
from gmm.inference import row_counts, sample_like
from gmm.missing import MISSING, IncompleteRows, as_source_with_missing
from gmm.mixture import Mixture
from gmm.prior import Prior, Priors, as_prior
from gmm.progress import Bar
from gmm.result import Fit
from gmm.rows import Rows, as_rows
from gmm.search import FINE, Cell, search, search_parts

__all__ = ["BootstrapTest", "bootstrap_test"]

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BootstrapTest:
    """What :func:`bootstrap_test` returns.

    Parameters
    ----------
    statistic : float
        Twice the gain in log-likelihood by one more component.
    samples : array (B,)
        The same for data sets from the fit with ``n_components`` components.
    n_components : int
        Of the null hypothesis.
    family : str
    """

    statistic: float
    samples: FloatArray
    n_components: int
    family: str

    @property
    def p_value(self) -> float:
        """The share of equal or greater values, counting the data's (:eq:`eq-bootstrap-p-value`).

        A test at a level that is a multiple of 1 / (B + 1) has this level if the null hypothesis is
        the fitted mixture (:prf:ref:`prop-bootstrap-level`).
        """
        return float(1 + (self.samples >= self.statistic).sum()) / (1 + len(self.samples))

    def __repr__(self) -> str:
        k = self.n_components
        return (
            f"BootstrapTest of {self.family}, {k} against {k + 1} components: statistic "
            f"{self.statistic:.3f}, p-value {self.p_value:.3f} by {len(self.samples)} samples"
        )


def bootstrap_test(
    X: Any,
    n_components: int,
    family: str = "VVV",
    *,
    n_samples: int = 99,
    sample_weight: ArrayLike | None = None,
    ridge: float = 0.0,
    prior: Prior | str | None = None,
    missing: str = "raise",
    progress: bool = False,
    random_state: RandomState = None,
) -> BootstrapTest:
    """Test whether one more component fits better than chance would have it.

    Parameters
    ----------
    X : array (n, d)
    n_components : int
        K, the number of components of the null hypothesis.
    family : str
    n_samples : int
        Data sets that are drawn and fitted; with 99 of them the least p-value is 0.01.
    sample_weight : array (n,), optional
        How often each row has occurred, in whole numbers: their sum is the number of rows of each
        sample. Weights of importance are refused, as rows with such weights are not a sample from
        any mixture that could be drawn from.
    ridge : float
        Added to each variance, in squared units of the data, in the fits of data and samples.
    prior : Prior, "default" or None
        All fits are then maxima of the posterior, and the statistic is twice the gain in their
        log-likelihoods. "default" is :func:`gmm.default_prior` for each set of rows and each number
        of components.
    missing : str
        "raise", or "em": NaN marks a missing value, as in :func:`gmm.fit`. The gaps of the data are
        laid on each sample, which is right if values are missing completely at random
        (:prf:ref:`def-missing-mechanisms`): if gaps depend on values, those of the data do not
        belong to the rows of a sample.
    progress : bool
        Whether a bar counts the data sets. It needs tqdm
        (``pip install 'gmm-first-principles[progress]'``).
    random_state : int, Generator or None
        Draws the data sets, and the seeds of starts.

    Returns
    -------
    BootstrapTest

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.
    ImportError
        If ``progress`` is true and tqdm is not installed.
    SingularCovarianceError
        If there is no sound fit of K components to the data.

    Notes
    -----
    The data and each sample are searched alike (:func:`gmm.search.search`), since a better search
    of the data would pass for evidence. A sample without a sound fit of K components counts as
    greater than the data, and one without any of K + 1 as no gain; so does a loss, which only fits
    with a ridge or a prior can have.

    The logger "gmm" of Python's ``logging`` tells when the test begins and ends (INFO), of every
    sample (DEBUG), and of those without a sound fit of K components (WARNING).

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.acidity().X
    >>> bootstrap_test(X, 1, "E", n_samples=19, random_state=0).p_value
    0.05
    """
    k, times = as_count(n_components, "n_components"), as_count(n_samples, "n_samples")
    width = as_ridge(ridge)
    if as_choice(missing, "missing", MISSING) == "raise":
        rows: Rows | IncompleteRows = as_rows(X, sample_weight, min_rows=k + 1)
    else:
        source = as_source_with_missing(X, sample_weight, missing, min_rows=k + 1)
        assert isinstance(source, Rows | IncompleteRows)
        rows = source
    name = parse_family(family, rows.n_features)
    counts = row_counts(rows)
    rng = as_generator(random_state)
    if as_prior(prior, rows, k) is None and not width:
        rows.refuse_degenerate()
    models = _Models(name, k, width, prior)
    bar = Bar(progress, "samples", times)
    LOGGER.info("test of %s with %d components against %d begins", name, k, k + 1)
    null, statistic = _gain(rows, models, rng)
    if null is None:
        raise SingularCovarianceError(
            f"X: no fit of {name} with {k} components whose covariances are not singular"
        )
    samples: list[float] = []
    with bar:
        for i in range(1, times + 1):
            sample = sample_like(rows, counts, null, rng)
            gaps = isinstance(rows, IncompleteRows)
            found, gain = _gain(IncompleteRows(sample) if gaps else as_rows(sample), models, rng)
            samples.append(gain)
            bar.advance()
            if found is None:
                LOGGER.warning(
                    "sample %d of %d has no sound fit, so it counts as greater", i, times
                )
            else:
                LOGGER.debug("sample %d of %d: statistic %.3f", i, times, gain)
    test = BootstrapTest(statistic, np.array(samples), k, name)
    LOGGER.info("test ends: statistic %.3f, p-value %.3f", statistic, test.p_value)
    return test


class _Models(NamedTuple):
    """The two models that are compared: K and K + 1 components of a family, fitted alike."""

    family: str
    n_components: int
    ridge: float
    prior: Prior | str | None

    @property
    def cells(self) -> list[Cell]:
        """Both, the smaller one first."""
        return [(self.family, self.n_components), (self.family, self.n_components + 1)]


def _gain(
    rows: Rows | IncompleteRows, models: _Models, rng: np.random.Generator
) -> tuple[Mixture | None, float]:
    """The fit of K components, and twice the gain in log-likelihood by one more."""
    believed = Priors.of(models.prior, rows)
    fitted = _complete if isinstance(rows, Rows) else _incomplete
    found = fitted(rows, models, believed, rng)
    fewer, more = (found.get(cell) for cell in models.cells)
    if fewer is None:
        return None, inf
    gain = 0.0 if more is None else more.log_likelihood - fewer.log_likelihood
    return fewer.mixture, 2.0 * max(gain, 0.0)


def _complete(
    rows: Any, models: _Models, believed: Priors | None, rng: np.random.Generator
) -> dict[Cell, Outcome]:
    """The best fits that a search finds."""
    return search(rows, models.cells, rng, ridge=models.ridge, prior=believed, hierarchical=False)


def _incomplete(
    rows: Any, models: _Models, believed: Priors | None, rng: np.random.Generator
) -> dict[Cell, Fit]:
    """The best ends of EM from where a search of completed rows has ended."""
    parts = search_parts(
        rows, models.cells, rng, ridge=models.ridge, prior=believed, hierarchical=False
    )
    best: dict[Cell, Fit] = {}
    for cell, outcome in ((cell, part[cell]) for part in parts for cell in part):
        family, k = cell
        try:
            end = fit(
                rows,
                k,
                family,
                start=outcome.mixture,
                tol=FINE,
                ridge=models.ridge,
                prior=None if believed is None else believed(k),
                accelerate="auto",
            )
        except SingularCovarianceError:
            continue
        if cell not in best or end.objective > best[cell].objective:
            best[cell] = end
    return best
