"""Python in the page: the chapters' cells and the players, in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from .conftest import ROOT
from .test_site import TURNS_OF_THE_SCRIPT, Visit

sys.path.insert(0, str(ROOT / "book" / "_lab"))

import lab as lab_files

LOADING = 120_000  # milliseconds; a busy machine is slow
READY = 8.0  # seconds from a local server
LONG_TASK = 50  # milliseconds
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
PATH = re.compile(r'\bd="([^"]*)"')


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past, in which motion is reduced."""
    made = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    yield made
    made.close()


@pytest.fixture
def visit(context: BrowserContext, address: str) -> Visit:
    """A page that notes errors and foreign requests."""
    return Visit(context.new_page(), address)


# ------------------------------------------------------------------ the chapters' cells

RUN_CHAPTER = """async ([lab, address]) => {
  const { Python } = await import(`${lab}python.mjs`);
  const { cells } = await (await fetch(address)).json();
  const python = new Python("cells");
  const errors = [];
  for (const { source, shown } of cells) {
    const { result, error } = await python.run(source, shown);
    if (error || result.error) errors.push([source, error ?? result.error]);
  }
  const program = "import json; print(json.dumps({k: v if isinstance(v, str) and v[:4] == '<svg' "
    + "else repr(v) for k, v in glue.__self__.glued.items()}))";
  let printed = "";
  await python.run(program, true, (text) => { printed += text; });
  python.stop();
  return [errors, JSON.parse(printed)];
}"""


def _built(chapter: str) -> dict[str, str]:
    """What the build glued: representations of values, and figures as SVG."""
    path = ROOT / "_build" / "jupyter_execute" / "book" / f"{chapter}.glue.json"
    glued = {}
    for name, output in json.loads(path.read_text(encoding="utf-8")).items():
        data = {kind.rpartition("papermill.record/")[2]: v for kind, v in output["data"].items()}
        glued[name] = data.get("image/svg+xml") or data["text/plain"]
    return glued


@pytest.mark.parametrize(
    "chapter", ["foundations/probability", "beyond/prior", "cases/old_faithful"]
)
def test_a_chapter_run_in_the_page_gives_what_the_build_gave(
    visit: Visit, address: str, chapter: str
) -> None:
    page = visit.page
    page.set_default_timeout(LOADING)
    page.goto(f"{address}{chapter}.html")
    errors, glued = page.evaluate(
        RUN_CHAPTER, [f"{address}_static/lab/", f"{address}_sources/{chapter}.cells.json"]
    )
    assert errors == []
    built = _built(chapter)
    assert set(glued) == set(built)
    figures = [name for name, value in built.items() if "<svg" in value]
    assert figures
    for name in set(built) - set(figures):
        here, there = (NUMBER.findall(values[name]) for values in (glued, built))
        np.testing.assert_allclose(
            np.array(here, float), np.array(there, float), rtol=1e-10, atol=1e-10, err_msg=name
        )
    for name in figures:
        here, there = (PATH.findall(values[name]) for values in (glued, built))
        assert len(here) == len(there), name
        for one, other in zip(here, there, strict=True):
            np.testing.assert_allclose(
                np.array(NUMBER.findall(one), float),
                np.array(NUMBER.findall(other), float),
                atol=1e-5,
                err_msg=name,
            )
    assert visit.foreign == []


def _shown(page: Page, number: int) -> Any:
    return page.locator("article .cell:has(.cell_input)").nth(number)


def test_a_cell_can_be_edited_run_and_reset(visit: Visit, address: str) -> None:
    page = visit.page
    page.goto(f"{address}cases/old_faithful.html")
    assert page.locator(".live-bar").count() == 0  # nothing is loaded before it is asked for
    cell = _shown(page, 1)
    printed = cell.locator(".cell_output").first.inner_text()
    cell.get_by_role("button", name="Run").focus()
    page.keyboard.press("Enter")
    status = cell.locator(".live-status")
    expect(status).to_contain_text("Done in", timeout=LOADING)
    expect(cell.get_by_role("button", name="Run")).to_be_enabled()
    assert cell.locator(".live-text").inner_text().strip() == printed.strip()
    drawn = cell.locator(".live-output img")  # what the hidden cell below it draws
    told = page.locator("figure#fig-faithful-raw img, figure:has(#fig-faithful-raw) img").first
    assert told.get_attribute("alt")
    assert drawn.get_attribute("alt") == (
        f"Drawn anew by this cell. As the book drew it: {told.get_attribute('alt')}"
    )
    editor = cell.locator("textarea")
    expect(editor).to_be_focused()
    editor.fill("print(len(gmm.datasets.galaxies().X))")
    page.keyboard.press("Shift+Enter")
    expect(cell.locator(".live-text")).to_have_text("82\n")
    expect(cell.get_by_role("button", name="Run")).to_be_enabled()  # the hidden cell has ended too
    editor.fill("1 / 0")
    page.keyboard.press("Shift+Enter")
    expect(status).to_have_text("Ended in an error")
    expect(cell.locator(".live-error")).to_contain_text("ZeroDivisionError: division by zero")
    cell.get_by_role("button", name="Reset").click()
    assert cell.locator(".cell_output").first.inner_text() == printed
    assert cell.locator("textarea").count() == 0
    assert visit.foreign == []
    assert visit.errors == []


