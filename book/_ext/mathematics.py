r"""Formulas, rendered when the book is built: the pages hold HTML and MathML, and need no script.

A formula which KaTeX does not understand is a warning, and so fails the build. Each rendered
formula stands between two comments, so that :mod:`page_body` can step over it; it removes them.
"""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

import node_tools

log = logging.getLogger(__name__)

BEFORE, AFTER = "<!--formula-->", "<!--/formula-->"
SHORT = 32  # characters of TeX; a shorter formula is not broken at the end of a line
VERBATIM = (nodes.FixedTextElement, nodes.literal, nodes.math, nodes.math_block)
#: The TeX that KaTeX puts beside the MathML; no reader sees it, and it weighs a tenth of a page.
SEMANTICS = re.compile(r"</?semantics>|<annotation.*?</annotation>", re.DOTALL)
#: "Applied to", behind a function that is applied to nothing, as in an index: this is not MathML.
NOTHING_APPLIED = re.compile("<mo>\N{FUNCTION APPLICATION}</mo>(?=</)")
#: Lengths, which KaTeX writes with four decimals; a hundredth of an em cannot be seen.
LENGTH = re.compile(r"(?<=[:-])(\d*\.\d+)em")
NOTHING = re.compile(r";margin-left:0em|;(?=\")")
NUMBERED = ("align", "alignat", "equation", "gather")

PROGRAM = Path(__file__).with_name("formulas.cjs")


class TexError(ValueError):
    """TeX which KaTeX refuses."""


class Katex:
    """KaTeX in a Node process, which starts with the first formula and remembers them all."""

    def __init__(self, folder: Path, macros: dict[str, str]) -> None:
        self.folder = folder
        self.macros = macros
        self._process: subprocess.Popen[str] | None = None
        self._answers: dict[tuple[str, bool], dict[str, str]] = {}

    def render(self, tex: str, *, display: bool) -> str:
        """Return the HTML and MathML of a formula; raise TexError if it has none."""
        key = (tex, display)
        if key not in self._answers:
            self._answers[key] = self._ask(tex, display)
        answer = self._answers[key]
        if "error" in answer:
            raise TexError(answer["error"])
        return answer["html"]

    def _ask(self, tex: str, display: bool) -> dict[str, str]:
        if self._process is None:
            modules = node_tools.packages(self.folder)
            command = [node_tools.node_program(), str(PROGRAM), json.dumps(self.macros)]
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"NODE_PATH": str(modules)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
            )
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        pipe_in.write(json.dumps({"tex": tex, "display": display}) + "\n")
        pipe_in.flush()
        answer: dict[str, str] = json.loads(pipe_out.readline())
        return {name: lighter(text) for name, text in answer.items()}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


def lighter(formula: str) -> str:
    """Return a formula without what neither an eye nor a machine misses."""
    formula = NOTHING_APPLIED.sub("", SEMANTICS.sub("", formula))
    formula = LENGTH.sub(lambda match: f"{shortest(float(match[1]))}em", formula)
    return NOTHING.sub("", formula)


def shortest(length: float) -> str:
    """Return a length in as few characters as hold two decimals."""
    return f"{length:.2f}".strip("0").rstrip(".") or "0"


def display_tex(tex: str, *, is_environment: bool) -> str:
    """Prepare a displayed formula: several lines are split; an AMS environment is not numbered."""
    if is_environment:
        for name in NUMBERED:
            tex = tex.replace(f"{{{name}}}", f"{{{name}*}}")
    elif r"\\" in tex and r"\begin" not in tex:
        tex = rf"\begin{{split}}{tex}\end{{split}}"
    return tex


class Renderer:
    """Writes the formulas of the pages."""

    katex: Katex

    def start(self, app: Sphinx) -> None:
        """Take the macros from the configuration."""
        self.katex = Katex(Path(app.srcdir) / "book", app.config.katex_macros)

    def stop(self, app: Sphinx, exception: Exception | None) -> None:
        """End KaTeX's process."""
        self.katex.close()

    def render(self, node: nodes.Element, tex: str, *, display: bool) -> str:
        """Render a formula, or warn and show its TeX."""
        try:
            return BEFORE + self.katex.render(tex, display=display) + AFTER
        except TexError as error:
            log.warning("%s", error, location=node, type="katex")
            return f"<code>{html.escape(tex)}</code>"

    def visit_inline(self, translator: HTML5Translator, node: nodes.Element) -> None:
        """Write a formula in a line of text."""
        tex = node.astext()
        css = "math short" if len(tex) < SHORT else "math"
        formula = self.render(node, tex, display=False)
        translator.body.append(f'<span class="{css}">{formula}</span>')
        raise nodes.SkipNode

    def visit_block(self, translator: HTML5Translator, node: nodes.math_block) -> None:
        """Write a displayed formula; its number is its own permalink."""
        tex = display_tex(node.astext(), is_environment=bool(node.get("nowrap")))
        formula = self.render(node, tex, display=True)
        body = translator.body
        body.append(translator.starttag(node, "div", CLASS="math"))
        body.append(f'<div class="scroll">{formula}</div>')
        if node["number"]:
            number = get_node_equation_number(translator, node)
            if node.get("ids"):
                target = f'href="#{node["ids"][0]}" title="{_("Link to this equation")}"'
                body.append(f'<a class="eqno" {target}>({number})</a>')
            else:
                body.append(f'<span class="eqno">({number})</span>')
        body.append("</div>\n")
        raise nodes.SkipNode


def find_stray_dollars(app: Sphinx, document: nodes.document) -> None:
    """Warn of a dollar sign in the text: Markdown has not seen a formula where one was meant."""
    for element in document.findall(nodes.TextElement):
        if isinstance(element, VERBATIM):
            continue
        if any(isinstance(child, nodes.Text) and "$" in child for child in element.children):
            message = "stray $ in the text (a displayed formula needs an empty line before it)"
            log.warning(message, location=element, type="katex", subtype="dollar")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer ``katex``."""
    renderer = Renderer()
    app.add_config_value("katex_macros", {}, "html")
    app.add_html_math_renderer(
        "katex",
        inline_renderers=(renderer.visit_inline, None),
        block_renderers=(renderer.visit_block, None),
    )
    app.connect("builder-inited", renderer.start)
    app.connect("doctree-read", find_stray_dollars)
    app.connect("build-finished", renderer.stop, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
