"""Pictures of mixtures and fits, with matplotlib (``pip install gmm-first-principles[plots]``).

Each function draws into the Axes given as ``ax=``, or into new ones, and returns them. Backgrounds
are transparent and colours are few, so that a figure stands on a light or a dark page; components
differ by marker or line as well as by colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm.animation import animation
from gmm.charts import convergence, entropies, log_likelihood, selection
from gmm.checks import (
    FloatArray,
    as_choice,
    as_count,
    as_indices,
    as_matrix,
    as_non_negative,
)
from gmm.marks import (
    DARK,
    INK,
    LINES,
    MARKERS,
    MUTED,
    PALETTE,
    axes_for,
    cloud,
    colour,
    dots,
    outlines,
    pyplot,
    two_features,
    use_style,
)
from gmm.mixture import Mixture
from gmm.replay import replay
from gmm.result import Fit
from gmm.rows import as_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "DARK",
    "INK",
    "MARKERS",
    "MUTED",
    "PALETTE",
    "animation",
    "classification",
    "convergence",
    "density",
    "ellipses",
    "entropies",
    "log_likelihood",
    "pairs",
    "replay",
    "responsibilities",
    "selection",
    "snapshots",
    "uncertainty",
    "use_style",
]

#: Points along each axis at which a density in the plane is drawn, by contours and as a surface.
CONTOUR_POINTS, SURFACE_POINTS = 160, 45


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
    chosen = two_features(mixture, features)
    radius = as_non_negative(n_sigmas, "n_sigmas")
    ax = axes_for(ax)
    if X is not None:
        dots(ax, as_matrix(X, n_features=mixture.n_features)[:, chosen])
    outlines(ax, mixture.marginal(chosen), radius)
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
    plt = pyplot()
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


def density(
    mixture: Mixture,
    X: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    kind: str = "contour",
    n_levels: int = 8,
    features: ArrayLike | None = None,
) -> Axes:
    """The density: contours or a surface for two features, curves for one.

    Parameters
    ----------
    mixture : Mixture
    X : array (n, d), optional
        Rows, drawn as points (two features) or as a histogram (one).
    ax : Axes, optional
        For a surface, three-dimensional ones: ``plt.subplot(projection="3d")``.
    kind : str
        "contour"
            Lines of equal density; of one feature, the components' curves and their sum.
        "surface"
            The density as a height above the plane of two features.
    n_levels : int
        Contours; they are equally far apart in the logarithm of the density, by about one.
    features : one or two int, optional
        Those to draw, by the marginal density (:prf:ref:`thm-mixture-marginal`). Needed if the
        mixture has more than two.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError, TypeError
        If there are more than two features and none are chosen, if ``kind`` is unknown or does not
        suit the features or ``ax``, or if another argument is not as said.

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.iris().X
    >>> mixture = gmm.fit(X, 3, random_state=0).mixture
    >>> ax = gmm.plots.density(mixture, X, kind="surface", features=(2, 3))
    >>> ax.get_zlabel()
    'density'
    """
    as_choice(kind, "kind", ("contour", "surface"))
    levels = as_count(n_levels, "n_levels", minimum=2)
    rows = None if X is None else as_rows(X, n_features=mixture.n_features).X
    if features is not None:
        chosen = as_indices(features, "features", mixture.n_features)
        mixture, rows = mixture.marginal(chosen), None if rows is None else rows[:, chosen]
    if mixture.n_features > 2:
        raise ValueError(
            f"mixture: expected 1 or 2 features, got {mixture.n_features}; choose by features="
        )
    if kind == "surface":
        return _surface(mixture, rows, ax)
    if mixture.n_features == 1:
        return _density_curve(mixture, rows, axes_for(ax))
    return _contours(mixture, rows, axes_for(ax), levels)


def _grid(
    mixture: Mixture, rows: FloatArray | None, n_points: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Coordinates along both axes, and the points of the grid (n_points, n_points, 2)."""
    low, high = _extent(mixture, rows)
    x, y = (np.linspace(low[i], high[i], n_points) for i in (0, 1))
    return x, y, np.stack(np.meshgrid(x, y), axis=-1)


