"""The code cells of one page: one namespace, in order, as in a notebook."""

from __future__ import annotations

import ast
import io
import linecache
import re
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from figures import for_both_themes
from gmm import plots
from gmm.marks import DARK
from in_page.deferred import defer, is_deferred

MAGIC = re.compile(r"^\s*[%!].*$", re.MULTILINE)


class Cells:
    """A namespace in which cells run.

    Parameters
    ----------
    bring_matplotlib : callable
        Called when a cell first draws; after it matplotlib can be imported.
    """

    def __init__(self, bring_matplotlib: Callable[[], None]) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.glued: dict[str, Any] = {}
        self.outputs: list[dict[str, str]] = []
        self.count = 0
        self._style_waits = False
        if "matplotlib" not in sys.modules:
            after = {"matplotlib": _choose_canvas, "matplotlib.pyplot": self._apply_style}
            defer(bring_matplotlib, after)
        self._install()

    # ------------------------------------------------------------------ what cells import

    def _install(self) -> None:
        """Put in place what cells take from the notebook around them."""
        glue = ModuleType("myst_nb")
        glue.__dict__["glue"] = self.glue
        sys.modules["myst_nb"] = glue
        self.namespace["display"] = self.display
        self._use_style = plots.use_style
        plots.use_style = self._style_when_drawing

    def _style_when_drawing(self) -> None:
        """What :func:`gmm.plots.use_style` is here: it can wait."""
        self._style_waits = is_deferred("matplotlib.pyplot")
        if not self._style_waits:
            self._use_style()

    def _apply_style(self) -> None:
        if self._style_waits:
            self._use_style()

    # ------------------------------------------------------------------ running

    def run(self, source: str, shown: bool = True) -> dict[str, Any]:
        """Run one cell.

        Parameters
        ----------
        source : str
            Its code. The value of its last expression is shown, unless a semicolon follows.
        shown : bool
            Whether the page shows the cell's code. Of another cell only the figures are shown.

        Returns
        -------
        dict
            ``error``, the traceback or None, and ``outputs``, a list of {type: text} in which the
            types are "text/plain", "text/html" and "image/svg+xml"; with a glued figure is its
            "name".
        """
        self.outputs = []
        self.count += 1
        name = f"cell {self.count}"
        code = MAGIC.sub("", source)
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        error = None
        try:
            self._execute(code, name)
        except BaseException as problem:
            error = _traceback(problem, name)
        self._show_open_figures()
        outputs = [output for output in self.outputs if shown or "image/svg+xml" in output]
        return {"error": error, "outputs": outputs}

    def _execute(self, code: str, name: str) -> None:
        tree = ast.parse(code, name)
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr) and not code.rstrip().endswith(";"):
            tree.body.pop()
            exec(compile(tree, name, "exec"), self.namespace)
            value = eval(compile(ast.Expression(last.value), name, "eval"), self.namespace)
            if value is not None:
                self.display(value)
        else:
            exec(compile(tree, name, "exec"), self.namespace)

    # ------------------------------------------------------------------ showing

    def glue(self, name: str, value: object, display: bool = True) -> None:
        """Keep a value that the text names, and show it; a figure also if the text shows it."""
        if _is_figure(value):
            value = _svg(value)
            self.outputs.append({"image/svg+xml": value, "name": name})
        elif display:
            self.display(value)
        self.glued[name] = value

    def display(self, *values: object) -> None:
        """Show values as a notebook would."""
        for value in values:
            if _is_figure(value):
                self.outputs.append({"image/svg+xml": _svg(value)})
            elif hasattr(value, "_repr_html_") and (html := value._repr_html_()) is not None:
                self.outputs.append({"text/html": html, "text/plain": repr(value)})
            else:
                self.outputs.append({"text/plain": repr(value)})

    def _show_open_figures(self) -> None:
        if is_deferred("matplotlib.pyplot"):
            return
        plt = sys.modules["matplotlib.pyplot"]
        for number in plt.get_fignums():
            self.outputs.append({"image/svg+xml": _svg(plt.figure(number))})
        plt.close("all")


def _choose_canvas() -> None:
    import matplotlib

    matplotlib.rcParams["backend"] = "module://in_page.canvas"  # use() would import pyplot


def _is_figure(value: object) -> bool:
    if is_deferred("matplotlib"):
        return False
    from matplotlib.figure import Figure

    return isinstance(value, Figure)


def _svg(figure: Any) -> str:
    """A figure as the book's build would write it, with the colours of both themes."""
    file = io.StringIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    colours = {light.lower(): dark.lower() for light, dark in DARK.items()}
    return for_both_themes(file.getvalue(), colours)


def _traceback(problem: BaseException, name: str) -> str:
    """The traceback without what lies outside the cell."""
    frames = traceback.extract_tb(problem.__traceback__)
    begins = next((i for i, frame in enumerate(frames) if frame.filename == name), len(frames))
    lines = ["Traceback (most recent call last):\n"] if begins < len(frames) else []
    lines += traceback.format_list(frames[begins:])
    return "".join([*lines, *traceback.format_exception_only(problem)]).rstrip()
