"""The search finds for each cell what other searches find, and refuses the likelihood's spikes."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_mixture
from numpy.typing import NDArray

import gmm
from gmm.families import FAMILIES
from gmm.rows import as_rows
from gmm.search import FINE, _sphered, _Table, search, search_parts

FOURTEEN = [name for name in FAMILIES if len(name) == 3]


def table_of(X: NDArray[np.float64], families: list[str], most: int) -> _Table:
    table = _Table(as_rows(X), 0.0)
    table.fill([(f, k) for f in families for k in range(1, most + 1)], np.random.default_rng(0))
    return table


def test_no_cell_is_below_many_random_starts() -> None:
    """Thirty draws of seeds, each run to convergence, for three families of two to four."""
    X = gmm.datasets.iris().X
    cells = [(family, k) for family in ("EII", "VVI", "EEE") for k in (2, 3, 4)]
    found = search(as_rows(X), cells, np.random.default_rng(0), tol=1e-8)
    for family, k in cells:
        fit = gmm.fit(X, k, family, start="k-means++", n_starts=30, random_state=1)
        if fit.mixture.weights.min() * 150 > 4:  # not a spike
            assert found[family, k].log_likelihood >= fit.log_likelihood - 1e-2


def test_the_seed_decides_and_nothing_else() -> None:
    X = random_mixture("VVV", 3, 2, seed=0).sample(3000, 0)[0]
    cells = [("VVV", 2), ("EEE", 3)]
    one, two = (search(as_rows(X), cells, np.random.default_rng(4)) for _ in range(2))
    for cell in cells:
        assert one[cell].log_likelihood == two[cell].log_likelihood


@pytest.mark.parametrize("family", ["EEE", "VVI"])
def test_a_few_cells_are_found_without_the_hierarchy_too(family: str) -> None:
    rows = as_rows(gmm.datasets.old_faithful().X)
    cells = [(family, 1), (family, 2), (family, 3)]
    whole = search(rows, cells, np.random.default_rng(0))
    quick = search(rows, cells, np.random.default_rng(0), hierarchical=False)
    for cell in cells:
        assert quick[cell].log_likelihood == pytest.approx(whole[cell].log_likelihood, abs=1e-2)


def test_splits_and_mergers_keep_all_rows() -> None:
    X = gmm.datasets.iris().X
    table = table_of(X, ["VVV"], 3)
    whole = table.batch.moments(np.ones((1, 150)))
    two, three = (table.batch.shares_of(table.best["VVV", k]) for k in (2, 3))
    for moments in [*table._splits(("VVV", 2), two), table._merger(("VVV", 3), three)]:
        assert len(moments) in (2, 3)
        np.testing.assert_allclose(moments.sum(axis=0), whole[0], rtol=1e-9, atol=1e-9)
    assert len(list(table._splits(("VVV", 2), two))) == 2


def test_a_split_cuts_along_the_longest_axis() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([10 * rng.standard_normal(300), rng.standard_normal(300)])
    table = table_of(X, ["VVV"], 1)
    halves = next(table._splits(("VVV", 1), np.ones((1, 300))))
    means = halves[:, 1:3] / halves[:, :1]
    assert abs(means[0, 0] - means[1, 0]) > 10 * abs(means[0, 1] - means[1, 1])


def test_a_merger_joins_what_overlaps_most() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.standard_normal((60, 1)) + m for m in (0.0, 2.0, 50.0)])
    table = table_of(X, ["V"], 3)
    joined = table._merger(("V", 3), table.batch.shares_of(table.best["V", 3]))
    means = np.sort(joined[:, 1] / joined[:, 0]) * table.batch.scale + table.batch.mean
    np.testing.assert_allclose(means, [1.0, 50.0], atol=0.4)


def test_only_news_is_passed_on() -> None:
    table = table_of(gmm.datasets.iris().X, ["EEE", "VVV"], 3)
    cells = [("VVV", 2)]
    assert list(table._neighbours(cells, set())) == []
    for fresh in (("EEE", 2), ("VVV", 1), ("VVV", 3)):  # lent, cut in two, joined
        starts = list(table._neighbours(cells, {fresh}))
        assert [cell for cell, _ in starts] == cells
        assert len(starts[0][1]) == 2


def test_of_many_rows_some_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmm.search.MERGED_ROWS", 60)
    table = _Table(as_rows(gmm.datasets.iris().X), 0.0)
    parts = table._partitions([1, 2, 3], np.random.default_rng(0))
    for k, (moments,) in parts.items():
        assert len(moments) == k
        assert moments[:, 0].sum() == pytest.approx(60)
    assert table._partitions([2], np.random.default_rng(0)).keys() == {2}


def test_parts_of_large_data_are_searched_each() -> None:
    X = random_mixture("VVV", 2, 2, seed=1).sample(4000, 0)[0]
    parts = search_parts(as_rows(X), [("VVV", 2)], np.random.default_rng(0))
    assert len(parts) == 2
    values = [part["VVV", 2].log_likelihood for part in parts]
    assert values[0] != values[1]
    whole = search(as_rows(X), [("VVV", 2)], np.random.default_rng(0))["VVV", 2]
    assert whole.converged
    assert whole.log_likelihood == pytest.approx(
        gmm.fit(X, 2, start=whole.mixture).log_likelihood, abs=100 * FINE * 4000
    )


def test_all_families_find_the_truth_they_are_given() -> None:
    """Data of each family: the fit of that family is at least as likely as the truth."""
    for family in FOURTEEN:
        truth = random_mixture(family, 3, 2, seed=7)
        X = truth.sample(400, 1)[0]
        found = search(as_rows(X), [(family, 3)], np.random.default_rng(0))
        assert found[family, 3].log_likelihood >= truth.log_likelihood(X)


def test_needles_are_found_however_they_are_turned() -> None:
    """Two parallel needles: to distances between standardised rows they look like one cloud."""
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.uniform(-5, 5, 120), 0.1 * rng.standard_normal(120)])
    X[60:, 1] += 1.0
    apart = gmm.fit(X, 2, random_state=0).log_likelihood  # here the features are the axes
    for degrees in (0, 20, 45, 80):
        angle = np.deg2rad(degrees)
        cos, sin = np.cos(angle), np.sin(angle)
        turned = X @ np.array([[cos, sin], [-sin, cos]])
        found = search(as_rows(turned), [("VVV", 2)], np.random.default_rng(0))
        assert found["VVV", 2].log_likelihood == pytest.approx(apart, abs=1e-2)


def test_sphered_rows_have_the_identity_as_covariance() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 3))
    weights = rng.uniform(0.5, 2, 50)
    flat = np.column_stack([X, X @ [1.0, 2.0, -1.0]])
    for rows in (as_rows(X, weights), as_rows(flat, weights)):
        covariance = _sphered(rows).covariance
        np.testing.assert_allclose(covariance, np.eye(3), atol=1e-9)
