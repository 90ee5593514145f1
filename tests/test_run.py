"""One run: its length, its trace, its callback, its interrupts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm
from gmm.initial import starting_mixture

Floats = NDArray[np.float64]


def test_a_maximum_of_zero_iterations_returns_the_start(old_faithful: Floats) -> None:
    start = starting_mixture(old_faithful, 2, random_state=0)
    fit = gmm.fit(old_faithful, 2, start=start, max_iter=0)
    assert fit.mixture is start
    assert (fit.n_iter, fit.reason, fit.converged) == (0, "max_iter", False)
    assert fit.log_likelihood == pytest.approx(start.log_likelihood(old_faithful), rel=1e-13)


def test_tolerance_zero_makes_all_iterations(old_faithful: Floats) -> None:
    assert gmm.fit(old_faithful, 2, tol=0, max_iter=300, random_state=0).n_iter == 300


def test_the_trace_tells_of_every_iteration(old_faithful: Floats) -> None:
    fit = gmm.fit(old_faithful, 2, start="random", keep="all", random_state=0)
    trace = fit.trace
    assert len(trace.log_likelihood) == len(trace.seconds) == fit.n_iter + 1
    assert sorted(trace.mixtures) == list(range(fit.n_iter + 1))
    for i in (0, 3, fit.n_iter):
        assert trace.mixtures[i].log_likelihood(old_faithful) == pytest.approx(
            trace.log_likelihood[i], rel=1e-13
        )
    assert trace.mixtures[fit.n_iter] is fit.mixture
    assert (np.diff(trace.seconds) > 0).all()


@pytest.mark.parametrize(
    ("keep", "kept"), [(5, [0, 5, 10, 12]), ([0, 3, 99], [0, 3]), ((), []), ("all", range(13))]
)
def test_chosen_iterations_are_kept(keep: object, kept: list[int], old_faithful: Floats) -> None:
    fit = gmm.fit(old_faithful, 2, tol=0, max_iter=12, keep=keep, random_state=0)  # type: ignore[arg-type]  # any of its types
    assert sorted(fit.trace.mixtures) == list(kept)


def test_a_callback_sees_each_iteration_and_may_stop(old_faithful: Floats) -> None:
    seen: list[tuple[int, float]] = []

    def callback(progress: gmm.Progress) -> bool:
        seen.append((progress.iteration, progress.log_likelihood))
        assert progress.statistics.n_rows == len(old_faithful)
        return progress.iteration == 4

    fit = gmm.fit(old_faithful, 3, start="random", callback=callback, random_state=0)
    assert [i for i, _ in seen] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal([v for _, v in seen], fit.trace.log_likelihood)
    assert (fit.reason, fit.converged, fit.n_iter) == ("callback", False, 4)


def interrupting_at(iteration: int) -> Callable[[gmm.Progress], None]:
    def callback(progress: gmm.Progress) -> None:
        if progress.iteration == iteration:
            raise KeyboardInterrupt

    return callback


def test_an_interrupt_returns_what_was_reached(old_faithful: Floats) -> None:
    fit = gmm.fit(
        old_faithful, 3, start="random", callback=interrupting_at(3), n_starts=5, random_state=0
    )
    assert (fit.reason, fit.converged, fit.n_iter) == ("interrupted", False, 3)
    assert fit.log_likelihood == fit.trace.log_likelihood[-1]
    assert len(fit.starts) == 1
    assert "interrupted" in repr(fit)


def test_an_interrupt_before_anything_is_reached_is_passed_on(
    old_faithful: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gmm.small.SmallSteps.expect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gmm.fit(old_faithful, 2)


@pytest.mark.parametrize(
    ("keep", "error"),
    [("some", "keep: expected one of 'all'"), (0, "keep: expected an integer of at least 1")],
)
def test_unknown_choices_of_iterations_are_refused(
    keep: object, error: str, old_faithful: Floats
) -> None:
    with pytest.raises(ValueError, match=error):
        gmm.fit(old_faithful, 2, keep=keep)  # type: ignore[arg-type]  # meant
