"""The parts of the build, each by itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont
from PIL import Image
from pypdf import PdfReader

import execution
import fonts
import gmm
import hero
import ledger
import mathematics
import node_tools
import notebooks
import package_source
import page_body
import page_frame
import report
import site_builder
import site_files
import social_cards
import stylesheet
from api_docs import short_names

from .conftest import ROOT


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files below a folder, and return it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def katex() -> Iterator[mathematics.Katex]:
    """KaTeX with a macro."""
    katex = mathematics.Katex(ROOT / "book", {r"\v": r"\boldsymbol{#1}"})
    yield katex
    katex.close()


class TestMathematics:
    def test_formula_is_html_and_mathml(self, katex: mathematics.Katex) -> None:
        html = katex.render(r"\v{x} + 1", display=False)
        assert "<math" in html
        assert 'class="katex-html"' in html
        assert "boldsymbol" in html

    def test_macro_defined_in_one_formula_is_unknown_in_the_next(
        self, katex: mathematics.Katex
    ) -> None:
        katex.render(r"\gdef\mine{1}\mine", display=True)
        with pytest.raises(mathematics.TexError, match="mine"):
            katex.render(r"\mine", display=True)

    def test_wrong_tex_is_an_error(self, katex: mathematics.Katex) -> None:
        with pytest.raises(mathematics.TexError, match="KaTeX parse error"):
            katex.render(r"\frac{1}", display=False)

    def test_lines_are_split_and_environments_unnumbered(self) -> None:
        split = mathematics.display_tex(r"a \\ b", is_environment=False)
        assert split == r"\begin{split}a \\ b\end{split}"
        tex = r"\begin{align}a\end{align}"
        assert mathematics.display_tex(tex, is_environment=True).startswith(r"\begin{align*}")


def test_node_packages_are_those_of_the_lock() -> None:
    modules = node_tools.packages(ROOT / "book")
    lock = json.loads((ROOT / "book" / "package-lock.json").read_text(encoding="utf-8"))
    for name, entry in lock["packages"].items():
        if name:
            assert entry["integrity"].startswith("sha512-")
            assert "resolved" not in entry
            package = modules.parent / name / "package.json"
            assert json.loads(package.read_text(encoding="utf-8"))["version"] == entry["version"]


class TestPackageSource:
    FILES = {  # noqa: RUF012  (never changed)
        "gmm/__init__.py": "from gmm.core import run\n",
        "gmm/core.py": '''\
@decorated
def run(x):
    """Run.

    Long.
    """

    # why
    return x  # (n,)


class Thing:
    """A thing."""

    @property
    def size(self):
        """Its size."""
        return 1

    def bare(self):
        """Only words."""
''',
    }

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return write(tmp_path, self.FILES)

    def test_docstring_is_left_out_comments_and_decorators_stay(self, root: Path) -> None:
        expected = "@decorated\ndef run(x):\n    # why\n    return x  # (n,)"
        for name in ("gmm.core.run", "gmm.run"):
            assert package_source.object_source(root, name)[1] == expected

    def test_method_is_dedented(self, root: Path) -> None:
        source = package_source.object_source(root, "gmm.core.Thing.size")[1]
        assert source == "@property\ndef size(self):\n    return 1"

    def test_body_of_words_only_stays_a_body(self, root: Path) -> None:
        source = package_source.object_source(root, "gmm.core.Thing.bare")[1]
        assert source == 'def bare(self):\n    """Only words."""'

    @pytest.mark.parametrize("name", ["gmm.core.walk", "gmm.nothing.run", "gmm.core", "other.run"])
    def test_unknown_object_is_an_error(self, root: Path, name: str) -> None:
        with pytest.raises(package_source.UnknownObjectError, match=name):
            package_source.object_source(root, name)

    def test_short_names_are_those_which_the_package_imports(self, root: Path) -> None:
        assert short_names(root) == {"gmm.run": "gmm.core.run"}


class TestLedger:
    def test_citations_of_modules_classes_and_functions_are_found(self, tmp_path: Path) -> None:
        root = write(
            tmp_path,
            {
                "gmm/__init__.py": '"""Of :eq:`eq-a`."""\n',
                "gmm/core.py": (
                    "def f():\n"
                    '    """Of :eq:`eq-b`, :prf:ref:`a theorem <thm-c>` and :func:`g`."""\n'
                    "class A:\n    def m(self):\n"
                    '        """:math:`x` by :prf:ref:`thm-c`."""\n'
                ),
            },
        )
        found = {(m.label, m.name, m.line) for m in ledger.package_citations(root)}
        assert found == {
            ("eq-a", "gmm", 1),
            ("eq-b", "gmm.core.f", 1),
            ("thm-c", "gmm.core.f", 1),
            ("thm-c", "gmm.core.A.m", 4),
        }

    def test_marks_of_modules_classes_functions_and_parameters_are_found(
        self, tmp_path: Path
    ) -> None:
        source = """
