"""The criteria are their definitions, and agree with published values."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm
from gmm.selection import aic, bic


@pytest.mark.derives("eq-aic", "eq-bic")
def test_criteria_are_their_definitions() -> None:
    assert aic(-10.0, 3) == 26.0
    assert bic(-10.0, 3, 100) == pytest.approx(20 + 3 * np.log(100))


@pytest.mark.derives("eq-bic")
@pytest.mark.parametrize(
    ("family", "k", "published"),
    [("EEE", 3, 2314.316), ("VVV", 2, 2322.192), ("EEE", 1, 2607.6), ("EEE", 2, 2325.2)],
)
def test_bic_of_old_faithful_is_as_published(
    family: str, k: int, published: float, old_faithful: NDArray[np.float64]
) -> None:
    """mclust's table, with the sign turned; ours may be better by a later stop, never worse."""
    fit = gmm.fit(old_faithful, k, family, n_starts=5, tol=1e-10, random_state=0)
    assert published - 0.1 < fit.bic < published + 0.05


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="n: expected a positive number, got 0"):
        bic(-1.0, 2, 0)
    with pytest.raises(ValueError, match="n_parameters: expected an integer of at least 1"):
        aic(-1.0, 0)
