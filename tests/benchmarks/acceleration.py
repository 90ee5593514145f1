"""Count the passes of accelerated EM beside those of EM itself, from the same starts.

EM runs until its gains are lost in rounding; where it ends is the limit. Every method then counts
the passes that it needs to come within a small part of a nat of that limit, and tells how far above
or below it ended. The thresholds of :mod:`gmm.convergence` were chosen on the problems of the seeds
1 to 4 and 11 to 13; other seeds are drawn here. ``make bench`` writes the table of the chapter.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import gmm
from gmm.convergence import ACCELERATIONS

Floats = NDArray[np.float64]

#: Rows, features and components of the simulated problems.
SIZES = (
    (200, 1, 2),
    (500, 1, 3),
    (300, 2, 3),
    (1000, 2, 2),
    (2000, 2, 5),
    (1000, 2, 8),
    (20_000, 2, 4),
    (1000, 3, 4),
    (3000, 3, 6),
    (10_000, 3, 5),
    (2000, 4, 8),
    (5000, 5, 4),
)
#: Distances of the centres, in deviations of a component.
SEPARATIONS = (1.2, 1.8, 2.5, 4.0)
#: Real data and the numbers of components for them.
REAL = {"old_faithful": (2, 3, 4), "galaxies": (3, 4, 6), "acidity": (2, 3, 4), "iris": (2, 3, 4)}
#: The families that L-BFGS knows.
FAMILIES = ("VVV", "EEE", "VVI", "VII")
#: A target is missed by no more than this, in nats for each row.
NEAR = 1e-9
#: EM and the others stop when a step of EM gains less than this, in nats for each row.
TOL = 4e-14
#: Runs in which EM needs more iterations are left out.
LONGEST = 10_000
#: From here on EM counts as slow.
SLOW = 200
METHODS = tuple(name for name in ACCELERATIONS if name != "none")


@dataclass(frozen=True)
class Problem:
    """Rows, and a mixture from which every method starts."""

    name: str
    X: Floats
    start: gmm.Mixture


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Passes are those to the limit of EM (0: not reached); differences are where the methods ended,
    in nats above that limit.
    """

    problem: Problem
    seed: int
    em: int
    passes: dict[str, int]
    differences: dict[str, float]

    def cells(self) -> dict[str, object]:
        """The line by the names of its columns."""
        start = self.problem.start
        n, d = self.problem.X.shape
        cells: dict[str, object] = {
            "problem": self.problem.name,
            "seed": self.seed,
            "n": n,
            "d": d,
            "k": start.n_components,
            "family": start.family,
            "em": self.em,
        }
        cells |= self.passes
        return cells | {f"{name}_above": f"{x:.3g}" for name, x in self.differences.items()}


def overlapping(n: int, d: int, k: int, separation: float, rng: np.random.Generator) -> Floats:
    """Rows about k random centres at about this distance from one another, of several shapes."""
    centres = separation * rng.standard_normal((k, d)) / np.sqrt(2 * d)
    centres *= np.sqrt(k)
    factors = np.eye(d) + 0.3 * rng.standard_normal((k, d, d))
    labels = rng.choice(k, size=n, p=rng.dirichlet(np.full(k, 5.0)))
    noise = rng.standard_normal((n, d))
    rows: Floats = centres[labels] + np.einsum("nij,nj->ni", factors[labels], noise)
    return rows


def problems(seed: int) -> Iterator[Problem]:
    """Simulated and real problems; the starts are random rows and k-means in turn."""
    data: list[tuple[str, Floats, int]] = []
    for (n, d, k), separation in product(SIZES, SEPARATIONS):
        rng = np.random.default_rng([seed, n, d, k, int(10 * separation)])
        data.append((f"separation {separation}", overlapping(n, d, k, separation, rng), k))
    for name, numbers in REAL.items():
        X = getattr(gmm.datasets, name)().X
        data += [(name, X, k) for k in numbers]
    for i, (name, X, k) in enumerate(data):
        chosen = FAMILIES if name in REAL else (FAMILIES[(i + i // 4) % 4], "VVV")
        for family in dict.fromkeys(chosen if X.shape[1] > 1 else ("VVV", "EEE")):
            start = ("random", "k-means")[i % 2]
            try:
                mixture = gmm.initial.starting_mixture(X, k, family, start, seed)
            except gmm.SingularCovarianceError:
                continue
            yield Problem(name, X, mixture)


def run(problem: Problem, method: str, max_iter: int) -> gmm.Fit:
    """A fit by one method, to the last digit."""
    start = problem.start
    return gmm.fit(
        problem.X,
        start.n_components,
        start.family,
        start=start,
        accelerate=method,
        tol=TOL,
        max_iter=max_iter,
    )


def passes_to(fit: gmm.Fit, target: float) -> int:
    """The passes of a fit to a log-likelihood; 0 if it does not reach it."""
    reached = fit.trace.log_likelihood >= target
    return int(fit.trace.passes[np.argmax(reached)]) if reached.any() else 0


def compare(problem: Problem, seed: int) -> Row | None:
    """All methods on one problem; None if EM itself finds no maximum."""
    try:
        plain = run(problem, "none", LONGEST)
    except gmm.SingularCovarianceError:
        return None
    if not plain.converged:
        return None
    target = plain.log_likelihood - NEAR * len(problem.X)
    em = passes_to(plain, target)
    passes, differences = dict.fromkeys(METHODS, 0), dict.fromkeys(METHODS, -np.inf)
    for method in METHODS:
        with suppress(gmm.SingularCovarianceError):
            fit = run(problem, method, em + 100)
            passes[method] = passes_to(fit, target)
            differences[method] = fit.log_likelihood - plain.log_likelihood
    return Row(problem, seed, em, passes, differences)


def summary(rows: list[Row]) -> Iterator[str]:
    """Medians, the worst, and how many ended lower or higher, for each method."""
    for method, slow in product(METHODS, (True, False)):
        some = [row for row in rows if (row.em >= SLOW) == slow]
        gains = [row.em / row.passes[method] if row.passes[method] else 0.0 for row in some]
        lower = sum(gain == 0 for gain in gains)
        higher = sum(row.differences[method] > 1e-6 * len(row.problem.X) for row in some)
        yield (
            f"{method:>9}, {'slow' if slow else 'quick':>5}: {len(some)} runs, "
            f"median {np.median(gains):.2f}, a tenth below {np.quantile(gains, 0.1):.2f}, "
            f"worst {min(gain for gain in gains if gain):.2f}, lower {lower}, higher {higher}"
        )


def main() -> None:
    """Run all problems, print the summary and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[21, 22, 23])
    options = parser.parse_args()
    rows: list[Row] = []
    for seed in options.seeds:
        found = [compare(problem, seed) for problem in problems(seed)]
        rows += [row for row in found if row is not None]
        print(f"seed {seed}: {len(found)} problems, {found.count(None)} without a maximum")
    for line in summary(rows):
        print(line)
    if options.file:
        lines = [row.cells() for row in rows]
        with options.file.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)
        print(f"written to {options.file}")


if __name__ == "__main__":
    main()
