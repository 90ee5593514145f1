"""The criteria are their definitions, and agree with published values."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm
from gmm.criteria import aic, bic, icl
from gmm.rows import as_rows
from gmm.selection import log_assignments


@pytest.mark.derives("eq-aic", "eq-bic", "eq-icl")
def test_criteria_are_their_definitions() -> None:
    assert aic(-10.0, 3) == 26.0
    assert bic(-10.0, 3, 100) == pytest.approx(20 + 3 * np.log(100))
    assert icl(-10.0, 3, 100, -4.0) == pytest.approx(28 + 3 * np.log(100))


@pytest.mark.derives("eq-bic", "eq-icl")
@pytest.mark.parametrize(
    ("family", "k", "published", "published_icl"),
    [("EEE", 3, 2314.316, 2357.824), ("VVV", 2, 2322.192, 2322.695), ("EEE", 1, 2607.6, 2607.6)],
)
def test_old_faithful_is_as_published(
    family: str, k: int, published: float, published_icl: float, old_faithful: NDArray[np.float64]
) -> None:
    """mclust's values, with the sign turned; ours may be better by a later stop, never worse."""
    fit = gmm.fit(old_faithful, k, family, n_starts=5, tol=1e-10, random_state=0)
    assert published - 0.1 < fit.bic < published + 0.05
    certain = log_assignments(as_rows(old_faithful), fit.mixture)
    value = icl(fit.log_likelihood, fit.n_parameters, 272, certain)
    # a flat optimum: the classification moves more than the likelihood by a later stop
    assert value == pytest.approx(published_icl, abs=0.7)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="n: expected a positive number, got 0"):
        bic(-1.0, 2, 0)
    with pytest.raises(ValueError, match="n_parameters: expected an integer of at least 1"):
        aic(-1.0, 0)
    with pytest.raises(ValueError, match="log_assignments: expected a number of at most 0, got 1"):
        icl(-1.0, 2, 10, 1.0)
