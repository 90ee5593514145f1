"""The chapters' cells: what their results depend on, and how they are run.

Results are kept from one build to the next. They depend on more than the chapter, so the place
where they are kept bears the fingerprint of the package, the data, the pinned requirements and the
version of Python: after a change in any of these all chapters run again. Chapters without results
are run side by side before Sphinx reads them one by one. Their figures bear no date, so that the
same cells draw the same files, and what a cell prints is one text.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from myst_nb.core.read import create_nb_reader
from myst_nb.sphinx_ import SphinxEnvType
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

log = logging.getLogger(__name__)

DATE = "SOURCE_DATE_EPOCH"  # what Matplotlib, among others, takes for the present if it is set
CACHES_KEPT = 3  # so that going back to the previous state of the package costs nothing


def inputs(root: Path) -> Iterator[Path]:
    """Yield the files, in order, which the result of a cell may depend on."""
    files = [*(root / "gmm").rglob("*"), *(root / "data").rglob("*"), root / "requirements.txt"]
    files += (root / "book").glob("*/*.csv")  # tables that take too long to make in a build
    for path in sorted(files):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def fingerprint(root: Path) -> str:
    """Return a hash of all that the results depend on, the chapters aside."""
    digest = hashlib.sha256(sys.version.encode())
    for path in inputs(root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def prune(caches: Path, current: str) -> None:
    """Delete all but the newest caches of other fingerprints."""
    others = [path for path in caches.glob("*") if path.name != current and path.is_dir()]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[CACHES_KEPT - 1 :]:
        shutil.rmtree(path)


def prepare(app: Sphinx, config: Config) -> None:
    """Choose the cache, and let the cells import the package of this very checkout."""
    root = Path(app.srcdir)
    mark = fingerprint(root)
    caches = Path(app.doctreedir).parent / ".jupyter_cache"
    prune(caches, mark)
    config.execution_fingerprint = mark
    config.nb_execution_cache_path = str(caches / mark)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(root), *filter(None, others)]))


def stale_notebooks(
    env: SphinxEnvType, docnames: Iterable[str]
) -> Iterator[tuple[Path, nbformat.NotebookNode]]:
    """Yield the chapters with cells whose results are not in the cache."""
    cache = get_cache(env.mystnb_config.execution_cache_path)
    for docname in docnames:
        path = Path(env.doc2path(docname))
        text = path.read_text(encoding="utf-8")
        reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)
        if reader is None:
            continue
        notebook = reader.read(text)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            yield path, notebook


def join_streams(notebook: nbformat.NotebookNode) -> None:
    """Join what a cell prints: in how many pieces it comes depends on the moment."""
    for cell in notebook.cells:
        outputs: list[nbformat.NotebookNode] = []
        for output in cell.get("outputs", []):
            before = outputs[-1] if outputs else None
            if before and output.get("name") and output["name"] == before.get("name"):
                before["text"] += output["text"]
            else:
                outputs.append(output)
        if outputs:
            cell["outputs"] = outputs


@contextmanager
def no_date() -> Iterator[None]:
    """Let the kernels that start meanwhile take the beginning of 1970 for the present."""
    given = os.environ.get(DATE)
    os.environ[DATE] = "0"
    try:
        yield
    finally:
        del os.environ[DATE]
        if given is not None:
            os.environ[DATE] = given


def run_stale(app: Sphinx, env: SphinxEnvType, docnames: list[str]) -> None:
    """Run the stale chapters side by side, and keep the results of those that succeed.

    The others are run again when Sphinx reads them; that reports the error where it belongs.
    """
    stale = list(stale_notebooks(env, docnames))
    if not stale:
        return
    workers = min(len(stale), os.cpu_count() or 1)
    log.info("running %d chapters, %d at a time ...", len(stale), workers)
    cache = get_cache(env.mystnb_config.execution_cache_path)

    def run(item: tuple[Path, nbformat.NotebookNode]) -> ExecutionResult:
        path, notebook = item
        timeout = env.mystnb_config.execution_timeout
        return single_nb_execution(
            notebook, cwd=str(path.parent), timeout=timeout, allow_errors=False
        )

    with no_date(), ThreadPoolExecutor(workers) as pool:
        for (path, _), result in zip(stale, pool.map(run, stale), strict=True):
            if result.err is None:
                join_streams(result.nb)
                bundle = CacheBundleIn(
                    result.nb, str(path), data={"execution_seconds": result.time}
                )
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
                log.info("%s: %.1f s", path.relative_to(app.srcdir), result.time)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to the build; as a setting, a new fingerprint makes Sphinx read all chapters."""
    app.add_config_value("execution_fingerprint", "", "env", (str,))
    app.connect("config-inited", prepare, priority=100)
    app.connect("env-before-read-docs", run_stale)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
