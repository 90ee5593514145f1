"""Bound plus gap is the likelihood, for any responsibilities."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sympy
from conftest import random_mixture
from hypothesis import given, settings
from hypothesis import strategies as st

import gmm
from gmm.bound import entropy, expected_complete_log_likelihood, gap, lower_bound
from gmm.checks import FloatArray


@pytest.mark.derives("thm-decomposition", "eq-elbo", "eq-gap", "eq-kl")
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4), d=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_bound_plus_gap_is_the_log_likelihood(seed: int, k: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    mixture = random_mixture("VVV", k, d, seed)
    X, weights = 3 * rng.standard_normal((15, d)), rng.uniform(0.1, 2.0, 15)
    shares = rng.dirichlet(np.full(k, 0.5), 15)
    total = lower_bound(X, mixture, shares, weights) + gap(X, mixture, shares, weights)
    assert total == pytest.approx(mixture.log_likelihood(X, weights), rel=1e-10)
    assert gap(X, mixture, shares, weights) >= -1e-12


@pytest.mark.derives("thm-decomposition")
def test_bound_touches_the_likelihood_at_the_posterior() -> None:
    mixture = random_mixture("VVV", 3, 2, seed=1)
    X = mixture.sample(100, 0)[0]
    posterior = mixture.responsibilities(X)
    assert lower_bound(X, mixture, posterior) == pytest.approx(mixture.log_likelihood(X), rel=1e-13)
    assert gap(X, mixture, posterior) == pytest.approx(0.0, abs=1e-11)


@pytest.mark.derives("eq-q-function")
def test_q_is_the_expectation_over_all_labellings() -> None:
    """Brute force over the 2³ labellings of three rows."""
    mixture = random_mixture("VVV", 2, 1, seed=2)
    X = np.array([[0.0], [1.0], [-2.0]])
    shares = np.array([[0.3, 0.7], [0.9, 0.1], [0.5, 0.5]])
    joint = mixture.component_log_densities(X)
    expected = 0.0
    for code in range(8):
        labels = [(code >> i) & 1 for i in range(3)]
        probability = np.prod([shares[i, z] for i, z in enumerate(labels)])
        expected += probability * sum(joint[i, z] for i, z in enumerate(labels))
    assert expected_complete_log_likelihood(X, mixture, shares) == pytest.approx(
        expected, rel=1e-14
    )


@pytest.mark.derives("eq-entropy")
def test_entropy_is_greatest_for_equal_shares_and_zero_for_hard_ones() -> None:
    assert entropy(np.full((5, 4), 0.25)) == pytest.approx(5 * np.log(4), rel=1e-15)
    assert entropy(np.eye(3)) == 0.0
    assert entropy([[0.5, 0.5]], [3.0]) == pytest.approx(3 * np.log(2), rel=1e-15)


def test_hard_assignments_far_away_give_a_finite_bound() -> None:
    """A share of zero times a log-density of minus a million is zero."""
    mixture = random_mixture("VVV", 2, 1, seed=3)
    X = np.array([[1e3], [-1e3]])
    assert np.isfinite(lower_bound(X, mixture, np.eye(2)))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([[0.5, 0.6], [0.5, 0.5]], "responsibilities: expected rows of non-negative numbers"),
        ([[1.5, -0.5], [0.5, 0.5]], "responsibilities: expected rows of non-negative numbers"),
        ([[1.0], [1.0]], "responsibilities: expected 2 features, got 1"),
        ([[0.5, 0.5]], "responsibilities: expected 2 rows, got 1"),
        ([[np.nan, 0.5], [0.5, 0.5]], "responsibilities: expected finite numbers"),
    ],
)
def test_bad_responsibilities_are_refused(shares: list[list[float]], message: str) -> None:
    mixture = random_mixture("VVV", 2, 1, seed=4)
    X = [[0.0], [1.0]]
    for function in (lower_bound, gap):
        with pytest.raises(ValueError, match=message):
            function(X, mixture, shares)


# ---------------------------------------------------------------- the theory of the chapter


def _joint(X: FloatArray, mixture: gmm.Mixture) -> FloatArray:
    """log π_k + log N(x_i | μ_k, Σ_k) by scipy, shape (n, K)."""
    columns = [
        np.log(weight) + scipy.stats.multivariate_normal(mean, covariance).logpdf(X)
        for weight, mean, covariance in zip(
            mixture.weights, mixture.means, mixture.covariances, strict=True
        )
    ]
    return np.stack(columns, axis=1)


@pytest.mark.derives("eq-elbo", "eq-q-function")
def test_bound_is_q_plus_entropy_by_definition() -> None:
    rng = np.random.default_rng(0)
    mixture, X = random_mixture("VVV", 3, 2, seed=0), rng.normal(size=(50, 2))
    r, w = rng.dirichlet(np.ones(3), size=50), rng.uniform(0, 2, size=50)
    joint = _joint(X, mixture)
    # sums of 150 terms of size below 100 with relative rounding 2^-53 each: far below 1e-11
    assert lower_bound(X, mixture, r, w) == pytest.approx(
        float(np.sum(w[:, None] * r * (joint - np.log(r)))), rel=1e-12
    )
    assert expected_complete_log_likelihood(X, mixture, r, w) == pytest.approx(
        float(np.sum(w[:, None] * r * joint)), rel=1e-12
    )
    assert entropy(r, w) == pytest.approx(float(w @ scipy.stats.entropy(r, axis=1)), rel=1e-12)


@pytest.mark.derives("thm-decomposition", "eq-gap")
def test_bound_plus_gap_is_the_log_likelihood_for_any_responsibilities() -> None:
    rng = np.random.default_rng(1)
    mixture, X = random_mixture("VVV", 3, 2, seed=0), rng.normal(size=(40, 2))
    w = rng.uniform(0, 2, size=40)
    joint = _joint(X, mixture)
    exact = float(w @ scipy.special.logsumexp(joint, axis=1))
    posterior = scipy.special.softmax(joint, axis=1)
    for concentration in (0.05, 1.0, 20.0):
        r = rng.dirichlet(np.full(3, concentration), size=40)
        divergence = float(w @ scipy.special.rel_entr(r, posterior).sum(axis=1))
        assert gap(X, mixture, r, w) == pytest.approx(divergence, rel=1e-11)
        assert divergence > 0
        assert lower_bound(X, mixture, r, w) + divergence == pytest.approx(exact, rel=1e-12)
    assert lower_bound(X, mixture, posterior, w) == pytest.approx(exact, rel=1e-13)


@pytest.mark.derives("thm-decomposition")
def test_decomposition_holds_symbolically_for_one_row_and_three_labels() -> None:
    p = sympy.symbols("p1:4", positive=True)
    r = sympy.symbols("r1:3", positive=True)
    shares = (*r, 1 - sum(r))
    total = sum(p)
    bound = sum(s * sympy.log(a / s) for s, a in zip(shares, p, strict=True))
    divergence = sum(s * sympy.log(s * total / a) for s, a in zip(shares, p, strict=True))
    point = dict(zip((*p, *r), map(sympy.Rational, ("1/3", "2/7", "5", "1/4", "3/5")), strict=True))
    difference = sympy.expand_log((bound + divergence - sympy.log(total)).subs(point), force=True)
    assert sympy.simplify(difference) == 0


@pytest.mark.derives("thm-tangency")
def test_bound_touches_with_the_same_slope_and_its_curvature_lacks_the_missing_information() -> (
    None
):
    m, m0, x = sympy.symbols("m m0 x", real=True)
    joint = [
        weight * sympy.exp(-((x - centre) ** 2) / 2)
        for weight, centre in ((sympy.Rational(3, 10), -m), (sympy.Rational(7, 10), m**2))
    ]
    log_density = sympy.log(sum(joint))
    r = [a / sum(joint) for a in joint]
    frozen = [share.subs(m, m0) for share in r]
    bound = sum(s * sympy.log(a / s) for s, a in zip(frozen, joint, strict=True))
    point = {m: sympy.Rational(4, 5), m0: sympy.Rational(4, 5), x: sympy.Rational(1, 3)}
    missing = sum(s * sympy.diff(sympy.log(s), m) ** 2 for s in r)
    # evaluated with thirty digits, so 1e-25 leaves room for cancellation only
    for order, rest in ((0, sympy.Integer(0)), (1, sympy.Integer(0)), (2, missing)):
        left = sympy.diff(log_density, m, order) - sympy.diff(bound, m, order)
        value = (left - rest).subs(point).evalf(30)
        assert abs(value) < sympy.Float("1e-25")
    assert missing.subs(point).evalf() > 0.01


@pytest.mark.derives("thm-alternating")
def test_posterior_maximises_the_bound_over_responsibilities() -> None:
    rng = np.random.default_rng(2)
    mixture, X = random_mixture("VVV", 3, 2, seed=0), rng.normal(size=(30, 2))
    posterior = mixture.responsibilities(X)
    top = lower_bound(X, mixture, posterior)
    for size in (1e-3, 1e-2, 0.5):
        other = (1 - size) * posterior + size * rng.dirichlet(np.ones(3), size=30)
        assert lower_bound(X, mixture, other) < top
        # concave: on the chord, the bound is at least the mean of its ends
        middle = 0.5 * (posterior + other)
        ends = 0.5 * (top + lower_bound(X, mixture, other))
        assert lower_bound(X, mixture, middle) >= ends


@pytest.mark.derives("thm-alternating")
def test_over_parameters_the_bound_and_q_differ_by_a_constant() -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(30, 2))
    r = rng.dirichlet(np.ones(3), size=30)
    one, two = (random_mixture("VVV", 3, 2, seed) for seed in (0, 1))
    bounds = lower_bound(X, one, r) - lower_bound(X, two, r)
    qs = expected_complete_log_likelihood(X, one, r) - expected_complete_log_likelihood(X, two, r)
    assert bounds == pytest.approx(qs, rel=1e-12)


@pytest.mark.derives("thm-monotone")
def test_gain_is_gain_of_q_plus_divergence_of_posteriors() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(60, 2))
    # any two parameters, not an EM step
    one, two = (random_mixture("VVV", 3, 2, seed) for seed in (0, 1))
    r = one.responsibilities(X)
    q = expected_complete_log_likelihood(X, two, r) - expected_complete_log_likelihood(X, one, r)
    posterior = scipy.special.softmax(_joint(X, two), axis=1)
    divergence = float(scipy.special.rel_entr(r, posterior).sum())
    gain = two.log_likelihood(X) - one.log_likelihood(X)
    assert gain == pytest.approx(q + divergence, rel=1e-10)


@pytest.mark.derives("thm-monotone")
@pytest.mark.parametrize("part", ["weights", "means", "one component"])
def test_a_partial_m_step_raises_the_log_likelihood(part: str) -> None:
    rng = np.random.default_rng(5)
    X = gmm.datasets.old_faithful().X
    old = gmm.Mixture([0.3, 0.7], X[rng.choice(272, 2)], [np.cov(X.T)] * 2)
    new = gmm.m_step.m_step(gmm.e_step.e_step(X, old))
    weights, means, covariances = old.weights, old.means.copy(), old.covariances.copy()
    if part == "weights":
        weights = new.weights
    elif part == "means":
        means = new.means
    else:
        means[0], covariances[0] = new.means[0], new.covariances[0]
    assert gmm.Mixture(weights, means, covariances).log_likelihood(X) > old.log_likelihood(X)


@pytest.mark.derives("cor-fixed-point")
def test_gradient_vanishes_at_a_fixed_point_even_at_a_saddle() -> None:
    X = gmm.datasets.old_faithful().X
    mean, spread = X.mean(axis=0), np.cov(X.T, bias=True)
    saddle = gmm.Mixture([0.5, 0.5], [mean, mean], [spread, spread])
    best = gmm.fit(X, 2, random_state=0, tol=0, max_iter=60).mixture
    rng = np.random.default_rng(6)
    for fixed in (saddle, best):
        again = gmm.m_step.m_step(gmm.e_step.e_step(X, fixed))
        np.testing.assert_allclose(again.means, fixed.means, rtol=1e-9)
        for _ in range(5):
            u = rng.normal(size=fixed.means.shape)
            h = 1e-4
            up, down = (
                gmm.Mixture(fixed.weights, fixed.means + s * u, fixed.covariances).log_likelihood(X)
                for s in (h, -h)
            )
            # the slope: rounding 1e-12/h = 1e-8, third derivatives (1e3) h^2 = 1e-5; were the
            # parameters off by one per cent, it would be of the order of one
            assert abs(up - down) / (2 * h) < 1e-3
    around = [
        gmm.Mixture(
            [0.5, 0.5], [mean - s * spread[0], mean + s * spread[0]], [spread, spread]
        ).log_likelihood(X)
        for s in (0.02, 0.05)
    ]
    narrower = gmm.Mixture(
        [0.5, 0.5],
        [mean - 0.05 * spread[0], mean + 0.05 * spread[0]],
        [spread - 0.05**2 * np.outer(spread[0], spread[0])] * 2,
    )
    # it is no maximum: along a curved path through it the log-likelihood rises
    assert narrower.log_likelihood(X) > saddle.log_likelihood(X) > max(around)
