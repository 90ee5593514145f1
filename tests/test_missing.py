"""Missing values: the E-step against textbook formulas row by row, and EM on what is seen."""

from __future__ import annotations

import tracemalloc
import warnings
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from conftest import random_mixture
from numpy.typing import NDArray

import gmm
from gmm import missing, threads
from gmm.bound import expected_complete_log_likelihood
from gmm.families import FAMILIES, parse_family
from gmm.m_step import m_step
from gmm.missing import IncompleteRows, MissingSweep, grouped
from gmm.prior import default_prior

Floats = NDArray[np.float64]
FOURTEEN = [name for name in FAMILIES if len(name) == 3]
KINDS = ["VVV", "EEE", "VVI", "VII"]


def with_gaps(X: Floats, share: float, seed: int) -> Floats:
    """Rows with a share of the values missing completely at random; none is left without any."""
    rng = np.random.default_rng(seed)
    gaps = rng.random(X.shape) < share
    full = gaps.all(axis=1)
    gaps[full, rng.integers(X.shape[1], size=full.sum())] = False
    return np.where(gaps, np.nan, X)


def some_rows(n: int = 60, d: int = 3, share: float = 0.3, seed: int = 0) -> Floats:
    X, _ = random_mixture("VVV", 2, d, seed=seed).sample(n, seed)
    return with_gaps(X, share, seed)


def reference(
    X: Floats, mixture: gmm.Mixture, weights: Floats
) -> tuple[Floats, Floats, Floats, float]:
    """Counts, first and second moments about the means, and log-likelihood: one row at a time."""
    k, d = mixture.means.shape
    counts, first, second, total = np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d)), 0.0
    for x, w in zip(X, weights, strict=True):
        o, m = np.flatnonzero(~np.isnan(x)), np.flatnonzero(np.isnan(x))
        joint = np.zeros(k)
        for j in range(k):
            mean, covariance = mixture.means[j], mixture.covariances[j]
            normal = scipy.stats.multivariate_normal(mean[o], covariance[np.ix_(o, o)])
            joint[j] = mixture.weights[j] * normal.pdf(x[o])
        total += w * np.log(joint.sum())
        shares = joint / joint.sum()
        for j in range(k):
            mean, covariance = mixture.means[j], mixture.covariances[j]
            gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
            completed = x - mean
            completed[m] = gain @ completed[o]
            product = np.outer(completed, completed)
            product[np.ix_(m, m)] += covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)]
            counts[j] += w * shares[j]
            first[j] += w * shares[j] * completed
            second[j] += w * shares[j] * product
    return counts, first, second, total


def in_kind(second: Floats, kind: str) -> Floats:
    if kind == "full":
        return second
    if kind == "tied":
        return np.asarray(second.sum(axis=0))
    if kind == "diag":
        return np.diagonal(second, axis1=1, axis2=2)
    return np.asarray(np.trace(second, axis1=1, axis2=2))


# ---------------------------------------------------------------- the E-step


@pytest.mark.derives(
    "thm-missing-e-step",
    "eq-observed-likelihood",
    "eq-missing-responsibilities",
    "eq-completed-row",
    "eq-missing-statistics",
)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_are_those_of_the_textbook_row_by_row(name: str, weighted: bool) -> None:
    X = some_rows()
    rng = np.random.default_rng(5)
    weights = rng.uniform(0.1, 3.0, len(X)) if weighted else None
    mixture = random_mixture(name, 3, 3, seed=2, spread=1.0)
    rows = IncompleteRows(X, weights)
    got = MissingSweep(rows, 3, mixture.kind)(mixture).shifted(mixture.means)
    ones = np.ones(len(X)) if weights is None else weights
    counts, first, second, log_likelihood = reference(X, mixture, ones)
    # sums of sixty numbers of size one to ten, each with a few rounding errors
    np.testing.assert_allclose(got.counts, counts, atol=1e-11)
    np.testing.assert_allclose(got.first, first, atol=1e-11)
    np.testing.assert_allclose(got.second, in_kind(second, mixture.kind), atol=1e-10)
    assert got.log_likelihood == pytest.approx(log_likelihood, rel=1e-13)
    assert got.n_rows == len(X)


