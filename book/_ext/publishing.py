"""From the pages that Sphinx writes to the site, which appears whole or not at all.

Sphinx writes into ``_build/pages``. When it has ended, the site is put together beside it
(``_build/next``), and takes the place of ``_build/html`` if there was no warning. After a warning
the pages can be looked at in ``_build/draft``, the command fails, and the last good site stays. A
build that failed or was killed leaves a mark, and the next one reads all chapters again: so no
warning is lost with the build that printed it.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import articles
import ebook
import figures
import fonts
import lab
import node_tools
import paper
import search_index
import site_files
import social_cards
import stylesheet
from page_frame import Contents, slug
from site_builder import BookBuilder

log = logging.getLogger(__name__)

ASSET = re.compile(r"(_static/[\w-]+\.(css|js))\?v=\w*")
PICTURE = re.compile(r'_images/([^"?#]+)')


def begin(app: Sphinx) -> None:
    """Collect all warnings, fail at the end if there was one, and keep the site out of the way."""
    app.keep_going, app.warningiserror = True, False
    if app.outdir.name == "html":
        app.outdir = type(app.outdir)(app.outdir.parent / "pages")


def forget_unfinished(app: Sphinx, config: Config) -> None:
    """Distrust what a build left that did not end well, and mark the present one as unfinished."""
    build = Path(app.doctreedir).parent
    recover(build)
    mark = Path(app.doctreedir) / "unfinished"
    if mark.exists():
        shutil.rmtree(app.doctreedir)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def discard_stale(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> list[str]:
    """Delete the pages of chapters that are no more; read all anew, write all anew."""
    if isinstance(app.builder, BookBuilder):
        for docname in removed:
            Path(app.builder.get_outfilename(docname)).unlink(missing_ok=True)
    if added | changed == env.found_docs:
        shutil.rmtree(app.outdir, ignore_errors=True)
        Path(app.outdir).mkdir(parents=True)
    return []


def recover(build: Path) -> None:
    """Bring the last good site back if a build was killed while it put the new one in place."""
    site, last = build / "html", build / "last"
    if last.exists():
        if site.exists() and any(site.iterdir()):
            shutil.rmtree(last)
        else:
            shutil.rmtree(site, ignore_errors=True)
            last.rename(site)


def replace(site: Path, new: Path) -> None:
    """Put a new site in the place of the old one, which is away for no more than two renamings."""
    last = site.parent / "last"
    shutil.rmtree(last, ignore_errors=True)
    if site.exists():
        site.rename(last)
    new.rename(site)
    shutil.rmtree(last, ignore_errors=True)


def dark_colours(env: BuildEnvironment) -> Mapping[str, str]:
    """Return the dark theme's counterparts of the figures' colours."""
    colours: Mapping[str, str] = importlib.import_module("gmm.plots").DARK
    return {light.lower(): dark.lower() for light, dark in colours.items()}


def assemble(app: Sphinx, site: Path) -> None:
    """Put the site together."""
    source, book = Path(app.outdir), Path(app.srcdir) / "book"
    cache = Path(app.doctreedir).parent / ".site_cache"
    katex = node_tools.packages(book) / "katex" / "dist"
    static = site / "_static"
    shutil.rmtree(site, ignore_errors=True)
    static.mkdir(parents=True)

    pages = {
        path.relative_to(source): path.read_text(encoding="utf-8")
        for path in sorted(source.rglob("*.html"))
        if path.relative_to(source).parts[0] != "_static"
    }
    site_files.copy_sources(source / "_sources", pages, site / "_sources")
    shutil.copyfile(source / "objects.inv", site / "objects.inv")
    copy_pictures(source / "_images", pages, site / "_images", dark_colours(app.env))

    theme = book / "_theme"
    math = copy_fonts(pages.values(), theme / "fonts", katex / "fonts", cache, static)
    design = source / "_static" / "sphinx-design.min.css"
    foreign = [stylesheet.katex_css(katex, math), design.read_text(encoding="utf-8")]
    css = stylesheet.bundle(foreign, sorted(theme.glob("*.css")), pages.values())
    (static / "book.css").write_text(css, encoding="utf-8")
    for script in theme.glob("*.js"):
        shutil.copyfile(script, static / script.name)
    shutil.copytree(book / "_static", static, dirs_exist_ok=True)
    titles = {slug(name): app.env.titles[name].astext() for name in sorted(app.env.found_docs)}
    social_cards.write(
        titles, app.config.html_title, theme / "fonts", cache / "cards", static / "og"
    )

    template = book / "cases" / "course_project.typ"
    if template.exists():  # it imports the package, which another book may have of its own
        report = importlib.import_module("report")
        report.write(template, cache / "report", static / "course_project.pdf")

    docnames = sorted(app.env.found_docs)
    site_files.write_notebooks(
        source.parent / "jupyter_execute",
        docnames,
        site / "_sources",
        app.config.html_title,
        app.config.katex_macros,
    )
    lab.write_cells(source.parent / "jupyter_execute", docnames, site / "_sources")
    if (book / "_lab").exists():
        lab.write(Path(app.srcdir), cache / "lab", static / "lab")
    base = app.config.html_baseurl
    if base:
        addresses = [base + app.builder.get_target_uri(name) for name in docnames]
        (site / "sitemap.xml").write_text(site_files.sitemap(addresses), encoding="utf-8")
        (site / "robots.txt").write_text(site_files.robots(base), encoding="utf-8")
    (site / ".nojekyll").touch()

    marks = {
        f"_static/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        for path in static.iterdir()
        if path.suffix in (".css", ".js")
    }
    for path, page in pages.items():
        text = ASSET.sub(lambda match: f"{match[1]}?v={marks[match[1]]}", page)
        if path.name == "404.html":
            text = site_files.absolute_links(text, base)
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    search_index.write(site)
    if app.config.book_editions and not app._warncount:
        write_editions(app, site, pages, cache)


def write_editions(app: Sphinx, site: Path, pages: Mapping[Path, str], cache: Path) -> None:
    """Write the book as an EPUB and, where there is a Chromium, as a PDF."""
    title, author = str(app.config.html_title), str(app.config.author)
    chapters = articles.read(pages, Contents(app).parts)
    theme = Path(app.srcdir) / "book" / "_theme"
    static, name = site / "_static", app.config.book_editions
    ebook.write(
        chapters,
        site,
        theme / "ebook" / "book.css",
        social_cards.cover(title, author, theme / "fonts", cache / "cards"),
        static / f"{name}.epub",
        title=title,
        author=author,
        base=app.config.html_baseurl,
        modified=ebook.date_of(Path(app.srcdir)),
    )
    pdf = static / f"{name}.pdf"
    if not paper.write(chapters, site, cache / "paper", pdf, title=title, author=author):
        log.info("There is no Chromium, so the site has no PDF; see README.md.")


def copy_fonts(
    pages: Collection[str], text_fonts: Path, math_fonts: Path, cache: Path, static: Path
) -> list[str]:
    """Copy the fonts that the pages use; return the names of those of the formulas."""
    text, formulas = fonts.characters(pages), fonts.math_characters(pages)
    used = dict.fromkeys(sorted(text_fonts.glob("*.woff2")), text)
    used[text_fonts / "text-400i.woff2"] = fonts.italic_characters(pages)
    fonts.copy(used, cache / "fonts", static / "fonts")
    shutil.copyfile(text_fonts / "OFL.txt", static / "fonts" / "OFL.txt")
    used = {math_fonts / f"{name}.woff2": own for name, own in formulas.items()}
    fonts.copy(used, cache / "math_fonts", static / "katex" / "fonts")
    return list(formulas)


def copy_pictures(
    source: Path, pages: Mapping[Path, str], target: Path, colours: Mapping[str, str]
) -> None:
    """Copy the pictures that the pages show, figures with the colours of both themes."""
    target.mkdir()
    for name in sorted({name for page in pages.values() for name in PICTURE.findall(page)}):
        if not (source / name).exists():
            continue
        if name.endswith(".svg"):
            svg = (source / name).read_text(encoding="utf-8")
            svg = figures.for_both_themes(figures.lighter(svg), colours)
            (target / name).write_text(svg, encoding="utf-8")
        else:
            shutil.copyfile(source / name, target / name)


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Publish the site; a build without a warning has ended well."""
    if exception is not None:
        return
    if isinstance(app.builder, BookBuilder):
        publish(app)
    if not app._warncount:
        (Path(app.doctreedir) / "unfinished").unlink()


def publish(app: Sphinx) -> None:
    """Put the new site in place, or aside if there was a warning."""
    build = Path(app.outdir).parent
    new, site, draft = build / "next", build / "html", build / "draft"
    assemble(app, new)
    shutil.rmtree(draft, ignore_errors=True)
    if not app._warncount:
        replace(site, new)
        return
    new.rename(draft)
    log.info("")
    log.info("The build gave %d warnings, so %s stays as it was.", app._warncount, site)
    log.info("The pages, as far as they came: %s", draft / "index.html")


def setup(app: Sphinx) -> dict[str, Any]:
    """Redirect the build, and publish when it has ended."""
    begin(app)
    app.connect("config-inited", forget_unfinished, priority=50)
    app.connect("env-get-outdated", discard_stale)
    app.connect("build-finished", finish, priority=950)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
