"""A fit in motion: its mixtures over the data, its log-likelihood beside them.

:mod:`gmm.plots` offers :func:`animation`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from gmm.charts import log_likelihood
from gmm.checks import FloatArray, IntArray, as_choice, as_matrix, as_non_negative, as_positive
from gmm.marks import PALETTE, colour, outlines, pyplot, two_features
from gmm.mixture import Mixture
from gmm.persistence import written_atomically
from gmm.result import Fit

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

__all__ = ["FORMATS", "animation"]

#: What an animation can be written as.
FORMATS = ("html", "gif", "mp4")
#: A file needs a page of its own: transparent frames would show one through the other.
PAGE = "white"
#: The largest page, in MB; matplotlib would leave out the frames beyond.
LARGEST_PAGE = 2**20


def animation(
    fit: Fit,
    X: ArrayLike,
    path: str | os.PathLike[str] | None = None,
    *,
    interval: float = 200.0,
    format: str | None = None,
    n_sigmas: float = 2.0,
    features: tuple[int, int] = (0, 1),
) -> FuncAnimation:
    """The mixtures that a fit kept, one after the other, and the growth of its log-likelihood.

    The colour of a row is the mixture of the components' colours in the proportions of its
    responsibilities (:eq:`eq-responsibilities`); the ellipses are those of
    :func:`gmm.plots.ellipses`.

    Parameters
    ----------
    fit : Fit
        Made with ``keep="all"``, or another ``keep=`` that chooses two iterations or more.
    X : array (n, d)
    path : path, optional
        A file to write, which replaces an existing one when it is complete.
    interval : float
        Milliseconds from one frame to the next.
    format : str, optional
        "html" (a page's part, with buttons), "gif" or "mp4", for which matplotlib needs ffmpeg. By
        default the ending of ``path`` decides.
    n_sigmas : float
        The Mahalanobis distance of the ellipses.
    features : pair of int
        The two features to draw.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        With a frame for each iteration that was kept. Without a ``path`` it is the caller who
        shows or saves it.

    Raises
    ------
    ValueError, TypeError
        If the fit kept fewer than two mixtures, if the format is unknown or there is no path for
        it, or if another argument is not as said.
    RuntimeError
        If the format is "mp4" and there is no ffmpeg.

    Examples
    --------
    >>> import gmm, os, tempfile
    >>> X = gmm.datasets.old_faithful().X
    >>> fit = gmm.fit(X, 2, start="random", max_iter=3, tol=0, keep="all", random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "old_faithful.gif")
    ...     _ = gmm.plots.animation(fit, X, path)
    ...     with open(path, "rb") as file:
    ...         file.read(6)
    b'GIF89a'
    """
    kept = fit.trace.mixtures
    if len(kept) < 2:
        raise ValueError(
            "fit: expected one that kept the mixtures of two iterations or more, got "
            f"{sorted(kept)}; make it by gmm.fit(..., keep='all')"
        )
    chosen = two_features(fit.mixture, features)
    rows = as_matrix(X, n_features=fit.mixture.n_features)
    radius = as_non_negative(n_sigmas, "n_sigmas")
    pause = as_positive(interval, "interval")
    suffix = _format(path, format)
    result = _animation(fit, rows, chosen, radius, pause)
    if path is not None:
        with written_atomically(path) as file:
            file.write(_encoded(result, suffix))
    return result


def _format(path: str | os.PathLike[str] | None, format: str | None) -> str:
    """The format to write, if it is known and can be written."""
    if path is None:
        if format is not None:
            raise ValueError(f"format: expected a path to write {format!r} to, got none")
        return ""
    suffix = Path(path).suffix.removeprefix(".").lower() if format is None else format
    as_choice(suffix, "format", FORMATS)
    pyplot()
    from matplotlib.animation import FFMpegWriter

    if suffix == "mp4" and not FFMpegWriter.isAvailable():
        raise RuntimeError(
            "format: 'mp4' needs the program ffmpeg, and there is none; install it (apt install "
            "ffmpeg, brew install ffmpeg, conda install ffmpeg), or choose 'gif' or 'html'"
        )
    return suffix


def _animation(
    fit: Fit, rows: FloatArray, chosen: IntArray, radius: float, pause: float
) -> FuncAnimation:
    plt = pyplot()
    from matplotlib.animation import FuncAnimation

    kept = fit.trace.mixtures
    iterations = sorted(kept)
    width = plt.rcParams["figure.figsize"][0]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(1.3 * width, 0.55 * width), width_ratios=(3, 2)
    )
    log_likelihood(fit, right)
    curve = right.lines[0]
    right.set(xlim=right.get_xlim(), ylim=right.get_ylim())
    (end,) = right.plot([], [], "o", color=PALETTE[1], ms=7)
    values = fit.trace.log_likelihood

    def frame(i: int) -> list[Any]:
        left.clear()
        _rows_and_ellipses(left, kept[i], rows, chosen, radius)
        left.set_title(f"iteration {i}")
        curve.set_data(np.arange(i + 1), values[: i + 1])
        end.set_data([i], [values[i]])
        return [curve, end]

    frame(iterations[0])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the panels must not move from frame to frame
    return FuncAnimation(figure, frame, frames=iterations, interval=pause)


def _rows_and_ellipses(
    ax: Axes, mixture: Mixture, rows: FloatArray, chosen: IntArray, radius: float
) -> None:
    from matplotlib.colors import to_rgb

    colours = np.array([to_rgb(colour(k)) for k in range(mixture.n_components)])  # (K, 3)
    mixed = np.clip(mixture.responsibilities(rows) @ colours, 0.0, 1.0)
    points = rows[:, chosen]
    ax.scatter(points[:, 0], points[:, 1], c=mixed, s=12, alpha=0.6, linewidths=0, zorder=1)
    outlines(ax, mixture.marginal(chosen), radius)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.08 * (high - low)
    ax.set(
        xlim=(low[0] - margin[0], high[0] + margin[0]),
        ylim=(low[1] - margin[1], high[1] + margin[1]),
    )


def _encoded(movie: FuncAnimation, suffix: str) -> bytes:
    """The animation as the contents of a file."""
    from matplotlib import rc_context

    with rc_context({"savefig.facecolor": PAGE, "animation.embed_limit": LARGEST_PAGE}):
        if suffix == "html":
            return movie.to_jshtml().encode()
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, f"animation.{suffix}")
            movie.save(target, writer="pillow" if suffix == "gif" else "ffmpeg")
            return target.read_bytes()