@pytest.mark.derives("prop-threads")
@pytest.mark.parametrize("name", KINDS)
def test_the_number_of_threads_does_not_change_a_bit(name: str) -> None:
    X = some_rows(n=40_000, d=4, seed=2)
    mixture = random_mixture(name, 3, 4, seed=2, spread=1.0)
    sweep = MissingSweep(IncompleteRows(X, np.linspace(0.5, 2.0, len(X))), 3, mixture.kind)
    assert len(sweep.groups) > 3
    sizes = 3 * sum(group.values.size for group in sweep.groups)
    assert sizes >= missing.NUMBERS  # so that threads are used
    parts = []
    for n_threads in (1, 2, 3):
        with threads.use(n_threads):
            parts.append(sweep(mixture))
    for other in parts[1:]:
        assert other.log_likelihood == parts[0].log_likelihood
        for array in ("counts", "first", "second"):
            np.testing.assert_array_equal(getattr(other, array), getattr(parts[0], array))


@pytest.mark.parametrize("name", ["VVV", "VII"])
def test_memory_of_a_pass_does_not_grow_with_rows_times_components(name: str) -> None:
    """Beside the rows: what one group takes for each thread, and 64 sums."""
    peaks = []
    for n in (20_000, 80_000):
        X = some_rows(n=n, d=4, seed=2)
        mixture = random_mixture(name, 12, 4, seed=2, spread=1.0)
        sweep = MissingSweep(IncompleteRows(X), 12, mixture.kind)
        tracemalloc.start()
        with threads.use(1):
            sweep(mixture)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    one = 12 * 4 * 8 * 60_000  # bytes of n K d numbers for the further rows
    assert peaks[1] - peaks[0] < one / 8


@pytest.mark.derives("lem-masked-covariance")
def test_masked_covariance_holds_the_block() -> None:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((5, 5))
    covariance = factor @ factor.T + np.eye(5)
    seen = np.array([True, False, True, True, False])
    masked = np.where(np.outer(seen, seen), covariance, np.eye(5))
    block = covariance[np.ix_(seen, seen)]
    inverse = np.zeros((5, 5))
    inverse[np.ix_(seen, seen)] = np.linalg.inv(block)
    inverse[~seen, ~seen] = 1.0
    np.testing.assert_allclose(np.linalg.inv(masked), inverse, atol=1e-13)
    assert np.linalg.det(masked) == pytest.approx(np.linalg.det(block), rel=1e-12)
    lower = np.linalg.cholesky(masked)
    np.testing.assert_array_equal(lower[np.ix_(seen, ~seen)], 0.0)
    np.testing.assert_allclose(lower[np.ix_(seen, seen)], np.linalg.cholesky(block), atol=1e-14)


@pytest.mark.parametrize("n_components", [1, 200])
def test_groups_hold_every_row_once(n_components: int) -> None:
    """Also where groups are split to bound memory, and patterns with many rows are cut."""
    many = np.tile([1.0, 2.0, np.nan, np.nan], (3000, 1))
    X = np.concatenate([some_rows(n=300, d=4, seed=1), many])
    weights = np.random.default_rng(0).uniform(1.0, 2.0, len(X))
    seen_weight = np.zeros(len(X))
    for group in grouped(X, weights, n_components):
        np.add.at(seen_weight, group.places, group.weights)
        np.testing.assert_array_equal(
            np.where(group.seen[:, None], group.values, np.nan), X[group.places]
        )
    np.testing.assert_array_equal(seen_weight, weights)


# ---------------------------------------------------------------- what is seen


