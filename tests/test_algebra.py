"""Maps, products, regressions, divergences and modes against integrals, samples and searches."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
from conftest import random_mixture

import gmm
from gmm.algebra import (
    affine,
    divergence,
    divergence_bounds,
    modes,
    overlap,
    product,
    regress,
)
from gmm.checks import FloatArray, SingularCovarianceError
from gmm.families import FAMILIES

FOURTEEN = [name for name in FAMILIES if len(name) == 3]


# ---------------------------------------------------------------- affine maps


@pytest.mark.derives("thm-affine")
@pytest.mark.parametrize("family", FOURTEEN)
def test_an_affine_map_changes_variables(family: str) -> None:
    """p(x) = p(A x + b) |det A|, and a marginal is a map onto some axes."""
    mixture = random_mixture(family, 3, 3, seed=1)
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((3, 3)), rng.standard_normal(3)
    X = mixture.sample(20, 0)[0]
    mapped = affine(mixture, A, b)
    change = np.linalg.slogdet(A)[1]
    np.testing.assert_allclose(
        mapped.log_density(X @ A.T + b) + change, mixture.log_density(X), rtol=1e-9
    )
    onto = affine(mixture, np.eye(3)[[2, 0]])
    np.testing.assert_allclose(
        onto.log_density(X[:, [2, 0]]),
        mixture.marginal([2, 0]).log_density(X[:, [2, 0]]),
        rtol=1e-9,
    )
    assert mapped.family == ("EEE" if family in ("EII", "EEI", "EEE") else "VVV")


def test_maps_that_lose_a_dimension_are_refused() -> None:
    mixture = random_mixture("VVV", 2, 2, seed=0)
    with pytest.raises(SingularCovarianceError):
        affine(mixture, [[1.0, 2.0], [2.0, 4.0]])
    with pytest.raises(ValueError, match="matrix: expected 2 features, got 3"):
        affine(mixture, np.ones((1, 3)))
    with pytest.raises(ValueError, match="shift: expected"):
        affine(mixture, np.eye(2), [1.0])
    with pytest.raises(ValueError, match="matrix"):
        affine(mixture, [[np.nan, 0.0]])


# ---------------------------------------------------------------- products


@pytest.mark.parametrize("families", [("VVV", "EEE"), ("VII", "VVI")])
def test_the_product_is_the_product(families: tuple[str, str]) -> None:
    one, other = (random_mixture(f, k, 2, seed=k) for f, k in zip(families, (3, 2), strict=True))
    both, log_integral = product(one, other)
    assert both.n_components == 6
    X = 4 * np.random.default_rng(0).standard_normal((50, 2))
    np.testing.assert_allclose(
        both.log_density(X) + log_integral, one.log_density(X) + other.log_density(X), rtol=1e-9
    )


def test_the_integral_of_a_product_is_an_integral() -> None:
    one = gmm.Mixture([0.3, 0.7], [[-1.0], [2.0]], [0.5, 2.0], "VII")
    other = gmm.Mixture([0.6, 0.4], [[0.0], [4.0]], [1.0, 0.3], "VII")

    def integrand(x: float) -> float:
        at = np.array([[x]])
        return float(np.exp(one.log_density(at) + other.log_density(at))[0])

    wanted = scipy.integrate.quad(integrand, -20, 20, epsabs=1e-13)[0]
    assert product(one, other)[1] == pytest.approx(np.log(wanted), abs=1e-9)
    with pytest.raises(ValueError, match="other: expected a mixture on 1 features, got one on 2"):
        product(one, random_mixture("VVV", 2, 2, seed=0))


def test_a_narrow_factor_wins_and_stays_positive() -> None:
    wide = gmm.Mixture([1.0], [[0.0, 0.0]], [1e8 * np.eye(2)])
    narrow = gmm.Mixture([1.0], [[1.0, 2.0]], [1e-8 * np.eye(2)])
    for both in (product(wide, narrow)[0], product(narrow, wide)[0]):
        np.testing.assert_allclose(both.means, [[1.0, 2.0]], rtol=1e-12)
        np.testing.assert_allclose(both.covariances[0], 1e-8 * np.eye(2), rtol=1e-9, atol=1e-22)


# ---------------------------------------------------------------- regression


@pytest.mark.derives("eq-conditional-mean", "eq-conditional-covariance", "thm-mixture-conditional")
@pytest.mark.parametrize("family", FOURTEEN)
def test_regression_gives_the_moments_of_the_conditional(family: str) -> None:
    mixture = random_mixture(family, 3, 3, seed=3, spread=1.0)
    X = mixture.sample(12, 1)[0][:, [2, 0]]
    got = regress(mixture, [2, 0], X)
    for i, x in enumerate(X):
        conditional = mixture.conditional([2, 0], x)
        np.testing.assert_allclose(got.mean[i], conditional.mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got.covariance[i], conditional.covariance, rtol=1e-9)
        np.testing.assert_allclose(got.responsibilities[i], conditional.weights, atol=1e-12)


def test_regression_of_a_curve_follows_it() -> None:
    """No straight line: a parabola with noise, from a mixture of ten."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, 2000)
    y = x**2 + 0.1 * rng.standard_normal(2000)
    mixture = gmm.fit(np.column_stack([x, y]), 10, random_state=0).mixture
    at = np.linspace(-1.8, 1.8, 30)
    got = regress(mixture, [0], at[:, None])
    assert np.abs(got.mean[:, 0] - at**2).max() < 0.15
    # three standard deviations hold the curve, and are of the size of noise and curvature
    deviation = np.sqrt(got.covariance[:, 0, 0])
    assert (np.abs(got.mean[:, 0] - at**2) < 3 * deviation).all()
    assert 0.08 < np.median(deviation) < 0.3


