"""Components are joined where rows are in doubt, and nothing else changes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import random_mixture
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import entr

import gmm
from gmm.merging import merge_by_entropy

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def cross() -> tuple[gmm.Mixture, Floats]:
    """Two crossing components and one far away: two clusters, three components."""
    truth = gmm.Mixture(
        [0.3, 0.3, 0.4],
        [[0.0, 0.0], [0.0, 0.0], [15.0, 0.0]],
        [np.diag([4.0, 0.1]), np.diag([0.1, 4.0]), np.eye(2)],
    )
    return truth, truth.sample(300, 0)[0]


def test_crossing_components_are_one_cluster(cross: tuple[gmm.Mixture, Floats]) -> None:
    mixture, X = cross
    merging = merge_by_entropy(mixture, X)
    assert merging.partitions == (((0,), (1,), (2,)), ((0, 1), (2,)), ((0, 1, 2),))
    labels = merging.labels(2)
    np.testing.assert_array_equal(labels, X[:, 0] > 7.5)
    np.testing.assert_array_equal(merging.labels(3), mixture.predict(X))
    assert merging.entropies[1] < 1e-3 * merging.entropies[0]


@pytest.mark.derives("prop-merging-entropy", "eq-cluster-entropy", "eq-entropy-drop")
@given(seed=st.integers(0, 10**6), k=st.integers(1, 5))
def test_entropies_are_those_of_the_partitions_and_fall(seed: int, k: int) -> None:
    mixture = random_mixture("VVV", k, 2, seed, spread=1.0)
    X = mixture.sample(30, seed)[0]
    weights = np.random.default_rng(seed).uniform(0, 2, 30)
    merging = merge_by_entropy(mixture, X, sample_weight=weights)
    shares = mixture.responsibilities(X)
    for groups, value in zip(merging.partitions, merging.entropies, strict=True):
        joined = np.stack([shares[:, list(g)].sum(axis=1) for g in groups], axis=1)
        assert value == pytest.approx(weights @ entr(joined).sum(axis=1), abs=1e-9)
        np.testing.assert_allclose(merging.responsibilities(len(groups)), joined, rtol=1e-12)
        # the drop of every pair, by its formula
        for a in range(len(groups)):
            for b in range(a):
                total = joined[:, a] + joined[:, b]
                t = joined[:, a] / np.where(total > 0, total, 1.0)
                drop = weights @ (total * (entr(t) + entr(1 - t)))
                after = value - weights @ (entr(joined[:, a]) + entr(joined[:, b]) - entr(total))
                assert value - after == pytest.approx(drop, abs=1e-9)
                assert merging.entropies[k - len(groups) + 1] <= after + 1e-9
    assert (np.diff(merging.entropies) <= 1e-12).all()
    assert merging.entropies[-1] == pytest.approx(0.0, abs=1e-12)


def test_rows_without_weight_do_not_decide_but_have_labels(
    cross: tuple[gmm.Mixture, Floats],
) -> None:
    mixture, X = cross
    weights = (np.abs(X).sum(axis=1) > 1.5).astype(float)
    merging = merge_by_entropy(mixture, X, sample_weight=weights)
    alone = merge_by_entropy(mixture, X[weights > 0])
    np.testing.assert_allclose(merging.entropies, alone.entropies, rtol=1e-12)
    assert merging.labels(2).shape == (300,)


def test_the_plot_shows_the_entropies(cross: tuple[gmm.Mixture, Floats]) -> None:
    merging = merge_by_entropy(*cross)
    ax = merging.plot()
    line = ax.get_lines()[0]
    np.testing.assert_array_equal(line.get_xdata(), [3, 2, 1])
    np.testing.assert_array_equal(line.get_ydata(), merging.entropies)
    plt.close(ax.figure)


def test_bad_arguments_are_refused(cross: tuple[gmm.Mixture, Floats]) -> None:
    mixture, X = cross
    merging = merge_by_entropy(mixture, X)
    with pytest.raises(ValueError, match="n_clusters: expected at most the 3 components, got 4"):
        merging.labels(4)
    with pytest.raises(ValueError, match="n_clusters: expected an integer of at least 1"):
        merging.groups(0)
    with pytest.raises(ValueError, match="X"):
        merge_by_entropy(mixture, X[:, :1])
    with pytest.raises(ValueError, match="sample_weight"):
        merge_by_entropy(mixture, X, sample_weight=[1.0])
