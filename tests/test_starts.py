"""The runs from all starts: which is the best, and what ends them; see also test_checkpoint.py."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm
from gmm.initial import starting_mixture

Floats = NDArray[np.float64]


def test_an_interrupt_in_a_later_start_keeps_the_best_so_far(
    old_faithful: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = starting_mixture, 0

    def second_is_interrupted(*args: object, **kwargs: object) -> gmm.Mixture:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr("gmm.starts.starting_mixture", second_is_interrupted)
    fit = gmm.fit(old_faithful, 2, n_starts=3, random_state=0)
    assert fit.reason == "interrupted"
    assert [run.reason for run in fit.starts] == ["converged", "interrupted"]


def test_the_best_of_several_starts_is_returned(old_faithful: Floats) -> None:
    fit = gmm.fit(old_faithful, 4, "VVI", start="random", n_starts=12, random_state=0)
    ends = [run.log_likelihood for run in fit.starts]
    assert len(ends) == 12
    assert fit.log_likelihood == max(ends)
    assert (
        np.ptp([e for e in ends if np.isfinite(e)]) > 0.5
    )  # there are several maxima to choose from
    assert "12, of which" in repr(fit)


def test_seeds_make_fits_repeatable(old_faithful: Floats) -> None:
    a, b, c = (
        gmm.fit(old_faithful, 3, start="random", max_iter=3, random_state=s) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(a.mixture.means, b.mixture.means)
    assert (a.mixture.means != c.mixture.means).any()


def test_collapsed_runs_are_discarded_and_counted() -> None:
    X = gmm.datasets.acidity().X
    fit = gmm.fit(X, 4, start="random", n_starts=20, random_state=0)
    reasons = [run.reason for run in fit.starts]
    assert reasons.count("singular") >= 1
    assert fit.reason == "converged"
    assert np.isfinite(fit.log_likelihood)
