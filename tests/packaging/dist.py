"""Build wheel and source distribution, and test what they install (``make dist``).

The package is installed into environments of its own, and its tests are those of the source
distribution, unpacked far from this folder and without the package: what they import is what was
installed. All but NumPy have the versions of ``requirements.txt``, where that NumPy allows them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
UV = Path(sys.executable).with_name("uv")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

#: A fit with nothing but NumPy, from the data that are shipped.
SMOKE = """
import gmm
fit = gmm.fit(gmm.datasets.old_faithful().X, 2, random_state=0)
assert abs(fit.log_likelihood + 1130.2640) < 1e-3, fit
print(gmm.__file__)
"""


def main() -> None:
    """Build, look inside, install, test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="the Python to install into")
    parser.add_argument("--numpy", default="newest", help="lowest, newest, or a version")
    parser.add_argument("--install", default="wheel", choices=["wheel", "sdist"])
    options = parser.parse_args()
    wheel, sdist = build()
    inspect(wheel, sdist)
    with tempfile.TemporaryDirectory(prefix="gmm-dist-") as folder:
        work = Path(folder)
        built = {"wheel": wheel, "sdist": sdist}[options.install]
        alone(work, built, options.python)
        test(work, built, sdist, options.python, options.numpy)
    print(f"\n{wheel.name} and {sdist.name} are in dist/")


def build() -> tuple[Path, Path]:
    """A source distribution, and the wheel that is built of it."""
    shutil.rmtree(DIST, ignore_errors=True)
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # a module that is gone could be left in it
    uv("build", "--quiet", "--out-dir", str(DIST), str(ROOT))
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    return wheel, sdist


def inspect(wheel: Path, sdist: Path) -> None:
    """Whether both hold what they must, and the wheel asks for NumPy alone."""
    modules = {f"gmm/{path.name}" for path in (ROOT / "gmm").glob("*.py")} | {"gmm/py.typed"}
    data = {f"data/{path.name}" for path in (ROOT / "data").glob("*.*")}
    tests = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if not {"book", "lighthouse"} & set(path.relative_to(ROOT).parts)
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        fields = message_from_bytes(archive.read(metadata))
    expect(modules | {f"gmm/{name}" for name in data} <= names, "the wheel lacks files")
    extra = {name for name in names if not name.startswith("gmm/") and ".dist-info/" not in name}
    expect(not extra, f"the wheel holds {sorted(extra)}")
    required = [entry for entry in fields.get_all("Requires-Dist", []) if "extra ==" not in entry]
    expect(required == PROJECT["dependencies"], f"the wheel asks for {required}")
    expect(names_of(required) == {"numpy"}, f"the wheel asks for {required}")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    missing = (modules | data | tests | {"pyproject.toml", "README.md", "LICENSE"}) - held
    expect(not missing, f"the source distribution lacks {sorted(missing)}")


def alone(work: Path, built: Path, python: str) -> None:
    """What an installation without extras brings, and a fit with it."""
    into = environment(work / "alone", python)
    uv("pip", "install", "--quiet", "--python", str(into), str(built))
    listed = json.loads(uv("pip", "list", "--python", str(into), "--format", "json", read=True))
    installed = {package["name"] for package in listed}
    expect(installed == {PROJECT["name"], "numpy"}, f"installed are {sorted(installed)}")
    place = run(str(into), "-c", SMOKE, cwd=work, read=True).strip()
    expect(place.startswith(str(work / "alone")), f"imported is {place}")


def test(work: Path, built: Path, sdist: Path, python: str, numpy: str) -> None:
    """The tests of the source distribution, with what was installed."""
    into = environment(work / "tests", python)
    if numpy == "lowest":
        numpy = lowest(into)
    asked, chosen = work / "asked.in", work / "chosen.txt"
    wanted = "numpy" if numpy == "newest" else f"numpy=={numpy}"
    asked.write_text(f"{PROJECT['name']}[test] @ {built.as_uri()}\n{wanted}\n", encoding="utf-8")
    chosen.write_text(pins(), encoding="utf-8")  # what stands in the output is kept if it can be
    uv("pip", "compile", "--quiet", "--python", str(into), str(asked), "--output-file", str(chosen),
       read=True)  # fmt: skip
    uv("pip", "install", "--quiet", "--python", str(into), "--requirement", str(chosen))
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    (folder,) = work.glob("gmm_first_principles-*")
    shutil.rmtree(folder / "gmm")
    shown = "import gmm, numpy, sys; print(gmm.__file__, numpy.__version__, sys.version.split()[0])"
    place, numpy_version, python_version = run(
        str(into), "-c", shown, cwd=folder, read=True
    ).split()
    expect(place.startswith(str(work / "tests")), f"imported is {place}")
    print(f"{built.name}, Python {python_version}, NumPy {numpy_version}", flush=True)
    options = ["-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", "--rootdir", "."]
    options += [f"--ignore=tests/{scripts}" for scripts in ("benchmarks", "mutation", "packaging")]
    run(str(into), "-m", "pytest", *options, "--pyargs", "gmm", "./tests", cwd=folder)


def lowest(into: Path) -> str:
    """The oldest NumPy that the package allows and that is built for this Python."""
    (asked,) = PROJECT["dependencies"]
    only = ["--only-binary", "numpy", "--resolution", "lowest", "--python", str(into)]
    found = uv("pip", "compile", "--quiet", *only, "-", read=True, stdin=asked)
    (version,) = re.findall(r"^numpy==(\S+)$", found, re.MULTILINE)
    return str(version)


def pins() -> str:
    """The versions of ``requirements.txt`` without their hashes, and without NumPy's."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = re.findall(r"^([A-Za-z][\w.-]*==[^\\\n]+?)[ ]*\\?$", text, re.MULTILINE)
    expect(len(lines) > 50, "requirements.txt is not read as it is written")
    return "".join(f"{line}\n" for line in lines if names_of([line]) != {"numpy"})


def environment(folder: Path, python: str) -> Path:
    """A new virtual environment, as the path of its interpreter."""
    uv("venv", "--quiet", "--no-project", "--python", python, str(folder))
    return folder / "bin" / "python"


def names_of(requirements: list[str]) -> set[str]:
    """The names of what is required."""
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements}


def uv(*arguments: str, read: bool = False, stdin: str | None = None) -> str:
    """Run uv, away from the settings of this folder."""
    return run(str(UV), "--no-config", *arguments, cwd=Path(tempfile.gettempdir()), read=read,
               stdin=stdin)  # fmt: skip


def run(*command: str, cwd: Path, read: bool = False, stdin: str | None = None) -> str:
    """Run a command that must succeed, without paths of this folder in its environment."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=clean,
        check=True,
        text=True,
        input=stdin,
        stdout=subprocess.PIPE if read else None,
    )
    return done.stdout or ""


def expect(holds: bool, otherwise: str) -> None:
    """Stop with a sentence if something does not hold."""
    if not holds:
        sys.exit(f"dist: {otherwise}")


if __name__ == "__main__":
    main()
