"""The index lists every result by its name, beside the terms of the glossary and the package."""

from __future__ import annotations

import re
from typing import Any, cast

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.index import IndexDomain

from ledger import title_of

#: Directives of sphinx-proof whose titles belong into the index.
NAMED = {"algorithm", "corollary", "definition", "lemma", "proposition", "theorem"}
#: What a name is not sorted by.
ARTICLE = re.compile(r"^(A|An|The) (?=\S)")


def add_entries(app: Sphinx, document: nodes.document) -> None:
    """Give each result with a name an entry in the index."""
    index = cast(IndexDomain, app.env.get_domain("index"))
    entries = index.entries.setdefault(app.env.docname, [])
    for node in document.findall(nodes.Element):
        kind = node.get("realtype")
        if kind not in NAMED:
            continue
        title = title_of(node)
        if not title or "$" in title or not node["ids"]:
            continue
        title = ARTICLE.sub("", title)
        name = f"{title[:1].upper()}{title[1:]} ({kind})".replace(";", ",")  # a semicolon nests
        entries.append(("single", name, node["ids"][0], "", None))


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to the reading of each chapter."""
    app.connect("doctree-read", add_entries)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
