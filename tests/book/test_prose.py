"""Numbers in the running text come from code: no other digits are left in a chapter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[2] / "book"
CHAPTERS = sorted(
    path for path in BOOK.rglob("*.md") if not {"node_modules", "_static", "_lab"} & set(path.parts)
)

FENCE = re.compile(r"^\s*(?P<fence>`{3,}|:{3,})(?:\{(?P<name>[\w:.-]+)\})?\s*(?P<rest>.*)$")
OPTION = re.compile(r"^\s*:(?!alt:)[\w-]+:")  # an alternative text is prose too

#: Directives whose content is text; all other fences hold code, formulas, or names of objects.
TEXT = re.compile(
    r"^(prf:\w+|exercise(-start)?|solution(-start)?|figure|glue:figure|table|list-table|dropdown"
    r"|admonition|note|important|margin|sidebar|tip|warning|glossary|epigraph|grid.*|card)$"
)

NOT_PROSE = [
    re.compile(pattern, re.DOTALL | re.MULTILINE)
    for pattern in (
        r"\A---\n.*?\n---\n",  # the front matter
        r"<!--.*?-->",
        r"\{[\w:-]+\}`[^`]*`",  # a role: glue, a reference, a citation
        r"(`+)(?!`).+?(?<!`)\1(?!`)",  # code, in which a dollar is no formula
        r"\$\$.*?\$\$(?: \([\w-]+\))?",
        r"(?<!\\)\$[^$]+?\$",
        r"(?<=\])\([^)]*\)",  # where a link leads
        r"<[^>\n]*>",
        r"^\([\w-]+\)=$",  # a label
    )
]

ALLOWED = [
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"^\s*(?:>\s*)?\d+\.\s",  # the number of an item in a list ...
        r"\((?:\d(?:, \d)*)\)",  # ... and its mention
        r"\b(?:[Pp]art|[Ss]tep|[Aa]ssumption|[Cc]laim)s? \d\b",
        # where to look in a source, and which version of a program is meant
        r"\b(?:[Cc]hapter|[Ss]ection|[Tt]heorem|[Ll]emma|[Pp]roposition|[Ee]xample|[Tt]able|[Ff]igure"
        r"|[Ee]quation|[Ii]tem|[Vv]ersion|[Vv]olume|[Nn]ote)s? \d+(?:\.\d+)*",
        r"\b1[5-9]\d\d\b|\b20\d\d\b",  # a year
        r"\b[EVI]{1,3},\d\b",  # a model: its family and its number of components
        r"\bCC BY \d\.\d\b",
        r"[A-Za-z]\d",  # a name, such as S3 or W2
    )
]

#: The heading of a column of a table in which the values of a source stand.
FROM_A_SOURCE = re.compile(r"\b(?:published|printed)\b")


def _blank(match: re.Match[str]) -> str:
    """What has as many lines as the text that it replaces, but says nothing."""
    return " " + "\n" * match.group().count("\n")


def _prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number of each line of a chapter, and what of it is prose."""
    open_fences: list[tuple[str, bool]] = []
    kept = []
    source_table = False
    for line in NOT_PROSE[0].sub(_blank, text).split("\n"):
        fence = FENCE.match(line)
        closes = bool(fence and open_fences and not fence["name"] and not fence["rest"])
        inside_code = bool(open_fences) and not open_fences[-1][1]
        if closes and fence and fence["fence"] == open_fences[-1][0]:
            open_fences.pop()
            line = ""
        elif inside_code:
            line = ""
        elif fence:
            name = fence["name"] or ""
            open_fences.append((fence["fence"], bool(TEXT.match(name))))
            line = fence["rest"] if TEXT.match(name) and not name.startswith("glue") else ""
        elif OPTION.match(line):
            line = ""
        is_row = line.lstrip().startswith("|")
        source_table = is_row and (source_table or bool(FROM_A_SOURCE.search(line)))
        kept.append("" if source_table else line)
    rest = "\n".join(kept)
    for pattern in (*NOT_PROSE[1:], *ALLOWED):
        rest = pattern.sub(_blank, rest)
    yield from enumerate(rest.split("\n"), start=1)


def typed_numbers(text: str) -> list[str]:
    """Return where a chapter has digits that are neither computed nor cited."""
    return [
        f"line {number}: ... {' '.join(found.group().split())} ..."
        for number, line in _prose(text)
        for found in re.finditer(r".{0,30}\d.{0,30}", line)
    ]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: str(path.relative_to(BOOK)))
def test_numbers_in_the_prose_are_computed(chapter: Path) -> None:
    assert typed_numbers(chapter.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "We drew 400 rows.",
        "The slope is 0.132.\n",
        "::::{prf:theorem} Name\n:label: thm-x\n\nIt takes 12 steps.\n::::",
        "```{glue:figure} fig\n:name: fig-x\n:alt: Two of 7 curves cross.\n\nA caption.\n```",
        "| a | b |\n|---|---|\n| 1.5 | 2 |",
        "A formula $x = 1$ and 3 rows.",
        "1. In a list, 50 per cent.",
        "````{dropdown} Name\n```python\nx = 1\n```\nand 2 more\n````",
    ],
)
def test_typed_numbers_are_found(text: str) -> None:
    assert len(typed_numbers(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "---\nkernelspec: {name: python3}\nnumber: 3\n---\nText.",
        "```{code-cell} python\nx = 1\n```",
        "Of $100$ rows {glue:text}`share:.1f` per cent, `x[1]`, by {eq}`eq-1`.",
        "$$\nx = 1\n$$ (eq-1)",
        "1. First.\n2. By (1), and part 1.",
        "The table of 1977, section 8.5 of {cite}`a1`, version 6.0.0, EEE,3.",
        "| a | published |\n|---|---|\n| b | 2 |",
        ":::{prf:theorem} Name\n:label: thm-1\n\nText.\n:::",
    ],
)
def test_computed_and_cited_numbers_pass(text: str) -> None:
    assert typed_numbers(text) == []
