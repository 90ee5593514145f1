"""What a fit returns: what it says, what it counts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm

Floats = NDArray[np.float64]


def test_the_repr_can_be_read(old_faithful: Floats) -> None:
    fit = gmm.fit(old_faithful, 2, random_state=0)
    text = repr(fit)
    for part in ("VVV, 2 components", "272 rows", "-1130.2640", "2322.192 with 11", "converged"):
        assert part in text
    html = fit._repr_html_()
    assert html.startswith("<table>")
    assert "-1130.2640" in html
    short = gmm.fit(old_faithful, 2, max_iter=2, random_state=0)
    assert "stopped at max_iter, not converged" in repr(short)
    assert fit.aic == pytest.approx(-2 * fit.log_likelihood + 22)


def test_held_parameters_are_not_counted() -> None:
    X = gmm.datasets.old_faithful().X
    start = gmm.fit(X, 2, random_state=0).mixture
    counts = {"weights": 1, "means": 4, "covariances": 6}
    for name, count in counts.items():
        fit = gmm.fit(X, 2, start=start, fixed=name, max_iter=1, tol=0)
        assert fit.n_parameters == 11 - count
        assert fit.bic == pytest.approx(-2 * fit.log_likelihood + (11 - count) * np.log(272))
