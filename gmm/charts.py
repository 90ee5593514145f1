"""Charts of a search for parameters or for a model: numbers against iterations, or in a table.

:mod:`gmm.plots` offers them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gmm.checks import FloatArray, as_choice
from gmm.marks import INK, MUTED, PALETTE, axes_for, colour, line_style, marker, pyplot
from gmm.merging import Merging
from gmm.result import Fit
from gmm.selection import Selection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["convergence", "entropies", "log_likelihood", "selection"]

#: Gains below this fraction of the log-likelihood are rounding.
ROUNDING = 1000 * float(np.finfo(np.float64).eps)
#: Of the gains that are no rounding, the last of so many equal parts tells the rate.
PARTS = 4
#: How much of its colour the best cell of a heat map has.
DEEPEST = 0.45


def log_likelihood(fit: Fit, ax: Axes | None = None) -> Axes:
    """The log-likelihood after each iteration; it never falls (:prf:ref:`thm-monotone`).

    Parameters
    ----------
    fit : Fit
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes_for(ax)
    values = fit.trace.log_likelihood
    many = len(values) > 40
    ax.plot(np.arange(len(values)), values, "-" if many else "-o", color=PALETTE[0], ms=3)
    ax.set_xlabel("iteration")
    ax.set_ylabel("log-likelihood (nats)")
    ax.margins(x=0.02)
    return ax


def convergence(fit: Fit, ax: Axes | None = None) -> Axes:
    """How far the log-likelihood is from its limit, on a logarithmic scale, and how fast it nears.

    Near a maximum the gap shrinks by a constant factor c each iteration, the square of EM's rate,
    and so do the gains (:prf:ref:`prop-gain-ratio`). The factor comes from the slope of the
    straight line that is fitted to the logarithms of the last quarter of the gains, of three at
    least, those aside that are no more than rounding. With it Aitken's prediction
    (:prf:ref:`thm-aitken`) of what is still missing after the last of them gives the limit.

    Parameters
    ----------
    fit : Fit
        Of an accelerated one, c is an average.
    ax : Axes, optional

    Returns
    -------
    Axes
        Its first line has the gaps; the second one, dashed, the fitted factor c, which is written
        beside it. Of gains that are fewer than three, or do not shrink, there is no second line,
        and the limit is the last value.

    Raises
    ------
    ValueError
        If the log-likelihood has not risen.

    Examples
    --------
    >>> import gmm
    >>> fit = gmm.fit(gmm.datasets.old_faithful().X, 2, random_state=0)
    >>> ax = gmm.plots.convergence(fit)
    >>> [text.get_text() for text in ax.texts]
    ['× 0.0576 per iteration']
    """
    values = fit.trace.log_likelihood
    gains = np.diff(values)
    sound = np.flatnonzero(gains > ROUNDING * np.abs(values).max())
    if not sound.size:
        raise ValueError("fit: expected a log-likelihood that rises, got one that does not")
    last = int(sound[-1])
    factor = _gain_ratio(gains[: last + 1])
    missing = 0.0 if factor is None else factor / (1.0 - factor) * gains[last]
    iterations = np.arange(last + 2)
    gaps = values[last + 1] + missing - values[: last + 2]
    shown = gaps > 0
    ax = axes_for(ax)
    many = len(gaps) > 40
    ax.semilogy(iterations[shown], gaps[shown], "-" if many else "-o", color=PALETTE[0], ms=3)
    if factor is not None:
        fitted = missing * factor ** (iterations - float(last + 1))
        ax.semilogy(iterations, fitted, color=INK, ls="--", lw=1.0)
        middle = len(fitted) // 2
        ax.annotate(
            f"× {factor:.4f} per iteration",
            (iterations[middle], max(fitted[middle], gaps[middle])),
            (8, 8),
            textcoords="offset points",
        )
    ax.set_xlabel("iteration")
    ax.set_ylabel("gap to the limit (nats)")
    ax.margins(x=0.02)
    return ax


