"""The one stylesheet of the site: the extensions', less what no page uses, and the book's own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import lightningcss

BROWSERS = ["chrome 109", "safari 16.4", "firefox 115"]
CLASS = re.compile(r"\.([A-Za-z_][\w-]*)")
FACE = re.compile(r"@font-face\{[^}]*\}")
OTHER_FORMATS = re.compile(r',url\([^)]*?\.(?:woff|ttf)\) format\("(?:woff|truetype)"\)')


def rules(css: str) -> Iterator[tuple[str, str]]:
    """Split a stylesheet into pairs of a prelude and a block, at top level."""
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    position = 0
    while (opening := css.find("{", position)) >= 0:
        prelude = css[position:opening]
        if prelude.lstrip().startswith("@") and ";" in prelude:  # @charset, @import
            position = css.index(";", position) + 1
            continue
        depth, end = 1, opening + 1
        while depth:
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        yield prelude.strip(), css[opening + 1 : end - 1]
        position = end


def purge(css: str, used: Collection[str]) -> str:
    """Drop the selectors that name a class which no page uses."""
    kept = []
    for prelude, block in rules(css):
        if prelude.startswith(("@media", "@supports")):
            inner = purge(block, used)
            if inner:
                kept.append(f"{prelude}{{{inner}}}")
        elif prelude.startswith("@"):
            kept.append(f"{prelude}{{{block}}}")
        else:
            selectors = [s for s in prelude.split(",") if classes(s) <= set(used)]
            if selectors:
                kept.append(f"{','.join(selectors)}{{{block}}}")
    return "".join(kept)


def classes(selector: str) -> set[str]:
    """Return the classes which an element must have to match a selector."""
    return set(CLASS.findall(re.sub(r":not\([^)]*\)", "", selector)))


def used_classes(pages: Iterable[str]) -> set[str]:
    """Return all classes that occur in the pages."""
    attributes = (value for page in pages for value in set(re.findall(r'class="([^"]*)"', page)))
    return {name for value in attributes for name in value.split()}


def katex_css(dist: Path, fonts: Collection[str]) -> str:
    """Return KaTeX's stylesheet, with those of its fonts that the site has, in one format."""
    css = (dist / "katex.min.css").read_text(encoding="utf-8")

    def keep(face: re.Match[str]) -> str:
        name = re.search(r"url\(fonts/([\w-]+)\.woff2\)", face[0])
        return face[0] if name and name[1] in fonts else ""

    css = OTHER_FORMATS.sub("", FACE.sub(keep, css))
    return css.replace("url(fonts/", "url(katex/fonts/")


def bundle(foreign: Iterable[str], own: Iterable[Path], pages: Iterable[str]) -> str:
    """Return the minified stylesheet.

    Parameters
    ----------
    foreign
        Stylesheets of extensions, which are purged.
    own
        The files of the book's theme, which are not.
    pages
        The HTML of all pages.
    """
    used = used_classes(pages)
    parts = [purge(css, used) for css in foreign]
    parts += [path.read_text(encoding="utf-8") for path in own]
    return lightningcss.process_stylesheet("".join(parts), minify=True, browsers_list=BROWSERS)
