"""KaTeX's fonts, cut down to the characters that occur in the book."""

from __future__ import annotations

import hashlib
import html
import logging
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from fontTools import subset

logging.getLogger("fontTools").setLevel(logging.WARNING)


def characters(pages: Iterable[str]) -> str:
    """Return the characters of the pages' texts, in order."""
    return "".join(
        sorted({c for page in pages for c in html.unescape(re.sub("<[^>]*>", "", page))})
    )


def cut(font: Path, text: str, target: Path) -> None:
    """Write a font with only the characters of a text."""
    options = subset.Options()
    options.flavor = "woff2"
    options.hinting = False
    options.layout_features = []
    options.notdef_outline = True
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=text)
    with subset.load_font(str(font), options) as loaded:
        subsetter.subset(loaded)
        subset.save_font(loaded, str(target), options)


def copy(fonts: Path, pages: Iterable[str], cache: Path, target: Path) -> None:
    """Put the fonts for some pages into a folder; they are made anew only for new characters."""
    text = characters(pages)
    ready = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not ready.exists():
        shutil.rmtree(cache, ignore_errors=True)
        making = cache / "making"
        making.mkdir(parents=True)
        for font in sorted(fonts.glob("*.woff2")):
            cut(font, text, making / font.name)
        making.rename(ready)
    shutil.copytree(ready, target, dirs_exist_ok=True)
