"""The figures: for both themes, with their sizes, so that nothing moves when they arrive."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import count, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PIXELS_PER_POINT = 4 / 3
STYLE = re.compile(r' style="([^"]*)"')
PLACES = re.compile(r' (?:d|x|y|x1|x2|y1|y2)="[^"]*"')
LONG_DECIMAL = re.compile(r"(-?\d+\.\d\d)\d+")
MARKER = re.compile(r'<path id="(\w+)" d="([^"]*)"(?: style="([^"]*)")?/>')
USE = re.compile(r'<use xlink:href="#(\w+)" x="([^"]*)" y="([^"]*)"(?: style="([^"]*)")?/>')
CLOUD = re.compile(
    r'<g clip-path="(url\(#\w+\))">(?:<use [^>]*/>)+</g>'
    r'(?:<g clip-path="\1">(?:<use [^>]*/>)+</g>)*'
)
#: A marker that Matplotlib writes where it stands, as it does in small clouds of simple ones.
POLYGON = re.compile(r'<path d="(M[^"MCQz]*z?)\s*" clip-path="url\(#\w+\)" style="([^"]*)"/>')
POLYGONS = re.compile(
    r'<path d="M[^"MCQz]*z?\s*" clip-path="(url\(#\w+\))" style="[^"]*"/>'
    r'(?:<path d="M[^"MCQz]*z?\s*" clip-path="\1" style="[^"]*"/>)+'
)
COLOUR = re.compile(r"(?:fill|stroke): (#\w+)")
OPACITY = re.compile(r"(?<=opacity: )[\d.]+")
FEW = 20  # markers that are not worth a change
EDGE = 0.5  # of a marker, in points: half the width of a line


def for_both_themes(svg: str, colours: Mapping[str, str]) -> str:
    """Return one of Matplotlib's SVG files, smaller, and with the colours of the dark theme.

    Each style is written once, as a class. Inside ``<img>`` the dark one follows the page's
    ``color-scheme``, and so also the theme switch. What is not Matplotlib's is returned unchanged.
    """
    if "<!DOCTYPE" not in svg[:600] or "<defs>" not in svg:
        return svg
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", svg)
    names: dict[str, str] = {}

    def named(style: re.Match[str]) -> str:
        return f' class="{names.setdefault(style[1], f"s{len(names)}")}"'

    svg = STYLE.sub(named, svg)
    light = "".join(f".{name}{{{style}}}" for style, name in names.items())
    dark = "".join(f".{name}{{{dark_style(style, colours)}}}" for style, name in names.items())
    rules = light + "@media(prefers-color-scheme:dark){" + re.sub(r"\.\w+{}", "", dark) + "}"
    return svg.replace("<defs>", f"<style>{rules}</style><defs>", 1)


def dark_style(style: str, colours: Mapping[str, str]) -> str:
    """Return what is otherwise in the dark theme in an element's style."""
    painted = re.findall(r"\b(fill|stroke): (#\w+)", style)
    return ";".join(f"{name}:{colours[light]}" for name, light in painted if light in colours)


def lighter(svg: str) -> str:
    """Return an SVG file of Matplotlib's for publishing, with fewer characters and elements.

    Places have a hundredth of a point. The markers of a cloud, an element each, become a few paths
    (:func:`merged`), in which a thousand points take no longer than ten.
    """
    svg = PLACES.sub(lambda place: LONG_DECIMAL.sub(r"\1", place[0]), svg)
    svg = re.sub(r">\s+<", "><", svg)
    markers = {name: (path, style) for name, path, style in MARKER.findall(svg)}

    def of_uses(cloud: re.Match[str]) -> str:
        stamps = []
        for name, x, y, style in USE.findall(cloud[0]):
            path, own = markers.get(name, ("", ""))
            both = "; ".join(filter(None, (style, own)))  # the marker's own style has the last word
            stamps.append(Stamp(float(x), float(y), path, both))
        return merged(stamps, cloud[1]) or cloud[0]

    def of_paths(cloud: re.Match[str]) -> str:
        stamps = [at_origin(path, style) for path, style in POLYGON.findall(cloud[0])]
        return merged(stamps, cloud[1]) or cloud[0]

    return POLYGONS.sub(of_paths, CLOUD.sub(of_uses, svg))


