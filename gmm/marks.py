"""The look of the figures: colours, markers, lines, and what all kinds of figures draw.

Backgrounds are transparent and colours are few, so that a figure stands on a light or a dark page;
components differ by marker or line as well as by colour. :mod:`gmm.plots` offers what is public
here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm.checks import FloatArray, IntArray, as_indices
from gmm.mixture import Mixture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DARK", "INK", "LINES", "MARKERS", "MUTED", "PALETTE", "use_style"]

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


def both_themes() -> list[list[str]]:
    """The colours of a figure (ink, muted, components), each with its dark counterpart."""
    return [[light, DARK[light]] for light in (INK, MUTED, *PALETTE)]


def pyplot() -> Any:
    """matplotlib.pyplot, or an error that says what to install."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(
            "gmm.plots needs matplotlib: pip install 'gmm-first-principles[plots]'"
        ) from None
    return plt


def use_style() -> None:
    """Set matplotlib's defaults to the book's look, for all figures that follow."""
    plt = pyplot()
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


def axes_for(ax: Axes | None) -> Axes:
    """The Axes that were given, or new ones."""
    if ax is not None:
        return ax
    new: Axes = pyplot().subplots()[1]
    return new


def colour(k: int) -> str:
    """The colour of component k."""
    return PALETTE[k % len(PALETTE)]


def marker(k: int) -> str:
    """The marker of component k; with the colour it tells 64 components apart."""
    return MARKERS[(k + k // len(PALETTE)) % len(MARKERS)]


def line_style(k: int) -> Any:
    """The line of component k; with the colour it tells 64 components apart."""
    return LINES[(k + k // len(PALETTE)) % len(LINES)]


def two_features(mixture: Mixture, features: ArrayLike) -> IntArray:
    """The positions of the two features to draw, if the mixture has them."""
    if mixture.n_features < 2:
        raise ValueError(
            f"mixture: expected at least 2 features to draw in the plane, got {mixture.n_features}"
        )
    chosen = as_indices(features, "features", mixture.n_features)
    if len(chosen) != 2:
        raise ValueError(f"features: expected two positions, got {len(chosen)}")
    return chosen


def outlines(ax: Axes, plane: Mixture, radius: float) -> None:
    """The means of a mixture of two features, and the ellipses at a Mahalanobis distance."""
    for k in range(plane.n_components):
        curve = plane.component(k).ellipse(radius)
        ax.plot(*curve.T, color=colour(k), ls=line_style(k), lw=1.6, zorder=2)
        ax.plot(*plane.means[k], marker(k), color=colour(k), ms=6, zorder=3)


def dots(ax: Axes, points: FloatArray) -> None:
    """Rows of two features whose components are not shown."""
    ax.plot(*points.T, ".", color=MUTED, ms=3, alpha=0.55, mew=0, zorder=1)


def cloud(
    ax: Axes,
    points: FloatArray,
    owner: IntArray,
    n_components: int,
    *,
    size: float | FloatArray = 16.0,
    opacity: float | FloatArray = 1.0,
) -> None:
    """Rows of two features in the marker and colour of their components, one cloud for each.

    A size for all is given to matplotlib as one number: its files then hold the marker once.
    """

    def of(mine: NDArray[np.bool_], value: float | FloatArray) -> Any:
        return value if np.ndim(value) == 0 else np.asarray(value)[mine]

    for k in range(n_components):
        mine = owner == k
        ax.scatter(
            points[mine, 0],
            points[mine, 1],
            s=of(mine, size),
            marker=marker(k),
            c=[colour(k)],
            alpha=of(mine, opacity),
            linewidths=0,
        )
