"""What is measured: one generator of lines for each part of the table."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from functools import partial
from math import nan
from pathlib import Path

import numpy as np
import peers
from isolated import isolated
from measure import (
    FEW,
    LEAST,
    Floats,
    Row,
    calls_in_turn,
    compared,
    extra_iterations,
    geometric_mean,
    in_turn,
    line,
    per_iteration,
    seconds,
    slower,
)
from peers import RIDGE, SCIKIT_LEARN, Peer
from sklearn.cluster import KMeans
from sklearn.cluster import kmeans_plusplus as their_seeds
from sklearn.mixture import GaussianMixture

import gmm
from gmm.initial import starting_mixture
from gmm.kmeans import kmeans, kmeans_plus_plus
from gmm.natural import statistics_size
from gmm.rows import as_rows
from gmm.sweep import Sweep

Cell = tuple[int, int, int]

#: Rows, features, components; and the least ratio to scikit-learn that is aimed at when full.
GRID: dict[Cell, float] = {
    (272, 2, 3): 12.0,
    (3_500, 3, 7): 12.0,
    (100_000, 2, 5): 30.0,
    (1_000_000, 2, 5): 25.0,
    (100_000, 8, 16): 15.0,
    (100_000, 10, 10): 15.0,
    (50_000, 32, 16): 5.0,
    (20_000, 64, 8): 3.5,
    (5_000, 128, 16): 3.0,
}
#: The least geometric means of the ratios: of full covariances, of the others, of solutions.
MEANS = {"grid": 12.0, "families": 5.0, "solution": 10.0}
#: Milliseconds of a pass of Spark MLlib over 10⁶ × 2 rows, five components, on two cores; Spark is
#: not run here.
SPARK = 850.0
#: Bytes beside the data, and bytes of a process that reads a file of 0.8 GB.
OWN, WHOLE = 64 * 2**20, 2**30
PATIENCE = 150.0


def clouds(n: int, d: int, k: int, seed: int = 0) -> Floats:
    """Rows about k random centres, three deviations apart in each feature on average."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((k, d))
    return np.asarray(centres[rng.integers(k, size=n)] + rng.standard_normal((n, d)))


def random_start(X: Floats, k: int, family: str = "VVV") -> gmm.Mixture:
    """Random rows as means, and the covariance of all rows: a start like any other."""
    return starting_mixture(X, k, family, "random", 0, ridge=RIDGE)


# ---------------------------------------------------------------- one iteration


def beside(peer: Peer, cell: Cell, family: str, repeats: int) -> list[tuple[float, float]]:
    """Milliseconds of an iteration, theirs and ours, from the same start on the same rows."""
    warnings.simplefilter("ignore")
    X = clouds(*cell).astype(peer.dtype)
    start = random_start(X, cell[2], family)
    theirs, ours = peer.fitting(X, start), peers.ours(X, start)
    if not peers.agree(theirs(3), ours(3), X):
        raise RuntimeError("the two do not agree after three iterations")
    return in_turn(theirs, ours, repeats)


def grid(cells: list[Cell], repeats: int) -> Iterator[Row]:
    """Full covariances beside scikit-learn."""
    rows = []
    for cell in cells:
        pairs = beside(SCIKIT_LEARN, cell, "VVV", repeats)
        rows.append(compared("grid", SCIKIT_LEARN.name, "VVV", cell, pairs, GRID[cell]))
        yield rows[-1]
    yield geometric_mean("grid", rows, MEANS["grid"])


def families(cells: list[Cell], repeats: int) -> Iterator[Row]:
    """The other families beside scikit-learn."""
    rows = []
    for family in ("EEE", "VVI", "VII"):
        for cell in cells:
            pairs = beside(SCIKIT_LEARN, cell, family, repeats)
            rows.append(compared("families", SCIKIT_LEARN.name, family, cell, pairs, 1.0))
            yield rows[-1]
    yield geometric_mean("families", rows, MEANS["families"])


