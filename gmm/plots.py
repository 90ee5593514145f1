"""Pictures of mixtures and fits, with matplotlib (``pip install gmm-first-principles[plots]``).

Each function draws into the Axes given as ``ax=``, or into new ones, and returns them. Backgrounds
are transparent and colours are few, so that a figure stands on a light or a dark page; components
differ by marker or line as well as by colour.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm.checks import FloatArray, as_count, as_indices, as_matrix, as_non_negative
from gmm.em import Fit
from gmm.merging import Merging
from gmm.mixture import Mixture
from gmm.rows import as_rows
from gmm.selection import Selection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "DARK",
    "INK",
    "MARKERS",
    "MUTED",
    "PALETTE",
    "density",
    "ellipses",
    "entropies",
    "log_likelihood",
    "responsibilities",
    "selection",
    "snapshots",
    "use_style",
]

INK = "#26292c"
MUTED = "#6b7177"
#: Colours of the components, in order; they differ in lightness too.
PALETTE = (
    "#0b6070",
    "#b4622d",
    "#6a4c93",
    "#4f7a28",
    "#a8324a",
    "#2f5fb3",
    "#8a6d00",
    "#7a5a4a",
)
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))

#: What each colour becomes on a dark page.
DARK = {
    INK: "#dcdfe1",
    MUTED: "#a4acb3",
    "#0b6070": "#7cc9d6",
    "#b4622d": "#e6a57e",
    "#6a4c93": "#bfa3e6",
    "#4f7a28": "#a9cf7a",
    "#a8324a": "#f09aa9",
    "#2f5fb3": "#8fb4f2",
    "#8a6d00": "#d9bf56",
    "#7a5a4a": "#c9ab9b",
}


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(
            "gmm.plots needs matplotlib: pip install 'gmm-first-principles[plots]'"
        ) from None
    return plt


def use_style() -> None:
    """Set matplotlib's defaults to the book's look, for all figures that follow."""
    plt = _pyplot()
    plt.rcParams.update(
        {
            "figure.figsize": (6.2, 3.5),
            "figure.constrained_layout.use": True,
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=list(PALETTE)),
            "axes.titlesize": 11,
            "axes.labelsize": 11,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.labelsize": 9.5,
            "ytick.labelsize": 9.5,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "font.family": "serif",
            "font.serif": ["STIXGeneral"],
            "mathtext.fontset": "stix",
            "font.size": 11,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "lines.linewidth": 1.6,
            "patch.edgecolor": "none",
            "svg.fonttype": "path",
            "svg.hashsalt": "gmm",
        }
    )


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    new: Axes = _pyplot().subplots()[1]
    return new


def _colour(k: int) -> str:
    return PALETTE[k % len(PALETTE)]


def _two_features(mixture: Mixture, features: tuple[int, int]) -> NDArray[np.int64]:
    if mixture.n_features < 2:
        raise ValueError(
            f"mixture: expected at least 2 features to draw in the plane, got {mixture.n_features}"
        )
    chosen = as_indices(features, "features", mixture.n_features)
    if len(chosen) != 2:
        raise ValueError(f"features: expected two positions, got {len(chosen)}")
    return chosen


def ellipses(
    mixture: Mixture,
    X: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    n_sigmas: float = 2.0,
    features: tuple[int, int] = (0, 1),
) -> Axes:
    """Ellipses at a given Mahalanobis distance (:eq:`eq-sigma-ellipse`), over the data if given.

    Parameters
    ----------
    mixture : Mixture
        Of two features or more.
    X : array (n, d), optional
        Rows, drawn as points.
    ax : Axes, optional
    n_sigmas : float
        The distance; in the plane the 2σ ellipse holds 86 % of its component's mass.
    features : pair of int
        The two features to draw.

    Returns
    -------
    Axes
    """
    chosen = _two_features(mixture, features)
    radius = as_non_negative(n_sigmas, "n_sigmas")
    ax = _axes(ax)
    if X is not None:
        rows = as_matrix(X, n_features=mixture.n_features)
        ax.plot(*rows[:, chosen].T, ".", color=MUTED, ms=3, alpha=0.55, mew=0, zorder=1)
    plane = mixture.marginal(chosen)
    for k in range(plane.n_components):
        curve = plane.component(k).ellipse(radius)
        style: Any = LINES[k % len(LINES)]
        ax.plot(*curve.T, color=_colour(k), ls=style, lw=1.6, zorder=2)
        marker = MARKERS[k % len(MARKERS)]
        ax.plot(*plane.means[k], marker, color=_colour(k), ms=6, zorder=3)
    return ax


def snapshots(
    fit: Fit,
    X: ArrayLike,
    iterations: Iterable[int] | None = None,
    *,
    n_sigmas: float = 2.0,
    features: tuple[int, int] = (0, 1),
    n_columns: int = 3,
) -> NDArray[Any]:
    """The mixtures that a fit kept, side by side over the data.

    Parameters
    ----------
    fit : Fit
        Made with ``keep=``, which says what iterations there are to show.
    X : array (n, d)
    iterations : iterable of int, optional
        Those to show; by default all that were kept.
    n_sigmas, features
        As for :func:`ellipses`.
    n_columns : int
        Panels in a row.

    Returns
    -------
    array of Axes (number of panels,)
    """
    kept = fit.trace.mixtures
    chosen = sorted(kept) if iterations is None else list(iterations)
    missing = [i for i in chosen if i not in kept]
    if missing or not chosen:
        raise ValueError(
            f"iterations: expected some that the fit kept ({sorted(kept)}), got {chosen}; "
            "say which to keep by fit(..., keep=...)"
        )
    columns = min(as_count(n_columns, "n_columns"), len(chosen))
    n_rows = -(-len(chosen) // columns)
    plt = _pyplot()
    width = plt.rcParams["figure.figsize"][0]
    figure, grid = plt.subplots(
        n_rows,
        columns,
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(width, 0.85 * width / columns * n_rows),
    )
    panels: NDArray[Any] = grid.ravel()
    for ax, i in zip(panels, chosen, strict=False):
        ellipses(kept[i], X, ax, n_sigmas=n_sigmas, features=features)
        ax.set_title(f"iteration {i}")
    for ax in panels[len(chosen) :]:
        figure.delaxes(ax)
    return panels[: len(chosen)]


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
    ax = _axes(ax)
    values = fit.trace.log_likelihood
    many = len(values) > 40
    ax.plot(np.arange(len(values)), values, "-" if many else "-o", color=PALETTE[0], ms=3)
    ax.set_xlabel("iteration")
    ax.set_ylabel("log-likelihood (nats)")
    ax.margins(x=0.02)
    return ax


def density(
    mixture: Mixture,
    X: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    n_levels: int = 8,
) -> Axes:
    """The density: contours for two features, curves of the components and their sum for one.

    Parameters
    ----------
    mixture : Mixture
        Of one or two features; take a marginal of others.
    X : array (n, d), optional
        Rows, drawn as points (two features) or as a histogram (one).
    ax : Axes, optional
    n_levels : int
        Contours; each level is half of the next one in the logarithm of the density.

    Returns
    -------
    Axes
    """
    if mixture.n_features > 2:
        raise ValueError(
            f"mixture: expected 1 or 2 features, got {mixture.n_features}; take a marginal first"
        )
    levels = as_count(n_levels, "n_levels", minimum=2)
    rows = None if X is None else as_rows(X, n_features=mixture.n_features).X
    ax = _axes(ax)
    low, high = _extent(mixture, rows)
    if mixture.n_features == 1:
        return _density_curve(mixture, rows, ax, float(low[0]), float(high[0]))
    if rows is not None:
        ax.plot(*rows.T, ".", color=MUTED, ms=3, alpha=0.55, mew=0, zorder=1)
    x, y = (np.linspace(low[i], high[i], 160) for i in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    values = mixture.log_density(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    top = values.max()
    heights = np.linspace(top - levels, top - 0.25, levels)
    for depth, height in enumerate(heights):
        ax.contour(
            x,
            y,
            values,
            [height],
            colors=PALETTE[0],
            linewidths=0.6 + 1.2 * depth / levels,
            linestyles="solid",
        )
    return ax


def selection(selection: Selection, ax: Axes | None = None) -> Axes:
    """The criterion of each family against the number of components; the chosen cell is ringed.

    Parameters
    ----------
    selection : Selection
        What :func:`gmm.select` returns.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = _axes(ax)
    for j, family in enumerate(selection.families):
        style: Any = LINES[j % len(LINES)]
        ax.plot(
            selection.n_components,
            selection.table[:, j],
            color=_colour(j),
            ls=style,
            marker=MARKERS[j % len(MARKERS)],
            ms=4,
            label=family,
        )
    family, k, value = selection.ranking()[0]
    ax.plot([k], [value], "o", ms=12, mfc="none", mec=INK)
    ax.annotate(f"{family}, {k}", (k, value), (0, -16), textcoords="offset points", ha="center")
    ax.set_xticks(selection.n_components)
    ax.set_xlabel("number of components")
    ax.set_ylabel(f"{selection.criterion.upper()} (smaller is better)")
    ax.legend(ncols=2)
    return ax


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
    ax = _axes(ax)
    numbers = [len(groups) for groups in merging.partitions]
    ax.plot(numbers, merging.entropies, "-o", color=PALETTE[0])
    ax.set_xticks(numbers)
    ax.set_xlabel("number of clusters")
    ax.set_ylabel("entropy (nats)")
    return ax


