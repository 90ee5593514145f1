"""A test for one more component: the likelihood ratio, with its distribution simulated.

Under a mixture of K components the likelihood ratio of K + 1 against K has no known distribution
(:prf:ref:`prop-singular-information`). So it is sampled: from the fitted mixture with K components
come data sets of the same size, and both models are fitted to each (McLachlan 1987).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from gmm.batch import Outcome
from gmm.checks import (
    FloatArray,
    RandomState,
    SingularCovarianceError,
    as_count,
    as_generator,
)
from gmm.families import parse_family
from gmm.progress import Bar
from gmm.rows import Rows, as_rows
from gmm.search import search

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
    greater than the data, and one without any of K + 1 as no gain.

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
    rows = as_rows(X, min_rows=k + 1)
    name = parse_family(family, rows.n_features)
    rng = as_generator(random_state)
    rows.refuse_degenerate()
    bar = Bar(progress, "samples", times)
    LOGGER.info("test of %s with %d components against %d begins", name, k, k + 1)
    null, statistic = _gain(rows, name, k, rng)
    if null is None:
        raise SingularCovarianceError(
            f"X: no fit of {name} with {k} components whose covariances are not singular"
        )
    samples: list[float] = []
    with bar:
        for i in range(1, times + 1):
            sample = as_rows(null.mixture.sample(rows.n_rows, rng)[0])
            found, gain = _gain(sample, name, k, rng)
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


def _gain(
    rows: Rows, family: str, k: int, rng: np.random.Generator
) -> tuple[Outcome | None, float]:
    """The fit of k components, and twice the gain in log-likelihood by one more."""
    found = search(rows, [(family, k), (family, k + 1)], rng, hierarchical=False)
    fewer, more = found.get((family, k)), found.get((family, k + 1))
    if fewer is None:
        return None, inf
    gain = 0.0 if more is None else more.log_likelihood - fewer.log_likelihood
    return fewer, 2.0 * max(gain, 0.0)
