"""The directive ``package``: shows the source of an object of the package, beside its equation.

    ```{package} gmm.m_step.m_step
    ```

The source is read, not imported; its docstring is left out, since the chapter says the same at
length, and the caption links to the object's entry in the appendix on the API.
"""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import api_docs

log = logging.getLogger(__name__)

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class UnknownObjectError(LookupError):
    """A name which the package does not define."""


def module_file(root: Path, parts: list[str]) -> tuple[Path, list[str]]:
    """Split a dotted name into the file of its module and what remains; the package is flat."""
    for count in range(len(parts) - 1, 0, -1):
        file = root.joinpath(*parts[:count]).with_suffix(".py")
        if file.is_file():
            return file, parts[count:]
    raise UnknownObjectError(".".join(parts))


def find_definition(body: list[ast.stmt], path: list[str]) -> Definition:
    """Return the function or class that a path of names leads to."""
    for statement in body:
        if isinstance(statement, Definition) and statement.name == path[0]:
            return statement if len(path) == 1 else find_definition(statement.body, path[1:])
    raise UnknownObjectError(".".join(path))


def without_docstring(source: str, definition: Definition) -> str:
    """Return the lines of a definition, decorators included, without its docstring."""
    lines = source.splitlines()
    first = min([definition.lineno, *(d.lineno for d in definition.decorator_list)])
    kept = list(range(first, (definition.end_lineno or first) + 1))
    head = definition.body[0]
    if ast.get_docstring(definition) is not None and len(definition.body) > 1:
        until = definition.body[1]
        next_line = min([until.lineno, *(d.lineno for d in getattr(until, "decorator_list", []))])
        last = head.end_lineno or head.lineno
        while last + 1 < next_line and not lines[last].strip():  # blank lines after it
            last += 1
        kept = [n for n in kept if not head.lineno <= n <= last]
    return textwrap.dedent("\n".join(lines[n - 1] for n in kept))


def object_source(root: Path, name: str) -> tuple[Path, str]:
    """Return the file and the source of the object with a dotted name.

    Raises
    ------
    UnknownObjectError
        If the package does not define it.
    """
    name = api_docs.short_names(root).get(name, name)
    file, path = module_file(root, name.split("."))
    source = file.read_text(encoding="utf-8")
    try:
        definition = find_definition(ast.parse(source).body, path)
    except UnknownObjectError:
        raise UnknownObjectError(name) from None
    return file, without_docstring(source, definition)


class PackageSource(SphinxDirective):
    """``{package} gmm.module.object``: its source without the docstring, linked to the API."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a captioned block of Python."""
        name = self.arguments[0].strip()
        try:
            file, source = object_source(Path(self.env.srcdir), name)
        except UnknownObjectError:
            message = "the package does not define %s"
            log.warning(message, name, location=self.get_location(), type="package")
            return []
        self.env.note_dependency(str(file))
        block = nodes.literal_block(source, source, language="python")
        self.set_source_info(block)
        caption = nodes.caption("", "", api_docs.link(self.env.docname, name))
        box = nodes.container(
            "", caption, block, literal_block=True, classes=["literal-block-wrapper", "package"]
        )
        self.set_source_info(box)
        return [box]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("package", PackageSource)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
