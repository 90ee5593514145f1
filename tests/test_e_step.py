"""The E-step's statistics are the weighted sums that its equations say."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import scipy.stats
import sympy
from conftest import random_mixture
from hypothesis import given, settings
from hypothesis import strategies as st

import gmm
from gmm.bound import expected_complete_log_likelihood
from gmm.checks import FloatArray
from gmm.e_step import e_step, expected_statistics, hard_step, log_sum_exp, one_pass
from gmm.rows import as_rows
from gmm.statistics import Statistics


def _kept(second: FloatArray, kind: str) -> FloatArray:
    """What statistics of a kind keep of second moments (K, d, d)."""
    kept: dict[str, FloatArray] = {
        "full": second,
        "tied": second.sum(axis=0),
        "diag": np.diagonal(second, axis1=1, axis2=2).astype(np.float64),
        "spherical": np.trace(second, axis1=1, axis2=2),
    }
    return kept[kind]


@pytest.mark.derives("eq-expected-statistics")
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_statistics_are_their_sums_row_by_row(kind: str) -> None:
    rng = np.random.default_rng(0)
    X, shares = rng.standard_normal((20, 3)), rng.dirichlet(np.ones(2), 20)
    weights, centres = rng.uniform(0, 2, 20), rng.standard_normal((2, 3))
    got = expected_statistics(X, shares, centres, kind, weights)
    counts, first, second = np.zeros(2), np.zeros((2, 3)), np.zeros((2, 3, 3))
    for i in range(20):
        for k in range(2):
            share, z = weights[i] * shares[i, k], X[i] - centres[k]
            counts[k] += share
            first[k] += share * z
            second[k] += share * np.outer(z, z)
    np.testing.assert_allclose(got.counts, counts, rtol=1e-13)
    np.testing.assert_allclose(got.first, first, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(got.second, _kept(second, kind), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_the_hard_step_gives_sums_over_clusters(kind: str, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    X, labels, centres = rng.normal(size=(20, 2)), rng.integers(-1, 2, 20), rng.normal(size=(2, 2))
    weights = rng.uniform(0, 2, 20) if weighted else None
    got = hard_step(X, labels, centres, kind, weights)
    seconds = np.empty((2, 2, 2))
    for k in range(2):
        mine = labels == k
        own = np.ones(mine.sum()) if weights is None else weights[mine]
        residuals = X[mine] - centres[k]
        assert got.counts[k] == pytest.approx(own.sum(), rel=1e-13)
        np.testing.assert_allclose(got.first[k], own @ residuals, rtol=1e-12, atol=1e-13)
        seconds[k] = residuals.T @ np.diag(own) @ residuals
    np.testing.assert_allclose(got.second, _kept(seconds, kind), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(got.centres, centres)
    assert (got.kind, got.log_likelihood, got.n_rows) == (kind, 0.0, 20)


def test_the_step_uses_the_posterior_and_reports_the_likelihood(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=1)
    X = mixture.sample(60, 0)[0]
    weights = np.random.default_rng(2).uniform(0, 2, 60)
    got = e_step(X, mixture, weights)
    wanted = expected_statistics(
        X, mixture.responsibilities(X), mixture.means, mixture.kind, weights
    )
    np.testing.assert_allclose(got.second, wanted.second, rtol=1e-13)
    assert got.log_likelihood == pytest.approx(mixture.log_likelihood(X, weights), rel=1e-13)
    assert got.n_rows == 60


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_weights_mean_repetition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixture = random_mixture("VVV", 2, 2, seed)
    X, weights = rng.standard_normal((25, 2)), rng.integers(1, 4, 25)
    a = one_pass(as_rows(X, weights), mixture)
    b = one_pass(as_rows(np.repeat(X, weights, axis=0)), mixture)
    np.testing.assert_allclose(a.counts, b.counts, rtol=1e-12)
    np.testing.assert_allclose(a.second, b.second, rtol=1e-11, atol=1e-12)
    assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-12)


def test_a_pass_over_many_blocks_is_the_step_of_all_rows() -> None:
    mixture = random_mixture("VVV", 3, 2, seed=3)
    X = mixture.sample(40_000, 0)[0]
    whole, blocks = e_step(X, mixture), one_pass(as_rows(X), mixture)
    # sums of 40 000 terms in another order
    np.testing.assert_allclose(blocks.counts, whole.counts, rtol=1e-12)
    np.testing.assert_allclose(blocks.second, whole.second, rtol=1e-10)
    assert blocks.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-13)
    assert blocks.n_rows == 40_000


# ---------------------------------------------------------------- the theory of the chapter


U = 2.0**-53  # unit roundoff of double precision


def _exact_log_sum_exp(values: FloatArray) -> mpmath.mpf:
    return mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(float(v))) for v in values))


def _error_bound(s: float, k: int) -> float:
    """The right-hand side of thm-log-sum-exp-error, for exp and log good to one unit."""
    v, eta = 2 * U, 2.0**-1022
    gamma = (k - 1) * U / (1 - (k - 1) * U)
    first = U / (math.e * (1 - U))
    tau = gamma + (1 + gamma) * (v + (k - 1) * ((1 + v) * first + eta))
    return float(U * abs(s) + (1 + U) * (v * np.log(k) + (1 + v) * tau / (1 - tau)))


@pytest.mark.derives("eq-responsibilities")
def test_responsibilities_are_bayes_rule_in_fifty_digits_near_and_far() -> None:
    mixture = gmm.Mixture([0.3, 0.7], [[-1.0], [2.0]], [[[0.5]], [[2.0]]])
    for x in (0.0, 3.0, 70.0, -200.0):
        with mpmath.workdps(50):
            joint = [
                mpmath.mpf(w) * mpmath.npdf(mpmath.mpf(x), mu, mpmath.sqrt(v))
                for w, mu, v in ((0.3, -1, 0.5), (0.7, 2, 2))
            ]
            exact = [float(j / sum(joint)) for j in joint]
        # log-densities up to 4e4 carry an error of some 4e4 * 2^-53, and so do responsibilities
        np.testing.assert_allclose(mixture.responsibilities([[x]])[0], exact, atol=2e-11)


@pytest.mark.derives("prop-log-odds")
def test_log_odds_are_the_stated_quadratic_and_linear_for_equal_covariances() -> None:
    x, y, m, p = sympy.symbols("x y m p", real=True)
    point = sympy.Matrix([x, y])
    one = sympy.Matrix([[2, 1], [1, 3]])
    for other, degree in ((one, 1), (sympy.Matrix([[1, 0], [0, 1]]), 2)):
        forms = []
        for mean, covariance in (
            (sympy.Matrix([0, 0]), one),
            (sympy.Matrix([m, 1]), other),
        ):
            shift = point - mean
            forms.append((shift.T * covariance.inv() * shift)[0])
        log_odds = (
            sympy.log(p) - sympy.log(other.det() / one.det()) / 2 - forms[1] / 2 + forms[0] / 2
        )
        values = {m: 2, p: sympy.Rational(3, 2)}
        assert sympy.Poly(sympy.expand(log_odds.subs(values)), x, y).total_degree() == degree
        mixture = gmm.Mixture(
            [0.4, 0.6],
            [[0.0, 0.0], [2.0, 1.0]],
            [np.array(c.tolist(), dtype=float) for c in (one, other)],
        )
        r = mixture.responsibilities([[0.7, -0.4]])[0]
        expected = float(log_odds.subs(values).subs({x: 0.7, y: -0.4}))
        assert np.log(r[1] / r[0]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.derives("prop-log-odds")
def test_far_away_the_widest_component_takes_all() -> None:
    # the second is wider along the first axis only, and light
    mixture = gmm.Mixture(
        [0.999, 0.001], [[0.0, 0.0], [-5.0, 0.0]], [np.eye(2), np.diag([2.0, 0.5])]
    )
    r = mixture.responsibilities([[40.0, 3.0], [3.0, 40.0]])
    assert r[0, 1] > 1 - 1e-12
    assert r[1, 0] > 1 - 1e-12


@pytest.mark.derives("thm-log-sum-exp-error", "eq-log-sum-exp")
@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_log_sum_exp_errs_by_no_more_than_the_bound(k: int) -> None:
    rng = np.random.default_rng(k)
    offset = 10.0 ** rng.uniform(-3, 12, size=100)
    spread = 10.0 ** rng.uniform(-3, 3, size=100)
    values = spread[:, None] * rng.normal(size=(100, k)) - offset[:, None]
    computed = log_sum_exp(values)
    with mpmath.workdps(50):
        for row, value in zip(values, computed, strict=True):
            exact = _exact_log_sum_exp(row)
            error = abs(mpmath.mpf(float(value)) - exact)
            assert error <= _error_bound(float(exact), k)


@pytest.mark.derives("eq-log-sum-exp")
def test_log_sum_exp_of_zeros_and_nothing() -> None:
    values = np.array([[-np.inf, -3.0], [-np.inf, -np.inf], [1e300, 1e300]])
    np.testing.assert_array_equal(log_sum_exp(values), [-3.0, -np.inf, 1e300])


@pytest.mark.derives("prop-responsibility-error")
def test_errors_of_the_exponents_reach_responsibilities_halved() -> None:
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(300):
        a = rng.normal(scale=2.0, size=4)
        for epsilon in (1e-3, 1.0):
            b = a + rng.choice([-epsilon, epsilon], size=4)
            change = np.exp(a - log_sum_exp(a)) - np.exp(b - log_sum_exp(b))
            assert np.abs(change).max() <= epsilon / 2
            assert abs(log_sum_exp(a) - log_sum_exp(b)) <= epsilon * (1 + 1e-12)
            worst = max(worst, float(np.abs(change).max()) / epsilon)
    assert worst > 0.4  # the constant one half cannot be replaced by much less


@pytest.mark.derives("thm-statistics-suffice")
def test_q_from_statistics_about_any_centres_is_q_from_rows() -> None:
    rng = np.random.default_rng(2)
    mixture, X = random_mixture("VVV", 3, 2, seed=0), rng.normal(size=(40, 2))
    r, w = rng.dirichlet(np.ones(3), size=40), rng.uniform(0, 2, size=40)
    s = expected_statistics(X, r, rng.normal(size=(3, 2)), "full", w)
    value = 0.0
    for k in range(3):
        delta = mixture.means[k] - s.centres[k]
        precision = np.linalg.inv(mixture.covariances[k])
        moment = (
            s.second[k]
            - np.outer(s.first[k], delta)
            - np.outer(delta, s.first[k])
            + s.counts[k] * np.outer(delta, delta)
        )
        log_det = np.linalg.slogdet(mixture.covariances[k])[1]
        constant = np.log(mixture.weights[k]) - np.log(2 * np.pi) - 0.5 * log_det
        value += s.counts[k] * constant - 0.5 * np.trace(precision @ moment)
    direct = expected_complete_log_likelihood(X, mixture, r, w)
    assert value == pytest.approx(direct, rel=1e-11)
    by_scipy = sum(
        float(
            (w * r[:, k])
            @ (
                np.log(mixture.weights[k])
                + scipy.stats.multivariate_normal(mixture.means[k], mixture.covariances[k]).logpdf(
                    X
                )
            )
        )
        for k in range(3)
    )
    assert value == pytest.approx(by_scipy, rel=1e-11)


def _assert_equal(a: Statistics, b: Statistics) -> None:
    """Equal up to the rounding of sums of a few hundred terms of order one."""
    for name in ("centres", "counts", "first", "second"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-11, atol=1e-11)
    assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-12)
    assert a.n_rows == b.n_rows


@pytest.mark.derives("thm-merging")
def test_statistics_of_parts_add_to_those_of_the_whole_in_any_order() -> None:
    rng = np.random.default_rng(3)
    mixture, X = random_mixture("VVV", 3, 2, seed=0), rng.normal(size=(90, 2))
    whole = gmm.e_step.e_step(X, mixture)
    a, b, c = (gmm.e_step.e_step(part, mixture) for part in (X[:7], X[7:50], X[50:]))
    _assert_equal(a + b + c, whole)
    _assert_equal(c + (b + a), whole)


@pytest.mark.derives("thm-merging", "eq-shift-centre")
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_moving_the_centre_is_the_same_as_having_begun_there(kind: str) -> None:
    rng = np.random.default_rng(4)
    X, r = rng.normal(size=(60, 3)), rng.dirichlet(np.ones(2), size=60)
    here, there = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    moved = expected_statistics(X, r, here, kind).shifted(there)
    _assert_equal(moved, expected_statistics(X, r, there, kind))
    # parts about different centres merge too
    parts = expected_statistics(X[:25], r[:25], here, kind) + expected_statistics(
        X[25:], r[25:], there, kind
    )
    _assert_equal(parts, expected_statistics(X, r, here, kind))


@pytest.mark.derives("thm-merging")
def test_about_its_own_mean_the_first_moment_is_zero() -> None:
    rng = np.random.default_rng(5)
    X, r = rng.normal(size=(60, 2)), rng.dirichlet(np.ones(2), size=60)
    s = expected_statistics(X, r, np.zeros((2, 2)), "full")
    centred = s.shifted(s.means())
    np.testing.assert_allclose(centred.first, 0, atol=1e-12)
    outer = s.first[:, :, None] * s.first[:, None, :] / s.counts[:, None, None]
    np.testing.assert_allclose(centred.second, s.second - outer, rtol=1e-11, atol=1e-12)
    for k in range(2):
        np.testing.assert_allclose(s.means()[k], np.average(X, axis=0, weights=r[:, k]))
