"""Python in the page: the chapters' cells, the players, and the lab, in a real browser."""

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
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from .conftest import ROOT
from .test_site import AXE, PASS_OVER, RUN_AXE, Visit

sys.path.insert(0, str(ROOT / "book" / "_lab"))

import lab as lab_files
from in_page.laboratory import Laboratory

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
  const cells = await (await fetch(address)).json();
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
    assert cell.locator(".live-output img").count() == 1  # what the hidden cell below it draws
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


def test_chapters_that_need_more_than_the_page_has_offer_no_run(visit: Visit, address: str) -> None:
    visit.page.goto(f"{address}cases/three_jobs.html")
    assert visit.page.locator(".run").count() == 0
    visit.page.goto(f"{address}cases/watching.html")
    assert visit.page.locator(".run").count() > 5


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


# ------------------------------------------------------------------ the lab

ASK = """async ([lab, questions]) => {
  const { Python } = await import(`${lab}python.mjs`);
  const python = new Python("laboratory");
  const answers = [];
  for (const [name, args] of questions) answers.push(await python.call(name, args));
  python.stop();
  return answers;
}"""

#: Data, components, family, start, seed.
VECTORS = [
    ("old_faithful", 3, "VVV", "k-means", 0),
    ("iris", 3, "EEE", "random", 1),
    ("course_project", 4, "VVI", "k-means++", 2),
    ("galaxies", 3, "V", "k-means", 0),
    ("watching_em", 3, "VII", "random", 3),
]


def _close(here: object, there: object, where: str = "") -> None:
    """Both have the same structure, and numbers that differ by no more than 1e-12 of their size."""
    if isinstance(here, dict) and isinstance(there, dict):
        assert here.keys() == there.keys(), where
        for key in here:
            _close(here[key], there[key], f"{where}.{key}")
    elif isinstance(here, list) and isinstance(there, list):
        assert len(here) == len(there), where
        if here and all(isinstance(value, int | float) for value in [*here, *there]):
            np.testing.assert_allclose(here, there, rtol=1e-12, atol=1e-12, err_msg=where)
        else:
            for number, (one, other) in enumerate(zip(here, there, strict=True)):
                _close(one, other, f"{where}[{number}]")
    elif isinstance(here, float) or isinstance(there, float):
        assert here == pytest.approx(there, rel=1e-12, abs=1e-12), where
    else:
        assert here == there, where


def test_the_lab_computes_what_the_package_computes(visit: Visit, address: str) -> None:
    questions: list[tuple[str, dict[str, Any]]] = []
    for name, k, family, start, seed in VECTORS:
        questions.append(("data", {"name": name}))
        begin = {"n_components": k, "family": family, "start": start, "seed": seed}
        questions.append(("begin", begin))
        questions += [("step", {})] * 9
    visit.page.set_default_timeout(LOADING)
    visit.page.goto(f"{address}lab.html")
    answers = visit.page.evaluate(ASK, [f"{address}_static/lab/", questions])
    laboratory = Laboratory()
    for (name, arguments), answer in zip(questions, answers, strict=True):
        expected = json.loads(laboratory.answer(name, json.dumps(arguments)))
        for rate in (answer, expected):
            rate.pop("measured_rate", None)  # a quotient of differences
        _close(answer, expected, name)


