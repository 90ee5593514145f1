"""Plots draw what they say, where they are told, and refuse the rest."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import random_mixture
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.contour import QuadContourSet
from numpy.typing import NDArray

import gmm
from gmm import plots

pytestmark = pytest.mark.usefixtures("drawing")

Floats = NDArray[np.float64]


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
    assert ax.patches  # the histogram of the rows
    assert not plots.density(mixture).patches


def test_responsibilities_are_shown_by_marker_as_well_as_colour(old_faithful: Floats) -> None:
    mixture = gmm.fit(old_faithful, 3, random_state=0).mixture
    ax = plots.responsibilities(old_faithful, mixture)
    clouds = ax.collections
    sizes = [len(np.asarray(c.get_offsets())) for c in clouds]
    np.testing.assert_array_equal(sizes, np.bincount(mixture.predict(old_faithful), minlength=3))
    shapes = {np.asarray(c.get_paths()[0].vertices).tobytes() for c in clouds}
    assert len(shapes) == 3


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


def clouds(ax: Axes) -> list[PathCollection]:
    """The clouds of rows in a picture, without the empty ones of a legend."""
    found = [c for c in ax.collections if isinstance(c, PathCollection)]
    return [c for c in found if len(np.asarray(c.get_offsets()))]


def test_classification_shows_each_row_with_its_most_probable_component(
    old_faithful: Floats,
) -> None:
    mixture = gmm.fit(old_faithful, 3, random_state=0).mixture
    ax = plots.classification(mixture, old_faithful, n_sigmas=1.0)
    labels = mixture.predict(old_faithful)
    for k, cloud in enumerate(clouds(ax)):
        np.testing.assert_array_equal(cloud.get_offsets(), old_faithful[labels == k])
        assert to_rgba(plots.PALETTE[k])[:3] == tuple(np.asarray(cloud.get_facecolor())[0, :3])
    shapes = {np.asarray(c.get_paths()[0].vertices).tobytes() for c in clouds(ax)}
    assert len(shapes) == 3
    curve = np.column_stack(ax.lines[0].get_data())
    np.testing.assert_allclose(mixture.component(0).mahalanobis(curve), 1.0, rtol=1e-9)


@pytest.mark.parametrize("features", [(0, 1), (1, 0)])
def test_on_the_boundary_the_two_greatest_responsibilities_are_equal(
    features: tuple[int, int],
) -> None:
    mixture = random_mixture("VVV", 3, 2, seed=4)
    ax = plots.classification(mixture, mixture.sample(60, 0)[0], features=features)
    borders = [c for c in ax.collections if isinstance(c, QuadContourSet)]
    assert borders
    for border in borders:
        vertices = np.concatenate([np.asarray(path.vertices) for path in border.get_paths()])
        joint = np.sort(mixture.component_log_densities(vertices[:, list(features)]), axis=1)
        # interpolated on a grid of 160 points: right to a few percent of a nat
        assert np.median(joint[:, -1] - joint[:, -2]) < 0.05


def test_no_boundary_where_other_features_decide_too() -> None:
    mixture = random_mixture("VVV", 3, 4, seed=4)
    X = mixture.sample(60, 0)[0]
    ax = plots.classification(mixture, X, features=(2, 1))
    assert not [c for c in ax.collections if isinstance(c, QuadContourSet)]
    shown = np.concatenate([np.asarray(c.get_offsets()) for c in clouds(ax)])
    order = np.argsort(mixture.predict(X), kind="stable")
    np.testing.assert_array_equal(shown, X[order][:, [2, 1]])


def test_uncertain_rows_are_larger_and_darker(old_faithful: Floats) -> None:
    mixture = gmm.fit(old_faithful, 3, random_state=0).mixture
    ax = plots.uncertainty(mixture, old_faithful)
    shares = mixture.responsibilities(old_faithful)
    for k, cloud in enumerate(clouds(ax)):
        doubt = 1.0 - shares[shares.argmax(axis=1) == k].max(axis=1)
        for shown in (np.asarray(cloud.get_sizes()), np.asarray(cloud.get_facecolor())[:, 3]):
            slope, start = np.polyfit(doubt, shown, 1)
            np.testing.assert_allclose(shown, start + slope * doubt, rtol=1e-8)
            assert slope > 0
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["0", "0.33", "0.67"]


def test_uncertainty_of_one_component_is_none(old_faithful: Floats) -> None:
    ax = plots.uncertainty(gmm.fit(old_faithful, 1).mixture, old_faithful)
    assert len(np.unique(np.asarray(clouds(ax)[0].get_sizes()))) == 1


def test_the_surface_is_the_density() -> None:
    mixture = random_mixture("VVV", 2, 3, seed=5)
    X = mixture.sample(30, 0)[0]
    ax = plots.density(mixture, X, kind="surface", features=(2, 0))
    surface: Any = ax.collections[0]
    faces = np.asarray(surface._faces).reshape(-1, 3)
    expected = np.exp(mixture.marginal([2, 0]).log_density(faces[:, :2]))
    np.testing.assert_allclose(faces[:, 2], expected, rtol=1e-9)
    assert len(ax.lines) == 1  # the rows, on the floor
    assert len(plots.density(mixture, kind="surface", features=(2, 0)).lines) == 0
    with pytest.raises(ValueError, match="ax: expected Axes with projection='3d'"):
        plots.density(mixture, ax=plt.subplots()[1], kind="surface", features=(0, 1))
    with pytest.raises(ValueError, match="kind: expected 2 features for a surface, got 1"):
        plots.density(mixture, kind="surface", features=0)


def test_pairs_are_a_triangle_of_marginals() -> None:
    mixture = random_mixture("VVV", 2, 4, seed=6)
    X = mixture.sample(80, 0)[0]
    panels = plots.pairs(mixture, X, (3, 0, 2), names=["a", "b", "c"])
    assert [[ax is not None for ax in row] for row in panels] == np.tri(3, dtype=bool).tolist()
    assert len(panels[0, 0].figure.axes) == 6
    assert [ax.get_xlabel() for ax in panels[2]] == ["a", "b", "c"]
    assert [ax.get_ylabel() for ax in panels[:, 0]] == ["", "b", "c"]
    plane = mixture.marginal([3, 2])  # the row of c, the column of a
    for k in range(2):
        curve = np.column_stack(panels[2, 0].lines[2 * k].get_data())
        np.testing.assert_allclose(plane.component(k).mahalanobis(curve), 4.0, rtol=1e-9)
        mine = mixture.predict(X) == k
        np.testing.assert_array_equal(clouds(panels[2, 0])[k].get_offsets(), X[mine][:, [3, 2]])
    x, total = panels[1, 1].lines[-1].get_data()
    expected = np.exp(mixture.marginal([0]).log_density(np.asarray(x)[:, None]))
    np.testing.assert_allclose(total, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="names: expected 4, one for each feature, got 1"):
        plots.pairs(mixture, X, names=["a"])
    assert plots.pairs(mixture, X, [1]).shape == (1, 1)


def test_new_pictures_refuse_bad_arguments(old_faithful: Floats) -> None:
    cube = random_mixture("VVV", 2, 3, seed=3)
    line = random_mixture("VVV", 2, 1, seed=3)
    for draw in (plots.classification, plots.uncertainty, plots.pairs):
        with pytest.raises(ValueError, match="X: expected 3 features, got 2"):
            draw(cube, old_faithful)
    for draw in (plots.classification, plots.uncertainty):
        with pytest.raises(ValueError, match="mixture: expected at least 2 features"):
            draw(line, old_faithful[:, :1])
    with pytest.raises(ValueError, match="kind: expected one of 'contour', 'surface'; got 'wire'"):
        plots.density(cube, kind="wire", features=(0, 1))
    with pytest.raises(ValueError, match="features: expected integers from 0 to 2"):
        plots.pairs(cube, np.zeros((3, 3)), (0, 3))
    assert not plt.get_fignums()
