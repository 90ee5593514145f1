"""Files of mixtures: ``.npz`` and JSON, versioned, written atomically, read without executing.

A file holds the format's name and version, the family, the weights, the means, and the covariances
in the shape in which the family is stored. Numbers survive to the last bit in both formats.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gmm.checks import FileFormatError
from gmm.mixture import Mixture

__all__ = ["load", "save", "written_atomically"]

FILE_FORMAT = "gmm.Mixture"
FILE_VERSION = 1
_FIELDS = ("format", "version", "family", "weights", "means", "covariances")
#: No array in a file may claim to be larger: a hostile header must not make us allocate.
MOST_BYTES = 2**31


@contextmanager
def written_atomically(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of ``path`` only when all has been written."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def save(mixture: Mixture, path: str | os.PathLike[str]) -> None:
    """Write a mixture to a file: JSON if its name ends in ``.json``, ``.npz`` otherwise.

    Parameters
    ----------
    mixture : Mixture
    path : path
        An existing file is replaced; a reader sees all of the new one, or the old one.
    """
    fields: dict[str, Any] = {
        "format": FILE_FORMAT,
        "version": FILE_VERSION,
        "family": mixture.family,
        "weights": mixture.weights,
        "means": mixture.means,
        "covariances": mixture.stored,
    }
    with written_atomically(path) as file:
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
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
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
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: expected a saved mixture, got {error}") from None


def _from_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        fields = json.load(file)
    return {name: fields[name] for name in _FIELDS}


def _from_npz(path: str | os.PathLike[str]) -> dict[str, Any]:
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        return {name: _array(archive, name) for name in _FIELDS}


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    member = f"{name}.npy"
    if archive.getinfo(member).file_size > MOST_BYTES:
        raise ValueError(f"a field of {archive.getinfo(member).file_size} bytes")
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array
