"""The package as a whole: what it imports, what it offers."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gmm


def test_importing_and_fitting_need_nothing_but_numpy() -> None:
    """In a fresh interpreter: the modules from outside the standard library."""
    code = (
        "import sys; before = set(sys.modules); import gmm;"
        "gmm.fit(gmm.datasets.hastie().X, 2, random_state=0);"
        "gmm.GaussianMixture(2, random_state=0).fit(gmm.datasets.iris().X);"
        "names = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(n for n in names if n not in sys.stdlib_module_names))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name for name in out.stdout.split() if "cython" not in name}  # NumPy's own runtime
    assert names == {"gmm", "numpy"}


def test_every_public_name_is_there() -> None:
    for name in gmm.__all__:
        assert getattr(gmm, name) is not None
        assert name in dir(gmm)
    with pytest.raises(AttributeError, match="module 'gmm' has no attribute 'absent'"):
        _ = gmm.absent


def test_the_version_is_that_of_the_project() -> None:
    project = Path(__file__).parent.parent / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == gmm.__version__
