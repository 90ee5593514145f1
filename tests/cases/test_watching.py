"""Watching EM: what the case says of its runs, families, hard assignments and tolerance."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

import gmm
from gmm.kmeans import classification_em, kmeans

Floats = NDArray[np.float64]

STARTS = {
    "close": [[1.4, 1.2], [1.5, 1.3], [1.6, 1.2]],
    "spread": [[-3.0, -2.0], [6.0, -2.0], [1.5, 6.0]],
    "one side": [[-3.0, 0.0], [-2.5, 1.0], [-3.0, 1.5]],
    "in line": [[0.0, 0.0], [1.5, 0.0], [3.0, 0.0]],
}


@pytest.fixture(scope="module")
def rows() -> Floats:
    return np.asarray(gmm.datasets.watching_em().X)


def started_at(rows: Floats, means: list[list[float]]) -> gmm.Mixture:
    return gmm.Mixture(np.full(3, 1 / 3), means, np.tile(np.cov(rows.T, bias=True), (3, 1, 1)))


@pytest.fixture(scope="module")
def runs(rows: Floats) -> dict[str, gmm.Fit]:
    return {
        name: gmm.fit(rows, 3, start=started_at(rows, means), stop="absolute", tol=1e-4, keep="all")
        for name, means in STARTS.items()
    }


def mislabelled(labels: NDArray[np.int64]) -> int:
    truth = gmm.datasets.watching_em().labels
    return min(int(np.sum(np.array(p)[labels] != truth)) for p in permutations(range(3)))


def test_four_starts_have_one_end(runs: dict[str, gmm.Fit]) -> None:
    ends = [run.log_likelihood for run in runs.values()]
    assert np.ptp(ends) < 0.01
    for run in runs.values():
        assert run.converged
        assert 50 < run.n_iter < 100  # the chapter shows iterations up to 21
        assert (np.diff(run.trace.log_likelihood) >= 0).all()


def test_labels_settle_before_parameters(rows: Floats, runs: dict[str, gmm.Fit]) -> None:
    run = runs["close"]
    last = run.mixture.predict(rows)
    agree = [np.mean(run.trace.mixtures[i].predict(rows) == last) for i in range(run.n_iter)]
    assert agree[5] > 0.85
    assert min(agree[run.n_iter // 3 :]) > 0.98


def test_means_lie_in_the_convex_hull(rows: Floats, runs: dict[str, gmm.Fit]) -> None:
    """Along every direction; and their mean is the data's."""
    turn = np.linspace(0, 2 * np.pi, 100)
    directions = np.stack([np.cos(turn), np.sin(turn)])
    for run in runs.values():
        for i in range(1, run.n_iter + 1):
            mixture = run.trace.mixtures[i]
            assert (mixture.means @ directions <= (rows @ directions).max(axis=0)).all()
            np.testing.assert_allclose(mixture.mean, rows.mean(axis=0), atol=1e-10)


def test_slopes_are_worth_their_parameters(rows: Floats) -> None:
    fits = {f: gmm.fit(rows, 3, f, n_starts=10, random_state=0) for f in ("VVV", "EEE", "VVI")}
    assert fits["VVV"].bic < min(fits["EEE"].bic, fits["VVI"].bic) - 50
    wrong = {f: mislabelled(fit.mixture.predict(rows)) for f, fit in fits.items()}
    assert wrong["VVV"] < wrong["EEE"] < wrong["VVI"]
    assert wrong["VVV"] < mislabelled(kmeans(rows, 3, random_state=0)[0])


def test_hard_assignments_shrink_the_components(rows: Floats, runs: dict[str, gmm.Fit]) -> None:
    soft = gmm.fit(rows, 3, start=runs["spread"].mixture)
    hard = classification_em(rows, soft.mixture).mixture
    assert hard.log_likelihood(rows) < soft.log_likelihood - 1
    assert np.mean(hard.log_determinants) < np.mean(soft.mixture.log_determinants)


def test_hard_assignments_depend_on_the_start(rows: Floats, runs: dict[str, gmm.Fit]) -> None:
    """From the four starts, whose soft runs share one maximum, they end at four."""
    ends = []
    for run in runs.values():
        hard = classification_em(rows, run.trace.mixtures[0]).mixture
        ends.append(hard.log_likelihood(rows))
    assert np.diff(np.sort(ends)).min() > 0.1


def test_a_small_difference_grows_unless_the_rule_stops_it(rows: Floats) -> None:
    aside = np.array([[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    ends = [
        gmm.fit(rows, 3, start=started_at(rows, (np.array([1.5, 1.2]) + size * aside).tolist()))
        for size in (1e-2, 1e-6)
    ]
    assert ends[0].log_likelihood > ends[1].log_likelihood + 100
    assert ends[1].n_iter < 5
    assert ends[1].log_likelihood == pytest.approx(gmm.fit(rows, 1).log_likelihood, abs=1e-3)


@pytest.mark.parametrize("a", [0.3, 1.0, 2.0])
def test_the_bias_of_a_hard_cut(a: float) -> None:
    """Mean and variance of |a + u|, by quadrature; the mean is above a, the variance below one."""

    def density(x: float) -> float:
        return float(norm.pdf(x - a) + norm.pdf(x + a))

    mean = quad(lambda x: x * density(x), 0, np.inf)[0]
    second = quad(lambda x: x * x * density(x), 0, np.inf)[0]
    assert mean == pytest.approx(a * (2 * norm.cdf(a) - 1) + 2 * norm.pdf(a), rel=1e-9)
    assert second == pytest.approx(1 + a * a, rel=1e-9)
    assert mean > a
    assert second - mean**2 < 1


def test_what_a_tolerance_leaves_is_predicted(rows: Floats, runs: dict[str, gmm.Fit]) -> None:
    run = runs["close"]
    gains = np.diff(run.trace.log_likelihood)
    ratio = gains[-1] / gains[-2]
    predicted = gains[-1] * ratio / (1 - ratio)
    end = gmm.fit(rows, 3, start=run.mixture, tol=0, max_iter=2000)
    missing = end.log_likelihood - run.log_likelihood
    assert missing == pytest.approx(predicted, rel=0.1)
    assert missing > 5e-4  # of a tolerance of 1e-4


def test_equal_starts_stay_one_gaussian(rows: Floats) -> None:
    same = gmm.fit(rows, 3, start=started_at(rows, [[1.5, 1.2]] * 3))
    assert same.log_likelihood == pytest.approx(gmm.fit(rows, 1).log_likelihood, abs=1e-8)
