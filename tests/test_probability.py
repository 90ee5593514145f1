"""Probability: change of variables, total covariance, Jensen, divergence and entropy."""

import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray
from scipy import integrate, special, stats

from gmm.bound import entropy

FloatArray = NDArray[np.float64]


@pytest.mark.derives("thm-change-of-variables", "eq-change-of-variables")
def test_density_of_a_curved_map_gives_the_probability_of_the_preimage() -> None:
    # y = (e^u, v + u^2) of a standard normal (u, v) is a bijection from the plane to a half-plane;
    # its inverse (log a, b - log(a)^2) has the Jacobian determinant 1/a.
    a, b = sp.symbols("a b", positive=True)
    inverse = sp.Matrix([sp.log(a), b - sp.log(a) ** 2])
    assert sp.simplify(inverse.jacobian([a, b]).det() - 1 / a) == 0

    def density(t: float, s: float) -> float:
        u = math.log(s)
        return math.exp(-0.5 * (u**2 + (t - u**2) ** 2)) / (2 * math.pi) / s

    mass, error = integrate.dblquad(density, 0.5, 3.0, -1.0, 2.0)
    preimage, _ = integrate.quad(
        lambda u: stats.norm.pdf(u) * (stats.norm.cdf(2 - u**2) - stats.norm.cdf(-1 - u**2)),
        math.log(0.5),
        math.log(3.0),
    )
    assert mass == pytest.approx(preimage, abs=1e-8 + error)


@pytest.mark.derives("cor-affine-density")
def test_density_after_an_affine_map_divides_by_the_determinant() -> None:
    A, b = np.array([[2.0, 1.0], [0.0, -3.0]]), np.array([1.0, -2.0])
    y = np.random.default_rng(0).normal(size=(20, 2))
    mapped = stats.multivariate_normal(b, A @ A.T).pdf(y)
    formula = stats.multivariate_normal(np.zeros(2), np.eye(2)).pdf(
        (y - b) @ np.linalg.inv(A).T
    ) / abs(np.linalg.det(A))
    np.testing.assert_allclose(mapped, formula, rtol=1e-12)


@pytest.mark.derives("thm-total-covariance", "eq-total-covariance", "eq-covariance")
def test_covariance_is_the_spread_within_plus_the_spread_between_groups() -> None:
    # A finite population: every expectation is an average, so only rounding separates both sides.
    rng = np.random.default_rng(1)
    groups = [rng.normal(rng.normal(size=3), 1.0, size=(n, 3)) for n in (4, 9, 2)]
    share = np.array([len(g) for g in groups]) / 15
    whole = np.concatenate(groups)
    means = np.stack([g.mean(axis=0) for g in groups])
    within = sum(p * np.cov(g.T, bias=True) for p, g in zip(share, groups, strict=True))
    between = np.cov(means.T, bias=True, aweights=share)
    np.testing.assert_allclose(share @ means, whole.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(within + between, np.cov(whole.T, bias=True), rtol=1e-12)


@pytest.mark.derives("lem-supporting-line", "eq-supporting-line")
def test_a_convex_function_with_a_corner_has_a_supporting_line_at_it() -> None:
    def phi(t: FloatArray) -> FloatArray:
        result: FloatArray = np.abs(t) + np.exp(t)
        return result

    t = np.linspace(-3, 3, 601)
    left = t[t < -1e-9]
    slope = float(((phi(left) - 1.0) / left).max())  # supremum of the slopes from the left of 0
    assert -1e-2 < slope <= 0.0  # the one-sided slopes at the corner are 0 and 2
    assert (phi(t) >= 1.0 + slope * t - 1e-12).all()
    assert phi(np.array([0.5]))[0] > 1.0 + slope * 0.5  # strictly convex: strict off the point


@pytest.mark.derives("thm-jensen", "eq-jensen", "eq-log-jensen")
def test_jensen_holds_with_equality_for_constants_only() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        values, weights = rng.gamma(1.0, size=6), rng.dirichlet(np.ones(6))
        assert np.log(weights @ values) > weights @ np.log(values)
        assert np.exp(weights @ values) < weights @ np.exp(values)
        constant = np.full(6, values[0])
        # 6 products and sums of numbers near log(values): a few units of rounding
        assert weights @ np.log(constant) == pytest.approx(np.log(values[0]), abs=1e-14)


@pytest.mark.derives("prop-jensen-gap", "eq-jensen-gap")
def test_gap_of_the_logarithm_lies_between_its_curvature_bounds() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        values, weights = rng.uniform(0.5, 2.0, size=5), rng.dirichlet(np.ones(5))
        mean = weights @ values
        variance = weights @ (values - mean) ** 2
        gap = np.log(mean) - weights @ np.log(values)
        assert variance / (2 * values.max() ** 2) <= gap <= variance / (2 * values.min() ** 2)


@pytest.mark.derives("thm-kl", "eq-kl")
def test_divergence_of_two_exponentials_matches_its_closed_form() -> None:
    def divergence(a: float, b: float) -> float:
        return float(
            mpmath.quad(
                lambda x: a * mpmath.exp(-a * x) * (mpmath.log(a / b) - (a - b) * x),
                [0, mpmath.inf],
            )
        )

    for a, b in [(1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (0.3, 5.0)]:
        assert divergence(a, b) == pytest.approx(math.log(a / b) + b / a - 1, abs=1e-12)
        assert (divergence(a, b) > 1e-12) == (a != b)
    assert divergence(1.0, 2.0) != pytest.approx(divergence(2.0, 1.0), abs=1e-2)


@pytest.mark.derives("thm-kl")
def test_divergence_is_positive_unless_equal_and_infinite_off_the_support() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        p, q = rng.dirichlet(np.ones(4), size=2)
        assert special.rel_entr(p, q).sum() > 0
        assert special.rel_entr(p, p).sum() == 0
    assert special.rel_entr([0.5, 0.5], [1.0, 0.0]).sum() == np.inf
    assert special.rel_entr([1.0, 0.0], [0.5, 0.5]).sum() == pytest.approx(math.log(2))


@pytest.mark.derives("prop-entropy-bounds", "eq-entropy", "eq-gibbs")
def test_entropy_of_labels_lies_between_zero_and_log_k() -> None:
    rng = np.random.default_rng(5)
    for k in range(2, 7):
        p, q = rng.dirichlet(np.ones(k), size=2)
        computed = entropy(p[None, :])
        assert computed == pytest.approx(-float(p @ np.log(p)), rel=1e-13)
        assert 0 < computed < math.log(k)
        assert -float(p @ np.log(q)) > computed
        assert entropy(np.full((1, k), 1 / k)) == pytest.approx(math.log(k))
        assert entropy(np.eye(k)) == 0.0


@pytest.mark.derives("prop-entropy-affine")
def test_entropy_grows_by_the_log_determinant() -> None:
    A = np.array([[3.0, 1.0], [0.0, 0.1]])
    base = np.array([[1.0, 0.4], [0.4, 2.0]])
    before = stats.multivariate_normal(np.zeros(2), base).entropy()
    after = stats.multivariate_normal(np.ones(2), A @ base @ A.T).entropy()
    assert after - before == pytest.approx(math.log(0.3), rel=1e-12)
    assert stats.uniform(scale=0.5).entropy() == pytest.approx(math.log(0.5))
