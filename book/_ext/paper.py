"""The book as one PDF: cover, contents with page numbers, running heads, bookmarks and tags.

Chromium prints the articles one by one (all of them at once take gigabytes), and a chapter that is
as it was comes from the cache. The pieces are joined here: their pages, the places that links lead
to, the bookmarks, and the trees of tags, by which a screen reader finds headings, lists and tables.
Running heads and page numbers are printed on sheets of their own and laid over the pages.
"""

from __future__ import annotations

import hashlib
import html
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pikepdf
from pikepdf import Array, Dictionary, Name, OutlineItem, Pdf, String
from playwright.sync_api import Browser, Page, Route

import browser
from articles import Article, relink

#: The address that the site has while it is printed; nobody else's.
HERE = "http://book.invalid/"
#: The address of the other pieces of the PDF, until they are joined.
ELSEWHERE = f"{HERE}elsewhere#"
#: Changes with what is done here, so that the cache holds nothing of an earlier way.
VERSION = 2
#: The style of the site, and what it says of fonts that come late: a printer waits for them.
STYLE, LATE = "_static/book.css", "font-display:optional"

SHEET = """<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{title}</title>
<link rel="stylesheet" href="{here}_static/book.css"><style>{style}</style></head>
<body class="page">{body}</body></html>
"""
ARTICLE_STYLE = "@page { @bottom-center { content: none; } }"
FRONT_STYLE = """
@page { @bottom-center { content: none; } }
.cover { height: 235mm; display: flex; flex-direction: column; justify-content: center; }
.cover svg { width: 60mm; height: auto; margin-bottom: 20mm; }
.cover h1 { font-size: 38pt; margin: 0 0 4mm; }
.contents { break-before: page; }
.contents h2 { font-size: 12pt; margin: 1.2em 0 .2em; }
.contents a { display: flex; gap: 1em; padding: .12em 0; }
.contents a > :first-child { flex: none; width: 2em; }
.contents a > :nth-child(2) { flex: 1; }
"""
HEADS_STYLE = """
@page { size: A4; margin: 0; @bottom-center { content: none; } }
html, body { margin: 0; background: none; }
.sheet { height: 296.9mm; position: relative; break-after: page; color: #555; }
.sheet > * { position: absolute; left: 25mm; right: 25mm; font: 8pt var(--ui); }
.head { top: 13mm; display: flex; justify-content: space-between; }
.number { bottom: 13mm; text-align: center; font-size: 9pt; }
"""


def write(
    articles: Sequence[Article], site: Path, cache: Path, target: Path, *, title: str, author: str
) -> bool:
    """Write the PDF; return False if there is no Chromium to print it.

    Parameters
    ----------
    articles
        The chapters, in their order.
    site
        The folder of the site, where style, fonts and pictures are.
    cache
        Where the pieces are kept from one build to the next.
    target
        The file to write.
    title, author
    """
    program = browser.program()
    if program is None:
        return False
    cache.mkdir(parents=True, exist_ok=True)
    look = hashlib.sha256(f"{VERSION}".encode())
    for path in [*sorted((site / "_static").rglob("*.woff2")), site / STYLE]:
        look.update(path.read_bytes())
    with browser.launched(program) as chromium:
        press = Press(chromium, site, cache, look.hexdigest())
        pieces = [press.printed(document) for document in documents(articles)]
        lengths = [page_count(piece) for piece in pieces]
        first = [1, *accumulate(lengths, initial=1)][1:]
        front = press.printed(front_matter(articles, first, title, author, site))
        heads = press.printed(running_heads(articles, lengths, title), tagged=False)
        press.forget()
    join(articles, pieces, front, heads, target, title=title, author=author)
    return True


def page_count(path: Path) -> int:
    """Return the number of pages of a PDF."""
    with Pdf.open(path) as pdf:
        return len(pdf.pages)


