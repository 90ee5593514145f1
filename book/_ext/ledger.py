"""The ledger: every result of the book, the code that implements it and the test that checks it.

A *result* is a labelled theorem, lemma, proposition or corollary, or a labelled equation which a
docstring of the package cites. Code cites by ``:eq:`` and ``:prf:ref:`` in its docstrings, tests by
``@pytest.mark.derives("label")``; both are read, not imported. A result without a test, a citation
of an unknown label and a test of an unknown label are warnings, and so fail the build.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, cast

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains import Domain
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import api_docs

log = logging.getLogger(__name__)

STATEMENTS = ("theorem", "lemma", "proposition", "corollary")
CITATION = re.compile(r":(eq|math:numref|prf:ref):`(?:[^`<]*<)?([\w-]+)>?`")
Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Statement:
    """A labelled theorem or equation of a chapter."""

    label: str
    kind: str  # "equation", or as in sphinx-proof: "theorem", "definition", "algorithm", ...
    title: str  # what stands in brackets after a theorem's number
    within: str | None  # the label of the theorem whose statement contains this equation


@dataclass(frozen=True)
class Mention:
    """A place of the code that names a label."""

    label: str
    name: str  # the object of the package, or the test
    file: str  # relative to the root of the repository
    line: int


@dataclass(frozen=True)
class Result:
    """A statement that has to be checked, and who implements and checks it."""

    statement: Statement
    docname: str
    code: tuple[str, ...]
    tests: tuple[str, ...]


# ------------------------------------------------------------------ the code


def scopes(tree: ast.Module) -> Iterator[tuple[list[str], ast.AST]]:
    """Yield the module, its classes and functions, each with the path of names to it."""
    queue: list[tuple[list[str], ast.AST]] = [([], tree)]
    while queue:
        path, node = queue.pop(0)
        yield path, node
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Scope):
                queue.append(([*path, child.name], child))


def package_citations(root: Path) -> list[Mention]:
    """Return the labels that the docstrings of the package cite."""
    found = []
    for file in sorted((root / "gmm").rglob("*.py")):
        module = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for path, node in scopes(ast.parse(file.read_text(encoding="utf-8"))):
            assert isinstance(node, Scope | ast.Module)
            line = 1 if isinstance(node, ast.Module) else node.lineno
            text = ast.get_docstring(node, clean=False) or ""
            name = ".".join([module, *path])
            labels = dict.fromkeys(match[2] for match in CITATION.finditer(text))
            place = file.relative_to(root).as_posix()
            found += [Mention(label, name, place, line) for label in labels]
    return found


def derived_labels(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the labels in the marks ``derives(...)`` below a node, functions and classes aside."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and ast.unparse(child.func).endswith("mark.derives"):
            for argument in child.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value, child.lineno
        elif not isinstance(child, Scope):
            yield from derived_labels(child)


def marked_tests(root: Path) -> list[Mention]:
    """Return the labels that the tests are marked with; a module's or class's mark counts once."""
    found = []
    for file in sorted((root / "tests").rglob("test_*.py")):
        place = file.relative_to(root).as_posix()
        for path, node in scopes(ast.parse(file.read_text(encoding="utf-8"))):
            name = "::".join([file.name, *path])
            found += [Mention(label, name, place, line) for label, line in derived_labels(node)]
    return found


# ------------------------------------------------------------------ the chapters


def title_of(result: nodes.Element) -> str:
    """Return the name that a theorem or the like bears, without its brackets."""
    title: str = result["title"].strip()
    return title.removeprefix("(").removesuffix(")")


def chapter_statements(document: nodes.document) -> list[Statement]:
    """Return the labelled theorems and equations of a chapter, in their order."""
    found = []
    for node in document.findall(nodes.Element):
        if node.get("realtype"):
            title = title_of(node)
            if not node["label"].startswith(f"{node['realtype']}-"):  # else it has no label
                found.append(Statement(node["label"], node["realtype"], title, None))
        elif isinstance(node, nodes.math_block) and node.get("label"):
            parent = node.parent
            while parent is not None and parent.get("realtype") not in STATEMENTS:
                parent = parent.parent
            within = parent["label"] if parent is not None else None
            found.append(Statement(node["label"], "equation", "", within))
    return found


class LedgerDomain(Domain):
    """Keeps the statements of each chapter from one build to the next."""

    name = "ledger"
    label = "Ledger"
    initial_data = {"statements": {}, "shown": None}  # noqa: RUF012  (Sphinx copies it)

    @property
    def statements(self) -> dict[str, list[Statement]]:
        """The statements by chapter."""
        return cast("dict[str, list[Statement]]", self.data["statements"])

    def clear_doc(self, docname: str) -> None:
        """Forget a chapter."""
        self.statements.pop(docname, None)

    def process_doc(self, env: BuildEnvironment, docname: str, document: nodes.document) -> None:
        """Read a chapter."""
        self.statements[docname] = chapter_statements(document)

    def merge_domaindata(self, docnames: Iterable[str], otherdata: dict[str, Any]) -> None:
        """Take over chapters that another process has read."""
        for docname in docnames:
            self.statements[docname] = otherdata["statements"].get(docname, [])


def reading_order(env: BuildEnvironment) -> list[str]:
    """Return the chapters in the order of the table of contents."""
    order: list[str] = []
    queue = [env.config.root_doc]
    while queue:
        docname = queue.pop(0)
        if docname not in order:
            order.append(docname)
            queue = env.toctree_includes.get(docname, []) + queue
    return order


def is_result(statement: Statement, cited: Collection[str]) -> bool:
    """Tell whether a statement has to be checked."""
    if statement.kind == "equation":
        return statement.label in cited
    return statement.kind in STATEMENTS


def collect(env: BuildEnvironment) -> list[Result]:
    """Return the results in the order of the book."""
    root = Path(env.srcdir)
    code, tests = package_citations(root), marked_tests(root)
    cited = {mention.label for mention in code}
    statements = cast(LedgerDomain, env.get_domain("ledger")).statements
    results = []
    for docname in reading_order(env):
        for statement in statements.get(docname, []):
            if not is_result(statement, cited):
                continue
            labels = {statement.label, statement.within}
            results.append(
                Result(
                    statement,
                    docname,
                    tuple(dict.fromkeys(m.name for m in code if m.label == statement.label)),
                    tuple(dict.fromkeys(m.name for m in tests if m.label in labels)),
                )
            )
    return results


def check(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Warn of what is not checked or does not exist; return the ledger's page if it has changed."""
    root = Path(env.srcdir)
    domain = cast(LedgerDomain, env.get_domain("ledger"))
    known = {s.label for statements in domain.statements.values() for s in statements}
    results = collect(env)
    for result in results:
        if not result.tests:
            log.warning(
                "the ledger: no test derives %s",
                result.statement.label,
                location=result.docname,
                type="ledger",
                subtype="untested",
            )
    for mention in [*package_citations(root), *marked_tests(root)]:
        if mention.label not in known:
            log.warning(
                "the ledger: %s names %s, which no chapter states",
                mention.name,
                mention.label,
                location=f"{root / mention.file}:{mention.line}",
                type="ledger",
                subtype="unknown",
            )
    page = app.config.ledger_page
    if domain.data["shown"] == results or page not in env.found_docs:
        return []
    domain.data["shown"] = results
    return [page]


