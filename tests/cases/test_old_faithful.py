"""Old Faithful: what the case states of its fit, its labels, its forecast and its traps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def fit() -> gmm.Fit:
    return gmm.fit(gmm.datasets.old_faithful().X, 2, random_state=0)


def test_two_kinds_of_eruptions(fit: gmm.Fit, old_faithful: Floats) -> None:
    """A third are short and followed by short waits; the correlation is mostly between kinds."""
    assert fit.log_likelihood == pytest.approx(-1130.2640, abs=1e-4)
    assert fit.bic == pytest.approx(2322.192, abs=1e-3)
    short, long = fit.mixture.component(0), fit.mixture.component(1)
    assert fit.mixture.weights[0] == pytest.approx(0.356, abs=1e-3)
    np.testing.assert_allclose(short.mean, [2.04, 54.5], rtol=5e-3)
    np.testing.assert_allclose(long.mean, [4.29, 79.97], rtol=5e-3)
    overall = np.asarray(np.corrcoef(old_faithful.T))[0, 1]
    for part in (short, long):
        within = part.covariance[0, 1] / np.sqrt(np.diag(part.covariance).prod())
        assert 0 < within < overall / 2


def test_a_plateau_and_a_climb_from_a_bad_start(old_faithful: Floats) -> None:
    watched = gmm.fit(old_faithful, 2, start="random", random_state=17)
    gains = np.diff(watched.trace.log_likelihood)
    assert watched.log_likelihood == pytest.approx(-1130.264, abs=1e-3)
    assert (gains >= -1e-9).all()
    later = gains[1:]
    assert later.argmax() > 3  # the steepest rise comes after slower iterations
    assert later.max() > 10 * later[:3].max()


def test_few_labels_are_in_doubt(fit: gmm.Fit, old_faithful: Floats) -> None:
    sure = fit.mixture.responsibilities(old_faithful).max(axis=1)
    assert 1 <= np.sum(sure < 0.99) <= 15


def test_the_forecast_beats_a_line_a_little_and_has_another_shape(
    fit: gmm.Fit, old_faithful: Floats
) -> None:
    x, y = old_faithful.T
    slope, level = np.polyfit(x, y, 1)
    line = np.sqrt(np.mean((y - level - slope * x) ** 2))
    means = np.array([fit.mixture.conditional([0], [value]).mean[0] for value in x])
    assert 0.9 * line < np.sqrt(np.mean((y - means) ** 2)) < line
    middling = fit.mixture.conditional([0], [2.9])
    clear = fit.mixture.conditional([0], [4.0])
    assert middling.covariance[0, 0] > 2 * clear.covariance[0, 0]
    assert 0.2 < middling.weights[0] < 0.8


def test_a_component_on_equal_waits_collapses_and_a_ridge_holds_it(old_faithful: Floats) -> None:
    waiting = old_faithful[:, 1:]
    narrow = gmm.Mixture([0.98, 0.02], [[70.9], [78.0]], [[[180.0]], [[0.01]]])
    with pytest.raises(gmm.SingularCovarianceError):
        gmm.fit(waiting, 2, start=narrow)
    held = gmm.fit(waiting, 2, start=narrow, ridge=0.25)
    assert held.converged
    assert held.mixture.variances.min() >= 0.25