def _density_curve(
    mixture: Mixture, rows: NDArray[Any] | None, ax: Axes, low: float, high: float
) -> Axes:
    if rows is not None:
        bins = int(np.clip(2 * np.sqrt(len(rows)), 10, 60))
        ax.hist(rows[:, 0], bins=bins, density=True, color=MUTED, alpha=0.3)
    x = np.linspace(low, high, 500)
    parts = np.exp(mixture.component_log_densities(x[:, None]))
    for k in range(mixture.n_components):
        style: Any = LINES[1 + k % (len(LINES) - 1)]
        ax.plot(x, parts[:, k], color=_colour(k), ls=style)
    ax.plot(x, parts.sum(axis=1), color=INK, lw=1.2)
    ax.set_ylabel("density")
    return ax


def _extent(mixture: Mixture, rows: NDArray[Any] | None) -> tuple[FloatArray, FloatArray]:
    """The corners of a box that holds the data and three deviations about each mean."""
    deviations = np.sqrt(np.diagonal(mixture.covariances, axis1=1, axis2=2))
    low = (mixture.means - 3 * deviations).min(axis=0)
    high = (mixture.means + 3 * deviations).max(axis=0)
    if rows is not None:
        low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
    return low, high


def responsibilities(
    X: ArrayLike,
    mixture: Mixture,
    ax: Axes | None = None,
    *,
    features: tuple[int, int] = (0, 1),
) -> Axes:
    """Rows by responsible component: colour and marker say which, fading says how surely.

    Parameters
    ----------
    X : array (n, d)
    mixture : Mixture
        Of two features or more.
    ax : Axes, optional
    features : pair of int
        The two features to draw.

    Returns
    -------
    Axes
    """
    chosen = _two_features(mixture, features)
    rows = as_matrix(X, n_features=mixture.n_features)
    shares = mixture.responsibilities(rows)
    ax = _axes(ax)
    greatest = shares.max(axis=1)
    least = 1.0 / mixture.n_components
    sureness = (greatest - least) / (1.0 - least) if mixture.n_components > 1 else greatest
    owner = shares.argmax(axis=1)
    for k in range(mixture.n_components):
        mine = owner == k
        ax.scatter(
            rows[mine, chosen[0]],
            rows[mine, chosen[1]],
            s=16,
            marker=MARKERS[k % len(MARKERS)],
            c=[_colour(k)],
            alpha=0.12 + 0.88 * sureness[mine],
            linewidths=0,
        )
    return ax