# ------------------------------------------------------------------ the page


class ledger_table(nodes.General, nodes.Element):  # noqa: N801  (docutils' way to name nodes)
    """Stands for the tables until all chapters are read."""


class LedgerDirective(SphinxDirective):
    """``{ledger}``: the tables of all results, one for each chapter."""

    def run(self) -> list[nodes.Node]:
        """Return the place of the tables."""
        return [ledger_table()]


def link(docname: str, domain: str, kind: str, target: str, text: nodes.Node) -> nodes.Node:
    """Return a reference which Sphinx resolves as it does those of the text."""
    return addnodes.pending_xref(
        "",
        text,
        refdomain=domain,
        reftype=kind,
        reftarget=target,
        refexplicit=False,
        refwarn=True,
        refdoc=docname,
    )


def lines(items: Iterable[nodes.Node]) -> nodes.Node:
    """Return a cell of a table with a line for each item."""
    block = nodes.line_block()
    block += [nodes.line("", "", item) for item in items]
    return nodes.entry("", block)


def result_cell(page: str, statement: Statement) -> nodes.Node:
    """Return the number of a result as a link, its title and its label."""
    label = nodes.literal(statement.label, statement.label)
    domain, kind = ("math", "eq") if statement.kind == "equation" else ("prf", "ref")
    head = nodes.inline("", "", link(page, domain, kind, statement.label, label.deepcopy()))
    if statement.kind == "equation":
        head.insert(0, nodes.Text("Equation "))
    rows: list[nodes.Node] = [head]
    if statement.title:
        rows.append(nodes.emphasis("", statement.title))
    return lines([*rows, label])


def table(page: str, docname: str, results: Iterable[Result]) -> nodes.table:
    """Return the table of a chapter, with its title: a row for each result."""
    heads = ["Result", "Package", "Tests"]
    group = nodes.tgroup("", *(nodes.colspec(colwidth=33) for _ in heads), cols=len(heads))
    entries = [nodes.entry("", nodes.paragraph(text, text)) for text in heads]
    group += nodes.thead("", nodes.row("", *entries))
    group += nodes.tbody(
        "",
        *(
            nodes.row(
                "",
                result_cell(page, result.statement),
                lines(api_docs.link(page, name) for name in result.code),
                lines(nodes.literal(name, name) for name in result.tests),
            )
            for result in results
        ),
    )
    title = nodes.title("", "", link(page, "std", "doc", f"/{docname}", nodes.inline()))
    name = f"results-{PurePosixPath(docname).name}".replace("_", "-")
    return nodes.table("", title, group, classes=["ledger"], ids=[name])


class FillLedger(SphinxPostTransform):
    """Puts the tables into their place, before references are resolved."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        """Replace each placeholder of the page."""
        for node in list(self.document.findall(ledger_table)):
            chapters = groupby(collect(self.env), key=lambda result: result.docname)
            node.replace_self([table(self.env.docname, *chapter) for chapter in chapters])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the domain, the directive and the checks."""
    app.add_config_value("ledger_page", "book/appendices/ledger", "env", (str,))
    app.add_domain(LedgerDomain)
    app.add_node(ledger_table)
    app.add_directive("ledger", LedgerDirective)
    app.add_post_transform(FillLedger)
    app.connect("env-updated", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
