"""The files of the site beside its pages: notebooks, site map, lost page."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import nbformat

import notebooks
from site_builder import public_name

RELATIVE = re.compile(r'\b(href|src|action)="(?!https?:|[#/]|data:|mailto:)')


def copy_sources(source: Path, pages: Iterable[Path], target: Path) -> None:
    """Copy the Markdown of the pages that there are."""
    for page in pages:
        path = page.with_suffix(".md")
        if (source / path).exists():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, target / path)


def write_notebooks(
    source: Path, docnames: Iterable[str], target: Path, title: str, macros: Mapping[str, str]
) -> None:
    """Put each chapter as a notebook, which a reader can run, beside its source."""
    for docname in docnames:
        chapter = source / f"{docname}.ipynb"
        if chapter.exists():
            copy = target / f"{public_name(docname)}.ipynb"
            copy.parent.mkdir(parents=True, exist_ok=True)
            notebook = nbformat.read(chapter, as_version=4)
            nbformat.write(notebooks.portable(notebook, title, macros), copy)


def sitemap(addresses: Iterable[str]) -> str:
    """Return the list of pages for search engines."""
    entries = "".join(f"<url><loc>{html.escape(address)}</loc></url>" for address in addresses)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>\n'
    )


def robots(base: str) -> str:
    """Return the words for search engines' robots."""
    return f"User-agent: *\nAllow: /\nSitemap: {base}sitemap.xml\n"


def absolute_links(page: str, base: str) -> str:
    """Return the lost page with links that hold at any depth."""
    path = urlsplit(base).path or "/"
    return RELATIVE.sub(rf'\1="{path}', page)
