"""Fits that are interrupted or killed at any moment go on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gmm
from fuzz.data import cases
from gmm.convergence import ACCELERATIONS
from gmm.persistence import read_tree

X = gmm.datasets.iris().X


def assert_same(a: gmm.Fit, b: gmm.Fit) -> None:
    """To the bit, but for the seconds."""
    for name in ("weights", "means", "stored"):
        np.testing.assert_array_equal(getattr(a.mixture, name), getattr(b.mixture, name))
    np.testing.assert_array_equal(a.trace.log_likelihood, b.trace.log_likelihood)
    np.testing.assert_array_equal(a.trace.passes, b.trace.passes)
    assert (a.log_likelihood, a.reason, a.starts) == (b.log_likelihood, b.reason, b.starts)


class Interrupter:
    """Interrupts at the n-th call of anything in the package, as a signal could."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if event in ("call", "line") and "gmm" + os.sep in frame.f_code.co_filename:
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
        return self


@cases(40)
@given(
    data=st.data(),
    family=st.sampled_from(("VVV", "EEE", "VEV", "VII")),
    accelerate=st.sampled_from(ACCELERATIONS),
    n_starts=st.integers(1, 3),
    every=st.integers(1, 4),
)
def test_an_interrupt_at_any_line_loses_nothing_but_time(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    family: str,
    accelerate: str,
    n_starts: int,
    every: int,
) -> None:
    """Each fit is interrupted some lines of code later than the last, until one comes to its end.

    What an interrupt leaves is a file from which the fit goes on, or none at all. It ends the fit
    or comes out as what it is.
    """
    path = tmp_path_factory.mktemp("interrupted") / "fit.checkpoint"
    options: dict[str, Any] = {
        "start": "random",
        "random_state": 3,
        "tol": 0.0,
        "max_iter": 8,
        "accelerate": accelerate,
        "n_starts": n_starts,
    }
    rows = X[::5, :2]
    whole = gmm.fit(rows, 2, family, **options)
    fit: gmm.Fit | None = None
    after = data.draw(st.integers(1, 4000))
    before = sys.gettrace()
    while fit is None or fit.reason == "interrupted":
        try:
            sys.settrace(Interrupter(after))
            fit = gmm.fit(rows, 2, family, **options, checkpoint=path, checkpoint_every=every)
        except KeyboardInterrupt:
            fit = None
        finally:
            sys.settrace(before)
        if path.exists():
            read_tree(path, "checkpoint of gmm.fit", 1)
        after = int(1.3 * after) + data.draw(st.integers(50, 300))
    assert_same(whole, fit)
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def reaches(stop: int, progress: gmm.Progress) -> bool:
    return progress.iteration == stop


LONG: dict[str, Any] = {"start": "random", "random_state": 1, "tol": 0.0, "max_iter": 400}

KILLED = """
import gmm
X = gmm.datasets.iris().X
print("begins", flush=True)
gmm.fit(X, 3, "VEV", start="random", random_state=1, tol=0.0, max_iter=400,
        accelerate="squarem", checkpoint={path!r}, checkpoint_every={every})
print("ends", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
@pytest.mark.parametrize(("seed", "every"), [(0, 1), (1, 7)])
def test_processes_killed_at_random_moments_lose_the_last_iterations_only(
    seed: int, every: int, tmp_path: Path
) -> None:
    """Each process goes on where the last was killed; the one that ends has come to the same."""
    rng = np.random.default_rng(seed)
    path = tmp_path / "fit.checkpoint"
    code = KILLED.format(path=str(path), every=every)
    reached = [0]
    kills = 0
    while True:
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            if kills < 6:
                time.sleep(float(rng.uniform(0.0, 0.15)))
                process.kill()
            said = process.stdout.read()
        if said == "ends\n":  # it may be killed all the same, on its way out
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        try:
            course = read_tree(path, "checkpoint of gmm.fit", 1)["contents"]["course"]
        except FileNotFoundError:  # killed before it wrote anything, or just after it had ended
            reached.append(0)
        else:
            reached.append(0 if course is None else len(course["objectives"]) - 1)
            assert reached[-1] >= reached[-2]  # nothing that was written is lost
    assert not path.exists()
    # the last process has had no time to lose: what it found is compared by a fit that stops late
    whole = gmm.fit(X, 3, "VEV", accelerate="squarem", **LONG)
    seen: list[gmm.Fit] = []
    for stop in (3, 50, 51, 200, None):
        seen.append(
            gmm.fit(
                X,
                3,
                "VEV",
                accelerate="squarem",
                **LONG,
                checkpoint=path,
                callback=None if stop is None else partial(reaches, stop),
            )
        )
    assert_same(whole, seen[-1])


RESUMED = """
import sys
import gmm
X = gmm.datasets.iris().X
fit = gmm.fit(X, 3, "VEV", start="random", random_state=1, tol=0.0, max_iter=400,
              accelerate="squarem", checkpoint={path!r}, checkpoint_every={every})
fit.mixture.save({saved!r})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_the_process_that_comes_to_the_end_has_the_same_bits(tmp_path: Path) -> None:
    path, saved = tmp_path / "fit.checkpoint", tmp_path / "mixture.npz"
    code = RESUMED.format(path=str(path), saved=str(saved), every=2)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            while process.poll() is None and not path.exists():
                time.sleep(0.002)
            time.sleep(0.02)
            process.kill()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    whole = gmm.fit(X, 3, "VEV", accelerate="squarem", **LONG).mixture
    found = gmm.Mixture.load(saved)
    np.testing.assert_array_equal(found.means, whole.means)
    np.testing.assert_array_equal(found.stored, whole.stored)