def others(cells: list[Cell], repeats: int) -> Iterator[Row]:
    """Full covariances beside other peers, each in a process of its own.

    Numeric libraries bring threads that get into one another's way; one that does not come back is
    left out.
    """
    for peer in peers.OTHERS:
        if not peer.installed:
            print(f"{peer.package} is not installed: left out")
            continue
        for cell in cells:
            try:
                pairs = isolated(beside, peer, cell, "VVV", repeats, timeout=PATIENCE)
            except (RuntimeError, TimeoutError) as error:
                print(f"{peer.name} in {peer.dtype}, {cell}: left out: {error}", flush=True)
                continue
            yield compared("others", peer.name, "VVV", cell, pairs, 1.0, dtype=peer.dtype)


def floor(cells: list[Cell], repeats: int) -> Iterator[Row]:
    """A whole iteration beside its floor, the two bare products and the bare exponentials.

    On one thread, in blocks of the same shapes, on numbers that stay in the cache.
    """
    for cell in cells:
        n, d, k = cell
        if n < 100_000 or d > 10:
            continue
        X = clouds(*cell)
        rng = np.random.default_rng(0)
        with gmm.threads.use(1), gmm.threads.one_blas_thread():
            parts = Sweep(as_rows(X), k, "full").parts
            features = rng.standard_normal((statistics_size("full", d), parts[0].stop))
            theta = 0.01 * rng.standard_normal((k, len(features)))
            exponents = theta @ features

            def bare(
                iterations: int,
                blocks: int = len(parts),
                exponents: Floats = exponents,
                theta: Floats = theta,
                features: Floats = features,
            ) -> None:
                for _ in range(iterations * blocks):
                    np.matmul(theta, features, out=exponents)
                    np.exp2(exponents, out=exponents)
                    np.matmul(exponents, features.T)

            pairs = in_turn(bare, peers.ours(X, random_start(X, k)), repeats)
        yield slower("floor", "two products and exp", "one thread", cell, pairs, 2.0)


# ---------------------------------------------------------------- a whole fit


def solution(cells: list[Cell], repeats: int) -> Iterator[Row]:
    """From the default start to within 1e-6 n of the best likelihood that is known.

    A run that ends elsewhere is followed by another, and its time counts. Our tolerance is the
    largest power of ten with which we come as near as that. scikit-learn is stopped exactly there.
    """
    rows = []
    for cell in cells:
        n, d, k = cell
        if n > 100_000 or d > 10:
            continue
        X = clouds(*cell)
        best = gmm.fit(X, k, n_starts=8, tol=1e-11, accelerate="auto", random_state=1)
        goal = best.log_likelihood / n - 1e-6
        tol = largest_tolerance(X, k, goal)
        try:
            pairs = [
                (their_time(X, k, goal, 100 * i), our_time(X, k, goal, 100 * i, tol))
                for i in range(min(repeats, 3))
            ]
        except RuntimeError as error:
            print(f"solution, {cell}: left out: {error}", flush=True)
            continue
        rows.append(compared("solution", SCIKIT_LEARN.name, "VVV", cell, pairs))
        yield rows[-1]
    if rows:
        yield geometric_mean("solution", rows, MEANS["solution"])


#: Runs from other seeds when one ends elsewhere, at most; and seconds for scikit-learn's longest.
ATTEMPTS, LONGEST = 5, 10.0


def largest_tolerance(X: Floats, k: int, goal: float) -> float:
    """The largest power of ten with which one of a few runs of ours reaches the goal."""
    for power in range(3, 12):
        for seed in range(ATTEMPTS):
            found = gmm.fit(X, k, tol=10.0**-power, accelerate="auto", random_state=seed)
            if found.log_likelihood / len(X) >= goal:
                return 10.0**-power
    raise RuntimeError("we do not reach the goal")


