"""The mixture as a value: its densities, moments, marginals, samples and files."""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from conftest import random_mixture
from numpy.typing import NDArray
from scipy import integrate, optimize, stats

import gmm
from gmm.mixture import Mixture, log_sum_exp


def brute_log_density(mixture: Mixture, X: np.ndarray) -> np.ndarray:
    """The definition, by SciPy."""
    total = np.zeros(len(X))
    for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        total += w * stats.multivariate_normal(m, c).pdf(X)
    return np.log(total)


@pytest.mark.derives("eq-mixture-density", "eq-log-likelihood")
@pytest.mark.parametrize("d", [1, 2, 5])
def test_log_density_is_its_definition(family: str, d: int) -> None:
    mixture = random_mixture(family, 3, d, seed=d)
    X = mixture.sample(200, 0)[0]
    expected = brute_log_density(mixture, X)
    np.testing.assert_allclose(mixture.log_density(X), expected, rtol=1e-11)
    assert mixture.log_likelihood(X) == pytest.approx(expected.sum(), rel=1e-12)
    weights = np.arange(200.0)
    assert mixture.log_likelihood(X, weights) == pytest.approx(weights @ expected, rel=1e-12)


def test_results_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = random_mixture("VVV", 3, 2, seed=1)
    X = mixture.sample(1000, 0)[0]
    whole = (mixture.log_density(X), mixture.responsibilities(X), mixture.predict(X))
    monkeypatch.setattr("gmm.rows.BLOCK_NUMBERS", 200)
    for a, b in zip(
        whole,
        (mixture.log_density(X), mixture.responsibilities(X), mixture.predict(X)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-300)


@pytest.mark.derives("eq-responsibilities", "eq-latent")
def test_responsibilities_are_the_posterior_of_bayes_rule(family: str) -> None:
    mixture = random_mixture(family, 4, 2, seed=2)
    X = mixture.sample(100, 1)[0]
    joint = np.array(
        [
            w * stats.multivariate_normal(m, c).pdf(X)
            for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
        ]
    ).T
    np.testing.assert_allclose(
        mixture.responsibilities(X), joint / joint.sum(axis=1, keepdims=True), rtol=1e-10
    )
    np.testing.assert_array_equal(mixture.predict(X), joint.argmax(axis=1))
    np.testing.assert_allclose(mixture.component_log_densities(X), np.log(joint), rtol=1e-11)


@pytest.mark.derives("eq-log-sum-exp", "thm-log-sum-exp-error")
def test_log_sum_exp_is_exact_to_a_few_roundings_and_never_overflows() -> None:
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e3, 1e300):
        values = scale * rng.standard_normal(5)
        with mpmath.workdps(50):
            exact = mpmath.log(sum(mpmath.exp(mpmath.mpf(float(v))) for v in values))
            error = abs(mpmath.mpf(float(log_sum_exp(values))) - exact)
            # one rounding of the result, one of the sum of five exponentials
            assert error <= (abs(exact) + 8) * mpmath.mpf(2) ** -52
    assert log_sum_exp(np.array([-np.inf, -np.inf])) == -np.inf
    assert log_sum_exp(np.array([-np.inf, 2.0])) == 2.0


def test_a_row_60_deviations_away_has_a_density_and_responsibilities() -> None:
    mixture = Mixture([0.5, 0.5], [[0.0], [10.0]], [1.0, 1.0], "VII")
    with mpmath.workdps(50):
        exact = mpmath.log(mpmath.exp(mpmath.mpf(-1800)) + mpmath.exp(mpmath.mpf(-2450)))
        exact += mpmath.log(mpmath.mpf("0.5")) - mpmath.log(2 * mpmath.pi) / 2
    assert mixture.log_density([[-60.0]])[0] == pytest.approx(float(exact), rel=1e-15)
    np.testing.assert_array_equal(mixture.responsibilities([[-60.0]]).sum(axis=1), 1.0)


@pytest.mark.derives("eq-mixture-mean", "eq-mixture-covariance", "thm-mixture-moments")
def test_moments_agree_with_a_large_sample(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=3)
    X, _ = mixture.sample(400_000, 0)
    # six standard errors, from the mixture's own covariance
    bound = 6 * np.sqrt(np.diag(mixture.covariance) / len(X))
    assert (np.abs(X.mean(axis=0) - mixture.mean) < bound).all()
    np.testing.assert_allclose(np.cov(X.T), mixture.covariance, rtol=0.03, atol=0.05)


