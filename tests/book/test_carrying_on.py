"""The pages for whoever carries on: what they name is there, and what is there they name."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest
import yaml

import gmm
from gmm.families import FAMILIES

ROOT = Path(__file__).parents[2]
APPENDICES = ROOT / "book" / "appendices"
PAGES = ("architecture", "contributing", "decisions")

CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FENCED = re.compile(r"^(`{3,}).*?^\1$", re.MULTILINE | re.DOTALL)
ROLE = re.compile(r"\{[\w:-]+\}`[^`]*`")
#: What stands for a name that the reader chooses.
TO_CHOOSE = {"book/part/name.md", "gmm/name.py", "tests/test_name.py"}

#: Function or class definitions, in which a family may be named.
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _page(name: str) -> str:
    return (APPENDICES / f"{name}.md").read_text(encoding="utf-8")


def _named(name: str) -> set[str]:
    """What a page sets as code in its text, cells and roles aside."""
    return set(CODE.findall(ROLE.sub("", FENCED.sub("", _page(name)))))


def _trees() -> dict[str, ast.Module]:
    return {
        path.stem: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "gmm").glob("*.py"))
    }


TREES = _trees()


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    paths = {
        name.split(" ")[0]
        for name in _named(page)
        if re.fullmatch(r"[\w./-]+\.(py|md|toml|yml|txt|in|cff|mjs|csv|bib|json)", name)
        or re.match(r"(book|data|gmm|tests)/[\w.]", name)
    } - TO_CHOOSE
    assert paths
    known = {path.name for path in (ROOT / "book").glob("*/*.md")}
    assert {name for name in paths if not (ROOT / name).exists() and name not in known} == set()


def test_names_of_the_package_that_the_pages_name_are_defined() -> None:
    checked = 0
    for name in set().union(*map(_named, PAGES)):
        module, _, rest = name.split("(")[0].removeprefix("gmm.").partition(".")
        if module in TREES and rest and re.fullmatch(r"[\w.]+", rest) and rest != "py":
            attrgetter(rest)(import_module(f"gmm.{module}"))  # an error, where it is not there
            checked += 1
    assert checked > 30


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_and_workflows_that_a_page_names_are_there(page: str) -> None:
    rules = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = _page(page)
    assert set(re.findall(r"\bmake (\w+)`", text)) <= rules
    workflows = {path.stem for path in (ROOT / ".github" / "workflows").glob("*.yml")}
    named = re.findall(r"workflows? ((?:`\w+`(?:, | and )?)+)", text)
    assert {name for group in named for name in CODE.findall(group)} <= workflows


@pytest.mark.parametrize("page", PAGES)
def test_extensions_that_a_page_names_are_there(page: str) -> None:
    modules = {path.stem for path in (ROOT / "book" / "_ext").glob("*.py")} | set(TREES)
    site = _page(page).partition("\n## The site\n")[2]
    assert {name for name in CODE.findall(site) if re.fullmatch(r"[a-z_]+", name)} <= modules


# ---------------------------------------------------------------- places of families


def _constants(node: ast.AST, scope: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Texts in the code, docstrings and defaults of arguments aside, and what they stand in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.arguments):
            continue
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        inner = scope
        if isinstance(child, Definition):
            inner = (*scope, child.name)
        elif isinstance(child, ast.Assign | ast.AnnAssign) and (
            isinstance(node, ast.Module | ast.ClassDef)
        ):
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            inner = (*scope, ast.unparse(target))
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield ".".join(scope), child.value
        yield from _constants(child, inner)


def test_every_place_that_names_a_family_is_in_the_table() -> None:
    """A place that is new has to be told to whoever adds a family."""
    found = {
        f"{module}.{place}"
        for module, tree in TREES.items()
        for place, text in _constants(tree)
        if text in {*FAMILIES, "I", "IEV"}
    }
    table = re.search(r":name: tab-family-places\n(.*?)\n:::", _page("contributing"), re.DOTALL)
    assert table
    assert set(re.findall(r"^\| `([\w.]+)` \|", table[1], re.MULTILINE)) == found


def test_the_lab_lists_all_families() -> None:
    text = (ROOT / "book" / "_lab" / "lab.mjs").read_text(encoding="utf-8")
    plane = re.search(r'^const PLANE = "([A-Z ]+)"', text, re.MULTILINE)
    line = re.search(r"^const LINE = \[(.+)\];$", text, re.MULTILINE)
    assert plane
    assert line
    assert {*plane[1].split(), *re.findall(r'"(\w)"', line[1])} == set(FAMILIES)


# ---------------------------------------------------------------- architecture


def test_the_layers_have_no_cycle_and_the_fit_stands_above_its_parts() -> None:
    """Imports at the top of modules, by another way than the page's: repeated removal of leaves."""
    needs = {
        name: {
            part
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gmm"
            for part in (
                [alias.name for alias in node.names]
                if node.module == "gmm"
                else [str(node.module).split(".")[1]]
            )
        }
        & set(TREES)
        for name, tree in TREES.items()
    }
    layers: list[set[str]] = []
    left = set(needs)
    while left:
        ground = {name for name in left if not needs[name] & left}
        assert ground, f"modules import each other in a circle: {sorted(left)}"
        layers.append(ground)
        left -= ground
    height = {name: i for i, names in enumerate(layers) for name in names}
    path = ["rows", "sweep", "steps", "starts", "em", "estimator"]
    assert [height[name] for name in path] == sorted({height[name] for name in path})
    assert layers[0] == {"cached", "checks", "stopping"}  # as the figure's alternative text says
    leaves = set(needs) - set().union(*needs.values())
    assert {"estimator", "bayesian_estimator", "bootstrap", "plots", "__init__"} - leaves == {
        "estimator"  # which the Bayesian one extends
    }


def test_each_module_has_a_file_of_tests_and_a_first_line() -> None:
    for name, tree in TREES.items():
        file = "test_gmm.py" if name == "__init__" else f"test_{name}.py"
        assert (ROOT / "tests" / file).is_file(), name
        first = (ast.get_docstring(tree) or "").partition("\n")[0]
        assert 20 < len(first) <= 100, name


# ---------------------------------------------------------------- a release


def test_the_version_is_one_and_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changes, re.MULTILINE)
    assert newest
    assert {project["version"], str(citation["version"]), newest[1]} == {gmm.__version__}


def test_all_pages_are_in_the_contents_and_the_readme_points_to_them() -> None:
    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"book/appendices/{page}\n" in contents
        assert f"book/appendices/{page}.md" in readme
