r"""EM for rows that come one block at a time: stepwise for streams, incremental for blocks kept.

Both take an M-step after every block instead of after all of them. :class:`StepwiseEM` forgets the
rows and keeps a running average of statistics; :class:`IncrementalEM` keeps the statistics of each
block and puts new ones in their place when the block comes round again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import as_choice, as_matrix, as_non_negative, as_ridge
from gmm.m_step import m_step
from gmm.missing import MISSING, IncompleteRows, as_source_with_missing, e_step_of_groups, grouped
from gmm.mixture import Mixture
from gmm.prior import Prior, checked_prior
from gmm.rows import Rows, Source, as_rows, as_source
from gmm.statistics import Statistics
from gmm.sweep import Frame, Sweep

__all__ = ["IncrementalEM", "StepwiseEM", "matched_statistics"]


class StepwiseEM:
    r"""EM on a stream: after each block, a step of its own (:eq:`eq-stepwise`).

    The statistics per unit of weight move towards those of the new block by a share
    :math:`\eta_t = (t + \text{offset})^{-\text{exponent}}`, t being the number of the block, and
    the M-step follows.

    Parameters
    ----------
    start : Mixture
        Where to begin: the first statistics are those that it matches.
    exponent : float
        How slowly shares shrink, above 1/2 and at most 1. With 1 all blocks count the same
        (:prf:ref:`thm-step-sizes`); the smaller it is, the sooner the start and all that was
        concluded from it are forgotten (:prf:ref:`prop-memory`).
    offset : float
        The greater, the longer the start is remembered; with 0 the first block replaces it.
    ridge : float
        Added to each variance, in squared units of the data.
    prior : Prior, optional
        Its rows stand in each M-step beside as many rows as have come so far
        (:prf:ref:`thm-map-m-step`).
    missing : str
        "raise": NaN is refused. "em": it marks a missing value (:prf:ref:`thm-missing-e-step`). A
        row without any value says nothing, and is left out with a warning.

    Attributes
    ----------
    mixture : Mixture
        The parameters after the last block.
    statistics : Statistics
        Per unit of weight: what the M-step made them from.
    n_steps, n_rows : int
        Blocks and rows (of positive weight, with a value) so far.
    total_weight : float
        The sum of the weights of these rows.
    log_likelihood : float
        That of the last block under the parameters from before it was learned: an honest test, as
        no row has been seen twice. NaN before the first block.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> stream = StepwiseEM(gmm.initial.starting_mixture(X[:50], 2, random_state=0))
    >>> for block in np.array_split(X, 8):
    ...     stream = stream.update(block)
    >>> stream.n_rows, stream.mixture.weights.round(2)
    (272, array([0.35, 0.65]))
    """

    def __init__(
        self,
        start: Mixture,
        *,
        exponent: float = 0.6,
        offset: float = 2.0,
        ridge: float = 0.0,
        prior: Prior | None = None,
        missing: str = "raise",
    ) -> None:
        self.mixture = _as_start(start)
        self.exponent = as_non_negative(exponent, "exponent")
        if not 0.5 < self.exponent <= 1.0:
            raise ValueError(
                f"exponent: expected a number above 1/2 and at most 1, got {self.exponent}"
            )
        self.offset = as_non_negative(offset, "offset")
        self.ridge = as_ridge(ridge)
        self.prior = checked_prior(prior, start.n_features, "a Prior or None")
        self.missing = as_choice(missing, "missing", MISSING)
        self.statistics = matched_statistics(start)
        self.n_steps = 0
        self.n_rows = 0
        self.total_weight = 0.0
        self.log_likelihood = np.nan

    def update(self, block: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Learn one block; every block counts the same, whatever its size.

        Parameters
        ----------
        block : array (b, d)
        sample_weight : array (b,), optional

        Raises
        ------
        SingularCovarianceError
            If a component collapses. Nothing has then changed.
        """
        rows: Source
        if self.missing == "raise":
            rows = as_rows(block, sample_weight, n_features=self.mixture.n_features)
        else:
            matrix = as_matrix(block, n_features=self.mixture.n_features)
            rows = as_source_with_missing(matrix, sample_weight, "em", every_feature=False)
        found = _statistics(rows, self.mixture)
        step = (self.n_steps + 1 + self.offset) ** -self.exponent
        # about the present means, as the block's own statistics are then: nothing cancels
        news = _times(found, step / rows.total_weight).shifted(self.mixture.means)
        statistics = news + _times(self.statistics, 1.0 - step)
        total_weight = self.total_weight + rows.total_weight
        so_far = statistics if self.prior is None else _times(statistics, total_weight)
        self.mixture = m_step(so_far, self.mixture.family, self.ridge, prior=self.prior)
        self.statistics = statistics
        self.log_likelihood = found.log_likelihood
        self.n_steps += 1
        self.n_rows += rows.n_rows
        self.total_weight = total_weight
        return self


