"""Variational Bayes: its expectations, updates and bound, beside sums over all labels and draws."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from conftest import random_mixture
from numpy.typing import NDArray
from test_belief import clouds

import gmm
from gmm import datasets, variational
from gmm.belief import WEIGHT_PRIORS, Belief, Dirichlet
from gmm.e_step import expected_statistics
from gmm.initial import starting_mixture
from gmm.m_step import m_step
from gmm.rows import BlockRows
from gmm.special import log_gamma
from gmm.sweep import sweep_of
from gmm.variational import (
    bound_terms,
    fit_variational,
    prior_belief,
    statistics_of_mixture,
)

Floats = NDArray[np.float64]
FAMILIES = ("VVV", "EEE", "VVI", "VII")
KINDS = {"VVV": "full", "EEE": "tied", "VVI": "diag", "VII": "spherical"}


# ---------------------------------------------------------------- the mean field


def bound_of_tables(joint: Floats, a: Floats, b: Floats) -> float:
    q = np.outer(a, b)
    return float((q * (np.log(joint) - np.log(q))).sum())


@pytest.mark.derives("thm-evidence-bound", "thm-mean-field")
def test_the_best_factor_is_the_exponential_of_an_expected_logarithm() -> None:
    rng = np.random.default_rng(0)
    joint = rng.gamma(0.5, size=(4, 5))  # p(a, b, x) for one x
    evidence = np.log(joint.sum())
    for _ in range(20):
        a, b = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5))
        q, posterior = np.outer(a, b), joint / joint.sum()
        gap = float((q * np.log(q / posterior)).sum())
        assert bound_of_tables(joint, a, b) + gap == pytest.approx(evidence, abs=1e-12)
        best = np.exp(np.log(joint) @ b)
        best /= best.sum()
        greatest = bound_of_tables(joint, best, b)
        others = rng.dirichlet(np.ones(4), 50)
        assert all(bound_of_tables(joint, other, b) < greatest for other in others)
        # the loss of any other factor is its divergence from the best
        loss = float((a * np.log(a / best)).sum())
        assert bound_of_tables(joint, a, b) == pytest.approx(greatest - loss, abs=1e-12)


# ---------------------------------------------------------------- the bound


@pytest.mark.parametrize("weight_prior", WEIGHT_PRIORS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.derives("prop-bound-terms", "eq-bound-rows")
def test_the_terms_sum_to_the_bound(family: str, weight_prior: str) -> None:
    X = clouds(60, 2, 7)
    weights = np.random.default_rng(8).uniform(0, 2, 60)
    fit = fit_variational(
        X, 4, family, weight_prior=weight_prior, max_iter=7, sample_weight=weights, random_state=0
    )
    terms = fit.bound_terms
    assert len(terms) == 7
    assert sum(terms.values()) == pytest.approx(fit.bound, abs=1e-9)
    # three terms row by row, from responsibilities
    shares = fit.responsibilities(X) * weights[:, None]
    logs = np.log(fit.responsibilities(X))
    assert terms["label entropy"] == pytest.approx(-(shares * logs).sum(), abs=1e-9)
    expected_logs = fit.posterior.weights.expected_logs
    assert terms["labels"] == pytest.approx((shares @ expected_logs).sum(), abs=1e-9)
    joint = fit.posterior.joint.component_log_densities(X) - expected_logs
    assert terms["rows"] == pytest.approx((shares * joint).sum(), abs=1e-9)


@pytest.mark.parametrize("weight_prior", WEIGHT_PRIORS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.derives("thm-variational-monotone")
def test_the_bound_never_decreases(family: str, weight_prior: str) -> None:
    for seed in range(4):
        X = clouds(25, 3, seed)
        fit = fit_variational(
            X,
            6,
            family,
            weight_prior=weight_prior,
            start="random",
            tol=0.0,
            max_iter=60,
            degrees_of_freedom=2.1,
            random_state=seed,
        )
        # rounding: a few hundred terms of a few hundred nats
        assert np.diff(fit.trace).min() > -1e-10 * abs(fit.bound)
        assert fit.bound - fit.trace[0] > 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_update_is_the_best_belief_for_its_labels(family: str) -> None:
    X, rng = clouds(30, 2, 2), np.random.default_rng(3)
    shares = rng.dirichlet(np.ones(2), 30)
    prior = prior_belief(X, 2, family)
    statistics = expected_statistics(X, shares, np.zeros((2, 2)), KINDS[family])

    def bound(posterior: Belief) -> float:
        """All terms but the entropy of the labels, which do not change."""
        labels = statistics.counts @ posterior.weights.expected_logs
        terms = bound_terms(prior, posterior, statistics)
        return terms["rows"] + float(labels) + sum(list(terms.values())[3:])

    best = prior.updated(statistics)
    greatest = bound(best)
    for _ in range(10):
        factor = np.exp(0.05 * rng.standard_normal())
        for name in ("mean_precisions", "degrees_of_freedom", "scales"):
            assert bound(_changed(best, name, getattr(best, name) * factor)) < greatest
        moved = best.means + 0.05 * rng.standard_normal(best.means.shape)
        assert bound(_changed(best, "means", moved)) < greatest


def _changed(belief: Belief, name: str, value: Floats) -> Belief:
    return replace(belief, **{name: value})  # type: ignore[arg-type]  # a name of one of its fields


def log_evidence_of_component(prior: Belief, X: Floats) -> float:
    """Log-evidence of rows of one component, one row after another, by SciPy's Student t."""
    total, d = 0.0, X.shape[1]
    tied = prior.kind == "tied"
    belief = replace(
        prior,
        weights=Dirichlet(np.ones(1)),
        means=prior.means[:1],
        mean_precisions=prior.mean_precisions[:1],
        degrees_of_freedom=prior.degrees_of_freedom if tied else prior.degrees_of_freedom[:1],
        scales=prior.scales if tied else prior.scales[:1],
    )
    for x in X:
        kappa, nu = belief.mean_precisions[0], float(np.ravel(belief.degrees_of_freedom)[0])
        widening = (kappa + 1) / kappa
        mean = belief.means[0]
        if belief.kind in ("full", "tied"):
            scale = belief.scales.reshape(d, d) * widening / (nu + 1 - d)
            total += float(scipy.stats.multivariate_t(mean, scale, nu + 1 - d).logpdf(x))
        elif belief.kind == "diag":
            widths = np.sqrt(belief.scales[0] * widening / nu)
            total += scipy.stats.t(nu, mean, widths).logpdf(x).sum()
        else:
            scale = belief.scales[0] * widening / nu * np.eye(d)
            total += float(scipy.stats.multivariate_t(mean, scale, d * nu).logpdf(x))
        one = expected_statistics(x[None], np.ones((1, 1)), np.zeros((1, d)), belief.kind)
        belief = belief.updated(one)
    return float(total)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.derives("prop-one-component", "thm-predictive", "eq-student-predictive")
