"""Make the fonts of the site anew, with the characters and features that the book uses.

Needed only for other characters than those below::

    npm install @fontsource/stix-two-text @fontsource/inter @fontsource/jetbrains-mono
    python book/_theme/fonts/subset.py node_modules/@fontsource
"""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset

LATIN = "U+20-7E,U+A0-FF"
UI = f"{LATIN},U+2010-2015,U+2018-201D,U+2026,U+2212,U+2190-2193"
TEXT = f"{UI},U+131,U+152,U+153,U+201E,U+2020-2022,U+2030,U+2032,U+2033,U+2039,U+203A"
CODE = f"{UI},U+2500-257F,U+3B1-3C9,U+2264,U+2265"
BASIC = "kern,ccmp"
BOOK = f"{BASIC},liga,clig,mark,locl"
FIGURES = "sups,onum,pnum,lnum,tnum,smcp"

FONTS = {
    "text-400": ("stix-two-text", "400-normal", TEXT, f"{BOOK},{FIGURES}"),
    "text-400i": ("stix-two-text", "400-italic", TEXT, BOOK),
    "text-600": ("stix-two-text", "600-normal", TEXT, BOOK),
    "ui-400": ("inter", "400-normal", UI, f"{BASIC},tnum"),
    "ui-600": ("inter", "600-normal", UI, f"{BASIC},tnum"),
    "code-400": ("jetbrains-mono", "400-normal", CODE, "ccmp"),
}


def make(packages: Path, target: Path) -> None:
    """Write the subsets of the fonts in some npm packages."""
    for name, (family, face, characters, features) in FONTS.items():
        source = packages / family / "files" / f"{family}-latin-{face}.woff2"
        subset.main(
            [
                str(source),
                f"--unicodes={characters}",
                f"--layout-features={features}",
                "--flavor=woff2",
                "--no-hinting",
                f"--output-file={target / name}.woff2",
            ]
        )


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(__file__).parent)
