"""Python for the reader's page: its runtime, its packages with byte code, and the chapters' cells.

All of it stands in ``_static/lab`` of the site and is fetched by who uses it, from there alone.
The runtime comes from npm, NumPy and matplotlib from the wheels in ``book/_lab/wheels``, the
package and the data from the repository.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

import node_tools
import notebooks
from site_builder import public_name

#: What the runtime asks for when it starts.
FETCHED = ("pyodide.asm.wasm", "pyodide-lock.json", "python_stdlib.zip")
#: Scripts of the runtime, which import statements bring.
MODULES = ("pyodide.mjs", "pyodide.asm.mjs")
ARCHIVES = ("numpy.zip", "gmm.zip", "matplotlib.zip")
WHEEL = re.compile(
    r"(?P<name>\w+)-(?P<version>[\w.]+)-(?P<python>\w+)-(?P<abi>\w+)-(?P<platform>\w+)\.whl"
)
#: Modules beyond Python's own that a cell finds in the page.
AVAILABLE = {"gmm", "matplotlib", "mpl_toolkits", "myst_nb", "numpy"}
#: Python's own modules that need what a page does not have: processes, threads, sockets.
ABSENT = {"multiprocessing", "socket", "subprocess", "threading"}


def check_wheels(folder: Path, runtime: Path) -> list[Path]:
    """Return the wheels, if they are the recorded ones and belong to the runtime.

    Parameters
    ----------
    folder
        Holds the wheels and ``SHA256SUMS``.
    runtime
        The npm package of the runtime.

    Raises
    ------
    ValueError
        If a wheel is missing, unknown, altered, or made for another runtime.
    """
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    recorded = {name: digest for digest, name in (line.split() for line in lines)}
    found = {path.name: path for path in folder.glob("*.whl")}
    if differing := set(recorded) ^ set(found):
        raise ValueError(f"{folder}: wheels and SHA256SUMS differ in {sorted(differing)}")
    info = json.loads((runtime / "pyodide-lock.json").read_text(encoding="utf-8"))["info"]
    python = "cp" + "".join(info["python"].split(".")[:2])
    platform = f"pyemscripten_{info['abi_version']}_{info['arch']}"
    for name, path in sorted(found.items()):
        if hashlib.sha256(path.read_bytes()).hexdigest() != recorded[name]:
            raise ValueError(f"{name}: the contents are not those that SHA256SUMS records")
        tags = WHEEL.fullmatch(name)
        if tags is None:
            raise ValueError(f"{name}: not the name of a wheel")
        if (tags["abi"], tags["platform"]) == ("none", "any"):
            continue
        if (tags["python"], tags["abi"], tags["platform"]) != (python, python, platform):
            raise ValueError(f"{name}: the runtime needs {python}-{python}-{platform}")
    return [found[name] for name in sorted(found)]


def write(root: Path, cache: Path, target: Path) -> None:
    """Put everything but the chapters' cells in its place.

    Parameters
    ----------
    root
        Of the repository.
    cache
        Where archives are kept from one build to the next.
    target
        A folder of the site.
    """
    book = root / "book"
    source = book / "_lab"
    modules = node_tools.packages(book)
    runtime = modules / "pyodide"
    target.mkdir(parents=True)
    for name in (*FETCHED, *MODULES):
        shutil.copyfile(runtime / name, target / name)
    archives = _archives(root, modules, check_wheels(source / "wheels", runtime), cache)
    for name in ARCHIVES:
        shutil.copyfile(archives / name, target / name)
    for script in source.glob("*.mjs"):
        if script.name != "bundle.mjs":
            shutil.copyfile(script, target / script.name)
    files = {
        "runtime": _with_sizes(target, FETCHED),
        "packages": _with_sizes(target, ["numpy.zip", "gmm.zip"]),
        "drawing": _with_sizes(target, ["matplotlib.zip"]),
    }
    (target / "files.json").write_text(json.dumps(files), encoding="utf-8")


def _with_sizes(folder: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"name": name, "size": (folder / name).stat().st_size} for name in names]


def _archives(root: Path, modules: Path, wheels: list[Path], cache: Path) -> Path:
    """Return a folder with the archives, made anew if anything in them has changed."""
    source = root / "book" / "_lab"
    folders = [
        (root / "gmm", "gmm"),
        (root / "data", "gmm/data"),
        (source / "in_page", "in_page"),
        (root / "book" / "_ext" / "figures.py", "figures.py"),
    ]
    inputs = [
        *wheels,
        source / "bundle.py",
        source / "bundle.mjs",
        modules / "pyodide" / "package.json",
        *(path for place, _ in folders for path in _files(place)),
    ]
    digest = hashlib.sha256()
    for path in sorted(inputs):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    kept = cache / digest.hexdigest()[:16]
    if all((kept / name).exists() for name in ARCHIVES):
        return kept
    shutil.rmtree(cache, ignore_errors=True)
    made = cache / "unfinished"
    made.mkdir(parents=True)
    numpy = [path for path in wheels if path.name.startswith("numpy-")]
    others = [path for path in wheels if path not in numpy]
    _bundle(
        root,
        modules,
        [
            _archive(made / "numpy.zip", numpy, []),
            _archive(made / "gmm.zip", [], folders),
            _archive(made / "matplotlib.zip", others, []),
        ],
    )
    made.rename(kept)
    return kept


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return [path for path in place.rglob("*") if path.suffix in (".py", ".csv")]


def _archive(target: Path, wheels: list[Path], folders: list[tuple[Path, str]]) -> dict[str, Any]:
    return {
        "target": str(target.resolve()),
        "wheels": [str(path.resolve()) for path in wheels],
        "folders": [[str(path.resolve()), name] for path, name in folders],
    }


def _bundle(root: Path, modules: Path, archives: list[dict[str, Any]]) -> None:
    script = root / "book" / "_lab" / "bundle.mjs"
    job = json.dumps({"root": str(root.resolve()), "archives": archives})
    result = subprocess.run(
        [node_tools.node_program(), str(script), str(modules.resolve())],
        input=job,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise RuntimeError(f"the archives of the lab could not be made:\n{result.stderr[-2000:]}")


# ---------------------------------------------------------------------- the chapters' cells


def runs_in_a_page(notebook: NotebookNode) -> bool:
    """Return whether all that a chapter's cells import is there in the reader's page."""
    needed = notebooks.imports(notebook)
    return bool(needed) and not (needed - AVAILABLE - (set(sys.stdlib_module_names) - ABSENT))


def cells(notebook: NotebookNode) -> list[dict[str, Any]]:
    """Return a chapter's code cells in order, and for each whether the page shows its code."""
    return [
        {"source": cell.source, "shown": not _HIDDEN & set(cell.metadata.get("tags", []))}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


_HIDDEN = {"remove-cell", "remove-input", "remove_cell", "remove_input"}
_FIGURE = re.compile(r"^(?:`{3,}|:{3,})\{glue:figure\} (\S+)\n:name: (\S+)$", re.MULTILINE)


def figures(notebook: NotebookNode) -> dict[str, str]:
    """Return, for each figure that a chapter's text shows, its glued name and its identifier."""
    text = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return {name: identifier for part in text for name, identifier in _FIGURE.findall(part)}


def cells_of(executed: Path, docname: str) -> dict[str, Any] | None:
    """Return the cells and the figures of a chapter, or None if it has no cells for a page."""
    chapter = executed / f"{docname}.ipynb"
    if not chapter.exists():
        return None
    notebook = nbformat.read(chapter, as_version=4)
    if not runs_in_a_page(notebook):
        return None
    return {"cells": cells(notebook), "figures": figures(notebook)}


def write_cells(executed: Path, docnames: Iterable[str], target: Path) -> None:
    """Write the cells of each chapter that runs in a page, beside its source."""
    for docname in docnames:
        if (found := cells_of(executed, docname)) is not None:
            copy = target / f"{public_name(docname)}.cells.json"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(json.dumps(found), encoding="utf-8")
