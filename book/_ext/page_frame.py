"""What the templates need beyond Sphinx's own: parts, descriptions, links."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import browser
import fonts
import hero
import lab
import page_body
from site_builder import BookBuilder, public_name

DESCRIPTION = 158  # characters that a search engine shows
TAG = re.compile("<.*?>")
#: The text fonts that a page fetches before all else, and what in its beginning calls for them. If
#: they come late the page does without (``font-display: optional``), so that no line moves.
TEXT_FONTS = {
    "text-400": re.compile(""),
    "text-600": re.compile(""),
    "ui-400": re.compile(""),
    "ui-600": re.compile(""),
    "text-400i": re.compile('<em|"proof-head"'),
    "code-400": re.compile("<code|<pre"),
}


def slug(docname: str) -> str:
    """Return a page's name as a file name."""
    return public_name(docname).replace("/", "-")


def describe(env: BuildEnvironment, docname: str) -> str:
    """Return a page's ``description``, else the beginning of its first real paragraph."""
    given = env.metadata.get(docname, {}).get("description")
    if given:
        return str(given)
    for paragraph in env.get_doctree(docname).findall(nodes.paragraph):
        texts = paragraph.findall(nodes.Text)
        words = [t for t in texts if not isinstance(t.parent, nodes.math | nodes.math_block)]
        text = " ".join("".join(word.astext() for word in words).split())
        if len(text) > 60:
            return textwrap.shorten(text, DESCRIPTION, placeholder=" …")
    return ""


def needed_fonts(body: str) -> list[str]:
    """Return the files of the fonts that the beginning of a page is set in."""
    beginning = "<section".join(body.split("<section", 3)[:3])
    text = [f"fonts/{name}" for name, mark in TEXT_FONTS.items() if mark.search(beginning)]
    return text + [f"katex/fonts/{name}" for name in fonts.math_characters([beginning])]


class Contents:
    """The parts and chapters of the table of contents, with their descriptions."""

    def __init__(self, app: Sphinx) -> None:
        env = app.env
        self.descriptions = {name: describe(env, name) for name in env.found_docs}
        self.parts = [
            {
                "caption": subtree.caption,
                "docs": [
                    {
                        "name": name,
                        "title": env.titles[name].astext(),
                        "number": self.number(env, name),
                        "text": self.descriptions[name],
                    }
                    for name in map(str, subtree.items)
                    if name in env.titles
                ],
            }
            for subtree in app.config.external_site_map.root.subtrees
        ]

    @staticmethod
    def number(env: BuildEnvironment, docname: str) -> str:
        """Return a chapter's number, or an empty string."""
        return ".".join(map(str, env.toc_secnumbers.get(docname, {}).get("", ())))

    def part_of(self, docname: str) -> str | None:
        """Return the caption of the part that a page belongs to."""
        for part in self.parts:
            if any(doc["name"] == docname for doc in part["docs"]):
                return str(part["caption"])
        return None


def tidy_contents(tree: str, toc: str) -> str:
    """Return the contents without false headings, with the sections of the present page."""
    tree = re.sub(r' role="heading"| aria-level="\d"', "", tree)
    number = r'\1<span class="section-number">\2</span> '
    tree = re.sub(r"(<a [^>]*>)([\d.]+) (?=\S)", number, tree)
    tree = tree.replace(
        '<a class="current reference internal"',
        '<a aria-current="page" class="reference internal"',
    )
    sections = BeautifulSoup(toc, "html.parser").select_one("ul > li > ul")
    if sections is None:
        return tree
    for deeper in sections.select("ul"):
        deeper.decompose()
    here = re.compile(r'<a aria-current="page".*?</a>', re.DOTALL)
    return here.sub(lambda match: match[0] + str(sections), tree, count=1)


class Frame:
    """Fills the context of each page."""

    contents: Contents | None = None
    can_print: bool | None = None

    def fill(
        self,
        app: Sphinx,
        pagename: str,
        templatename: str,
        context: dict[str, Any],
        doctree: nodes.document | None,
    ) -> None:
        """Add to the context of a page, and repair its body."""
        if not isinstance(app.builder, BookBuilder):
            return
        if self.contents is None:
            self.contents = Contents(app)
        if pagename == app.config.root_doc:
            context |= hero.texts()
        if context.get("body"):
            sources = {name: Path(app.srcdir) / path for path, name in app.builder.images.items()}
            context["body"] = page_body.repair(context["body"], pagename, sources.get)
        body = context.get("body") or ""
        in_book = pagename in app.env.found_docs
        plain = TAG.sub("", context.get("title") or "")
        notebook = app.outdir.parent / "jupyter_execute" / f"{pagename}.ipynb"
        context |= {
            "book_parts": self.contents.parts,
            "book_part": self.contents.part_of(pagename),
            "book_indexed": in_book,
            "book_text": self.contents.descriptions.get(pagename)
            or f"{plain} – {app.config.html_title}",
            "book_fonts": needed_fonts(body),
            "book_title": app.env.titles[pagename].astext() if in_book else plain,
            "book_notebook": f"_sources/{public_name(pagename)}.ipynb"
            if notebook.exists()
            else None,
            "book_cells": f"_sources/{public_name(pagename)}.cells.json"
            if in_book and lab.cells_of(app.outdir.parent / "jupyter_execute", pagename)
            else None,
            "book_picture": f"_static/og/{slug(pagename if in_book else app.config.root_doc)}.png",
            "book_cite": app.config.book_cite,
            "book_editions": self.editions(app),
            "book_base": app.config.html_baseurl,
            "book_tree": self.tree(context["toctree"], context.get("toc") or ""),
        }

    def editions(self, app: Sphinx) -> list[tuple[str, str]]:
        """Return the names of the book's other editions, with their addresses."""
        name = app.config.book_editions
        if not name:
            return []
        if self.can_print is None:
            self.can_print = browser.program() is not None
        kinds = ["pdf", "epub"] if self.can_print else ["epub"]
        return [(kind.upper(), f"_static/{name}.{kind}") for kind in kinds]

    @staticmethod
    def tree(toctree: Callable[..., Any], toc: str) -> Callable[..., str]:
        """Return a function which writes the contents, for the template."""
        return lambda **options: tidy_contents(str(toctree(**options) or ""), toc)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to the writing of each page."""
    app.add_config_value("book_cite", {}, "html")
    app.add_config_value("book_editions", "", "html")  # the name of the PDF and the EPUB
    app.connect("html-page-context", Frame().fill, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
