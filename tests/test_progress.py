"""The bar: what it shows, that it is closed, what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import tqdm
from numpy.typing import NDArray

import gmm
from gmm.progress import Bar

Floats = NDArray[np.float64]


def test_progress_counts_passes_and_rows(
    old_faithful: Floats, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = gmm.fit(old_faithful, 2, n_starts=2, start="random", progress=True, random_state=0)
    shown = capsys.readouterr().err.split("\r")[-1]
    assert "start 2 of 2" in shown
    assert f"{fit.n_passes} passes" in shown
    assert f"log-likelihood {fit.starts[-1].log_likelihood:.6g}" in shown
    assert f"{fit.n_passes * 272:,} rows read" in shown
    assert shown.endswith("\n")  # tqdm ends the line of a bar that is closed
    gmm.fit(old_faithful, 2, random_state=0)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("end", ["return", "interrupt", "error", "collapse"])
def test_the_bar_is_closed_whatever_ends_the_fit(
    end: str, old_faithful: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Bar(tqdm.tqdm):  # type: ignore[misc]  # has no types
        def close(self) -> None:
            closed.append(not self.disable)
            super().close()

    monkeypatch.setattr("tqdm.auto.tqdm", Bar)

    def callback(progress: gmm.Progress) -> None:
        if end == "interrupt":
            raise KeyboardInterrupt
        if end == "error":
            raise RuntimeError("of the callback")

    X = np.repeat([[0.0], [1.0]], 5, axis=0) if end == "collapse" else old_faithful
    expected = {"error": RuntimeError, "collapse": gmm.SingularCovarianceError}.get(end)
    with pytest.raises(expected) if expected else nullcontext():
        gmm.fit(X, 2, progress=True, callback=callback, random_state=0)
    assert closed[0]


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Shown]:
    """The bars that are made, in place of those of tqdm."""
    made: list[Shown] = []

    def bar(**options: Any) -> Shown:
        made.append(Shown(**options))
        return made[-1]

    monkeypatch.setattr("tqdm.auto.tqdm", bar)
    return made


class Shown:
    """A bar that remembers what it was told."""

    def __init__(self, total: int | None, unit: str) -> None:
        self.total, self.unit = total, unit
        self.n = 0
        self.texts: list[str] = []
        self.notes: list[str] = []
        self.is_closed = False

    def update(self, by: int) -> None:
        assert not self.is_closed
        self.n += by

    def set_description(self, text: str) -> None:
        self.texts.append(text)

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.notes.append(text)

    def close(self) -> None:
        self.is_closed = True


def test_select_counts_the_cells_of_a_batch_and_of_its_folds(bars: list[Shown]) -> None:
    X = gmm.datasets.acidity().X
    table = gmm.select(X, range(1, 4), criterion="cv", n_folds=3, progress=True, random_state=0)
    (bar,) = bars
    assert (bar.total, bar.n, bar.unit) == (6 + 3 * 6, 24, " cells")
    assert bar.texts == ["search", "fold 1 of 3", "fold 2 of 3", "fold 3 of 3", "choice"]
    assert bar.is_closed
    silent = gmm.select(X, range(1, 4), criterion="cv", n_folds=3, random_state=0)
    np.testing.assert_array_equal(table.table, silent.table)
    assert len(bars) == 1


def test_select_counts_the_cells_of_each_part_of_large_data(bars: list[Shown]) -> None:
    X = gmm.datasets.old_faithful().X
    blocks = gmm.rows.BlockRows([X[:100], X[100:]])
    gmm.select(blocks, range(1, 3), ["EII", "VVV"], progress=True, random_state=0)
    (bar,) = bars
    assert (bar.total, bar.n) == (2 * 4, 8)
    assert bar.texts == ["search", "part 1 of 2", "part 2 of 2", "choice"]


def test_a_cell_without_a_fit_counts_as_done(bars: list[Shown]) -> None:
    """Three rows have no fit of three components with a variance each."""
    X = np.array([[0.0], [1.0], [5.0], [6.0], [6.5]])
    table = gmm.select(X, [1, 5], "V", criterion="cv", n_folds=2, progress=True, random_state=0)
    assert np.isnan(table.log_likelihood("V", 5))
    (bar,) = bars
    assert bar.n == bar.total == 2 + 2 * 2


def test_the_bootstrap_counts_its_samples(bars: list[Shown]) -> None:
    X = gmm.datasets.acidity().X
    test = gmm.bootstrap_test(X, 1, "E", n_samples=5, progress=True, random_state=0)
    fit = gmm.fit(X, 2, random_state=0)
    scatter = gmm.inference.resampled(X, fit, n_samples=7, progress=True, random_state=0)
    assert [(bar.total, bar.n, bar.unit) for bar in bars] == [
        (5, 5, " samples"),
        (7, 7, " samples"),
    ]
    assert all(bar.is_closed for bar in bars)
    silent = gmm.bootstrap_test(X, 1, "E", n_samples=5, random_state=0)
    np.testing.assert_array_equal(silent.samples, test.samples)
    assert len(scatter.samples) + scatter.n_failed == 7


def test_fit_variational_counts_iterations_and_shows_the_bound(bars: list[Shown]) -> None:
    X = gmm.datasets.old_faithful().X
    fit = gmm.fit_variational(X, 3, n_starts=2, progress=True, random_state=0)
    (bar,) = bars
    assert bar.texts == ["start 1 of 2", "start 2 of 2"]
    assert bar.unit == " iterations"
    assert bar.n == len(bar.notes) >= fit.n_iter
    assert f"bound {fit.starts[-1]:.6g}" == bar.notes[-1]
    assert bar.is_closed


@pytest.mark.parametrize(
    "call",
    [
        lambda X: gmm.fit(X, 2, progress=True),
        lambda X: gmm.select(X, 2, progress=True),
        lambda X: gmm.bootstrap_test(X, 1, progress=True),
        lambda X: gmm.inference.resampled(X, gmm.fit(X, 2), progress=True),
        lambda X: gmm.fit_variational(X, 2, progress=True),
    ],
)
def test_progress_without_tqdm_says_what_to_install(
    call: Callable[[Floats], object], old_faithful: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'gmm-first-principles\[progress\]'"):
        call(old_faithful)


def test_progress_is_true_or_false(old_faithful: Floats) -> None:
    with pytest.raises(TypeError, match="progress: expected True or False, got 'yes'"):
        gmm.fit(old_faithful, 2, progress="yes")  # type: ignore[arg-type]  # meant


def test_a_bar_counts_and_says_what_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(True, "samples", 4) as bar:
        bar.describe("bootstrap")
        for i in range(3):
            bar.advance()
            bar.note(f"sample {i} done")
        assert bar.is_shown
        assert bar.count == 3
        bar.advance()
    shown = capsys.readouterr().err.split("\r")[-1]
    assert "bootstrap: 100%" in shown
    assert "4/4" in shown


def test_a_bar_that_is_not_wanted_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(False, "samples") as bar:
        bar.describe("bootstrap")
        bar.advance(3)
        bar.note("done")
        assert not bar.is_shown
        assert bar.count == 0
    assert not capsys.readouterr().err