@pytest.mark.derives("eq-latent")
def test_sampled_labels_have_the_weights_and_their_rows_the_components(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=4)
    X, labels = mixture.sample(60_000, 7)
    counts = np.bincount(labels, minlength=3)
    assert stats.chisquare(counts, mixture.weights * len(X)).pvalue > 0.01
    distances = mixture.component(1).mahalanobis(X[labels == 1])
    assert stats.kstest(distances, stats.chi2(2).cdf).pvalue > 0.01


@pytest.mark.derives("thm-mixture-marginal")
def test_marginal_integrates_the_others_out(family: str) -> None:
    mixture = random_mixture(family, 2, 2, seed=5)
    marginal = mixture.marginal([1])
    assert marginal.family == family
    grid = np.linspace(-30, 30, 6001)
    for y in (-1.0, 0.5, 3.0):
        line = np.column_stack([grid, np.full_like(grid, y)])
        integral = np.trapezoid(np.exp(mixture.log_density(line)), grid)
        assert np.exp(marginal.log_density([[y]])[0]) == pytest.approx(integral, rel=1e-10)


@pytest.mark.derives("thm-mixture-conditional", "eq-conditional-weights")
def test_joint_density_is_marginal_times_conditional(family: str) -> None:
    mixture = random_mixture(family, 3, 3, seed=6)
    x = np.array([0.5, -1.0, 2.0])
    conditional = mixture.conditional([2, 0], x[[2, 0]])
    total = mixture.marginal([2, 0]).log_density([x[[2, 0]]]) + conditional.log_density([x[[1]]])
    np.testing.assert_allclose(total, mixture.log_density([x]), rtol=1e-12)
    assert conditional.family == family


@pytest.mark.derives("thm-identifiability")
def test_a_reordered_mixture_is_the_same_distribution(family: str) -> None:
    mixture = random_mixture(family, 4, 2, seed=7)
    X = mixture.sample(50, 0)[0]
    other = mixture.reordered([2, 0, 3, 1])
    np.testing.assert_allclose(other.log_density(X), mixture.log_density(X), rtol=1e-14)
    np.testing.assert_array_equal(other.means, mixture.means[[2, 0, 3, 1]])
    with pytest.raises(ValueError, match="order: expected a permutation of 4"):
        mixture.reordered([0, 1])


def test_all_shapes_of_covariances_are_accepted_and_others_refused(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=8)
    again = Mixture(mixture.weights, mixture.means, mixture.covariances, family)
    np.testing.assert_allclose(again.stored, mixture.stored, rtol=1e-15)
    with pytest.raises(ValueError, match="covariances: expected shape"):
        Mixture(mixture.weights, mixture.means, np.ones(5), family)


def test_matrices_of_another_family_are_refused() -> None:
    matrices = [[[1.0, 0.5], [0.5, 1.0]], [[2.0, 0.0], [0.0, 1.0]]]
    for family in ("EEE", "VVI", "VII"):
        with pytest.raises(ValueError, match=f"expected matrices of the family {family}"):
            Mixture([0.5, 0.5], np.zeros((2, 2)), matrices, family)


