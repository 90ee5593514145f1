"""Pack what build.sh has compiled into wheels: no tests, no headers, no backends that a page lacks.

Usage: pack.py WORK OUT. Equal inputs make equal wheels: dates are fixed, names are sorted.
"""

import base64
import hashlib
import re
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

PLATFORM = "cp314-cp314-pyemscripten_2026_0_wasm32"
ANYWHERE = "py3-none-any"
DATE = (1980, 1, 1, 0, 0, 0)
INSTALLED = "lib/python3/dist-packages"

Member = tuple[str, bytes]


def files(root: Path, top: str, keep: Callable[[str], bool]) -> Iterator[Member]:
    """Yield names and contents below a folder."""
    for path in sorted((root / top).rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and "__pycache__" not in name and keep(name):
            yield name, path.read_bytes()


def wheel(
    out: Path,
    name: str,
    version: str,
    tag: str,
    licence: str,
    members: Iterable[Member],
    licences: Iterable[Member],
    note: str = "",
) -> None:
    """Write one wheel."""
    about = f"{name}-{version}.dist-info"
    summary = f"slim repack for Pyodide 314{note}"
    pure = "true" if tag == ANYWHERE else "false"
    metadata = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n"
        f"License: {licence}\n"
    )
    described = f"Wheel-Version: 1.0\nGenerator: pack.py\nRoot-Is-Purelib: {pure}\nTag: {tag}\n"
    contents = [
        *members,
        (f"{about}/METADATA", metadata.encode()),
        *((f"{about}/licenses/{file}", text) for file, text in licences),
        (f"{about}/WHEEL", described.encode()),
    ]
    record = "".join(f"{file},sha256={_digest(data)},{len(data)}\n" for file, data in contents)
    contents.append((f"{about}/RECORD", f"{record}{about}/RECORD,,\n".encode()))
    with zipfile.ZipFile(out / f"{name}-{version}-{tag}.whl", "w") as archive:
        for file, data in contents:
            info = zipfile.ZipInfo(file, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, compresslevel=9)


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def texts(folder: Path, *names: str) -> list[Member]:
    """Return licences with their names."""
    return [(Path(name).name, (folder / name).read_bytes()) for name in names]


# ------------------------------------------------------------------ NumPy


def of_numpy(name: str) -> bool:
    """Whether a page needs this file of NumPy."""
    parts = name.split("/")
    unneeded = {"tests", "include", "examples", "pkgconfig"}
    if unneeded & set(parts) or parts[1] in ("f2py", "distutils", "_pyinstaller"):
        return False
    return not name.endswith((".pyi", ".pxd", ".pyx", ".a", ".h", ".typed", ".c"))


def numpy(work: Path, out: Path) -> None:
    """Pack NumPy."""
    members = files(work / "installed/numpy/p" / INSTALLED, "numpy", of_numpy)
    licence = texts(work / "numpy-2.4.6", "LICENSE.txt")
    wheel(out, "numpy", "2.4.6", PLATFORM, "BSD-3-Clause", members, licence)


# ------------------------------------------------------------------ matplotlib

BACKENDS = (
    "__init__.py",
    "registry.py",
    "backend_svg.py",
    "backend_agg.py",
    "backend_mixed.py",
    "backend_template.py",
)
FONTS = re.compile(
    r"DejaVuSans(-Bold|-Oblique|-BoldOblique|Display|Mono)?\.ttf|LICENSE_(DEJAVU|STIX)"
    r"|STIXGeneral(Bol|BolIta|Italic)?\.ttf|STIXNonUni(Bol|Ita)?\.ttf"
    r"|STIXSiz(One|Two|Three|Four|Five)SymReg\.ttf|cm(b|ex|mi|r|ss|sy|ti|tt)10\.ttf"
)


def of_matplotlib(name: str) -> bool:
    """Whether a page needs this file of matplotlib."""
    parts = name.split("/")
    file = parts[-1]
    if file.endswith((".pyi", ".pyc", ".typed")) or {"tests", "axisartist"} & set(parts):
        return False
    if parts[1] in ("sphinxext", "testing"):
        return False
    if parts[1] == "backends":
        return file in BACKENDS or file.startswith("_backend_agg")
    if parts[1] == "mpl-data":
        if parts[2] in ("sample_data", "images", "plot_directive", "kpsewhich.lua"):
            return False
        if parts[2] == "fonts":
            return parts[3] == "ttf" and FONTS.fullmatch(file) is not None
    return True


def configured(members: Iterable[Member]) -> Iterator[Member]:
    """Yield the files of matplotlib, with the settings of a page."""
    for name, data in members:
        if name.endswith("/matplotlibrc"):
            text = data.decode()
            for pattern, line in [
                (r"(?m)^##backend: Agg.*$", "backend: svg"),
                (r"(?m)^#font.enable_last_resort:.*$", "font.enable_last_resort: False"),
            ]:
                text, count = re.subn(pattern, line, text)
                assert count == 1, pattern
            data = text.encode()
        yield name, data


