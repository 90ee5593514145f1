"""The heights that pages reserve for what is laid out later."""

from __future__ import annotations

import re

import numpy as np
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser

import section_heights

from .test_site import DESKTOP, PHONE

FORMULA = re.compile("@")
SECTION = """<section><h1>Title</h1><section><h2>One</h2><p>@ and text</p>
<details><summary>More</summary><p>hidden</p></details><pre>a
b
</pre><img width="4" height="2"><table><tr><td>cell</td></tr></table><div class="math">@</div>
<section><h3>Inner</h3></section></section></section>"""
#: The heights of all sections: reserved, and as they are.
HEIGHTS = """() => {
  const sections = [...document.querySelectorAll("article > section > section")];
  const reserved = sections.map((section) => section.getBoundingClientRect().height);
  for (const section of sections) section.style.contentVisibility = "visible";
  return sections.map((section, i) => [reserved[i], section.getBoundingClientRect().height]);
}"""


def test_what_a_section_shows_is_counted_once() -> None:
    soup = BeautifulSoup(SECTION, "html.parser")
    section = soup.select("section > section")[0]
    found = section_heights.contents(section, FORMULA)
    assert found.pop("hundred characters") == 0.31
    assert found == {
        "line of code": 2,
        "picture": 0.5,
        "formula": 1,
        "row": 1,
        "hundred characters of a cell": 0.04,
        "heading": 3,
        "paragraph": 1,
    }


def test_only_the_sections_of_a_page_reserve_a_height() -> None:
    soup = BeautifulSoup(SECTION, "html.parser")
    section_heights.reserve(soup, FORMULA)
    styles = [section.get("style") for section in soup.select("section")]
    assert styles[0] is styles[2] is None
    assert re.fullmatch(r"--narrow:\d+px;--wide:\d+px", str(styles[1]))


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_reserved_heights_are_near_the_real_ones(
    browser: Browser, address: str, size: dict[str, int]
) -> None:
    context = browser.new_context(viewport=size)  # type: ignore[arg-type]  # a plain dict for its typed one
    page = context.new_page()
    heights = []
    for path in ("mixtures/m_step", "choosing/selection", "beyond/prior", "cases/watching"):
        page.goto(f"{address}{path}.html")
        heights += page.evaluate(HEIGHTS)[2:]  # the first ones may be laid out already
    context.close()
    reserved, real = np.array(heights).T
    assert len(real) > 15
    assert np.all(reserved > 0.85 * real)
    assert np.median(reserved / real) < 1.3