def test_the_bound_of_one_component_is_the_evidence(family: str) -> None:
    X = clouds(20, 3, 4)
    fit = fit_variational(X, 1, family, mean_precision=0.3, degrees_of_freedom=3.7)
    assert fit.bound == pytest.approx(log_evidence_of_component(fit.prior, X), abs=1e-8)
    # and the predictive density is the ratio of two evidences
    more = np.vstack([X, [[0.3, -1.0, 2.0]]])
    ratio = log_evidence_of_component(fit.prior, more) - fit.bound
    assert fit.predictive(more[-1:])[0] == pytest.approx(ratio, abs=1e-8)


def log_evidence(prior: Belief, X: Floats) -> float:
    """Exact log-evidence under a symmetric Dirichlet prior: the sum over all labellings."""
    n, k = len(X), prior.n_components
    assert isinstance(prior.weights, Dirichlet)
    a = prior.weights.concentration
    components: dict[tuple[int, ...], float] = {(): 0.0}
    values = []
    for labels in product(range(k), repeat=n):
        total = 0.0
        for j in range(k):
            mine = tuple(i for i in range(n) if labels[i] == j)
            if mine not in components:
                components[mine] = log_evidence_of_component(prior, X[list(mine)])
            total += components[mine]
        counts = np.bincount(labels, minlength=k)
        total += float(log_gamma(a + counts).sum() - log_gamma(a).sum())
        values.append(total + float(log_gamma(a.sum()) - log_gamma(a.sum() + n)))
    return float(scipy.special.logsumexp(values))


