"""The choice of a model: a table of fits over families and numbers of components.

:func:`select` finds the best fit of each cell (:mod:`gmm.search`) and compares them by a criterion
(:mod:`gmm.criteria`); :func:`cross_validated` compares by data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from math import inf, isnan, nan
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm.batch import Outcome, most_rows
from gmm.checks import (
    FloatArray,
    RandomState,
    SingularCovarianceError,
    as_choice,
    as_count,
    as_generator,
    as_non_negative,
    as_ridge,
)
from gmm.criteria import aic, bic, icl
from gmm.em import fit
from gmm.families import FAMILIES, n_parameters, parse_family, refuse_units_apart
from gmm.missing import IncompleteRows, as_source_with_missing, responsibilities
from gmm.mixture import Mixture
from gmm.prior import Prior, Priors
from gmm.progress import Bar
from gmm.result import Fit
from gmm.rows import Rows, Source, as_rows
from gmm.search import PARTS, Cell, search, search_parts
from gmm.steps import units_of

__all__ = ["CRITERIA", "Selection", "aic", "bic", "cross_validated", "icl", "select"]

LOGGER = logging.getLogger(__name__)

#: The names of the criteria; of all of them smaller is better.
CRITERIA = ("bic", "aic", "icl", "cv")
#: Cells whose criterion is within this of the least are fitted to the end before one is chosen.
CLOSE = 2.0
#: A fit is chosen only if no component is narrower than the data by more than this, in variance.
NARROWEST_WINNER = 1e3


def select(
    X: Any,
    n_components: int | Iterable[int] = range(1, 10),
    families: str | Iterable[str] = "all",
    criterion: str = "bic",
    *,
    sample_weight: ArrayLike | None = None,
    missing: str = "raise",
    ridge: float = 0.0,
    prior: Prior | str | None = None,
    tol: float = 1e-8,
    n_folds: int = 5,
    progress: bool = False,
    random_state: RandomState = None,
) -> Selection:
    """Fit all families and numbers of components, and choose by a criterion.

    Parameters
    ----------
    X : array (n, d), path, table or BlockRows
        What :func:`gmm.fit` takes.
    n_components : int or iterable of int
        The numbers of components to try.
    families : "all", str or iterable of str
        The families to try; "all" are the fourteen, or E and V of one feature.
    criterion : str
        "bic", "aic", "icl" (:mod:`gmm.criteria`), or "cv": minus twice the log-likelihood of rows
        that were left out (:func:`cross_validated`). Of all of them smaller is better.
    sample_weight : array (n,), optional
        As for :func:`gmm.fit`.
    missing : str
        "raise" or "em", as for :func:`gmm.fit`. Of incomplete rows the starts are sought among
        completed ones, which takes one fit for each cell and start. Not with "cv".
    ridge : float
    prior : Prior, "default" or None
        As for :func:`gmm.fit`. The criteria take the log-likelihood without the prior.
    tol : float
        The tolerance of the fits that are returned, in nats for a unit of weight. The table itself
        is made with one of 1e-6.
    n_folds : int
        For "cv".
    progress : bool
        Whether a bar counts the cells: once when they are searched in one batch, once for each part
        of large data, and once for each fold. It needs tqdm
        (``pip install 'gmm-first-principles[progress]'``).
    random_state : int, Generator or None
        Chooses the parts of large data in which starts are sought, and the folds.

    Returns
    -------
    Selection

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.
    ImportError
        If ``progress`` is true and tqdm is not installed.
    SingularCovarianceError
        If no cell has a fit.

    Notes
    -----
    The logger "gmm" of Python's ``logging`` tells when the selection begins and ends and what it
    has found (INFO), what has come of each cell (DEBUG), and of cells without a fit (WARNING).

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> selection = gmm.select(X, range(1, 5), ["EEE", "VVV"], random_state=0)
    >>> selection.best.mixture.family, selection.best.mixture.n_components
    ('EEE', 3)
    >>> round(selection.bic("VVV", 2), 3)
    2322.192
    """
    counts = _numbers(n_components)
    rows = as_source_with_missing(X, sample_weight, missing, min_rows=min(counts))
    names = _families(families, rows.n_features)
    if as_choice(criterion, "criterion", CRITERIA) == "cv" and not isinstance(rows, Rows):
        raise ValueError(
            "criterion: 'cv' needs rows in an array, and no missing values; take another criterion"
        )
    width, precision = as_ridge(ridge), as_non_negative(tol, "tol")
    rows.refuse_lost_ridge(width)
    folds = as_count(n_folds, "n_folds", minimum=2)
    if criterion == "cv" and folds > rows.n_rows:
        raise ValueError(
            f"n_folds: expected at most one for each of the {rows.n_rows} rows, got {folds}"
        )
    rng = as_generator(random_state)
    believed = Priors.of(prior, rows)
    if not width and believed is None:
        rows.refuse_degenerate()
    selection = Selection(rows, names, counts, criterion, width, precision, believed)
    cells = selection._possible()
    in_a_batch = _fits_in_a_batch(rows)
    times = (1 if in_a_batch else PARTS) + (folds if criterion == "cv" else 0)
    LOGGER.info("selection among %d cells by %s begins", len(cells), criterion)
    with Bar(progress, "cells", times * len(cells)) as bar:
        bar.describe("search")
        if in_a_batch:
            assert isinstance(rows, Rows)
            selection._outcomes.update(search(rows, cells, rng, ridge=width, prior=believed))
            bar.advance(len(cells))
        else:
            parts = search_parts(rows, cells, rng, ridge=width, prior=believed)
            selection._fit_parts(cells, parts, bar)
        if not selection._found():
            raise SingularCovarianceError(
                "X: no family with any of these numbers of components has a fit whose covariances "
                "are not singular; give fewer components or a positive ridge"
            )
        if criterion == "cv":
            bar.advance(folds * (len(cells) - len(selection._found())))  # there is nothing to do
            selection._cross_validate(folds, rng, bar)
        bar.describe("choice")
        selection._choose()
    selection._log(cells)
    return selection


@dataclass(eq=False, repr=False)
class Selection:
    """A table of fits, and the one that a criterion prefers; what :func:`select` returns.

    Parameters
    ----------
    rows : Source
    families : tuple of str
        The columns of the table.
    n_components : tuple of int
        Its rows.
    criterion : str
    ridge, tol : float
    priors : Priors, optional
        The prior of each number of components.

    Attributes
    ----------
    best : Fit
        The fit with the least criterion among those that are no artefacts: whose components own
        enough rows and are not far narrower than the data.
    """

    rows: Source
    families: tuple[str, ...]
    n_components: tuple[int, ...]
    criterion: str
    ridge: float
    tol: float
    priors: Priors | None = None

    def __post_init__(self) -> None:
        self._outcomes: dict[Cell, Outcome] = {}
        self._fits: dict[Cell, Fit] = {}
        self._held_out: dict[Cell, float] = {}
        self._winner: Cell | None = None

    # ------------------------------------------------------------------ one cell

    def fit(self, family: str, n_components: int) -> Fit:
        """The fit of a cell, to the full tolerance.

        Parameters
        ----------
        family : str
        n_components : int

        Raises
        ------
        SingularCovarianceError
            If the cell has none; the message is its :meth:`reason`.
        """
        cell = self._cell(family, n_components)
        if cell not in self._fits:
            if cell not in self._outcomes:
                raise SingularCovarianceError(self.reason(*cell))
            self._fits[cell] = self._finished(cell)
        return self._fits[cell]

    def log_likelihood(self, family: str, n_components: int) -> float:
        """The log-likelihood of a cell; NaN if it has no fit."""
        cell = self._cell(family, n_components)
        if cell in self._fits:
            return self._fits[cell].log_likelihood
        return self._outcomes[cell].log_likelihood if cell in self._outcomes else nan

    def aic(self, family: str, n_components: int) -> float:
        """Akaike's criterion of a cell (:eq:`eq-aic`); NaN if it has no fit."""
        return aic(self.log_likelihood(family, n_components), self._size(family, n_components))

    def bic(self, family: str, n_components: int) -> float:
        """The Bayesian information criterion of a cell (:eq:`eq-bic`); NaN if it has no fit."""
        value = self.log_likelihood(family, n_components)
        return bic(value, self._size(family, n_components), self.rows.total_weight)

    def icl(self, family: str, n_components: int) -> float:
        """The integrated completed likelihood of a cell (:eq:`eq-icl`); NaN if it has no fit."""
        cell = self._cell(family, n_components)
        if cell not in self._found():
            return nan
        mixture, size = self._mixture(cell), self._size(*cell)
        certain = log_assignments(self.rows, mixture)
        return icl(self.log_likelihood(*cell), size, self.rows.total_weight, certain)

    def cv(self, family: str, n_components: int) -> float:
        """Minus twice the held-out log-likelihood of a cell, if that was the criterion; or NaN."""
        return -2.0 * self._held_out.get(self._cell(family, n_components), nan)

    def value(self, family: str, n_components: int) -> float:
        """The criterion of a cell; NaN if it has no fit."""
        by_name = {"bic": self.bic, "aic": self.aic, "icl": self.icl, "cv": self.cv}
        return by_name[self.criterion](family, n_components)

    def reason(self, family: str, n_components: int) -> str:
        """Why a cell has no fit, or is not chosen whatever its criterion; empty otherwise."""
        cell = self._cell(family, n_components)
        if cell not in self._found():
            collapsed = "every start ended with a component that had collapsed onto a few rows"
            return self._refusal(cell) or collapsed
        if self.priors is not None:
            return ""
        fewest, narrowness = self._smallest(cell)
        needed = self.rows.n_features + 2 if "V" in cell[0][1:] else 3 if cell[0][0] == "V" else 1
        if fewest < needed - 0.5:
            return f"a component owns {fewest:.1f} rows, fewer than {needed}"
        if narrowness > NARROWEST_WINNER:
            return f"a component's variance is {narrowness:.0f} times less than that of the data"
        return ""

    # ------------------------------------------------------------------ the whole table

    @property
    def best(self) -> Fit:
        """The fit with the least criterion."""
        assert self._winner is not None
        return self.fit(*self._winner)

    @property
    def table(self) -> FloatArray:
        """The criterion of all cells, shape ``(len(n_components), len(families))``."""
        return np.array([[self.value(f, k) for f in self.families] for k in self.n_components])

    def ranking(self) -> list[tuple[str, int, float]]:
        """Family, number of components and criterion of all that may be chosen, best first."""
        cells = [cell for cell in self._found() if not self.reason(*cell)] or self._found()
        values = [(*cell, self.value(*cell)) for cell in cells]
        return sorted((item for item in values if item[2] < inf), key=lambda item: item[2])

    def plot(self, ax: Any = None, kind: str = "curves") -> Any:
        """The criterion as curves over K, or as a heat map (:func:`gmm.plots.selection`)."""
        from gmm import plots

        return plots.selection(self, ax, kind)

    def __repr__(self) -> str:
        width = max(9, *(len(f"{v:.1f}") for v in self.table.ravel())) + 1
        lines = [f"Selection by {self.criterion} (smaller is better)"]
        lines.append("   K" + "".join(f"{family:>{width}}" for family in self.families))
        for k, values in zip(self.n_components, self.table, strict=True):
            cells = ("-" if np.isnan(v) else f"{v:.1f}" for v in values)
            lines.append(f"{k:4d}" + "".join(f"{cell:>{width}}" for cell in cells))
        best = ", ".join(f"{f} {k} ({v:.3f})" for f, k, v in self.ranking()[:3])
        return "\n".join([*lines, f"best: {best}"])

    def _repr_html_(self) -> str:
        head = "".join(f"<th scope='col'>{escape(family)}</th>" for family in self.families)
        body = ""
        for k, values in zip(self.n_components, self.table, strict=True):
            cells = ("–" if np.isnan(v) else f"{v:.1f}" for v in values)
            body += f"<tr><th scope='row'>{k}</th>" + "".join(f"<td>{c}</td>" for c in cells)
            body += "</tr>"
        caption = f"<caption>{escape(self.criterion)}, smaller is better</caption>"
        return f"<table>{caption}<tr><th scope='col'>K</th>{head}</tr>{body}</table>"

    # ------------------------------------------------------------------ within

    def _cell(self, family: str, n_components: int) -> Cell:
        """The cell, by any of its names."""
        name = parse_family(family)
        if self.rows.n_features == 1 and name not in self.families:
            name = name[0]
        k = as_count(n_components, "n_components")
        if name not in self.families or k not in self.n_components:
            raise ValueError(
                f"cell: expected a family of {', '.join(self.families)} and one of "
                f"{', '.join(map(str, self.n_components))} components, got {family!r} and {k}"
            )
        return name, k

    def _size(self, family: str, n_components: int) -> int:
        return n_parameters(family, n_components, self.rows.n_features)

    def _cells(self) -> list[Cell]:
        return [(family, k) for k in self.n_components for family in self.families]

    def _found(self) -> list[Cell]:
        return [cell for cell in self._cells() if cell in self._outcomes or cell in self._fits]

    def _refusal(self, cell: Cell) -> str:
        """Why a cell cannot have a fit, whatever the start; empty if it can."""
        family, k = cell
        if k > self.rows.n_rows:
            return f"{k} components, but only {self.rows.n_rows} rows"
        try:
            refuse_units_apart(family, units_of(self.rows, self.ridge, self._prior(k)))
        except SingularCovarianceError as error:
            return str(error)
        return ""

    def _possible(self) -> list[Cell]:
        """The cells to search: there is at least one."""
        refusals = {cell: self._refusal(cell) for cell in self._cells()}
        if all(refusals.values()):
            raise SingularCovarianceError(next(iter(refusals.values())))
        return [cell for cell, refusal in refusals.items() if not refusal]

    def _prior(self, n_components: int) -> Prior | None:
        return None if self.priors is None else self.priors(n_components)

    def _mixture(self, cell: Cell) -> Mixture:
        return self._fits[cell].mixture if cell in self._fits else self._outcomes[cell].mixture

    def _smallest(self, cell: Cell) -> tuple[float, float]:
        """The least count of a component, and the greatest narrowness."""
        if cell not in self._fits:
            outcome = self._outcomes[cell]
            return outcome.smallest, outcome.narrowness
        mixture = self._fits[cell].mixture
        precisions = np.linalg.inv(mixture.covariances)
        relative = np.einsum("kij,ij->k", precisions, self.rows.covariance) / mixture.n_features
        return float(mixture.weights.min() * self.rows.total_weight), float(relative.max())

    def _refined(self, cell: Cell, start: Mixture, max_iter: int = 1000) -> Fit:
        """EM on all rows to the full tolerance, from where a search has ended."""
        family, k = cell
        return fit(
            self.rows,
            k,
            family,
            start=start,
            tol=self.tol,
            max_iter=max_iter,
            ridge=self.ridge,
            prior=self._prior(k),
            accelerate="auto",
        )

    def _finished(self, cell: Cell) -> Fit:
        """The fit of a cell that the search has found in a batch."""
        mixture = self._outcomes[cell].mixture
        try:
            return self._refined(cell, mixture)
        except SingularCovarianceError:  # the search stopped on the way to a singularity
            return self._refined(cell, mixture, max_iter=0)

    def _fit_parts(self, cells: list[Cell], parts: list[dict[Cell, Outcome]], bar: Bar) -> None:
        """EM on all rows from the fits of their parts; the better one is kept."""
        for i, part in enumerate(parts, 1):
            bar.describe(f"part {i} of {len(parts)}")
            for cell in cells:
                bar.advance()
                if cell not in part:
                    continue
                try:
                    found = self._refined(cell, part[cell].mixture)
                except SingularCovarianceError:
                    continue
                if cell not in self._fits or found.objective > self._fits[cell].objective:
                    self._fits[cell] = found

    def _cross_validate(self, n_folds: int, rng: np.random.Generator, bar: Bar) -> None:
        assert isinstance(self.rows, Rows)
        cells = self._found()
        self._held_out = held_out(self.rows, cells, n_folds, rng, self.ridge, self.priors, bar)

    def _choose(self) -> None:
        """Finish the fits that might be the best, and find which one is."""
        ranking = self.ranking()
        if not ranking:
            raise SingularCovarianceError(
                "criterion: expected a cell with a fit in every fold, got none whose covariances "
                "are not singular; give fewer components or a positive ridge"
            )
        for family, k, value in ranking:
            if value <= ranking[0][2] + CLOSE:
                self.fit(family, k)
        self._winner = self.ranking()[0][:2]

    def _log(self, cells: list[Cell]) -> None:
        """Say what has come of all cells."""
        empty = [cell for cell in cells if isnan(self.log_likelihood(*cell))]
        if empty:
            LOGGER.warning(
                "%d of %d cells have no fit, first %s with %d components: %s",
                len(empty),
                len(cells),
                *empty[0],
                self.reason(*empty[0]),
            )
        if LOGGER.isEnabledFor(logging.DEBUG):
            for cell in cells:
                LOGGER.debug("%s with %d components: %.3f", *cell, self.value(*cell))
        if LOGGER.isEnabledFor(logging.INFO):
            assert self._winner is not None
            value = self.value(*self._winner)
            LOGGER.info(
                "selection ends: %s with %d components, %s %.3f",
                *self._winner,
                self.criterion,
                value,
            )


