"""What all tests share: seeded data, and mixtures to try things on."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

import gmm

matplotlib.use("agg")
# the same examples in every run: a failure must come from the change at hand
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

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
    return gmm.Mixture(weights, means, stored[family], family)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each of the four families in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def old_faithful() -> NDArray[np.float64]:
    """The rows of the Old Faithful data."""
    return gmm.datasets.old_faithful().X