@pytest.mark.parametrize("family", ["VVV", "VVI", "VII"])
@pytest.mark.derives("prop-label-symmetry")
def test_the_bound_of_clear_clusters_misses_the_symmetry_of_labels(family: str) -> None:
    X = np.array([[-50.4], [-50.1], [-49.8], [-49.3], [49.5], [50.0], [50.6]])
    options: dict[str, Any] = {
        "mean_precision": 1e-4,
        "degrees_of_freedom": 5.0,
        "scale": {"VVV": [[1.0]], "VVI": [1.0], "VII": 1.0}[family],
    }
    prior = prior_belief(X, 2, family, **options)
    fit = fit_variational(X, 2, family, tol=1e-12, random_state=0, **options)
    # given the labels the factors are exact, and other labels have a millionth of the evidence
    assert log_evidence(prior, X) - fit.bound == pytest.approx(np.log(2), abs=1e-4)


def test_the_bound_is_below_the_evidence_where_labels_are_in_doubt() -> None:
    X = np.random.default_rng(0).standard_normal((7, 1))
    for concentration in (0.1, 1.0, 10.0):
        prior = prior_belief(X, 2, concentration=concentration)
        evidence = log_evidence(prior, X)
        for seed in range(3):
            fit = fit_variational(
                X, 2, concentration=concentration, start="random", random_state=seed
            )
            assert fit.bound < evidence


# ---------------------------------------------------------------- pruning


@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.derives("thm-duplicates", "eq-duplicate-force")
def test_duplicates_grow_apart_below_the_threshold_only(d: int) -> None:
    X = np.random.default_rng(0).standard_normal((300, d))
    W, mean, S = 300, X.mean(axis=0), np.atleast_2d(np.cov(X.T, bias=True))
    threshold = (1 + d + d * (d + 1) / 2) / 2
    start = gmm.Mixture([0.505, 0.495], [mean, mean], [S, S])
    for concentration in (0.5, threshold - 0.4, threshold + 0.4, threshold + 3):
        fit = fit_variational(
            X, 2, concentration=concentration, mean=mean, scale=(d + 1.0) * S,
            degrees_of_freedom=d + 1.0, mean_precision=0.7, start=start, max_iter=0,
        )  # fmt: skip
        before = fit.posterior.weights.means * (W + 2 * concentration) - concentration
        after = fit.statistics.counts

        def force(count: float, strength: float = concentration) -> float:
            halves = 0.5 * (d + 1.0 + count + 1 - np.arange(1, d + 1))
            return float(
                scipy.special.digamma(strength + count)
                - d / (2 * (0.7 + count))
                + 0.5 * scipy.special.digamma(halves).sum()
                - 0.5 * d * np.log(0.5 * (d + 1.0 + count))
            )

        ratio = np.log(after[0] / after[1])
        assert ratio == pytest.approx(force(before[0]) - force(before[1]), abs=1e-10)
        growth = 0.5 * W * (ratio / np.log(before[0] / before[1]) - 1)
        # what is left out is of order 1/W, with a factor that grows with the parameters squared
        assert growth == pytest.approx(threshold - concentration, abs=40 * threshold**2 / W)
        assert (growth > 0) == (concentration < threshold)


# ---------------------------------------------------------------- the fit


def test_components_of_a_process_are_in_order() -> None:
    fit = fit_variational(clouds(120, 2, 1), 6, weight_prior="dirichlet-process", random_state=0)
    assert (np.diff(fit.statistics.counts) <= 1e-6).all()  # the last update moved less than that
    assert (np.diff(fit.trace) > -1e-9).all()


