"""gmm_em against a literal transcription of its definition, and where that breaks."""

from __future__ import annotations

import itertools
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gmm
from gmm.checks import FloatArray
from gmm.univariate import _scalar_e_step, _scalar_m_step, gmm_em


def literal(
    data: NDArray[np.float64], k: int, max_iter: int = 100, tol: float = 1e-6, seed: int = 42
) -> dict[str, Any]:
    """The definition, word by word, with plain densities."""
    n = len(data)
    mu = data[np.random.RandomState(seed).choice(n, k, replace=False)]
    var = np.full(k, max(data.var(), 1e-6))
    pi = np.full(k, 1 / k)
    old = None
    iteration = 0
    while iteration < max_iter:
        iteration += 1
        squares = (data[:, None] - mu) ** 2
        density = pi * np.exp(-squares / (2 * var)) / np.sqrt(2 * np.pi * var)
        r = density / density.sum(axis=1)[:, None]
        log_likelihood = np.log(density.sum(axis=1)).sum()
        for j in range(k):
            total = r[:, j].sum()
            mu[j] = (r[:, j] * data).sum() / total
            var[j] = max((r[:, j] * (data - mu[j]) ** 2).sum() / total, 1e-6)
            pi[j] = total / n
        if old is not None and abs(log_likelihood - old) < tol:
            break
        old = log_likelihood
    return {
        "means": mu,
        "variances": var,
        "weights": pi,
        "log_likelihood": old,
        "iterations": iteration,
    }


@pytest.mark.derives("eq-scalar-responsibilities", "eq-scalar-updates")
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_agrees_with_the_literal_definition(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    data = np.concatenate([rng.normal(0, 1, 25), rng.normal(4, 0.5 + rng.random(), 15)])
    ours, theirs = gmm_em(data, k, seed=seed), literal(data, k, seed=seed)
    assert ours["iterations"] == theirs["iterations"]
    for name in ("means", "variances", "weights", "log_likelihood"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_stops_at_max_iter_with_the_last_log_likelihood(iterations: int) -> None:
    data = gmm.datasets.old_faithful().X[:, 1]
    ours = gmm_em(data, 3, max_iter=iterations, tol=0.0)
    theirs = literal(data, 3, max_iter=iterations, tol=0.0)
    assert ours["iterations"] == iterations
    assert ours["log_likelihood"] == pytest.approx(theirs["log_likelihood"], rel=1e-12)


def test_a_number_60_deviations_away_does_no_harm() -> None:
    """There the literal form divides zero by zero; in logarithms nothing happens."""
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.normal(0, 1, 20_000), rng.normal(8, 1, 20_000), [-60.0]])
    with np.errstate(all="ignore"):
        assert np.isnan(literal(data, 2, seed=2)["means"]).any()
    result = gmm_em(data, 2, seed=2, max_iter=500)
    order = np.argsort(result["means"])
    means, variances = (np.array(result[name])[order] for name in ("means", "variances"))
    # the far number belongs wholly to the lower component, whose moments it moves as it must
    lower = np.r_[data[:20_000], -60.0]
    np.testing.assert_allclose(means, [lower.mean(), 8.0], atol=0.03)
    np.testing.assert_allclose(variances, [lower.var(), 1.0], rtol=0.03)
    assert np.isfinite(result["log_likelihood"])


def test_agrees_with_the_multivariate_fit_on_one_feature() -> None:
    data = gmm.datasets.hastie().X[:, 0]
    scalar = gmm_em(data, 2, max_iter=2000, tol=1e-14)
    start = gmm.Mixture(
        scalar["weights"], np.array(scalar["means"])[:, None], scalar["variances"], "VII"
    )
    fit = gmm.fit(data[:, None], 2, "VII", start=start, max_iter=1)
    np.testing.assert_allclose(fit.mixture.means[:, 0], scalar["means"], rtol=1e-7)
    assert fit.log_likelihood == pytest.approx(scalar["log_likelihood"], rel=1e-12)


def test_returns_plain_lists_and_numbers() -> None:
    result = gmm_em(gmm.datasets.hastie().X[:, 0], 2)
    assert list(result) == ["means", "variances", "weights", "log_likelihood", "iterations"]
    for name in ("means", "variances", "weights"):
        values = result[name]
        assert type(values) is list
        assert all(type(v) is float for v in values)
    assert type(result["log_likelihood"]) is float
    assert type(result["iterations"]) is int


def test_variances_are_floored() -> None:
    result = gmm_em([1.0, 1.0, 1.0, 1.0], 2)
    assert result["variances"] == [1e-6, 1e-6]
    assert np.isfinite(result["log_likelihood"])
    assert result["means"] == [1.0, 1.0]