class Press:
    """Prints documents, those that it has not printed before."""

    def __init__(self, chromium: Browser, site: Path, cache: Path, look: str) -> None:
        self.chromium = chromium
        self.site = site
        self.cache = cache
        self.look = look
        self.used: set[Path] = set()
        self.page: Page | None = None

    def printed(self, document: str, *, tagged: bool = True) -> Path:
        """Return the PDF of a document."""
        digest = hashlib.sha256((self.look + document).encode())
        for name in sorted(set(re.findall(rf'{HERE}(_images/[^"]+)"', document))):
            digest.update((self.site / name).read_bytes())
        path = self.cache / f"{digest.hexdigest()[:24]}.pdf"
        self.used.add(path)
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(self.press(document, tagged))
            part.replace(path)
        return path

    def press(self, document: str, tagged: bool) -> bytes:
        """Print a document."""
        if self.page is None:
            self.page = self.chromium.new_page()
            self.page.set_default_timeout(300_000)
        page = self.page
        page.unroute_all()

        def answer(route: Route) -> None:
            path = unquote(urlsplit(route.request.url).path).lstrip("/")
            if path == STYLE:
                css = (self.site / path).read_text(encoding="utf-8")
                route.fulfill(body=css.replace(LATE, "font-display:block"), content_type="text/css")
            elif path:
                route.fulfill(path=self.site / path)
            else:
                route.fulfill(body=document, content_type="text/html; charset=utf-8")

        page.route(f"{HERE}**", answer)
        page.goto(HERE, wait_until="load")
        page.evaluate("document.fonts.ready.then(() => true)")
        return page.pdf(
            prefer_css_page_size=True, print_background=True, tagged=tagged, outline=tagged
        )

    def forget(self) -> None:
        """Delete what was not used this time."""
        for path in self.cache.iterdir():
            if path not in self.used:
                path.unlink()


# ------------------------------------------------------------------ what is printed


def documents(articles: Sequence[Article]) -> Iterator[str]:
    """Yield the document of each article.

    Chromium notes the place of an element only where a link of the same document leads to it; so
    a document has hidden links to all places that others link to.
    """
    names = {article.address: article.name for article in articles}
    wanted: dict[str, set[str]] = defaultdict(set)
    bodies = []
    for article in articles:

        def target(address: str, fragment: str, own: str = article.address) -> str | None:
            if address not in names:
                return None
            place = anchor(names[address], fragment)
            if address == own:
                return f"#{place}"
            wanted[address].add(place)
            return ELSEWHERE + place

        soup = article.soup()
        relink(article, soup, target, "")
        for element in soup.find_all(True):
            for name in ("id", "popovertarget"):
                if element.get(name):
                    element[name] = anchor(article.name, str(element[name]))
            for name in ("aria-labelledby", "aria-describedby"):
                if element.get(name):
                    places = str(element[name]).split()
                    element[name] = " ".join(anchor(article.name, place) for place in places)
        for details in soup.find_all("details"):
            details["open"] = ""
        for image in soup.find_all("img"):
            image["src"] = HERE + article.resolve(str(image["src"]))
            del image["loading"], image["decoding"]
        bodies.append(article.with_formulas(str(soup), str))
    for article, body in zip(articles, bodies, strict=True):
        links = "".join(f'<a href="#{place}"></a>' for place in sorted(wanted[article.address]))
        own = f'<a href="#{article.name}"></a>'
        content = (
            f'<main><article id="{article.name}">{body}</article></main>'
            f"<div hidden>{own}{links}</div>"
        )
        yield sheet(article.label, ARTICLE_STYLE, content)


def anchor(name: str, fragment: str) -> str:
    """Return the name of a place in the whole book."""
    return f"{name}--{fragment}" if fragment else name


def sheet(title: str, style: str, body: str) -> str:
    """Return a document in the style of the site."""
    return SHEET.format(title=html.escape(title), here=HERE, style=style, body=body)


def front_matter(
    articles: Sequence[Article], first: Sequence[int], title: str, author: str, site: Path
) -> str:
    """Return the document of the cover and the contents."""
    mark = (site / "_static" / "mark.svg").read_text(encoding="utf-8")
    parts = []
    rows = zip(articles, first, strict=False)
    for part, group in groupby(rows, key=lambda row: row[0].part):
        lines = "".join(
            f'<a href="{ELSEWHERE}{article.name}"><span>{article.number}</span>'
            f"<span>{html.escape(article.title)}</span><span>{number}</span></a>"
            for article, number in group
        )
        parts.append(f"<h2>{html.escape(part)}</h2>{lines}")
    body = (
        f'<main><section class="cover">{mark}<h1>{html.escape(title)}</h1>'
        f"<p>{html.escape(author)}</p></section>"
        f'<nav class="contents"><h1>Contents</h1>{"".join(parts)}</nav></main>'
    )
    return sheet(title, FRONT_STYLE, body)


