"""The pages of the site as the chapters of one document, for the editions on paper and as EPUB."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from bs4 import BeautifulSoup, Tag

from page_body import ASIDE
from page_frame import slug
from site_builder import public_name

SPAN = re.compile(r"<(/?)span\b[^>]*>")
FORMULA = '<span class="katex'


@dataclass(frozen=True)
class Article:
    """One page of the book: what stands between its head and its foot."""

    name: str
    address: str
    part: str
    number: str
    title: str
    body: str  # HTML, without the formulas
    formulas: tuple[str, ...]

    @property
    def label(self) -> str:
        """The number and the title."""
        return f"{self.number} {self.title}".strip()

    def soup(self) -> BeautifulSoup:
        """Return the body, parsed, with a mark in the place of each formula."""
        return BeautifulSoup(self.body, "html.parser")

    def with_formulas(self, html: str, form: Callable[[str], str]) -> str:
        """Return HTML with the formulas back in their places, each in some form."""
        return ASIDE.sub(lambda match: form(self.formulas[int(match[1])]), html)

    def resolve(self, link: str) -> str:
        """Return a link relative to the root of the site; other sites' are returned unchanged."""
        return link if link.startswith("#") else urljoin(self.address, link)


def read(pages: Mapping[Path, str], parts: Iterable[Mapping[str, Any]]) -> list[Article]:
    """Return the articles of the site, in the order of the contents.

    Parameters
    ----------
    pages
        The HTML of the pages, by their paths within the site.
    parts
        The parts of the book, as :class:`page_frame.Contents` has them.
    """
    found = []
    for part in parts:
        for chapter in part["docs"]:
            address = f"{public_name(chapter['name'])}.html"
            page = pages[Path(address)]
            start = page.index(">", page.index("<article")) + 1
            body, formulas = put_formulas_aside(page[start : page.rindex("</article>")])
            found.append(
                Article(
                    name=slug(chapter["name"]),
                    address=address,
                    part=part["caption"],
                    number=chapter["number"],
                    title=chapter["title"],
                    body=body,
                    formulas=tuple(formulas),
                )
            )
    return found


def put_formulas_aside(html: str) -> tuple[str, list[str]]:
    """Return HTML with a mark in the place of each formula, and the formulas.

    Formulas are most of a page, and nothing of them has to be changed.
    """
    rest: list[str] = []
    formulas: list[str] = []
    position = 0
    while (start := html.find(FORMULA, position)) >= 0:
        depth = 0
        for match in SPAN.finditer(html, start):
            depth += -1 if match[1] else 1
            if depth == 0:
                break
        rest.append(f"{html[position:start]}\x02{len(formulas)}\x03")
        formulas.append(html[start : match.end()])
        position = match.end()
    return "".join([*rest, html[position:]]), formulas


def relink(
    article: Article, soup: BeautifulSoup, target: Callable[[str, str], str | None], base: str
) -> None:
    """Let the links of an article lead to its edition's own places.

    Parameters
    ----------
    article
    soup
        The article's body, which is changed.
    target
        Gives the link within the edition for a page's address and a fragment ("" for none), or
        None for a page that the edition does not have.
    base
        The address of the published site, where such a page is found; if it is not known, the
        link's text remains alone.
    """
    for link in soup.find_all("a", href=True):
        assert isinstance(link, Tag)
        href = article.resolve(str(link["href"]))
        if urlsplit(href).scheme:
            continue
        path, fragment = urldefrag(href)
        inside = target(path or article.address, fragment)
        if inside is not None:
            link["href"] = inside
        elif base:
            link["href"] = base + href
        else:
            link.unwrap()