# ---------------------------------------------------------------- comparisons by data


def cross_validated(
    X: ArrayLike,
    n_components: int,
    family: str = "VVV",
    *,
    n_folds: int = 5,
    sample_weight: ArrayLike | None = None,
    ridge: float = 0.0,
    random_state: RandomState = None,
) -> float:
    """The log-likelihood of rows under fits that have not seen them (:eq:`eq-cross-validation`).

    Parameters
    ----------
    X : array (n, d)
    n_components : int
    family : str
    n_folds : int
    sample_weight : array (n,), optional
    ridge : float
    random_state : int, Generator or None
        Deals the rows to the folds, and draws the seeds of starts.

    Returns
    -------
    float
        The sum over folds; −∞ if there is no sound fit of the rows outside of one.

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.acidity().X
    >>> cross_validated(X, 2, "E", random_state=0) > cross_validated(X, 1, "E", random_state=0)
    True
    """
    k = as_count(n_components, "n_components")
    rows = as_rows(X, sample_weight, min_rows=as_count(n_folds, "n_folds", minimum=2))
    cell = (parse_family(family, rows.n_features), k)
    width = as_ridge(ridge)
    rows.refuse_lost_ridge(width)
    return held_out(rows, [cell], n_folds, as_generator(random_state), width)[cell]


