"""Plots draw what they say, where they are told, and refuse the rest."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import random_mixture
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

import gmm
from gmm import plots

Floats = NDArray[np.float64]


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    """Close what a test has drawn."""
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def luminance(colour: str) -> float:
    """Relative luminance, by the definition of WCAG."""
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a: str, b: str) -> float:
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.derives("eq-sigma-ellipse")
def test_ellipses_lie_at_two_sigma(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=0)
    ax = plots.ellipses(mixture)
    curves = [line for line in ax.lines if np.size(line.get_xdata()) > 10]
    assert len(curves) == 3
    for k, line in enumerate(curves):
        points = np.column_stack(line.get_data())
        np.testing.assert_allclose(mixture.component(k).mahalanobis(points), 4.0, rtol=1e-9)
    assert len({line.get_linestyle() for line in curves}) == 3


def test_ellipses_of_two_features_of_many() -> None:
    mixture = random_mixture("VVV", 2, 4, seed=1)
    X = mixture.sample(20, 0)[0]
    ax = plots.ellipses(mixture, X, features=(3, 1))
    np.testing.assert_array_equal(np.column_stack(ax.lines[0].get_data()), X[:, [3, 1]])


def test_given_axes_are_used_and_returned(old_faithful: Floats) -> None:
    fit = gmm.fit(old_faithful, 2, random_state=0)
    _, ax = plt.subplots()
    assert plots.ellipses(fit.mixture, ax=ax) is ax
    assert plots.log_likelihood(fit, ax=ax) is ax
    assert plots.density(fit.mixture, ax=ax) is ax
    assert plots.responsibilities(old_faithful, fit.mixture, ax=ax) is ax
    assert len(plt.get_fignums()) == 1


def test_snapshots_show_the_kept_iterations(old_faithful: Floats) -> None:
    fit = gmm.fit(old_faithful, 2, tol=0, max_iter=12, keep=5, random_state=0)
    panels = plots.snapshots(fit, old_faithful)
    assert [ax.get_title() for ax in panels] == [f"iteration {i}" for i in (0, 5, 10, 12)]
    assert len(panels[0].figure.axes) == 4
    assert plots.snapshots(fit, old_faithful, [0, 12], n_columns=1).size == 2
    with pytest.raises(ValueError, match=r"iterations: expected some that the fit kept \(\[0, 5"):
        plots.snapshots(fit, old_faithful, [0, 1])
    bare = gmm.fit(old_faithful, 2, random_state=0)
    with pytest.raises(ValueError, match=r"say which to keep by fit\(..., keep=...\)"):
        plots.snapshots(bare, old_faithful)


def test_the_log_likelihood_curve_is_the_trace(old_faithful: Floats) -> None:
    fit = gmm.fit(old_faithful, 2, start="random", random_state=0)
    line = plots.log_likelihood(fit).lines[0]
    np.testing.assert_array_equal(line.get_ydata(), fit.trace.log_likelihood)


def test_density_contours_lie_on_levels_of_the_density() -> None:
    mixture = random_mixture("VVV", 2, 2, seed=2)
    ax = plots.density(mixture, mixture.sample(50, 0)[0], n_levels=4)
    levels = 0
    for collection in ax.collections:
        for path in collection.get_paths():
            vertices = np.asarray(path.vertices)
            if len(vertices) > 20:
                values = mixture.log_density(vertices)
                assert np.ptp(values) < 0.15  # the contour is interpolated on a grid
                levels += 1
    assert levels >= 4


def test_density_of_one_feature_draws_components_and_sum() -> None:
    X = gmm.datasets.galaxies().X
    mixture = gmm.fit(X, 3, random_state=0, n_starts=3).mixture
    ax = plots.density(mixture, X)
    x, total = (np.asarray(v) for v in ax.lines[-1].get_data())
    np.testing.assert_allclose(total, np.exp(mixture.log_density(x[:, None])), rtol=1e-12)
    parts = sum(np.asarray(line.get_ydata()) for line in ax.lines[:-1])
    np.testing.assert_allclose(parts, total, rtol=1e-12)


def test_responsibilities_are_shown_by_marker_as_well_as_colour(old_faithful: Floats) -> None:
    mixture = gmm.fit(old_faithful, 3, random_state=0).mixture
    ax = plots.responsibilities(old_faithful, mixture)
    clouds = ax.collections
    sizes = [len(np.asarray(c.get_offsets())) for c in clouds]
    np.testing.assert_array_equal(sizes, np.bincount(mixture.predict(old_faithful), minlength=3))
    shapes = {np.asarray(c.get_paths()[0].vertices).tobytes() for c in clouds}
    assert len(shapes) == 3


@pytest.mark.parametrize("pages", [("#fffefb", False), ("#14171a", True)], ids=["light", "dark"])
def test_colours_stand_out_from_the_page(pages: tuple[str, bool]) -> None:
    """WCAG: three to one for graphics, four and a half to one for text."""
    page, dark = pages
    for colour in (plots.INK, plots.MUTED, *plots.PALETTE):
        shown = plots.DARK[colour] if dark else colour
        assert contrast(shown, page) >= (4.5 if colour in (plots.INK, plots.MUTED) else 3.0)


def test_bad_arguments_are_refused(old_faithful: Floats) -> None:
    line = random_mixture("VVV", 2, 1, seed=3)
    cube = random_mixture("VVV", 2, 3, seed=3)
    with pytest.raises(ValueError, match="mixture: expected at least 2 features"):
        plots.ellipses(line)
    with pytest.raises(ValueError, match="mixture: expected 1 or 2 features, got 3"):
        plots.density(cube)
    with pytest.raises(ValueError, match="features: expected two positions, got 3"):
        plots.ellipses(cube, features=(0, 1, 2))  # type: ignore[arg-type]  # the error is what is tested
    with pytest.raises(ValueError, match="X: expected 3 features, got 2"):
        plots.responsibilities(old_faithful, cube)


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
