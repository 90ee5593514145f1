"""Checkpoints: a fit that was cut off goes on, and ends in the same bits.

The file of a checkpoint holds all on which the rest of a fit depends: the parameters in the form in
which the steps take them, the trace, the stopping rule, what an acceleration has learnt, the seeds
of all starts, the runs that are over and the best of them. It also holds what the fit is of: every
option, and a digest of the rows and their weights. A call that differs in any of these is refused,
since it would not have come to where the file is.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce, singledispatch
from operator import add
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from gmm.checks import FileFormatError, FloatArray, as_count, shown
from gmm.mixture import Mixture
from gmm.persistence import UNREADABLE, read_tree, write_tree
from gmm.prior import Prior
from gmm.rows import Source

__all__ = [
    "Checkpoint",
    "Digest",
    "checked_path",
    "digest_of",
    "inner_state",
    "set_inner_state",
    "told",
]

LOGGER = logging.getLogger(__name__)

FILE_FORMAT = "checkpoint of gmm.fit"
FILE_VERSION = 1
#: Seconds between two writes, if no number of iterations is given.
SECONDS = 60.0
#: What begins the description of an argument that is too long to be shown.
DIGEST = "sha256 "

#: A tree of values, as :func:`gmm.persistence.write_tree` takes them.
Tree = dict[str, Any]


# ---------------------------------------------------------------- the file


class Checkpoint:
    """The file of a fit that may be cut off.

    Parameters
    ----------
    path : path
        It need not exist, but its directory must.
    every : int or None
        Iterations between two writes; by default a minute lies between them.
    subject : dict
        What the fit is of: :func:`told` of each argument, by its name.

    Attributes
    ----------
    found : dict or None
        What the file holds, if there is one.

    Raises
    ------
    ValueError
        If the file is that of another fit.
    FileFormatError
        If it is no checkpoint, is damaged, or comes from a newer version.

    Notes
    -----
    As a context manager it writes what it was told last, if an error or an interrupt passes
    through.
    """

    def __init__(self, path: str | os.PathLike[str], every: int | None, subject: Tree) -> None:
        self.path = Path(path)
        self.every = every
        self.subject = subject
        self.found = self._read()
        self.latest: tuple[Tree, Callable[[], Tree] | None] | None = None
        self.notes = 0
        self.written = time.monotonic()

    def _read(self) -> Tree | None:
        try:
            tree = read_tree(self.path, FILE_FORMAT, FILE_VERSION)
        except FileNotFoundError:
            return None
        if not (isinstance(tree, dict) and {"subject", "contents"} <= set(tree)):
            raise self.damaged("no fit")
        there = tree["subject"]
        if not isinstance(there, dict):
            raise self.damaged("a fit of nothing")
        others = _differences(there, self.subject)
        if others:
            raise ValueError(
                f"checkpoint: expected that of this fit, got {self.path} with {', '.join(others)}; "
                "give the same arguments to go on with that fit, or another path"
            )
        found: Tree = tree["contents"]
        return found

    def damaged(self, what: object) -> FileFormatError:
        """The error of a file that holds something else than a fit writes."""
        return FileFormatError(f"{self.path}: expected a {FILE_FORMAT}, got {what}")

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """What goes wrong while a fit goes to where the file says is the fault of the file."""
        try:
            yield
        except UNREADABLE as error:
            raise self.damaged(f"{type(error).__name__}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and self.latest is not None:
            self.write()

    def begin(self, starts: Tree, course: Tree | None = None) -> None:
        """Take note that a run begins, after those that are over.

        Parameters
        ----------
        starts : dict
            The state of these.
        course : dict, optional
            That of the run itself, if it was cut off before.
        """
        self.latest = starts, None if course is None else lambda: course
        if not self.path.exists():  # the seeds are worth keeping, and a fault shows at once
            self.write()

    def note(self, course: Callable[[], Tree]) -> None:
        """Take note of where the run is, and write it if it is time to.

        Parameters
        ----------
        course : callable
            Gives the state of the run as it is now, whenever it is called.
        """
        assert self.latest is not None
        self.latest = self.latest[0], course
        self.notes += 1
        if self._is_time():
            self.write()

    def _is_time(self) -> bool:
        if self.every is None:
            return time.monotonic() - self.written >= SECONDS
        return self.notes >= self.every

    def write(self) -> None:
        """Write what was noted last."""
        assert self.latest is not None
        starts, course = self.latest
        contents = {**starts, "course": None if course is None else course()}
        tree = {"subject": self.subject, "contents": contents}
        write_tree(self.path, FILE_FORMAT, FILE_VERSION, tree)
        self.notes = 0
        self.written = time.monotonic()
        LOGGER.debug("checkpoint written to %s", self.path)

    def remove(self) -> None:
        """Delete the file: the fit is over."""
        self.latest = None
        self.path.unlink(missing_ok=True)


def checked_numbers(values: object, name: str, size: int | None = None) -> FloatArray:
    """A vector of numbers of a checkpoint, at least one; of the given size, if there is one."""
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype.kind not in "if":
        raise ValueError(f"{name} that are no numbers")
    if len(values) != (max(1, len(values)) if size is None else size):
        raise ValueError(f"{name} of {len(values)} numbers")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} that are not finite")
    return values


def checked_mixture(value: object, family: str, n_components: int, n_features: int) -> Mixture:
    """A mixture of a checkpoint, of the family and sizes of the fit."""
    if not isinstance(value, Mixture):
        raise ValueError("no mixture")
    if (value.family, *value.means.shape) != (family, n_components, n_features):
        raise ValueError("a mixture of another kind")
    return value


def checked_kept(value: Any, family: str, n_components: int, n_features: int) -> dict[int, Mixture]:
    """The mixtures that the trace keeps, by their iterations."""
    numbers, mixtures = value
    kept = dict(zip(numbers, mixtures, strict=True))
    if not all(type(number) is int for number in kept):
        raise ValueError("iterations that are no numbers")
    for mixture in kept.values():
        checked_mixture(mixture, family, n_components, n_features)
    return kept


def checked_path(
    checkpoint: str | os.PathLike[str] | None, every: int | None
) -> tuple[Path | None, int | None]:
    """The path and the number of iterations that a user gives, if they make sense."""
    if checkpoint is None:
        if every is not None:
            raise ValueError("checkpoint_every: expected None without a checkpoint, got a number")
        return None, None
    if not isinstance(checkpoint, str | os.PathLike):
        raise TypeError(f"checkpoint: expected a path, got {shown(checkpoint)}")
    path = Path(checkpoint)
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"checkpoint: expected a file in a directory that exists, got {path}")
    return path, None if every is None else as_count(every, "checkpoint_every")


# ---------------------------------------------------------------- what a fit is of


def told(value: object) -> object:
    """What a checkpoint says of an argument: itself if it is short, otherwise a digest.

    Examples
    --------
    >>> told(1e-8), told("k-means"), told([[1.0, 2.0]])[:6]
    (1e-08, 'k-means', 'sha256')
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mixture):
        return told_all(value.family, value.weights, value.means, value.stored)
    if isinstance(value, Prior):
        return told_all(
            value.mean,
            value.scale,
            value.mean_precision,
            value.degrees_of_freedom,
            value.concentration,
        )
    return told_all(np.asarray(value))


