"""The course project: what the case and its report state."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma
from scipy.stats import multivariate_normal

import gmm

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def rows() -> Floats:
    return np.asarray(gmm.datasets.course_project().X)


@pytest.fixture(scope="module")
def fit(rows: Floats) -> gmm.Fit:
    return gmm.fit(rows, 4, n_starts=5, tol=1e-10, random_state=0)


def test_two_steps_by_hand_are_those_of_the_package(rows: Floats) -> None:
    """With scipy's densities and plain averages, from the same start."""
    begin = rows[np.random.default_rng(4).choice(len(rows), 4, replace=False)]
    weights, means = np.full(4, 0.25), begin
    covariances = np.tile(np.cov(rows.T, bias=True), (4, 1, 1))
    values = []
    for _ in range(26):
        joint = np.column_stack(
            [
                np.log(w) + multivariate_normal(m, c).logpdf(rows)
                for w, m, c in zip(weights, means, covariances, strict=True)
            ]
        )
        log_p = np.logaddexp.reduce(joint, axis=1)
        r = np.exp(joint - log_p[:, None])
        values.append(log_p.sum())
        counts = r.sum(axis=0)
        weights, means = counts / len(rows), r.T @ rows / counts[:, None]
        covariances = np.array([np.cov(rows.T, aweights=r[:, k], bias=True) for k in range(4)])
    ours = gmm.fit(rows, 4, start=begin, tol=0, max_iter=25).trace.log_likelihood
    np.testing.assert_allclose(ours, values, rtol=1e-11)
    assert (np.diff(ours) > 0).all()


def test_bic_chooses_four_and_full_covariances(rows: Floats, fit: gmm.Fit) -> None:
    table = gmm.select(rows, range(1, 9), families="VVV", random_state=0)
    assert table.best.mixture.n_components == 4
    assert table.best.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-4)
    for k in (1, 2, 3, 5, 6, 7, 8):
        assert fit.bic < table.bic("VVV", k) - 10
    for family in ("VVI", "VII"):
        assert fit.bic < gmm.fit(rows, 4, family, n_starts=10, random_state=0).bic - 100


@pytest.mark.parametrize("start", ["random", "k-means++", "k-means"])
def test_most_starts_end_well_and_some_do_not(rows: Floats, fit: gmm.Fit, start: str) -> None:
    ends = np.array(
        [gmm.fit(rows, 4, start=start, random_state=s).log_likelihood for s in range(100)]
    )
    found = np.abs(ends - fit.log_likelihood) < 0.01
    assert 0.7 < found.mean() < 1.0
    assert ends[~found].max() < fit.log_likelihood - 100


def test_what_k_means_misses_has_one_centre_on_the_crossing_pair(
    rows: Floats, fit: gmm.Fit
) -> None:
    """And it does not find the best end more often than random rows do."""
    found = {"random": 0, "k-means": 0}
    for start in found:
        for seed in range(100):
            run = gmm.fit(rows, 4, start=start, random_state=seed)
            good = run.log_likelihood > fit.log_likelihood - 0.01
            found[start] += good
            if start == "k-means" and not good:
                assert np.sum(run.mixture.means[:, 0] < 0) == 1
    assert found["k-means"] <= found["random"]


def test_three_components_are_found_from_random_rows_and_not_from_k_means(rows: Floats) -> None:
    """All runs from k-means agree, and the maximum where they agree is an inferior one."""
    ends = [
        gmm.fit(rows, 3, start="k-means", random_state=seed).log_likelihood for seed in range(20)
    ]
    assert np.ptp(ends) < 0.01
    better = gmm.fit(rows, 3, start="random", n_starts=20, random_state=0)
    assert better.log_likelihood > max(ends) + 50
    assert np.sum(better.mixture.means[:, 0] < 0) == 2
    chosen = gmm.select(rows, range(1, 9), families="VVV", random_state=0)
    assert chosen.log_likelihood("VVV", 3) == pytest.approx(better.log_likelihood, abs=1e-3)


