"""A book of one chapter, on a package of one formula, to break on purpose."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .conftest import ROOT, build

MACHINERY = ("_ext", "_templates", "_theme", "_static", "package.json", "package-lock.json")

FILES = {
    "requirements.txt": "# none\n",
    "_toc.yml": """\
format: jb-book
root: book/index
parts:
  - caption: Only part
    numbered: 2
    chapters:
      - file: book/part/chapter
  - caption: Appendices
    chapters:
      - file: book/how_to_read
      - file: book/appendices/ledger
      - file: book/appendices/api
      - file: book/appendices/bibliography
""",
    "book/index.md": "# A small book\n\nIt stands for the large one, and builds in a moment.\n",
    "book/how_to_read.md": "# How to read\n\nFrom the beginning to the end, which is near.\n",
    "book/part/chapter.md": """\
---
kernelspec: {display_name: Python 3, language: python, name: python3}
jupytext: {text_representation: {extension: .md, format_name: myst}}
---

(ch-chapter)=
# Doubling

```{prf:theorem} Doubling
:label: thm-double
For every number $x$,

$$
x + x = 2x.
$$ (eq-double)
```

```{code-cell} ipython3
import gmm
from myst_nb import glue
print("twice three is", gmm.core.double(3))
glue("four", gmm.core.double(2))
```

By {prf:ref}`thm-double` and {eq}`eq-double`, twice two is {glue:text}`four`. {cite}`author2000`

```{package} gmm.core.double
```
""",
    "book/appendices/ledger.md": "# The ledger\n\n```{ledger}\n```\n",
    "book/appendices/api.md": (
        "# The package\n\n```{eval-rst}\n.. automodule:: gmm.core\n   :members:\n```\n"
    ),
    "book/appendices/bibliography.md": "# Bibliography\n\n```{bibliography}\n```\n",
    "book/references.bib": (
        "@book{author2000, author={Author, Anne}, title={Title}, publisher={House}, year={2000}}\n"
    ),
    "gmm/__init__.py": "from gmm import core, datasets, plots\nfrom gmm.core import Mixture, fit\n",
    "gmm/plots.py": 'DARK = {"#000000": "#ffffff"}\n',
    "gmm/datasets.py": """\
from types import SimpleNamespace
import numpy as np

def old_faithful():
    return SimpleNamespace(X=np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]]))
""",
    "gmm/core.py": '''\
"""One formula."""
from types import SimpleNamespace
import numpy as np


def double(x):
    """Return twice a number (:eq:`eq-double`, :prf:ref:`thm-double`).

    Parameters
    ----------
    x : array (n, d) of float
        Any number.
    """
    return 2 * x


def fit(data, n_components, start, keep):
    end = Mixture(start.weights, start.means + 1, start.covariances)
    trace = SimpleNamespace(mixtures={0: start, 1: end}, log_likelihood=[-2.0, -1.0])
    return SimpleNamespace(n_iter=1, trace=trace)


class Mixture:
    def __init__(self, weights, means, covariances):
        self.weights, self.means, self.covariances = map(np.array, (weights, means, covariances))

    def responsibilities(self, X):
        return np.full((len(X), 2), 0.5)
''',
    "data/numbers.csv": "1,2\n",
    "tests/test_chapter.py": """\
import pytest

@pytest.mark.derives("thm-double")
def test_doubling():
    assert 2 + 2 == 4
""",
}


class SmallBook:
    """A copy of the small book, with the machinery of the large one."""

    chapter = "book/part/chapter.md"

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in FILES.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        shutil.copyfile(ROOT / "_config.yml", root / "_config.yml")
        for name in (*MACHINERY, "node_modules"):
            (root / "book" / name).symlink_to(ROOT / "book" / name)

    @property
    def home(self) -> Path:
        """The home page of the published site."""
        return self.root / "_build" / "html" / "index.html"

    def page(self) -> str:
        """Return the published page of the chapter."""
        path = self.root / "_build" / "html" / "part" / "chapter.html"
        return path.read_text(encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text that occurs in a file."""
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def add(self, text: str) -> None:
        """Append to the chapter."""
        path = self.root / self.chapter
        path.write_text(path.read_text(encoding="utf-8") + "\n" + text + "\n", encoding="utf-8")

    def build(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Build it, and return how that went."""
        return build(self.root, **environment)
