"""The literature's data: printed tables beside ours, and why they differ."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm
from gmm.families import n_parameters

Floats = NDArray[np.float64]


def printed(name: str) -> tuple[list[str], Floats]:
    """Families, and criteria by numbers of components; NaN where mclust has none."""
    with gmm.datasets.data_file(name).open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return header[1:], np.array([[float(value) for value in row[1:]] for row in rows])


@pytest.fixture(scope="module")
def iris() -> gmm.Selection:
    return gmm.select(gmm.datasets.iris().X, range(1, 10), families="all", random_state=0)


def test_no_cell_of_iris_is_worse_than_printed(iris: gmm.Selection) -> None:
    """By more than half a thousandth; and many are better."""
    families, theirs = printed("iris_bic.csv")
    ours = np.array([[iris.bic(family, k) for family in families] for k in range(1, 10)])
    known = np.isfinite(theirs)
    assert known.sum() == 121
    margin = 5e-4 * np.abs(theirs)
    assert (ours <= theirs + margin)[known].sum() >= 120
    assert (ours < theirs - margin)[known].sum() > 60


def test_the_best_models_of_iris_are_those_that_are_printed(iris: gmm.Selection) -> None:
    best = [(family, k) for family, k, _ in iris.ranking()[:3]]
    assert best == [("VEV", 2), ("VEV", 3), ("VVV", 2)]
    for cell, value in zip(best, (561.7285, 562.5522, 574.0178), strict=True):
        assert iris.bic(*cell) == pytest.approx(value, abs=2e-3)
    data = gmm.datasets.iris()
    labels = iris.fit("VEV", 3).mixture.predict(data.X)
    assert data.labels is not None
    counts = np.array([np.bincount(labels[data.labels == s], minlength=3) for s in range(3)])
    assert len(data.X) - counts.max(axis=1).sum() == 5


@pytest.mark.parametrize(
    ("corrected", "log_likelihood", "bic"),
    [(False, -203.1792, 441.6122), (True, -203.4820, 442.2177)],
)
def test_the_galaxies_with_and_without_the_misprint(
    corrected: bool, log_likelihood: float, bic: float
) -> None:
    X = gmm.datasets.galaxies(corrected=corrected).X
    found = gmm.select(X, range(1, 8), families="all", random_state=0)
    assert found.best.mixture.family == "V"
    assert found.best.mixture.n_components == 3
    assert found.log_likelihood("V", 3) == pytest.approx(log_likelihood, abs=2e-4)
    assert found.bic("V", 3) == pytest.approx(bic, abs=5e-4)
    labels = found.best.mixture.predict(X)
    assert sorted(np.bincount(labels).tolist()) == [3, 7, 72]


def test_a_printed_table_can_show_its_own_inferior_maximum(old_faithful: Floats) -> None:
    """EVE contains EEE and must not have a lower likelihood; ours has not."""
    families, theirs = printed("old_faithful_bic.csv")
    implied = {
        family: 0.5 * (n_parameters(family, 3, 2) * np.log(272) - theirs[2, families.index(family)])
        for family in ("EEE", "EVE")
    }
    assert implied["EVE"] < implied["EEE"] - 5
    ours = gmm.select(old_faithful, [2, 3, 4], families=["EEE", "EVE"], random_state=0)
    assert ours.log_likelihood("EVE", 3) > ours.log_likelihood("EEE", 3) - 1e-3


def test_a_loose_tolerance_explains_small_differences(old_faithful: Floats) -> None:
    """VEE with three components: mclust prints 2322.103; its rule stops there, a tight one not."""
    loose = gmm.fit(old_faithful, 3, "VEE", stop="relative", tol=1e-5, random_state=0)
    tight = gmm.fit(old_faithful, 3, "VEE", stop="relative", tol=1e-12, random_state=0)
    assert loose.bic == pytest.approx(2322.103, abs=0.1)
    assert tight.bic == pytest.approx(2321.932, abs=1e-2)
