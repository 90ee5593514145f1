"""Repeat the simulation whose results are stored, seeded: ``python data/simulate.py [folder]``.

It takes about half an hour. The rows come from NumPy's legacy generator, whose streams are frozen;
a test repeats a small part.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import gmm

#: Distances of the two means, in standard deviations; numbers of rows; samples of each.
SEPARATIONS, SIZES, REPEATS = (2.0, 3.0, 4.0), (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192), 400
CRITERIA = ("bic", "aic", "icl", "cv")


def chosen(separation: float, n_rows: int, seeds: Iterable[int]) -> dict[str, str]:
    """For each criterion a digit for each seed: how many components, one to four, it chooses.

    The rows are draws from ½ N(−s/2, 1) + ½ N(s/2, 1); the candidates have a common variance.
    """
    digits = dict.fromkeys(CRITERIA, "")
    for seed in seeds:
        random = np.random.RandomState(seed)
        side = random.random_sample(n_rows) < 0.5
        rows = np.where(side, -0.5, 0.5) * separation + random.standard_normal(n_rows)
        table = gmm.select(rows[:, None], (1, 2, 3, 4), "E", "cv", random_state=seed)
        for name in CRITERIA:
            values = [getattr(table, name)("E", k) for k in table.n_components]
            digits[name] += str(table.n_components[int(np.nanargmin(values))])
    return digits


def main(folder: Path) -> None:
    """Write ``consistency.csv`` into ``folder``."""
    with (folder / "consistency.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["separation", "rows", "criterion", "chosen"])
        for separation in SEPARATIONS:
            for n_rows in SIZES:
                for name, digits in chosen(separation, n_rows, range(REPEATS)).items():
                    writer.writerow([separation, n_rows, name, digits])
                file.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
