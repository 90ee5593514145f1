"""A backend of matplotlib that keeps its figures until the cell has ended.

Chosen by ``rcParams["backend"] = "module://in_page.canvas"``.
"""

from __future__ import annotations

from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_svg import FigureCanvasSVG


class FigureManager(FigureManagerBase):
    """Shows nothing by itself."""

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:
        """Do nothing: open figures are shown when the cell has ended."""


class FigureCanvas(FigureCanvasSVG):
    """Draws as SVG."""

    manager_class = FigureManager
