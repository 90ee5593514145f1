"""Time gmm beside its peers, as ratios within one run (``make bench``).

Every comparison takes the same data, the same start and the same number of iterations, and repeats
the two sides in turn. The time of an iteration is the difference of two fits that differ in their
number of iterations, so that set-up does not count. The table goes to a CSV file, whose first line
says what machine it was.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture as Peer

import gmm
from gmm.families import FAMILIES
from gmm.natural import statistics_size

Floats = NDArray[np.float64]

#: Rows, features, components; and the least ratio that is aimed at with full covariances.
GRID = {
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
REDUCED = ((272, 2, 3), (3_500, 3, 7), (100_000, 2, 5))
RIDGE = 1e-6


@dataclass(frozen=True)
class Row:
    """One line of the table; times are of one iteration, in milliseconds."""

    comparison: str
    family: str
    n: int
    d: int
    k: int
    peer: float
    ours: float
    ratio: float
    lowest: float
    highest: float
    aim: float


def clouds(n: int, d: int, k: int, seed: int = 0) -> Floats:
    """Rows about k random centres, three deviations apart in each feature on average."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((k, d))
    return centres[rng.integers(k, size=n)] + rng.standard_normal((n, d))


def per_iteration(run: Callable[[int], object], few: int, many: int) -> float:
    """Milliseconds of one iteration of ``run(iterations)``."""
    seconds = []
    for iterations in (few, many):
        began = time.perf_counter()
        run(iterations)
        seconds.append(time.perf_counter() - began)
    return 1e3 * (seconds[1] - seconds[0]) / (many - few)


def iterations_for(n: int, d: int, k: int) -> tuple[int, int]:
    """Two numbers of iterations whose difference takes long enough to be measured."""
    work = n * k * statistics_size("full", d)
    extra = int(np.clip(4e8 / work, 4, 400))
    return 2, 2 + extra


def compare(n: int, d: int, k: int, family: str, repeats: int) -> Row:
    """scikit-learn's time of an iteration over ours."""
    kind = FAMILIES[family]
    X = clouds(n, d, k)
    start = gmm.initial.starting_mixture(X, k, family, "random", 0, ridge=RIDGE)
    inverse = np.linalg.inv if kind in ("full", "tied") else np.reciprocal
    precisions = inverse(start.stored)
    few, many = iterations_for(n, d, k)

    def theirs(iterations: int) -> None:
        Peer(
            k,
            covariance_type=kind,
            reg_covar=RIDGE,
            tol=0,
            max_iter=iterations,
            weights_init=start.weights,
            means_init=start.means,
            precisions_init=precisions,
        ).fit(X)

    def ours(iterations: int) -> None:
        gmm.fit(X, k, family, start=start, tol=0, max_iter=iterations, ridge=RIDGE)

    pairs = [
        (per_iteration(theirs, few, many), per_iteration(ours, few, 2 * many))
        for _ in range(repeats)
    ]
    aim = GRID[n, d, k] if family == "VVV" else 1.0
    return row(f"scikit-learn {sklearn.__version__}", family, (n, d, k), pairs, aim)


def floor(n: int, d: int, k: int, repeats: int) -> Row:
    """A whole iteration over its floor: the two bare products and the exponential of its shapes."""
    X = clouds(n, d, k)
    start = gmm.initial.starting_mixture(X, k, "VVV", "random", 0)
    p = statistics_size("full", d)
    length = max(64, min(32_768, 1_000_000 // (k * p)))
    features = np.random.default_rng(0).standard_normal((p, length))
    theta = 0.01 * np.random.default_rng(1).standard_normal((k, p))

    def bare() -> None:
        for _ in range(-(-n // length)):
            a = theta @ features
            np.exp2(a, out=a)
            a @ features.T

    few, many = iterations_for(n, d, k)
    pairs = []
    for _ in range(repeats):
        began = time.perf_counter()
        bare()
        bottom = 1e3 * (time.perf_counter() - began)
        with gmm.threads.use(1):
            whole = per_iteration(
                lambda i: gmm.fit(X, k, start=start, tol=0, max_iter=i, ridge=RIDGE), few, many
            )
        pairs.append((whole, bottom))
    return row("one thread over its floor", "VVV", (n, d, k), pairs, 2.0)


def solution(n: int, d: int, k: int, repeats: int) -> Row:
    """Time from the default start to within 1e-6 n of the best likelihood that either finds."""
    X = clouds(n, d, k)
    pairs = []
    for seed in range(repeats):
        best = gmm.fit(X, k, n_starts=3, tol=1e-10, random_state=seed).log_likelihood
        began = time.perf_counter()
        gmm.fit(X, k, tol=1e-7, accelerate="auto", random_state=seed)
        ours = time.perf_counter() - began
        tol = 1e-3
        while True:
            began = time.perf_counter()
            peer = Peer(k, tol=tol, max_iter=1000, random_state=seed).fit(X)
            theirs = time.perf_counter() - began
            if peer.score(X) * n >= best - 1e-6 * n or tol < 1e-8:
                break
            tol /= 10
        pairs.append((1e3 * theirs, 1e3 * ours))
    return row("scikit-learn, time to solution", "VVV", (n, d, k), pairs, 10.0)


def row(
    comparison: str,
    family: str,
    cell: tuple[int, int, int],
    pairs: list[tuple[float, float]],
    aim: float,
) -> Row:
    """Medians of both sides, and median and range of their ratios, pair by pair."""
    ratios = [a / b for a, b in pairs]
    return Row(
        comparison,
        family,
        *cell,
        peer=round(statistics.median(a for a, _ in pairs), 4),
        ours=round(statistics.median(b for _, b in pairs), 4),
        ratio=round(statistics.median(ratios), 2),
        lowest=round(min(ratios), 2),
        highest=round(max(ratios), 2),
        aim=aim,
    )


def machine() -> str:
    """What the table was measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((s.split(": ")[1] for s in lines if s.startswith("model name")), model)
    return (
        f"{model}, {gmm.threads.number()} threads; Python {platform.python_version()}, "
        f"NumPy {np.__version__}; gmm {gmm.__version__}"
    )


def table(cells: tuple[tuple[int, int, int], ...], repeats: int) -> Iterator[Row]:
    """All comparisons, one by one."""
    for cell in cells:
        yield compare(*cell, "VVV", repeats)
    for family in ("EEE", "VVI", "VII"):
        for cell in cells:
            yield compare(*cell, family, repeats)
    for n, d, k in cells:
        if n >= 100_000 and d <= 10:
            yield floor(n, d, k, repeats)
    for cell in cells:
        if cell[0] <= 100_000 and cell[1] <= 10:
            yield solution(*cell, repeats)


def main() -> None:
    """Measure, print each row as it comes, and write the table when all are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--reduced", action="store_true", help="the small cells only")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cells = REDUCED if options.reduced else tuple(GRID)
    names = [field.name for field in fields(Row)]
    print(machine())
    print(" ".join(f"{name:>10}" for name in names))
    rows = []
    for line in table(cells, options.repeats):
        rows.append(line)
        print(" ".join(f"{getattr(line, name)!s:>10}" for name in names), flush=True)
    if options.file:
        with options.file.open("w", newline="") as file:
            file.write(f"# {machine()}\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(names)
            writer.writerows([getattr(line, name) for name in names] for line in rows)
        print(f"written to {options.file}", file=sys.stderr)


if __name__ == "__main__":
    main()
