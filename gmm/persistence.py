"""Files: ``.npz`` and JSON, versioned, written atomically, read without executing anything.

A file of a mixture holds the format's name and version, the family, the weights, the means, and the
covariances in the shape in which the family is stored. Numbers survive to the last bit in both
formats. Other files of ours (:mod:`gmm.checkpoint`) hold a tree of values: JSON for its shape and
its single numbers, beside the arrays in it.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gmm.checks import NO_ARRAY, FileFormatError, FloatArray
from gmm.families import FAMILIES, stored_shape
from gmm.mixture import Mixture

__all__ = ["load", "read_tree", "save", "write_tree", "written_atomically"]

FILE_FORMAT = "gmm.Mixture"
FILE_VERSION = 1
_FIELDS = ("format", "version", "family", "weights", "means", "covariances")
#: No array in a file may be larger.
MOST_BYTES = 2**31
#: What reading a file that is not ours, or is damaged, may raise.
UNREADABLE = (
    *NO_ARRAY,
    OSError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def written_atomically(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of ``path`` only when all has been written."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a loss of power could leave the new name without content
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Hold interrupts from the keyboard back while a file is written; they follow at once.

    One that came in the midst of ``zipfile``'s work would come out of it as an error of the file.
    Other threads than the main one are never interrupted.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is None  # not Python's to change
    ):
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            signal.raise_signal(signal.SIGINT)


def save(mixture: Mixture, path: str | os.PathLike[str]) -> None:
    """Write a mixture to a file: JSON if its name ends in ``.json``, ``.npz`` otherwise.

    Parameters
    ----------
    mixture : Mixture
    path : path
        An existing file is replaced; a reader sees all of the new one, or the old one. The arrays
        of an ``.npz`` file stand in it uncompressed, so that a small file cannot claim much memory
        when it is read; :func:`load` refuses one that was compressed since.
    """
    fields: dict[str, Any] = {
        "format": FILE_FORMAT,
        "version": FILE_VERSION,
        "family": mixture.family,
        "weights": mixture.weights,
        "means": mixture.means,
        "covariances": mixture.stored,
    }
    with interrupts_wait(), written_atomically(path) as file:
        if Path(path).suffix == ".json":
            text = json.dumps(fields, default=np.ndarray.tolist, indent=1, allow_nan=False)
            file.write(text.encode())
        else:
            arrays: dict[str, Any] = {name: np.array(value) for name, value in fields.items()}
            np.savez(file, **arrays)


def load(path: str | os.PathLike[str]) -> Mixture:
    """Read a mixture that :func:`save` wrote, in either format. Nothing in it is executed.

    Parameters
    ----------
    path : path

    Raises
    ------
    FileFormatError
        If the file is not such a file, is cut short, or comes from a newer version.
    FileNotFoundError
        If there is no such file.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(1) == b"{"
        fields = _from_json(path) if text else _from_npz(path)
        if str(fields["format"]) != FILE_FORMAT:
            raise ValueError("another format")
        version = int(fields["version"])
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise FileFormatError(f"{path}: expected a saved mixture, got {error}") from None
    if version > FILE_VERSION:
        raise FileFormatError(
            f"{path}: written by a newer version of gmm (file version {version}, "
            f"this one reads up to {FILE_VERSION})"
        )
    try:
        return Mixture(
            fields["weights"], fields["means"], fields["covariances"], str(fields["family"])
        )
    except UNREADABLE as error:
        raise FileFormatError(f"{path}: expected a saved mixture, got {error}") from None


def _from_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        fields = json.load(file)
    return {name: fields[name] for name in _FIELDS}


def _from_npz(path: str | os.PathLike[str]) -> dict[str, Any]:
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        members = _Members(archive)
        return {name: members.array(name) for name in _FIELDS}


# ---------------------------------------------------------------- trees of values


def write_tree(path: str | os.PathLike[str], file_format: str, version: int, tree: object) -> None:
    """Write a tree of plain values, arrays and mixtures to an ``.npz`` file, atomically.

    Parameters
    ----------
    path : path
    file_format : str
        What the file is.
    version : int
    tree : object
        None, truth values, numbers, texts, arrays and mixtures, and lists, tuples and dictionaries
        (with texts for keys) of these.
    """
    arrays: list[NDArray[Any]] = []
    text = json.dumps(_flattened(tree, arrays))
    fields: dict[str, Any] = {
        "format": np.array(file_format),
        "version": np.array(version),
        "tree": np.frombuffer(text.encode(), dtype=np.uint8),
        **{f"array{i}": array for i, array in enumerate(arrays)},
    }
    with interrupts_wait(), written_atomically(path) as file:
        np.savez(file, **fields)