def test_the_cells_above_run_first_and_an_endless_one_can_be_stopped(
    visit: Visit, address: str
) -> None:
    page = visit.page
    page.goto(f"{address}cases/old_faithful.html")
    cell = _shown(page, 2)
    cell.get_by_role("button", name="Run").click()
    status = cell.locator(".live-status")
    expect(status).to_contain_text("Done in", timeout=LOADING)
    expect(_shown(page, 1).locator(".live-text")).to_contain_text("272 rows")
    expect(cell.get_by_role("button", name="Run")).to_be_enabled()
    cell.locator("textarea").fill("while True:\n    pass")
    page.keyboard.press("Shift+Enter")
    expect(status).to_have_text("Running")
    cell.get_by_role("button", name="Stop").click()
    expect(status).to_contain_text("Stopped")
    expect(cell.get_by_role("button", name="Run")).to_be_enabled()
    cell.locator("textarea").fill("print(X.shape)")
    page.keyboard.press("Shift+Enter")
    expect(cell.locator(".live-text")).to_have_text("(272, 2)\n", timeout=LOADING)


def test_the_page_describes_every_glued_figure_under_its_name(site: Path) -> None:
    named = 0
    for path in (site / "_sources").rglob("*.cells.json"):
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
        chapter = path.relative_to(site / "_sources").as_posix().removesuffix(".cells.json")
        source = (ROOT / "book" / f"{chapter}.md").read_text(encoding="utf-8")
        assert list(figures) == re.findall(r"\{glue:figure\} (\S+)", source)
        page = (site / f"{chapter}.html").read_text(encoding="utf-8")
        for identifier in figures.values():
            assert re.search(rf'id="{re.escape(identifier)}"', page), identifier
        named += len(figures)
    assert named > 50


def test_chapters_that_need_more_than_the_page_has_offer_no_run(visit: Visit, address: str) -> None:
    visit.page.goto(f"{address}cases/watching.html")
    expect(visit.page.locator(".run").nth(5)).to_be_visible()
    visit.page.goto(f"{address}cases/three_jobs.html")
    visit.page.evaluate(TURNS_OF_THE_SCRIPT)
    assert visit.page.locator(".run").count() == 0


# ------------------------------------------------------------------ when something is missing

ASSETS = [
    "cells.mjs",
    "drawing.mjs",
    "python.mjs",
    "worker.mjs",
    "files.json",
    "pyodide.mjs",
    "pyodide.asm.mjs",
    "pyodide.asm.wasm",
    "pyodide-lock.json",
    "python_stdlib.zip",
    "numpy.zip",
    "gmm.zip",
]


@pytest.mark.parametrize("asset", ASSETS)
def test_a_missing_file_is_told_and_the_page_stays(visit: Visit, address: str, asset: str) -> None:
    page = visit.page
    page.route(f"**/_static/lab/{asset}", lambda route: route.fulfill(status=404, body=""))
    page.goto(f"{address}cases/old_faithful.html")
    cell = _shown(page, 1)
    printed = cell.locator(".cell_output").first.inner_text()
    cell.get_by_role("button", name="Run").click()
    told = cell.locator(".live-status, .run", has_text=re.compile("could not be loaded|Cannot run"))
    expect(told).to_be_visible(timeout=LOADING)
    assert cell.locator(".cell_output").first.inner_text() == printed


def test_a_missing_matplotlib_is_told_in_the_cell(visit: Visit, address: str) -> None:
    page = visit.page
    page.route("**/_static/lab/matplotlib.zip", lambda route: route.fulfill(status=404, body=""))
    page.goto(f"{address}cases/old_faithful.html")
    cell = _shown(page, 1)
    cell.get_by_role("button", name="Run").click()
    expect(cell.locator(".live-error")).to_contain_text("matplotlib.zip", timeout=LOADING)


def test_matplotlib_is_fetched_only_when_a_cell_draws(visit: Visit, address: str) -> None:
    page = visit.page
    asked: list[str] = []
    page.context.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}cases/old_faithful.html")
    assert not any("/lab/" in url for url in asked)
    cell = _shown(page, 0)
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    cell.get_by_role("button", name="Run").click()
    expect(cell.locator(".live-status")).to_contain_text("Done in", timeout=LOADING)
    assert any(url.endswith("gmm.zip") for url in asked)
    assert not any("matplotlib" in url for url in asked)


# ------------------------------------------------------------------ figures that play


def _player(page: Page, name: str) -> Any:
    figure = page.locator(f"figure#{name}, figure:has(#{name})").first
    figure.get_by_role("button", name="Play EM").click()
    expect(figure.locator(".player")).to_be_visible()
    return figure


