"""Build the book twice from the last commit, and compare what came out (``make twice``).

The two builds share KaTeX, Pagefind and their like, and nothing that was computed. A page that
measures times says so at its head (``measured:``). Of such a page the text must be the same but for
numbers, and its pictures may differ; all else must be the same to the last byte.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "book"
MEASURED = re.compile(r"---\n(?:.+\n)*?measured: .+\n(?:.+\n)*?---\n")
NUMBER = re.compile(rb" *[-+]?\d[\d.,]*(?:e[-+]?\d+)?")
PICTURE = re.compile(rb"[0-9a-f]{64}[.-]svg")
PDF = "gaussian-mixtures.pdf"
EPUB, PIECES = "gaussian-mixtures.epub/", ".site_cache/paper"


def main() -> None:
    """Build twice, and fail where the two differ in what no measurement explains."""
    measured = {
        path.relative_to(BOOK).with_suffix("").as_posix()
        for path in BOOK.glob("*/*.md")
        if MEASURED.match(path.read_text(encoding="utf-8"))
    }
    with tempfile.TemporaryDirectory(prefix="gmm-twice-") as folder:
        one, two = (build(Path(folder) / name) for name in ("one", "two"))
        faults = [*compare_files(one, two, measured), *compare_paper(one, two, len(measured))]
    print("\n".join(faults) or "The two books differ in nothing but what they measured.")
    sys.exit(bool(faults))


def build(copy: Path) -> Path:
    """Build the book of the last commit in a new folder; return where its parts are."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
    tools = BOOK / "node_modules"
    if tools.exists():
        shutil.copytree(tools, copy / "book" / "node_modules", symlinks=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", "."]
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stdout + result.stderr)
    return copy / "_build"


def compare_files(one: Path, two: Path, measured: Collection[str]) -> Iterator[str]:
    """Yield the files of two sites and their EPUBs that differ, and should not."""
    pages = {f"{name}.html" for name in measured}
    pages |= {f"{name.replace('/', '-')}.xhtml" for name in measured}
    sites = contents(one / "html"), contents(two / "html")
    shown = {
        picture
        for site in sites
        for name, content in site.items()
        if without_folder(name) in pages
        for picture in PICTURE.findall(content)
    }
    for name in sorted(sites[0].keys() | sites[1].keys()):
        if Path(name).name.encode() in shown:
            continue
        first, second = (PICTURE.sub(b"picture", site.get(name, b"")) for site in sites)
        if without_folder(name) in pages:
            first, second = (NUMBER.sub(b"number", content) for content in (first, second))
        if first != second:
            yield name


def contents(site: Path) -> dict[str, bytes]:
    """Return the files of a site, and what is in its EPUB.

    The index for searching is left out: it is made of all pages, the measured ones among them.
    """
    found: dict[str, bytes] = {}
    for path in site.rglob("*"):
        name = path.relative_to(site).as_posix()
        if path.suffix == ".epub":
            with zipfile.ZipFile(path) as book:
                found |= {f"{EPUB}{entry}": book.read(entry) for entry in book.namelist()}
        elif path.is_file() and not name.startswith("pagefind/") and path.name != PDF:
            found[name] = path.read_bytes()
    return found


def without_folder(name: str) -> str:
    """Return the name of a file of the EPUB as it is within the book."""
    return name.removeprefix(f"{EPUB}book/")


def compare_paper(one: Path, two: Path, limit: int) -> Iterator[str]:
    """Yield a line if more pieces of the PDF differ than measure.

    A piece is named by what it was printed from. Two more hold the contents and the running heads.
    """
    first, second = ({p.name for p in (build / PIECES).iterdir()} for build in (one, two))
    if len(first - second) > limit + 2 or len(first) != len(second):
        yield f"{len(first - second)} of {len(first)} pieces of the PDF"


if __name__ == "__main__":
    main()
