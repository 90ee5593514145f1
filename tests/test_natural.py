"""The E-step in natural parameters is the E-step, to within the error that is proved for it."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.stats
import sympy
from conftest import random_mixture
from hypothesis import given, settings
from hypothesis import strategies as st

import gmm
from gmm.checks import EPS, FloatArray
from gmm.natural import (
    LOG_2,
    TOLERANCE,
    cancellation,
    features,
    natural_parameters,
    statistics_size,
    unpacked,
)
from gmm.normal import LOG_2PI
from gmm.residual import Residuals

KINDS = {"VVV": "full", "EEE": "tied", "VVI": "diag", "VII": "spherical"}
UNIT = EPS / 2  # the unit of rounding


def gamma(m: int) -> float:
    """What m roundings can do to a number, relative to it."""
    return m * UNIT / (1 - m * UNIT)


def expanded(mixture: gmm.Mixture, centre: FloatArray, X: FloatArray) -> FloatArray:
    """Log joint densities (n, K) by the natural parameters, whatever the cancellation."""
    kind, d = mixture.kind, mixture.n_features
    theta, shift = natural_parameters(
        mixture.weights,
        mixture.means - centre,
        mixture.whiteners,
        mixture.log_determinants,
        kind,
    )
    rows = (X - centre).T
    joint = LOG_2 * (theta @ features(rows, kind, np.empty((statistics_size(kind, d), len(X)))))
    joint += shift - 0.5 * d * LOG_2PI
    if kind == "tied":
        joint -= 0.5 * ((mixture.whiteners @ rows) ** 2).sum(axis=0)
    return np.asarray(joint.T)


def whiteners_as_matrices(mixture: gmm.Mixture) -> FloatArray:
    """The whiteners of any family as matrices (K, d, d)."""
    k, d = mixture.means.shape
    white = mixture.whiteners
    if mixture.kind == "full":
        return white
    if mixture.kind == "tied":
        return np.broadcast_to(white, (k, d, d))
    diagonals = white if mixture.kind == "diag" else np.broadcast_to(white[:, None], (k, d))
    return np.asarray(diagonals[:, :, None] * np.eye(d))


# ---------------------------------------------------------------- what it computes


def test_features_are_one_the_row_and_its_products() -> None:
    x = np.array([[2.0, 3.0, 5.0]]).T
    wanted = {
        "full": [1, 2, 3, 5, 4, 6, 9, 10, 15, 25],
        "tied": [1, 2, 3, 5],
        "diag": [1, 2, 3, 5, 4, 9, 25],
        "spherical": [1, 2, 3, 5, 38],
    }
    for kind, values in wanted.items():
        out = np.full((statistics_size(kind, 3), 1), np.nan)
        assert features(x, kind, out) is out
        np.testing.assert_array_equal(out[:, 0], values)
        out[1:4] = x  # the rows may stand in their place already
        np.testing.assert_array_equal(features(out[1:4], kind, out)[:, 0], values)
    matrix = unpacked(np.array([wanted["full"][4:]], dtype=float), 3)[0]
    np.testing.assert_array_equal(matrix, x @ x.T)


@pytest.mark.derives("thm-two-products", "eq-natural-parameters")
def test_the_theorem_symbolically_in_the_plane() -> None:
    """θᵀT(x) is log π + log N(x | μ, Σ), with θ and T in the packing of the package."""
    weight, s, t = sympy.symbols("pi s t", positive=True)
    r = sympy.symbols("r", real=True)
    x = sympy.Matrix(sympy.symbols("x1 x2", real=True))
    m = sympy.Matrix(sympy.symbols("m1 m2", real=True))
    covariances = {
        "full": sympy.Matrix([[s, r], [r, t]]),
        "tied": sympy.Matrix([[s, r], [r, t]]),
        "diag": sympy.diag(s, t),
        "spherical": sympy.diag(s, s),
    }
    for kind, covariance in covariances.items():
        precision = covariance.inv()
        constant = sympy.log(weight) - sympy.log(covariance.det()) / 2 - sympy.log(2 * sympy.pi)
        density = constant - ((x - m).T * precision * (x - m))[0] / 2
        linear = precision * m
        theta = [constant - (m.T * linear)[0] / 2, *linear]
        values = [1, *x]
        if kind == "full":
            theta += [-precision[0, 0] / 2, -precision[1, 0], -precision[1, 1] / 2]
            values += [x[0] ** 2, x[0] * x[1], x[1] ** 2]
        elif kind == "diag":
            theta += [-precision[0, 0] / 2, -precision[1, 1] / 2]
            values += [x[0] ** 2, x[1] ** 2]
        elif kind == "spherical":
            theta += [-precision[0, 0] / 2]
            values += [x[0] ** 2 + x[1] ** 2]
        product = sum(a * b for a, b in zip(theta, values, strict=True))
        if kind == "tied":
            product -= (x.T * precision * x)[0] / 2
        assert sympy.simplify(product - density) == 0
        # the package's numbers at one point
        at = {weight: 0.3, s: 2.0, t: 3.0, r: 0.5, m[0]: 0.7, m[1]: -1.1}
        matrix = np.array(covariance.subs(at), dtype=float)
        stored = {"full": matrix[None], "tied": matrix, "diag": np.diag(matrix)[None]}
        mixture = gmm.Mixture(
            [1.0],
            [[0.7, -1.1]],
            stored.get(kind, np.array([2.0])),
            {v: k for k, v in KINDS.items()}[kind],
        )
        got, shift = natural_parameters(
            np.array([0.3]), mixture.means, mixture.whiteners, mixture.log_determinants, kind
        )
        numbers = LOG_2 * got[0]
        numbers[0] += shift - LOG_2PI
        np.testing.assert_allclose(numbers, [float(a.subs(at)) for a in theta], rtol=1e-14)


@pytest.mark.derives("thm-two-products")
@pytest.mark.parametrize("d", [1, 2, 5])
def test_log_densities_are_those_of_the_definition(family: str, d: int) -> None:
    mixture = random_mixture(family, 3, d, seed=d)
    X, _ = mixture.sample(50, 0)
    direct = np.stack(
        [
            np.log(w) + scipy.stats.multivariate_normal(m, c).logpdf(X)
            for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
        ],
        axis=1,
    )
    # a few hundred roundings of numbers of size 100
    np.testing.assert_allclose(expanded(mixture, X.mean(axis=0), X), direct, rtol=0, atol=1e-11)


@pytest.mark.derives("thm-two-products")
def test_the_second_product_gives_the_expected_statistics(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=5)
    X, _ = mixture.sample(200, 1)
    centre = X.mean(axis=0)
    T = features((X - centre).T, mixture.kind, np.empty((statistics_size(mixture.kind, 2), len(X))))
    shares = mixture.responsibilities(X)
    sums = shares.T @ T.T
    wanted = gmm.e_step.expected_statistics(X, shares, np.tile(centre, (3, 1)), mixture.kind)
    np.testing.assert_allclose(sums[:, 0], wanted.counts, rtol=1e-13)
    np.testing.assert_allclose(sums[:, 1:3], wanted.first, rtol=1e-12, atol=1e-11)
    if mixture.kind == "full":
        np.testing.assert_allclose(unpacked(sums[:, 3:], 2), wanted.second, rtol=1e-11, atol=1e-11)
    elif mixture.kind != "tied":
        np.testing.assert_allclose(np.squeeze(sums[:, 3:]), wanted.second, rtol=1e-12)


def test_a_weight_of_zero_has_no_density(family: str) -> None:
    whole = random_mixture(family, 2, 2, seed=3)
    mixture = gmm.Mixture.from_stored(np.array([1.0, 0.0]), whole.means, whole.stored, family)
    X, _ = whole.sample(20, 0)
    joint = expanded(mixture, X.mean(axis=0), X)
    assert (joint[:, 1] < -1e200).all()
    np.testing.assert_allclose(joint[:, 0], mixture.component_log_densities(X)[:, 0], atol=1e-11)


@pytest.mark.derives("prop-no-overflow")
@given(seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_exponents_are_not_positive(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for family in ("VVV", "VVI", "VII"):
        mixture = random_mixture(family, 3, 2, seed, spread=10.0 ** rng.uniform(-2, 2))
        X = 10.0 ** rng.uniform(-2, 3) * rng.standard_normal((50, 2))
        X[:3] = mixture.means  # where a component's density is greatest
        centre = X.mean(axis=0)
        theta, _ = natural_parameters(
            mixture.weights,
            mixture.means - centre,
            mixture.whiteners,
            mixture.log_determinants,
            mixture.kind,
        )
        size = statistics_size(mixture.kind, 2)
        T = features((X - centre).T, mixture.kind, np.empty((size, len(X))))
        rounding = gamma(size + 9) * np.max(np.abs(theta) @ np.abs(T))
        assert (theta @ T).max() <= rounding


# ---------------------------------------------------------------- its rounding error


def exact_log_joint(mixture: gmm.Mixture, X: FloatArray) -> list[list[Any]]:
    """Row by row, with fifty digits: constants as given, and −½‖W(x − μ)‖²."""
    constants = np.log(mixture.weights) - 0.5 * mixture.log_determinants
    result = []
    for x in X:
        values = []
        for k, W in enumerate(whiteners_as_matrices(mixture)):
            z = [
                mpmath.mpf(float(a)) - mpmath.mpf(float(b))
                for a, b in zip(x, mixture.means[k], strict=True)
            ]
            y = [
                mpmath.fsum(mpmath.mpf(float(w)) * t for w, t in zip(row, z, strict=True))
                for row in W
            ]
            values.append(mpmath.mpf(float(constants[k])) - mpmath.fsum(t * t for t in y) / 2)
        result.append(values)
    return result


@pytest.mark.derives("eq-cancellation", "thm-cancellation", "lem-absolute-form")
@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_error_is_within_the_proved_bound(seed: int) -> None:
    """In fifty digits, for widths and correlations over many orders of magnitude."""
    rng = np.random.default_rng(seed)
    d, k = int(rng.integers(1, 4)), 2
    scale = 10.0 ** rng.uniform(-3, 3, d)
    offsets = rng.uniform(-1, 1, (k, d)) * scale
    X, centre = rng.uniform(-1, 1, (12, d)) * scale, rng.uniform(-1, 1, d) * scale
    turn = np.linalg.qr(rng.standard_normal((k, d, d)))[0] * 10.0 ** rng.uniform(-4, 0, (k, 1, d))
    matrices = scale[:, None] * (turn @ np.swapaxes(turn, 1, 2)) * scale
    mixture = gmm.Mixture([0.3, 0.7], offsets, (matrices + np.swapaxes(matrices, 1, 2)) / 2)
    rows, means = X - centre, offsets - centre
    theta, shift = natural_parameters(
        mixture.weights, means, mixture.whiteners, mixture.log_determinants, "full"
    )
    size = statistics_size("full", d)
    got = theta @ features(rows.T, "full", np.empty((size, len(X))))  # in units of log 2
    reach = np.maximum(np.abs(rows).max(axis=0), np.abs(means).max(axis=0))
    constants = np.log(mixture.weights) - 0.5 * mixture.log_determinants - shift
    with mpmath.workdps(50):
        log2 = mpmath.log(2)
        error = np.zeros(k)
        for i, values in enumerate(exact_log_joint(mixture, X)):
            for j, value in enumerate(values):
                exact = value - mpmath.mpf(shift)
                error[j] = max(error[j], float(abs(mpmath.mpf(float(got[j, i])) * log2 - exact)))
    m = size + 3 * d + 5
    proved = np.array(
        [
            gamma(m) * abs(constants[j])
            + m / (1 - m * UNIT) * cancellation(mixture.whiteners, "full", reach)[j]
            for j in range(k)
        ]
    )
    assert (error <= proved).all()
    # the lemma, for rows and offsets
    for j in range(k):
        P = np.abs(mixture.whiteners[j]).T @ np.abs(mixture.whiteners[j])
        trace = ((mixture.whiteners[j] * scale) ** 2).sum()
        form = np.abs(X) @ P @ np.abs(offsets[j])
        ends = np.linalg.norm(X / scale, axis=1) * np.linalg.norm(offsets[j] / scale)
        assert (form <= trace * ends * (1 + 1e-12)).all()
        # the bound is below that of traces
        coarse = EPS * trace * ((reach / scale) ** 2).sum()
        assert cancellation(mixture.whiteners, "full", reach)[j] <= coarse * (1 + 1e-12)


@pytest.mark.derives("thm-cancellation", "eq-cancellation-bound")
@pytest.mark.parametrize("distance", [1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("d", [1, 3, 6])
def test_the_error_is_within_the_proved_bound_for_every_kind(
    family: str, d: int, distance: float
) -> None:
    """Of a tied kind the exponents without their common quadratic term."""
    mixture = random_mixture(family, 3, d, seed=d, spread=distance)
    X, _ = mixture.sample(20, 1)
    rng = np.random.default_rng(2)
    X[10:] += distance * rng.uniform(-1, 1, (10, d))  # rows of no component
    centre = X.mean(axis=0)
    rows, means = X - centre, mixture.means - centre
    kind, size = mixture.kind, statistics_size(mixture.kind, d)
    theta, shift = natural_parameters(
        mixture.weights, means, mixture.whiteners, mixture.log_determinants, kind
    )
    got = theta @ features(rows.T, kind, np.empty((size, len(X))))
    reach = np.maximum(np.abs(rows).max(axis=0), np.abs(means).max(axis=0))
    constants = np.log(mixture.weights) - 0.5 * mixture.log_determinants - shift
    m = size + 3 * d + 5
    proved = gamma(m) * np.abs(constants) + gamma(m) / UNIT * cancellation(
        mixture.whiteners, kind, reach
    )
    error = np.zeros((3, len(X)))
    with mpmath.workdps(50):
        common = [mpmath.mpf(0)] * len(X)
        if kind == "tied":
            centred = [
                [
                    mpmath.mpf(float(a)) - mpmath.mpf(float(c))
                    for a, c in zip(x, centre, strict=True)
                ]
                for x in X
            ]
            white = [[mpmath.mpf(float(w)) for w in row] for row in mixture.whiteners]
            common = [mpmath.fsum(mpmath.fdot(row, x) ** 2 for row in white) / 2 for x in centred]
        for i, values in enumerate(exact_log_joint(mixture, X)):
            for k, value in enumerate(values):
                exact = value + common[i] - mpmath.mpf(shift)
                error[k, i] = abs(mpmath.mpf(float(got[k, i])) * mpmath.log(2) - exact)
    assert (error.max(axis=1) <= proved).all()


@pytest.mark.derives("prop-residual-error")
@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_residuals_lose_only_the_root(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 4))
    width = 10.0 ** rng.uniform(-6, 0)
    factor = np.tril(rng.uniform(-1, 1, (d, d)), -1) + np.diag(rng.uniform(0.5, 1, d))
    mean = rng.uniform(-1, 1, (1, d))
    mixture = gmm.Mixture([1.0], mean, width**2 * (factor @ factor.T)[None])
    X = mean + width * rng.standard_normal((10, d))
    centre = rng.uniform(-1, 1, d)
    rows, offset = X - centre, mean[0] - centre
    got = Residuals(mixture, centre).log_joint(np.vstack([np.ones(10), rows.T]))[0]
    constant = -0.5 * mixture.log_determinants[0] - 0.5 * d * LOG_2PI
    reach = np.maximum(np.abs(rows).max(axis=0), np.abs(offset))
    e = 2 * gamma(2 * d + 2) * np.linalg.norm(np.abs(mixture.whiteners[0]) @ reach)
    with mpmath.workdps(50):
        for value, (exact,) in zip(got, exact_log_joint(mixture, X), strict=True):
            exact = exact - mpmath.mpf(0.5 * d * LOG_2PI)
            error = float(abs(mpmath.mpf(float(value)) - exact))
            length = np.sqrt(2 * max(constant - float(exact), 0.0))
            proved = e * length + 0.5 * e**2 + 0.5 * gamma(d) * (length + e) ** 2
            # adding the constant: a rounding of each of two sums
            proved += 2 * UNIT * (abs(constant) + abs(value))
            assert error <= proved


@pytest.mark.derives("thm-cancellation")
@pytest.mark.parametrize("name", KINDS)
def test_the_bound_is_of_the_right_size(name: str) -> None:
    """For components ten thousand widths apart the error is not far below ε R² tr P."""
    rng = np.random.default_rng(0)
    means = np.array([[-1.0, -1.0], [1.0, 1.0]])
    width = 1e-4
    stored = {
        "VVV": np.tile(np.eye(2), (2, 1, 1)),
        "EEE": np.eye(2),
        "VVI": np.ones((2, 2)),
        "VII": np.ones(2),
    }[name]
    mixture = gmm.Mixture([0.5, 0.5], means, width**2 * stored, name)
    X = np.concatenate([m + width * rng.standard_normal((100, 2)) for m in means])
    mine = np.repeat([0, 1], 100)
    with mpmath.workdps(50):
        exact = exact_log_joint(mixture, X)
        got = expanded(mixture, np.zeros(2), X) + LOG_2PI
        errors = [
            float(abs(mpmath.mpf(float(got[i, k])) - exact[i][k])) for i, k in enumerate(mine)
        ]
    kappa = cancellation(mixture.whiteners, mixture.kind, np.abs(X).max(axis=0)).max()
    size = statistics_size(mixture.kind, 2) + 9
    assert kappa / 1000 < max(errors) < size * kappa
    assert kappa > TOLERANCE


@pytest.mark.derives("eq-cancellation")
def test_cancellation_is_its_formula() -> None:
    reach = np.random.default_rng(0).uniform(0.1, 10, 2)
    for family, kind in KINDS.items():
        mixture = random_mixture(family, 3, 2, seed=1)
        got = cancellation(mixture.whiteners, kind, reach)
        assert got.shape == ((1,) if kind == "tied" else (3,))
        for k, matrix in enumerate(mixture.covariances):
            whitener = np.linalg.inv(np.linalg.cholesky(matrix))
            wanted = EPS * ((np.abs(whitener) @ reach) ** 2).sum()
            assert got[0 if kind == "tied" else k] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.derives("prop-moment-cancellation")
@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_covariances_from_common_moments_lose_as_much(seed: int) -> None:
    """In fifty digits: the error of Σ in its own units is within the bound."""
    rng = np.random.default_rng(seed)
    n, d = 30, 2
    width = 10.0 ** rng.uniform(-5, -1)
    mean = rng.uniform(-1, 1, d)
    X = mean + width * rng.standard_normal((n, d))
    shares = rng.uniform(0.1, 1, n)
    T = features(X.T, "full", np.empty((6, n)))
    sums = shares @ T.T
    count, first, second = sums[0], sums[1:3], unpacked(sums[None, 3:], d)[0]
    computed = second / count - np.outer(first / count, first / count)
    with mpmath.workdps(50):
        r = [mpmath.mpf(float(s)) for s in shares]
        x = [[mpmath.mpf(float(v)) for v in row] for row in X]
        total = mpmath.fsum(r)
        m = [mpmath.fsum(r[i] * x[i][a] for i in range(n)) / total for a in range(d)]
        S = mpmath.matrix(d, d)
        for a in range(d):
            for b in range(d):
                S[a, b] = (
                    mpmath.fsum(r[i] * (x[i][a] - m[a]) * (x[i][b] - m[b]) for i in range(n))
                    / total
                )
        W = mpmath.inverse(mpmath.cholesky(S))
        change = W * (mpmath.matrix(computed.tolist()) - S) * W.T
        error = float(mpmath.mnorm(change, "f"))
        whitener = np.abs(np.array(W.tolist(), dtype=np.float64))
    eta = gamma(n + 4)  # n − 1 additions, two products, and the last three operations
    rho = 2 * eta / (1 - eta)
    farthest = whitener @ np.abs(X).max(axis=0)
    assert error <= (3 * rho + rho**2) * (farthest @ farthest)
    assert error > 0
