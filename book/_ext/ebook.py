"""The book as an EPUB: the articles of the site with MathML, pictures, contents and a cover.

A reader's device has its own type, page and colours, and no script; so folded solutions stand open,
margin notes follow their paragraph, and formulas are MathML alone.
"""

from __future__ import annotations

import datetime
import html
import os
import re
import shutil
import subprocess
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

from bs4 import BeautifulSoup, Tag

from articles import Article, relink

MATHML = re.compile(r"<math .*?</math>", re.DOTALL)
#: Of the pages only: what is drawn, moves or answers there.
ONLY_IN_PAGES = ".headerlink, noscript, script, style, button:not(.snref), .copy, .vh"
#: Attributes that mean nothing without the site's scripts and styles.
ATTRIBUTES = ("popover", "popovertarget", "decoding", "loading", "tabindex", "open")
TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif"}

PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"
lang="en" xml:lang="en">
<head><meta charset="utf-8"/><title>{title}</title><link rel="stylesheet" href="book.css"/></head>
<body>{body}</body>
</html>
"""
CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles>
<rootfile full-path="book/package.opf" media-type="application/oebps-package+xml"/>
</rootfiles>
</container>
"""
PACKAGE = """<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{identifier}</dc:identifier>
<dc:title>{title}</dc:title>
<dc:creator>{author}</dc:creator>
<dc:language>en</dc:language>
<dc:rights>Text under CC BY 4.0, code under the MIT licence.</dc:rights>
<meta property="dcterms:modified">{modified}</meta>
<meta property="schema:accessMode">textual</meta>
<meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta>
<meta property="schema:accessibilityFeature">MathML</meta>
<meta property="schema:accessibilityFeature">structuralNavigation</meta>
<meta property="schema:accessibilityFeature">tableOfContents</meta>
<meta property="schema:accessibilityHazard">none</meta>
<meta property="schema:accessibilitySummary">
Formulas are MathML; every figure is described in words.
</meta>
</metadata>
<manifest>
{manifest}
</manifest>
<spine>
{spine}
</spine>
</package>
"""


@dataclass(frozen=True)
class Item:
    """One file of the EPUB, with what its package says of it."""

    name: str
    kind: str
    content: bytes
    properties: str = ""
    in_spine: bool = False

    @property
    def entry(self) -> str:
        """The line of the manifest."""
        properties = f' properties="{self.properties}"' if self.properties else ""
        return f'<item id="{self.id}" href="{self.name}" media-type="{self.kind}"{properties}/>'

    @property
    def id(self) -> str:
        """A name without characters that an id must not have."""
        return "i-" + re.sub(r"[^\w-]", "-", self.name)


def write(
    articles: Sequence[Article],
    site: Path,
    css: Path,
    cover: bytes,
    target: Path,
    *,
    title: str,
    author: str,
    base: str,
    modified: datetime.datetime,
) -> None:
    """Write the EPUB.

    Parameters
    ----------
    articles
        The chapters, in their order.
    site
        The folder of the site, where the pictures are.
    css
        The style sheet.
    cover
        A picture (PNG).
    target
        The file to write.
    title, author
    base
        The address of the published site, or "".
    modified
        The time which the book bears.
    """
    pages: list[Item] = []
    pictures: set[str] = set()
    for article in articles:
        body, shown = convert(article, articles, base)
        pictures |= shown
        content = PAGE.format(title=html.escape(article.label), body=body)
        properties = "mathml" if "<math" in body else ""
        pages.append(page(f"{article.name}.xhtml", content, properties))
    front = f'<section class="cover"><img src="cover.png" alt="{html.escape(title)}"/></section>'
    items = [
        page("cover.xhtml", PAGE.format(title=html.escape(title), body=front)),
        page("contents.xhtml", contents(articles), "nav"),
        *pages,
        Item("cover.png", TYPES[".png"], cover, "cover-image"),
        Item("book.css", "text/css", css.read_bytes()),
        *(picture(site / path) for path in sorted(pictures)),
    ]
    package = PACKAGE.format(
        identifier=uuid.uuid5(uuid.NAMESPACE_URL, base or title),
        title=html.escape(title),
        author=html.escape(author),
        modified=f"{modified:%Y-%m-%dT%H:%M:%SZ}",
        manifest="\n".join(item.entry for item in items),
        spine="\n".join(f'<itemref idref="{item.id}"/>' for item in items if item.in_spine),
    )
    files = {
        "META-INF/container.xml": CONTAINER.encode(),
        "book/package.opf": package.encode(),
        **{f"book/{item.name}": item.content for item in items},
    }
    pack(files, target)


