"""The picture of the home page: a real run of the package on real data, replayed by ``hero.js``.

The build fits two components to the eruptions of Old Faithful from a poor start, and puts the
points, the ellipses and the responsibilities of each iteration into the page. Without script, or
where motion is not wanted, the picture shows where the run ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WIDTH, HEIGHT, MARGIN = 440, 330, 26  # of the picture
RADIUS = 3.4  # of a point
FRAMES = 13  # iterations that are shown at most
START = [[-1.0, 1.4], [1.0, -1.4]]  # means, in the standardised data: in the two empty corners
START_VARIANCE = 0.3


@dataclass(frozen=True)
class Run:
    """A run of EM, in the coordinates of the picture."""

    points: Array  # (n, 2)
    iterations: list[int]
    ellipses: (
        Array  # (frames, 2, 6): the matrix that makes a component's ellipse of the unit circle
    )
    shares: NDArray[np.int_]  # (frames, n): the responsibility of the first component, in per cent
    log_likelihoods: list[float]


def shown_iterations(ellipses: Array) -> list[int]:
    """Return which iterations to show: about equally much moves from one to the next."""
    steps = np.abs(np.diff(ellipses, axis=0)).sum(axis=(1, 2))
    path = np.concatenate([[0.0], np.cumsum(steps)])
    marks = np.linspace(0.0, path[-1], FRAMES)
    shown = np.unique(np.abs(path[:, None] - marks).argmin(axis=0))
    shown[-1] = len(path) - 1
    return [int(i) for i in shown]


def run() -> Run:
    """Fit the mixture, and place it in the picture."""
    import gmm  # the package of this checkout: on the path only once the build has begun

    data = gmm.datasets.old_faithful().X
    data = (data - data.mean(axis=0)) / data.std(axis=0)
    start = gmm.Mixture([0.5, 0.5], START, [START_VARIANCE * np.eye(2)] * 2)
    fit = gmm.fit(data, 2, start=start, keep="all")
    mixtures = [fit.trace.mixtures[i] for i in range(fit.n_iter + 1)]

    low, high = data.min(axis=0), data.max(axis=0)
    scale = (np.array([WIDTH, HEIGHT]) - 2 * MARGIN) / (high - low)
    scale[1] *= -1  # the picture's second axis points downwards
    shift = np.array([MARGIN, HEIGHT - MARGIN]) - scale * low
    ellipses = np.array(
        [
            [
                ellipse(scale * mean + shift, covariance * np.outer(scale, scale))
                for mean, covariance in zip(m.means, m.covariances, strict=True)
            ]
            for m in mixtures
        ]
    )
    iterations = shown_iterations(ellipses)
    shown = [mixtures[i] for i in iterations]
    shares = np.array([np.rint(100 * m.responsibilities(data)[:, 0]) for m in shown], dtype=int)
    values = [float(fit.trace.log_likelihood[i]) for i in iterations]
    return Run(data * scale + shift, iterations, ellipses[iterations], shares, values)


def ellipse(mean: Array, covariance: Array) -> Array:
    """Return the matrix (a, b, c, d, e, f) of SVG that maps the unit circle to the 1σ ellipse.

    Its linear part is the symmetric square root of the covariance, which moves without jumps.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values)) @ vectors.T
    return np.concatenate([root.T.ravel(), mean])


def matrix(ellipse: Array) -> str:
    """Return an ellipse's matrix as CSS writes it."""
    return f"matrix({','.join(f'{value:.2f}' for value in ellipse)})"


def picture(run: Run) -> str:
    """Return the SVG of the last iteration."""
    dots = "".join(
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{RADIUS}" style="--g:{share}%"/>'
        for (x, y), share in zip(run.points, run.shares[-1], strict=True)
    )
    components = "".join(
        f'<g class="comp comp-{k}" style="transform:{matrix(e)}"><circle r="1"/><circle r="2"/></g>'
        for k, e in enumerate(run.ellipses[-1])
    )
    label = (
        f"{len(run.points)} eruptions of Old Faithful, length against waiting time, in two clouds, "
        "each with the ellipses of the component that the EM algorithm has fitted to it"
    )
    return (
        f'<svg id="hero" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f'<g class="dots">{dots}</g>{components}</svg>'
    )


def trace(run: Run) -> str:
    """Return the iterations as JSON, for ``hero.js``."""
    return json.dumps(
        {
            "iterations": run.iterations,
            "ellipses": [[matrix(e) for e in frame] for frame in run.ellipses],
            "shares": run.shares.tolist(),
            "logLikelihoods": [round(value, 2) for value in run.log_likelihoods],
        },
        separators=(",", ":"),
    )


def texts() -> dict[str, str]:
    """Run, and return what the template of the home page needs."""
    result = run()
    return {"hero_svg": picture(result), "hero_trace": trace(result)}
