"""Chapters as notebooks that run wherever the package is installed.

A chapter's cells name their results for the text (``glue``) and its text is in MyST. In the
notebook that a reader downloads, ``glue`` shows the figure or the number, and the text is plain
Markdown with formulas: directives become paragraphs with a heading, references become names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

import nbformat
from nbformat import NotebookNode

#: What takes the place of myst_nb's function of this name.
GLUE = '''\
def glue(name, value, display=True):
    """Show a figure, or a number that the text names."""
    from IPython.display import display as show
    from matplotlib.figure import Figure

    if isinstance(value, Figure):
        show(value)
    elif display:
        print(f"{name} = {value}")
'''
GLUE_IMPORT = re.compile(r"^from myst_nb import glue\n?", re.MULTILINE)

#: Where to get what chapters import, beyond what the package's extra for plots brings.
DISTRIBUTIONS = {
    "dask": "'dask[array]'",
    "mpmath": "mpmath",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "sympy": "sympy",
}

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

FENCE = re.compile(r"^(`{3,}|:{3,})\{([\w:-]+)\}[ ]*(.*)$")
OPTION = re.compile(r"^:[\w-]+:.*$")
TARGET = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
ROLE = re.compile(r"\{([\w:]+)\}`([^`]*)`")
MATH_LABEL = re.compile(r"^(\$\$) \([\w-]+\)$", re.MULTILINE)
SITE_LINK = re.compile(r'<a href="\.\./[^"]*">(.*?)</a>')  # which leads nowhere from a notebook

#: Directives whose content is text under a heading.
HEADINGS = {
    "prf:algorithm": "Algorithm",
    "prf:corollary": "Corollary",
    "prf:definition": "Definition",
    "prf:example": "Example",
    "prf:lemma": "Lemma",
    "prf:proof": "Proof",
    "prf:proposition": "Proposition",
    "prf:remark": "Remark",
    "prf:theorem": "Theorem",
    "exercise": "Exercise",
    "solution": "Solution",
    "solution-start": "Solution",
    "admonition": "",
    "note": "Note",
}


def portable(notebook: NotebookNode, title: str, macros: Mapping[str, str]) -> NotebookNode:
    """Return a chapter as a notebook that needs no more than what its first cell says.

    Parameters
    ----------
    notebook : NotebookNode
        The chapter's cells, text in MyST.
    title : str
        Of the book.
    macros : mapping
        Names of the chapter's macros for formulas, and what they stand for.
    """
    cells = [nbformat.v4.new_markdown_cell(_preface(notebook, title, macros))]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            source = GLUE_IMPORT.sub(lambda _: GLUE + "\n\n", cell.source)
            cells.append(nbformat.v4.new_code_cell(source))
        elif text := plain(cell.source).strip():
            cells.append(nbformat.v4.new_markdown_cell(text))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # those that nbformat makes are random
    metadata = {"kernelspec": KERNEL}
    result: NotebookNode = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    return result


def _preface(notebook: NotebookNode, title: str, macros: Mapping[str, str]) -> str:
    needed = ["'gmm-first-principles[plots]'", *requirements(notebook)]
    definitions = "".join(
        f"\\def{name}#1{{{meaning}}}" if "#1" in meaning else f"\\def{name}{{{meaning}}}"
        for name, meaning in macros.items()
    )
    return (
        f"*A chapter of* {title}*, as a notebook.*\n\n"
        "```\npip install " + " ".join(needed) + " ipykernel\n```\n\n"
        f"$${definitions}$$"
    )


def requirements(notebook: NotebookNode) -> list[str]:
    """Return what is to be installed for a notebook's imports, the package itself aside."""
    return sorted({DISTRIBUTIONS[name] for name in imports(notebook) if name in DISTRIBUTIONS})


def imports(notebook: NotebookNode) -> set[str]:
    """Return the names of the packages that a notebook's cells import."""
    names = set()
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        code = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names


def plain(text: str) -> str:
    """Return MyST as Markdown that a notebook shows."""
    text = _roles(TARGET.sub("", "\n".join(_lines(text.splitlines()))))
    text = SITE_LINK.sub(r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", MATH_LABEL.sub(r"\1", text))


def _lines(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines with directives replaced."""
    at = 0
    while at < len(lines):
        found = FENCE.match(lines[at])
        if not found:
            yield lines[at]
            at += 1
            continue
        fence, name, argument = found.groups()
        end = at + 1
        while end < len(lines) and lines[end].rstrip() != fence:
            end += 1
        yield from _directive(name, argument.strip(), lines[at + 1 : end])
        at = end + 1


def _directive(name: str, argument: str, body: Sequence[str]) -> Iterator[str]:
    options = 0
    while options < len(body) and OPTION.match(body[options]):
        options += 1
    content = list(body[options:])
    if name == "math":
        yield from ["$$", *(line for line in content if line.strip()), "$$"]
    elif name in HEADINGS:
        own = name in ("solution", "solution-start")  # whose argument is a label
        words = [HEADINGS[name], "" if own else argument]
        heading = ": ".join(word for word in words if word)
        stop = "" if heading[-1] in ".?!" else "."
        yield from ["", f"**{heading}{stop}**", *_lines(content), ""]
    elif name in ("glue:figure", "figure"):
        label = next((line.split()[1] for line in body if line.startswith(":name: ")), argument)
        yield from ["", f"*Figure* `{label}`*:* " + " ".join(" ".join(content).split()), ""]
    elif name in ("package", "literalinclude"):
        yield f"*(The code of `{argument}` stands here in the book.)*"
    elif name in ("list-table", "table"):
        caption = [f"*{argument}*", ""] if argument else []
        yield from ["", *caption, *content, ""]
    elif name != "solution-end":
        yield from _lines(content)


def _roles(text: str) -> str:
    def name_of(found: re.Match[str]) -> str:
        role, content = found.groups()
        if role == "glue:text":
            return f"`{content.split(':')[0]}`"
        if role.startswith("cite"):
            return f"[{content}]"
        shown, _, target = content.rpartition("<")
        return shown.strip() or f"`{target.removesuffix('>')}`"

    return ROLE.sub(name_of, text)