@pytest.mark.derives("eq-observed-likelihood", "eq-missing-responsibilities")
@pytest.mark.parametrize("name", FOURTEEN)
def test_densities_are_those_of_the_marginal_mixtures(name: str) -> None:
    mixture = random_mixture(name, 3, 3, seed=1)
    X = some_rows(seed=3)
    densities = missing.log_density(mixture, X)
    shares = missing.responsibilities(mixture, X)
    for x, density, share in zip(X, densities, shares, strict=True):
        seen = np.flatnonzero(~np.isnan(x))
        # as a free family: to find a constrained one again takes an inner iteration
        free = gmm.Mixture(mixture.weights, mixture.means, mixture.covariances).marginal(seen)
        assert density == pytest.approx(free.log_density(x[None, seen])[0], abs=1e-10)
        np.testing.assert_allclose(share, free.responsibilities(x[None, seen])[0], atol=1e-11)


@pytest.mark.parametrize("name", KINDS)
def test_complete_rows_are_as_ever(name: str) -> None:
    mixture = random_mixture(name, 3, 4, seed=1)
    X, _ = mixture.sample(50, 0)
    np.testing.assert_allclose(missing.log_density(mixture, X), mixture.log_density(X), atol=1e-10)
    np.testing.assert_allclose(
        missing.responsibilities(mixture, X), mixture.responsibilities(X), atol=1e-10
    )
    np.testing.assert_array_equal(mixture.impute(X), X)


def test_a_row_without_values_is_the_mixture_itself() -> None:
    mixture = random_mixture("VVV", 3, 2, seed=1)
    nothing = np.full((1, 2), np.nan)
    assert missing.log_density(mixture, nothing)[0] == pytest.approx(0.0, abs=1e-15)
    np.testing.assert_allclose(missing.responsibilities(mixture, nothing)[0], mixture.weights)
    np.testing.assert_allclose(mixture.impute(nothing)[0], mixture.mean)


@pytest.mark.derives("eq-imputed-mean")
@pytest.mark.parametrize("name", KINDS)
def test_imputed_values_are_conditional_means(name: str) -> None:
    mixture = random_mixture(name, 3, 3, seed=4)
    X = some_rows(seed=4)
    filled = mixture.impute(X)
    for x, got in zip(X, filled, strict=True):
        gaps = np.isnan(x)
        np.testing.assert_array_equal(got[~gaps], x[~gaps])
        if gaps.any():
            conditional = mixture.conditional(np.flatnonzero(~gaps), x[~gaps])
            np.testing.assert_allclose(got[gaps], conditional.mean, atol=1e-10)


@pytest.mark.parametrize("name", KINDS)
def test_draws_have_the_conditional_distribution(name: str) -> None:
    mixture = random_mixture(name, 2, 3, seed=4, spread=1.0)
    n = 20_000
    X = np.tile([0.3, np.nan, np.nan], (n, 1))
    drawn = mixture.impute(X, draw=True, random_state=1)[:, 1:]
    conditional = mixture.conditional([0], [0.3])
    # five standard errors of a mean, and of a covariance of values whose kurtosis is moderate
    error = 5 * np.sqrt(np.diagonal(conditional.covariance) / n)
    assert (np.abs(drawn.mean(axis=0) - conditional.mean) < error).all()
    scale = np.sqrt(np.outer(*2 * [np.diagonal(conditional.covariance)]))
    gap = np.cov(drawn.T) - conditional.covariance
    assert (np.abs(gap) < 10 * scale / np.sqrt(n)).all()
    again = mixture.impute(X, draw=True, random_state=1)[:, 1:]
    np.testing.assert_array_equal(drawn, again)


# ---------------------------------------------------------------- EM


