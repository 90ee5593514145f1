"""Make the generated data sets of the cases, seeded: ``python data/generate.py [folder]``.

NumPy's legacy generator is used throughout, because its streams are frozen: the files will be the
same in years to come.
"""

from __future__ import annotations

import csv
import sys
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def cube_corners() -> tuple[Floats, list[int]]:
    """500 points about each corner (±3, ±3, ±3) of a cube but (−3, 3, −3), unit covariance."""
    random = np.random.RandomState(7)
    corners = [corner for corner in product((-3.0, 3.0), repeat=3) if corner != (-3.0, 3.0, -3.0)]
    clouds = [np.array(corner) + random.standard_normal((500, 3)) for corner in corners]
    labels = [k for k in range(len(corners)) for _ in range(500)]
    order = random.permutation(len(labels))
    return np.vstack(clouds)[order], [labels[i] for i in order]


def three_components() -> tuple[Floats, list[int], Floats]:
    """200 points from each of three components in the plane, and three starting means."""
    means = [[1.2, 0.4], [-4.4, 1.0], [4.1, -0.3]]
    covariances = [
        [[0.8, -0.4], [-0.4, 1.0]],
        [[1.2, -0.8], [-0.8, 1.0]],
        [[1.2, 0.6], [0.6, 3.0]],
    ]
    random = np.random.RandomState(42)
    clouds = [
        random.multivariate_normal(mean, covariance, 200)
        for mean, covariance in zip(means, covariances, strict=True)
    ]
    start = np.array([random.normal(size=2) for _ in means])
    return np.vstack(clouds), [k for k in range(3) for _ in range(200)], start


def course_project() -> tuple[Floats, list[int]]:
    """1 000 points from four components in the plane, two of which cross."""
    random = np.random.RandomState(11)
    parts = [
        (350, [-4.0, 0.0], 1.6, 0.5, 35.0),
        (250, [-2.6, 0.4], 1.8, 0.4, -50.0),
        (250, [3.0, 3.0], 0.8, 0.8, 0.0),
        (150, [3.5, -2.5], 1.4, 0.5, 80.0),
    ]
    return _clouds(random, parts)


def watching_em() -> tuple[Floats, list[int]]:
    """450 points from three components in the plane, long and close enough to overlap."""
    random = np.random.RandomState(3)
    parts = [
        (150, [0.0, 0.0], 1.8, 0.6, 30.0),
        (150, [3.2, 0.4], 1.6, 0.5, -40.0),
        (150, [1.4, 3.2], 1.2, 0.7, 5.0),
    ]
    return _clouds(random, parts)


def _clouds(
    random: np.random.RandomState, parts: list[tuple[int, list[float], float, float, float]]
) -> tuple[Floats, list[int]]:
    """Normal clouds: size, mean, deviations along the two axes, angle of the first in degrees."""
    clouds = []
    for size, mean, long, short, degrees in parts:
        turn = np.deg2rad(degrees)
        axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        clouds.append(np.array(mean) + (random.standard_normal((size, 2)) * [long, short]) @ axes)
    labels = [k for k, part in enumerate(parts) for _ in range(part[0])]
    order = random.permutation(len(labels))
    return np.vstack(clouds)[order], [labels[i] for i in order]


def write(path: Path, columns: list[str], X: Floats, labels: list[int] | None = None) -> None:
    """Write a table as CSV, its numbers in the shortest form that reads back the same."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns + ([] if labels is None else ["component"]))
        for i, row in enumerate(X.tolist()):
            writer.writerow([repr(v) for v in row] + ([] if labels is None else [labels[i]]))


def main(folder: Path) -> None:
    """Write all generated data sets into ``folder``."""
    write(folder / "cube_corners.csv", ["x", "y", "z"], *cube_corners())
    X, labels, start = three_components()
    write(folder / "three_components.csv", ["x1", "x2"], X, labels)
    write(folder / "three_components_start.csv", ["x1", "x2"], start)
    write(folder / "course_project.csv", ["x1", "x2"], *course_project())
    write(folder / "watching_em.csv", ["x1", "x2"], *watching_em())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
