"""Cells of a chapter as the page runs them, in a Python of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import ROOT

PATHS = [str(ROOT / "book" / "_lab"), str(ROOT / "book" / "_ext")]

PROGRAM = """
import json, sys
sys.path[:0] = {paths!r}
from in_page.cells import Cells
came = []
cells = Cells(lambda: came.append(True))
answers = [cells.run(source, shown) for source, shown in {cells!r}]
print("ANSWER" + json.dumps([answers, len(came), sorted(cells.glued)]))
"""


def _run(*cells: str | tuple[str, bool]) -> tuple[list[dict[str, Any]], int, list[str], str]:
    """Run cells; return their answers, how often matplotlib was fetched, names, and the print."""
    pairs = [cell if isinstance(cell, tuple) else (cell, True) for cell in cells]
    program = PROGRAM.format(paths=PATHS, cells=pairs)
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    printed, _, answer = result.stdout.partition("ANSWER")
    answers, came, glued = json.loads(answer)
    return answers, came, glued, printed


SETUP = """\
import numpy as np
import matplotlib.pyplot as plt
from myst_nb import glue
import gmm
from gmm import plots
%config InlineBackend.figure_formats = ["svg"]
plots.use_style()
"""


def test_one_namespace_in_order() -> None:
    answers, _, _, printed = _run("a = 2", "b = a + 1\nprint(b)", "b * 2", "b;")
    assert [answer["error"] for answer in answers] == [None] * 4
    assert [answer["outputs"] for answer in answers] == [[], [], [{"text/plain": "6"}], []]
    assert printed == "3\n"


def test_matplotlib_comes_when_a_cell_draws() -> None:
    answers, came, _, _ = _run(SETUP, "x = np.arange(3)\nx.sum()")
    assert [answer["error"] for answer in answers] == [None, None]
    assert came == 0
    answers, came, _, _ = _run(SETUP, "fig, ax = plt.subplots()\nax.plot([1, 2]);", "plt.plot([3])")
    assert [answer["error"] for answer in answers] == [None] * 3
    assert came == 1
    (figure,) = answers[1]["outputs"]
    assert figure["image/svg+xml"].startswith("<svg")
    assert "prefers-color-scheme:dark" in figure["image/svg+xml"]


def test_the_style_is_the_book_s_though_it_was_asked_for_before_matplotlib_came() -> None:
    answers, _, _, printed = _run(SETUP, 'print(plt.rcParams["figure.figsize"])')
    assert answers[1]["error"] is None
    assert printed == "[6.2, 3.5]\n"


@pytest.mark.parametrize(
    "drawing",
    [
        "from matplotlib.patches import Ellipse\nEllipse((0, 0), 1, 1)",
        "import matplotlib\nmatplotlib.rcParams['lines.linewidth']",
        "import matplotlib.colors\nmatplotlib.colors.to_rgb('red')",
        "ax = plots.ellipses(gmm.Mixture([1.0], [[0.0, 0.0]], [1.0], 'VII'))",
    ],
)
def test_every_way_to_matplotlib_works(drawing: str) -> None:
    answers, came, _, _ = _run(SETUP, drawing)
    assert answers[1]["error"] is None
    assert came == 1


def test_glued_figures_are_shown_and_glued_numbers_only_by_cells_that_show() -> None:
    cell = """\
glue("number", 3)
fig, ax = plt.subplots()
glue("fig", fig, display=False)
plt.close(fig)
"""
    answers, _, glued, _ = _run(SETUP, cell, (cell, False))
    assert [list(output) for output in answers[1]["outputs"]] == [
        ["text/plain"],
        ["image/svg+xml", "name"],
    ]
    (figure,) = answers[2]["outputs"]
    assert figure["image/svg+xml"].startswith("<svg")
    assert figure["name"] == "fig"
    assert glued == ["fig", "number"]


def test_html_and_text_are_offered() -> None:
    answers, *_ = _run("import gmm\ngmm.fit([[0.0], [1.0], [3.0], [9.0]], 1)")
    (output,) = answers[0]["outputs"]
    assert set(output) == {"text/html", "text/plain"}


def test_an_error_is_told_with_the_cell_s_own_lines() -> None:
    answers, *_ = _run("def f(x):\n    return 1 / x\n\nf(0)", "1 +", "print('on')")
    error = answers[0]["error"]
    assert error.startswith("Traceback")
    assert 'File "cell 1", line 2, in f\n    return 1 / x' in error
    assert error.endswith("ZeroDivisionError: division by zero")
    assert "cells.py" not in error
    assert "SyntaxError" in answers[1]["error"]
    assert answers[2]["error"] is None


def test_leaving_python_is_an_error_like_others() -> None:
    answers, *_ = _run("raise SystemExit(3)", "1 + 1")
    assert answers[0]["error"].endswith("SystemExit: 3")
    assert answers[1]["outputs"] == [{"text/plain": "2"}]


def test_a_failed_loading_of_matplotlib_can_be_tried_again() -> None:
    program = f"""
import sys
sys.path[:0] = {PATHS!r}
from in_page.cells import Cells
tries = []
def bring():
    tries.append(1)
    if len(tries) == 1:
        raise OSError("matplotlib.zip: 503")
cells = Cells(bring)
cells.run("import matplotlib.pyplot as plt")
first = cells.run("plt.figure();")["error"]
second = cells.run("plt.figure();")["error"]
print(len(tries), first.splitlines()[-1], second)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "2 OSError: matplotlib.zip: 503 None\n"


def test_what_takes_the_place_of_pillow_writes_the_same_pictures(tmp_path: Path) -> None:
    """Written by ours in a Python of its own, read by Pillow."""
    program = """
import sys
sys.path.insert(0, "book/_lab/recipes/pillow_shim")
import numpy as np
from PIL import Image, PngImagePlugin
assert "pillow_shim" in Image.__file__
rng = np.random.default_rng(0)
for mode, shape in [("L", (5, 7)), ("LA", (4, 3, 2)), ("RGB", (6, 2, 3)), ("RGBA", (3, 9, 4))]:
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    np.save(f"{sys.argv[1]}/{mode}.npy", pixels)
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "σ")
    Image.fromarray(pixels).save(f"{sys.argv[1]}/{mode}.png", dpi=(72, 72), pnginfo=texts)
    data = pixels.tobytes()
    size = shape[1], shape[0]
    assert Image.frombuffer(mode, size, data, "raw", mode, 0, 1).tobytes() == data
try:
    Image.open("x.png")
except NotImplementedError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("PIL.Image.open is not available here")
    for mode in ("L", "LA", "RGB", "RGBA"):
        with Image.open(tmp_path / f"{mode}.png") as picture:
            assert picture.mode == mode
            assert picture.info["Title"] == "σ"
            np.testing.assert_array_equal(np.asarray(picture), np.load(tmp_path / f"{mode}.npy"))