def matplotlib(work: Path, out: Path) -> None:
    """Pack matplotlib with the licences of all that is linked into it."""
    root = work / "installed/matplotlib/p" / INSTALLED
    source = work / "matplotlib-3.11.2"
    names = (
        "LICENSE LICENSE_BAKOMA LICENSE_AMSFONTS LICENSE_STIX LICENSE_FREETYPE LICENSE_HARFBUZZ "
        "LICENSE_LIBRAQM LICENSE_SHEENBIDI LICENSE_COLORBREWER LICENSE_YORICK LICENSE_SOLARIZED"
    )
    licences = texts(source / "LICENSE", *names.split())
    for name, path in [
        ("AGG_copying", "extern/agg24-svn/src/copying"),
        ("FREETYPE_FTL.TXT", "subprojects/freetype-2.14.3/docs/FTL.TXT"),
        ("QHULL_COPYING.txt", "subprojects/qhull-8.0.2/COPYING.txt"),
        ("SHEENBIDI_LICENSE", "subprojects/SheenBidi-3.0.0/LICENSE"),
        ("LIBRAQM_COPYING", "subprojects/libraqm-0.10.5/COPYING"),
    ]:
        licences.append((name, (source / path).read_bytes()))
    licences.append(("PYBIND11_LICENSE", (work / "pybind11_LICENSE").read_bytes()))
    members = [
        *configured(files(root, "matplotlib", of_matplotlib)),
        *files(root, "mpl_toolkits", of_matplotlib),
    ]
    licence = "PSF-2.0 AND FTL AND Qhull AND OFL-1.1 AND Bitstream-Vera AND MIT"
    note = " (SVG and Agg backends)"
    wheel(out, "matplotlib", "3.11.2", PLATFORM, licence, members, licences, note)


# ------------------------------------------------------------------ the others


def contourpy(work: Path, out: Path) -> None:
    """Pack contourpy without its helpers for drawing."""
    members = files(
        work / "installed/contourpy/p" / INSTALLED,
        "contourpy",
        lambda name: name.endswith((".py", ".so")) and "/util/" not in name,
    )
    licence = texts(work / "contourpy-1.4.0", "LICENSE")
    wheel(out, "contourpy", "1.4.0", PLATFORM, "BSD-3-Clause", members, licence)


def kiwisolver(work: Path, out: Path) -> None:
    """Pack the corrected kiwisolver."""
    members = files(
        work / "installed/kiwisolver", "kiwisolver", lambda name: name.endswith((".py", ".so"))
    )
    licence = texts(work / "kiwisolver-1.5.1", "LICENSE")
    wheel(out, "kiwisolver", "1.5.1", PLATFORM, "BSD-3-Clause", members, licence)


#: What is taken of wheels that hold Python alone: name, version, licence, top, files, note.
FONT_TOOLS = {
    "__init__.py",
    "agl.py",
    "misc/__init__.py",
    "misc/loggingTools.py",
    "misc/textTools.py",
}
VERSIONS = {"__init__.py", "version.py", "_structures.py"}
PURE = [
    ("cycler", "0.12.1", "BSD-3-Clause", "cycler", lambda name: True, ""),
    (
        "python_dateutil",
        "4.0.0",
        "Apache-2.0 OR BSD-3-Clause",
        "dateutil",
        lambda name: not name.startswith("zoneinfo/"),
        "",
    ),
    ("pyparsing", "3.3.3", "MIT", "pyparsing", lambda name: not name.startswith("diagram/"), ""),
    (
        "packaging",
        "26.3",
        "Apache-2.0 OR BSD-2-Clause",
        "packaging",
        lambda name: name in VERSIONS,
        " (version only)",
    ),
    (
        "fonttools",
        "4.68.0",
        "MIT",
        "fontTools",
        lambda name: name in FONT_TOOLS,
        " (glyph list only)",
    ),
]


def pure(work: Path, out: Path) -> None:
    """Pack what is Python alone, from the wheels on PyPI."""
    unpacked = work / "pure"
    for name, version, licence, top, keep, note in PURE:
        members = files(
            unpacked,
            top,
            lambda file, top=top, keep=keep: file.endswith(".py") and keep(file[len(top) + 1 :]),
        )
        about = unpacked / f"{name}-{version}.dist-info"
        found = [
            (path.name, path.read_bytes())
            for path in sorted(about.rglob("*"))
            if re.search(r"LICEN|COPYING|AUTHORS", path.name) and path.is_file()
        ]
        wheel(out, name, version, ANYWHERE, licence, members, found, note)


def pillow_shim(out: Path) -> None:
    """Pack what takes the place of Pillow."""
    root = Path(__file__).parent / "pillow_shim"
    members = files(root, "PIL", lambda name: name.endswith(".py"))
    note = " (not Pillow: writes PNG from an array)"
    wheel(out, "pil_png_shim", "0.2", ANYWHERE, "MIT", members, [], note)


def main() -> None:
    """Pack everything, and write the checksums."""
    work, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for pack in (numpy, matplotlib, contourpy, kiwisolver, pure):
        pack(work, out)
    pillow_shim(out)
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(out.glob("*.whl"))
    ]
    (out / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


main()
