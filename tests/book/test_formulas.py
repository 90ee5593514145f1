"""Formulas are lighter than KaTeX makes them, and stand where KaTeX puts them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser

import mathematics
import node_tools

from .conftest import ROOT

CHAPTERS = ["foundations/normal", "mixtures/kmeans", "choosing/families", "beyond/variational"]
OTHERS = [
    r"\left\{ \overbrace{a + b}^{n} \right\} \underline{x} \sqrt[3]{x_1^2} \binom nk",
    r"\bigl[ \bar x\! \widehat{xyz}^{\!\top} \bigr] \tilde{\mathbf{\Sigma}}_{k_{1_2}}^{-1/2}",
    r"f''' \text{ if } \not= \lim_{n \to \infty} \prod\limits_i \int_0^1 {\small y}\, \textbf{z}",
    r"\begin{pmatrix} a_1 & \cdots \\ \vdots & \ddots \end{pmatrix}^{\mathsf T} \stackrel{a}{=} b",
    r"\boxed{x}\, \cancel{y}\; \overline{z}\: \mathrlap{u}v \phantom{w} \rule{1em}{2em} \$ 5\%",
]
RENDER = """
const katex = require("katex");
const [macros, formulas] = JSON.parse(require("fs").readFileSync(0));
const options = (displayMode) => ({ displayMode, macros: { ...macros } });
const rendered = ([tex, display]) => katex.renderToString(tex, options(display));
process.stdout.write(JSON.stringify(formulas.map(rendered)));
"""
CODE = re.compile(r"^(`{3,})\{code-cell\}.*?^\1$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
#: Of each formula: the box around it, and all its characters, lines and drawings with their boxes.
PLACES = """
(formulas) => formulas.map((html) => {
  const DRAWN = "svg, .frac-line, .overline-line, .katex-rule, .fbox";
  const box = document.createElement("div");
  box.innerHTML = html;
  document.body.append(box);
  const formula = box.querySelector(".katex-html");
  const around = box.getBoundingClientRect();
  const boxOf = ({ x, y, width, height }) => [x - around.x, y - around.y, width, height];
  const found = [["formula", boxOf(formula.getBoundingClientRect())]];
  const texts = document.createTreeWalker(formula, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (texts.nextNode()) {
    const text = texts.currentNode;
    [...text.data].forEach((character, place) => {
      range.setStart(text, place);
      range.setEnd(text, place + 1);
      if (character !== "\\u200b") found.push([character, boxOf(range.getBoundingClientRect())]);
    });
  }
  for (const drawn of formula.querySelectorAll(DRAWN))
    found.push(["drawing", boxOf(drawn.getBoundingClientRect())]);
  box.remove();
  return [around.height, found];
})
"""


def formulas(chapter: str) -> list[tuple[str, bool]]:
    """Return the TeX of a chapter's formulas, and which are displayed."""
    text = (ROOT / "book" / f"{chapter}.md").read_text(encoding="utf-8")
    text = CODE.sub("", text)
    displayed = [
        (mathematics.display_tex(tex.strip(), is_environment=False), True)
        for tex in re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
    ]
    text = re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL)
    return displayed + [(tex, False) for tex in re.findall(r"\$([^$]+)\$", text)]


@pytest.fixture(scope="module")
def macros() -> dict[str, str]:
    """The macros of the book."""
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    found: dict[str, str] = yaml.safe_load(text)["sphinx"]["config"]["katex_macros"]
    return found


@pytest.fixture(scope="module")
def renderings(macros: dict[str, str]) -> list[tuple[str, str, str]]:
    """Formulas: their TeX, as KaTeX writes them, and as the book does."""
    chosen = [(tex, True) for tex in OTHERS]
    for chapter in CHAPTERS:
        chosen += formulas(chapter)
    chosen = list(dict.fromkeys(chosen))
    answer = subprocess.run(
        [node_tools.node_program(), "-e", RENDER],
        cwd=ROOT / "book",
        input=json.dumps([macros, chosen]),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    katex = mathematics.Katex(ROOT / "book", macros)
    light = [katex.render(tex, display=display) for tex, display in chosen]
    katex.close()
    return list(zip([tex for tex, _ in chosen], json.loads(answer.stdout), light, strict=True))


def furthest(one: list[Any], other: list[Any]) -> float:
    """Return how far apart the same things stand in two renderings of a formula."""
    rest = list(other)
    distance = 0.0
    assert sorted(what for what, _ in one) == sorted(what for what, _ in other)
    for what, box in one:
        gaps = [
            max(abs(a - b) for a, b in zip(box, there, strict=True)) if what == its else 1e9
            for its, there in rest
        ]
        nearest = gaps.index(min(gaps))
        distance = max(distance, gaps[nearest])
        rest.pop(nearest)
    return distance


def test_formulas_stand_where_katex_puts_them(
    browser: Browser, renderings: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    """To .06 em: what two decimals in all lengths of a long line may add up to."""
    size = 40
    sheets = [ROOT / "book/node_modules/katex/dist/katex.css", ROOT / "book/_theme/3-text.css"]
    links = "".join(f'<link rel="stylesheet" href="{sheet.as_uri()}">' for sheet in sheets)
    style = f"<style>body {{ width: 4000px; font-size: {size}px }}</style>"
    empty = tmp_path / "empty.html"
    empty.write_text(f"<!doctype html><meta charset=utf-8>{links}{style}<body>", encoding="utf-8")
    page = browser.new_page()
    page.goto(empty.as_uri())
    page.evaluate("Promise.all([...document.fonts].map((face) => face.load()))")
    before = page.evaluate(PLACES, [whole for _, whole, _ in renderings])
    after = page.evaluate(PLACES, [light for _, _, light in renderings])
    page.close()
    moved = {
        tex: (abs(height - own_height) / size, furthest(places, own_places) / size)
        for (tex, _, _), (height, places), (own_height, own_places) in zip(
            renderings, before, after, strict=True
        )
    }
    assert len(moved) > 1000
    assert max(height for height, _ in moved.values()) < 0.05
    assert {tex: far for tex, (_, far) in moved.items() if far > 0.06} == {}


def test_formulas_have_fewer_elements(renderings: list[tuple[str, str, str]]) -> None:
    visible = [
        sum(rendering.partition('class="katex-html"')[2].count("<span") for rendering in of_all)
        for of_all in list(zip(*renderings, strict=True))[1:]
    ]
    assert visible[1] < 0.6 * visible[0]


def test_a_letter_with_two_scripts_is_light(macros: dict[str, str]) -> None:
    katex = mathematics.Katex(ROOT / "book", macros)
    html = katex.render(r"a_k^2", display=False)
    katex.close()
    assert html.partition('class="katex-base" ')[2] == (
        'style="--h:1.1em;--v:-.28em"><span class="mathnormal">a</span><span class="scripts">'
        '<span class="script katex-sizing reset-size6 size3 mathnormal" '
        'style="top:.4em;margin-right:.1em">k</span>'
        '<span class="script katex-sizing reset-size6 size3" '
        'style="top:-.52em;margin-right:.07em">2</span></span></span></span></span>'
    )
