"""Fits as data that a page can play: parameters, log-likelihood and bound, iteration by iteration.

:mod:`gmm.plots` offers :func:`replay`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm.bound import lower_bound
from gmm.checks import FloatArray, IntArray, as_matrix
from gmm.marks import both_themes, two_features
from gmm.mixture import Mixture
from gmm.result import Fit

__all__ = ["VERSION", "Replay", "replay"]

#: The version of the format, which a player checks.
VERSION = 1
#: Significant digits of what is drawn.
DIGITS = 6


@dataclass(frozen=True, repr=False)
class Replay:
    """Rows and runs, as numbers that a player draws.

    Parameters
    ----------
    content : dict
        What :meth:`to_json` writes: ``version``, ``figure``, ``points`` (n lists of one or two
        numbers), ``runs`` and ``colours``. Each run has a ``name`` and, for each iteration from 0,
        ``log_likelihood``, ``bound``, ``weights``, ``means`` and ``covariances``. The bound of
        iteration t is that of its parameters with the responsibilities of iteration t - 1, and so
        lies between the log-likelihoods of the two (:prf:ref:`thm-monotone`).
    """

    content: dict[str, Any]

    def to_json(self) -> str:
        """The content as JSON, on one line."""
        return json.dumps(self.content, separators=(",", ":"), allow_nan=False)

    def __repr__(self) -> str:
        runs, points = self.content["runs"], self.content["points"]
        return f"Replay(runs={len(runs)}, rows={len(points)})"

    def _repr_html_(self) -> str:
        """Data in a page, which shows nothing by itself."""
        data = self.to_json().replace("<", "\\u003c")
        figure = html.escape(self.content["figure"], quote=True)
        kind = 'type="application/json" class="replay"'
        return f'<script {kind} data-figure="{figure}">{data}</script>'


def replay(
    fits: Fit | Mapping[str, Fit],
    X: ArrayLike,
    *,
    figure: str = "",
    features: tuple[int, int] = (0, 1),
) -> Replay:
    """Fits as data for a page in which the reader plays them.

    Parameters
    ----------
    fits : Fit, or mapping of str to Fit
        Made with ``keep="all"``. The names of several tell the reader how they differ.
    X : array (n, d)
        The rows to which they were fitted.
    figure : str
        The identifier of the picture that the player takes the place of.
    features : pair of int
        The two features to draw, of rows with more than two. The log-likelihood and the bound are
        those of all features.

    Returns
    -------
    Replay
        A notebook shows nothing for it; it holds the numbers in JSON.

    Raises
    ------
    ValueError, TypeError
        If there is no fit, if one did not keep all its iterations, or if rows and fits do not
        belong together.

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> fit = gmm.fit(X, 2, start="random", max_iter=3, tol=0, keep="all", random_state=0)
    >>> played = replay(fit, X)
    >>> [round(value, 1) for value in played.content["runs"][0]["log_likelihood"]]
    [-1368.2, -1288.9, -1288.5, -1288.3]
    """
    named = {"": fits} if isinstance(fits, Fit) else dict(fits)
    if not named:
        raise ValueError("fits: expected one fit or more, got none")
    n_features = next(iter(named.values())).mixture.n_features
    rows = as_matrix(X, n_features=n_features)
    for name, fit in named.items():
        if sorted(fit.trace.mixtures) != list(range(fit.n_iter + 1)):
            raise ValueError(
                f"fits: expected all iterations of {name or 'the fit'}, got those of "
                f"{sorted(fit.trace.mixtures)}; make it by gmm.fit(..., keep='all')"
            )
        if fit.mixture.n_features != n_features:
            raise ValueError(
                f"fits: expected {n_features} features in each, got {fit.mixture.n_features} in "
                f"{name}"
            )
    chosen = _chosen(next(iter(named.values())).mixture, features)
    return Replay(
        {
            "version": VERSION,
            "figure": figure,
            "points": _rounded(rows[:, chosen]),
            "runs": [_run(name, fit, rows, chosen) for name, fit in named.items()],
            "colours": both_themes(),
        }
    )


def _chosen(mixture: Mixture, features: tuple[int, int]) -> IntArray:
    if mixture.n_features == 1:
        return np.array([0])
    return two_features(mixture, features)


def _run(name: str, fit: Fit, rows: FloatArray, chosen: IntArray) -> dict[str, Any]:
    mixtures = [fit.trace.mixtures[i] for i in range(fit.n_iter + 1)]
    drawn = [mixture.marginal(chosen) for mixture in mixtures]
    values = [mixture.log_likelihood(rows) for mixture in mixtures]
    bounds = [values[0]] + [
        lower_bound(rows, after, before.responsibilities(rows))
        for before, after in pairwise(mixtures)
    ]
    return {
        "name": name,
        "log_likelihood": [round(value, 6) for value in values],
        "bound": [round(value, 6) for value in bounds],
        "weights": _rounded(np.array([mixture.weights for mixture in drawn])),
        "means": _rounded(np.array([mixture.means for mixture in drawn])),
        "covariances": _rounded(np.array([mixture.covariances for mixture in drawn])),
    }


def _rounded(values: FloatArray) -> list[Any]:
    """Nested lists of numbers with :data:`DIGITS` significant digits."""
    shape = values.shape
    numbers = np.array([float(f"{value:.{DIGITS}g}") for value in values.ravel()])
    rounded: list[Any] = numbers.reshape(shape).tolist()
    return rounded
