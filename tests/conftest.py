"""What all tests share: seeded data, and mixtures to try things on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot
import numpy as np
import pytest
import scipy.linalg
from hypothesis import settings
from numpy.typing import NDArray

import gmm

matplotlib.use("agg")
# the same examples in every run: a failure must come from the change at hand
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("fuzz", deadline=None, print_blob=True)  # for make fuzz: new ones
settings.load_profile("ci")

Floats = NDArray[np.float64]

FAMILIES = ("VVV", "EEE", "VVI", "VII")


def random_mixture(
    family: str, n_components: int, n_features: int, seed: int, *, spread: float = 3.0
) -> gmm.Mixture:
    """A mixture of the family, with covariances of moderate condition."""
    rng = np.random.default_rng(seed)
    k, d = n_components, n_features
    weights = rng.dirichlet(np.full(k, 5.0))
    means = spread * rng.standard_normal((k, d))
    factors = rng.standard_normal((k, d, d)) / np.sqrt(d) + np.eye(d)
    matrices = factors @ np.swapaxes(factors, 1, 2) + 0.2 * np.eye(d)
    variances = rng.uniform(0.5, 2.0, (k, d))
    stored = {"VVV": matrices, "EEE": matrices[0], "VVI": variances, "VII": variances[:, 0]}
    covariances = stored[family] if family in stored else random_member(family, k, d, rng)
    return gmm.Mixture(weights, means, covariances, family)


def member(
    family: str, log_volumes: Floats, log_shapes: Floats, turns: Floats
) -> NDArray[np.float64]:
    """Covariances λ D A Dᵀ of a family, from one volume, shape and orientation or from K of each.

    Parameters
    ----------
    family : str
    log_volumes : array (K,)
    log_shapes : array (K, d − 1)
        Logarithms of all but one of the entries of A, whose determinant is one.
    turns : array (K, d (d − 1) / 2)
        Skew matrices whose exponentials are the orientations.
        Of what is equal for all components the first row counts.
    """
    k, d = len(log_volumes), log_shapes.shape[1] + 1
    volume, shape, orientation = list(f"{family}II"[:3])
    result = np.empty((k, d, d))
    for i in range(k):
        entries = np.zeros(d)
        if shape != "I":
            entries[:-1] = log_shapes[0 if shape == "E" else i]
            entries[-1] = -entries.sum()
        skew = np.zeros((d, d))
        if orientation != "I":
            skew[np.triu_indices(d, 1)] = turns[0 if orientation == "E" else i]
        axes = scipy.linalg.expm(skew - skew.T)
        scale = np.exp(log_volumes[0 if volume == "E" else i])
        result[i] = scale * (axes * np.exp(entries)) @ axes.T
    return 0.5 * (result + np.swapaxes(result, 1, 2))


def random_member(family: str, k: int, d: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Covariances of a family, of moderate condition."""
    return member(
        family,
        0.5 * rng.standard_normal(k),
        0.7 * rng.standard_normal((k, d - 1)),
        rng.standard_normal((k, d * (d - 1) // 2)),
    )


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each of the four families in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def old_faithful() -> NDArray[np.float64]:
    """The rows of the Old Faithful data."""
    return gmm.datasets.old_faithful().X


@pytest.fixture
def drawing() -> Iterator[None]:
    """The style of the book's figures, and an end of those that the test draws."""
    with matplotlib.pyplot.rc_context():
        gmm.plots.use_style()
        yield
    matplotlib.pyplot.close("all")


def replaced(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A tree with another value at a place; a function gives it from the one that was there."""
    if not place:
        return value(tree) if callable(value) else value
    items = dict(tree.items() if isinstance(tree, dict) else enumerate(tree))
    items[place[0]] = replaced(items[place[0]], place[1:], value)
    return items if isinstance(tree, dict) else type(tree)(items.values())