class IncrementalEM:
    """EM that takes an M-step after each block of the data (Neal and Hinton 1998).

    Each pass raises the lower bound block by block (:prf:ref:`thm-incremental`); only statistics
    are kept from one pass to the next, those of each block.

    Parameters
    ----------
    X : array (n, d), path, table or BlockRows
        Rows in blocks, as :func:`gmm.fit` takes them.
    start : Mixture
    ridge : float
        Added to each variance, in squared units of the data.

    Attributes
    ----------
    mixture : Mixture
    n_passes : int

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> blocks = gmm.rows.BlockRows(np.array_split(X, 8))
    >>> learner = IncrementalEM(blocks, gmm.initial.starting_mixture(X, 2, random_state=0))
    >>> for _ in range(5):
    ...     learner.run_pass()
    >>> round(learner.mixture.log_likelihood(X), 4)
    -1130.264
    """

    def __init__(self, X: Any, start: Mixture, *, ridge: float = 0.0) -> None:
        self.rows = as_source(X)
        self.mixture = _as_start(start)
        if self.rows.n_features != start.n_features:
            raise ValueError(
                f"start: expected {self.rows.n_features} features, as the rows have, "
                f"got {start.n_features}"
            )
        self.ridge = as_ridge(ridge)
        self.n_passes = 0
        self._frame = Frame.of(self.rows)
        self._parts: list[Statistics] = []
        self._total: Statistics | None = None

    def run_pass(self) -> None:
        """Read all blocks once; in the first pass the M-step follows the last, then each block.

        Raises
        ------
        ValueError
            If there are more blocks, or fewer, than in the first pass.
        """
        if self._total is None:
            parts = [_statistics(Rows(*block), self.mixture, self._frame) for block in self.rows]
            self._parts, self._total = parts, reduce(add, parts)
            self.mixture = m_step(self._total, self.mixture.family, self.ridge)
        else:
            self._exchange(self._total)
        self.n_passes += 1

    def _exchange(self, total: Statistics) -> None:
        """Exchange the statistics of each block for new ones, and take an M-step after each."""
        read = 0
        for block in self.rows:
            if read < len(self._parts):
                found = _statistics(Rows(*block), self.mixture, self._frame)
                total = total + _times(self._parts[read], -1.0) + found
                self._parts[read], self._total = found, total
                self.mixture = m_step(total, self.mixture.family, self.ridge)
            read += 1
        if read != len(self._parts):
            raise ValueError(
                f"X: expected {len(self._parts)} blocks, as in the first pass, got {read}"
            )


def matched_statistics(mixture: Mixture) -> Statistics:
    """Statistics of weight one that a mixture matches (:prf:ref:`thm-matched-statistics`).

    Parameters
    ----------
    mixture : Mixture
    """
    k, d = mixture.means.shape
    weights, stored = mixture.weights, mixture.stored
    if mixture.kind == "tied":
        second = stored
    else:
        second = (weights * stored.T).T * (d if mixture.kind == "spherical" else 1)
    return Statistics(mixture.kind, mixture.means, weights, np.zeros((k, d)), second, 0.0, 0)


def _as_start(start: object) -> Mixture:
    if not isinstance(start, Mixture):
        raise TypeError(f"start: expected a Mixture, got {type(start).__name__}")
    return start


def _statistics(rows: Source, mixture: Mixture, frame: Frame | None = None) -> Statistics:
    if isinstance(rows, IncompleteRows):
        groups = list(grouped(rows.X, rows.weights, mixture.n_components))
        return e_step_of_groups(groups, mixture)
    assert isinstance(rows, Rows)
    return Sweep(rows, mixture.n_components, mixture.kind, frame, once=True)(mixture)


def _times(statistics: Statistics, factor: float) -> Statistics:
    """Statistics of rows whose weights are multiplied by a factor."""
    return replace(
        statistics,
        counts=factor * statistics.counts,
        first=factor * statistics.first,
        second=factor * statistics.second,
        log_likelihood=factor * statistics.log_likelihood,
    )
