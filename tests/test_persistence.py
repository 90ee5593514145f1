"""Files: exact, atomic, and never executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import random_mixture
from numpy.typing import NDArray

import gmm
from gmm import persistence
from gmm.families import FAMILIES
from gmm.mixture import Mixture


@pytest.mark.parametrize("suffix", ["npz", "json"])
@pytest.mark.parametrize("name", [name for name in FAMILIES if len(name) == 3])
def test_a_saved_mixture_is_the_same_to_the_last_bit(
    name: str, suffix: str, tmp_path: Path
) -> None:
    mixture = random_mixture(name, 3, 2, seed=10)
    path = tmp_path / f"mixture.{suffix}"
    mixture.save(path)
    loaded = Mixture.load(path)
    assert loaded.family == mixture.family
    for field in ("weights", "means", "stored"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(mixture, field))
    assert os.listdir(tmp_path) == [f"mixture.{suffix}"]


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mixture.npz"
    old = random_mixture("VVV", 2, 2, seed=11)
    old.save(path)

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        random_mixture("VVV", 3, 2, seed=12).save(path)
    assert os.listdir(tmp_path) == ["mixture.npz"]
    assert Mixture.load(path).n_components == 2


def test_an_interrupt_from_the_keyboard_waits_until_the_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of ``zipfile`` it would come out as an error of the file."""
    path, real = tmp_path / "mixture.npz", np.savez

    def interrupted(*args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        real(*args, **kwargs)

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        random_mixture("VVV", 3, 2, seed=12).save(path)
    assert Mixture.load(path).n_components == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_than_the_main_one_write_files_too(tmp_path: Path) -> None:
    """Python lets none of them change what an interrupt does."""
    path = tmp_path / "mixture.npz"
    thread = threading.Thread(target=random_mixture("VVV", 3, 2, seed=12).save, args=(path,))
    thread.start()
    thread.join()
    assert Mixture.load(path).n_components == 3


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_a_truncated_file_is_refused_at_every_length(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mixture.{suffix}"
    random_mixture("VVV", 2, 2, seed=13).save(path)
    content = path.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for length in range(0, len(content) - 1, 37):
        cut.write_bytes(content[:length])
        with pytest.raises(gmm.FileFormatError, match=r"cut\.\w+: expected a saved mixture"):
            Mixture.load(cut)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, weights=np.ones(1))
    with pytest.raises(gmm.FileFormatError, match="expected a saved mixture"):
        Mixture.load(foreign)
    names = ("format", "version", "family", "weights", "means", "covariances")
    write(foreign, {name: np.array("other") for name in names})
    with pytest.raises(gmm.FileFormatError, match="another format"):
        Mixture.load(foreign)
    foreign.write_text("a,b\n1,2\n")
    with pytest.raises(gmm.FileFormatError, match="expected a saved mixture"):
        Mixture.load(foreign)
    with pytest.raises(FileNotFoundError):
        Mixture.load(tmp_path / "absent.npz")


def write(path: Path, fields: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in fields.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class Trap:
    """Unpickling this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for name, content in (("a.npz", None), ("b.npz", pickle.dumps(Trap(trap)))):
        path = tmp_path / name
        if content is None:
            array = np.array([Trap(trap)], dtype=object)
            np.savez(path, format=np.array("gmm.Mixture"), version=array)
        else:
            path.write_bytes(content)
        with pytest.raises(gmm.FileFormatError):
            Mixture.load(path)
    assert not trap.exists()


def test_a_newer_file_and_one_with_bad_parameters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixture.npz"
    fields = {
        "format": np.array("gmm.Mixture"),
        "version": np.array(99),
        "family": np.array("VVV"),
        "weights": np.ones(1),
        "means": np.zeros((1, 1)),
        "covariances": -np.ones((1, 1, 1)),
    }
    write(path, fields)
    with pytest.raises(gmm.FileFormatError, match="written by a newer version"):
        Mixture.load(path)
    write(path, {**fields, "version": np.array(1)})
    with pytest.raises(gmm.FileFormatError, match="positive definite"):
        Mixture.load(path)


def test_a_field_that_claims_to_be_enormous_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mixture.npz"
    random_mixture("VVV", 2, 2, seed=13).save(path)
    monkeypatch.setattr(persistence, "MOST_BYTES", 100)
    with pytest.raises(gmm.FileFormatError, match="a field of"):
        Mixture.load(path)


def test_json_can_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "mixture.json"
    mixture = random_mixture("EEE", 2, 3, seed=1)
    mixture.save(path)
    fields = json.loads(path.read_text())
    assert fields["family"] == "EEE"
    assert fields["means"] == mixture.means.tolist()
    assert np.shape(fields["covariances"]) == (3, 3)
    for wrong in ("[]", "{}", '{"format": 3}', '{"a": 1e999}'):
        path.write_text(wrong)
        with pytest.raises(gmm.FileFormatError, match="expected a saved mixture"):
            Mixture.load(path)


# ---------------------------------------------------------------- trees


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    mixture = random_mixture("EVE", 2, 3, seed=3)
    tree = {
        "nothing": None,
        "truth": [True, False],
        "numbers": (1, 2**70, 0.1, -np.inf, np.nextafter(1.0, 2.0), np.float64(1 / 3), np.int64(3)),
        "texts": {"a": "ä", "b": []},
        "arrays": [np.arange(6).reshape(2, 3), np.zeros((0, 2)), np.array(0.1)],
        "mixture": mixture,
    }
    persistence.write_tree(path, "test", 3, tree)
    found = persistence.read_tree(path, "test", 3)
    assert os.listdir(tmp_path) == ["tree"]
    for name in ("nothing", "truth", "numbers", "texts"):
        assert found[name] == tree[name]
        assert type(found[name]) is type(tree[name])
    for array, other in zip(found["arrays"], tree["arrays"], strict=True):  # type: ignore[arg-type]  # a list
        np.testing.assert_array_equal(array, other, strict=True)
    assert found["mixture"].family == "EVE"
    np.testing.assert_array_equal(found["mixture"].stored, mixture.stored, strict=True)


def test_a_tree_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    persistence.write_tree(path, "test", 3, {})
    with pytest.raises(gmm.FileFormatError, match="expected a list of songs, got another format"):
        persistence.read_tree(path, "list of songs", 3)
    with pytest.raises(gmm.FileFormatError, match=r"newer version .* 3, this one reads up to 2"):
        persistence.read_tree(path, "test", 2)
    with pytest.raises(FileNotFoundError):
        persistence.read_tree(tmp_path / "absent", "test", 3)
    with pytest.raises(TypeError, match=r"tree: expected plain values, .* got Trap"):
        persistence.write_tree(path, "test", 3, [Trap(tmp_path)])
    assert persistence.read_tree(path, "test", 3) == {}


def saying(tree: str) -> dict[str, np.ndarray]:
    """The fields of a file whose tree is this text."""
    return {
        "format": np.array("test"),
        "version": np.array(1),
        "tree": np.frombuffer(tree.encode(), dtype=np.uint8),
    }


@pytest.mark.parametrize(
    "tree",
    [
        '{"array": 0}',
        '{"array": "0"}',
        '{"song": 1}',
        '{"array": 1, "tuple": []}',
        '{"mixture": ["VVV", null, null, null]}',
        '{"mixture": ["XYZ", 1, 2, 3]}',
        "[",
        "[" * 100_000,
    ],
)
def test_a_tree_that_makes_no_sense_is_refused(tree: str, tmp_path: Path) -> None:
    path = tmp_path / "tree"
    write(path, saying(tree))
    with pytest.raises(gmm.FileFormatError, match="expected a test, got"):
        persistence.read_tree(path, "test", 1)


def test_a_field_is_read_once_and_never_holds_objects(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    fields = saying('{"tuple": [{"array": 0}, {"array": 0}]}')
    write(path, {**fields, "array0": np.zeros(2)})
    with pytest.raises(gmm.FileFormatError, match="the field 'array0' twice"):
        persistence.read_tree(path, "test", 1)
    header = io.BytesIO()
    description = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(header, description)
    write(path, fields)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("array0.npy", header.getvalue() + pickle.dumps([Trap(tmp_path)]))
    with pytest.raises(gmm.FileFormatError, match="a field of Python objects"):
        persistence.read_tree(path, "test", 1)
    assert os.listdir(tmp_path) == ["tree"]


@pytest.mark.parametrize(
    ("weights", "means", "message"),
    [
        (np.ones(1), np.zeros((2, 3)), "arrays that do not fit together"),
        (np.array([0.5, 0.5]), np.full((2, 3), np.nan), "other things than numbers"),
        (np.array([0.5, 0.5]), np.zeros((2, 3), dtype=np.float32), "other things than numbers"),
        (np.array([0.5, 0.6]), np.zeros((2, 3)), "weights are no probabilities"),
        (np.array([1.5, -0.5]), np.zeros((2, 3)), "weights are no probabilities"),
    ],
)
def test_arrays_that_make_no_mixture_are_refused(
    weights: NDArray[np.float64], means: NDArray[Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "tree"
    wrong = Mixture.from_stored(weights, means, np.stack([np.eye(3)] * 2), "VVV")
    persistence.write_tree(path, "test", 1, wrong)
    with pytest.raises(gmm.FileFormatError, match=message):
        persistence.read_tree(path, "test", 1)
