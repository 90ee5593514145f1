"""The pass on a Dask array: the same answer as in memory, wherever it is computed."""

from __future__ import annotations

import builtins
import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from conftest import random_mixture
from distributed import Client, LocalCluster, futures_of
from numpy.typing import NDArray

import gmm
from gmm.distributed import DaskRows, added_in_tree
from gmm.sweep import sweep_of

Floats = NDArray[np.float64]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in this process unless a test starts a cluster."""
    with dask.config.set(scheduler="synchronous"):
        yield


@contextmanager
def workers() -> Iterator[Client]:
    """A cluster of two processes, which send each other what they need."""
    options = {"n_workers": 2, "threads_per_worker": 1, "protocol": "tcp"}
    with LocalCluster(**options, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client


@contextmanager
def in_this_process() -> Iterator[Client]:
    """A cluster of threads."""
    options = {"processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


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


def travelling(n: int, d: int, n_components: int) -> int:
    """Bytes of the arguments and the result of one task of a pass over a chunk of n rows."""
    mixture = random_mixture("VVV", n_components, d, seed=0)
    rows = DaskRows(da.from_array(mixture.sample(n, 0)[0], chunks=(n, d)))
    sweep = sweep_of(rows, n_components, "full")
    arguments = (mixture, n_components, "full", sweep.frame)
    return len(pickle.dumps(arguments)) + len(pickle.dumps(sweep(mixture)))


def test_what_travels_does_not_grow_with_the_rows() -> None:
    """Parameters one way and statistics the other: each about K (1 + d + d²) numbers."""
    few, many = travelling(1000, 3, 4), travelling(40_000, 3, 4)
    assert abs(few - many) <= 8  # the count of rows is an integer, of one byte more or less
    large = travelling(1000, 20, 10)
    numbers = 10 * (1 + 20 + 20**2)
    # mixture: means, covariances, and at most their Cholesky factors and whiteners; statistics:
    # counts, first and second moments, centres; names and shapes take some hundreds of bytes
    assert large < 8 * 5 * numbers + 5000


def test_the_sum_is_the_same_whoever_adds() -> None:
    X, mixture = example(5000)
    array = da.from_array(X, chunks=(700, 3))
    results = []
    for scheduler, n_workers in (("synchronous", 1), ("threads", 2), ("threads", 7)):
        with dask.config.set(scheduler=scheduler, num_workers=n_workers):
            results.append(sweep_of(DaskRows(array), 3, "full")(mixture))
    for result in results[1:]:
        np.testing.assert_array_equal(result.second, results[0].second)
        assert result.log_likelihood == results[0].log_likelihood


@pytest.mark.parametrize("n_chunks", [1, 2, 3, 7, 8, 9])
def test_chunks_are_added_in_a_tree(n_chunks: int) -> None:
    """No number takes part in more than ⌈log₂ m⌉ additions, and the order is kept."""
    rows = DaskRows(da.zeros((n_chunks, 1), chunks=(1, 1)))
    total = rows.tree_sum(_leaf, [(first,) for first in range(n_chunks)])
    assert total is not None
    assert total.leaves == tuple(range(n_chunks))
    assert total.depth == math.ceil(math.log2(n_chunks))


@dataclass(frozen=True)
class Tree:
    """Counts the additions below it."""

    leaves: tuple[int, ...]
    depth: int = 0
    form: str = ""

    def __add__(self, other: Tree) -> Tree:
        form = f"({self.form} {other.form})"
        return Tree(self.leaves + other.leaves, 1 + max(self.depth, other.depth), form)


def _leaf(first: int) -> Tree:
    return Tree((first,), form=str(first))


@pytest.mark.parametrize("n_chunks", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_workers_add_in_the_same_tree_whatever_they_hold(n_chunks: int, n_workers: int) -> None:
    """Each worker adds what it can, the caller the rest: every addition is one of the tree's."""
    (wanted,) = added_in_tree({(0, at): _leaf(at) for at in range(n_chunks)}, n_chunks).values()
    rows = DaskRows(da.zeros((n_chunks, 1), chunks=(1, 1)))
    assert wanted == rows.tree_sum(_leaf, [(at,) for at in range(n_chunks)])
    rng = np.random.default_rng(0)
    for _ in range(20):
        worker = rng.integers(n_workers, size=n_chunks)
        nodes: dict[tuple[int, int], Tree | None] = {}
        for w in range(n_workers):
            mine = np.flatnonzero(worker == w).tolist()
            nodes |= added_in_tree({(0, at): _leaf(at) for at in mine}, n_chunks)
        (total,) = added_in_tree(nodes, n_chunks).values()
        assert total == wanted


def test_empty_chunks_add_nothing_in_the_tree() -> None:
    assert added_in_tree({(0, 0): None, (0, 1): 2, (0, 2): None}, 3) == {(2, 0): 2}


def test_chunks_without_rows_or_weight_are_passed_over() -> None:
    X, mixture = example(3000)
    weights = np.repeat([1.0, 0.0, 3.0], 1000)
    array = da.concatenate([da.zeros((0, 3)), da.from_array(X, chunks=(500, 3))])
    plain = gmm.fit(X, 3, start=mixture, sample_weight=weights, max_iter=5, tol=0)
    rows = DaskRows(array, weights)
    chunked = gmm.fit(rows, 3, start=mixture, max_iter=5, tol=0)
    assert chunked.n_rows == plain.n_rows == 2000
    np.testing.assert_allclose(chunked.mixture.means, plain.mixture.means, rtol=1e-11)
    assert sum(len(block) for block, _ in rows) == 2000
    with pytest.raises(ValueError, match="sample_weight: expected a positive value, got zeros"):
        gmm.fit(array, 3, sample_weight=np.zeros(3000))


