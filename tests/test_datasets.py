"""The data: what is shipped is what the sources say, byte for byte."""

from __future__ import annotations

import hashlib
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

from gmm import datasets
from gmm.datasets import Dataset, data_file

FOLDER = Path(__file__).parent.parent / "data"
LOADERS = [getattr(datasets, name) for name in datasets.__all__ if name != "Dataset"]


@pytest.mark.parametrize("loader", LOADERS)
def test_every_set_loads_and_names_its_columns_and_source(loader: object) -> None:
    assert callable(loader)
    data = loader()
    assert isinstance(data, Dataset)
    assert data.X.ndim == 2
    assert len(data.columns) == data.X.shape[1]
    assert np.isfinite(data.X).all()
    assert len(data.source) > 10
    assert not data.X.flags.writeable
    if data.labels is not None:
        assert data.labels.shape == data.X.shape[:1]


def test_sizes_and_known_sums() -> None:
    """Old Faithful's means are in R's own summary: 3.487783 and 70.89706."""
    np.testing.assert_allclose(
        datasets.old_faithful().X.mean(axis=0), [3.487783, 70.89706], atol=5e-6
    )
    assert datasets.old_faithful().X.shape == (272, 2)
    assert datasets.galaxies().X.shape == (82, 1)
    assert datasets.acidity().X.shape == (155, 1)
    assert datasets.hastie().X.shape == (20, 1)


def test_iris_is_fishers() -> None:
    """scikit-learn's copy was corrected to agree with Fisher's paper."""
    peer = load_iris()
    data = datasets.iris()
    np.testing.assert_array_equal(data.X, peer.data)
    np.testing.assert_array_equal(data.labels, peer.target)
    assert data.label_names == tuple(peer.target_names)


def test_the_misprinted_velocity() -> None:
    a, b = datasets.galaxies().X[:, 0], datasets.galaxies(corrected=True).X[:, 0]
    assert (a[77], b[77]) == (26.69, 26.96)
    assert (a != b).sum() == 1


def test_the_three_components_are_unequal_in_name_only() -> None:
    data = datasets.three_components()
    assert data.start is not None
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [200, 200, 200]
    assert data.start.shape == (3, 2)


def test_the_corners_have_500_points_each() -> None:
    data = datasets.cube_corners()
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [500] * 7
    for k in range(7):
        np.testing.assert_allclose(np.abs(data.X[data.labels == k].mean(axis=0)), 3, atol=0.2)


def test_generated_files_come_from_the_script(tmp_path: Path) -> None:
    runpy.run_path(str(FOLDER / "generate.py"))["main"](tmp_path)
    made = sorted(p.name for p in tmp_path.iterdir())
    assert len(made) == 5
    for name in made:
        fresh = np.loadtxt(tmp_path / name, delimiter=",", skiprows=1)
        stored = np.loadtxt(FOLDER / name, delimiter=",", skiprows=1)
        # a matrix decomposition of another library may differ in the last digits
        np.testing.assert_allclose(fresh, stored, rtol=1e-9, atol=1e-12)


def test_the_readme_has_the_checksum_of_every_file() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    noted = dict(re.findall(r"`(\w+\.csv)`.*?`([0-9a-f]{64})`", readme))
    for path in FOLDER.glob("*.csv"):
        assert noted.pop(path.name) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not noted


def test_files_are_found_in_a_checkout() -> None:
    assert data_file("hastie.csv").exists()
