"""The HTML builder of the book: addresses leave the folder ``book/`` out.

The chapters stand in ``book/`` so that the top level of the repository stays small, but a reader's
address is ``/mixtures/m_step.html``, and the home page is the root of the site.
"""

from __future__ import annotations

import os
from typing import Any

from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.config import Config

PREFIX = "book/"


def public_name(docname: str) -> str:
    """Return the name of a page as its address shows it."""
    return docname.removeprefix(PREFIX)


class BookBuilder(StandaloneHTMLBuilder):
    """Sphinx's HTML builder with public names; the search is not Sphinx's (see search_index)."""

    name = "html"
    search = False

    def get_target_uri(self, docname: str, typ: str | None = None) -> str:
        """Return the address of a page, relative to the root of the site."""
        return super().get_target_uri(public_name(docname), typ)

    def get_outfilename(self, pagename: str) -> str:
        """Return the file which a page is written to."""
        return super().get_outfilename(public_name(pagename))

    def get_doc_context(self, docname: str, body: str, metatags: str) -> dict[str, Any]:
        """Collect what the templates need, with the public name of the source."""
        context = super().get_doc_context(docname, body, metatags)
        context["sourcename"] = public_name(context["sourcename"])
        return context

    def update_page_context(
        self, pagename: str, templatename: str, ctx: dict[str, Any], event_arg: Any
    ) -> None:
        """Correct the canonical address, which Sphinx makes from the name of the document."""
        if self.config.html_baseurl:
            uri = self.get_target_uri(pagename)
            ctx["pageurl"] = self.config.html_baseurl + ("" if uri == "index.html" else uri)


def set_address(app: Sphinx, config: Config) -> None:
    """Take the address of the published site from the environment, where it is known there."""
    config.html_baseurl = os.environ.get("BOOK_ADDRESS", config.html_baseurl)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the builder."""
    app.add_builder(BookBuilder, override=True)
    app.connect("config-inited", set_address, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