def test_one_component_has_the_moments_of_the_data() -> None:
    data = np.array([1.0, 2.0, 6.0])
    result = gmm_em(data, 1)
    assert result["means"] == pytest.approx([3.0])
    assert result["variances"] == pytest.approx([data.var()])
    assert result["iterations"] == 3  # the first has no predecessor, the second moves


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0, 2.0]], 1), ValueError, "data: expected a 1-D array"),
        (([], 1), ValueError, "data: expected at least 1 numbers, got 0"),
        (([1.0, 2.0], 3), ValueError, "data: expected at least 3 numbers, got 2"),
        (([1.0, np.nan], 1), ValueError, r"data: expected finite numbers, got NaN at \[1\]"),
        (([1.0, np.inf], 1), ValueError, r"data: expected finite numbers, got infinity"),
        (
            ([1.0, -3e154], 1),
            ValueError,
            r"data: expected numbers of no more than 1e\+130, got -3e",
        ),
        ((["a", "b"], 1), TypeError, "data: expected real numbers"),
        (([1j, 2.0], 1), TypeError, "data: expected real numbers"),
        (([1.0, 2.0], 0), ValueError, "k: expected an integer of at least 1"),
        (([1.0, 2.0], 1.5), TypeError, "k: expected an integer, got 1.5"),
        (([1.0, 2.0], 1, 0), ValueError, "max_iter: expected an integer of at least 1"),
        (([1.0, 2.0], 1, 5, -1.0), ValueError, "tol: expected a finite number of at least 0"),
        (([1.0, 2.0], 1, 5, 1.0, -1), ValueError, "seed: expected an integer of at least 0"),
    ],
)
def test_bad_input_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gmm_em(*arguments)


# ---------------------------------------------------------------- the theory of the chapter


Parameters = tuple[FloatArray, FloatArray, FloatArray]


def _twenty() -> FloatArray:
    return gmm.datasets.hastie().X[:, 0]


def _one_pass(x: FloatArray, p: Parameters) -> tuple[Parameters, float]:
    means, variances, weights = p
    shares, log_likelihood = _scalar_e_step(x, means, variances, weights)
    return _scalar_m_step(x, shares, means, variances), log_likelihood


def _log_likelihood(x: FloatArray, p: Parameters) -> float:
    """In thirty digits, from the definition."""
    with mpmath.workdps(30):
        return float(
            mpmath.fsum(
                mpmath.log(
                    mpmath.fsum(
                        mpmath.mpf(w) * mpmath.npdf(mpmath.mpf(value), m, mpmath.sqrt(v))
                        for m, v, w in zip(*(map(float, part) for part in p), strict=True)
                    )
                )
                for value in map(float, x)
            )
        )


@pytest.mark.derives("eq-scalar-responsibilities")
def test_scalar_responsibilities_are_bayes_rule() -> None:
    x = np.array([0.0, 1.5, 90.0])
    p = (np.array([0.0, 2.0]), np.array([1.0, 0.25]), np.array([0.4, 0.6]))
    shares, log_likelihood = _scalar_e_step(x, *p)
    with mpmath.workdps(30):
        for row, value in zip(shares, x, strict=True):
            joint = [
                mpmath.mpf(w) * mpmath.npdf(mpmath.mpf(float(value)), m, mpmath.sqrt(v))
                for m, v, w in ((0, 1, 0.4), (2, 0.25, 0.6))
            ]
            np.testing.assert_allclose(row, [float(j / sum(joint)) for j in joint], rtol=1e-10)
    assert log_likelihood == pytest.approx(_log_likelihood(x, p), rel=1e-13)


@pytest.mark.derives("thm-scalar-stationary", "eq-scalar-updates")
def test_the_gradient_is_proportional_to_the_step_that_em_takes() -> None:
    mu, v, other, x0, x1 = sympy.symbols("mu v other x0 x1", real=True)
    weight = sympy.Rational(2, 5)

    def density(x: sympy.Expr, m: sympy.Expr, s: sympy.Expr) -> sympy.Expr:
        return sympy.exp(-((x - m) ** 2) / (2 * s)) / sympy.sqrt(2 * sympy.pi * s)

    points = (x0, x1)
    parts = [weight * density(x, mu, v) for x in points]
    totals = [a + (1 - weight) * density(x, other, 1) for a, x in zip(parts, points, strict=True)]
    log_likelihood = sum(sympy.log(t) for t in totals)
    r = [a / t for a, t in zip(parts, totals, strict=True)]
    count = sum(r)
    new_mean = sum(s * x for s, x in zip(r, points, strict=True)) / count
    new_variance = sum(s * (x - new_mean) ** 2 for s, x in zip(r, points, strict=True)) / count
    point = {
        mu: sympy.Rational(1, 3),
        v: sympy.Rational(3, 2),
        other: 2,
        x0: -1,
        x1: sympy.Rational(5, 2),
    }
    for left, right in (
        (sympy.diff(log_likelihood, mu), count / v * (new_mean - mu)),
        (
            sympy.diff(log_likelihood, v),
            count / (2 * v**2) * (new_variance + (new_mean - mu) ** 2 - v),
        ),
    ):
        difference = (left - right).subs(point).evalf(40)
        assert abs(difference) < sympy.Float("1e-30")  # forty digits, a few lost by cancellation
    # the package takes that step
    x = np.array([-1.0, 2.5])
    moved, _ = _one_pass(x, (np.array([1 / 3, 2.0]), np.array([1.5, 1.0]), np.array([0.4, 0.6])))
    assert moved[0][0] == pytest.approx(float(new_mean.subs(point)), rel=1e-13)
    assert moved[1][0] == pytest.approx(float(new_variance.subs(point)), rel=1e-13)