@pytest.mark.derives("thm-missing-monotone")
@pytest.mark.parametrize("name", FOURTEEN)
def test_likelihood_of_what_is_seen_never_decreases(name: str) -> None:
    X = some_rows(n=150, seed=7)
    fit = gmm.fit(X, 2, name, missing="em", random_state=0, max_iter=60)
    # rounding: n · 10⁻¹⁵ times numbers of size ten; and the inner iteration's 10⁻¹⁰ of a step
    assert np.diff(fit.trace.log_likelihood).min() > -1e-9
    assert fit.log_likelihood > fit.trace.log_likelihood[0]
    seen = missing.log_density(fit.mixture, X).sum()
    assert fit.log_likelihood == pytest.approx(seen, rel=1e-12)


def test_no_row_need_be_complete() -> None:
    """The fit is a fixed point: its weights are the mean responsibilities, row by row."""
    X = some_rows(n=150, seed=7)
    X = X[np.isnan(X).any(axis=1)]
    fit = gmm.fit(X, 2, missing="em", random_state=0, tol=1e-12)
    counts, _, _, total = reference(X, fit.mixture, np.ones(len(X)))
    assert fit.log_likelihood == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(fit.mixture.weights, counts / len(X), rtol=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_without_gaps_it_is_the_usual_fit(name: str) -> None:
    X, _ = random_mixture(name, 2, 3, seed=3).sample(80, 3)
    plain = gmm.fit(X, 2, name, random_state=0)
    fit = gmm.fit(X, 2, name, missing="em", random_state=0)
    np.testing.assert_array_equal(fit.mixture.means, plain.mixture.means)
    assert fit.log_likelihood == plain.log_likelihood


@pytest.mark.parametrize("name", FOURTEEN)
def test_one_gap_that_hardly_matters_is_nearly_the_usual_fit(name: str) -> None:
    """The pass over groups and the usual one meet where the gap has next to no weight."""
    X, _ = random_mixture("VVV", 2, 3, seed=3).sample(80, 3)
    extra = np.concatenate([X, [[0.0, np.nan, 0.0]]])
    weights = np.append(np.ones(80), 1e-13)
    start = random_mixture("VVV", 2, 3, seed=3)
    plain = gmm.fit(X, 2, name, start=start, tol=0, max_iter=5)
    fit = gmm.fit(
        extra, 2, name, start=start, tol=0, max_iter=5, sample_weight=weights, missing="em"
    )
    np.testing.assert_allclose(fit.mixture.means, plain.mixture.means, atol=1e-10)
    np.testing.assert_allclose(fit.mixture.covariances, plain.mixture.covariances, atol=1e-10)


@pytest.mark.derives("eq-observed-likelihood", "thm-missing-e-step")
def test_the_gradient_vanishes_at_the_fit() -> None:
    """Central differences of the likelihood of what is seen, in every direction."""
    X = some_rows(n=120, d=2, seed=8)
    fit = gmm.fit(X, 2, missing="em", random_state=0, tol=1e-15)

    def value(shift: Floats) -> float:
        m = fit.mixture
        logits = np.log(m.weights) + np.array([shift[0], 0.0])
        weights = np.exp(logits) / np.exp(logits).sum()
        means = m.means + shift[1:5].reshape(2, 2)
        lower = np.linalg.cholesky(m.covariances) + np.array(
            [[[a, 0.0], [b, c]] for a, b, c in shift[5:].reshape(2, 3)]
        )
        covariances = lower @ np.swapaxes(lower, 1, 2)
        return float(missing.log_density(gmm.Mixture(weights, means, covariances), X).sum())

    h = 1e-5
    gradient = [(value(h * e) - value(-h * e)) / (2 * h) for e in np.eye(11)]
    # differences: rounding 10⁻¹³ · 400 / h; at the start of EM the entries are of size ten
    assert np.abs(gradient).max() < 1e-4


@pytest.mark.parametrize("name", ["VVV", "EEE", "EVI", "VII"])
def test_weights_count_copies(name: str) -> None:
    X = some_rows(n=80, seed=1)
    copies = np.random.default_rng(1).integers(0, 4, len(X))
    start = random_mixture(name, 2, 3, seed=1)
    repeated = gmm.fit(np.repeat(X, copies, axis=0), 2, name, start=start, missing="em")
    weighted = gmm.fit(X, 2, name, start=start, missing="em", sample_weight=copies)
    # stopped by the same rule, one step apart at most: 1e-8 per row in the likelihood
    assert weighted.log_likelihood == pytest.approx(repeated.log_likelihood, abs=1e-8)
    np.testing.assert_allclose(weighted.mixture.means, repeated.mixture.means, atol=1e-8)
    assert weighted.n_rows == np.count_nonzero(copies)
    assert weighted.total_weight == copies.sum()


@pytest.mark.parametrize("accelerate", ["auto", "squarem", "lbfgs", "anderson"])
def test_accelerators_reach_the_same_maximum(accelerate: str) -> None:
    X = some_rows(n=200, seed=7)
    plain = gmm.fit(X, 2, missing="em", random_state=0, tol=1e-12)
    fast = gmm.fit(X, 2, missing="em", random_state=0, tol=1e-12, accelerate=accelerate)
    assert fast.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-6)
    assert (np.diff(fast.trace.log_likelihood) > -1e-9).all()


