"""One normal distribution, against SciPy, quadrature and 50-digit arithmetic."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import stats

import gmm
from gmm.normal import Normal, cholesky, inverse_lower, log_determinant


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
