"""Change the steps of EM in every small way, and see that a test notices (``make mutants``).

Mutmut changes one operator, number, name or argument at a time in the functions of the modules that
``pyproject.toml`` names, and runs the tests that call the function. A mutant that no test tells
from the code is listed in ``survivors.toml`` with the reason why none could; one that is not, or
one that is listed and no longer survives, makes this script fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).parents[2]
NOTICED = ("killed", "timeout")


class Mutant(NamedTuple):
    """A function, what it says, and what it says instead."""

    function: str
    code: str
    instead: str


def main() -> None:
    """Try all mutants, and compare those that survive with the list."""
    os.chdir(ROOT)  # where Mutmut looks for its settings, and writes the folder of mutants
    shutil.rmtree("mutants", ignore_errors=True)
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "mutmut", "run"], env=os.environ | one_thread, check=True)
    survivors, tried = found()
    known = Counter(listed())
    for mutant in (survivors - known).elements():
        print(f"\nno test notices, in {mutant.function}:\n-{mutant.code}\n+{mutant.instead}")
    for mutant in (known - survivors).elements():
        print(f"\nlisted, but noticed or gone, in {mutant.function}:\n+{mutant.instead}")
    print(f"\n{tried} mutants, {survivors.total()} that no test notices, {known.total()} explained")
    sys.exit(survivors != known)


def found() -> tuple[Counter[Mutant], int]:
    """The mutants of the last run that survived, and how many there were."""
    survivors: Counter[Mutant] = Counter()
    tried = 0
    for record in sorted(Path("mutants", "gmm").glob("*.py.meta")):
        path = Path("gmm", record.name.removesuffix(".meta"))
        data = SourceFileMutationData(path=path)
        data.load()
        for name, exit_code in data.exit_code_by_key.items():
            tried += 1
            if status_by_exit_code[exit_code] not in NOTICED:
                survivors[described(name, path)] += 1
    return survivors, tried


def described(name: str, path: Path) -> Mutant:
    """A mutant by its lines, which stay when others come before it."""
    lines = get_diff_for_mutant(name, path=path).splitlines()[2:]
    code, instead = (
        " ".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+"
    )
    function = name.partition("__mutmut")[0].replace("xǁ", "").replace("ǁ", ".")
    return Mutant(function.replace(".x_", "."), code, instead)


def listed() -> list[Mutant]:
    """The mutants that are explained."""
    reasons = tomllib.loads((ROOT / "tests" / "mutation" / "survivors.toml").read_text("utf-8"))
    return [
        Mutant(mutant["in"], mutant["code"], mutant["instead"])
        for reason in reasons["reason"]
        for mutant in reason["mutants"]
    ]


if __name__ == "__main__":
    main()