def test_a_ridge_and_a_prior_do_what_they_do_with_complete_rows() -> None:
    X = some_rows(n=30, seed=5)
    rows = IncompleteRows(X)
    start = gmm.initial.starting_mixture(rows, 2, "VVV", "random", 0)
    statistics = MissingSweep(rows, 2, "full")(start)
    ridged = gmm.fit(X, 2, start=start, missing="em", ridge=0.3, max_iter=1, tol=0)
    np.testing.assert_allclose(
        ridged.mixture.covariances, m_step(statistics, "VVV", 0.3).covariances, atol=1e-12
    )
    prior = default_prior(rows, 2)
    fit = gmm.fit(X, 2, start=start, missing="em", prior=prior, max_iter=80)
    posterior = [
        gmm.fit(X, 2, start=start, missing="em", prior=prior, max_iter=i) for i in (0, 1, 2)
    ]
    values = [one.log_likelihood + one.log_prior for one in [*posterior, fit]]
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize("start", ["k-means", "k-means++", "random", "octant"])
def test_every_start_begins_with_a_mixture_of_the_rows(start: str) -> None:
    truth = random_mixture("VVV", 2, 3, seed=11, spread=8.0)
    X = with_gaps(truth.sample(400, 1)[0], 0.2, 1)
    fit = gmm.fit(X, 2, start=start, missing="em", random_state=0)
    order = np.argsort(fit.mixture.means[:, 0]), np.argsort(truth.means[:, 0])
    # components are eight deviations apart; a mean of some hundred rows errs by 0.2 at most
    gap = fit.mixture.means[order[0]] - truth.means[order[1]]
    assert np.abs(gap).max() < 0.5


def test_many_features_start_from_variances_alone() -> None:
    """Beyond the limit the normal distribution of a start has no correlations."""
    d = missing.NORMAL_FEATURES + 1
    X = with_gaps(np.random.default_rng(0).standard_normal((50, d)), 0.1, 0)
    rows = IncompleteRows(X)
    np.testing.assert_allclose(rows.variances, np.nanvar(X, axis=0), atol=1e-4)  # and the ridge
    np.testing.assert_allclose(rows.mean, np.nanmean(X, axis=0), atol=1e-12)
    off = rows.covariance - np.diag(rows.variances)
    np.testing.assert_array_equal(off, 0.0)
    gmm.fit(X, 1, "VVI", missing="em")


# ---------------------------------------------------------------- one normal distribution


def regression(X: Floats) -> tuple[Floats, float]:
    """Least squares of the second feature on the first, where both are seen."""
    pairs = X[~np.isnan(X[:, 1])]
    design = np.column_stack([np.ones(len(pairs)), pairs[:, 0]])
    coefficients = np.asarray(np.linalg.lstsq(design, pairs[:, 1], rcond=None)[0], np.float64)
    return coefficients, float(np.mean((pairs[:, 1] - design @ coefficients) ** 2))


