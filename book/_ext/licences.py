"""The directive ``licences``: what others made and the site ships, read from what is shipped."""

from __future__ import annotations

import email
import html
import importlib.metadata
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import node_tools

MPL = (
    "The executable form is shipped unchanged. Its source is subject to the terms of the Mozilla "
    "Public License, version 2.0, a copy of which is at https://mozilla.org/MPL/2.0/; the source "
    "itself is at https://github.com/pyodide/pyodide, under the tag of this version. It contains "
    "CPython and its library, which are subject to the license of the Python Software Foundation, "
    "https://docs.python.org/3/license.html."
)


@dataclass(frozen=True)
class Part:
    """Something that others made.

    Parameters
    ----------
    name, version, licence : str
        The licence by its short name.
    purpose : str
        What the site uses it for.
    texts : tuple of (str, str)
        Names and contents of the texts that it demands to be shown.
    """

    name: str
    version: str
    licence: str
    purpose: str
    texts: tuple[tuple[str, str], ...]


def of_wheel(wheel: Path) -> Part:
    """Return what a wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(archive.read(metadata))
        texts = tuple(
            (Path(name).name, archive.read(name).decode("utf-8", "replace"))
            for name in names
            if "LICENSE" in name or ".dist-info/licenses/" in name
        )
    licence = about["License"].replace("the project's own", "MIT, of this project")
    return Part(about["Name"], about["Version"], licence, "runs in the lab", texts)


def of_package(folder: Path, purpose: str, text: str | None = None) -> Part:
    """Return what a package from npm says of itself."""
    about = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    if text is None:
        text = (folder / "LICENSE").read_text(encoding="utf-8")
    return Part(about["name"], about["version"], about["license"], purpose, (("LICENSE", text),))


def of_distribution(name: str, licence: str, purpose: str) -> Part:
    """Return what an installed package says of itself."""
    found = importlib.metadata.distribution(name)
    texts = tuple(
        (Path(str(file)).name, file.read_text())
        for file in found.files or []
        if Path(str(file)).name.startswith("LICENSE") and ".dist-info" in str(file)
    )
    return Part(name, found.version, licence, purpose, texts)


def parts(book: Path) -> Iterator[Part]:
    """Yield everything that the site ships and others made."""
    modules = node_tools.packages(book)
    yield of_package(modules / "katex", "formulas and their fonts")
    fonts = (book / "_theme" / "fonts" / "OFL.txt").read_text(encoding="utf-8")
    names = "STIX Two Text, Inter, JetBrains Mono"
    yield Part(names, "subsets", "OFL-1.1", "the text", (("OFL.txt", fonts),))
    yield of_distribution("pagefind", "MIT, https://github.com/CloudCannon/pagefind", "the search")
    yield of_distribution("sphinx-design", "MIT", "styles of cards and grids")
    yield of_package(modules / "pyodide", "Python in the page", MPL)
    for wheel in sorted((book / "_lab" / "wheels").glob("*.whl")):
        yield of_wheel(wheel)


def written(part: Part) -> str:
    """Return the HTML that shows a part."""
    texts = "".join(
        f"<details><summary>{html.escape(name)}</summary>"
        f'<pre class="licence" tabindex="0" role="group" aria-label="{html.escape(name)}">'
        f"{html.escape(text)}</pre></details>"
        for name, text in part.texts
    )
    heading = " ".join([part.name, part.version])
    about = html.escape(f"{heading}: {part.purpose}; {part.licence}")
    return f"<li><p>{about}</p>{texts}</li>"


class Licences(SphinxDirective):
    """Lists the parts with their licences."""

    def run(self) -> list[nodes.Node]:
        """Return the list."""
        book = Path(self.env.srcdir) / "book"
        entries = "".join(written(part) for part in parts(book))
        for wheel in (book / "_lab" / "wheels").glob("*.whl"):
            self.env.note_dependency(str(wheel))
        self.env.note_dependency(str(book / "package-lock.json"))
        return [nodes.raw("", f'<ul class="licences">{entries}</ul>', format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("licences", Licences)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