@pytest.fixture(scope="module")
def opened(browser: Browser, address: str) -> Iterator[Visit]:
    """The lab, open, with its clipboard."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit = Visit(context.new_page(), address)
    visit.page.goto(f"{address}lab.html")
    visit.page.evaluate(
        """() => {
          window.longTasks = [];
          new PerformanceObserver((list) => window.longTasks.push(
            ...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask" });
        }"""
    )
    visit.page.get_by_role("button", name="Open the lab").click()
    expect(visit.page.locator(".lab-readings dd").first).to_be_visible(timeout=LOADING)
    yield visit
    context.close()


def _status(page: Page) -> Any:
    return page.locator(".lab-status")


def _anew(page: Page, data: str = "old_faithful", k: int = 2) -> None:
    if page.get_by_label("Prior").is_checked():
        page.get_by_label("Prior").uncheck()
    page.get_by_role("spinbutton", name="Components").fill(str(k))
    page.get_by_role("combobox", name="Set").select_option(data)
    page.get_by_role("button", name="Begin anew").click()
    # each of the changes above begins a run: the last of them has to have begun
    expect(page.locator(".lab-main")).to_have_attribute("aria-busy", "false")
    expect(page.locator(".lab-readings dd").first).to_have_text("0, start")


def _clipboard(page: Page) -> str:
    text: str = page.evaluate("navigator.clipboard.readText()")
    return text


def test_python_is_ready_soon(browser: Browser, address: str) -> None:
    """The best of a few tries, since other programs run on the machine."""
    best = float("inf")
    for _ in range(5):
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(LOADING)
        page.goto(f"{address}lab.html")
        milliseconds = page.evaluate(
            """async (lab) => {
              const { Python } = await import(`${lab}python.mjs`);
              const begin = performance.now();
              const python = new Python("laboratory");
              await python.start();
              python.stop();
              return performance.now() - begin;
            }""",
            f"{address}_static/lab/",
        )
        context.close()
        best = min(best, milliseconds / 1000)
        if best <= READY:
            break
    assert best <= READY


def test_half_steps_rewind_and_run(opened: Visit) -> None:
    page = opened.page
    _anew(page)
    reading = page.locator(".lab-readings dd").first
    page.get_by_role("button", name="E-step").click()
    expect(reading).to_have_text("0, after the E-step")
    page.get_by_role("button", name="M-step").click()
    expect(reading).to_have_text("1, after the M-step")
    page.get_by_role("button", name="Back").click()
    expect(reading).to_have_text("0, after the E-step")
    page.locator("#lab").get_by_role("button", name="Run", exact=True).click()
    expect(reading).to_contain_text("2, after", timeout=20_000)
    page.get_by_role("button", name="Pause").click()
    page.get_by_label("Rewind").focus()
    page.keyboard.press("Home")
    expect(reading).to_have_text("0, start")
    page.get_by_role("button", name="Run to the end").click()
    expect(_status(page)).to_contain_text("Arrived after", timeout=30_000)
    expect(page.locator(".lab-readings dd").nth(1)).to_have_text("−1130.26")


def test_a_mean_moves_by_keyboard_and_by_pointer(opened: Visit) -> None:
    page = opened.page
    _anew(page)
    picture = page.locator(".lab-plane")
    picture.focus()
    page.keyboard.press("2")
    expect(_status(page)).to_have_text("Component 2 is chosen")
    before = picture.get_attribute("aria-label")
    page.keyboard.press("ArrowRight")
    expect(_status(page)).to_contain_text("Mean 2 is at")
    assert picture.get_attribute("aria-label") != before
    place = page.evaluate(
        """() => {
          const canvas = document.querySelector(".lab-plane").getBoundingClientRect();
          return [canvas.left, canvas.top, canvas.width, canvas.height];
        }"""
    )
    left, top, width, height = place
    x, y = _drawn(picture.get_attribute("aria-label") or "", width, height - 110)[0]
    page.mouse.move(left + x, top + y)
    page.mouse.down()
    page.mouse.move(left + x + 60, top + y + 20, steps=4)
    page.mouse.up()
    expect(_status(page)).to_contain_text("Mean 1 is at")


def _drawn(label: str, width: float, height: float) -> list[tuple[float, float]]:
    """Where the means of Old Faithful are drawn, from their values in the picture's name."""
    rows = Laboratory()
    points = np.array(rows.data("old_faithful")["points"])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.08 * (high - low)
    low, high = low - margin, high + margin
    values = re.findall(r"\d+ at (\S+), (\S+?)(?:;|$)", label)
    means = np.array([[float(a), float(b)] for a, b in values])
    shares = (means - low) / (high - low)
    return [(width * u, height * (1 - v)) for u, v in shares]


def test_six_starts_bic_collapse_and_repair(opened: Visit) -> None:
    page = opened.page
    _anew(page, "course_project", 4)
    page.get_by_role("button", name="Six starts side by side").click()
    expect(page.locator(".lab-cards figure")).to_have_count(6, timeout=60_000)
    expect(_status(page)).to_contain_text("of six starts end at the best log-likelihood")
    page.locator(".lab-cards button").first.click()
    expect(page.locator(".lab-readings dd").first).to_have_text("0, start")
    page.get_by_role("button", name="Find a bad optimum").click()
    expect(_status(page)).to_contain_text("below the best. EM stays here", timeout=60_000)
    page.get_by_role("button", name="BIC over K").click()
    expect(page.locator(".lab-best td").first).to_have_text("4", timeout=60_000)
    _anew(page)
    page.get_by_role("button", name="Run to the end").click()
    expect(_status(page)).to_contain_text("Arrived", timeout=30_000)
    page.get_by_role("button", name="Provoke a collapse").click()
    expect(_status(page)).to_contain_text("sits on a single row", timeout=30_000)
    page.get_by_role("button", name="Run to the end").click()
    expect(_status(page)).to_contain_text("Collapse: covariances of component", timeout=30_000)
    page.get_by_role("button", name="Repair: add a prior").click()
    expect(_status(page)).to_contain_text("no component can collapse")
    page.get_by_role("button", name="Run to the end").click()
    expect(_status(page)).to_contain_text("Arrived", timeout=30_000)


def test_a_state_is_shared_and_the_python_does_the_same(opened: Visit, address: str) -> None:
    page = opened.page
    _anew(page, "iris", 3)
    for _ in range(4):
        page.locator(".lab button", has_text=re.compile("^[EM]-step$")).click()
    expect(page.locator(".lab-readings dd").first).to_have_text("2, after the M-step")
    shown = page.locator(".lab-readings").inner_text()
    page.get_by_role("button", name="Copy the Python").click()
    expect(_status(page)).to_contain_text("The program is in the clipboard")
    names: dict[str, Any] = {}
    exec(_clipboard(page), names)
    value = names["mixture"].log_likelihood(names["X"])
    assert f"{value:.2f}".replace("-", "−") in shown
    page.get_by_role("button", name="Copy the address").click()
    expect(_status(page)).to_contain_text("The address is in the clipboard")
    other = page.context.new_page()
    other.goto(_clipboard(page))
    other.get_by_role("button", name="Open the lab").click()
    expect(other.locator(".lab-readings dd").first).to_have_text(
        "2, after the M-step", timeout=LOADING
    )
    assert other.locator(".lab-readings").inner_text() == shown
    other.close()


def test_own_points_are_clicked_in(opened: Visit) -> None:
    page = opened.page
    page.get_by_role("spinbutton", name="Components").fill("1")
    page.get_by_role("combobox", name="Set").select_option("own")
    expect(_status(page)).to_contain_text("Click into the picture")
    page.evaluate("scrollTo(0, document.querySelector('.lab').offsetTop - 80)")
    box = page.locator(".lab-plane").bounding_box()
    assert box
    for u, v in [(0.2, 0.2), (0.8, 0.25), (0.3, 0.6), (0.75, 0.55)]:
        page.mouse.click(box["x"] + u * box["width"], box["y"] + v * (box["height"] - 110))
        page.wait_for_timeout(300)
    expect(_status(page)).to_contain_text("4 points")
    page.get_by_role("button", name="Clear my points").click()
    expect(_status(page)).to_contain_text("0 points")
    _anew(page)


@pytest.mark.parametrize(
    "hash_", ["nonsense", "%7B%22k%22%3A99%2C%22data%22%3A%22x%22%7D", "%5B1%5D", "%FF"]
)
def test_a_damaged_address_opens_the_lab_as_it_is(opened: Visit, address: str, hash_: str) -> None:
    page = opened.page.context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}lab.html#{hash_}")
    page.get_by_role("button", name="Open the lab").click()
    expect(page.locator(".lab-readings dd").first).to_have_text("0, start", timeout=LOADING)
    assert errors == []
    page.close()


def test_the_open_lab_is_accessible(browser: Browser, address: str) -> None:
    for scheme, width in (("light", 1280), ("dark", 360)):
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]  # a plain string for its typed one
            viewport={"width": width, "height": 800},
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(f"{address}lab.html")
        page.get_by_role("button", name="Open the lab").click()
        expect(page.locator(".lab-readings dd").first).to_be_visible(timeout=LOADING)
        page.get_by_role("button", name="BIC over K").click()
        expect(page.locator(".lab-table")).to_be_visible(timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(PASS_OVER)
        page.add_script_tag(path=AXE)
        found = page.evaluate(RUN_AXE)["violations"]
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []
        context.close()


def test_the_lab_asks_nobody_else_and_leaves_the_page_responsive(opened: Visit) -> None:
    """Runs after the others: what they did is what is looked at."""
    assert opened.foreign == []
    assert opened.errors == []
    assert [task for task in opened.page.evaluate("longTasks") if task > LONG_TASK] == []


@pytest.mark.parametrize("asset", ["lab.mjs", "worker.mjs", "pyodide.asm.wasm", "gmm.zip"])
def test_a_lab_that_cannot_load_says_so(visit: Visit, address: str, asset: str) -> None:
    page = visit.page

    def refuse(route: Route) -> None:
        route.abort()

    page.route(f"**/_static/lab/{asset}", refuse)
    page.goto(f"{address}lab.html")
    page.get_by_role("button", name="Open the lab").click()
    told = page.locator("#lab", has_text=re.compile("could not be loaded|cannot be opened"))
    expect(told).to_be_visible(timeout=LOADING)
    expect(page.get_by_role("heading", name="Without the lab")).to_be_visible()


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
