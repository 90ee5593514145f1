"""The appendix on the package: numpydoc's sections, and short names such as ``gmm.fit``."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, cast

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config as SphinxConfig
from sphinx.domains.python import PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import NumpyDocstring

WITHOUT_SECTIONS = ("attribute", "data", "property")
OPTIONS = Config(napoleon_use_param=False, napoleon_use_rtype=False)


class Docstring(NumpyDocstring):
    """A docstring whose types are words ("array (n, d)"), not names to look up."""

    def _parse_attributes_section(self, section: str) -> list[str]:
        return self._format_fields("Attributes", self._consume_fields())


def process(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn the sections of a docstring into fields."""
    if what not in WITHOUT_SECTIONS:
        lines[:] = Docstring(
            lines, cast(SphinxConfig, OPTIONS), app, what, name, obj, options
        ).lines()


def short_names(root: Path) -> dict[str, str]:
    """Return where the names that ``gmm`` itself offers are documented."""
    tree = ast.parse((root / "gmm" / "__init__.py").read_text(encoding="utf-8"))
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gmm"):
            for alias in node.names:
                names[f"gmm.{alias.asname or alias.name}"] = f"{node.module}.{alias.name}"
    return names


def link(docname: str, name: str) -> addnodes.pending_xref:
    """Return a reference to an object's entry, or just its name where it has none."""
    return addnodes.pending_xref(
        "",
        nodes.literal(name, name),
        refdomain="py",
        reftype="obj",
        reftarget=name,
        refexplicit=True,
        refdoc=docname,
        optional=True,
    )


class ShortNames:
    """Resolves references to short names; reads them once for each build."""

    names: dict[str, str] | None = None

    def resolve(
        self, app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.Element
    ) -> nodes.Element | None:
        """Return the link for a reference that Sphinx has not resolved, or None."""
        if node.get("refdomain") != "py":
            return None
        if self.names is None:
            self.names = short_names(Path(app.srcdir))
        short = ".".join(node["reftarget"].split(".")[:2])
        found = None
        if short in self.names:
            target = node["reftarget"].replace(short, self.names[short], 1)
            domain = cast(PythonDomain, env.get_domain("py"))
            found = domain.resolve_xref(
                env, node["refdoc"], app.builder, node["reftype"], target, node, text
            )
        return text if found is None and node.get("optional") else found


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to autodoc and to the resolution of references."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", process)
    app.connect("missing-reference", ShortNames().resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
