"""The search: Pagefind's index of the pages, which the search page loads piece by piece."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

UNSEARCHED = ".katex-html, .headerlink, .eqno, .section-number"


def write(site: Path) -> None:
    """Index the pages of a site.

    Raises
    ------
    RuntimeError
        If Pagefind fails, with what it says.
    """
    options = ["--site", str(site), "--quiet", "--exclude-selectors", UNSEARCHED]
    command = [sys.executable, "-m", "pagefind", *options]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"Pagefind failed:\n{result.stderr or result.stdout}")
    for interface in (site / "pagefind").glob("pagefind-*ui.*"):  # the book has its own
        interface.unlink()