def told_all(*values: Any) -> str:
    """A digest of texts, numbers and arrays."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, str):
            digest.update(value.encode())
        else:
            array = np.asarray(value, dtype=np.float64)
            digest.update(str(array.shape).encode())
            digest.update(array.tobytes())
    return DIGEST + digest.hexdigest()


def _differences(there: Tree, here: Tree) -> list[str]:
    """What the arguments of two fits differ in, for a message."""
    others = []
    for name in {**here, **there}:
        a, b = there.get(name), here.get(name)
        if a == b:
            continue
        texts = [str(v) if str(v).startswith(DIGEST) else repr(v) for v in (a, b)]
        if all(text.startswith(DIGEST) for text in texts):
            others.append(f"other {name}")
        else:
            texts = ["an array" if text.startswith(DIGEST) else text for text in texts]
            others.append(f"{name} {texts[0]} (here {texts[1]})")
    return others


@dataclass(frozen=True)
class Digest:
    """Digests of rows and of their weights; ``+`` gives those of two sets, in their order.

    Parameters
    ----------
    rows, weights : bytes
    """

    rows: bytes
    weights: bytes

    @classmethod
    def of(cls, block: FloatArray, weights: FloatArray | None) -> Digest:
        """The digests of one block."""
        given = b"" if weights is None else weights.tobytes()
        return cls(_sha(str(block.shape).encode(), block.tobytes()), _sha(given))

    def __add__(self, other: Digest) -> Digest:
        return Digest(_sha(self.rows, other.rows), _sha(self.weights, other.weights))

    def told(self) -> Tree:
        """For the subject of a checkpoint."""
        return {"X": DIGEST + self.rows.hex(), "sample_weight": DIGEST + self.weights.hex()}


def _sha(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


@singledispatch
def digest_of(rows: Source) -> Digest:
    """The digests of all rows, by one look at them. Rows in other blocks have others.

    A source with a way of its own registers it here, as that of :mod:`gmm.distributed` does.

    Parameters
    ----------
    rows : Source
    """
    return reduce(add, (Digest.of(block, weights) for block, weights in rows))


# ---------------------------------------------------------------- what an ascent remembers


def inner_state(helper: object) -> Tree:
    """What an object of :mod:`gmm.convergence` remembers, and those within it; later changes aside.

    Parameters
    ----------
    helper : object
        Its attributes are plain values, arrays that no one writes to, containers of these, and
        objects like itself.
    """
    return {name: _held(value) for name, value in vars(helper).items()}


def _held(value: object) -> object:
    if isinstance(value, list | deque):
        return list(value)
    return inner_state(value) if hasattr(value, "__dict__") else value


def set_inner_state(helper: object, state: Tree) -> None:
    """Let an object, made in the same way, remember what :func:`inner_state` has told."""
    for name, value in state.items():
        current = getattr(helper, name)
        _refuse_another_kind(name, value, current)
        if isinstance(current, deque):
            current.extend(value)
        elif hasattr(current, "__dict__"):
            set_inner_state(current, value)
        else:
            setattr(helper, name, _held(value))


def _refuse_another_kind(name: str, value: object, current: object) -> None:
    """Raise if a number, a text or a container takes the place of something else."""
    kinds: tuple[type | tuple[type, ...], ...] = (bool, (int, float), str, (list, deque))
    for kind in kinds:
        if isinstance(current, kind):
            if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
                raise ValueError(f"{name} of another kind")
            return
    if hasattr(current, "__dict__") and not isinstance(value, dict):
        raise ValueError(f"{name} of another kind")
