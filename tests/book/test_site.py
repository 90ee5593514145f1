"""The built site in a real browser: every page, light and dark, on a desktop and on a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from nbclient import NotebookClient
from playwright.sync_api import Browser, Page, Request

from .conftest import ROOT

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
LARGE_PHONE = {"width": 412, "height": 823}
SCHEMES = ("light", "dark")
AXE = ROOT / "book" / "node_modules" / "axe-core" / "axe.min.js"

# The script of a page takes several turns, which come before this one.
TURNS_OF_THE_SCRIPT = "new Promise((done) => setTimeout(done))"

# Opens what is folded and lays out what is far from the window, as a reader does who passes over
# the page.
PASS_OVER = """async () => {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  const style = "<style>section section { content-visibility: visible !important }</style>";
  document.head.insertAdjacentHTML("beforeend", style);
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
  await document.fonts.ready;
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 20)));
  for (let y = 0; y < document.body.scrollHeight; y += 2 * innerHeight) {
    scrollTo(0, y);
    await frame();
  }
  scrollTo(0, 0);
}"""


# Notes by how much the layout shifts, as browsers measure it.
NOTE_SHIFTS = """
  window.shifts = [];
  const note = (list) => window.shifts.push(...list.getEntries().map((entry) => entry.value));
  new PerformanceObserver(note).observe({ type: "layout-shift", buffered: true });
"""

# The HTML of a formula is hidden from assistive technology, which reads its MathML; it is most of
# the page, so it is taken away. A heading of a table that is a formula looks empty to axe, but
# test_no_heading_of_a_table_is_empty looks closer. Axe measures targets for a finger only if asked.
RUN_AXE_ON_TARGETS = """axe.run(document, {
  runOnly: ["target-size"],
  resultTypes: ["violations"],
  rules: { "target-size": { enabled: true } },
})"""
RUN_AXE = """() => {
  document.querySelectorAll(".katex-html").forEach((formula) => formula.remove());
  return axe.run(document, {
    resultTypes: ["violations"],
    rules: { "empty-table-header": { enabled: false } },
  });
}"""


def documents() -> list[str]:
    """Return the names of the book's documents, from the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def page_of(document: str) -> str:
    """Return the address of a document within the site."""
    return document.removeprefix("book/") + ".html"


PAGES = [*map(page_of, documents()), "search.html", "genindex.html", "404.html"]