def running_heads(articles: Sequence[Article], lengths: Sequence[int], title: str) -> str:
    """Return the document whose pages lie over those of the articles."""
    sheets, number = [], 0
    for article, length in zip(articles, lengths, strict=True):
        for i in range(length):
            number += 1
            names = f"<span>{html.escape(title)}</span><span>{html.escape(article.label)}</span>"
            head = f'<div class="head">{names}</div>' if i else ""
            sheets.append(f'<div class="sheet">{head}<div class="number">{number}</div></div>')
    return sheet(title, HEADS_STYLE, "".join(sheets))


# ------------------------------------------------------------------ how it is joined


def join(
    articles: Sequence[Article],
    pieces: Sequence[Path],
    front: Path,
    heads: Path,
    target: Path,
    *,
    title: str,
    author: str,
) -> None:
    """Join the pieces of the book and write it."""
    book = Pdf.new()
    places = Dictionary()
    tags = Tags(book)
    bookmarks: list[list[OutlineItem]] = []
    for path in (front, *pieces):
        with Pdf.open(path) as piece:
            start = len(book.pages)
            with warnings.catch_warnings():  # named places are joined below
                warnings.simplefilter("ignore", pikepdf.PageCopyWarning)
                book.pages.extend(piece.pages)
            for name, place in destinations(piece).items():
                places[name] = book.copy_foreign(piece.make_indirect(place))
            tags.add(piece, start)
            bookmarks.append(outline(piece, start))
    length = len(book.pages)
    with Pdf.open(heads) as over:
        begin = length - len(over.pages)
        for page, head in zip(list(book.pages)[begin:], over.pages, strict=True):
            form = book.copy_foreign(head.as_form_xobject())
            resource = page.add_resource(form, Name.XObject, Name.Head)
            page.contents_add(b"q", prepend=True)
            page.contents_add(f"Q /Artifact BMC {resource} Do EMC".encode())
    book.Root.Dests = book.make_indirect(places)
    link_pieces(book)
    tags.finish()
    book.Root.PageLabels = Dictionary(
        Nums=Array([0, Dictionary(S=Name("/r")), begin, Dictionary(S=Name("/D"))])
    )
    rows = zip(articles, bookmarks[1:], strict=True)
    with book.open_outline() as contents:
        for part, group in groupby(rows, key=lambda row: row[0].part):
            entry = OutlineItem(part)
            for _, items in group:
                entry.children.extend(items)
            entry.destination = entry.children[0].destination
            contents.root.append(entry)
    book.Root.PageMode = Name.UseOutlines
    book.Root.Lang = String("en")
    book.Root.ViewerPreferences = Dictionary(DisplayDocTitle=True)
    with book.open_metadata(set_pikepdf_as_editor=False) as metadata:
        metadata["dc:title"] = title
        metadata["dc:creator"] = [author]
        metadata["dc:language"] = ["en"]
    part_file = target.with_suffix(".part")
    book.save(
        part_file,
        deterministic_id=True,
        object_stream_mode=pikepdf.ObjectStreamMode.generate,
        compress_streams=True,
    )
    book.close()
    part_file.replace(target)


def destinations(piece: Pdf) -> Mapping[str, pikepdf.Object]:
    """Return the named places of a piece."""
    return dict(piece.Root.Dests.items()) if "/Dests" in piece.Root else {}


def link_pieces(book: Pdf) -> None:
    """Turn links from one piece to another, which are addresses so far, into links to places."""
    for page in book.pages:
        for note in page.get("/Annots", Array()):
            action = note.get("/A")
            if action is None or "/URI" not in action:
                continue
            address, place = urldefrag(str(action.URI))
            if f"{address}#" == ELSEWHERE:
                name = Name("/" + unquote(place))
                assert name in book.Root.Dests, place
                del note["/A"]
                note.Dest = name