def test_labels_agree_but_for_the_crossing(rows: Floats, fit: gmm.Fit) -> None:
    truth = gmm.datasets.course_project().labels
    assert truth is not None
    labels = fit.mixture.predict(rows)
    table = np.array([[np.sum(labels[truth == t] == k) for k in range(4)] for t in range(4)])
    assert 0.9 < table.max(axis=1).sum() / len(rows) < 0.95
    sure = fit.mixture.responsibilities(rows).max(axis=1) > 0.99
    right = table.argmax(axis=1)[truth] == labels
    assert right[sure].mean() > 0.99


def test_a_prior_prevents_the_collapses(rows: Floats) -> None:
    collapsed = 0
    for seed in range(30):
        try:
            gmm.fit(rows[:60], 8, start="random", random_state=seed)
        except gmm.SingularCovarianceError:
            collapsed += 1
        held = gmm.fit(rows[:60], 8, start="random", prior="default", random_state=seed)
        assert np.linalg.eigvalsh(held.mixture.covariances).min() > 0.01
    assert collapsed > 5


@pytest.mark.parametrize("concentration", [1e-3, 1e-1, 1.0])
def test_variational_bayes_keeps_four_of_ten(rows: Floats, concentration: float) -> None:
    found = gmm.fit_variational(rows, 10, concentration=concentration, random_state=0)
    assert np.sum(found.mixture.weights > 0.01) == 4


def test_why_small_concentrations_remove_components() -> None:
    """The factor exp(ψ(α)) is below α, is about exp(−γ − 1/α) near zero and α − ½ far out."""
    alpha = np.array([1e-3, 0.05, 0.5, 2.0, 50.0])
    assert (digamma(alpha) < np.log(alpha)).all()
    assert digamma(0.01) == pytest.approx(-np.euler_gamma - 100, abs=0.02)
    assert np.exp(digamma(50.0)) == pytest.approx(49.5, abs=0.01)


def test_two_for_one_is_a_valley(rows: Floats, fit: gmm.Fit) -> None:
    """A component for the crossing pair and two for one cloud: EM stays there."""
    mixture = fit.mixture
    order = np.argsort(mixture.means[:, 0])
    left, right = order[:2], order[2:]
    pair = mixture.weights[left] @ mixture.means[left] / mixture.weights[left].sum()
    k = right[np.argmax(mixture.means[right, 1])]
    other = right[np.argmin(mixture.means[right, 1])]
    step = 0.6 * np.linalg.cholesky(mixture.covariances[k])[:, 0]
    wrong = np.array([pair, mixture.means[k] + step, mixture.means[k] - step, mixture.means[other]])
    start = gmm.Mixture(np.full(4, 0.25), wrong, np.tile(np.eye(2), (4, 1, 1)))
    caught = gmm.fit(rows, 4, start=start, tol=1e-10)
    assert caught.converged
    assert caught.log_likelihood < fit.log_likelihood - 100


def test_the_averages_of_the_m_step_maximise_the_bound(rows: Floats) -> None:
    """The bound at the weighted averages is above that at points near and far."""
    rng = np.random.default_rng(0)
    r = rng.dirichlet(np.ones(2), len(rows))
    counts = r.sum(axis=0)
    means = r.T @ rows / counts[:, None]
    covariances = [np.cov(rows.T, aweights=r[:, k], bias=True) for k in range(2)]

    def bound(weights: Floats, means: Floats, covariances: list[Floats]) -> float:
        return sum(
            float(r[:, k] @ (np.log(weights[k]) + multivariate_normal(m, c).logpdf(rows)))
            for k, (m, c) in enumerate(zip(means, covariances, strict=True))
        )

    best = bound(counts / len(rows), means, covariances)
    for size in (0.01, 0.1, 1.0):
        for _ in range(20):
            weights = rng.dirichlet(np.ones(2))
            moved = means + size * rng.standard_normal((2, 2))
            twist = [np.eye(2) + 0.3 * size * rng.standard_normal((2, 2)) for _ in range(2)]
            turned = [t @ c @ t.T for t, c in zip(twist, covariances, strict=True)]
            assert bound(weights, moved, turned) < best
            assert bound(counts / len(rows), moved, covariances) < best
            assert bound(counts / len(rows), means, turned) < best
