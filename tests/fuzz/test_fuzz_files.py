"""Files that are damaged, lie about their size, or are meant to do harm."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import replaced
from hypothesis import given
from hypothesis import strategies as st

import gmm
from fuzz.data import SEEDS, assert_sound, cases, mixtures
from gmm.families import FAMILIES, stored_shape
from gmm.persistence import read_tree, write_tree

#: What reading a hostile file may take: some copies of a small file, and the zip module's buffers.
MEMORY = 3_000_000
GOOD = gmm.Mixture([0.4, 0.6], [[0.0, 1.0], [3.0, 4.0]], [np.eye(2), 2 * np.eye(2)])
X = gmm.datasets.iris().X


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all cases of this module: each writes over the files of the last."""
    return tmp_path_factory.mktemp("hostile")


def memory_of(work: Callable[[], Any]) -> tuple[Any, int]:
    """What some work returns, or the FileFormatError that it raises; and the memory it took."""
    tracemalloc.start()
    try:
        try:
            found = work()
        except gmm.FileFormatError as error:
            found = error
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_refused(path: Path, message: str = "") -> None:
    """As a mixture, without much memory."""
    found, memory = memory_of(lambda: gmm.Mixture.load(path))
    assert isinstance(found, gmm.FileFormatError), found
    assert message in str(found)
    assert memory < MEMORY + 20 * path.stat().st_size


def npy(array: Any, shape: Any = None, descr: str | None = None, *, pickled: bool = False) -> bytes:
    """The bytes of an array's file, whose header may claim another shape or type."""
    stream = io.BytesIO()
    if pickled:
        np.lib.format.write_array(stream, np.asarray(array, dtype=object), allow_pickle=True)
        return stream.getvalue()
    array = np.array(array, order="C")
    header = {"descr": descr or array.dtype.str, "fortran_order": False}
    np.lib.format.write_array_header_1_0(
        stream, {**header, "shape": array.shape if shape is None else shape}
    )
    content: bytes = stream.getvalue() + array.tobytes()
    return content


def fields(mixture: gmm.Mixture = GOOD) -> dict[str, bytes]:
    """The members of a mixture's file."""
    return {
        "format": npy(np.array("gmm.Mixture")),
        "version": npy(np.array(1)),
        "family": npy(np.array(mixture.family)),
        "weights": npy(mixture.weights),
        "means": npy(mixture.means),
        "covariances": npy(mixture.stored),
    }


def write(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def test_the_files_made_here_are_read_if_nothing_is_wrong(folder: Path) -> None:
    write(folder / "a.npz", fields())
    np.testing.assert_array_equal(gmm.Mixture.load(folder / "a.npz").means, GOOD.means)


@cases(150)
@given(mixture=mixtures(), suffix=st.sampled_from(("npz", "json")))
def test_every_mixture_comes_back_to_the_bit(
    folder: Path, mixture: gmm.Mixture, suffix: str
) -> None:
    path = folder / f"a.{suffix}"
    mixture.save(path)
    found = gmm.Mixture.load(path)
    assert found.family == mixture.family
    for name in ("means", "stored"):
        np.testing.assert_array_equal(getattr(found, name), getattr(mixture, name))
    # weights are divided by their sum again
    np.testing.assert_allclose(found.weights, mixture.weights, rtol=1e-15)


@cases(300)
@given(data=st.data(), suffix=st.sampled_from(("npz", "json", "tree")))
def test_damaged_bytes_are_refused_or_change_nothing(
    folder: Path, data: st.DataObject, suffix: str
) -> None:
    """Cut off, overwritten, with something added or left out."""
    path = folder / f"damaged.{suffix}"
    if suffix == "tree":
        write_tree(path, "test", 1, {"a": [GOOD, (1.0, None)], "b": np.arange(5.0)})
    else:
        GOOD.save(path)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    more = data.draw(st.binary(min_size=1, max_size=8))
    how = data.draw(st.sampled_from(("cut", "overwrite", "insert", "leave out")))
    if how == "cut":
        del content[at:]
    elif how == "overwrite":
        content[at : at + len(more)] = more
    elif how == "insert":
        content[at:at] = more
    else:
        del content[at : at + len(more)]
    path.write_bytes(content)
    if suffix == "tree":
        found, memory = memory_of(lambda: read_tree(path, "test", 1))
        assert isinstance(found, gmm.FileFormatError) or found["b"].tolist() == [0, 1, 2, 3, 4]
    else:
        found, memory = memory_of(lambda: gmm.Mixture.load(path))
        if not isinstance(found, gmm.FileFormatError):
            assert_sound(found)  # a digit of a JSON file may be another
            if suffix == "npz":
                np.testing.assert_array_equal(found.means, GOOD.means)
    assert memory < MEMORY


@cases(150)
@given(
    content=st.binary(max_size=200), start=st.sampled_from((b"", b"{", b"PK\x03\x04", b"\x93NUMPY"))
)
def test_any_bytes_are_refused(folder: Path, content: bytes, start: bytes) -> None:
    path = folder / "any.npz"
    path.write_bytes(start + content)
    assert_refused(path)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**500), 10**500)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(("VVV", "EII", 0.5, 1.0, 1e300)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)