@pytest.mark.parametrize("weight_prior", WEIGHT_PRIORS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_predictive_density_integrates_to_one(family: str, weight_prior: str) -> None:
    X = clouds(30, 1, 3)
    fit = fit_variational(
        X, 3, family, weight_prior=weight_prior, concentration=2.0, random_state=0
    )
    total, _ = scipy.integrate.quad(
        lambda x: float(np.exp(fit.predictive(np.array([[x]])))[0]), -np.inf, np.inf, limit=200
    )
    assert total == pytest.approx(1.0, abs=1e-6)  # of the quadrature


def test_superfluous_components_are_left_without_rows() -> None:
    X = gmm.datasets.old_faithful().X
    used = [
        fit_variational(X, 8, concentration=c, random_state=0, tol=1e-6).effective_components()
        for c in (1e-4, 1.0, 1e3)
    ]
    assert used[0] == 2
    assert used == sorted(used)
    assert used[2] == 8


def test_weights_mean_repetition() -> None:
    X = clouds(40, 2, 1)
    weights = np.arange(40) % 3
    start = X[[1, 2, 7]]
    a = fit_variational(X, 3, start=start, sample_weight=weights, max_iter=20)
    b = fit_variational(np.repeat(X, weights, axis=0), 3, start=start, max_iter=20)
    assert a.bound == pytest.approx(b.bound, rel=1e-10)
    np.testing.assert_allclose(a.mixture.means, b.mixture.means, rtol=1e-8)


def test_rows_may_arrive_in_blocks() -> None:
    X = clouds(60, 2, 1)
    whole = fit_variational(X, 3, start=X[:3], max_iter=10)
    parts = fit_variational(BlockRows([X[:20], X[20:]]), 3, start=X[:3], max_iter=10)
    assert parts.bound == pytest.approx(whole.bound, rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_far_from_the_origin_nothing_changes(family: str) -> None:
    X = clouds(60, 2, 2)
    near = fit_variational(X, 3, family, start=X[:3], max_iter=10)
    far = fit_variational(X + 1e5, 3, family, start=X[:3] + 1e5, max_iter=10)
    assert far.bound == pytest.approx(near.bound, abs=1e-6)  # rows are rounded at 1e5
    np.testing.assert_allclose(far.mixture.means - 1e5, near.mixture.means, atol=1e-7)


def test_a_start_is_statistics_of_rows_that_are_as_it_says() -> None:
    for family in FAMILIES:
        mixture = random_mixture(family, 3, 2, seed=1)
        statistics = statistics_of_mixture(mixture, 50.0)
        again = m_step(statistics, family)
        np.testing.assert_allclose(again.weights, mixture.weights, rtol=1e-12)
        np.testing.assert_allclose(again.means, mixture.means, rtol=1e-12)
        np.testing.assert_allclose(again.stored, mixture.stored, rtol=1e-12)


def test_the_best_of_many_starts_is_returned() -> None:
    X = clouds(80, 2, 3, n_clouds=5)
    fit = fit_variational(X, 5, start="random", n_starts=6, random_state=0, tol=1e-6)
    assert len(fit.starts) == 6
    assert fit.bound == max(fit.starts) > min(fit.starts)


def test_an_empty_component_stays_at_the_prior() -> None:
    X = clouds(100, 2, 1, n_clouds=1)
    mixture = gmm.Mixture([1.0, 0.0], [X.mean(axis=0), [50.0, 50.0]], [np.cov(X.T)] * 2)
    fit = fit_variational(X, 2, concentration=1e-6, start=mixture)
    np.testing.assert_allclose(fit.posterior.means[1], X.mean(axis=0), atol=1e-8)
    assert fit.posterior.weights.expected_logs[1] < -1e5  # far below what an exponential can show
    assert np.isfinite(fit.bound)


@pytest.mark.derives("prop-variational-safeguard")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("weight_prior", ["dirichlet", "dirichlet-process"])
def test_longer_steps_never_lower_the_bound_and_come_to_the_same_end(
    family: str, weight_prior: str
) -> None:
    X = datasets.old_faithful().X
    plain, fast = (
        fit_variational(
            X,
            6,
            family,
            weight_prior=weight_prior,
            random_state=1,
            tol=1e-10,
            max_iter=5000,
            accelerate=way,
        )
        for way in ("none", "squarem")
    )
    assert fast.converged
    assert (np.diff(fast.trace) > -1e-9).all()
    assert fast.bound == pytest.approx(plain.bound, abs=1e-4)
    assert fast.n_passes < plain.n_passes == plain.n_iter + 1
    assert fast.n_iter < fast.n_passes
    assert sum(fast.bound_terms.values()) == pytest.approx(fast.bound, abs=1e-9)
    if weight_prior == "dirichlet-process":
        assert (np.diff(fast.statistics.counts) <= 1e-6).all()


@pytest.mark.derives("prop-variational-safeguard")
def test_a_duplicate_vanishes_in_a_fraction_of_the_passes() -> None:
    rows = np.random.default_rng(3).standard_normal((1000, 2))
    plain, fast = (
        fit_variational(rows, 2, random_state=0, tol=1e-9, max_iter=20_000, accelerate=way)
        for way in ("none", "squarem")
    )
    assert plain.effective_components() == fast.effective_components() == 1
    assert fast.bound == pytest.approx(plain.bound, abs=1e-4)
    assert fast.n_passes < plain.n_passes / 2


@pytest.mark.derives("prop-variational-safeguard")
@pytest.mark.parametrize("family", FAMILIES)
def test_posteriors_are_affine_in_their_statistics(family: str) -> None:
    """A vector leads to its posterior; a negative count is replaced, a bad scale refused."""
    X = datasets.old_faithful().X
    prior = prior_belief(X, 3, family)
    updates = variational._Updates(prior, sweep_of(BlockRows([X]), 3, prior.kind))
    start = starting_mixture(X, 3, family, "k-means", 0)
    point = updates.maximise(statistics_of_mixture(start, float(len(X))))
    vector = updates.vector(point)
    again = updates.from_vector(vector, point)
    assert again is not None
    for name in ("means", "mean_precisions", "degrees_of_freedom", "scales"):
        np.testing.assert_allclose(
            getattr(again.belief, name), getattr(point.belief, name), rtol=1e-9, atol=1e-9
        )
    wrong = vector.copy()
    wrong[0] = -1.0
    replaced = updates.from_vector(wrong, point)
    assert replaced is not None
    np.testing.assert_allclose(updates.vector(replaced), vector, rtol=1e-9, atol=1e-9)
    wrong = vector.copy()
    wrong[9:] = -1e6  # the second moments
    assert updates.from_vector(wrong, point) is None


def test_the_end_is_said() -> None:
    X = gmm.datasets.old_faithful().X
    fit = fit_variational(X, 2, random_state=0)
    assert fit.converged
    assert fit.n_iter == len(fit.trace) - 1 < 100
    assert "2 components, 2 effective" in repr(fit)
    stopped = fit_variational(X, 2, random_state=0, max_iter=1)
    assert not stopped.converged
    assert "stopped at max_iter" in repr(stopped)
    assert fit_variational(X, 2, random_state=0, max_iter=0).n_iter == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_components": 0}, "n_components: expected an integer of at least 1"),
        ({"family": "VEV"}, "family: expected one of VVV, EEE, VVI, VII, got 'VEV'"),
        ({"weight_prior": "flat"}, "weight_prior: expected one of 'dirichlet'"),
        ({"concentration": 0.0}, "concentration: expected a positive number"),
        ({"mean": [0.0]}, r"mean: expected shape \(2,\)"),
        ({"mean_precision": 0.0}, "mean_precision: expected a positive number"),
        ({"degrees_of_freedom": 1.0}, "degrees_of_freedom: expected more than 1, got 1.0"),
        ({"scale": [1.0, 2.0]}, r"scale: expected shape \(2, 2\)"),
        ({"scale": -np.eye(2)}, "scale"),
        ({"scale": [1.0, -1.0], "family": "VVI"}, "scale: expected positive numbers"),
        ({"scale": -1.0, "family": "VII"}, "scale: expected a finite number of at least 0"),
        ({"tol": -1.0}, "tol: expected"),
        ({"max_iter": -1}, "max_iter: expected"),
        ({"accelerate": "lbfgs"}, "accelerate: expected one of 'none', 'squarem'"),
        ({"n_starts": 0}, "n_starts: expected"),
        ({"start": "best"}, "start: expected one of"),
        ({"X": np.column_stack([np.arange(9.0), np.ones(9)])}, "feature 1 is constant"),
        ({"X": np.arange(9.0)[:, None] * [1, 2]}, "covariances of component 0|not positive"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_variational(**{"X": clouds(20, 2, 0), "n_components": 2, **arguments})


def test_predictions_need_the_features_of_the_fit() -> None:
    fit = fit_variational(clouds(20, 2, 0), 2, random_state=0)
    with pytest.raises(ValueError, match="X: expected 2 features"):
        fit.predictive(np.zeros((3, 1)))
    assert fit.predictive(np.zeros((3, 2))).shape == (3,)


# ---------------------------------------------------------------- the log


def test_the_log_tells_of_runs_and_iterations(caplog: pytest.LogCaptureFixture) -> None:
    X = gmm.datasets.old_faithful().X
    with caplog.at_level(logging.DEBUG, "gmm.variational"):
        fit = gmm.fit_variational(X, 3, max_iter=4, tol=0.0, random_state=0)
    assert caplog.messages == [
        "variational fit of VVV with up to 3 components begins",
        *(f"iteration {i}: bound {bound:.6f}" for i, bound in enumerate(fit.trace)),
        f"start 1 of 1 ends: bound {fit.bound:.6f} after 4 iterations, max_iter",
        f"variational fit ends: bound {fit.bound:.6f} after 4 iterations",
    ]