def our_time(X: Floats, k: int, goal: float, first: int, tol: float) -> float:
    """Milliseconds of our runs, from one seed after another, until one has reached the goal."""
    began = time.perf_counter()
    for seed in range(first, first + ATTEMPTS):
        found = gmm.fit(X, k, tol=tol, accelerate="auto", random_state=seed)
        if found.log_likelihood / len(X) >= goal:
            return 1e3 * (time.perf_counter() - began)
    raise RuntimeError(f"we do not reach the goal from {ATTEMPTS} seeds")


def their_time(X: Floats, k: int, goal: float, first: int) -> float:
    """The same for scikit-learn, which looks ahead for free: first whether and when it gets there.

    A run that does not get there takes the time of the default tolerance.
    """
    total = 0.0
    for seed in range(first, first + ATTEMPTS):
        make = partial(GaussianMixture, k, random_state=seed)
        make(tol=0, max_iter=1).fit(X)
        one = seconds(partial(make(tol=0, max_iter=3).fit, X)) / 3
        ahead = make(tol=1e-10, max_iter=max(20, min(5000, int(LONGEST / one)))).fit(X)
        there = np.flatnonzero(np.array(ahead.lower_bounds_) >= goal)
        last = make(tol=0, max_iter=int(there[0]) + 1) if len(there) else make()
        total += 1e3 * seconds(partial(last.fit, X))
        if len(there):
            return total
    raise RuntimeError(f"scikit-learn does not reach the goal from {ATTEMPTS} seeds")


def prediction(cells: list[Cell], repeats: int) -> Iterator[Row]:
    """Densities and responsibilities of all rows."""
    for cell in cells:
        X = clouds(*cell)
        mixture = random_start(X, cell[2])
        peer = GaussianMixture(cell[2])
        peer.weights_, peer.means_ = mixture.weights, mixture.means
        peer.covariances_ = mixture.covariances
        peer.precisions_cholesky_ = mixture.whiteners.swapaxes(1, 2)
        for case, theirs, ours in (
            ("density", peer.score_samples, mixture.log_density),
            ("responsibility", peer.predict_proba, mixture.responsibilities),
        ):
            pairs = calls_in_turn(partial(theirs, X), partial(ours, X), repeats)
            yield compared("prediction", SCIKIT_LEARN.name, case, cell, pairs, 1.0)


def k_means(cells: list[Cell], repeats: int) -> Iterator[Row]:
    """Lloyd's iterations from the same seeds, and the drawing of seeds.

    Where they converge within a few iterations there is nothing to time.
    """
    for cell in cells:
        n, _, k = cell
        if n < 20_000:
            continue
        X = clouds(*cell)
        seeds = X[kmeans_plus_plus(X, k, 0)]

        def theirs(iterations: int, X: Floats = X, k: int = k, seeds: Floats = seeds) -> None:
            KMeans(k, init=seeds, n_init=1, max_iter=iterations, tol=0).fit(X)

        def ours(iterations: int, X: Floats = X, k: int = k) -> None:
            kmeans(X, k, 0, max_iter=iterations)

        both = KMeans(k, init=seeds, n_init=1, max_iter=300, tol=0).fit(X).n_iter_
        extra = both - FEW - 1
        if extra >= LEAST:
            theirs(FEW)
            ours(FEW)
            pairs = [
                (per_iteration(theirs, extra), per_iteration(ours, extra)) for _ in range(repeats)
            ]
            yield compared("k-means", SCIKIT_LEARN.name, "iteration", cell, pairs, 1.0)
        pairs = calls_in_turn(
            partial(their_seeds, X, k, random_state=0), partial(kmeans_plus_plus, X, k, 0), repeats
        )
        yield compared("k-means", SCIKIT_LEARN.name, "seeds", cell, pairs, 1.0)


# ---------------------------------------------------------------- many rows