@cases(400)
@given(
    data=st.data(),
    names=st.lists(
        st.sampled_from(("format", "version", "family", "weights", "means", "covariances")),
        min_size=1,
        unique=True,
    ),
)
def test_json_of_any_content_is_refused_or_a_mixture(
    folder: Path, data: st.DataObject, names: list[str]
) -> None:
    path = folder / "any.json"
    GOOD.save(path)
    content = json.loads(path.read_text())
    for name in names:
        content[name] = data.draw(JSON)
    path.write_text(json.dumps(content))
    found, memory = memory_of(lambda: gmm.Mixture.load(path))
    assert memory < MEMORY
    if not isinstance(found, gmm.FileFormatError):
        assert_sound(found)


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        '{"format": ' + "[" * 100_000,
        '{"format": "gmm.Mixture", "version": 1e999}',
        '{"format": "gmm.Mixture", "version": ' + "9" * 100_000 + "}",
        '{"format": "gmm.Mixture", "version": NaN}',
        '{"format": "gmm.Mixture", "version": null}',
        '{"format": "gmm.Mixture", "version": 1, "family": "VVV", "weights": [1], '
        '"means": [[' + "9" * 400 + ']], "covariances": [[[1]]]}',
        '{"format": "gmm.Mixture", "version": 1, "family": "VVV", "weights": [1], '
        '"means": ' + "[" * 70 + "1" + "]" * 70 + ', "covariances": [[[1]]]}',
        '{"format": "gmm.Mixture", "version": 1, "family": "VVV", "weights": [1], '
        '"means": [[Infinity]], "covariances": [[[1]]]}',
        "{\x00}",
        '{"a": "\ud800"}',
    ],
    ids=range(11),
)
def test_json_that_is_deep_or_has_huge_numbers_is_refused(text: str, folder: Path) -> None:
    path = folder / "deep.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    assert_refused(path, "deep.json: expected a saved mixture")


CLAIMS = [(10**12,), (10**6, 10**6), (2**62, 4), (-1,), (10**400,), (2, -2), (2**31, 2**31, 0, 5)]


@cases(200)
@given(
    name=st.sampled_from(("format", "version", "family", "weights", "means", "covariances")),
    shape=st.sampled_from(CLAIMS),
    descr=st.sampled_from((None, "<f8", "|V2000000000", "<U500000000", "<c16", "|b1")),
    method=st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)),
)
def test_a_header_that_claims_more_than_there_is_takes_no_memory(
    folder: Path, name: str, shape: tuple[int, ...], descr: str | None, method: int
) -> None:
    path = folder / "claim.npz"
    write(path, {**fields(), name: npy(np.zeros(3), shape, descr)}, method)
    assert_refused(path, "claim.npz: expected a saved mixture")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_unpacked(method: int, folder: Path) -> None:
    """Two hundred million zeros, in a few hundred kilobytes at most."""
    path = folder / "bomb.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in fields().items():
            if name != "means":
                archive.writestr(f"{name}.npy", content)
        with archive.open("means.npy", "w") as member:
            member.write(npy(np.zeros(0), (25_000_000, 8)))
            for _ in range(16):
                member.write(bytes(12_500_000))
    assert path.stat().st_size < 400_000
    found, memory = memory_of(lambda: gmm.Mixture.load(path))
    assert "compressed" in str(found)
    assert memory < MEMORY


