"""Three jobs: the best label, the honest score, the smallest region, and what the case measures."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, multivariate_normal
from sklearn.datasets import load_breast_cancer, load_wine

import gmm

Floats = NDArray[np.float64]

PAIR = gmm.Mixture([0.3, 0.7], [[0.0, 0.0], [2.0, 0.0]], [np.eye(2), np.diag([0.5, 2.0])])


@pytest.mark.derives("prop-best-label")
def test_no_rule_is_better_than_the_largest_responsibility() -> None:
    rows, labels = PAIR.sample(40_000, random_state=0)
    r = PAIR.responsibilities(rows)
    error = np.mean(r.argmax(axis=1) != labels)
    expected = np.mean(1 - r.max(axis=1))
    assert error == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(len(rows)))
    nearest = ((rows[:, None] - PAIR.means) ** 2).sum(axis=2).argmin(axis=1)
    for rule in (nearest, np.ones_like(labels), (rows[:, 0] > 0.5).astype(int)):
        assert np.mean(rule != labels) > error + 0.005


@pytest.mark.derives("prop-log-score")
def test_the_log_score_is_highest_for_the_truth() -> None:
    """On a grid, against perturbed densities; the loss is the divergence."""
    x = np.linspace(-12, 14, 20_001)[:, None]
    step = float(x[1, 0] - x[0, 0])
    p = gmm.Mixture([0.4, 0.6], [[-1.0], [2.0]], [[[1.0]], [[2.0]]])
    log_p = p.log_density(x)
    best = step * np.sum(np.exp(log_p) * log_p)
    rng = np.random.default_rng(0)
    for _ in range(20):
        weight = rng.uniform(0.2, 0.8)
        q = gmm.Mixture(
            [weight, 1 - weight], p.means + 0.3 * rng.standard_normal((2, 1)), p.covariances * 1.2
        )
        log_q = q.log_density(x)
        score = step * np.sum(np.exp(log_p) * log_q)
        divergence = step * np.sum(np.exp(log_p) * (log_p - log_q))
        assert score < best
        assert best - score == pytest.approx(divergence, rel=1e-9)
        # fresh rows estimate the score without bias: within four standard errors
        fresh = q.log_density(p.sample(20_000, random_state=rng)[0])
        assert fresh.mean() == pytest.approx(score, abs=4 * fresh.std() / np.sqrt(len(fresh)))
    # the loss of one normal law for another, in closed form
    for mean, variance in ((0.5, 2.0), (-1.0, 0.6)):
        one = gmm.Mixture([1.0], [[0.0]], [[[1.0]]])
        other = gmm.Mixture([1.0], [[mean]], [[[variance]]])
        log_one = one.log_density(x)
        loss = step * np.sum(np.exp(log_one) * (log_one - other.log_density(x)))
        formula = 0.5 * (np.log(variance) + (1 + mean**2) / variance - 1)
        assert loss == pytest.approx(formula, rel=1e-9)


@pytest.mark.derives("prop-smallest-region")
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_no_region_of_that_probability_is_smaller(alpha: float) -> None:
    """On a grid of cells: against shifted, stretched and random regions with the same content."""
    axis = np.linspace(-6, 8, 281)
    cell = (axis[1] - axis[0]) ** 2
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    p = np.exp(PAIR.log_density(points))
    shifted = np.exp(PAIR.log_density(points - [0.3, -0.2]))
    round_ = multivariate_normal(PAIR.mean, PAIR.covariance).pdf(points)
    noisy = p * np.random.default_rng(0).uniform(0.2, 1.0, len(p))

    def volume(ranking: Floats) -> float:
        order = np.argsort(-ranking)
        content = np.cumsum(p[order]) * cell
        return float(cell * (1 + np.searchsorted(content, (1 - alpha) * content[-1])))

    smallest = volume(p)
    for other in (shifted, round_, noisy):
        assert volume(other) > smallest


def test_the_region_of_one_normal_law_is_an_ellipsoid() -> None:
    one = gmm.Mixture([1.0], [[1.0, -1.0]], [[[2.0, 0.5], [0.5, 1.0]]])
    x, _ = one.sample(200_000, random_state=0)
    log_p = one.log_density(x)
    inside = log_p > np.quantile(log_p, 0.05)
    exact = np.pi * chi2.ppf(0.95, 2) * np.sqrt(np.linalg.det(one.covariances[0]))
    assert np.mean(inside / np.exp(log_p)) == pytest.approx(exact, rel=0.02)


def test_the_wines_fall_into_their_growers() -> None:
    wine = load_wine()
    found = gmm.select(wine.data, range(1, 7), families="all", random_state=0)
    assert found.best.mixture.n_components == 3
    labels = found.best.mixture.predict(wine.data)
    table = np.array([np.bincount(labels[wine.target == g], minlength=3) for g in range(3)])
    assert table.max(axis=1).sum() >= 175


def test_two_components_are_nearer_to_fresh_rows_than_one_or_four() -> None:
    cells = load_breast_cancer()
    names = list(cells.feature_names)
    features = ("radius", "texture", "smoothness", "compactness", "symmetry", "fractal dimension")
    rows = np.log(cells.data[:, [names.index(f"mean {f}") for f in features]])
    benign = rows[cells.target == 1]
    fold = np.random.default_rng(0).permutation(len(benign)) % 10
    fresh = {
        k: np.mean(
            [
                gmm.fit(benign[fold != j], k, n_starts=3, prior="default", random_state=0)
                .mixture.log_density(benign[fold == j])
                .mean()
                for j in range(10)
            ]
        )
        for k in (1, 2, 4)
    }
    assert fresh[2] > max(fresh[1], fresh[4]) + 0.03