def monotone_sample(n: int = 200, seed: int = 0) -> Floats:
    """Two features, the second of which is missing where the first is great (MAR)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    y = 1.0 + 0.8 * x + 0.6 * rng.standard_normal(n)
    y[x + rng.standard_normal(n) > 0.3] = np.nan
    return np.column_stack([x, y])


@pytest.mark.derives("thm-missing-rate")
def test_em_finds_anderson_s_closed_form() -> None:
    """Anderson (1957): the first feature's moments, and the regression on it, from their rows."""
    X = monotone_sample()
    mixture = gmm.fit(X, 1, missing="em", tol=1e-16, max_iter=5000).mixture
    (a, b), residual = regression(X)
    mean, variance = X[:, 0].mean(), X[:, 0].var()
    np.testing.assert_allclose(mixture.means[0], [mean, a + b * mean], atol=1e-7)
    expected = [[variance, b * variance], [b * variance, residual + b**2 * variance]]
    np.testing.assert_allclose(mixture.covariances[0], expected, atol=1e-7)


@pytest.mark.derives("thm-missing-rate", "eq-missing-rate")
def test_the_rate_is_the_fraction_of_missing_information() -> None:
    X = monotone_sample(seed=1)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    start = gmm.Mixture([1.0], [[0.3, -1.0]], [[[2.0, 0.7], [0.7, 3.0]]])
    fit = gmm.fit(
        X, 1, start=start, missing="em", sample_weight=weights, tol=0, max_iter=12, keep="all"
    )
    design = np.column_stack([np.ones(len(X)), X[:, 0]])
    gone = np.isnan(X[:, 1])
    of_seen, of_gone = ((design[part].T * weights[part]) @ design[part] for part in (~gone, gone))
    fraction = np.linalg.solve(of_seen + of_gone, of_gone)
    pairs = X[~gone, 1]
    best = np.linalg.solve(of_seen, (design[~gone].T * weights[~gone]) @ pairs)
    residuals = pairs - design[~gone] @ best
    least = weights[~gone] @ residuals**2 / weights[~gone].sum()
    total, lost = weights.sum(), weights[gone].sum()
    found = []
    for i in range(13):
        mean, covariance = fit.trace.mixtures[i].means[0], fit.trace.mixtures[i].covariances[0]
        slope = covariance[0, 1] / covariance[0, 0]
        b = np.array([mean[1] - slope * mean[0], slope])
        found.append((b, covariance[1, 1] - slope * covariance[0, 1]))
    for (b, variance), (after, next_variance) in pairwise(found):
        np.testing.assert_allclose(after - best, fraction @ (b - best), atol=1e-12)
        bracket = (after - best) @ of_seen @ (after - best) + (b - after) @ of_gone @ (b - after)
        expected = (lost * (variance - least) + bracket) / total
        assert next_variance - least == pytest.approx(expected, abs=1e-11)
    rates = np.linalg.eigvals(fraction)
    assert lost / total <= rates.max() < 1
    assert rates.min() >= 0


@pytest.mark.derives("eq-missing-gradient")
def test_expected_statistics_are_the_gradient_of_what_is_seen() -> None:
    """With respect to a mean it is Σ_k⁻¹ Σ_i w_i r_ik (x̂_ik − μ_k)."""
    X = some_rows(n=40, seed=3)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    mixture = random_mixture("VVV", 2, 3, seed=3, spread=1.0)
    statistics = MissingSweep(IncompleteRows(X, weights), 2, "full")(mixture)
    first = statistics.shifted(mixture.means).first
    gradient = np.linalg.solve(mixture.covariances, first[:, :, None])[:, :, 0]
    step = 1e-5
    for k, j in np.ndindex(2, 3):
        sides = []
        for sign in (1, -1):
            means = mixture.means.copy()
            means[k, j] += sign * step
            moved = gmm.Mixture(mixture.weights, means, mixture.covariances)
            sides.append(weights @ missing.log_density(moved, X))
        difference = (sides[0] - sides[1]) / (2 * step)
        assert gradient[k, j] == pytest.approx(difference, abs=1e-6, rel=1e-6)