def test_bad_regressions_are_refused() -> None:
    mixture = random_mixture("VVV", 2, 2, seed=0)
    with pytest.raises(ValueError, match="X: expected 1 features, got 2"):
        regress(mixture, [0], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="indices"):
        regress(mixture, [0, 1], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="X"):
        regress(mixture, [0], [[np.inf]])


# ---------------------------------------------------------------- divergences


def by_quadrature(one: gmm.Mixture, other: gmm.Mixture) -> float:
    def integrand(x: float) -> float:
        at = np.array([[x]])
        log_p = float(one.log_density(at)[0])
        return float(np.exp(log_p) * (log_p - other.log_density(at)[0]))

    return float(scipy.integrate.quad(integrand, -30, 30, epsabs=1e-11, limit=400)[0])


@pytest.mark.derives("eq-kl", "thm-kl")
@pytest.mark.parametrize("seed", range(6))
def test_divergences_agree_with_quadrature_and_lie_within_their_bounds(seed: int) -> None:
    one = random_mixture("VII", 3, 1, seed=seed, spread=2.0)
    other = random_mixture("VII", 2, 1, seed=seed + 50, spread=2.0)
    wanted = by_quadrature(one, other)
    got = divergence(one, other, 40_000, seed)
    assert abs(got.value - wanted) < 5 * got.standard_error
    assert got.standard_error < 0.1 * max(wanted, 0.1)
    lower, upper = divergence_bounds(one, other)
    assert 0 <= lower <= wanted + 1e-9
    assert wanted <= upper + 1e-9


@pytest.mark.derives("eq-normal-kl")
def test_of_single_normals_the_upper_bound_is_the_divergence() -> None:
    one, other = (random_mixture("VVV", 1, 3, seed=s) for s in (1, 2))
    wanted = one.component(0).kl(other.component(0))
    assert divergence_bounds(one, other)[1] == pytest.approx(wanted, rel=1e-10)
    got = divergence(one, other, 50_000, 0)
    assert abs(got.value - wanted) < 5 * got.standard_error


def test_a_mixture_does_not_diverge_from_itself() -> None:
    mixture = random_mixture("VVV", 4, 2, seed=0)
    assert divergence(mixture, mixture, 100, 0) == (0.0, 0.0)
    lower, upper = divergence_bounds(mixture, mixture.reordered([2, 0, 3, 1]))
    assert lower == 0.0
    assert upper == pytest.approx(0.0, abs=1e-9)


def test_too_far_apart_for_a_divergence_is_said() -> None:
    one, other = (gmm.Mixture([1.0], [[mean]], [1e-20], "VII") for mean in (0.0, 1e150))
    with pytest.raises(ValueError, match="other: expected a mixture at a distance whose square"):
        divergence_bounds(one, other)


# ---------------------------------------------------------------- overlap


def test_overlaps_are_integrals_of_root_products() -> None:
    mixture = gmm.Mixture([0.2, 0.3, 0.5], [[0.0], [1.5], [5.0]], [1.0, 0.25, 4.0], "VII")
    got = overlap(mixture)
    for j in range(3):
        for k in range(3):
            a, b = (
                scipy.stats.norm(mixture.means[i, 0], np.sqrt(mixture.covariances[i, 0, 0])).pdf
                for i in (j, k)
            )
            wanted = scipy.integrate.quad(lambda x, a=a, b=b: np.sqrt(a(x) * b(x)), -30, 40)[0]
            assert got[j, k] == pytest.approx(wanted, abs=1e-8)


def test_overlaps_of_matrices_are_symmetric_and_at_most_one() -> None:
    got = overlap(random_mixture("VVV", 5, 4, seed=3, spread=1.0))
    np.testing.assert_allclose(got, got.T, rtol=1e-12)
    np.testing.assert_allclose(np.diagonal(got), 1.0, rtol=1e-12)
    assert ((got > 0) & (got <= 1)).all()


# ---------------------------------------------------------------- modes


def test_modes_are_where_a_search_ends() -> None:
    mixture = random_mixture("VVV", 4, 2, seed=5, spread=2.0)
    found = modes(mixture)
    rng = np.random.default_rng(0)

    def loss(x: FloatArray) -> float:
        return -float(mixture.log_density(x[None])[0])

    for _ in range(15):
        start = mixture.sample(1, rng)[0][0]
        end = scipy.optimize.minimize(loss, start, tol=1e-12).x
        assert np.abs(found - end).max(axis=1).min() < 1e-4
    heights = mixture.log_density(found)
    assert (np.diff(heights) <= 0).all()


def test_close_components_have_one_mode_and_distant_ones_two() -> None:
    for distance, count in ((1.9, 1), (2.1, 2)):  # equal widths: two modes beyond two deviations
        mixture = gmm.Mixture([0.5, 0.5], [[0.0], [distance]], [1.0, 1.0], "VII")
        assert len(modes(mixture)) == count


def test_a_search_for_modes_that_is_cut_off_is_on_its_way() -> None:
    mixture = gmm.Mixture([0.5, 0.5], [[0.0], [2.1]], [1.0, 1.0], "VII")
    ends = np.sort(modes(mixture).ravel())
    early = np.sort(modes(mixture, max_iter=1).ravel())
    assert 0.0 < early[0] < ends[0] < ends[1] < early[1] < 2.1


def test_a_symmetric_start_on_a_saddle_is_no_mode() -> None:
    means = [[-3.0], [3.0], [0.0]]
    mixture = gmm.Mixture([0.4999, 0.4999, 0.0002], means, [1.0, 1.0, 1.0], "VII")
    np.testing.assert_allclose(np.sort(modes(mixture).ravel()), [-3.0, 3.0], atol=1e-2)
