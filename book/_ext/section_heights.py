"""How tall the sections of a page will be: a browser lays out those far from the window later.

Until then it reserves the height that it is told. One that is too small moves the scroll bar when
the reader arrives, and lets what is not yet seen reach into the next section. The weights of what
a section holds are a least-squares fit to all sections of the book at two widths of the window;
nine of ten sections are within a tenth of what they say.
"""

from __future__ import annotations

import copy
import re

from bs4 import BeautifulSoup, Tag

#: Pixels on a phone and on a screen, for each of what :func:`contents` counts.
PIXELS = {
    "hundred characters": (60, 44),
    "paragraph": (27, 28),
    "formula": (107, 106),
    "line of code": (26, 27),
    "picture": (333, 520),  # for one as tall as it is wide
    "row": (38, 47),
    "hundred characters of a cell": (33, 18),
    "heading": (28, 33),
}
SLACK = 1.15  # too much is a blank that nobody sees; too little moves what is read
IN_LINE = 8  # characters, about the width of a formula in a line


def reserve(soup: BeautifulSoup, formula: re.Pattern[str]) -> None:
    """Write the height of each section into its style.

    Parameters
    ----------
    soup
        The body of a page. Pictures have their sizes.
    formula
        What stands for a formula.
    """
    for section in soup.select("section > section"):
        if section.find_parents("section")[1:]:
            continue
        found = contents(section, formula)
        narrow, wide = (
            round(SLACK * sum(PIXELS[name][width] * number for name, number in found.items()))
            for width in (0, 1)
        )
        section["style"] = f"--narrow:{narrow}px;--wide:{wide}px"


def contents(section: Tag, formula: re.Pattern[str]) -> dict[str, float]:
    """Count what a section shows: without what has to be opened, each thing once."""
    section = copy.copy(section)
    for part in section.select("details:not([open]) > :not(summary), [popover], .vh"):
        part.extract()
    found = {
        "line of code": sum(code.get_text().count("\n") for code in section.select("pre")),
        "picture": sum(aspect(image) for image in section.select("img")),
        "formula": len(section.select("div.math")),
        "row": len(section.select("tr")),
        "hundred characters of a cell": sum(map(longest_cell, section.select("tr"))) / 100,
        "heading": len(section.select("h2, h3, summary, .admonition-title, figure, .cell")),
    }
    for part in section.select("pre, tr, div.math"):
        part.extract()
    text = formula.sub("x" * IN_LINE, re.sub(r"\s+", " ", section.get_text()))
    found["hundred characters"] = len(text) / 100
    found["paragraph"] = len(section.select("p, li, dt"))
    return found


def aspect(image: Tag) -> float:
    """Return the height of a picture divided by its width."""
    width, height = (float(str(image.get(name, "1"))) for name in ("width", "height"))
    return height / width


def longest_cell(row: Tag) -> int:
    """Return the number of characters in the longest cell of a row."""
    return max((len(cell.get_text(" ", strip=True)) for cell in row.select("td, th")), default=0)
