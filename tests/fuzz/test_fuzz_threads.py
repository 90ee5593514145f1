"""Fits in threads and in forked processes: the same bits, and no one waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gmm
from fuzz.data import SEEDS, Table, cases, mixtures, outcome, tables
from gmm import threads


def fitted(rows: Any, seed: int, family: str = "VVV") -> Any:
    return outcome(lambda: gmm.fit(rows, 2, family, max_iter=3, random_state=seed))


def assert_same(one: Any, other: Any) -> None:
    assert (one is None) == (other is None)
    if one is not None:
        assert one.log_likelihood == other.log_likelihood
        np.testing.assert_array_equal(one.mixture.means, other.mixture.means)
        np.testing.assert_array_equal(one.mixture.stored, other.mixture.stored)


@cases(40)
@given(table=tables(least_rows=6), seed=SEEDS)
def test_fits_at_the_same_time_are_those_one_by_one(table: Table, seed: int) -> None:
    """Of the same rows, whose array none of them owns."""
    jobs = [(table.X, seed + i, family) for i in range(3) for family in ("VVV", "VVI")]
    wanted = [fitted(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda job: fitted(*job), jobs))
    for one, other in zip(wanted, found, strict=True):
        assert_same(one, other)


@cases(15)
@given(seed=SEEDS, n_threads=st.integers(2, 5), family=st.sampled_from(("VVV", "EEE", "VII")))
def test_many_rows_shared_by_threads_give_the_same_bits(
    seed: int, n_threads: int, family: str
) -> None:
    rows = np.random.default_rng(seed).standard_normal((120_000, 2))
    found = []
    for number in (1, n_threads):
        with threads.use(number):
            found.append(fitted(rows, seed, family))
    assert_same(*found)


@cases(30)
@given(mixture=mixtures(), seed=SEEDS)
def test_one_mixture_asked_by_many_threads(mixture: gmm.Mixture, seed: int) -> None:
    """What it works out when it is first asked is the same for all."""
    rows, _ = mixture.sample(300, seed)
    fresh = gmm.Mixture.from_stored(mixture.weights, mixture.means, mixture.stored, mixture.family)
    wanted = mixture.log_density(rows)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: fresh.log_density(rows), range(12)))
    for values in found:
        np.testing.assert_array_equal(values, wanted)


FORKED = """
import multiprocessing, os, sys, threading, warnings
import numpy as np
import gmm
from gmm import threads

warnings.simplefilter("ignore", DeprecationWarning)  # that threads are there is the point
rows = np.random.default_rng(0).standard_normal((120_000, 2))
rows[::2] += 4.0

def fit(seed):
    found = gmm.fit(rows, 2, max_iter=4, random_state=seed)
    return found.log_likelihood, found.mixture.means.tobytes()

def forked(seed):
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        return pool.map(fit, [seed] * 3)

with threads.use(3):
    wanted = fit(1)                      # the parent has its threads now
    assert forked(1) == [wanted] * 3
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            fit(2)

    others = [threading.Thread(target=busy) for _ in range(2)]
    for other in others:
        other.start()
    for _ in range({times}):             # a child may be born in the midst of a pass
        assert forked(1) == [wanted] * 3
    stop.set()
    for other in others:
        other.join()
    assert fit(1) == wanted
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_forked_child_fits_as_its_parent_does() -> None:
    """Also if it is forked while other threads of the parent are at work."""
    ended = subprocess.run(
        [sys.executable, "-c", FORKED.format(times=3)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "done\n"
