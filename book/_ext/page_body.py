"""Repairs to the body of a page: what the extensions write, made accessible and free of script."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from bs4.element import AttributeValueList, NavigableString
from sphinx.util import logging

import figures
import mathematics
import section_heights

log = logging.getLogger(__name__)

#: What stands for a formula while the rest of the page is repaired.
ASIDE = re.compile("\x02(\\d+)\x03")
FORMULA = re.compile(f"{mathematics.BEFORE}(.*?){mathematics.AFTER}", re.DOTALL)
HEADING = re.compile(r"h[1-6]")
#: Code and signatures in a page, and what in them the theme does not set apart.
PRE = re.compile(r'<span class="(?:pre|sig-paren)">([^<]*)</span>')
CODE = re.compile(r'<pre>.*?</pre>|<dt class="sig .*?</dt>', re.DOTALL)
PLAIN_WORD = re.compile(r'<span class="(?:bp|n|nb|nd|ne|nn|o|p|vm|w)">([^<]*)</span>')
#: Where a page can be read on later, and after how many characters it is.
PART = re.compile(r'(?=<section |<div [^>]*class="(?:proof |scroll table-box))')
READ_IN_ONE_GO = 50_000
PAUSE = "<script>0</script>"
REPEATED_IDS = "#proof-content, #exercise-content, #solution-content, .proof.admonition#proof"


def repair(body: str, page: str, picture: Callable[[str], Path | None]) -> str:
    """Return the body of a page, repaired.

    Parameters
    ----------
    body
        HTML, as Sphinx writes it.
    page
        The document that it belongs to, for warnings.
    picture
        Gives the source file of a picture, by its name in the site, or None.
    """
    formulas: list[str] = []

    def put_aside(match: re.Match[str]) -> str:  # parsing them would take most of the time
        formulas.append(match.group(1))
        return f"\x02{len(formulas) - 1}\x03"

    soup = BeautifulSoup(FORMULA.sub(put_aside, body), "html.parser")
    dropdowns(soup)
    landmarks(soup)
    proofs(soup)
    sidenotes(soup)
    tables(soup, formulas)
    long_names(soup)
    pictures(soup, page, picture)
    references(soup)
    numbers(soup)
    for hidden in soup.select("dl.field-list .colon, .citation .fn-bracket"):
        hidden.decompose()
    section_heights.reserve(soup, ASIDE)
    text = PRE.sub(r"\1", str(soup))
    text = CODE.sub(lambda code: PLAIN_WORD.sub(r"\1", code[0]), text)
    return with_pauses(ASIDE.sub(lambda match: formulas[int(match[1])], text))


def with_pauses(html: str) -> str:
    """Return a page with scripts that do nothing between its parts, some way apart.

    A browser reads the rest of a long page in one go, in which it answers nobody; behind a script
    it looks up.
    """
    parts, length = [], 0
    for part in PART.split(html):
        if length > READ_IN_ONE_GO:
            parts.append(PAUSE)
            length = 0
        parts.append(part)
        length += len(part)
    return "".join(parts)


def dropdowns(soup: BeautifulSoup) -> None:
    """Turn drop-down admonitions into ``details``; let a summary's text be its name."""
    for box in soup.select("div.admonition.dropdown"):
        title = box.find("p", class_="admonition-title")
        if not isinstance(title, Tag):
            continue
        box.name, title.name = "details", "summary"
        for link in title.find_all("a"):
            link.unwrap()
        title.smooth()
        for text in title.find_all(string=re.compile("Solution to Exercise")):
            text.replace_with(text.replace("Solution to Exercise", "Solution to exercise"))
    for summary in soup.select("summary[aria-label]"):
        del summary["aria-label"]
        for paragraph in summary.find_all("p"):
            paragraph.name = "span"


def landmarks(soup: BeautifulSoup) -> None:
    """Take away ids that the extensions repeat, false sections and false roles."""
    for element in soup.select(REPEATED_IDS):
        del element["id"]
    for section in soup.find_all("section", id=False):
        if not section.find(HEADING, recursive=False):
            section.name = "div"
    for paragraph in soup.select("p:has(> ul, > ol)"):  # a list of an autodoc field
        paragraph.name = "div"
    for entry in soup.select(".citation-list > [role=doc-biblioentry]"):
        entry["role"] = "listitem"
    for element in soup.select(".docutils"):
        names = element.get_attribute_list("class")
        element["class"] = AttributeValueList(name for name in names if name != "docutils")


