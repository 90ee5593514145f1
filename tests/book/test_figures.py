"""The figures of the pages: for both themes, light, and drawn as Matplotlib draws them."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Browser

import figures

SVG = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg viewBox="0 0 72 36">\n <metadata>x</metadata>'
    '\n <defs>\n </defs>\n <path d="M0 0" style="fill: #112233"/>\n</svg>'
)


def test_figure_gets_the_colours_of_the_dark_theme() -> None:
    svg = figures.for_both_themes(SVG, {"#112233": "#eeddcc"})
    assert svg.startswith("<svg")
    assert "metadata" not in svg
    assert '<path d="M0 0" class="s0"/>' in svg
    rules = ".s0{fill: #112233}@media(prefers-color-scheme:dark){.s0{fill:#eeddcc}}"
    assert f"<style>{rules}</style>" in svg


def test_a_colour_without_a_counterpart_is_the_same_in_the_dark() -> None:
    svg = figures.for_both_themes(SVG, {"#000000": "#ffffff"})
    assert ".s0{fill: #112233}@media(prefers-color-scheme:dark){}" in svg


def test_other_drawings_stay_as_they_are() -> None:
    assert figures.for_both_themes("<svg/>", {"#112233": "#eeddcc"}) == "<svg/>"


def test_places_have_two_decimals_and_nothing_else_has() -> None:
    svg = '<g transform="scale(0.015625)"><path d="M1.2399 -2 L 3.5 0.001"/><use x="9.87654"/>'
    expected = '<g transform="scale(0.015625)"><path d="M1.23 -2 L 3.5 0.00"/><use x="9.87"/>'
    assert figures.lighter(svg) == expected


def test_sizes_are_in_pixels(tmp_path: Path) -> None:
    drawing, picture = tmp_path / "a.svg", tmp_path / "a.png"
    drawing.write_text(SVG, encoding="utf-8")
    Image.new("RGB", (3, 4)).save(picture)
    assert figures.size(drawing) == (96, 48)
    assert figures.size(picture) == (3, 4)


# ------------------------------------------------------------------ clouds of markers


def clouds(*, colours: list[str]) -> str:
    """Draw points as an author does: a line of circles, other markers in clouds, a few alone."""
    random = np.random.default_rng(5)
    figure, axes = plt.subplots(figsize=(4, 3))
    axes.plot(*random.normal(size=(2, 300)), "o", ms=4, alpha=0.5, mew=0, color="#6b7177")
    for marker in "^sD":
        (x, y), opacity = random.normal(size=(2, 120)), random.choice([0.3, 0.6, 1.0], 120)
        axes.scatter(x, y, marker=marker, c=colours, alpha=cast(Any, opacity), linewidths=0)
    axes.plot(*random.normal(size=(2, 5)), "o", ms=9, color="#0b6070")
    file = io.StringIO()
    figure.savefig(file, format="svg")
    plt.close(figure)
    return file.getvalue()


def test_a_cloud_is_a_few_paths_of_markers_that_do_not_touch() -> None:
    before = clouds(colours=["#b4622d"])
    after = figures.lighter(before)
    drawings = re.compile("<use |<path ")
    assert len(drawings.findall(before)) > 300 + 3 * 120
    assert len(drawings.findall(after)) < 200
    drawn = re.findall(r'<path d="((?:M\S+ \S+m-2 0a[^M"]*)+)" style="([^"]*)"/>', after)
    assert {style for _, style in drawn} == {"fill: #6b7177; fill-opacity: 0.5"}
    places = [re.findall(r"M(\S+) (\S+)m", path) for path, _ in drawn]
    assert sum(map(len, places)) == 300
    assert len(places) < 20
    for layer in places:
        points = [(float(x), float(y)) for x, y in layer]
        gaps = [math.dist(p, q) for i, p in enumerate(points) for q in points[:i]]
        assert min(gaps, default=9) >= 4


def test_clouds_look_as_matplotlib_draws_them(browser: Browser, tmp_path: Path) -> None:
    shots: list[Image.Image] = []
    page = browser.new_page(viewport={"width": 400, "height": 300}, device_scale_factor=2)
    svg = clouds(colours=["#b4622d"])
    for text in (svg, figures.for_both_themes(figures.lighter(svg), {})):
        picture = tmp_path / f"{len(shots)}.svg"
        picture.write_text(text, encoding="utf-8")
        page.goto(picture.as_uri())
        shots.append(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    page.close()
    differences = np.asarray(ImageChops.difference(*shots))
    assert np.mean(np.asarray(shots[0]) < 250) > 0.05
    assert np.mean(differences > 32) < 0.002  # edges, where a place has lost its last digits


def test_a_cloud_of_several_colours_is_left_alone() -> None:
    """It matters which of two markers of different colours is drawn first."""
    before = clouds(colours=["#b4622d", "#0b6070"] * 60)
    after = figures.lighter(before)
    assert before.count("<use ") - after.count("<use ") == 300
    assert after.count('style="fill: #0b6070') == before.count('style="fill: #0b6070')


@pytest.mark.parametrize(
    ("path", "outline"),
    [
        ("M 0 -3 L -3 3 L 3 3 z", "m0 -3l-3 6l6 0z"),
        ("M -2 0 L 2 0 M 0 2 L 0 -2", "m-2 0l4 0m-2 2l0 -4"),
        (f"M 0 2 {'C 1 1 1 1 2 0 ' * 8}z", "m-2 0a2 2 0 1 0 4 0a2 2 0 1 0 -4 0z"),
        (f"M 0 2 {'C 1 1 1 1 3 0 ' * 8}z", None),
        ("M 0 2 Q 1 1 2 0 z", None),
    ],
)
def test_outline_of_a_marker_is_relative(path: str, outline: str | None) -> None:
    assert figures.relative(path) == outline