def date_of(root: Path) -> datetime.datetime:
    """Return the date that a book bears: SOURCE_DATE_EPOCH, else its last commit's, else now."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None and (root / ".git").exists() and shutil.which("git"):
        command = ["git", "-C", str(root), "log", "-1", "--format=%ct"]
        given = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if given:
        return datetime.datetime.fromtimestamp(int(given), datetime.UTC)
    return datetime.datetime.now(datetime.UTC)


def page(name: str, content: str, properties: str = "") -> Item:
    """Return a page of the EPUB."""
    return Item(name, "application/xhtml+xml", content.encode(), properties, in_spine=True)


def picture(path: Path) -> Item:
    """Return a picture of the EPUB."""
    return Item(f"images/{path.name}", TYPES[path.suffix], path.read_bytes())


def contents(articles: Iterable[Article]) -> str:
    """Return the contents, which the reader's device shows too."""
    parts = []
    for part, group in groupby(articles, key=lambda article: article.part):
        rows = "".join(
            f'<li><a href="{a.name}.xhtml">{html.escape(a.label)}</a></li>' for a in group
        )
        parts.append(f"<li><span>{html.escape(part)}</span><ol>{rows}</ol></li>")
    body = f'<nav epub:type="toc"><h1>Contents</h1><ol>{"".join(parts)}</ol></nav>'
    return PAGE.format(title="Contents", body=body)


def convert(article: Article, articles: Iterable[Article], base: str) -> tuple[str, set[str]]:
    """Return an article's body as XHTML, and the pictures that it shows."""
    names = {other.address: f"{other.name}.xhtml" for other in articles}

    def target(address: str, fragment: str) -> str | None:
        if address not in names:
            return None
        return f"{names[address]}#{fragment}" if fragment else names[address]

    soup = article.soup()
    for element in soup.select(ONLY_IN_PAGES):
        element.decompose()
    relink(article, soup, target, base)
    notes(soup)
    unfold(soup)
    shown = set()
    for image in soup.find_all("img"):
        source = article.resolve(str(image["src"]))
        shown.add(source)
        image["src"] = f"images/{PurePosixPath(source).name}"
    for element in soup.find_all(True):
        for name in list(element.attrs):
            if name in ATTRIBUTES or name.startswith("data-"):
                del element[name]
    return article.with_formulas(soup.decode(formatter="minimal"), mathml), shown


def mathml(formula: str) -> str:
    """Return the MathML of a formula."""
    match = MATHML.search(formula)
    assert match is not None
    return match[0].replace("&nbsp;", "\N{NO-BREAK SPACE}")


def notes(soup: BeautifulSoup) -> None:
    """Put each sidenote behind the block that it belongs to, with a link to it."""
    for button in soup.select("button.snref"):
        note = soup.find(id=str(button["popovertarget"]))
        button.name = "a"
        button.attrs = {"href": f"#{button['popovertarget']}", "epub:type": "noteref"}
        if not isinstance(note, Tag):
            continue
        block = button.find_parent(["p", "li", "td", "dd", "div"])
        assert block is not None
        note.name = "aside"
        note.attrs = {"id": note["id"], "class": "note", "epub:type": "footnote"}
        block.insert_after(note.extract())


def unfold(soup: BeautifulSoup) -> None:
    """Let what is folded on a page stand open."""
    for summary in soup.find_all("summary"):
        summary.name = "p"
        summary["class"] = "summary"
    for details in soup.find_all("details"):
        details.name = "div"


def pack(files: dict[str, bytes], target: Path) -> None:
    """Write the archive, which appears whole or not at all; its type comes first in it."""

    def entries() -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
        first = zipfile.ZipInfo("mimetype")
        yield first, b"application/epub+zip"
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            yield info, content

    part = target.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as archive:
        for info, content in entries():
            archive.writestr(info, content)
    part.replace(target)
