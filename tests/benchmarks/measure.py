"""How the benchmarks measure: pairs of times in turn, ratios of pairs, a table that is never lost.

The time of an iteration is the difference of two fits that differ in their number of iterations
alone, so that set-up does not count. Two sides are timed in turn, several times; the table gives
the median of the ratios of pairs, and their range.
"""

from __future__ import annotations

import csv
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gmm

Floats = NDArray[np.floating]
Run = Callable[[int], object]

#: Iterations of the shorter fit of a difference.
FEW = 2
#: The difference should take this long, in seconds, with at least and at most so many iterations.
TARGET, LEAST, MOST = 0.15, 4, 400
#: Seconds in which threads without work come to rest.
PAUSE = 0.2


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    part : str
        One of the names in ``bench.PARTS``.
    peer : str
        What is compared with, and its version.
    case : str
        A family of covariances, or what else tells the line from others.
    dtype : str
        Of the rows.
    n, d, k : int
        Rows, features, components.
    theirs, ours : float
        Median times in milliseconds, of an iteration unless the case says otherwise.
    value, lowest, highest : float
        Median and range of what is compared: a ratio of times, theirs over ours where larger is
        better; or what the case says.
    bound : str
        Whether the aim is a value "at least" or "at most" so great.
    aim : float
        NaN if there is none.
    """

    part: str
    peer: str
    case: str
    dtype: str
    n: int
    d: int
    k: int
    theirs: float
    ours: float
    value: float
    lowest: float
    highest: float
    bound: str
    aim: float
    date: str = ""

    @property
    def met(self) -> bool:
        """Whether the aim, if there is one, is reached."""
        if np.isnan(self.aim):
            return True
        return self.value >= self.aim if self.bound == "at least" else self.value <= self.aim


def seconds(run: Callable[[], object]) -> float:
    """How long a call takes.

    Numeric libraries let their threads spin for a while after the last work, on processors that the
    next side needs: everyone begins after a pause.
    """
    time.sleep(PAUSE)
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def extra_iterations(run: Run) -> int:
    """By how many iterations two fits must differ to be told apart; both have then run once.

    A first call pays for pages, threads and compilation, so nothing that is reported is one.
    """
    run(FEW)
    run(FEW + LEAST)
    one = (seconds(lambda: run(FEW + LEAST)) - seconds(lambda: run(FEW))) / LEAST
    extra = int(np.clip(TARGET / max(one, 1e-6), LEAST, MOST))
    if extra > LEAST:
        run(FEW + extra)
    return extra


def per_iteration(run: Run, extra: int) -> float:
    """Milliseconds of one iteration of ``run(iterations)``."""
    longer = seconds(lambda: run(FEW + extra))
    return max(1e3 * (longer - seconds(lambda: run(FEW))) / extra, 1e-6)


def in_turn(theirs: Run, ours: Run, repeats: int) -> list[tuple[float, float]]:
    """Milliseconds of an iteration of both sides, in turn."""
    extras = extra_iterations(theirs), extra_iterations(ours)
    return [
        (per_iteration(theirs, extras[0]), per_iteration(ours, extras[1])) for _ in range(repeats)
    ]


def calls_in_turn(
    theirs: Callable[[], object], ours: Callable[[], object], repeats: int
) -> list[tuple[float, float]]:
    """Milliseconds of whole calls of both sides, in turn, after one that does not count."""
    theirs()
    ours()
    return [(1e3 * seconds(theirs), 1e3 * seconds(ours)) for _ in range(repeats)]


def compared(
    part: str,
    peer: str,
    case: str,
    cell: tuple[int, int, int],
    pairs: list[tuple[float, float]],
    aim: float = nan,
    *,
    dtype: str = "float64",
) -> Row:
    """The line for pairs of times: how many times as long theirs take."""
    return line(part, peer, case, cell, pairs, [a / b for a, b in pairs], "at least", aim, dtype)


def slower(
    part: str,
    peer: str,
    case: str,
    cell: tuple[int, int, int],
    pairs: list[tuple[float, float]],
    aim: float = nan,
    *,
    dtype: str = "float64",
) -> Row:
    """The line for pairs of times: how many times as long ours take."""
    return line(part, peer, case, cell, pairs, [b / a for a, b in pairs], "at most", aim, dtype)


def line(
    part: str,
    peer: str,
    case: str,
    cell: tuple[int, int, int],
    pairs: list[tuple[float, float]],
    values: list[float],
    bound: str,
    aim: float,
    dtype: str = "float64",
) -> Row:
    """A line from pairs of times, which may be none, and from what is compared."""
    return Row(
        part,
        peer,
        case,
        dtype,
        *cell,
        theirs=rounded(statistics.median(a for a, _ in pairs)) if pairs else nan,
        ours=rounded(statistics.median(b for _, b in pairs)) if pairs else nan,
        value=rounded(statistics.median(values)),
        lowest=rounded(min(values)),
        highest=rounded(max(values)),
        bound=bound,
        aim=aim,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def rounded(value: float) -> float:
    """Four digits: more are noise."""
    return float(f"{value:.4g}")


def geometric_mean(part: str, rows: Iterable[Row], aim: float) -> Row:
    """The line that sums up others of their part."""
    values = [row.value for row in rows]
    mean = float(np.exp(np.mean(np.log(values))))
    return line(
        part, "scikit-learn", "geometric mean", (0, 0, 0), [], [mean], "at least", aim, "all"
    )


def machine() -> str:
    """What the table is measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((s.split(": ")[1] for s in lines if s.startswith("model name")), model)
    return (
        f"{model}, {gmm.threads.number()} threads; Python {platform.python_version()}, "
        f"NumPy {np.__version__}; gmm {gmm.__version__}"
    )


class Table:
    """The lines measured so far: printed as they come, and in a file that is always whole.

    Parameters
    ----------
    path : Path, optional
        Lines of other parts that are there already, from the same machine and versions, stay.
    parts : collection of str
        The parts to be measured anew.
    """

    def __init__(self, path: Path | None, parts: Iterable[str]) -> None:
        self.path = path
        self.machine = machine()
        self.rows: list[Row] = []
        if path is not None and path.exists():
            self.rows = [row for row in self._read(path) if row.part not in set(parts)]

    def _read(self, path: Path) -> list[Row]:
        first, *lines = path.read_text().splitlines()
        if first != f"# {self.machine}":
            return []
        return [
            Row(**{field.name: _TYPES[field.type](line[field.name]) for field in fields(Row)})
            for line in csv.DictReader(lines)
        ]

    def add(self, row: Row) -> None:
        """Print a line, and write all of them."""
        star = " " if row.met else "*"
        print(
            f"{row.part:<10} {row.peer:<22} {row.case:<16} {row.dtype:<8}"
            f" {row.n:>10} {row.d:>4} {row.k:>3}  {row.theirs:>9.4g} {row.ours:>9.4g}"
            f"  {row.value:>9.4g}{star} [{row.lowest:.4g}, {row.highest:.4g}]"
            + ("" if np.isnan(row.aim) else f"  {row.bound} {row.aim:g}"),
            flush=True,
        )
        self.rows.append(row)
        if self.path is None:
            return
        part = self.path.with_suffix(".part")
        with part.open("w", newline="") as file:
            file.write(f"# {self.machine}\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([field.name for field in fields(Row)])
            writer.writerows(astuple(each) for each in self.rows)
        os.replace(part, self.path)


_TYPES: dict[Any, Callable[[str], Any]] = {"str": str, "int": int, "float": float}
