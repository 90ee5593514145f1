"""The figures: for both themes, with their sizes, so that nothing moves when they arrive."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

PIXELS_PER_POINT = 4 / 3
PLACES = re.compile(r' (?:d|x|y|x1|x2|y1|y2)="[^"]*"')
LONG_DECIMAL = re.compile(r"(-?\d+\.\d\d)\d+")


def dark_rules(colours: Mapping[str, str]) -> str:
    """Return the CSS that gives a figure's colours their dark counterparts."""
    return "".join(
        f'[style*="{name}: {light}"]{{{name}:{dark}!important}}'
        for light, dark in colours.items()
        for name in ("fill", "stroke")
    )


def for_both_themes(svg: str, colours: Mapping[str, str]) -> str:
    """Return one of Matplotlib's SVG files, smaller, and with the colours of the dark theme.

    Inside ``<img>`` the rule follows the page's ``color-scheme``, and so also the theme switch.
    What is not Matplotlib's is returned unchanged.
    """
    if "<!DOCTYPE" not in svg[:600] or "<defs>" not in svg:
        return svg
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", svg)
    style = f"<style>@media(prefers-color-scheme:dark){{{dark_rules(colours)}}}</style>"
    return svg.replace("<defs>", f"{style}<defs>", 1)


def rounded(svg: str) -> str:
    """Return an SVG file whose places have two decimals: of Matplotlib's, hundredths of a point."""
    return PLACES.sub(lambda place: LONG_DECIMAL.sub(r"\1", place[0]), svg)


def size(path: Path) -> tuple[int, int] | None:
    """Return the width and height of a picture in CSS pixels, or None where it does not say."""
    if path.suffix == ".svg":
        head = path.read_text(encoding="utf-8")[:3000]
        match = re.search(r'<svg[^>]*?\bviewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', head)
        if match is None:
            return None
        width, height = (round(float(value) * PIXELS_PER_POINT) for value in match.groups())
        return width, height
    from PIL import Image  # not there in the reader's page, which uses the functions above

    with Image.open(path) as picture:
        return picture.size
