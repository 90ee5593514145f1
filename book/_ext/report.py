"""The two-page report of the course project: its numbers, its figures, and the PDF."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import typst
from matplotlib import pyplot as plt
from numpy.typing import NDArray

import execution
import gmm
from gmm import plots

Floats = NDArray[np.float64]

SHOWN = [0, 5, 10, 15, 20, 25]


def write(template: Path, cache: Path, target: Path) -> None:
    """Write the report as a PDF, computed anew if what it depends on has changed.

    Parameters
    ----------
    template : Path
        ``course_project.typ``.
    cache : Path
        The folder of what earlier builds have made.
    target : Path
    """
    digest = hashlib.sha256(execution.fingerprint(template.parents[2]).encode())
    for path in (template, Path(__file__)):
        digest.update(path.read_bytes())
    kept = cache / f"{digest.hexdigest()[:16]}.pdf"
    if not kept.exists():
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        make(template, kept)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept, target)


def make(template: Path, target: Path) -> None:
    """Compute the numbers and figures of a report, and write it as a PDF."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with matplotlib.rc_context():
            plots.use_style()
            values = compute(folder)
        text = json.dumps(values, ensure_ascii=False)
        (folder / "report.json").write_text(text, encoding="utf-8")
        shutil.copyfile(template, folder / "report.typ")
        part = target.with_suffix(".part")
        part.write_bytes(typst.compile(folder / "report.typ", root=folder))
        part.replace(target)


def compute(folder: Path) -> dict[str, Any]:
    """Return the report's numbers, as texts, and put its figures into a folder."""
    data = gmm.datasets.course_project()
    X, truth = np.asarray(data.X), data.labels
    assert truth is not None
    fit = gmm.fit(X, 4, n_starts=5, tol=1e-10, random_state=0)
    begin = X[np.random.default_rng(4).choice(len(X), 4, replace=False)]
    watched = gmm.fit(X, 4, start=begin, tol=0, max_iter=40, keep=5)
    draw(folder, X, fit, watched)
    gains = np.diff(watched.trace.log_likelihood)
    end = np.diff(gmm.fit(X, 4, start=begin, tol=0, max_iter=30).trace.log_likelihood)
    labels = fit.mixture.predict(X)
    table = np.array([[np.sum(labels[truth == t] == k) for k in range(4)] for t in range(4)])
    starts = [compare(X, kind, fit.log_likelihood) for kind in ("random", "k-means++", "k-means")]
    lost = [v for v in starts[0].pop("ends") if v < fit.log_likelihood - 1]
    for each in starts[1:]:
        each.pop("ends")
    variational = [
        gmm.fit_variational(X, 10, concentration=c, random_state=0).mixture.weights
        for c in (1e-3, 1e-1, 1.0)
    ]
    effective = {int(np.sum(weights > 0.01)) for weights in variational}
    return {
        "n": str(len(X)),
        "k": "4",
        "parameters": str(fit.n_parameters),
        "first": number(watched.trace.log_likelihood[0], 1),
        "last": number(watched.trace.log_likelihood[-1], 1),
        "best": number(fit.log_likelihood, 1),
        "iterations": str(watched.n_iter),
        "smallest_gain": power_of_ten(float(gains.min())),
        "found_random": starts[0]["count"],
        "lost": number(fit.log_likelihood - max(lost), 0),
        "starts": starts,
        "selection": selection(X),
        "collapse": collapses(X),
        "effective": " or ".join(map(str, sorted(effective))),
        "agree": number(100 * table.max(axis=1).sum() / len(X), 1),
        "ratio": number(float(np.median(end[-5:] / end[-6:-1])), 2),
    }


def compare(X: Floats, kind: str, best: float) -> dict[str, Any]:
    """Return how a hundred runs from one kind of start have ended."""
    runs = [gmm.fit(X, 4, start=kind, random_state=seed) for seed in range(100)]
    ends = [run.log_likelihood for run in runs]
    share = float(np.mean(np.array(ends) > best - 0.01))
    return {
        "name": kind,
        "count": str(round(100 * share)),
        "found": f"{100 * share:.0f} %",
        "iterations": f"{np.median([run.n_iter for run in runs]):.0f}",
        "worst": number(min(ends), 1),
        "five": power_of_ten((1 - share) ** 5),
        "ends": ends,
    }


def selection(X: Floats) -> list[dict[str, Any]]:
    """Return the criterion for one to eight components."""
    table = gmm.select(X, range(1, 9), families="VVV", random_state=0)
    fits = [table.fit("VVV", k) for k in table.n_components]
    least = min(fit.bic for fit in fits)
    return [
        {
            "k": str(fit.mixture.n_components),
            "log_likelihood": number(fit.log_likelihood, 1),
            "bic": number(fit.bic, 1),
            "best": fit.bic == least,
        }
        for fit in fits
    ]


def collapses(X: Floats) -> dict[str, str]:
    """Return how many of thirty fits of too many components collapse, without a prior and with."""
    counts, narrowest = [], np.inf
    for prior in (None, "default"):
        collapsed = 0
        for seed in range(30):
            try:
                fit = gmm.fit(X[:60], 8, start="random", prior=prior, random_state=seed)
            except gmm.SingularCovarianceError:
                collapsed += 1
                continue
            if prior is not None:
                width = np.sqrt(np.linalg.eigvalsh(fit.mixture.covariances).min())
                narrowest = min(narrowest, float(width))
        counts.append(str(collapsed) if collapsed else "none")
    return {
        "runs": "30",
        "without": counts[0],
        "with_prior": counts[1],
        "narrowest": number(narrowest, 2),
    }


def draw(folder: Path, X: Floats, fit: gmm.Fit, watched: gmm.Fit) -> None:
    """Draw the report's figures."""
    panels = plots.snapshots(watched, X, SHOWN, n_columns=6)
    figure = panels[0].figure
    figure.set_size_inches(9.6, 1.75)
    save(folder / "ellipses.svg")
    figure, ax = plt.subplots(figsize=(6.4, 1.65))
    plots.log_likelihood(watched, ax)
    values = watched.trace.log_likelihood
    ax.plot(SHOWN, values[SHOWN], "o", ms=6, mfc="none", mec=plots.INK)
    save(folder / "trace.svg")
    figure, axes = plt.subplots(1, 3, figsize=(9.0, 2.35), sharex=True, sharey=True)
    plots.responsibilities(X, fit.mixture, axes[0])
    plots.density(fit.mixture, X, axes[1])
    log_density = fit.mixture.log_density(X)
    rare = X[log_density < np.quantile(log_density, 0.01)]
    axes[2].plot(*X.T, ".", ms=2, color=plots.MUTED)
    axes[2].plot(*rare.T, "x", ms=5, color=plots.PALETTE[1])
    for ax in axes:
        ax.set(xlabel="$x_1$", ylabel="")
    axes[0].set_ylabel("$x_2$")
    save(folder / "uses.svg")


def save(path: Path) -> None:
    """Save the current figure, with its text as outlines, and close it."""
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": path.name}):
        plt.savefig(path, metadata={"Date": None})
    plt.close()


def number(value: float, digits: int) -> str:
    """Return a number with a minus sign as print has it."""
    return f"{value:.{digits}f}".replace("-", "−")


def power_of_ten(value: float) -> dict[str, str]:
    """Return a small number as one digit and the power of ten that it multiplies."""
    digit, exponent = f"{value:.0e}".split("e")
    return {"digit": number(float(digit), 0), "exponent": number(float(exponent), 0)}
