"""Time gmm beside its peers, as ratios within one run (``make bench``).

Every comparison takes the same data, the same start and the same number of iterations (or the same
likelihood reached), and repeats the two sides in turn. The table goes to a CSV file, whose first
line says what machine it was; the file is whole after every line. ``--only`` measures some parts
anew and leaves the others as they are.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import cells
from measure import Table

PARTS = {
    "grid": cells.grid,
    "families": cells.families,
    "floor": cells.floor,
    "solution": cells.solution,
    "prediction": cells.prediction,
    "k-means": cells.k_means,
    "size": cells.size,
    "cluster": cells.cluster,
    "others": cells.others,
}
REDUCED = [(272, 2, 3), (3_500, 3, 7), (100_000, 2, 5)]


def main() -> None:
    """Measure, print each line as it comes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, help="the CSV file to write")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--reduced", action="store_true", help="the small cells only")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    grid = REDUCED if options.reduced else list(cells.GRID)
    table = Table(options.file, options.only)
    print(table.machine)
    if os.getloadavg()[0] > 0.5:  # small products by threads that wait for busy processors are slow
        print(f"The machine is busy (load {os.getloadavg()[0]:.1f}): small cells will flatter us.")
    for part in options.only:
        for row in PARTS[part](grid, options.repeats):
            table.add(row)


if __name__ == "__main__":
    main()
