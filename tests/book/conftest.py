"""What the tests of the book share: the built site, a server for it, a browser."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import browser as chromium  # noqa: E402 -- where it is stands in the line above


def build(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build a book as its readers do, and return how that went."""
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", "."]
    variables = os.environ | environment
    result = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True)
    output = re.sub(r"\x1b\[[\d;]*m", "", result.stdout + result.stderr)
    return subprocess.CompletedProcess(command, result.returncode, stdout=output, stderr="")


TEXTS = {".css", ".html", ".js", ".json", ".mjs", ".svg"}


@lru_cache(maxsize=200)
def compressed(path: Path) -> bytes:
    """Return a file as web servers send it."""
    return gzip.compress(path.read_bytes(), 9)


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder without a word, texts compressed; an unknown address with the lost page."""

    def do_GET(self) -> None:
        """Answer with a file."""
        path = Path(self.translate_path(self.path))
        if path.suffix not in TEXTS or not path.is_file():
            super().do_GET()
            return
        body = compressed(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with 404.html, as the published site does."""
        page = Path(str(self.directory)) / "404.html"
        body = page.read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="session")
def site() -> Path:
    """The site; built now, which takes seconds where ``make test`` has just done it."""
    result = build(ROOT)
    assert result.returncode == 0, result.stdout[-8000:]
    return ROOT / "_build" / "html"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder; its address has the last slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The address of a local server of the site."""
    with served(site) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium: the one that CHROMIUM names, Debian's, or Playwright's own; none is a failure."""
    program = chromium.program()
    assert program is not None, "the tests of the site need a Chromium: see README.md"
    with chromium.launched(program) as launched:
        yield launched
