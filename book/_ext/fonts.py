"""The site's fonts, cut down to the characters that the book sets in each of them."""

from __future__ import annotations

import hashlib
import html
import logging
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import printable

from fontTools import subset

logging.getLogger("fontTools").setLevel(logging.WARNING)

#: KaTeX's fonts, and the class of the elements that are set in each of them.
MATH_FONTS = {
    "mathnormal": "KaTeX_Math-Italic",
    "boldsymbol": "KaTeX_Math-BoldItalic",
    "mathbf": "KaTeX_Main-Bold",
    "textbf": "KaTeX_Main-Bold",
    "mathit": "KaTeX_Main-Italic",
    "textit": "KaTeX_Main-Italic",
    "mathbb": "KaTeX_AMS-Regular",
    "amsrm": "KaTeX_AMS-Regular",
    "mathcal": "KaTeX_Caligraphic-Regular",
    "mathfrak": "KaTeX_Fraktur-Regular",
    "mathscr": "KaTeX_Script-Regular",
    "mathsf": "KaTeX_SansSerif-Regular",
    "textsf": "KaTeX_SansSerif-Regular",
    "mathtt": "KaTeX_Typewriter-Regular",
    "texttt": "KaTeX_Typewriter-Regular",
    "size1": "KaTeX_Size1-Regular",
    "size2": "KaTeX_Size2-Regular",
    "size3": "KaTeX_Size3-Regular",
    "size4": "KaTeX_Size4-Regular",
    "delim-size1": "KaTeX_Size1-Regular",
    "delim-size4": "KaTeX_Size4-Regular",
    "small-op": "KaTeX_Size1-Regular",
    "large-op": "KaTeX_Size2-Regular",
}
PLAIN = "KaTeX_Main-Regular"
#: Classes that mean a font only within these others.
WITHIN = dict.fromkeys(("size1", "size2", "size3", "size4"), "delimsizing")

#: What stands in italics, by the style of the site and that of browsers.
ITALICS = re.compile(
    r'<(em|i|cite|dfn|var)\b[^>]*>.*?</\1>|<span class="proof-head">.*?</span>', re.DOTALL
)
FORMULA = '<span class="katex-html"'
TOKEN = re.compile(r'<span(?: class="([^"]*)")?[^>]*>|(</span>)|<[^>]*>|([^<]+)')


def characters(pages: Iterable[str]) -> str:
    """Return the characters of the pages' texts, in order, and those of any keyboard."""
    found = {c for page in pages for c in html.unescape(re.sub("<[^>]*>", "", page))}
    return "".join(sorted(found | set(printable.strip()) | {" "}))


def italic_characters(pages: Iterable[str]) -> str:
    """Return the characters that the pages set in italics, in order, and those of any keyboard."""
    return characters(match[0] for page in pages for match in ITALICS.finditer(page))


def math_characters(pages: Iterable[str]) -> dict[str, str]:
    """Return the characters that formulas set in each of KaTeX's fonts."""
    found: dict[str, set[str]] = defaultdict(set)
    for page in pages:
        start = page.find(FORMULA)
        while start >= 0:
            for face, text in set_in(page, start):
                found[face].update(html.unescape(text))
            start = page.find(FORMULA, start + 1)
    return {face: "".join(sorted(own)) for face, own in sorted(found.items())}


def set_in(page: str, start: int) -> Iterator[tuple[str, str]]:
    """Yield the texts of the formula that begins at a place of a page, each with its font."""
    faces = [PLAIN]
    for match in TOKEN.finditer(page, start):
        names, closing, text = match.groups()
        if text:
            yield faces[-1], text
        elif closing:
            faces.pop()
            if len(faces) == 1:
                return
        elif match[0].startswith("<span"):
            faces.append(math_face((names or "").split()) or faces[-1])


def math_face(names: list[str]) -> str | None:
    """Return the font that an element's classes name, if they name one."""
    for name in names:
        if name in MATH_FONTS and WITHIN.get(name, name) in names:
            return MATH_FONTS[name]
    return None


def cut(font: Path, text: str, target: Path) -> None:
    """Write a font with only the characters of a text.

    Text keeps its kerning and ligatures; the small type of menus and buttons, and code, need none.
    """
    options = subset.Options()
    options.flavor = "woff2"
    options.hinting = False
    options.glyph_names = False
    options.layout_features = ["*"] if font.name.startswith("text-") else ["tnum"]
    options.drop_tables += ["STAT"]
    options.name_IDs = [1]
    options.notdef_outline = True
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=text)
    with subset.load_font(str(font), options) as loaded:
        subsetter.subset(loaded)
        subset.save_font(loaded, str(target), options)


def copy(fonts: Mapping[Path, str], cache: Path, target: Path) -> None:
    """Put fonts with their characters into a folder; they are made anew only for other ones."""
    named = "\n".join(f"{path.name} {text}" for path, text in fonts.items())
    way = Path(__file__).read_bytes()  # other versions of this file may cut otherwise
    ready = cache / hashlib.sha256(named.encode() + way).hexdigest()[:16]
    if not ready.exists():
        shutil.rmtree(cache, ignore_errors=True)
        making = cache / "making"
        making.mkdir(parents=True)
        for font, text in fonts.items():
            cut(font, text, making / font.name)
        making.rename(ready)
    shutil.copytree(ready, target, dirs_exist_ok=True)