import pytest
pytestmark = pytest.mark.derives("eq-a")

@pytest.mark.derives("eq-b", "eq-c")
class TestThing:
    @pytest.mark.derives("eq-d")
    def test_one(self): ...

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.derives("eq-e"))])
def test_two(x):
    "pytest.mark.derives('eq-no')"
"""
        root = write(tmp_path, {"tests/sub/test_it.py": source})
        found = {(m.label, m.name) for m in ledger.marked_tests(root)}
        assert found == {
            ("eq-a", "test_it.py"),
            ("eq-b", "test_it.py::TestThing"),
            ("eq-c", "test_it.py::TestThing"),
            ("eq-d", "test_it.py::TestThing::test_one"),
            ("eq-e", "test_it.py::test_two"),
        }

    @pytest.mark.parametrize(
        ("kind", "cited", "expected"),
        [
            ("theorem", False, True),
            ("corollary", False, True),
            ("definition", True, False),
            ("equation", False, False),
            ("equation", True, True),
        ],
    )
    def test_results_are_theorems_and_cited_equations(
        self, kind: str, cited: bool, expected: bool
    ) -> None:
        statement = ledger.Statement("label", kind, "", None)
        assert ledger.is_result(statement, {"label"} if cited else set()) is expected


class TestExecution:
    def test_fingerprint_follows_package_data_and_pins(self, tmp_path: Path) -> None:
        names = ("gmm/a.py", "data/a.csv", "requirements.txt", "book/part/a.csv", "other.md")
        files = dict.fromkeys(names, "1")
        root = write(tmp_path, files)
        marks = [execution.fingerprint(root)]
        for name in files:
            (root / name).write_text("2", encoding="utf-8")
            marks.append(execution.fingerprint(root))
        assert len(set(marks)) == 5
        assert marks[-1] == marks[-2]  # what the cells do not depend on

    def test_renamed_file_is_a_change(self, tmp_path: Path) -> None:
        root = write(tmp_path, {"gmm/a.py": "1", "requirements.txt": ""})
        before = execution.fingerprint(root)
        (root / "gmm/a.py").rename(root / "gmm/b.py")
        assert execution.fingerprint(root) != before

    def test_only_the_newest_caches_are_kept(self, tmp_path: Path) -> None:
        for age, name in enumerate(["now", "one", "two", "three"]):
            (tmp_path / name).mkdir()
            os.utime(tmp_path / name, (1000 - age, 1000 - age))
        execution.prune(tmp_path, "three")
        assert {path.name for path in tmp_path.iterdir()} == {"now", "one", "three"}


class TestPageBody:
    def repaired(self, body: str) -> str:
        return page_body.repair(body, "page", lambda _name: None)

    def test_dropdown_becomes_details(self) -> None:
        html = '<div class="solution dropdown admonition"><p class="admonition-title">Solution to '
        html += '<a href="#x">Exercise 1</a></p><p>Yes.</p></div>'
        assert self.repaired(html) == (
            '<details class="solution dropdown admonition"><summary class="admonition-title">'
            "Solution to exercise 1</summary><p>Yes.</p></details>"
        )

    def test_formula_is_put_back_untouched(self) -> None:
        formula = '<span class="katex"><math><mi>x</mi></math>&nbsp;<br></span>'
        marked = f"<p>{mathematics.BEFORE}{formula}{mathematics.AFTER}</p>"
        assert self.repaired(marked) == f"<p>{formula}</p>"

    def test_sidenote_becomes_a_popover(self) -> None:
        html = (
            '<p>Word <label for="sn1" class="margin-toggle"><sup>1</sup></label>'
            '<input type="checkbox" id="sn1" class="margin-toggle"/>'
            '<span class="sidenote">Note.</span></p>'
        )
        assert self.repaired(html) == (
            '<p>Word<button class="snref" popovertarget="note-0" type="button"><sup>1</sup>'
            '<span class="vh"> (note)</span></button>'
            '<span class="sidenote" id="note-0" popover="">Note.</span></p>'
        )

    def test_table_scrolls_under_its_caption(self) -> None:
        html = self.repaired("<table><caption>Costs#</caption><tr><td>1</td></tr></table>")
        assert html.startswith('<div aria-label="Costs" class="scroll table-box"><table>')

    def test_formulas_in_a_caption_are_text_in_its_label(self) -> None:
        formula = (
            '<span class="katex"><math><mi>F</mi></math><span class="katex-html">F</span></span>'
        )
        aside = f"{mathematics.BEFORE}{formula}{mathematics.AFTER}"
        html = self.repaired(f"<table><caption>Least {aside}#</caption></table>")
        assert html.startswith('<div aria-label="Least F" class="scroll table-box"><table>')
        assert html.count("katex-html") == 1

    def test_an_empty_heading_stands_above_the_headings_of_rows(self) -> None:
        body = "<tbody><tr><td>mean</td><td>1</td></tr></tbody></table>"
        html = self.repaired(f"<table><thead><tr><th></th><th>a</th></tr></thead>{body}")
        assert "<thead><tr><td></td><th>a</th></tr></thead>" in html
        assert '<tr><th scope="row">mean</th><td>1</td></tr>' in html
        html = self.repaired(f"<table><thead><tr><th>of</th><th>a</th></tr></thead>{body}")
        assert "<tr><td>mean</td><td>1</td></tr>" in html

    def test_elements_that_nobody_sees_go(self) -> None:
        name = '<span class="n"><span class="pre">x</span></span>'
        assert self.repaired(f"<code>{name}</code>") == '<code><span class="n">x</span></code>'
        html = self.repaired(f'<dt class="sig py"><span class="sig-paren">(</span>{name}</dt>')
        assert html == '<dt class="sig py">(x</dt>'
        html = self.repaired(
            '<dl class="field-list"><dt>Errors<span class="colon">:</span></dt></dl>'
        )
        assert html == '<dl class="field-list"><dt>Errors</dt></dl>'

    def test_names_of_the_ledger_break_between_words(self) -> None:
        html = self.repaired(
            '<table class="ledger"><td><code>test_a.py::test_b</code></td></table>'
        )
        assert "<code>test_<wbr/>a.<wbr/>py::<wbr/>test_<wbr/>b</code>" in html

    def test_proof_begins_with_its_word_set_apart(self) -> None:
        html = self.repaired('<div class="proof admonition"><p>Proof. Let <i>x</i>.</p></div>')
        assert '<p><span class="proof-head">Proof.</span> Let <i>x</i>.</p>' in html

    def test_computed_number_has_a_minus_sign(self) -> None:
        html = self.repaired('<span class="pasted-text">-1.5e-03</span><code>-1</code>')
        assert html == (
            '<span class="pasted-text">\N{MINUS SIGN}1.5e\N{MINUS SIGN}03</span><code>-1</code>'
        )

    def test_reference_stays_on_one_line(self) -> None:
        html = self.repaired('<a class="reference internal" href="#t">Theorem 2.1</a>')
        assert "Theorem\N{NO-BREAK SPACE}2.1" in html

    def test_long_pages_have_pauses_between_their_parts(self) -> None:
        long, short = "x" * page_body.READ_IN_ONE_GO, "y"
        sections = [
            f'<section id="{n}"><p>{long if n % 2 else short}</p></section>' for n in range(4)
        ]
        assert self.repaired(sections[0] * 9) == sections[0] * 9
        html = self.repaired("".join(sections))
        assert html == "".join([*sections[:2], page_body.PAUSE, *sections[2:]])


def test_contents_name_the_present_page_and_its_sections() -> None:
    tree = '<p role="heading" aria-level="2">Part</p><ul><li><a class="current reference internal"'
    tree += ' href="#">2 Title</a></li></ul>'
    toc = '<ul><li><a href="#">Title</a><ul><li><a href="#one">One</a><ul><li>deep</li></ul>'
    toc += "</li></ul></li></ul>"
    result = page_frame.tidy_contents(tree, toc)
    assert '<a aria-current="page" class="reference internal" href="#">' in result
    assert '<span class="section-number">2</span> Title</a><ul><li><a href="#one">' in result
    assert "heading" not in result
    assert "deep" not in result


@pytest.mark.parametrize(
    ("docname", "name"),
    [("book/index", "index"), ("book/mixtures/em", "mixtures/em"), ("search", "search")],
)
def test_public_names_leave_the_folder_out(docname: str, name: str) -> None:
    assert site_builder.public_name(docname) == name


class TestStylesheet:
    def test_rules_of_unused_classes_are_dropped(self) -> None:
        css = ".a{x:1}.a .b,.c{x:2}p:not(.b){x:3}@media print{.b{x:4}.a{x:5}}@font-face{x:6}"
        expected = ".a{x:1}.c{x:2}p:not(.b){x:3}@media print{.a{x:5}}@font-face{x:6}"
        assert stylesheet.purge(css, {"a", "c"}) == expected

    def test_numbers_are_no_classes(self) -> None:
        assert stylesheet.classes(".a:is(.b) > i") == {"a", "b"}
        assert stylesheet.classes("50.5%") == set()

    def test_classes_of_all_pages_count(self) -> None:
        pages = ['<p class="a b"><i class="c">', '<b class="a">']
        assert stylesheet.used_classes(pages) == {"a", "b", "c"}

    def test_bundle_is_minified(self, tmp_path: Path) -> None:
        own = tmp_path / "own.css"
        own.write_text("p { color: black; }\n", encoding="utf-8")
        css = stylesheet.bundle([".x{color:red}"], [own], ["<p>"])
        assert css == "p{color:#000}"


class TestHero:
    def test_ellipse_is_the_image_of_the_unit_circle(self) -> None:
        covariance = np.array([[4.0, 1.0], [1.0, 2.0]])
        a, b, c, d, e, f = hero.ellipse(np.array([5.0, 6.0]), covariance)
        linear = np.array([[a, c], [b, d]])  # SVG's order of a matrix
        np.testing.assert_allclose(linear @ linear.T, covariance, atol=1e-12)
        assert (e, f) == (5.0, 6.0)

    def test_iterations_in_which_nothing_moves_are_not_shown(self) -> None:
        places = np.array([0.0, 1.0, *np.linspace(1.0, 1.001, 20), 2.0, 3.0, *np.full(9, 3.0)])
        ellipses = np.zeros((len(places), 2, 6))
        ellipses[:, 0, 4] = places
        shown = hero.shown_iterations(ellipses)
        assert shown[0] == 0
        assert shown[-1] == len(places) - 1
        assert 4 <= len(shown) <= 5  # of 33: the four places, the second perhaps twice
        np.testing.assert_allclose(np.unique(places[shown].round(1)), [0.0, 1.0, 2.0, 3.0])

    def test_run_is_the_packages_own(self) -> None:
        run = hero.run()
        assert run.points.shape == (272, 2)
        assert (run.points > 0).all()
        assert (run.points < [hero.WIDTH, hero.HEIGHT]).all()
        assert run.shares.shape == (len(run.iterations), 272)
        assert (np.diff(run.log_likelihoods) > 0).all()
        # standardising the rows adds n log(s_1 s_2) to the log-likelihood
        data = gmm.datasets.old_faithful().X
        shift = len(data) * np.log(data.std(axis=0)).sum()
        best = gmm.fit(data, 2, random_state=0).log_likelihood
        assert run.log_likelihoods[-1] - shift == pytest.approx(best, abs=1e-3)


class TestSiteFiles:
    def test_lost_page_links_from_the_root(self) -> None:
        page = '<a href="search.html"><a href="#main"><a href="https://x.org/"><img src="a.svg">'
        expected = '<a href="/b/search.html"><a href="#main"><a href="https://x.org/">'
        expected += '<img src="/b/a.svg">'
        assert site_files.absolute_links(page, "https://example.org/b/") == expected
        assert 'href="/search.html"' in site_files.absolute_links(page, "")

    def test_site_map_lists_addresses(self) -> None:
        assert "<loc>https://x.org/a.html?b&amp;c</loc>" in site_files.sitemap(
            ["https://x.org/a.html?b&c"]
        )

    def test_sources_of_pages_that_are_gone_are_not_copied(self, tmp_path: Path) -> None:
        source = write(tmp_path / "s", {"a/one.md": "1", "a/two.md": "2"})
        site_files.copy_sources(source, [Path("a/one.html"), Path("x.html")], tmp_path / "t")
        assert [p.name for p in (tmp_path / "t").rglob("*.md")] == ["one.md"]


def test_cards_are_drawn_once(tmp_path: Path) -> None:
    fonts = ROOT / "book" / "_theme" / "fonts"
    titles = {"a": "A title which is so long that it has to be set on more than one line"}
    social_cards.write(titles, "Book", fonts, tmp_path / "cache", tmp_path / "one")
    with Image.open(tmp_path / "one" / "a.png") as card:
        assert card.size == (1200, 630)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").iterdir()}
    social_cards.write(titles, "Book", fonts, tmp_path / "cache", tmp_path / "two")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").iterdir()} == times
    one, two = (tmp_path / folder / "a.png" for folder in ("one", "two"))
    assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(two.read_bytes()).digest()


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ('style="top:-3.0000em;height:0.9996em;"', 'style="top:-3em;height:1em"'),
        ('style="margin-right:0.0359em;"', 'style="margin-right:.04em"'),
        ('style="top:-1.8723em;margin-left:0em;"', 'style="top:-1.87em"'),
        ('style="height:10.5em;x:0.0012em;"', 'style="height:10.5em;x:0em"'),
        ("<mn>0.1234em</mn>", "<mn>0.1234em</mn>"),
        ("<semantics><mi>x</mi><annotation>x</annotation></semantics>", "<mi>x</mi>"),
        (
            "<msub><mi>K</mi><mi>max</mi><mo>\u2061</mo></msub>",
            "<msub><mi>K</mi><mi>max</mi></msub>",
        ),
    ],
)
def test_formulas_are_light(long: str, short: str) -> None:
    assert mathematics.lighter(long) == short


def test_fonts_hold_the_characters_of_the_book(tmp_path: Path) -> None:
    folder = ROOT / "book" / "_theme" / "fonts"
    text = fonts.characters(["<p>x = &eacute;</p>"])
    assert {"é", "~", "Q", "0", " "} < set(text)
    assert "É" not in text
    copies = tmp_path / "fonts"
    fonts.copy({folder / "text-400.woff2": text}, tmp_path / "cache", copies)
    with TTFont(copies / "text-400.woff2") as font, TTFont(folder / "text-400.woff2") as whole:
        assert set(font.getBestCmap()) == {ord(c) for c in text} & set(whole.getBestCmap())
        features = font["GSUB"].table.FeatureList.FeatureRecord
        assert "liga" in {feature.FeatureTag for feature in features}


def test_each_font_of_formulas_holds_what_they_set_in_it(katex: mathematics.Katex) -> None:
    tex = r"\v{x}_1 + \mathbf{\Sigma} + \big( y \big) \sum_k \text{where } \mathbb{R} = \mathcal{N}"
    display = r"f(x) = \begin{cases} 1 \\ 2 \\ 3 \\ 4 \end{cases}"
    page = f"<p>abc {katex.render(tex, display=False)} Qq {katex.render(display, display=True)} j"
    found = fonts.math_characters([page])
    assert {name.removeprefix("KaTeX_"): text for name, text in found.items()} == {
        "AMS-Regular": "R",
        "Caligraphic-Regular": "N",
        "Main-Bold": "Σ",
        "Main-Regular": "()+1234=ehrw\N{NO-BREAK SPACE}",
        "Math-BoldItalic": "x",
        "Math-Italic": "fkxy",
        "Size1-Regular": "()∑",
        "Size4-Regular": "⎧⎨⎩",
    }


# ---------------------------------------------------------------- notebooks

CHAPTER = """(ch-x)=
# Title