def read_tree(path: str | os.PathLike[str], file_format: str, version: int) -> Any:
    """Read what :func:`write_tree` wrote. Nothing in it is executed.

    Parameters
    ----------
    path : path
    file_format : str
        What the file is expected to be.
    version : int
        The newest version that can be read.

    Raises
    ------
    FileFormatError
        If the file is not of this format, is damaged, or comes from a newer version.
    FileNotFoundError
        If there is no such file.
    """
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = _Members(archive)
            if str(members.array("format")) != file_format:
                raise ValueError("another format")
            found = int(members.array("version"))
            if found <= version:
                tree = json.loads(members.array("tree").tobytes())
                return _restored(tree, members)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise FileFormatError(f"{path}: expected a {file_format}, got {error}") from None
    raise FileFormatError(
        f"{path}: written by a newer version of gmm (file version {found}, "
        f"this one reads up to {version})"
    )


def _flattened(value: object, arrays: list[NDArray[Any]]) -> object:
    """What JSON can say of a value; arrays are put aside."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_flattened(item, arrays) for item in value]
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return _flattened(value.item(), arrays)
    if isinstance(value, tuple):
        return {"tuple": [_flattened(item, arrays) for item in value]}
    if isinstance(value, dict):
        return {"dict": {name: _flattened(item, arrays) for name, item in value.items()}}
    if isinstance(value, Mixture):
        parts = (value.family, value.weights, value.means, value.stored)
        return {"mixture": [_flattened(part, arrays) for part in parts]}
    raise TypeError(f"tree: expected plain values, arrays and mixtures, got {type(value).__name__}")


def _restored(value: Any, members: _Members) -> Any:
    """The value of which JSON says this."""
    if isinstance(value, list):
        return [_restored(item, members) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return members.array(f"array{content:d}")
    if kind == "tuple":
        return tuple(_restored(item, members) for item in content)
    if kind == "dict":
        return {name: _restored(item, members) for name, item in content.items()}
    if kind == "mixture":
        family, *parts = content
        return _mixture(str(family), *(_restored(part, members) for part in parts))
    raise ValueError(f"a value of an unknown kind, {kind!r}")


def _mixture(family: str, weights: FloatArray, means: FloatArray, stored: FloatArray) -> Mixture:
    """A mixture from its arrays, to the bit."""
    k, d = means.shape
    shape = stored_shape(FAMILIES[family], k, d)
    if weights.shape != (k,) or stored.shape != shape:
        raise ValueError("a mixture of arrays that do not fit together")
    for array in (weights, means, stored):
        if array.dtype != np.float64 or not np.isfinite(array).all():
            raise ValueError("a mixture of other things than numbers")
    if not (weights >= 0).all() or abs(weights.sum() - 1.0) > 1e-6:
        raise ValueError("a mixture whose weights are no probabilities")
    return Mixture.from_stored(weights, means, stored, family)


class _Members:
    """The arrays of an archive, each of which can be read once.

    Our files are not compressed, so that what they hold is no larger than they are. What is
    compressed, is read twice, or claims to be larger than its part of the file is refused before
    any memory is taken.

    Parameters
    ----------
    archive : ZipFile
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.read: set[str] = set()

    def array(self, name: str) -> NDArray[Any]:
        """The array of this name."""
        member = self.archive.getinfo(f"{name}.npy")
        if name in self.read:
            raise ValueError(f"the field {name!r} twice")
        self.read.add(name)
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"a field that is compressed, {name!r}")
        if member.file_size > MOST_BYTES:
            raise ValueError(f"a field of {member.file_size} bytes")
        with self.archive.open(member) as stream:
            content = stream.read(member.file_size)
        return _of_npy(content)


def _of_npy(content: bytes) -> NDArray[Any]:
    """The array of a ``.npy`` file, whose header may not claim more than there is."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("a field of Python objects")
    rest = len(content) - stream.tell()
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != rest:
        raise ValueError(f"a field of {rest} bytes with the shape {shape}")
    array = np.frombuffer(content, dtype, prod(shape), stream.tell())
    return array.reshape(shape, order="F" if fortran else "C").copy("A")
