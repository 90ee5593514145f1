"""The pass on a Dask array: the same answer as in memory, wherever it is computed."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from conftest import random_mixture
from distributed import Client, LocalCluster
from numpy.typing import NDArray

import gmm
from gmm.distributed import DaskRows

Floats = NDArray[np.float64]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in this process unless a test starts a cluster."""
    with dask.config.set(scheduler="synchronous"):
        yield


def example(n: int = 3000, d: int = 3) -> tuple[Floats, gmm.Mixture]:
    mixture = random_mixture("VVV", 3, d, seed=1)
    return mixture.sample(n, 0)[0], mixture


@pytest.mark.parametrize("family", ["VVV", "EEE", "VVI", "VII"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_dask_array_gives_the_fit_of_the_array(family: str, weighted: bool) -> None:
    X, _ = example()
    weights = np.random.default_rng(0).integers(0, 3, len(X)).astype(float) if weighted else None
    start = gmm.initial.starting_mixture(X, 3, family, "random", 0)
    plain = gmm.fit(X, 3, family, start=start, sample_weight=weights, tol=0, max_iter=10)
    chunked = gmm.fit(
        da.from_array(X, chunks=(700, 2)),
        3,
        family,
        start=start,
        sample_weight=weights,
        tol=0,
        max_iter=10,
    )
    assert chunked.total_weight == plain.total_weight
    assert chunked.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-12)
    np.testing.assert_allclose(chunked.mixture.means, plain.mixture.means, rtol=1e-10)
    np.testing.assert_allclose(
        chunked.mixture.covariances, plain.mixture.covariances, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("start", ["k-means", "random"])
def test_named_starts_work_on_chunks(start: str, old_faithful: Floats) -> None:
    fit = gmm.fit(da.from_array(old_faithful, chunks=(50, 2)), 2, start=start, random_state=0)
    assert fit.log_likelihood == pytest.approx(-1130.2640, abs=1e-4)


def test_a_sample_is_drawn_from_all_chunks() -> None:
    X = np.arange(1000.0)[:, None]
    rows = DaskRows(da.from_array(X, chunks=(300, 1)), np.ones(1000))
    sample = rows.sample(400, np.random.default_rng(0))
    assert len(np.unique(sample.X)) == 400
    assert np.histogram(sample.X, bins=[0, 300, 600, 900, 1000])[0].min() > 20


def test_what_travels_does_not_grow_with_the_rows() -> None:
    """The tasks of a pass return statistics of a few numbers, however many rows they read."""
    X, mixture = example(20_000)
    sweep = DaskRows(da.from_array(X, chunks=(5000, 3))).sweep(3, "full")
    statistics = sweep(mixture)
    arrays = (statistics.counts, statistics.first, statistics.second, statistics.centres)
    assert sum(a.size for a in arrays) == 3 + 9 + 27 + 9


def test_a_lost_worker_changes_nothing() -> None:
    """A worker is killed between two passes; Dask makes its chunks again."""
    X, mixture = example(4000)
    start = mixture
    plain = gmm.fit(X, 3, start=start, tol=0, max_iter=6)
    killed = False

    def make(block_info: Any = None) -> Floats:
        first, last = block_info[None]["array-location"][0]
        return X[first:last]

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, protocol="tcp"
        ) as cluster,
        Client(cluster) as client,
    ):
        rows = da.map_blocks(make, chunks=((1000,) * 4, (3,)), dtype=np.float64)

        def kill(progress: gmm.Progress) -> None:
            nonlocal killed
            if progress.iteration == 2 and not killed:
                killed = True
                victim = next(iter(cluster.workers.values()))
                victim.process.process._process.kill()

        fit = gmm.fit(rows, 3, start=start, tol=0, max_iter=6, callback=kill)
        assert client.status == "running"
    assert killed
    np.testing.assert_allclose(fit.mixture.means, plain.mixture.means, rtol=1e-10)
    assert fit.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-12)


@pytest.mark.parametrize(
    ("array", "weights", "message"),
    [
        (da.zeros(9), None, "X: expected a 2-D array"),
        (da.ones((9, 1)) * np.nan, None, r"X: expected finite numbers, got NaN at \[0, 0\]"),
        (da.zeros((9, 1)), np.ones(8), r"sample_weight: expected shape \(9,\), got shape \(8,\)"),
        (da.zeros((2, 1)), None, "X: expected at least 3 rows"),
    ],
)
def test_bad_input_is_refused(array: Any, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gmm.fit(array, 3, sample_weight=weights)


def test_chunks_of_unknown_size_are_refused() -> None:
    array = da.from_array(np.arange(10.0)[:, None], chunks=(5, 1))
    array = array[array[:, 0] > 3]
    with pytest.raises(ValueError, match="X: expected chunks of known sizes"):
        gmm.fit(array, 2)


def test_without_dask_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "dask":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    array = da.zeros((9, 1))
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install 'gmm-first-principles\[dask\]'"):
        DaskRows(array)