@pytest.mark.derives("prop-imputation-bias", "eq-mean-imputation", "eq-regression-imputation")
def test_imputed_variances_shrink_as_predicted() -> None:
    rng = np.random.default_rng(2)
    n, rho, q = 200_000, 0.6, 0.7
    x = rng.standard_normal(n)
    y = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal(n)
    X = np.column_stack([x, np.where(rng.random(n) < q, y, np.nan)])
    truth = gmm.Mixture([1.0], [[0.0, 0.0]], [[[1.0, rho], [rho, 1.0]]])
    by_mean = np.where(np.isnan(X), 0.0, X)
    by_regression = truth.impute(X)
    by_draws = truth.impute(X, draw=True, random_state=3)
    error = 5 * np.sqrt(2 / n)  # five standard errors of a variance of one
    for filled, variance, covariance in (
        (by_mean, q, q * rho),
        (by_regression, 1 - (1 - q) * (1 - rho**2), rho),
        (by_draws, 1.0, rho),
    ):
        got = np.cov(filled.T)
        assert got[1, 1] == pytest.approx(variance, abs=error)
        assert got[0, 1] == pytest.approx(covariance, abs=error)


@pytest.mark.derives("thm-missing-e-step")
def test_without_the_conditional_covariance_the_bound_is_not_touched() -> None:
    """The expected complete log-likelihood of draws has its maximum at our M-step.

    Without the term the variances would be smaller by 0.5 and 0.2, and the bound lower by 3.5.
    """
    X = some_rows(n=40, d=2, seed=6)
    mixture = random_mixture("VVV", 2, 2, seed=6)
    statistics = MissingSweep(IncompleteRows(X), 2, "full")(mixture)
    best = m_step(statistics)
    copies = 500
    drawn = [mixture.impute(X, draw=True, random_state=s) for s in range(copies)]
    complete = np.concatenate(drawn)
    shares = np.tile(missing.responsibilities(mixture, X), (copies, 1))
    exact = mixture.responsibilities(complete)
    # the component of a draw given the completed row averages to that given what is seen
    averaged = exact.reshape(copies, len(X), 2).mean(axis=0)
    np.testing.assert_allclose(averaged, shares[: len(X)], atol=0.1)
    sampled = m_step(gmm.e_step.expected_statistics(complete, exact, mixture.means, "full"))
    np.testing.assert_allclose(sampled.means, best.means, atol=0.05)
    np.testing.assert_allclose(sampled.covariances, best.covariances, atol=0.1)
    ours = expected_complete_log_likelihood(complete, best, exact)
    best_of_draws = expected_complete_log_likelihood(complete, sampled, exact)
    assert 0 <= (best_of_draws - ours) / copies < 0.02


@pytest.mark.derives("thm-ignorability")
def test_em_is_right_under_mar_where_complete_cases_are_not() -> None:
    rng = np.random.default_rng(0)
    n, rho = 20_000, 0.8
    x = rng.standard_normal(n)
    y = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal(n)
    X = np.column_stack([x, np.where(x > 0, np.nan, y)])
    fit = gmm.fit(X, 1, missing="em", tol=1e-12).mixture
    # the regression on half a normal: its intercept has a standard error of about 0.6 / √(n/2) · 2
    assert fit.means[0] == pytest.approx([0.0, 0.0], abs=0.06)
    assert fit.covariances[0] == pytest.approx(np.array([[1, rho], [rho, 1]]), abs=0.08)
    half = np.sqrt(2 / np.pi)  # the mean of a normal's left half is minus this
    assert np.nanmean(X[:, 1]) == pytest.approx(-rho * half, abs=0.04)