def test_a_figure_plays_what_the_build_computed(visit: Visit, address: str) -> None:
    page = visit.page
    page.goto(f"{address}cases/watching.html")
    content = json.loads(page.locator("script.replay").first.text_content() or "")
    figure = _player(page, "fig-watching-stages")
    state = figure.locator(".play-state")
    start = figure.get_by_label("Start")
    names = start.locator("option").all_inner_texts()
    assert names == [run["name"] for run in content["runs"]]

    def said(value: float) -> str:
        return f"{value:.2f}".replace("-", "−")

    for number in (0, 2):
        start.select_option(str(number))
        run = content["runs"][number]
        expect(state).to_have_text(f"start: log-likelihood {said(run['log_likelihood'][0])}")
        figure.get_by_role("button", name="E-step").click()
        value = said(run["log_likelihood"][0])
        expect(state).to_have_text(
            f"iteration 0, after the E-step: log-likelihood {value}, bound {value}"
        )
        figure.get_by_role("button", name="M-step").click()
        value, bound = said(run["log_likelihood"][1]), said(run["bound"][1])
        expect(state).to_have_text(
            f"iteration 1, after the M-step: log-likelihood {value}, bound {bound}"
        )
        assert figure.locator("p[role=status]").inner_text() == state.inner_text()
    slider = figure.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    expect(figure.locator("button", has_text=re.compile("^[EM]-step$"))).to_be_disabled()
    page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == state.inner_text()
    figure.get_by_role("button", name="Back").click()
    figure.get_by_role("button", name="Show the figure").click()
    expect(figure.locator("img")).to_be_visible()
    expect(figure.get_by_role("button", name="Play EM")).to_be_focused()
    assert visit.errors == []
    assert visit.foreign == []


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_play_runs_and_pauses(browser: Browser, address: str, motion: Any) -> None:
    context = browser.new_context(reduced_motion=motion)
    page = context.new_page()
    page.goto(f"{address}cases/old_faithful.html")
    figure = _player(page, "fig-faithful-snapshots")
    slider = figure.get_by_role("slider")
    figure.get_by_role("button", name="Play", exact=True).click()
    expect(slider).not_to_have_value("0")
    expect(slider).not_to_have_value("1")
    figure.get_by_role("button", name="Pause").click()
    at = slider.input_value()
    page.wait_for_timeout(1200)
    assert slider.input_value() == at
    context.close()


def test_a_figure_of_one_dimension_plays_in_the_dark_on_a_phone(
    browser: Browser, address: str
) -> None:
    context = browser.new_context(color_scheme="dark", viewport={"width": 360, "height": 740})
    visit = Visit(context.new_page(), address)
    visit.page.goto(f"{address}mixtures/univariate.html")
    figure = _player(visit.page, "fig-twenty-points")
    for _ in range(6):
        figure.locator("button", has_text=re.compile("^[EM]-step$")).click()
    expect(figure.locator(".play-state")).to_contain_text("iteration 3, after the M-step")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    painted = figure.locator("canvas").evaluate(
        "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v)"
    )
    assert painted
    assert visit.errors == []
    context.close()


def test_the_player_is_small(site: Path) -> None:
    scripts = [site / "_static" / "lab" / name for name in ("player.mjs", "drawing.mjs")]
    assert sum(path.stat().st_size for path in scripts) <= 25_000


def test_without_scripts_figures_and_text_remain(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}cases/watching.html")
    expect(page.locator("#fig-watching-stages img, figure:has(#fig-watching-stages) img").first)
    assert page.locator("button.play, button.run").count() == 0
    page.goto(f"{address}lab.html")
    assert "needs JavaScript" in page.locator("#lab").inner_html()
    context.close()


# ------------------------------------------------------------------ the wheels


def test_the_wheels_are_the_recorded_ones_and_small(site: Path) -> None:
    folder = ROOT / "book" / "_lab" / "wheels"
    runtime = ROOT / "book" / "node_modules" / "pyodide"
    wheels = lab_files.check_wheels(folder, runtime)
    assert len(wheels) == 10
    assert sum(path.stat().st_size for path in wheels) < 9_000_000


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "SHA256SUMS").write_text("0" * 64 + "  a.whl\n"), "differ in"),
        (lambda folder: _append(folder, "cycler"), "not those that SHA256SUMS records"),
        (lambda folder: _rename(folder, "2026_0", "2025_0"), "the runtime needs cp314"),
        (lambda folder: _rename(folder, "-none-any", ""), "not the name of a wheel"),
    ],
)
def test_wheels_that_do_not_belong_are_refused(
    site: Path, tmp_path: Path, harm: Any, message: str
) -> None:
    folder = tmp_path / "wheels"
    shutil.copytree(ROOT / "book" / "_lab" / "wheels", folder)
    harm(folder)
    with pytest.raises(ValueError, match=message):
        lab_files.check_wheels(folder, ROOT / "book" / "node_modules" / "pyodide")


def _append(folder: Path, name: str) -> None:
    (wheel,) = folder.glob(f"{name}-*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"\0")


def _rename(folder: Path, old: str, new: str) -> None:
    for wheel in folder.glob(f"*{old}*.whl"):
        wheel.rename(folder / wheel.name.replace(old, new))
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
