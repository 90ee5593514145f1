"""What every chapter has: exercises with solutions, described figures, failures, sources."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

EXERCISE = re.compile(r"^`{3,}\{exercise\}[ ]*(?P<grade>★{1,3}) \S.*\n:label: ex-(?P<name>[\w-]+)$")
SOLUTION = re.compile(r"^`{3,}\{solution(?:-start)?\} ex-(?P<name>[\w-]+)\n")
START = re.compile(r"^`{3,}\{(?:exercise|solution|solution-start)\}", re.MULTILINE)
FIGURE = re.compile(r"^(`{3,}|:{3,})\{(?:glue:)?figure\}.*?^\1$", re.MULTILINE | re.DOTALL)
ENTRY = re.compile(r"^@\w+\{(?P<key>\w+),(?P<fields>.*?)^\}", re.MULTILINE | re.DOTALL)


def _numbered_chapters() -> list[Path]:
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    names = [
        chapter["file"] for part in parts if "numbered" in part for chapter in part["chapters"]
    ]
    return [ROOT / f"{name}.md" for name in names]


CHAPTERS = _numbered_chapters()
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


@each_chapter
def test_at_least_four_graded_exercises_each_followed_by_its_solution(chapter: Path) -> None:
    text = chapter.read_text(encoding="utf-8")
    starts = [match.start() for match in START.finditer(text)] + [len(text)]
    asked = []
    for begin, end in pairwise(starts):
        if found := re.match(EXERCISE.pattern, text[begin:end], re.MULTILINE):
            asked.append(found["name"])
        else:
            solution = SOLUTION.match(text[begin:end])
            assert solution, text[begin : begin + 80]
            assert solution["name"] == asked[-1]
            assert ":class: dropdown" in text[begin:end]
    assert len(asked) >= 4
    assert len(starts) - 1 == 2 * len(asked)


@each_chapter
def test_every_figure_says_in_words_what_it_shows(chapter: Path) -> None:
    text = chapter.read_text(encoding="utf-8")
    figures = [match.group() for match in FIGURE.finditer(text)]
    assert figures
    for figure in figures:
        described = re.search(r"^:alt: (.+)$", figure, re.MULTILINE)
        assert described, figure[:80]
        assert len(described[1]) > 60, described[1]
        assert re.search(r"^:name: fig-[\w-]+$", figure, re.MULTILINE), figure[:80]


@each_chapter
def test_a_chapter_says_what_goes_wrong_and_ends_with_its_sources(chapter: Path) -> None:
    text = chapter.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[-2:] == ["Exercises", "Sources"]
    assert {"What goes wrong", "How does it fail?"} & set(headings)
    assert "{cite" in text[text.index("## Sources") :]


def test_the_bibliography_says_where_each_source_is() -> None:
    """A DOI; without one an address, or what a library needs to find it."""
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    keys = []
    for entry in ENTRY.finditer(text):
        keys.append(entry["key"])
        fields = set(re.findall(r"(?:^|,)\s*(\w+)\s*=\s*\{", entry["fields"], re.MULTILINE))
        assert {"title", "year"} <= fields, entry["key"]
        place = {"publisher", "journal", "booktitle", "institution"}
        assert {"doi", "url"} & fields or place & fields, entry["key"]
    assert len(keys) == len(set(keys))
    assert len(keys) == text.count("\n@") + text.startswith("@")


def test_derivations_and_cases_point_to_each_other() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in CHAPTERS}
    label = {
        path: re.findall(r"^\((ch-[\w-]+)\)=$", text, re.MULTILINE)[0]
        for path, text in texts.items()
    }
    named = {path: set(re.findall(r"\{ref\}`(ch-[\w-]+)`", text)) for path, text in texts.items()}
    cases = [path for path in CHAPTERS if path.parent.name == "cases"]
    derivations = [path for path in CHAPTERS if path.parent.name not in {"cases", "frontier"}]
    paired = {
        path
        for derivation in derivations
        for case in cases
        if label[case] in named[derivation] and label[derivation] in named[case]
        for path in (derivation, case)
    }
    assert {path.stem for path in (*derivations, *cases)} - {path.stem for path in paired} == set()


def test_pages_that_measure_times_say_so_and_are_listed() -> None:
    """What differs from one build to the next is known, at its page and in one place."""
    said, timed = {}, set()
    for path in (ROOT / "book").glob("*/*.md"):
        text = path.read_text(encoding="utf-8")
        (label,) = re.findall(r"^\((ch-[\w-]+)\)=", text, re.MULTILINE)[:1] or [path.stem]
        if measured := re.search(r"^measured: (.+)$", text[: text.find("\n---\n")], re.MULTILINE):
            said[label] = measured[1]
        if re.search(r"\b(?:perf_counter|process_time|timeit|seconds\.append)\b", text):
            timed.add(label)
    assert timed == said.keys()
    listed = (ROOT / "book" / "appendices" / "reproducing.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| \{ref\}`(ch-[\w-]+)` \| (.+?) \|$", listed, re.MULTILINE)) == said