def proofs(soup: BeautifulSoup) -> None:
    """Set the word that begins a proof apart, so that it can be styled."""
    for paragraph in soup.select("div.proof > p:first-child"):
        first = paragraph.contents[0] if paragraph.contents else None
        if not isinstance(first, NavigableString):
            continue
        match = re.match(r"\s*Proof\.\s*", first)
        if match:
            head = soup.new_tag("span", attrs={"class": "proof-head"})
            head.string = "Proof."
            first.replace_with(head, " " + first[match.end() :])


def sidenotes(soup: BeautifulSoup) -> None:
    """Turn the theme's sidenotes into popovers: beside the text, or a sheet on a phone."""
    for leftover in soup.select("input.margin-toggle, hr.footnotes"):
        leftover.decompose()
    for number, label in enumerate(soup.select("label.margin-toggle")):
        note = label.find_next("span", class_=re.compile("sidenote|marginnote"))
        if not isinstance(note, Tag):
            continue
        before = label.previous_sibling
        if isinstance(before, NavigableString):
            before.replace_with(before.rstrip())
        label.name = "button"
        label.attrs = {"class": "snref", "type": "button", "popovertarget": f"note-{number}"}
        label.append(soup.new_tag("span", attrs={"class": "vh"}, string=" (note)"))
        note["id"], note["popover"] = f"note-{number}", ""


def tables(soup: BeautifulSoup, formulas: list[str]) -> None:
    """Put each table into a box that scrolls, and is named by the table's caption.

    An empty cell among the headings is no heading; below it stand the headings of the rows.
    """
    for cell in soup.find_all("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
    for table in soup.find_all("table"):
        if table.select("thead td:first-child"):
            for cell in table.select("tbody td:first-child"):
                cell.name, cell["scope"] = "th", "row"
        box = table.wrap(soup.new_tag("div", attrs={"class": "scroll table-box"}))
        caption = table.find("caption")
        if isinstance(caption, Tag):
            text = caption.get_text(" ", strip=True).rstrip("#").strip()
            box["aria-label"] = ASIDE.sub(lambda match: spoken(formulas[int(match[1])]), text)


def spoken(formula: str) -> str:
    """What a formula's MathML says, for a label, which holds no markup."""
    soup = BeautifulSoup(formula, "html.parser")
    for part in soup.select(".katex-html"):
        part.decompose()
    return soup.get_text("", strip=True)


def long_names(soup: BeautifulSoup) -> None:
    """Let the names of the ledger break between their words."""
    for code in soup.select("table.ledger code"):
        words = re.split(r"(?<=[_.:])(?=[a-z])", code.get_text())
        code.clear()
        for number, word in enumerate(words):
            if number:
                code.append(soup.new_tag("wbr"))
            code.append(word)


def pictures(soup: BeautifulSoup, page: str, picture: Callable[[str], Path | None]) -> None:
    """Give pictures their sizes, and demand a description."""
    for number, image in enumerate(soup.find_all("img")):
        name = str(image.get("src", "")).rsplit("/", 1)[-1]
        description = str(image.get("alt", "")).strip()
        if not description or description.startswith(("../", "_images", "./")):
            log.warning("figure without alt text: %s", name, location=page, type="figure")
        source = picture(name)
        measured = figures.size(source) if source else None
        if measured:
            image["width"], image["height"] = map(str, measured)
        image["decoding"] = "async"
        if number:
            image["loading"] = "lazy"


def numbers(soup: BeautifulSoup) -> None:
    """Write computed numbers with a minus sign, as the formulas do."""
    for text in soup.find_all(string=re.compile(r"^-?[\d.]+(e-\d+)?$")):
        if text.parent is not None and "pasted-text" in text.parent.get_attribute_list("class"):
            text.replace_with(text.replace("-", "\N{MINUS SIGN}"))


def references(soup: BeautifulSoup) -> None:
    """Keep a reference such as "Theorem 2.1" on one line."""
    for link in soup.select("a.reference.internal"):
        for text in link.find_all(string=re.compile(r"^[A-Z][a-z]+\.? [\d.]+$")):
            text.replace_with(text.replace(" ", "\N{NO-BREAK SPACE}"))