By {prf:ref}`thm-x`, {eq}`eq-x` and {cite:t}`author1900`, {glue:text}`n:.2f` rows.

````{prf:theorem} A name
:label: thm-x
It holds that

```{math}
:label: eq-x
a = b .
```
````

```{glue:figure} fig_x
:name: fig-x
:alt: What it shows.

A caption with {glue:text}`n`.
```

$$
c = d
$$ (eq-y)

```{exercise} Why?
:label: ex-x
Say it.
```
```{solution-start} ex-x
:class: dropdown
```
Because.
"""


def test_a_chapter_becomes_plain_text() -> None:
    text = notebooks.plain(CHAPTER)
    assert text.startswith("# Title")
    assert "By `thm-x`, `eq-x` and [author1900], `n` rows." in text
    assert "**Theorem: A name.**\nIt holds that\n\n$$\na = b .\n$$" in text
    assert "*Figure* `fig-x`*:* A caption with `n`." in text
    assert "$$\nc = d\n$$\n" in text
    assert "**Exercise: Why?**\nSay it." in text
    assert "**Solution.**" in text
    assert "{" not in text
    assert ":label:" not in text


def test_tables_keep_their_captions_and_links_into_the_site_become_text() -> None:
    table = ":::{table} Costs.\n:name: tab-x\n\n| a |\n|---|\n| 1 |\n:::\n"
    assert notebooks.plain(table) == "\n*Costs.*\n\n| a |\n|---|\n| 1 |\n"
    linked = 'See <a href="../_static/x.pdf">the PDF</a> and <a href="https://a.org">this</a>.'
    assert notebooks.plain(linked) == 'See the PDF and <a href="https://a.org">this</a>.'


def test_a_portable_notebook_says_what_it_needs_and_shows_what_it_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = "from myst_nb import glue\nfrom sklearn import datasets\nimport gmm\n"
    chapter = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# T"), nbformat.v4.new_code_cell(code)]
    )
    assert notebooks.imports(chapter) == {"myst_nb", "sklearn", "gmm"}
    result = notebooks.portable(chapter, "Book", {"\\R": "\\mathbb{R}", "\\v": "\\b{#1}"})
    nbformat.validate(result)
    preface, _, cell = (c.source for c in result.cells)
    assert "pip install 'gmm-first-principles[plots]' scikit-learn ipykernel" in preface
    assert r"\def\R{\mathbb{R}}\def\v#1{\b{#1}}" in preface
    assert "myst_nb" not in cell
    names: dict[str, object] = {}
    exec(cell.split("from sklearn")[0], names)
    glue = names["glue"]
    assert callable(glue)
    glue("n", 3)
    glue("hidden", 4, display=False)
    assert capsys.readouterr().out == "n = 3\n"
    assert result == notebooks.portable(chapter, "Book", {"\\R": "\\mathbb{R}", "\\v": "\\b{#1}"})


# ---------------------------------------------------------------- report


def test_the_report_has_two_pages_and_its_numbers_are_those_of_the_package(tmp_path: Path) -> None:
    template = ROOT / "book" / "cases" / "course_project.typ"
    report.make(template, tmp_path / "report.pdf")
    pages = PdfReader(tmp_path / "report.pdf").pages
    assert len(pages) == 2
    text = " ".join(page.extract_text() for page in pages)
    best = gmm.fit(gmm.datasets.course_project().X, 4, n_starts=5, tol=1e-10, random_state=0)
    for value in (best.log_likelihood, best.bic):
        assert report.number(value, 1) in text
    assert "nan" not in text
    again = tmp_path / "again.pdf"
    report.make(template, again)
    assert again.read_bytes() == (tmp_path / "report.pdf").read_bytes()


def test_a_report_is_made_anew_only_when_something_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def make(template: Path, target: Path) -> None:
        made.append(template)
        target.write_bytes(b"%PDF")

    monkeypatch.setattr(report, "make", make)
    monkeypatch.setattr(execution, "fingerprint", lambda root: "same")
    template = write(tmp_path, {"book/cases/report.typ": "one"}) / "book" / "cases" / "report.typ"
    for _ in range(2):
        report.write(template, tmp_path / "cache", tmp_path / "site" / "report.pdf")
    assert len(made) == 1
    template.write_text("two")
    report.write(template, tmp_path / "cache", tmp_path / "site" / "report.pdf")
    assert len(made) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_small_numbers_are_written_as_in_print() -> None:
    assert report.power_of_ten(5.4e-9) == {"digit": "5", "exponent": "−9"}
    assert report.number(-3715.04, 1) == "−3715.0"


def test_results_are_in_the_index_by_their_names(site: Path) -> None:
    index = BeautifulSoup((site / "genindex.html").read_text(encoding="utf-8"), "html.parser")
    places = {link.get_text(): str(link.get("href")) for link in index.select("article a")}
    for name, page in [
        ("Aitken's prediction (theorem)", "mixtures/em.html#thm-aitken"),
        ("Collapse is an iterated exponential (theorem)", "mixtures/singularities.html#"),
        ("responsibility", "appendices/glossary.html#term-responsibility"),
        ("gmm_em() (in module gmm.univariate)", "appendices/api.html#gmm.univariate.gmm_em"),
    ]:
        assert places[name].startswith(page), name
        path, _, anchor = places[name].partition("#")
        text = (site / path).read_text(encoding="utf-8")
        assert f'id="{anchor}"' in text, name


def test_licences_are_those_of_what_is_shipped(site: Path) -> None:
    page = BeautifulSoup((site / "appendices" / "licences.html").read_text("utf-8"), "html.parser")
    shown = " ".join(item.get_text() for item in page.select("ul.licences li > p"))
    for wheel in (ROOT / "book" / "_lab" / "wheels").glob("*.whl"):
        name, version = wheel.name.split("-")[:2]
        assert f"{name} {version}" in shown
    assert {"katex", "pyodide", "pagefind"} <= set(re.findall(r"\w+", shown))
    assert "The FreeType Project" in page.get_text()
    assert all(len(text.get_text()) > 100 for text in page.select("pre.licence"))