class Visit:
    """A page in a browser, with what went wrong on the way."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.on("console", lambda message: self.hear(message.type, message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url}"))
        page.on("request", lambda request: self.see(request.url, address))

    def hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.errors.append(text)

    def see(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.foreign.append(url)


@pytest.fixture(params=[(s, w) for s in SCHEMES for w in ("desktop", "phone")], ids="-".join)
def visit(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Visit]:
    """A page that is not yet anywhere, in each scheme and size."""
    scheme, device = request.param
    context = browser.new_context(
        color_scheme=scheme,
        viewport=DESKTOP if device == "desktop" else PHONE,  # type: ignore[arg-type]  # a plain dict for its typed one
        reduced_motion="reduce",
    )
    yield Visit(context.new_page(), address)
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_page_loads_fits_and_is_accessible(visit: Visit, address: str, path: str) -> None:
    page = visit.page
    response = page.goto(address + path)
    assert response is not None
    assert response.status == 200
    page.evaluate(PASS_OVER)

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "overflows"
    broken = "[...document.images].filter((i) => !i.naturalWidth).map((i) => i.src)"
    assert page.evaluate(broken) == []
    assert page.evaluate("document.querySelectorAll('article img:not([alt])').length") == 0

    page.add_script_tag(path=AXE)
    small = page.evaluate(RUN_AXE_ON_TARGETS)["violations"]
    assert [node["html"][:200] for rule in small for node in rule["nodes"]] == []
    report = page.evaluate(RUN_AXE)
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in report["violations"]] == []
    assert visit.errors == []
    assert visit.foreign == []


def weights(page: Page, url: str) -> dict[str, int]:
    """Open an address, and return the bytes of all that comes but for figures."""
    ended: list[Request] = []
    page.on("requestfinished", lambda request: ended.append(request))
    page.goto(url, wait_until="networkidle")
    return {
        request.url: request.sizes()["responseBodySize"]
        for request in list(ended)
        if request.resource_type != "image"
    }


@pytest.mark.parametrize("path", PAGES)
def test_page_is_light(browser: Browser, address: str, path: str) -> None:
    """Not more than 200 kB come to a phone when it opens the page, figures aside."""
    context = browser.new_context(viewport=PHONE)  # type: ignore[arg-type]  # as above
    came = weights(context.new_page(), address + path)
    context.close()
    assert came[address + path] > 1000
    assert sum(came.values()) <= 200_000, came


def moved(browser: Browser, url: str, viewport: dict[str, int]) -> float:
    """By how much the layout of a page shifts while it comes, for the first time."""
    context = browser.new_context(viewport=viewport)  # type: ignore[arg-type]  # as above
    context.add_init_script(NOTE_SHIFTS)
    page = context.new_page()
    page.goto(url)
    page.evaluate("document.fonts.ready.then(() => true)")
    page.wait_for_timeout(100)
    shifts: list[float] = page.evaluate("shifts")
    fonts = page.evaluate("[...document.fonts].filter((f) => f.status === 'loaded').length")
    context.close()
    assert fonts >= 3
    return sum(shifts)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "viewport", [PHONE, LARGE_PHONE, DESKTOP], ids=["phone", "large-phone", "desktop"]
)
def test_nothing_moves_while_a_page_comes(
    browser: Browser, address: str, path: str, viewport: dict[str, int]
) -> None:
    """Cumulative layout shift under two hundredths, in one of three visits.

    Formulas wait for their fonts, and where a busy machine brings these late, they may move.
    """
    visits = (moved(browser, address + path, viewport) for _ in range(3))
    assert any(shift < 0.02 for shift in visits)


@pytest.mark.parametrize("path", ["mixtures/bound.html", "appendices/matrix_calculus.html"])
def test_formulas_are_set_in_their_own_fonts(browser: Browser, address: str, path: str) -> None:
    """No character of a formula is missing from the fonts that the site has."""
    page = open_page(browser, address + path)
    page.evaluate(PASS_OVER)
    session = page.context.new_cdp_session(page)
    for domain in ("DOM", "CSS"):
        session.send(f"{domain}.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    query = {"nodeId": root, "selector": ".katex-html span:not(:has(*)):not(:empty)"}
    leaves = session.send("DOM.querySelectorAll", query)["nodeIds"]
    assert len(leaves) > 500
    used: set[str] = set()
    for leaf in leaves[::7]:
        fonts = session.send("CSS.getPlatformFontsForNode", {"nodeId": leaf})["fonts"]
        used |= {font["familyName"] for font in fonts if font["glyphCount"]}
    page.context.close()
    assert used
    assert {name for name in used if not name.startswith("KaTeX")} == set()


@pytest.mark.parametrize("document", documents())
def test_formulas_of_the_source_are_on_the_page(site: Path, document: str) -> None:
    source = (ROOT / f"{document}.md").read_text(encoding="utf-8")
    page = (site / page_of(document)).read_text(encoding="utf-8")
    has_formulas = any(mark in source for mark in ("$$", "{math}", r"\begin{align"))
    if has_formulas:
        assert page.count('class="katex"') > 0
        assert page.count("<math ") == page.count('class="katex-html"')
    assert "katex-error" not in page
    assert "<!--formula" not in page


@pytest.fixture(scope="session")
def soups(site: Path) -> dict[str, BeautifulSoup]:
    """Every page of the site, parsed."""
    pages = [p for p in site.rglob("*.html") if "pagefind" not in p.relative_to(site).parts]
    return {
        p.relative_to(site).as_posix(): BeautifulSoup(p.read_text(encoding="utf-8"), "html.parser")
        for p in pages
    }


def test_every_internal_link_leads_somewhere(soups: dict[str, BeautifulSoup], site: Path) -> None:
    ids = {path: {tag["id"] for tag in soup.select("[id]")} for path, soup in soups.items()}
    broken = []
    for path, soup in soups.items():
        if path == "404.html":  # its links are absolute, for any depth
            continue
        for tag in soup.select("[href], [src]"):
            link = str(tag.get("href") or tag.get("src"))
            if urlsplit(link).scheme or not link:
                continue
            url, fragment = urldefrag(urljoin(f"/{path}", link))
            target = unquote(urlsplit(url).path).lstrip("/") or "index.html"
            if target.endswith("/"):
                target += "index.html"
            known = target in ids and (not fragment or unquote(fragment) in ids[target])
            if not (known or (target not in ids and (site / target).is_file())):
                broken.append((path, link))
    assert broken == []


def test_no_id_stands_twice_on_a_page(soups: dict[str, BeautifulSoup]) -> None:
    for path, soup in soups.items():
        ids = [str(tag["id"]) for tag in soup.select("[id]")]
        assert len(ids) == len(set(ids)), (path, sorted({i for i in ids if ids.count(i) > 1}))


def test_addresses_leave_the_folder_of_the_book_out(soups: dict[str, BeautifulSoup]) -> None:
    assert set(PAGES) <= set(soups)
    assert not any(path.startswith("book/") for path in soups)


def test_no_heading_of_a_table_is_empty(soups: dict[str, BeautifulSoup]) -> None:
    for path, soup in soups.items():
        assert all(cell.get_text(strip=True) for cell in soup.select("th")), path


def test_headings_do_not_skip_a_level(soups: dict[str, BeautifulSoup]) -> None:
    for path, soup in soups.items():
        levels = [int(h.name[1]) for h in soup.select("h1, h2, h3, h4, h5, h6")]
        assert levels.count(1) == 1, path
        assert all(b <= a + 1 for a, b in pairwise(levels)), path


def test_chapters_can_be_downloaded_as_notebooks(site: Path) -> None:
    chapters = [d for d in documents() if "kernelspec:" in (ROOT / f"{d}.md").read_text()]
    assert chapters
    for document in chapters:
        notebook = site / "_sources" / f"{document.removeprefix('book/')}.ipynb"
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        assert len(code) == (ROOT / f"{document}.md").read_text().count("```{code-cell}")
        assert "gmm" in "".join(code) or "/appendices/" in document
        assert "myst_nb" not in "".join(code)
        text = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        assert not re.search(r"\{[\w:-]+\}`|^`{3,}\{|^:label:", "\n".join(text), re.MULTILINE), (
            document
        )


@pytest.mark.parametrize("case", ["cube_corners", "three_components", "interview", "watching"])
def test_the_notebook_of_a_case_runs_as_it_is_downloaded(site: Path, case: str) -> None:
    """In a fresh kernel, with nothing of the book beside it."""
    notebook = nbformat.read(site / "_sources" / "cases" / f"{case}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": "/"}}).execute()
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/svg+xml" in output.get("data", {})
    ]
    assert pictures


def open_page(browser: Browser, url: str, **context: Any) -> Page:
    """Open a page in a new context, on a screen unless told otherwise; its script has run."""
    page = browser.new_context(**{"viewport": DESKTOP} | context).new_page()
    page.goto(url)
    if context.get("java_script_enabled", True):
        page.evaluate(TURNS_OF_THE_SCRIPT)
    return page


def test_search_finds_a_theorem_and_a_function(browser: Browser, address: str) -> None:
    page = open_page(browser, f"{address}search.html?q=monotonicity")
    hits = page.locator(".hits > li > a")
    hits.first.wait_for()
    assert "The EM bound" in hits.all_inner_texts()
    page.fill("#qq", "log_sum_exp")
    page.wait_for_function("document.querySelector('.hits mark')?.textContent.includes('sum')")
    assert page.locator(".hits > li").count() > 0
    page.context.close()


def test_slash_goes_to_the_search_field(browser: Browser, address: str) -> None:
    page = open_page(browser, f"{address}{PAGES[1]}")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.context.close()


def test_hero_plays_and_ends_where_the_fit_converged(browser: Browser, address: str) -> None:
    page = open_page(browser, address, reduced_motion="no-preference")
    trace = json.loads(page.text_content("#hero-trace") or "")
    style = "document.querySelector('.comp').style.transform"
    end = page.evaluate(style)
    page.wait_for_function(f"{style} !== {json.dumps(end)}")  # it has begun
    page.wait_for_function("document.querySelector('#hero-step').textContent.startsWith('Conv')")
    page.wait_for_function(f"{style} === {json.dumps(end)}")
    last = abs(trace["logLikelihoods"][-1])
    assert f"{last:.1f}" in page.inner_text("#hero-step")
    assert trace["logLikelihoods"] == sorted(trace["logLikelihoods"])
    page.click("#hero-again")
    page.wait_for_function("document.querySelector('#hero-step').textContent.startsWith('After')")
    page.context.close()


def test_hero_stands_still_where_motion_is_not_wanted(browser: Browser, address: str) -> None:
    page = open_page(browser, address, reduced_motion="reduce")
    page.wait_for_timeout(1200)
    assert page.inner_text("#hero-step").startswith("Converged")
    assert page.evaluate("!document.querySelector('#hero').classList.contains('moves')")
    page.context.close()


def test_theme_switch_is_kept_on_the_next_page(browser: Browser, address: str) -> None:
    page = open_page(browser, address, color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click(".theme")
    page.click(".theme")
    dark = page.evaluate(background)
    assert dark != light
    page.goto(f"{address}{PAGES[1]}")
    assert page.evaluate(background) == dark
    page.context.close()


def test_link_to_an_equation_of_another_page_shows_it(browser: Browser, address: str) -> None:
    page = open_page(browser, f"{address}appendices/ledger.html")
    page.locator("article a.internal[href*='.html#equation-']").first.hover()
    page.locator("#peek .katex").first.wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#peek").is_hidden()
    page.context.close()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize(
    "place",
    [
        "appendices/ledger.html#results-singular",
        "appendices/api.html#module-gmm.transport",
        "choosing/singular.html#the-cross-by-hand",
        "mixtures/kmeans.html#equation-eq-maximum-rate",
    ],
)
def test_links_arrive_at_their_places(
    browser: Browser, address: str, place: str, size: dict[str, int]
) -> None:
    """Also where what is above has not been laid out when the page comes."""
    page = open_page(browser, address + place, viewport=size)
    page.wait_for_function(
        """() => {
          const { top } = document.querySelector(":target").getBoundingClientRect();
          return top > 60 && top < 240;
        }"""
    )
    page.wait_for_timeout(500)
    target = page.locator(":target")
    before = target.evaluate("(e) => e.getBoundingClientRect().top")
    assert 60 < before < 240
    page.mouse.wheel(0, 2000)
    page.wait_for_timeout(500)
    assert target.evaluate("(e) => e.getBoundingClientRect().top") < before - 500  # it lets go
    page.context.close()


def test_a_page_that_is_loaded_again_stays_where_it_was(browser: Browser, address: str) -> None:
    page = open_page(browser, f"{address}mixtures/kmeans.html#equation-eq-maximum-rate")
    page.wait_for_timeout(500)
    page.mouse.wheel(0, 3000)
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_timeout(1000)
    top = page.locator(":target").evaluate("(e) => e.getBoundingClientRect().top")
    assert top < -1500
    page.context.close()


def test_figures_have_colours_for_the_dark_theme(site: Path) -> None:
    figures = list((site / "_images").glob("*.svg"))
    assert figures
    assert all("prefers-color-scheme:dark" in f.read_text(encoding="utf-8") for f in figures)


def test_pages_can_be_read_without_script(browser: Browser, address: str) -> None:
    page = open_page(browser, f"{address}{PAGES[3]}", java_script_enabled=False)
    assert page.locator("article .katex").first.is_visible()
    assert page.locator(".side a").first.is_visible()
    page.goto(address)
    assert page.locator("#hero circle").first.is_visible()
    page.context.close()