def held_out(
    rows: Rows,
    cells: list[Cell],
    n_folds: int,
    rng: np.random.Generator,
    ridge: float,
    priors: Priors | None = None,
    bar: Bar | None = None,
) -> dict[Cell, float]:
    """The held-out log-likelihood of several cells, on the same folds.

    Each fold's fits are sought afresh: EM from a fit of all rows would stay near it, and so have
    seen what it is judged by.
    """
    fold = rng.permutation(np.arange(rows.n_rows) % n_folds)
    totals = dict.fromkeys(cells, 0.0)
    bar = Bar(False, "cells") if bar is None else bar
    for i in range(n_folds):
        bar.describe(f"fold {i + 1} of {n_folds}")
        seen, unseen = rows.subset(fold != i), rows.subset(fold == i)
        possible = [cell for cell in cells if cell[1] <= seen.n_rows]
        found: Mapping[Cell, Outcome] = {}
        if possible:
            found = search(seen, possible, rng, ridge=ridge, prior=priors, hierarchical=False)
        for cell in cells:
            if cell in found:
                totals[cell] += found[cell].mixture.log_likelihood(unseen.X, unseen.weights)
            else:
                totals[cell] = -inf
            bar.advance()
    return totals


def log_assignments(rows: Source, mixture: Mixture) -> float:
    """Σ w log max_k r_ik: how far the rows are from being assigned with certainty."""
    total = 0.0
    incomplete = isinstance(rows, IncompleteRows)
    shares = partial(responsibilities, mixture) if incomplete else mixture.responsibilities
    for block, weights in rows:
        certain = np.log(shares(block).max(axis=1))
        total += float(certain.sum() if weights is None else weights @ certain)
    return min(total, 0.0)


# ---------------------------------------------------------------- arguments


def _numbers(n_components: int | Iterable[int]) -> tuple[int, ...]:
    given = n_components if isinstance(n_components, Iterable) else [n_components]
    numbers = tuple(sorted({as_count(k, "n_components") for k in given}))
    if not numbers:
        raise ValueError("n_components: expected at least one number, got none")
    return numbers


def _families(families: str | Iterable[str], n_features: int) -> tuple[str, ...]:
    letters = 1 if n_features == 1 else 3
    every = tuple(name for name in FAMILIES if len(name) == letters)
    if isinstance(families, str):
        if families == "all":
            return every
        families = [families]
    chosen = {parse_family(family, n_features)[:letters] for family in families}
    if not chosen:
        raise ValueError("families: expected at least one, got none")
    return tuple(name for name in every if name in chosen)


def _fits_in_a_batch(rows: Source) -> bool:
    return isinstance(rows, Rows) and rows.n_rows <= most_rows(rows.n_features)
