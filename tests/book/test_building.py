"""Builds of a small book: what is right appears; what is wrong fails and leaves the last site."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import node_tools

from .conftest import ROOT
from .small_book import SmallBook

#: Cells whose results would show when they were made.
UNSTEADY = """
```{code-cell} ipython3
%config InlineBackend.figure_formats = ["svg"]
import matplotlib.pyplot as plt
plt.rcParams["svg.hashsalt"] = "book"
figure, axes = plt.subplots()
axes.plot([1, 2])
glue("line", figure, display=False)
plt.close(figure)
```

```{glue:figure} line
:alt: A line that rises.

A line.
```

```{code-cell} ipython3
import time
print("at once", end=" ", flush=True)
time.sleep(0.5)
print("later")
```
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> SmallBook:
    """The small book, built once; tests that change it take a copy."""
    node_tools.packages(ROOT / "book")
    book = SmallBook(tmp_path_factory.mktemp("small"))
    result = book.build()
    assert result.returncode == 0, result.stdout
    return book


@pytest.fixture
def book(built: SmallBook, tmp_path: Path) -> SmallBook:
    """A copy of the built book, to change."""
    copy = SmallBook(tmp_path / "book")
    shutil.copytree(built.root / "_build" / "html", copy.root / "_build" / "html")
    return copy


def test_page_shows_results_numbers_and_source(built: SmallBook) -> None:
    page = built.page()
    assert "twice three is 6" in page
    assert re.search(r"twice two is\s+<span[^>]*>4</span>", page)
    assert "Theorem\N{NO-BREAK SPACE}1.1" in page
    assert "(1.1)" in page
    assert re.search(r'<a class="[^"]*" href="\.\./appendices/api\.html#gmm\.core\.double"', page)
    assert "Return twice a number" not in page


def test_ledger_names_result_function_and_test(built: SmallBook) -> None:
    page = (built.root / "_build/html/appendices/ledger.html").read_text(encoding="utf-8")
    page = re.sub(r"<wbr\s*/?>", "", page)  # where long names may break
    for text in ("thm-double", "eq-double", "gmm.core.double", "test_chapter.py::test_doubling"):
        assert text in page
    assert 'href="../part/chapter.html#thm-double"' in page
    assert 'href="api.html#gmm.core.double"' in page


def test_published_site_names_its_address(book: SmallBook) -> None:
    assert book.build(BOOK_ADDRESS="https://example.org/b/").returncode == 0
    assert 'rel="canonical" href="https://example.org/b/part/chapter.html"' in book.page()
    picture = re.search(r'og:image" content="https://example.org/b/([^"]+)"', book.page())
    assert picture is not None
    site = book.home.parent
    assert (site / picture[1]).is_file()
    assert 'href="https://example.org/b/"' in book.home.read_text(encoding="utf-8")
    addresses = re.findall("<loc>(.*?)</loc>", (site / "sitemap.xml").read_text(encoding="utf-8"))
    assert "https://example.org/b/part/chapter.html" in addresses
    assert len(addresses) == len(set(addresses)) == 6
    assert 'href="/b/_static/book.css' in (site / "404.html").read_text(encoding="utf-8")


BREAKS = {
    "cell error": ("```{code-cell} ipython3\n1 / 0\n```", "ZeroDivisionError"),
    "reference": ("See {ref}`nowhere`.", "nowhere"),
    "equation": ("See {eq}`eq-nowhere`.", "eq-nowhere"),
    "theorem": ("See {prf:ref}`thm-nowhere`.", "thm-nowhere"),
    "citation": ("{cite}`nobody1900`", "nobody1900"),
    "dollar": ("Then\n$$\nx\n$$\nfollows.", "stray $"),
    "TeX": (r"$\frac{1}$", "KaTeX"),
    "glue": ("{glue:text}`nothing`", "nothing"),
    "alt text": ("![](../../picture.png)", "picture.png"),
    "unknown object": ("```{package} gmm.core.triple\n```", "gmm.core.triple"),
    "unchecked result": ("```{prf:lemma} Halving\n:label: lem-half\nHalf.\n```", "lem-half"),
}


def test_everything_that_can_be_wrong_fails_the_build_and_keeps_the_site(book: SmallBook) -> None:
    Image.new("RGB", (2, 2)).save(book.root / "picture.png")
    before = book.page()
    for text, _ in BREAKS.values():
        book.add(text)
    result = book.build()
    assert result.returncode != 0
    missing = [name for name, (_, sign) in BREAKS.items() if sign not in result.stdout]
    assert missing == []
    assert "part/chapter.md" in result.stdout
    assert book.page() == before
    assert (book.root / "_build/draft/part/chapter.html").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "sign"),
    [
        ("tests/test_chapter.py", '"thm-double"', '"thm-double", "thm-treble"', "thm-treble"),
        ("gmm/core.py", ":eq:`eq-double`", ":eq:`eq-treble`", "eq-treble"),
        ("tests/test_chapter.py", "@pytest.mark.derives", "@pytest.mark.other", "thm-double"),
    ],
    ids=["test of nothing", "citation of nothing", "result without test"],
)
def test_ledger_fails_the_build(book: SmallBook, file: str, old: str, new: str, sign: str) -> None:
    book.edit(file, old, new)
    result = book.build()
    assert result.returncode != 0
    assert re.search(rf"WARNING: the ledger: .*{sign}", result.stdout)
    assert book.home.exists()


def test_two_builds_give_the_same_bytes(book: SmallBook) -> None:
    """Neither the date of a figure nor the moments at which a cell prints leave a trace.

    An EPUB must bear a date: that of the commit, which this book has not.
    """
    book.add(UNSTEADY)
    sites = []
    for _ in range(2):
        shutil.rmtree(book.root / "_build")
        result = book.build()
        assert result.returncode == 0, result.stdout
        html = book.home.parent
        files = (path for path in html.rglob("*.*") if path.is_file() and path.suffix != ".epub")
        sites.append({path.relative_to(html): path.read_bytes() for path in files})
    assert any(path.suffix == ".svg" and path.parent.name == "_images" for path in sites[0])
    assert any(path.suffix == ".pdf" for path in sites[0])
    assert [path for path in sites[0] if sites[0][path] != sites[1].get(path)] == []
    assert sites[0].keys() == sites[1].keys()
    assert "at once later" in book.page()


def test_second_build_of_a_broken_book_fails_too(book: SmallBook) -> None:
    book.add("See {ref}`nowhere`.")
    assert book.build().returncode != 0
    again = book.build()
    assert again.returncode != 0
    assert "nowhere" in again.stdout


def test_change_of_the_package_runs_the_chapter_again(book: SmallBook) -> None:
    assert book.build().returncode == 0
    unchanged = book.build()
    assert unchanged.returncode == 0
    assert "0 added, 0 changed, 0 removed" in unchanged.stdout
    book.edit("gmm/core.py", "return 2 * x", "return x + x + 1")
    assert book.build().returncode == 0
    assert "twice three is 7" in book.page()


def test_killed_build_leaves_the_last_site_and_the_next_one_succeeds(book: SmallBook) -> None:
    before = book.page()
    book.add("A new sentence.\n\n```{code-cell} ipython3\nimport time; time.sleep(1)\n```")
    program = Path(sys.executable).parent / "jupyter-book"
    process = subprocess.Popen(
        [str(program), "build", "."],
        cwd=book.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    mark = book.root / "_build/.doctrees/unfinished"
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert book.page() == before
    assert book.build().returncode == 0
    assert "A new sentence." in book.page()