def test_a_member_that_lies_about_its_size_is_not_unpacked(folder: Path) -> None:
    """The directory says that a compressed member is stored, or shorter than it is."""
    path = folder / "liar.npz"
    write(path, {**fields(), "means": npy(np.zeros((10_000, 2)))}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    for marker, method in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        at = content.find(marker)
        while at >= 0:
            struct.pack_into("<H", content, at + method, 0)
            at = content.find(marker, at + 4)
    path.write_bytes(content)
    assert_refused(path)


def test_a_member_that_is_named_many_times_is_read_once(folder: Path) -> None:
    """A small file could otherwise become as large a tree as one likes."""
    path = folder / "many.tree"
    tree = json.dumps([{"array": 0}] * 1000)
    members = {
        "format": npy(np.array("test")),
        "version": npy(np.array(1)),
        "tree": npy(np.frombuffer(tree.encode(), dtype=np.uint8)),
        "array0": npy(np.zeros(100_000)),
    }
    write(path, members)
    found, memory = memory_of(lambda: read_tree(path, "test", 1))
    assert "twice" in str(found)
    assert memory < MEMORY + 3 * 800_000


def test_families_of_few_numbers_take_no_more_memory_than_these(folder: Path) -> None:
    """A spherical covariance is one number: matrices of all components would be gigabytes."""
    k, d = 200, 1000
    path = folder / "spherical.npz"
    gmm.Mixture(np.full(k, 1 / k), np.zeros((k, d)), np.ones(k), "EII").save(path)
    found, memory = memory_of(lambda: gmm.Mixture.load(path))
    assert found.n_features == d
    assert memory < 12 * path.stat().st_size


class Trap:
    """Unpickling this makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize(
    "name", ["format", "version", "family", "weights", "means", "covariances", "tree", "array0"]
)
def test_pickles_are_never_executed(name: str, folder: Path) -> None:
    path, trap = folder / "pickle.npz", folder / "trap"
    write(path, {**fields(), name: npy([Trap(trap)], pickled=True)})
    if name in fields():
        assert_refused(path)
    members = {
        "format": npy(np.array("test")),
        "version": npy(np.array(1)),
        "tree": npy(np.frombuffer(b'{"array": 0}', dtype=np.uint8)),
        "array0": npy(np.zeros(2)),
    }
    write(path, {**members, name: npy([Trap(trap)], pickled=True)})
    if name in members:
        with pytest.raises(gmm.FileFormatError):
            read_tree(path, "test", 1)
    for content in (pickle.dumps(Trap(trap)), npy([Trap(trap)], pickled=True)):
        path.write_bytes(content)
        assert_refused(path)
        with pytest.raises(gmm.FileFormatError):
            gmm.fit(X, 2, checkpoint=path)
        rows = path.with_suffix(".npy")
        rows.write_bytes(content)
        with pytest.raises(gmm.FileFormatError, match="X: "):
            gmm.fit(rows, 2)
    assert not trap.exists()


TYPES = ("<f4", "<f2", ">f8", "<i8", "|b1", "<c16", "|S8", "<U2", "<M8[s]", "<m8[D]", "|V8", "|u1")


@cases(150)
@given(
    name=st.sampled_from(("version", "family", "weights", "means", "covariances")),
    descr=st.sampled_from(TYPES),
    value=st.sampled_from((0.0, 1.0, np.nan, np.inf, -1.0, 1e308, 5e-324)),
)
def test_other_types_and_numbers_are_refused_or_make_a_sound_mixture(
    folder: Path, name: str, descr: str, value: float
) -> None:
    path = folder / "types.npz"
    wanted: Any = {"version": 1, "family": "VVV"}.get(name)
    if wanted is None:
        wanted = {"weights": GOOD.weights, "means": GOOD.means, "covariances": GOOD.stored}[name]
        wanted = np.full(np.shape(wanted), value)
    with np.errstate(all="ignore"):
        try:
            changed = np.asarray(wanted).astype(descr)
        except (TypeError, ValueError):
            changed = np.zeros(np.shape(wanted), descr)
    write(path, {**fields(), name: npy(changed)})
    found, memory = memory_of(lambda: gmm.Mixture.load(path))
    assert memory < MEMORY
    if not isinstance(found, gmm.FileFormatError):
        assert_sound(found)


# ---------------------------------------------------------------- checkpoints


#: A fit that takes some iterations.
FIT: dict[str, Any] = {"start": "random", "random_state": 1, "tol": 0.0, "max_iter": 12}


def stopped(progress: gmm.Progress) -> bool:
    return progress.iteration == 5


@pytest.fixture(scope="module")
def trees(folder: Path) -> dict[str, Any]:
    """What the checkpoints of two fits hold, that of plain numbers and that of matrices."""
    found = {}
    for family in ("VVV", "VEV"):
        path = folder / f"{family}.checkpoint"
        gmm.fit(X, 2, family, **FIT, checkpoint=path, callback=stopped)
        found[family] = read_tree(path, "checkpoint of gmm.fit", 1)
    return found


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a tree of dictionaries and lists."""
    found = [path] if path else []
    if isinstance(tree, dict):
        for key, value in tree.items():
            found += places(value, (*path, key))
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            found += places(value, (*path, i))
    return found


@cases(400)
@given(
    data=st.data(),
    family=st.sampled_from(("VVV", "VEV")),
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from((0, -1, 2**70, np.nan, np.inf, "text", [], {}, (), [[1.0, 2.0]], GOOD)),
        st.sampled_from([np.zeros(0), np.full(3, np.nan), np.array(["a"]), np.arange(3) * 1j]),
    ),
)
def test_a_checkpoint_of_any_content_is_refused_or_goes_on(
    folder: Path, data: st.DataObject, family: str, value: Any, trees: dict[str, Any]
) -> None:
    """With the right name, version and subject, and anything else wrong: a forgery.

    What it says of the past (the trace) nobody can check. The mixture must be one.
    """
    tree = trees[family]
    at = data.draw(st.sampled_from([p for p in places(tree) if p[0] != "subject"]))
    path = folder / "forged.checkpoint"
    write_tree(path, "checkpoint of gmm.fit", 1, replaced(tree, at, value))
    try:
        fit = gmm.fit(X, 2, family, **FIT, checkpoint=path)
    except (gmm.FileFormatError, gmm.SingularCovarianceError):
        return
    assert_sound(fit.mixture)


