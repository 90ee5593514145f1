"""Archives with byte code, for the Python that runs in the reader's browser.

Only that Python can make its byte code, so this runs in it, under Node, when the book is built
(``bundle.mjs``). Modules are kept with their sources if a reader may meet them in a traceback.
"""

from __future__ import annotations

import importlib.util
import marshal
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

#: One date for all members, so that equal contents make equal archives.
DATE = (1980, 1, 1, 0, 0, 0)
#: The source is not looked at again: the byte code belongs to it by construction.
UNCHECKED_HASH = 0b01


def bundle(target: str, wheels: Iterable[str], folders: Iterable[tuple[str, str]]) -> None:
    """Write one archive.

    Parameters
    ----------
    target : str
        The archive, to be unpacked into a folder of packages.
    wheels : iterable of str
        Wheels, whose modules go in as byte code alone.
    folders : iterable of (str, str)
        A folder and the package that it becomes, or a file and its name; modules go in as sources
        with byte code.
    """
    members = dict(_from_wheels(wheels)) | dict(_from_folders(folders))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(name, DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, members[name])


def _from_wheels(wheels: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                contents = archive.read(name)
                if name.endswith(".py"):
                    yield f"{name}c", byte_code(contents, name)
                else:
                    yield name, contents


def _from_folders(folders: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    for place, target in folders:
        root = Path(place)
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            name = target if path == root else f"{target}/{path.relative_to(root).as_posix()}"
            if path.suffix in (".py", ".csv"):
                yield name, path.read_bytes()
            if path.suffix == ".py":
                yield importlib.util.cache_from_source(name), byte_code(path.read_bytes(), name)


def byte_code(source: bytes, name: str) -> bytes:
    """Return the contents of a ``.pyc`` file."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    header = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH.to_bytes(4, "little")
    return header + importlib.util.source_hash(source) + marshal.dumps(code)
