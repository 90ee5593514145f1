"""The bar: what it shows, that it is closed, what it needs."""

from __future__ import annotations

import sys
from contextlib import nullcontext

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


def test_progress_without_tqdm_says_what_to_install(
    old_faithful: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ImportError, match=r"pip install 'gmm-first-principles\[progress\]'"):
        gmm.fit(old_faithful, 2, progress=True)
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
