"""The look of the figures: readable on light and dark pages, and without colour."""

from __future__ import annotations

import builtins
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import random_mixture
from matplotlib.colors import to_rgb

from gmm import marks, plots


def luminance(colour: str) -> float:
    """Relative luminance, by the definition of WCAG."""
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("pages", [("#fffefb", False), ("#14171a", True)], ids=["light", "dark"])
def test_colours_stand_out_from_the_page(pages: tuple[str, bool]) -> None:
    """WCAG: three to one for graphics, four and a half to one for text."""
    page, dark = pages
    for colour in (plots.INK, plots.MUTED, *plots.PALETTE):
        shown = plots.DARK[colour] if dark else colour
        assert contrast(shown, page) >= (4.5 if colour in (plots.INK, plots.MUTED) else 3.0)


def test_colour_and_marker_tell_sixty_four_components_apart() -> None:
    for second in (marks.marker, marks.line_style):
        looks = {(marks.colour(k), second(k)) for k in range(64)}
        assert len(looks) == 64
    assert len({marks.marker(k) for k in range(8)}) == 8


def test_more_components_than_colours_are_drawn() -> None:
    mixture = random_mixture("VVV", 10, 2, seed=0)
    ax = plots.ellipses(mixture)
    means = [line for line in ax.lines if np.size(line.get_xdata()) == 1]
    assert len({(line.get_color(), line.get_marker()) for line in means}) == 10
    plt.close("all")


def test_without_matplotlib_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install 'gmm-first-principles\[plots\]'"):
        plots.use_style()
