"""One normal distribution, against SciPy, quadrature and 50-digit arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray
from scipy import integrate, stats

import gmm
from gmm.normal import Normal, cholesky, inverse_cholesky, inverse_lower, log_determinant


def example(d: int, seed: int = 0) -> Normal:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((d, d)) + 2 * np.eye(d)
    return Normal(rng.standard_normal(d), factor @ factor.T)


@pytest.mark.derives("eq-normal-density", "eq-log-density-cholesky")
@pytest.mark.parametrize("d", [1, 2, 5, 20])
def test_log_density_agrees_with_scipy(d: int) -> None:
    normal = example(d)
    X = np.random.default_rng(1).standard_normal((50, d)) * 3
    peer = stats.multivariate_normal(normal.mean, normal.covariance)
    np.testing.assert_allclose(normal.log_density(X), peer.logpdf(X), rtol=1e-10)


@pytest.mark.derives("eq-log-density-cholesky", "eq-mahalanobis")
def test_log_density_is_right_to_twelve_digits_in_50_digit_arithmetic() -> None:
    mean, covariance = [1e6, -3.0], [[1e-4, 2e-3], [2e-3, 1.0]]
    x = [1e6 + 0.03125, -2.5]
    with mpmath.workdps(50):
        s = mpmath.matrix(covariance)
        z = mpmath.matrix([mpmath.mpf(a) - mpmath.mpf(b) for a, b in zip(x, mean, strict=True)])
        q = (z.T * mpmath.inverse(s) * z)[0]
        exact = -(2 * mpmath.log(2 * mpmath.pi) + mpmath.log(mpmath.det(s)) + q) / 2
        error = abs(
            (mpmath.mpf(float(Normal(mean, covariance).log_density([x])[0])) - exact) / exact
        )
    assert error < 1e-12


@pytest.mark.derives("thm-normal-marginal", "thm-normal-conditional")
def test_joint_density_is_marginal_times_conditional() -> None:
    normal = example(4)
    x = np.array([0.3, -1.0, 2.0, 0.7])
    known = [2, 0]
    marginal = normal.marginal(known).log_density([x[known]])
    conditional = normal.conditional(known, x[known]).log_density([x[[1, 3]]])
    np.testing.assert_allclose(marginal + conditional, normal.log_density([x]), rtol=1e-12)


@pytest.mark.derives("eq-conditional-mean", "eq-conditional-covariance")
def test_conditional_is_given_by_the_schur_complement() -> None:
    normal = example(4, seed=3)
    known, free, value = [0, 2], [1, 3], np.array([0.5, -1.0])
    s = normal.covariance
    gain = s[np.ix_(free, known)] @ np.linalg.inv(s[np.ix_(known, known)])
    conditional = normal.conditional(known, value)
    np.testing.assert_allclose(
        conditional.mean, normal.mean[free] + gain @ (value - normal.mean[known]), rtol=1e-12
    )
    np.testing.assert_allclose(
        conditional.covariance,
        s[np.ix_(free, free)] - gain @ s[np.ix_(known, free)],
        rtol=1e-11,
    )


@pytest.mark.derives("eq-normal-entropy")
def test_entropy_agrees_with_scipy() -> None:
    normal = example(3)
    peer = stats.multivariate_normal(normal.mean, normal.covariance)
    assert normal.entropy() == pytest.approx(peer.entropy(), rel=1e-13)


@pytest.mark.derives("eq-normal-kl")
def test_kl_agrees_with_quadrature() -> None:
    p, q = Normal([0.5], [[2.0]]), Normal([-1.0], [[0.7]])
    with mpmath.workdps(30):

        def integrand(x: mpmath.mpf) -> mpmath.mpf:
            log_p = -((x - 0.5) ** 2) / 4 - mpmath.log(2 * mpmath.pi * 2) / 2
            variance = mpmath.mpf("0.7")
            log_q = -((x + 1) ** 2) / (2 * variance) - mpmath.log(2 * mpmath.pi * variance) / 2
            return mpmath.exp(log_p) * (log_p - log_q)

        exact = mpmath.quad(integrand, [-40, 0.5, 40])
    assert p.kl(q) == pytest.approx(float(exact), rel=1e-12)
    assert p.kl(p) == pytest.approx(0.0, abs=1e-15)
    with pytest.raises(ValueError, match="other: expected 1 features, got 2"):
        p.kl(example(2))


@pytest.mark.derives("thm-mahalanobis-chi2", "thm-affine")
def test_distances_of_a_sample_follow_chi_squared() -> None:
    """Kolmogorov–Smirnov on 20 000 draws with a fixed seed; the p-value is uniform if it holds."""
    normal = example(3)
    distances = normal.mahalanobis(normal.sample(20_000, random_state=0))
    assert stats.kstest(distances, stats.chi2(3).cdf).pvalue > 0.01


@pytest.mark.derives("eq-sigma-ellipse")
def test_ellipse_lies_at_its_distance_and_holds_its_mass() -> None:
    normal = example(2)
    curve = normal.ellipse(2.0, 100)
    np.testing.assert_allclose(normal.mahalanobis(curve), 4.0, rtol=1e-12)
    np.testing.assert_allclose(curve[0], curve[-1], rtol=1e-12)
    inside = (normal.mahalanobis(normal.sample(100_000, 1)) <= 4.0).mean()
    # the standard deviation of this share is .0011
    assert inside == pytest.approx(1 - np.exp(-2), abs=0.005)
    with pytest.raises(ValueError, match="ellipse: expected a distribution of 2 features, got 3"):
        example(3).ellipse()


@pytest.mark.derives("eq-sample-mean", "eq-sample-covariance")
def test_fit_gives_the_sample_moments_and_weights_mean_repetition() -> None:
    X = np.random.default_rng(0).standard_normal((30, 2)) + 5
    weights = np.arange(30) % 4
    normal = Normal.fit(X, weights)
    np.testing.assert_allclose(normal.mean, np.repeat(X, weights, axis=0).mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(normal.covariance, np.cov(X.T, fweights=weights, ddof=0), rtol=1e-12)


def test_fit_refuses_rows_in_a_hyperplane() -> None:
    with pytest.raises(gmm.SingularCovarianceError, match="X: the 3 rows lie in a hyperplane"):
        Normal.fit([[0.0, 0.0, 1.0], [1.0, 2.0, 0.0], [5.0, 1.0, 2.0]])


@pytest.mark.parametrize("d", [1, 2, 8, 9, 33])
def test_inverse_and_determinant_of_factors(d: int) -> None:
    rng = np.random.default_rng(d)
    factors = np.tril(rng.standard_normal((3, d, d)) / d) + np.eye(d) * rng.uniform(1, 2, (3, 1, 1))
    np.testing.assert_allclose(
        inverse_lower(factors) @ factors, np.tile(np.eye(d), (3, 1, 1)), atol=1e-13
    )
    expected = np.linalg.slogdet(factors @ np.swapaxes(factors, 1, 2))[1]
    np.testing.assert_allclose(log_determinant(factors), expected, rtol=1e-12, atol=1e-12)


def test_inverse_is_exact_for_factors_of_wildly_different_scales() -> None:
    """Forward substitution is accurate row by row; elimination with pivots would not be."""
    factor = np.array([[1e-8, 0.0], [1e8, 1e8]])
    np.testing.assert_allclose(inverse_lower(factor), [[1e8, 0.0], [-1e8, 1e-8]], rtol=1e-15)


@pytest.mark.parametrize(
    "matrix",
    [[[1.0, 1.0], [1.0, 1.0]], [[1.0, 2.0], [2.0, 1.0]], [[0.0]], [[-1.0]]],
    ids=["rank one", "indefinite", "zero", "negative"],
)
def test_matrices_that_are_not_positive_definite_are_refused(matrix: list[list[float]]) -> None:
    with pytest.raises(
        gmm.SingularCovarianceError, match="covariance: expected a positive definite"
    ):
        Normal(np.zeros(len(matrix)), matrix)


def test_a_matrix_that_is_singular_but_for_rounding_is_refused() -> None:
    v = np.array([0.1, 0.3, 0.7])
    nearly = np.outer(v, v) + 1e-17 * np.eye(3)
    with pytest.raises(gmm.SingularCovarianceError):
        cholesky(nearly)


def test_other_bad_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="covariance: expected a symmetric matrix"):
        Normal([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(ValueError, match=r"covariance: expected shape \(2, 2\)"):
        Normal([0.0, 0.0], [[1.0]])
    with pytest.raises(ValueError, match="mean: expected at least one number"):
        Normal([], [[]])
    with pytest.raises(ValueError, match="mean: expected finite numbers"):
        Normal([np.nan], [[1.0]])


def test_a_normal_distribution_cannot_be_changed() -> None:
    normal = example(2)
    with pytest.raises(ValueError, match="read-only"):
        normal.mean[0] = 1.0
    with pytest.raises(AttributeError):
        normal.mean = np.zeros(2)  # type: ignore[misc]  # the error is what is tested
    assert normal.n_features == 2


# ---------------------------------------------------------------- the theory of the chapter


FloatArray = NDArray[np.float64]


def random_normal(d: int, seed: int) -> Normal:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(d, d + 2))
    return Normal(rng.normal(size=d), factor @ factor.T)


@pytest.mark.derives("lem-gaussian-integral", "eq-gaussian-integral")
def test_gaussian_integral_is_the_root_of_two_pi() -> None:
    x = sp.symbols("x", real=True)
    assert sp.integrate(sp.exp(-(x**2) / 2), (x, -sp.oo, sp.oo)) == sp.sqrt(2 * sp.pi)


@pytest.mark.derives("thm-normal-law")
def test_two_factors_of_one_covariance_give_one_distribution() -> None:
    # The proof's chain for a wide and a square factor of the same covariance: U S U^T is the root.
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(3, 5))
    covariance = wide @ wide.T
    for factor in (wide, np.linalg.cholesky(covariance)):
        left, singular, _ = np.linalg.svd(factor)
        root = left @ np.diag(singular) @ left.T
        np.testing.assert_allclose(root @ root, covariance, rtol=1e-12, atol=1e-12)
        values, vectors = np.linalg.eigh(covariance)
        np.testing.assert_allclose(
            root, vectors @ np.diag(np.sqrt(values)) @ vectors.T, rtol=1e-11, atol=1e-11
        )


@pytest.mark.derives("thm-normal-mgf", "eq-normal-mgf")
def test_moment_generating_function_by_integration_over_the_plane() -> None:
    normal, t = Normal([0.3, -0.2], [[1.0, 0.4], [0.4, 0.5]]), np.array([0.7, -1.1])
    # A Riemann sum of a smooth, rapidly decaying function is exact to rounding.
    grid = np.arange(-9.0, 9.0, 0.15)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    total = np.exp(points @ t + normal.log_density(points)).sum() * 0.15**2
    formula = math.exp(t @ normal.mean + 0.5 * t @ normal.covariance @ t)
    assert total == pytest.approx(formula, rel=1e-10)


@pytest.mark.derives("thm-affine")
def test_affine_image_has_the_mapped_mean_and_covariance() -> None:
    normal = random_normal(3, 1)
    B, c = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0]]), np.array([4.0, -1.0])
    n = 200_000
    image = normal.sample(n, random_state=2) @ B.T + c
    mean, covariance = B @ normal.mean + c, B @ normal.covariance @ B.T
    deviations = np.sqrt(np.diag(covariance))
    # five standard errors of a mean, and of a covariance (at most sqrt(2) sd_i sd_j / sqrt(n))
    assert (np.abs(image.mean(axis=0) - mean) < 5 * deviations / math.sqrt(n)).all()
    allowed = 5 * math.sqrt(2 / n) * np.outer(deviations, deviations)
    assert (np.abs(np.cov(image.T) - covariance) < allowed).all()
    # normality itself: the image's direction (1, 1) against the normal distribution function
    direction = image @ [1.0, 1.0]
    law = stats.norm(mean.sum(), math.sqrt(covariance.sum()))
    assert stats.kstest(direction[:20_000], law.cdf).pvalue > 1e-3


@pytest.mark.derives("thm-normal-density", "eq-normal-density", "eq-mahalanobis")
def test_density_agrees_with_fifty_digits() -> None:
    normal = random_normal(4, 3)
    x = np.random.default_rng(4).normal(size=4) * 5
    with mpmath.workdps(50):
        covariance = mpmath.matrix(normal.covariance.tolist())
        residual = mpmath.matrix(x.tolist()) - mpmath.matrix(normal.mean.tolist())
        square = (residual.T * mpmath.inverse(covariance) * residual)[0]
        log_density = (
            -(4 * mpmath.log(2 * mpmath.pi) + mpmath.log(mpmath.det(covariance)) + square) / 2
        )
    condition = float(np.linalg.cond(normal.covariance))
    assert normal.mahalanobis(x[None, :])[0] == pytest.approx(
        float(square), rel=1e-15 * 16 * condition
    )
    assert normal.log_density(x[None, :])[0] == pytest.approx(
        float(log_density), rel=1e-14 * condition
    )


@pytest.mark.derives("thm-normal-density")
def test_singular_covariance_confines_to_a_subspace_and_has_no_density() -> None:
    A = np.array([[1.0], [2.0]])
    x = np.random.default_rng(5).standard_normal((100, 1)) @ A.T
    assert np.linalg.matrix_rank(x) == 1
    with pytest.raises(gmm.SingularCovarianceError):
        Normal([0.0, 0.0], A @ A.T)


@pytest.mark.derives("thm-cholesky", "eq-log-density-cholesky")
def test_cholesky_recursion_of_the_proof_gives_the_factor() -> None:
    def recursion(covariance: FloatArray) -> FloatArray:
        d = len(covariance)
        factor = np.zeros((d, d))
        factor[0, 0] = math.sqrt(covariance[0, 0])
        if d > 1:
            factor[1:, 0] = covariance[1:, 0] / factor[0, 0]
            factor[1:, 1:] = recursion(
                covariance[1:, 1:]
                - np.outer(covariance[1:, 0], covariance[0, 1:]) / covariance[0, 0]
            )
        return factor

    normal = random_normal(5, 6)
    factor = recursion(normal.covariance)
    np.testing.assert_allclose(factor, normal.cholesky, rtol=1e-12, atol=1e-13)
    x = np.ones(5)
    by_hand = (
        -2.5 * math.log(2 * math.pi)
        - np.log(np.diag(factor)).sum()
        - 0.5 * np.sum(np.linalg.solve(factor, x - normal.mean) ** 2)
    )
    assert normal.log_density(x[None, :])[0] == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.derives("thm-normal-marginal")
def test_marginal_density_is_the_integral_of_the_joint_density() -> None:
    normal = Normal([0.5, -1.0], [[2.0, 0.7], [0.7, 1.0]])
    for value in (-2.0, 0.0, 1.3):
        integral, error = integrate.quad(
            lambda y, v=value: float(np.exp(normal.log_density([[v, y]])[0])), -12, 12
        )
        marginal = float(np.exp(normal.marginal([0]).log_density([[value]])[0]))
        assert marginal == pytest.approx(integral, abs=1e-9 + error)


@pytest.mark.derives("lem-block-factorisation", "eq-block-factorisation")
def test_block_factorisation_multiplies_out_symbolically() -> None:
    a, b, c, e, f, g = sp.symbols("a b c e f g")
    covariance = sp.Matrix([[a, b, c], [b, e, f], [c, f, g]])
    aa, ab, bb = covariance[:1, :1], covariance[:1, 1:], covariance[1:, 1:]
    gamma = ab * bb.inv()
    schur = aa - gamma * ab.T
    upper = sp.eye(3)
    upper[:1, 1:] = gamma
    product = upper * sp.diag(schur, bb) * upper.T
    assert sp.simplify(product - covariance) == sp.zeros(3)
    assert sp.simplify(covariance.det() - schur[0] * bb.det()) == 0


@pytest.mark.derives(
    "thm-normal-conditional",
    "eq-conditional-mean",
    "eq-conditional-covariance",
    "eq-normal-factors",
)
def test_joint_density_is_conditional_times_marginal() -> None:
    normal = random_normal(5, 7)
    rng = np.random.default_rng(8)
    known, free = [3, 0], [1, 2, 4]
    gain = normal.covariance[np.ix_(free, known)] @ np.linalg.inv(
        normal.covariance[np.ix_(known, known)]
    )
    for _ in range(5):
        x = rng.normal(size=5)
        conditional = normal.conditional(known, x[known])
        np.testing.assert_allclose(
            conditional.mean, normal.mean[free] + gain @ (x - normal.mean)[known], rtol=1e-10
        )
        np.testing.assert_allclose(
            conditional.covariance,
            normal.covariance[np.ix_(free, free)] - gain @ normal.covariance[np.ix_(known, free)],
            rtol=1e-9,
            atol=1e-10,
        )
        joint = normal.log_density(x[None, :])[0]
        parts = (
            conditional.log_density(x[free][None, :])[0]
            + normal.marginal(known).log_density(x[known][None, :])[0]
        )
        assert joint == pytest.approx(parts, rel=1e-11)


@pytest.mark.derives("cor-uncorrelated")
def test_uncorrelated_blocks_have_a_product_density() -> None:
    normal = Normal([1.0, 2.0, 3.0], [[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0]])
    x = np.array([[0.3, -0.7, 5.0]])
    product = normal.marginal([0, 1]).log_density(x[:, :2]) + normal.marginal(2).log_density(
        x[:, 2:]
    )
    np.testing.assert_allclose(normal.log_density(x), product, rtol=1e-14)


@pytest.mark.derives("cor-conditional-cholesky", "eq-conditional-cholesky")
def test_squared_pivots_are_the_remaining_variances() -> None:
    normal = random_normal(4, 9)
    for j in range(1, 4):
        leading = normal.marginal(list(range(j + 1)))
        remaining = leading.conditional(list(range(j)), np.zeros(j)).covariance[0, 0]
        assert remaining == pytest.approx(normal.cholesky[j, j] ** 2, rel=1e-12)


@pytest.mark.derives("thm-mahalanobis-chi2", "eq-ellipse-mass", "eq-sigma-ellipse")
def test_ellipse_holds_what_the_chi2_distribution_says() -> None:
    for d in (1, 2, 3, 7):
        for s in (0.5, 2.0, 4.0):
            top, bottom = (
                mpmath.quad(lambda r, d=d: r ** (d - 1) * mpmath.exp(-(r**2) / 2), [0, end])
                for end in (s, 40.0)
            )
            assert float(top / bottom) == pytest.approx(float(stats.chi2(d).cdf(s**2)), abs=1e-12)
    assert float(stats.chi2(2).cdf(4.0)) == pytest.approx(1 - math.exp(-2), abs=1e-14)
    normal = Normal([1.0, -1.0], [[3.0, 1.0], [1.0, 2.0]])
    np.testing.assert_allclose(normal.mahalanobis(normal.ellipse(1.7)), 1.7**2, rtol=1e-12)


@pytest.mark.derives("thm-mahalanobis-chi2")
def test_measured_distances_follow_chi2() -> None:
    normal = random_normal(3, 10)
    distances = normal.mahalanobis(normal.sample(20_000, random_state=11))
    assert stats.kstest(distances, stats.chi2(3).cdf).pvalue > 1e-3


@pytest.mark.derives("lem-expected-quadratic", "eq-expected-quadratic")
def test_expected_quadratic_form_of_a_finite_population() -> None:
    # Any distribution will do: the empirical one makes both sides finite sums.
    rng = np.random.default_rng(12)
    x, a, B = rng.gamma(1.0, size=(50, 3)), rng.normal(size=3), rng.normal(size=(3, 3))
    B = B + B.T
    left = np.einsum("ni,ij,nj->n", x - a, B, x - a).mean()
    mean = x.mean(axis=0)
    right = np.trace(B @ np.cov(x.T, bias=True)) + (mean - a) @ B @ (mean - a)
    assert left == pytest.approx(right, rel=1e-12)


@pytest.mark.derives("thm-max-entropy", "eq-normal-entropy")
def test_normal_has_the_greatest_entropy_of_its_variance() -> None:
    normal = random_normal(4, 13)
    sign, log_det = np.linalg.slogdet(2 * np.pi * math.e * normal.covariance)
    assert sign == 1
    assert normal.entropy() == pytest.approx(0.5 * log_det, rel=1e-12)
    greatest = Normal([0.0], [[1.0]]).entropy()
    rivals = [stats.uniform(), stats.laplace(), stats.logistic(), stats.gamma(3.0), stats.t(5.0)]
    for rival in rivals:
        entropy = float(rival.entropy()) - 0.5 * math.log(rival.var())  # rescaled to variance one
        assert entropy < greatest - 1e-4


@pytest.mark.derives("prop-normal-kl", "eq-normal-kl")
def test_divergence_of_two_normals_by_integration_and_its_sign() -> None:
    p, q = Normal([0.2], [[0.6]]), Normal([-0.5], [[1.7]])
    integral, error = integrate.quad(
        lambda x: float(
            np.exp(p.log_density([[x]])[0]) * (p.log_density([[x]])[0] - q.log_density([[x]])[0])
        ),
        -8,
        8,
    )
    assert p.kl(q) == pytest.approx(integral, abs=1e-9 + error)
    a, b = random_normal(3, 14), random_normal(3, 15)
    formula = 0.5 * (
        np.trace(np.linalg.solve(b.covariance, a.covariance))
        + (a.mean - b.mean) @ np.linalg.solve(b.covariance, a.mean - b.mean)
        - 3
        + np.linalg.slogdet(b.covariance)[1]
        - np.linalg.slogdet(a.covariance)[1]
    )
    assert a.kl(b) == pytest.approx(formula, rel=1e-11)
    assert a.kl(b) > 0
    assert a.kl(a) == pytest.approx(0.0, abs=1e-14)


@pytest.mark.derives("prop-cancellation")
def test_expanded_square_stays_within_its_bound_and_needs_it() -> None:
    u, rng, worst = 2.0**-53, np.random.default_rng(16), 0.0
    for offset in (1.0, 1e3, 1e8):
        for x in offset + rng.standard_normal(300):
            exact = (Fraction(float(x)) - Fraction(offset)) ** 2
            bound = 11 * u * max(x * x, offset * offset) * (1 + 1e-12)
            expanded = (x * x - 2 * offset * x) + offset * offset
            centred = (x - offset) * (x - offset)
            assert abs(Fraction(float(expanded)) - exact) <= bound
            assert abs(Fraction(float(centred)) - exact) <= 3 * u * float(exact) * (1 + 1e-12)
            worst = max(worst, float(abs(Fraction(float(expanded)) - exact)) / bound)
    assert worst > 0.1  # the bound is not idle


@pytest.mark.parametrize("d", [1, 3, 12])
def test_inverse_factors_are_the_inverses_of_factors(d: int) -> None:
    stack = np.array([example(d, seed).covariance for seed in range(4)])
    product = inverse_cholesky(stack) @ cholesky(stack)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(d), stack.shape), atol=1e-12)
    assert (np.triu(inverse_cholesky(stack), 1) == 0).all()


@pytest.mark.parametrize("factor", [cholesky, inverse_cholesky])
def test_the_first_matrix_of_a_stack_that_is_not_positive_definite_is_named(
    factor: Callable[..., Any],
) -> None:
    stack = np.array([np.eye(2)] * 3)
    stack[1] = [[1.0, 1.0], [1.0, 1.0 + 1e-15]]  # has a factor, a wrong one
    with pytest.raises(gmm.SingularCovarianceError, match=r"^it of component 1: expected a pos"):
        factor(stack, "it")
    stack[1] = [[1.0, 2.0], [2.0, 1.0]]
    with pytest.raises(gmm.SingularCovarianceError, match=r"^it of component 1: expected a pos"):
        factor(stack, "it")
    with pytest.raises(gmm.SingularCovarianceError, match=r"^it: expected a positive definite"):
        factor(np.full((2, 2), np.nan), "it")