def million_by_million(path: Path, n: int) -> None:
    """Rows of :func:`clouds` in single precision, in a file, a million at a time."""
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, 2))
    for start in range(0, n, 10**6):
        part = file[start : start + 10**6]
        part[...] = clouds(len(part), 2, 5)
    file.flush()


def start_of(path: Path) -> gmm.Mixture:
    """A start from the first rows of a file."""
    return random_start(np.asarray(np.load(path, mmap_mode="r")[:10_000], dtype=np.float64), 5)


def own_memory(path: Path, n: int, *options: str) -> float:
    """Memory beside the data that a fit of the first rows of a file takes, in units of the aim."""
    script = Path(__file__).with_name("memory.py")
    command = [sys.executable, str(script), str(path), str(n), *options]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return int(answer.stdout) / OWN


def size(cells: list[Cell], repeats: int) -> Iterator[Row]:
    """Time and memory against the number of rows, from a memory-mapped file."""
    largest = 10**8 if (1_000_000, 2, 5) in cells else 10**6
    sizes = [10**i for i in range(4, 9) if 10**i <= largest]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        million_by_million(path, largest)
        start = start_of(path)
        everything = np.load(path, mmap_mode="r")
        slopes = []
        fits = {n: peers.ours(everything[:n], start) for n in sizes}
        with gmm.threads.use(1):
            extras = {n: extra_iterations(fits[n]) if n < 10**7 else LEAST for n in sizes}
        times: dict[int, list[float]] = {n: [] for n in sizes}
        for _ in range(min(repeats, 3)):
            with gmm.threads.use(1):  # from some size on there would be more
                now = [per_iteration(fits[n], extras[n]) for n in sizes]
            for n, each in zip(sizes, now, strict=True):
                times[n].append(each)
            slopes.append(float(np.polyfit(np.log(sizes), np.log(now), 1)[0]))
        for n in sizes:
            pairs = [(nan, each) for each in times[n]]
            values = [1e6 * each / n for each in times[n]]
            yield line("size", "", "ns a row", (n, 2, 5), pairs, values, "", nan, "float32")
        cell = (largest, 2, 5)
        away = [abs(slope - 1) for slope in slopes]
        yield line("size", "", "|exponent - 1|", cell, [], away, "at most", 0.05, "float32")
        if not Path("/proc/self/status").exists():
            print("memory: measured on Linux only, left out")
            return
        for case, n, options in (
            *(("own memory", n, ()) for n in sizes),
            ("within 1 GiB", largest, ("--limit", str(WHOLE))),
        ):
            own = own_memory(path, n, *options)
            cell = (n, 2, 5)
            yield line("size", "64 MiB", case, cell, [], [own], "at most", 1.0, "float32")


def cluster(cells: list[Cell], repeats: int) -> Iterator[Row]:
    """Two local Dask workers beside as many threads."""
    from dask import array
    from distributed import Client, LocalCluster

    sizes = [10**6, 10**7] if (1_000_000, 2, 5) in cells else [10**6]
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address=None) as local,
        Client(local),
        gmm.threads.use(2),
    ):
        for n in sizes:
            cell = (n, 2, 5)
            X = clouds(*cell)
            start = random_start(X[:10_000], 5)
            chunks = array.from_array(X, chunks=(n // 8, 2)).persist()
            in_memory, on_workers = peers.ours(X, start), peers.ours(chunks, start)
            pairs = in_turn(in_memory, on_workers, repeats)
            aim = 1.15 if n == 10**7 else nan
            yield slower("cluster", "two threads", "two workers", cell, pairs, aim)
            if n == 10**6:
                spark = [(SPARK, b) for _, b in pairs]
                yield compared("cluster", "Spark MLlib", "two workers", cell, spark, 10.0)
            apart = float(np.abs(in_memory(3) - on_workers(3)).max() / np.abs(X).max())
            yield line("cluster", "two threads", "difference", cell, [], [apart], "at most", 1e-10)