def _gain_ratio(gains: FloatArray) -> float | None:
    """The factor by which the last gains shrink, if there are three in a row and they do."""
    fallen = np.flatnonzero(gains <= 0)
    run = gains[fallen[-1] + 1 :] if fallen.size else gains
    tail = run[-max(3, len(run) // PARTS) :]
    if len(tail) < 3:
        return None
    slope = np.polyfit(np.arange(len(tail)), np.log(tail), 1)[0]
    return float(np.exp(slope)) if slope < 0 else None


def selection(selection: Selection, ax: Axes | None = None, kind: str = "curves") -> Axes:
    """The criterion of each family and number of components; the chosen cell is marked.

    Parameters
    ----------
    selection : Selection
        What :func:`gmm.select` returns.
    ax : Axes, optional
    kind : str
        "curves"
            A curve for each family against the number of components, the chosen cell ringed.
        "heat map"
            A cell for each family and number, with its value; the better its rank, the deeper its
            colour. The chosen cell is framed. Cells that may not be chosen
            (:meth:`gmm.selection.Selection.reason`) have no colour; those without a fit are
            hatched.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If ``kind`` is unknown.

    Examples
    --------
    >>> import gmm
    >>> table = gmm.select(gmm.datasets.acidity().X, range(1, 4), random_state=0)
    >>> ax = gmm.plots.selection(table, kind="heat map")
    >>> [text.get_text() for text in ax.texts]
    ['461.7', '461.7', '392.1', '394.5', '396.6', '397.9']
    """
    if as_choice(kind, "kind", ("curves", "heat map")) == "curves":
        return _selection_curves(selection, axes_for(ax))
    if ax is None:
        width = pyplot().rcParams["figure.figsize"][0]
        height = 0.9 + 0.32 * len(selection.n_components)
        ax = axes_for(pyplot().subplots(figsize=(width, height))[1])
    return _heat_map(selection, ax)


def _selection_curves(selection: Selection, ax: Axes) -> Axes:
    for j, family in enumerate(selection.families):
        ax.plot(
            selection.n_components,
            selection.table[:, j],
            color=colour(j),
            ls=line_style(j),
            marker=marker(j),
            ms=4,
            label=family,
        )
    family, k, value = selection.ranking()[0]
    ax.plot([k], [value], "o", ms=12, mfc="none", mec=INK)
    ax.annotate(f"{family}, {k}", (k, value), (0, -16), textcoords="offset points", ha="center")
    ax.margins(y=0.15)  # room for the name below the ring
    ax.set_xticks(selection.n_components)
    ax.set_xlabel("number of components")
    ax.set_ylabel(f"{selection.criterion.upper()} (smaller is better)")
    ax.legend(ncols=2)
    return ax


def _heat_map(selection: Selection, ax: Axes) -> Axes:
    from matplotlib.patches import Rectangle

    families, numbers, table = selection.families, selection.n_components, selection.table
    ranks = {cell[:2]: rank for rank, cell in enumerate(selection.ranking())}
    ax.set(xlim=(0, len(families)), ylim=(len(numbers), 0))
    size = _text_size(ax, max(len(f"{v:.1f}") for v in table.ravel()), len(families))
    for (i, j), value in np.ndenumerate(table):
        rank = ranks.get((families[j], numbers[i]))
        cell = Rectangle((j, i), 1, 1, facecolor="none", zorder=1)
        if np.isnan(value):
            cell.set(hatch="////", edgecolor=MUTED, linewidth=0)
        elif rank is not None:
            cell.set(facecolor=PALETTE[0], alpha=DEEPEST * (1 - rank / len(ranks)))
        ax.add_patch(cell)
        if not np.isnan(value):
            ink = MUTED if rank is None else INK
            ax.text(
                j + 0.5, i + 0.5, f"{value:.1f}", color=ink, size=size, ha="center", va="center"
            )
        if rank == 0:
            ax.add_patch(Rectangle((j, i), 1, 1, fill=False, edgecolor=INK, linewidth=2, zorder=3))
    ax.set_xticks(np.arange(len(families)) + 0.5, families)
    ax.set_yticks(np.arange(len(numbers)) + 0.5, [str(k) for k in numbers])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(f"family; the numbers are the {selection.criterion.upper()}, smaller is better")
    ax.set_ylabel("number of components")
    return ax


def _text_size(ax: Axes, n_characters: int, n_columns: int) -> float:
    """The size in points at which so many figures fit into a column; at most that of ticks."""
    column = 72 * ax.get_window_extent().width / ax.figure.dpi / n_columns
    return min(9.5, 1.7 * column / n_characters)  # a figure is half as wide as it is high


def entropies(merging: Merging, ax: Axes | None = None) -> Axes:
    """The entropy of the assignment to clusters of components, against their number.

    Parameters
    ----------
    merging : Merging
        What :func:`gmm.merging.merge_by_entropy` returns.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes_for(ax)
    numbers = [len(groups) for groups in merging.partitions]
    ax.plot(numbers, merging.entropies, "-o", color=PALETTE[0])
    ax.set_xticks(numbers)
    ax.set_xlabel("number of clusters")
    ax.set_ylabel("entropy (nats)")
    return ax