@pytest.mark.derives("thm-scalar-ascent")
def test_the_gain_is_at_least_the_sum_of_the_three_parts_of_the_proof() -> None:
    rng = np.random.default_rng(0)
    x = _twenty()
    for _ in range(20):
        p = (rng.uniform(-1, 6, size=3), rng.uniform(0.2, 4, size=3), rng.dirichlet(np.ones(3)))
        shares, before = _scalar_e_step(x, *p)
        new = _scalar_m_step(x, shares, p[0], p[1])
        counts = shares.sum(axis=0)
        ratio = new[1] / p[1]
        promised = counts @ np.log(new[2] / p[2]) + 0.5 * counts @ (
            ratio - 1 - np.log(ratio) + (new[0] - p[0]) ** 2 / p[1]
        )
        gain = _log_likelihood(x, new) - before
        assert promised > 0
        assert gain >= promised - 1e-12  # rounding of numbers of the order of 100


@pytest.mark.derives("thm-scalar-stationary")
def test_published_estimates_of_the_twenty_points_move_and_ours_do_not() -> None:
    x = _twenty()
    published = (np.array([1.06, 4.62]), np.array([0.77, 0.87]), np.array([0.546, 0.454]))
    assert _log_likelihood(x, published) == pytest.approx(-38.9236, abs=5e-5)
    moved, _ = _one_pass(x, published)
    # by more than half a unit of the last printed digit could explain
    assert abs(moved[1][0] - 0.77) > 0.01
    result = gmm.gmm_em(x, k=2, max_iter=400, tol=0)
    ours = tuple(np.array(result[key]) for key in ("means", "variances", "weights"))
    order = np.argsort(ours[0])
    means, variances, weights = (part[order] for part in ours)
    np.testing.assert_allclose(means, [1.083, 4.656], atol=5e-4)
    np.testing.assert_allclose(variances, [0.8114, 0.8188], atol=5e-5)
    np.testing.assert_allclose(weights, [0.5546, 0.4454], atol=5e-5)
    assert _log_likelihood(x, (means, variances, weights)) == pytest.approx(-38.9134, abs=5e-5)
    again, _ = _one_pass(x, (means, variances, weights))
    for a, b in zip(again, (means, variances, weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_every_pair_of_the_twenty_points_leads_to_the_same_maximum() -> None:
    x = _twenty()
    for i, j in itertools.islice(itertools.combinations(range(20), 2), 0, None, 7):
        p: Parameters = (x[[i, j]], np.full(2, x.var()), np.full(2, 0.5))
        for _ in range(2000):
            last = p[0]
            p, _ = _one_pass(x, p)
            if np.abs(p[0] - last).max() < 1e-10:
                break
        assert _log_likelihood(x, p) == pytest.approx(-38.913371507, abs=1e-8)


def test_equal_variances_on_waiting_times_agree_with_mixtools() -> None:
    waiting = gmm.datasets.old_faithful().X[:, 1:]
    fit = gmm.fit(waiting, 2, family="EEE", tol=1e-13, random_state=0)
    order = np.argsort(fit.mixture.means[:, 0])
    # mixtools stops when the log-likelihood moves by less than 1e-8, which leaves parameters
    # some units of the sixth digit from the maximum
    assert fit.mixture.weights[order][0] == pytest.approx(0.36085, abs=2e-5)
    np.testing.assert_allclose(fit.mixture.means[order, 0], [54.61364, 80.09031], atol=3e-5)
    assert np.sqrt(fit.mixture.covariances[0, 0, 0]) == pytest.approx(5.869089, abs=5e-6)
    assert fit.log_likelihood == pytest.approx(-1034.002, abs=5e-4)
