"""One picture for each page, 1200 × 630, which other sites show beside a link to it."""

from __future__ import annotations

import hashlib
import shutil
import textwrap
from pathlib import Path
from typing import Any

from fontTools.ttLib import TTFont
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Ellipse
from PIL import Image

PAPER, INK, SOFT, ACCENT = "#fffefb", "#22262a", "#5a6068", "#0b6070"
SIZES = [(54, 16), (46, 19), (38, 23), (30, 30)]  # of the title's type, and its characters a line
MAX_LINES = 4
VERSION = 1  # of the design: a new one makes all cards anew


def title_lines(title: str) -> tuple[int, list[str]]:
    """Return the size of type and the lines of a title."""
    settings = [(size, textwrap.wrap(title, width)) for size, width in SIZES]
    return next((s for s in settings if len(s[1]) < MAX_LINES), settings[-1])


def typeface(woff2: Path, cache: Path) -> FontProperties:
    """Return a font of the theme as Matplotlib can use it."""
    path = cache / f"{woff2.stem}.ttf"
    if not path.exists():
        with TTFont(woff2) as font:
            font.flavor = None
            font.save(path)
    return FontProperties(fname=str(path))


def draw(path: Path, title: str, foot: str, text: FontProperties, ui: FontProperties) -> None:
    """Write the card of a page."""
    figure, axes = canvas(1200, 630)
    two_ellipses(axes, (950, 315), 1)
    size, lines = title_lines(title)
    head: dict[str, Any] = {
        "font": text,
        "fontsize": size,
        "color": INK,
        "va": "center",
        "linespacing": 1.15,
    }
    axes.text(80, 335, "\n".join(lines), **head)
    axes.text(84, 70, foot, font=ui, fontsize=20, color=SOFT)
    save(figure, path)


def canvas(width: int, height: int) -> tuple[Figure, Axes]:
    """Return an empty picture, measured in pixels."""
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def two_ellipses(axes: Axes, centre: tuple[float, float], size: float) -> None:
    """Draw the mark of the book."""
    for side, angle, colour in ((-1, 38, ACCENT), (1, -38, INK)):
        x, y = centre[0] + 50 * side * size, centre[1] - 50 * side * size
        for scale in (size, 1.6 * size):
            shape = Ellipse((x, y), 270 * scale, 130 * scale, angle=angle, ec=colour)
            shape.set_linewidth(4 * size**2 / scale)
            shape.set_facecolor((colour, 0.08) if scale == size else "none")
            axes.add_patch(shape)


def save(figure: Figure, path: Path) -> None:
    """Save a picture with few colours."""
    figure.savefig(path)
    with Image.open(path) as drawn:
        palette = drawn.convert("P", palette=Image.Palette.ADAPTIVE, colors=48)
    palette.save(path, optimize=True)


def cover(title: str, author: str, fonts: Path, cache: Path) -> bytes:
    """Return the picture on the cover of the EPUB."""
    cache.mkdir(parents=True, exist_ok=True)
    mark = hashlib.sha256(f"{VERSION}|cover|{title}|{author}".encode()).hexdigest()[:16]
    ready = cache / f"{mark}.png"
    if not ready.exists():
        text, ui = (typeface(fonts / f"{name}.woff2", cache) for name in ("text-600", "ui-400"))
        figure, axes = canvas(1600, 2400)
        two_ellipses(axes, (800, 1700), 2.2)
        lines = "\n".join(textwrap.wrap(title, 18))
        head: dict[str, Any] = {"font": text, "fontsize": 100, "color": INK, "linespacing": 1.2}
        axes.text(160, 1150, lines, va="top", **head)
        axes.text(166, 160, "\n".join(textwrap.wrap(author, 48)), font=ui, fontsize=34, color=SOFT)
        making = cache / f"{mark}.making.png"
        save(figure, making)
        making.rename(ready)
    return ready.read_bytes()


def write(titles: dict[str, str], book: str, fonts: Path, cache: Path, target: Path) -> None:
    """Write the cards of all pages; those whose words are as before come from the cache.

    Parameters
    ----------
    titles
        The title of each page, by the name of the card's file.
    book
        The title of the book, which stands at the foot.
    fonts
        The fonts of the theme.
    cache, target
        Where cards are kept from one build to the next, and where the site has them.
    """
    cache.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    text, ui = (typeface(fonts / f"{name}.woff2", cache) for name in ("text-600", "ui-400"))
    for name, title in titles.items():
        foot = book if title != book else "Read · build · reuse"
        mark = hashlib.sha256(f"{VERSION}|{title}|{foot}".encode()).hexdigest()[:16]
        ready = cache / f"{mark}.png"
        if not ready.exists():
            making = cache / f"{mark}.making.png"
            draw(making, title, foot, text, ui)
            making.rename(ready)
        shutil.copyfile(ready, target / f"{name}.png")
