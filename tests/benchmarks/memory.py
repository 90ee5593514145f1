"""Fit the first rows of a file in a process of its own, and print the bytes beside the data.

Nothing but NumPy and gmm is imported, so that a limit on all memory that is mapped, the file
included, leaves as much as possible to the fit. Linux only.
"""

from __future__ import annotations

import argparse
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

import gmm


def own_memory(function: Callable[[], object]) -> int:
    """Bytes by which a call raises the process's own memory, mapped files not counted, at most.

    Linux only: it looks at ``/proc/self/status`` every few milliseconds.
    """
    peak = before = _own_bytes()
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.002):
            peak = max(peak, _own_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        function()
    finally:
        over.set()
        watcher.join()
    return max(peak, _own_bytes()) - before


def _own_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def main() -> None:
    """Read the command line, set the limit, fit twice: what a first fit imports is no fit's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("--limit", type=int, default=resource.RLIM_INFINITY, help="in bytes")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (options.limit, options.limit))
    rows = np.load(options.file, mmap_mode="r")[: options.rows]
    start = gmm.fit(rows[:1000], 5, max_iter=1, ridge=1.0, random_state=0).mixture
    print(own_memory(lambda: gmm.fit(rows, 5, start=start, tol=0, max_iter=2)))


if __name__ == "__main__":
    main()
