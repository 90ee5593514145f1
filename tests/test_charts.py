"""Charts show the numbers that they are made of, and the rate that is in them."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

import gmm
from gmm import plots

pytestmark = pytest.mark.usefixtures("drawing")

Floats = NDArray[np.float64]


def test_the_log_likelihood_curve_is_the_trace(old_faithful: Floats) -> None:
    fit = gmm.fit(old_faithful, 2, start="random", random_state=0)
    line = plots.log_likelihood(fit).lines[0]
    np.testing.assert_array_equal(line.get_ydata(), fit.trace.log_likelihood)


def with_trace(fit: gmm.Fit, values: Floats) -> gmm.Fit:
    """The fit, as if its log-likelihood had gone another way."""
    return replace(fit, trace=replace(fit.trace, log_likelihood=values))


@pytest.mark.derives("prop-gain-ratio", "thm-aitken")
@pytest.mark.parametrize("factor", [0.3, 0.95])
def test_convergence_finds_the_limit_and_the_factor_of_a_geometric_series(
    old_faithful: Floats, factor: float
) -> None:
    gaps = 20.0 * factor ** np.arange(12.0)
    fit = with_trace(gmm.fit(old_faithful, 2, random_state=0), -1130.0 - gaps)
    ax = plots.convergence(fit)
    shown, fitted = ax.lines
    # differences of numbers near 1000 lose about 1e-13 of them, 1e-8 of the least gap
    np.testing.assert_allclose(np.asarray(shown.get_ydata(), np.float64), gaps, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(fitted.get_ydata(), np.float64), gaps, rtol=1e-6)
    assert ax.texts[0].get_text() == f"× {factor:.4f} per iteration"
    assert ax.get_yscale() == "log"


def test_the_factor_of_a_fit_is_that_of_its_gaps_to_a_longer_one(old_faithful: Floats) -> None:
    start = gmm.fit(old_faithful, 3, start="random", max_iter=1, random_state=1).mixture
    short = gmm.fit(old_faithful, 3, start=start, tol=0, max_iter=80)
    limit = gmm.fit(old_faithful, 3, start=start, tol=0, max_iter=200).log_likelihood
    gaps = limit - short.trace.log_likelihood
    shown, fitted = plots.convergence(short).lines
    # the ratios of gains still grow (prop-gain-ratio): a tenth of what is missing is not foreseen
    np.testing.assert_allclose(np.asarray(shown.get_ydata(), np.float64), gaps, rtol=0.15)
    slope = np.diff(np.log(np.asarray(fitted.get_ydata(), dtype=np.float64)))
    np.testing.assert_allclose(slope, np.log(gaps[-1] / gaps[-21]) / 20, rtol=0.05)


def test_rounding_tells_no_rate(old_faithful: Floats) -> None:
    fit = gmm.fit(old_faithful, 2, random_state=0)
    noise = 1e-12 * np.array([0.0, 1.0, -1.0, 2.0])
    ax = plots.convergence(with_trace(fit, np.concatenate([[-1200.0, -1150.0], -1130 + noise])))
    assert len(ax.lines) == 1
    assert not ax.texts
    np.testing.assert_allclose(np.asarray(ax.lines[0].get_ydata(), np.float64), [70, 20], rtol=1e-9)
    growing = -1130.0 - np.array([7.0, 6.0, 4.0, 0.0])
    assert len(plots.convergence(with_trace(fit, growing)).lines) == 1
    with pytest.raises(ValueError, match="fit: expected a log-likelihood that rises"):
        plots.convergence(with_trace(fit, -1130 + noise))


@pytest.fixture(scope="module")
def table() -> gmm.Selection:
    """A table with cells that have no fit, and some that may not be chosen."""
    X = np.random.default_rng(0).normal(size=(8, 2))
    return gmm.select(X, range(1, 5), ["VVV", "EEE", "VII"], random_state=0)


def test_the_curves_are_the_columns_of_the_table(table: gmm.Selection) -> None:
    ax = plots.selection(table)
    for j, family in enumerate(table.families):
        np.testing.assert_array_equal(ax.lines[j].get_ydata(), table.table[:, j])
        assert ax.lines[j].get_label() == family
    family, k, value = table.ranking()[0]
    np.testing.assert_array_equal(np.column_stack(ax.lines[-1].get_data()), [[k, value]])
    assert ax.texts[0].get_text() == f"{family}, {k}"


def test_the_heat_map_writes_shades_frames_and_hatches(table: gmm.Selection) -> None:
    ax = plots.selection(table, kind="heat map")
    values = table.table
    written = {tuple(np.array(t.get_position()) - 0.5): t.get_text() for t in ax.texts}
    expected = {(j, i): f"{v:.1f}" for (i, j), v in np.ndenumerate(values) if not np.isnan(v)}
    assert written == expected
    cells = [p for p in ax.patches if isinstance(p, Rectangle)]
    hatched = {p.get_xy() for p in cells if p.get_hatch()}
    assert hatched == {(j, i) for i, j in np.argwhere(np.isnan(values))}
    assert hatched
    family, k, _ = table.ranking()[0]
    framed = [p.get_xy() for p in cells if p.get_linewidth() == 2]
    assert framed == [(table.families.index(family), table.n_components.index(k))]
    shade = {p.get_xy(): alpha for p in cells if (alpha := p.get_alpha()) is not None}
    places = [(table.families.index(f), table.n_components.index(n)) for f, n, _ in table.ranking()]
    depths = [shade.pop(place) for place in places]
    assert depths == sorted(depths, reverse=True)
    assert not shade  # cells that may not be chosen have none
    assert [t.get_text() for t in ax.get_xticklabels()] == list(table.families)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1", "2", "3", "4"]


def test_the_figures_of_a_heat_map_stay_in_their_cells() -> None:
    X = 1e4 * gmm.datasets.old_faithful().X
    ax = plots.selection(gmm.select(X, [1, 2], random_state=0), kind="heat map")
    ax.figure.draw_without_rendering()  # type: ignore[union-attr]  # it is in no subfigure
    column = ax.get_window_extent().width / 14
    assert max(text.get_window_extent().width for text in ax.texts) < column


def test_charts_draw_into_given_axes(table: gmm.Selection, old_faithful: Floats) -> None:
    _, ax = plt.subplots()
    assert plots.selection(table, ax, "heat map") is ax
    assert plots.convergence(gmm.fit(old_faithful, 2, random_state=0), ax) is ax
    assert len(plt.get_fignums()) == 1
    with pytest.raises(ValueError, match="kind: expected one of 'curves', 'heat map'; got 'bars'"):
        plots.selection(table, kind="bars")