def test_weights_are_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return gmm.checks.as_sample_weight(*arguments, **options)

    monkeypatch.setattr("gmm.distributed.as_sample_weight", counted)
    X, mixture = example(2000)
    gmm.fit(da.from_array(X, chunks=(500, 3)), 3, start=mixture, sample_weight=np.ones(2000))
    assert calls == 4  # one for each chunk


def test_no_row_travels_on_a_cluster() -> None:
    """A chunk that had been sent would be held by two workers, as Dask keeps what it has fetched.

    Without binding tasks to workers, chunks of this size are sent in most passes.
    """
    n, n_chunks = 4_000_000, 16
    mixture = random_mixture("VVV", 5, 4, seed=0)
    with workers() as client:
        array = da.random.default_rng(0).standard_normal((n, 4), chunks=(n // n_chunks, 4))
        rows = DaskRows(array)
        sweep = sweep_of(rows, 5, "full")
        chunks = futures_of(rows.chunks)
        before = client.who_has(chunks)
        for _ in range(4):
            sweep(mixture)
        after = client.who_has(chunks)
    assert len(before) == n_chunks
    assert {len(holders) for holders in before.values()} == {1}
    assert after == before


def test_a_lost_worker_changes_nothing() -> None:
    """A worker is killed between two passes; Dask makes its chunks again."""
    X, mixture = example(4000)
    start = mixture
    plain = gmm.fit(X, 3, start=start, tol=0, max_iter=6)
    killed = False

    def make(block_info: Any = None) -> Floats:
        first, last = block_info[None]["array-location"][0]
        return X[first:last]

    with workers() as client:
        rows = da.map_blocks(make, chunks=((1000,) * 4, (3,)), dtype=np.float64)

        def kill(progress: gmm.Progress) -> None:
            nonlocal killed
            if progress.iteration == 2 and not killed:
                killed = True
                assert client.cluster is not None
                victim = next(iter(client.cluster.workers.values()))
                victim.process.process._process.kill()

        fit = gmm.fit(rows, 3, start=start, tol=0, max_iter=6, callback=kill)
        assert client.status == "running"
    assert killed
    np.testing.assert_allclose(fit.mixture.means, plain.mixture.means, rtol=1e-10)
    assert fit.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-12)


def test_chunks_that_have_moved_are_found_where_they_are() -> None:
    """Dask may give a worker's chunks to another; the next pass asks for the present holders."""
    X, mixture = example(4000)
    with workers() as client:
        rows = DaskRows(da.from_array(X, chunks=(500, 3)))
        sweep = sweep_of(rows, 3, "full")
        before = sweep(mixture)
        leaver = next(iter(client.nthreads()))
        client.retire_workers([leaver], close_workers=False)  # what it holds moves to the other
        after = sweep(mixture)
        assert leaver not in {w for workers in rows.homes().values() for w in workers}
    np.testing.assert_array_equal(after.second, before.second)
    assert after.log_likelihood == before.log_likelihood


def test_an_error_of_a_keeper_is_the_callers_error() -> None:
    """What fails on a worker fails here, and is not taken for a lost worker."""
    X, mixture = example(400)
    with in_this_process():
        sweep = sweep_of(DaskRows(da.from_array(X, chunks=(200, 3))), 3, "full")
        sweep(mixture)
        with pytest.raises(AttributeError, match="means"):
            sweep(None)  # type: ignore[arg-type]  # what no caller does


def test_a_cluster_refuses_bad_rows_and_knows_their_size() -> None:
    array = da.ones((90, 2), chunks=(30, 2))
    with in_this_process() as client:
        with pytest.raises(ValueError, match=r"X: expected finite numbers, got NaN at \[0, 0\]"):
            gmm.fit(array * np.nan, 3)
        rows = DaskRows(array, np.ones(90))
        assert rows.n_rows == 90
        assert set(client.nbytes(summary=False).values()) >= {30 * 3 * 8}


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


@pytest.mark.parametrize("clustered", [False, True])
def test_a_fit_of_chunks_goes_on_from_its_checkpoint(clustered: bool, tmp_path: Path) -> None:
    """The workers find the digest of the rows, each of its own; a chunk without weight has none."""
    X, start = example(1200)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    weights[300:600] = 0.0
    array, path = da.from_array(X, chunks=(300, 3)), tmp_path / "fit"
    options: dict[str, Any] = {"start": start, "accelerate": "squarem", "tol": 0, "max_iter": 8}

    def interrupting(progress: gmm.Progress) -> None:
        if progress.iteration == 5:
            raise KeyboardInterrupt

    with in_this_process() if clustered else nullcontext():
        whole = gmm.fit(array, 3, sample_weight=weights, **options)
        options["checkpoint"] = path
        first = gmm.fit(array, 3, sample_weight=weights, **options, callback=interrupting)
        assert (first.reason, path.exists()) == ("interrupted", True)
        with pytest.raises(ValueError, match="other sample_weight"):
            gmm.fit(array, 3, sample_weight=weights[::-1], **options)
        rest = gmm.fit(array, 3, sample_weight=weights, **options)
    assert not path.exists()
    np.testing.assert_array_equal(rest.mixture.covariances, whole.mixture.covariances)
    np.testing.assert_array_equal(rest.trace.log_likelihood, whole.trace.log_likelihood)
    np.testing.assert_array_equal(rest.trace.passes, whole.trace.passes)