# ---------------------------------------------------------------- what is refused, and what is said


def test_rows_without_values_are_counted_and_left_out() -> None:
    X = some_rows(n=60, seed=1)
    more = np.concatenate([np.full((2, 3), np.nan), X, np.full((1, 3), np.nan)])
    start = random_mixture("VVV", 2, 3, seed=1)
    with pytest.warns(gmm.MissingDataWarning, match="3 of 63 rows") as caught:
        fit = gmm.fit(more, 2, start=start, missing="em")
    assert caught[0].filename == __file__
    assert fit.n_rows == fit.total_weight == 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = gmm.fit(X, 2, start=start, missing="em")
        # a row of no weight is absent: nothing to warn of
        gmm.fit(more, 2, start=start, missing="em", sample_weight=[0.0] * 2 + [1.0] * 60 + [0.0])
    assert fit.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-9)


def test_wrong_input_is_refused() -> None:
    X = some_rows()
    with pytest.raises(ValueError, match=r"X: expected finite numbers, got NaN .* gmm.missing"):
        gmm.fit(X, 2)
    with pytest.raises(ValueError, match=r"got NaN .* see gmm.missing"):
        random_mixture("VVV", 2, 3, seed=0).log_density(X)
    with pytest.raises(ValueError, match="missing: expected one of 'raise', 'em'"):
        gmm.fit(X, 2, missing="drop")
    infinite = X.copy()
    infinite[4, 1] = -np.inf
    with pytest.raises(ValueError, match=r"got infinity at \[4, 1\]"):
        gmm.fit(infinite, 2, missing="em")
    never = X.copy()
    never[:, 2] = np.nan
    with pytest.raises(ValueError, match="feature 2 has none"):
        gmm.fit(never, 2, missing="em")
    with pytest.raises(ValueError, match="at least 3 rows"), pytest.warns(gmm.MissingDataWarning):
        gmm.fit([[1.0, np.nan], [2.0, 1.0], [np.nan, np.nan]], 3, missing="em")
    with pytest.raises(TypeError, match="missing: 'em' needs an array"):
        gmm.fit(gmm.rows.BlockRows([X]), 2, missing="em")
    with pytest.raises(ValueError, match="X: expected 2 features, got 3"):
        random_mixture("VVV", 2, 2, seed=0).impute(X)
    constant = X.copy()
    constant[~np.isnan(X[:, 0]), 0] = 7.0
    with pytest.raises(gmm.SingularCovarianceError, match="feature 0 is constant"):
        gmm.fit(constant, 2, missing="em")


def test_files_are_read_too(tmp_path: object) -> None:
    X = some_rows()
    path = f"{tmp_path}/rows.npy"
    np.save(path, X)
    start = random_mixture("VVV", 2, 3, seed=1)
    from_file = gmm.fit(path, 2, start=start, missing="em")
    assert from_file.log_likelihood == gmm.fit(X, 2, start=start, missing="em").log_likelihood


def test_a_table_of_models_is_made_of_what_is_seen() -> None:
    truth = random_mixture("EEE", 2, 2, seed=4, spread=6.0)
    X = with_gaps(truth.sample(150, 0)[0], 0.15, 0)
    table = gmm.select(X, [1, 2, 3], ["EEE", "VVV"], "icl", missing="em", random_state=0)
    best = table.best
    assert best.mixture.n_components == 2
    seen = missing.log_density(best.mixture, X).sum()
    assert best.log_likelihood == pytest.approx(seen, rel=1e-12)
    certain = np.log(missing.responsibilities(best.mixture, X).max(axis=1)).sum()
    name = parse_family(best.mixture.family)
    assert table.icl(name, 2) == pytest.approx(table.bic(name, 2) - 2 * certain, rel=1e-9)
    with pytest.raises(ValueError, match="'cv' needs rows in an array"):
        gmm.select(X, 2, "VVV", "cv", missing="em", random_state=0)