@pytest.mark.parametrize(
    ("weights", "means", "message"),
    [
        ([0.5, 0.6], [[0.0], [1.0]], "weights: expected non-negative numbers that sum to 1"),
        ([-0.5, 1.5], [[0.0], [1.0]], "weights: expected non-negative"),
        ([], [[0.0], [1.0]], "weights: expected non-negative"),
        ([0.5, 0.5], [[0.0]], "means: expected 2 rows, one for each weight, got 1"),
        ([0.5, 0.5], [[0.0], [np.inf]], "means: expected finite numbers"),
        ([[1.0]], [[0.0]], "weights: expected a 1-D array"),
    ],
)
def test_bad_weights_and_means_are_refused(
    weights: list[float], means: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(weights, means, np.ones((2, 1, 1)))


def test_a_component_of_weight_zero_takes_no_part() -> None:
    mixture = Mixture([1.0, 0.0], [[0.0], [5.0]], [1.0, 1.0], "VII")
    np.testing.assert_array_equal(mixture.responsibilities([[5.0]]), [[1.0, 0.0]])
    assert np.isfinite(mixture.log_density([[5.0]])).all()


def test_a_mixture_cannot_be_changed(family: str) -> None:
    mixture = random_mixture(family, 2, 2, seed=9)
    for array in (mixture.weights, mixture.means, mixture.stored, mixture.covariances):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0
    with pytest.raises(AttributeError):
        mixture.weights = np.ones(2) / 2  # type: ignore[misc]  # the error is what is tested


def test_the_repr_names_family_and_components() -> None:
    text = repr(random_mixture("EEE", 12, 2, seed=0))
    assert text.startswith("Mixture(EEE, 12 components, 2 features)")
    assert text.endswith("... and 2 more")


def test_a_pickled_mixture_is_the_same(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=10)
    X = mixture.sample(10, 0)[0]
    loaded = pickle.loads(pickle.dumps(mixture))
    np.testing.assert_array_equal(loaded.log_density(X), mixture.log_density(X))


# ---------------------------------------------------------------- the theory of the chapter


FloatArray = NDArray[np.float64]


def scipy_density(mixture: gmm.Mixture, x: FloatArray) -> FloatArray:
    parts = zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    total: FloatArray = np.sum([w * stats.multivariate_normal(m, c).pdf(x) for w, m, c in parts], 0)
    return total


@pytest.mark.derives("eq-mixture-density")
def test_density_is_the_weighted_sum_of_the_component_densities() -> None:
    mixture = random_mixture("VVV", 3, 3, 0)
    x = np.random.default_rng(1).normal(size=(20, 3)) * 3
    np.testing.assert_allclose(
        np.exp(mixture.log_density(x)), scipy_density(mixture, x), rtol=1e-10
    )


@pytest.mark.derives("eq-latent", "eq-posterior-label")
def test_sampled_labels_follow_the_weights_and_bayes_rule_finds_them() -> None:
    mixture = gmm.Mixture([0.6, 0.4], [[0.0], [1.5]], [[[1.0]], [[0.5]]])
    X, labels = mixture.sample(40_000, random_state=2)
    # five standard errors of a frequency, at most 0.5 / sqrt(n)
    assert abs((labels == 0).mean() - 0.6) < 5 * 0.5 / math.sqrt(40_000)
    posterior = mixture.responsibilities(X)[:, 0]
    for low in (0.0, 0.25, 0.5, 0.75):  # calibration: among rows with posterior r, a share r
        chosen = (posterior >= low) & (posterior < low + 0.25)
        error = 0.5 / math.sqrt(chosen.sum())
        assert abs((labels[chosen] == 0).mean() - posterior[chosen].mean()) < 5 * error


@pytest.mark.derives("thm-mixture-moments", "eq-mixture-mean", "eq-mixture-covariance")
def test_moments_by_integration_over_the_plane() -> None:
    mixture = random_mixture("VVV", 3, 2, 3)
    # A Riemann sum of a smooth, rapidly decaying function is exact to rounding.
    grid = np.arange(-24.0, 24.0, 0.1)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    mass = scipy_density(mixture, points) * 0.1**2
    assert mass.sum() == pytest.approx(1.0, abs=1e-9)
    mean = mass @ points
    covariance = (mass[:, None] * (points - mean)).T @ (points - mean)
    np.testing.assert_allclose(mixture.mean, mean, atol=1e-7)
    np.testing.assert_allclose(mixture.covariance, covariance, atol=1e-6)


@pytest.mark.derives("thm-mixture-moments", "eq-mixture-mgf")
def test_moment_generating_function_has_the_moments_as_derivatives() -> None:
    t = sp.symbols("t")
    weights, means, variances = (
        [sp.Rational(1, 4), sp.Rational(3, 4)],
        [-1, 2],
        [sp.Rational(1, 2), 3],
    )
    parts = zip(weights, means, variances, strict=True)
    mgf = sum(w * sp.exp(t * m + t**2 * v / 2) for w, m, v in parts)
    mixture = gmm.Mixture([0.25, 0.75], [[-1.0], [2.0]], [[[0.5]], [[3.0]]])
    first, second = (sp.diff(mgf, t, order).subs(t, 0) for order in (1, 2))
    assert mixture.mean[0] == pytest.approx(float(first), rel=1e-14)
    assert mixture.covariance[0, 0] == pytest.approx(float(second - first**2), rel=1e-14)


@pytest.mark.derives("thm-mixture-marginal")
def test_marginal_density_is_the_integral_of_the_joint_density() -> None:
    mixture = random_mixture("VVV", 2, 2, 4)
    for value in (-1.0, 0.5):
        integral, error = integrate.quad(
            lambda y, v=value: float(scipy_density(mixture, np.array([v, y]))), -40, 40, limit=400
        )
        marginal = float(np.exp(mixture.marginal([0]).log_density([[value]])[0]))
        assert marginal == pytest.approx(integral, abs=1e-9 + error)


@pytest.mark.derives("thm-mixture-marginal")
def test_a_projection_of_draws_follows_the_projected_mixture() -> None:
    mixture, a = random_mixture("VVV", 3, 3, 5), np.array([1.0, -0.5, 2.0])
    X, _ = mixture.sample(5_000, random_state=6)
    deviations = np.sqrt(np.einsum("i,kij,j->k", a, mixture.covariances, a))

    def distribution(values: Any) -> Any:
        scores = (np.asarray(values)[:, None] - mixture.means @ a) / deviations
        result: FloatArray = stats.norm.cdf(scores) @ mixture.weights
        return result

    assert stats.kstest(X @ a, distribution).pvalue > 1e-3


@pytest.mark.derives("thm-mixture-conditional", "eq-mixture-conditional", "eq-conditional-weights")
def test_joint_density_is_conditional_times_marginal() -> None:
    mixture = random_mixture("VVV", 4, 4, 7)
    rng = np.random.default_rng(8)
    known, free = [2, 0], [1, 3]
    for _ in range(5):
        x = rng.normal(size=4)
        conditional = mixture.conditional(known, x[known])
        parts = (
            conditional.log_density(x[free][None, :])[0]
            + mixture.marginal(known).log_density(x[known][None, :])[0]
        )
        assert mixture.log_density(x[None, :])[0] == pytest.approx(parts, rel=1e-11)
        densities = np.array(
            [
                stats.multivariate_normal(m[known], c[np.ix_(known, known)]).pdf(x[known])
                for m, c in zip(mixture.means, mixture.covariances, strict=True)
            ]
        )
        joint = mixture.weights * densities
        np.testing.assert_allclose(conditional.weights, joint / joint.sum(), rtol=1e-9)


@pytest.mark.derives("prop-bimodal")
def test_two_equal_components_have_two_modes_beyond_two_deviations() -> None:
    x = np.linspace(-4, 4, 80_001)
    for gap in (0.5, 1.9, 1.99, 2.01, 2.1, 4.0):
        log_density = np.logaddexp(-0.5 * (x - gap / 2) ** 2, -0.5 * (x + gap / 2) ** 2)
        modes = (np.diff(np.sign(np.diff(log_density))) < 0).sum()
        assert modes == (2 if gap > 2 else 1)


def stationary_points(mixture: gmm.Mixture, starts: FloatArray) -> FloatArray:
    def gradient(x: FloatArray) -> FloatArray:
        r = mixture.responsibilities(x[None, :])[0]
        precisions = np.linalg.inv(mixture.covariances)
        result: FloatArray = -np.einsum("k,kij,kj->i", r, precisions, x - mixture.means)
        return result

    found = [optimize.root(gradient, start, tol=1e-13) for start in starts]
    return np.array([f.x for f in found if f.success and np.abs(gradient(f.x)).max() < 1e-10])


@pytest.mark.derives("prop-ridgeline", "eq-ridgeline")
def test_stationary_points_satisfy_the_ridge_equation() -> None:
    mixture = random_mixture("VVV", 3, 2, 9)
    points = stationary_points(mixture, np.random.default_rng(10).normal(size=(30, 2)) * 3)
    assert len(points) >= 3
    for x in points:
        r = mixture.responsibilities(x[None, :])[0]
        precisions = np.linalg.inv(mixture.covariances)
        compromise = np.linalg.solve(
            np.einsum("k,kij->ij", r, precisions),
            np.einsum("k,kij,kj->i", r, precisions, mixture.means),
        )
        np.testing.assert_allclose(compromise, x, atol=1e-7)


@pytest.mark.derives("prop-three-modes")
def test_three_squares_hold_a_maximum_each() -> None:
    edge = np.linspace(-0.25, 0.25, 2001)
    side = np.full_like(edge, 0.25)
    boundary = np.concatenate(
        [np.column_stack(p) for p in [(edge, side), (edge, -side), (side, edge), (-side, edge)]]
    )
    for epsilon in (0.01, 0.001):
        mixture = gmm.Mixture(
            [0.5, 0.5], [[0, 0], [1, 1]], [np.diag([1, epsilon]), np.diag([epsilon, 1])]
        )
        for centre in ([1.0, 0.0], [0.0, 0.0], [1.0, 1.0]):
            inside = mixture.log_density([centre])[0]
            assert inside > mixture.log_density(boundary + centre).max()
    # the numbers of the proof
    assert 2 * math.exp(-0.5) > 1.2
    assert math.exp(-25 / 8) < 0.05
    assert math.exp(-9 / 32) < 0.76
    assert math.exp(-225 / 8) < 0.01
    assert math.exp(-1 / 32) < 0.97


@pytest.mark.derives("lem-linear-independence")
def test_gram_matrix_of_different_normals_is_regular() -> None:
    # Functions are independent exactly if the determinant of their inner products is positive.
    pairs = [(0.0, 1.0), (0.0, 2.0), (1.0, 1.0), (-1.0, 0.5)]
    gram = sp.Matrix(
        4,
        4,
        lambda i, j: (
            sp.exp(-sp.Rational((pairs[i][0] - pairs[j][0]) ** 2) / (2 * (sum_v(pairs, i, j))))
            / sp.sqrt(sum_v(pairs, i, j))
        ),
    )
    assert sp.N(gram.det(), 30) > 1e-6
    repeated = gram.copy()
    repeated[3, :] = repeated[0, :]
    assert sp.simplify(repeated.det()) == 0


def sum_v(pairs: list[tuple[float, float]], i: int, j: int) -> sp.Rational:
    return sp.Rational(pairs[i][1] + pairs[j][1])


@pytest.mark.derives("lem-linear-independence")
def test_widest_component_drowns_the_others_far_out() -> None:
    means, variances = np.array([5.0, -3.0, 0.0]), np.array([1.0, 2.0, 2.0])
    order = np.lexsort((means, variances))
    s = 40.0
    exponents = s * means + s**2 * variances / 2
    assert np.array_equal(np.argsort(exponents), order)
    assert exponents[order[-1]] - exponents[order[-2]] > 100


@pytest.mark.derives("thm-identifiability")
def test_density_is_the_same_for_a_reordering_and_for_nothing_else() -> None:
    mixture = random_mixture("VVV", 3, 2, 11)
    x = np.random.default_rng(12).normal(size=(200, 2)) * 3
    for order in itertools.permutations(range(3)):
        same = mixture.reordered(order).log_density(x)
        np.testing.assert_allclose(same, mixture.log_density(x), rtol=1e-12)
    # the derivative of the density in the free parameters has full rank: no direction is silent
    h = 1e-5

    def density(p: FloatArray) -> FloatArray:
        weights = np.array([p[0], p[1], 1 - p[0] - p[1]])
        factors = np.zeros((3, 2, 2))
        factors[:, [0, 1, 1], [0, 0, 1]] = p[8:].reshape(3, 3)
        covariances = factors @ np.swapaxes(factors, 1, 2)
        return np.exp(gmm.Mixture(weights, p[2:8].reshape(3, 2), covariances).log_density(x))

    factors = np.linalg.cholesky(mixture.covariances)[:, [0, 1, 1], [0, 0, 1]]
    at = np.concatenate([mixture.weights[:2], mixture.means.ravel(), factors.ravel()])
    jacobian = np.column_stack(
        [(density(at + h * e) - density(at - h * e)) / (2 * h) for e in np.eye(17)]
    )
    jacobian /= np.linalg.norm(jacobian, axis=0)
    # differences carry an error of about 1e-10; a silent direction would show as such a value
    assert np.linalg.svd(jacobian, compute_uv=False)[-1] > 1e-5


@pytest.mark.derives("thm-identifiability")
def test_assumptions_of_identifiability_are_needed() -> None:
    x, unit = np.linspace(-5, 5, 21)[:, None], [[[1.0]], [[1.0]]]
    first = gmm.Mixture([0.2, 0.8], [[1.0], [1.0]], unit).log_density(x)
    second = gmm.Mixture([0.7, 0.3], [[1.0], [1.0]], unit).log_density(x)
    third = gmm.Mixture([1.0, 0.0], [[1.0], [-4.0]], unit).log_density(x)
    np.testing.assert_allclose(second, first, rtol=1e-14)
    np.testing.assert_allclose(third, first, rtol=1e-14)