def outline(piece: Pdf, start: int) -> list[OutlineItem]:
    """Return a piece's bookmarks, with the pages of the book."""

    def moved(item: OutlineItem) -> OutlineItem:
        place = item.destination
        assert place is not None
        target = place if isinstance(place, Array) else destinations(piece)[str(place)]
        page = piece.pages.index(pikepdf.Page(target[0]))
        rest = [float(value) for value in list(target)[2:]]
        top = rest[1] if len(rest) > 1 else 0
        new = OutlineItem(item.title, start + page, "XYZ", left=0, top=top, zoom=0)
        new.children.extend(moved(child) for child in item.children)
        return new

    with piece.open_outline() as contents:
        return [moved(item) for item in contents.root]


class Tags:
    """The tree of tags of a PDF that is joined from pieces.

    Every page, and every link on it, bears the number under which the tree's table finds its tags
    (``StructParents``). Pieces count from zero each, so the numbers of the later ones are moved.
    The cells of tables name the heads that they stand under. Chromium's names change from one
    printing to the next, so the heads of the book are named anew, in their order.
    """

    def __init__(self, book: Pdf) -> None:
        self.book = book
        self.numbers = Array()
        self.kinds = Dictionary()
        self.heads = Array()
        self.next = 0
        self.root = book.make_indirect(Dictionary(Type=Name.StructTreeRoot, K=Array()))

    def add(self, piece: Pdf, start: int) -> None:
        """Take in the tags of a piece whose pages stand in the book already."""
        tree = self.book.copy_foreign(piece.Root.StructTreeRoot)
        for element in listed(tree, "/K"):
            element.P = self.root
            self.root.K.append(element)
        largest = -1
        for number, tags in number_tree(tree.ParentTree):
            self.numbers.append(number + self.next)
            self.numbers.append(tags)
            largest = max(largest, number)
        for page in list(self.book.pages)[start:]:
            if "/StructParents" in page:
                page.StructParents = int(page.StructParents) + self.next
            for note in page.get("/Annots", Array()):
                if "/StructParent" in note:
                    note.StructParent = int(note.StructParent) + self.next
        for kind, standard in tree.get("/RoleMap", Dictionary()).items():
            self.kinds[kind] = standard
        self.name_heads(tree)
        self.next += largest + 1

    def name_heads(self, tree: pikepdf.Object) -> None:
        """Name the heads of tables anew, and let their cells know."""
        names: dict[str, String] = {}
        cells = []
        for element in elements(tree):
            if "/ID" in element:
                name = String(f"head-{len(self.heads) // 2 + 1:06}")
                names[str(element.ID)] = element.ID = name
                self.heads.extend([name, element])
            cells += [kind for kind in listed(element, "/A") if "/Headers" in kind]
        for cell in cells:
            cell.Headers = Array(names[str(old)] for old in cell.Headers)

    def finish(self) -> None:
        """Give the book its tree."""
        self.root.ParentTree = self.book.make_indirect(Dictionary(Nums=self.numbers))
        self.root.ParentTreeNextKey = self.next
        self.root.IDTree = self.book.make_indirect(Dictionary(Names=self.heads))
        if len(self.kinds.keys()):
            self.root.RoleMap = self.kinds
        self.book.Root.StructTreeRoot = self.root
        self.book.Root.MarkInfo = Dictionary(Marked=True)


def elements(tree: pikepdf.Object) -> Iterator[pikepdf.Object]:
    """Yield the elements of a tree of tags, in their order."""
    waiting = [tree]
    while waiting:
        element = waiting.pop()
        yield element
        below = [child for child in listed(element, "/K") if isinstance(child, Dictionary)]
        waiting += reversed([child for child in below if "/S" in child])


def listed(element: pikepdf.Object, key: str) -> Iterable[Any]:
    """Return what stands under a key, which is no array where it is one thing."""
    value = element.get(key, Array())
    return value if isinstance(value, Array) else [value]


def number_tree(node: pikepdf.Object) -> Iterator[tuple[int, pikepdf.Object]]:
    """Yield the entries of a number tree."""
    for child in node.get("/Kids", Array()):
        yield from number_tree(child)
    values = list(node.get("/Nums", Array()))
    yield from (
        (int(number), value) for number, value in zip(values[::2], values[1::2], strict=True)
    )