# ---------------------------------------------------------------- rows in files


@cases(150)
@given(data=st.data(), seed=SEEDS)
def test_damaged_files_of_rows_are_refused_or_read(
    folder: Path, data: st.DataObject, seed: int
) -> None:
    path = folder / "rows.npy"
    rows = np.random.default_rng(seed).standard_normal((8, 2))
    content = bytearray(npy(rows))
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        more = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(more)] = more
    path.write_bytes(content)
    before = path.read_bytes()

    def fitted() -> Any:
        return gmm.fit(path, 1, "VII", ridge=1e-3, max_iter=1)

    try:
        found, memory = memory_of(fitted)
    except (ValueError, TypeError) as error:
        if not str(error).startswith(("X", "ridge: ")):
            raise
        return
    assert memory < MEMORY
    assert isinstance(found, gmm.FileFormatError | gmm.Fit)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        npy(np.zeros(3), (10**12, 2)),
        npy(np.zeros(4), (2, 10**15)),
        b"PK\x03\x04",
    ],
    ids=["empty", "cut off", "long", "wide", "a zip file"],
)
def test_files_that_hold_no_rows_are_refused(content: bytes, folder: Path) -> None:
    path = folder / "none.npy"
    path.write_bytes(content)
    found, memory = memory_of(lambda: gmm.fit(path, 2))
    assert isinstance(found, gmm.FileFormatError)
    assert str(found).startswith("X: expected a file of an array")
    assert memory < MEMORY


def test_an_archive_with_the_name_of_an_array_is_refused(folder: Path) -> None:
    path = folder / "archive.npy"
    with path.open("wb") as file:
        np.savez(file, X=X)
    with pytest.raises(gmm.FileFormatError, match="X: expected a file of an array"):
        gmm.fit(path, 2)


# ---------------------------------------------------------------- a limit that cannot be passed

LIMITED = """
import resource, sys
import numpy as np
import gmm
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
most = used + 150 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for path in sys.argv[1:]:
    try:
        gmm.fit(path, 2) if path.endswith(".npy") else gmm.Mixture.load(path)
    except gmm.FileFormatError as error:
        assert "MemoryError" not in repr(error) and "allocate" not in str(error), error
        print("refused")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's account of memory")
def test_hostile_files_are_refused_under_a_limit_of_the_system(folder: Path) -> None:
    """All memory counts here, also what tracemalloc does not see."""
    assert resource.RLIMIT_AS
    paths = [folder / f"limit{i}.npz" for i in range(4)]
    write(paths[0], {**fields(), "means": npy(np.zeros(3), (10**9, 2))})
    write(paths[1], {**fields(), "weights": npy(np.zeros(3), (10**12,), "|V1000")})
    with zipfile.ZipFile(paths[2], "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in fields().items():
            if name != "covariances":
                archive.writestr(f"{name}.npy", content)
        with archive.open("covariances.npy", "w") as member:
            member.write(npy(np.zeros(0), (10**8, 4)))
            for _ in range(40):
                member.write(bytes(20_000_000))
    paths[3] = folder / "limit.npy"
    paths[3].write_bytes(npy(np.zeros(3), (10**12, 2)))
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["refused"] * 4


@pytest.mark.parametrize("name", [name for name in FAMILIES if len(name) == 3])
def test_every_family_refuses_arrays_that_are_not_numbers(name: str, folder: Path) -> None:
    path = folder / "nan.npz"
    shape = stored_shape(FAMILIES[name], 2, 2)
    for value in (np.nan, np.inf, -1.0, 0.0):
        write(
            path,
            {**fields(), "family": npy(np.array(name)), "covariances": npy(np.full(shape, value))},
        )
        assert_refused(path)