def _contours(mixture: Mixture, rows: FloatArray | None, ax: Axes, levels: int) -> Axes:
    if rows is not None:
        dots(ax, rows)
    x, y, grid = _grid(mixture, rows, CONTOUR_POINTS)
    values = mixture.log_density(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    top = values.max()
    heights = np.linspace(top - levels, top - 0.25, levels)
    widths = 0.6 + 1.2 * np.arange(levels) / levels
    ax.contour(x, y, values, heights, colors=PALETTE[0], linewidths=widths, linestyles="solid")
    return ax


def _surface(mixture: Mixture, rows: FloatArray | None, ax: Axes | None) -> Axes:
    if mixture.n_features != 2:
        raise ValueError(f"kind: expected 2 features for a surface, got {mixture.n_features}")
    space: Any = pyplot().figure().add_subplot(projection="3d") if ax is None else ax
    if space.name != "3d":
        raise ValueError("ax: expected Axes with projection='3d' for a surface, got flat ones")
    x, y, grid = _grid(mixture, rows, SURFACE_POINTS)
    heights = np.exp(mixture.log_density(grid.reshape(-1, 2))).reshape(grid.shape[:2])
    space.plot_surface(
        *np.meshgrid(x, y),
        heights,
        color=PALETTE[0],
        edgecolor=PALETTE[0],
        linewidth=0.3,
        alpha=0.25,
        shade=False,
        rcount=SURFACE_POINTS,
        ccount=SURFACE_POINTS,
    )
    if rows is not None:
        space.plot(*rows.T, 0.0, ".", color=MUTED, ms=2, alpha=0.55, mew=0)
    for axis in (space.xaxis, space.yaxis, space.zaxis):
        axis.set_pane_color((0.0, 0.0, 0.0, 0.0))
        axis.get_major_locator().set_params(nbins=5)
    space.grid(False)
    space.set_box_aspect(None, zoom=1.1)
    space.set_zlabel("density")
    placed: Axes = space
    return placed


def _density_curve(mixture: Mixture, rows: FloatArray | None, ax: Axes) -> Axes:
    (low,), (high,) = _extent(mixture, rows)
    if rows is not None:
        bins = int(np.clip(2 * np.sqrt(len(rows)), 10, 60))
        ax.hist(rows[:, 0], bins=bins, density=True, color=MUTED, alpha=0.3)
    x = np.linspace(low, high, 500)
    parts = np.exp(mixture.component_log_densities(x[:, None]))
    for k in range(mixture.n_components):
        style: Any = LINES[1 + k % (len(LINES) - 1)]
        ax.plot(x, parts[:, k], color=colour(k), ls=style)
    ax.plot(x, parts.sum(axis=1), color=INK, lw=1.2)
    ax.set_ylabel("density")
    return ax


def _extent(mixture: Mixture, rows: FloatArray | None) -> tuple[FloatArray, FloatArray]:
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
    chosen = two_features(mixture, features)
    rows = as_matrix(X, n_features=mixture.n_features)
    shares = mixture.responsibilities(rows)
    cloud(
        axes := axes_for(ax),
        rows[:, chosen],
        shares.argmax(axis=1),
        mixture.n_components,
        opacity=0.12 + 0.88 * (1.0 - _doubt(shares)),
    )
    return axes


def _doubt(shares: FloatArray) -> FloatArray:
    """1 − max_k r_ik, as a part of the greatest that it can be, from (n, K) responsibilities."""
    greatest = max(1.0 - 1.0 / shares.shape[1], 0.5)  # of one component there is no doubt
    doubt: FloatArray = np.clip(1.0 - shares.max(axis=1), 0.0, None) / greatest
    return doubt


def classification(
    mixture: Mixture,
    X: ArrayLike,
    ax: Axes | None = None,
    *,
    n_sigmas: float = 2.0,
    features: tuple[int, int] = (0, 1),
) -> Axes:
    """Rows by their most probable component (:eq:`eq-responsibilities`), and where that changes.

    Parameters
    ----------
    mixture : Mixture
        Of two features or more.
    X : array (n, d)
        Rows; marker and colour say of which component the responsibility is greatest.
    ax : Axes, optional
    n_sigmas : float
        The Mahalanobis distance of the ellipses; with 0 there are means only.
    features : pair of int
        The two features to draw. The boundary between the components is drawn if these are all:
        otherwise it depends on the others.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> ax = gmm.plots.classification(gmm.fit(X, 2, random_state=0).mixture, X)
    >>> sorted(len(cloud.get_offsets()) for cloud in ax.collections[:2])
    [97, 175]
    """
    chosen = two_features(mixture, features)
    rows = as_matrix(X, n_features=mixture.n_features)
    radius = as_non_negative(n_sigmas, "n_sigmas")
    owner = mixture.predict(rows)
    ax = axes_for(ax)
    plane = mixture.marginal(chosen)
    cloud(ax, rows[:, chosen], owner, mixture.n_components, size=14.0, opacity=0.6)
    outlines(ax, plane, radius)
    if mixture.n_features == 2:
        _boundary(ax, plane, rows[:, chosen])
    return ax


def _boundary(ax: Axes, plane: Mixture, points: FloatArray) -> None:
    """The curves on which the two greatest responsibilities are equal."""
    x, y, grid = _grid(plane, points, CONTOUR_POINTS)
    joint = plane.component_log_densities(grid.reshape(-1, 2))
    for k in range(plane.n_components - 1):  # the last component's borders are the others', too
        others = np.delete(joint, k, axis=1).max(axis=1)
        lead = (joint[:, k] - others).reshape(grid.shape[:2])
        if lead.min() < 0 < lead.max():
            ax.contour(x, y, lead, [0.0], colors=INK, linewidths=0.9, linestyles="solid")


def uncertainty(
    mixture: Mixture,
    X: ArrayLike,
    ax: Axes | None = None,
    *,
    features: tuple[int, int] = (0, 1),
) -> Axes:
    """Rows by how uncertain their component is: the larger and darker, the less we know.

    The uncertainty of a row is the probability 1 − max_k r_ik that its most probable component is
    not the one that it comes from (:eq:`eq-responsibilities`). The area of a marker grows with it
    linearly, and so does its opacity.

    Parameters
    ----------
    mixture : Mixture
        Of two features or more.
    X : array (n, d)
    ax : Axes, optional
    features : pair of int
        The two features to draw.

    Returns
    -------
    Axes
        With a legend of the sizes, from 0 to 1 − 1/K, the greatest uncertainty there is.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> ax = gmm.plots.uncertainty(gmm.fit(X, 2, random_state=0).mixture, X)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['0', '0.25', '0.5']
    """
    chosen = two_features(mixture, features)
    rows = as_matrix(X, n_features=mixture.n_features)
    shares = mixture.responsibilities(rows)
    doubt = _doubt(shares)
    ax = axes_for(ax)
    owner = shares.argmax(axis=1)
    size, opacity = _weight_of(doubt)
    cloud(ax, rows[:, chosen], owner, mixture.n_components, size=size, opacity=opacity)
    greatest = 1.0 - 1.0 / mixture.n_components
    for part in (0.0, 0.5, 1.0) if greatest else (0.0,):
        area, strength = _weight_of(np.array(part))
        ax.scatter([], [], area, INK, alpha=float(strength), lw=0, label=f"{part * greatest:.2g}")
    ax.legend(title="uncertainty", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def _weight_of(doubt: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Area, in square points, and opacity of the marker of a row."""
    return 8.0 + 112.0 * doubt, 0.3 + 0.6 * doubt


def pairs(
    mixture: Mixture,
    X: ArrayLike,
    features: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    n_sigmas: float = 2.0,
) -> NDArray[Any]:
    """Every pair of features: rows by most probable component, and the ellipses of the marginals.

    On the diagonal is the marginal density of each feature, over a histogram; below it, in row i
    and column j, the marginal mixture (:prf:ref:`thm-mixture-marginal`) of the features j and i.

    Parameters
    ----------
    mixture : Mixture
    X : array (n, d)
        All features decide which component a row is shown in, not just the two of a panel.
    features : m positions, optional
        The features to draw; by default all.
    names : m str, optional
        Their names; by default "feature 0" and so on.
    n_sigmas : float
        The Mahalanobis distance of the ellipses.

    Returns
    -------
    array of Axes (m, m)
        None above the diagonal.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as said.

    Examples
    --------
    >>> import gmm
    >>> data = gmm.datasets.iris()
    >>> mixture = gmm.fit(data.X, 3, random_state=0).mixture
    >>> panels = gmm.plots.pairs(mixture, data.X, (0, 2, 3))
    >>> panels.shape, panels[2, 0].get_xlabel(), panels[2, 0].get_ylabel()
    ((3, 3), 'feature 0', 'feature 3')
    """
    every = range(mixture.n_features) if features is None else features
    chosen = as_indices(every, "features", mixture.n_features)
    rows = as_matrix(X, n_features=mixture.n_features)
    radius = as_non_negative(n_sigmas, "n_sigmas")
    labels = [f"feature {i}" for i in chosen] if names is None else list(names)
    m = len(chosen)
    if len(labels) != m:
        raise ValueError(f"names: expected {m}, one for each feature, got {len(labels)}")
    owner = mixture.predict(rows)
    plt = pyplot()
    side = max(plt.rcParams["figure.figsize"][0], 1.5 * m)
    figure, panels = plt.subplots(m, m, sharex="col", squeeze=False, figsize=(side, 0.85 * side))
    for i, j in np.ndindex(m, m):
        ax = panels[i, j]
        if j > i:
            figure.delaxes(ax)
            panels[i, j] = None
        elif i == j:
            _density_curve(mixture.marginal(chosen[[i]]), rows[:, chosen[[i]]], ax)
            ax.set(yticks=[], ylabel="")
            ax.spines["left"].set_visible(False)
        else:
            both = chosen[[j, i]]
            cloud(ax, rows[:, both], owner, mixture.n_components, size=7.0, opacity=0.5)
            outlines(ax, mixture.marginal(both), radius)
            if j:
                ax.sharey(panels[i, 0])
                ax.tick_params(labelleft=False)
            else:
                ax.set_ylabel(labels[i])
        if i == m - 1:
            ax.set_xlabel(labels[j])
    figure.align_ylabels(list(panels[:, 0]))
    return np.asarray(panels)
