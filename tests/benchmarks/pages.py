"""Measure the pages of the built site as a telephone sees them (``make pages``).

Each page is loaded from a local server that compresses, in Chromium, once by Lighthouse (its mobile
profile), then with a processor four times slower. The table goes to a CSV file: what comes over
the line without the figures, Lighthouse's four categories, how far the layout moves, and the
longest task of the main thread, the median of five visits. Times are of this machine; sizes are
the same on all.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "book" / "_ext")]
from book.conftest import served  # noqa: E402 -- where these are stands in the line above
from book.test_site import PAGES, PHONE, weights  # noqa: E402 -- likewise

import browser as chromium  # noqa: E402 -- likewise
import node_tools  # noqa: E402 -- likewise

CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
FLAGS = " ".join(["--headless=new", *chromium.FLAGS])
SLOWER = 4
VISITS = 5
LONGEST = """
window.longest = 0;
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
}).observe({ type: "longtask", buffered: true });
"""


def judged(url: str, program: str) -> dict[str, Any]:
    """Return what Lighthouse has to say of a page."""
    modules = node_tools.packages(HERE / "lighthouse")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            node_tools.node_program(),
            str(modules / "lighthouse" / "cli" / "index.js"),
            url,
            "--quiet",
            "--output=json",
            f"--output-path={report}",
            f"--only-categories={','.join(CATEGORIES)}",
            f"--chrome-flags={FLAGS}",
        ]
        variables = os.environ | {"CHROME_PATH": program}
        subprocess.run(command, env=variables, capture_output=True, check=True)
        result = json.loads(report.read_text(encoding="utf-8"))
    scores = {name: round(100 * result["categories"][name]["score"]) for name in CATEGORIES}
    audits = result["audits"]
    faults = [
        name
        for category in CATEGORIES[1:]
        for name in (ref["id"] for ref in result["categories"][category]["auditRefs"])
        if audits[name]["score"] == 0
    ]
    return scores | {
        "layout shift": round(audits["cumulative-layout-shift"]["numericValue"], 4),
        "blocking ms": round(audits["total-blocking-time"]["numericValue"]),
        "largest paint ms": round(audits["largest-contentful-paint"]["numericValue"]),
        "faults": " ".join(faults),
    }


def measured(browser: Browser, url: str) -> dict[str, float]:
    """Return a page's weight without its figures, and its longest task on a slow processor.

    The task is the median of five visits: at this speed, whatever else the machine does counts
    four times.
    """
    longest, weight = [], 0
    for _ in range(VISITS):
        context = browser.new_context(viewport=PHONE)  # type: ignore[arg-type]  # a plain dict for its typed one
        page = context.new_page()
        page.add_init_script(LONGEST)
        session = context.new_cdp_session(page)
        session.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        weight = sum(weights(page, url).values())
        page.wait_for_timeout(500)
        longest.append(page.evaluate("window.longest"))
        context.close()
    return {"kB": round(weight / 1000, 1), "longest task ms": round(statistics.median(longest))}


def main() -> None:
    """Measure the pages, print each line as it comes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="the CSV file to write")
    parser.add_argument("--only", nargs="+", choices=PAGES, default=PAGES, metavar="PAGE")
    options = parser.parse_args()
    program = chromium.program()
    if program is None:
        raise SystemExit("This needs a Chromium: see README.md.")
    rows: list[dict[str, Any]] = []
    with served(ROOT / "_build" / "html") as address, chromium.launched(program) as browser:
        for path in options.only:
            row = {"page": path} | measured(browser, address + path)
            row |= judged(address + path, program)
            rows.append(row)
            print(*row.values(), sep="\t", flush=True)
            part = options.file.with_suffix(".part")
            with part.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, row)
                writer.writeheader()
                writer.writerows(rows)
            part.replace(options.file)


if __name__ == "__main__":
    main()