class Stamp(NamedTuple):
    """A marker at its place."""

    x: float
    y: float
    path: str
    style: str


def at_origin(path: str, style: str) -> Stamp:
    """Return a polygon as a marker, whose place is the polygon's first corner."""
    (x, y), *_ = corners(path)
    moved = " L ".join(f"{right - x:.1f} {down - y:.1f}" for right, down in corners(path))
    return Stamp(x, y, f"M {moved}{' z' if path.endswith('z') else ''}", style)


def merged(stamps: Iterable[Stamp], clip: str) -> str | None:
    """Return a cloud of markers of one colour as paths, each of markers that do not touch.

    So it looks as before, also where markers shine through one another: it does not matter which
    of two markers of one colour is drawn first. Opacities have steps of a twentieth, which nobody
    sees. Of other clouds, and small ones, return None.
    """
    places: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for x, y, path, style in stamps:
        alike = OPACITY.sub(lambda found: f"{round(20 * float(found[0])) / 20:g}", style)
        places.setdefault((path, alike), []).append((x, y))
    colours = {colour for _, style in places for colour in COLOUR.findall(style)}
    outlines = {path: relative(path) for path, _ in places}
    n_stamps = sum(map(len, places.values()))
    if n_stamps < max(FEW, 2 * len(places)) or len(colours) > 1 or None in outlines.values():
        return None
    paths = []
    for (path, style), found in places.items():
        reach = max(math.hypot(*corner) for corner in corners(path)) + EDGE
        for layer in layers(np.array(found), 2 * reach):
            drawn = "".join(f"M{found[i][0]:.2f} {found[i][1]:.2f}{outlines[path]}" for i in layer)
            paths.append(f'<path d="{drawn}" style="{style}"/>')
    return f'<g clip-path="{clip}">{"".join(paths)}</g>'


def corners(path: str) -> list[tuple[float, float]]:
    """Return the places that a path names, control points too."""
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def relative(path: str) -> str | None:
    """Return the outline of a marker, from wherever the pen is; None if it has other curves."""
    letters = re.sub(r"[^A-Za-z]", "", path)
    if letters == "MCCCCCCCCz":  # Matplotlib's circle
        ends = [math.hypot(*end) for end in corners(path)[::3]]
        if max(ends) - min(ends) > 0.02 * ends[0] + 0.01:
            return None
        half = f"a{ends[0]:g} {ends[0]:g} 0 1 0 "
        return f"m{-ends[0]:g} 0{half}{2 * ends[0]:g} 0{half}{-2 * ends[0]:g} 0z"
    if set(letters) - set("MLz"):
        return None
    outline, at = "", (0.0, 0.0)
    for letter, corner in zip(letters.replace("z", ""), corners(path), strict=True):
        outline += f"{letter.lower()}{corner[0] - at[0]:.4g} {corner[1] - at[1]:.4g}"
        at = corner
    return outline + ("z" if letters.endswith("z") else "")


def layers(places: NDArray[np.float64], apart: float) -> list[list[int]]:
    """Divide points into lists, in each of which no two are closer than a distance."""
    cells: dict[tuple[int, int], list[tuple[int, int]]] = {}
    found: list[list[int]] = []
    for i, (column, row) in enumerate((places // apart).astype(int).tolist()):
        near = [
            neighbour
            for right, below in product((-1, 0, 1), repeat=2)
            for neighbour in cells.get((column + right, row + below), [])
        ]
        taken = {layer for j, layer in near if math.dist(places[i], places[j]) < apart}
        mine = next(layer for layer in count() if layer not in taken)
        cells.setdefault((column, row), []).append((i, mine))
        if mine == len(found):
            found.append([])
        found[mine].append(i)
    return found


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
