"""Transport: brute force, 50 digits, searches over couplings, and exact distances on the line."""

from __future__ import annotations

import sys
from itertools import permutations, product

import mpmath
import numpy as np
import pytest
from conftest import random_mixture
from numpy.typing import NDArray
from scipy import integrate, linalg, optimize, stats

import gmm
from gmm import Mixture, Normal
from gmm.transport import wasserstein

Floats = NDArray[np.float64]


def random_covariance(rng: np.random.Generator, d: int) -> Floats:
    a = rng.normal(size=(d, d + 1))
    result: Floats = a @ a.T
    return result


def root(S: Floats) -> Floats:
    values, vectors = np.linalg.eigh(S)
    result: Floats = (vectors * np.sqrt(values)) @ vectors.T
    return result


def the_map(A: Floats, B: Floats) -> Floats:
    half = root(A)
    inverse = np.linalg.inv(half)
    result: Floats = inverse @ root(half @ B @ half) @ inverse
    return result


# ---------------------------------------------------------------- two normals


@pytest.mark.derives("thm-bures", "eq-bures")
@pytest.mark.parametrize("d", [2, 3, 5])
def test_two_normals_against_fifty_digits(d: int) -> None:
    rng = np.random.default_rng(d)
    A, B = random_covariance(rng, d), random_covariance(rng, d)
    a, b = rng.normal(size=(2, d))
    with mpmath.workdps(50):
        left, right = mpmath.matrix(A.tolist()), mpmath.matrix(B.tolist())
        # the eigenvalues of AB are those of the product with roots
        values = mpmath.eig(left * right, left=False, right=False)
        roots = sum(mpmath.sqrt(mpmath.re(v)) for v in values)
        square = sum(left[i, i] + right[i, i] for i in range(d)) - 2 * roots
        square += sum(
            (mpmath.mpf(float(p)) - mpmath.mpf(float(q))) ** 2 for p, q in zip(a, b, strict=True)
        )
        expected = float(mpmath.sqrt(square))
    found = wasserstein(Normal(a, A), Normal(b, B))
    assert found.distance == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(found.plan, [[1.0]])
    assert found.costs[0, 0] == pytest.approx(expected**2, rel=1e-12)


@pytest.mark.derives("thm-bures", "eq-transport-map", "eq-transport-dual")
@pytest.mark.parametrize("seed", range(6))
def test_no_joint_covariance_is_cheaper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = 3
    A, B = random_covariance(rng, d), random_covariance(rng, d)
    best = wasserstein(Normal(np.zeros(d), A), Normal(np.zeros(d), B)).distance ** 2
    T = the_map(A, B)
    np.testing.assert_allclose(T, T.T, atol=1e-12)
    assert (np.linalg.eigvalsh(T) > 0).all()
    np.testing.assert_allclose(T @ A @ T, B, atol=1e-10)
    assert np.trace(A) + np.trace(B) - 2 * np.trace(A @ T) == pytest.approx(best, rel=1e-9)
    # all cross-covariances are roots with a contraction between
    for _ in range(200):
        u, _, v = np.linalg.svd(rng.normal(size=(d, d)))
        contraction = u @ np.diag(rng.choice([1.0, rng.uniform()], d)) @ v
        cross = root(A) @ contraction @ root(B)
        joint = np.block([[A, cross], [cross.T, B]])
        assert np.linalg.eigvalsh(joint).min() > -1e-9
        assert np.trace(A) + np.trace(B) - 2 * np.trace(cross) >= best - 1e-9
        # and every price list is a bound from below
        S = random_covariance(rng, d)
        dual = np.trace(A) + np.trace(B) - np.trace(S @ A) - np.trace(np.linalg.solve(S, B))
        assert dual <= best + 1e-9


@pytest.mark.derives("thm-bures")
@pytest.mark.parametrize("d", [2, 4])
def test_of_all_symmetric_solutions_one_is_positive_definite(d: int) -> None:
    """The others come from the other signs of the eigenvalues of the root between."""
    rng = np.random.default_rng(d)
    A, B = random_covariance(rng, d), random_covariance(rng, d)
    half = root(A)
    inverse = np.linalg.inv(half)
    values, vectors = np.linalg.eigh(half @ B @ half)
    positive = 0
    for signs in product((1, -1), repeat=d):
        T = inverse @ ((vectors * (signs * np.sqrt(values))) @ vectors.T) @ inverse
        np.testing.assert_allclose(T @ A @ T, B, atol=1e-9 * np.abs(B).max())
        positive += bool((np.linalg.eigvalsh(T) > 0).all())
        # and the positive one gives the most for the price
        assert np.trace(T @ A) <= np.trace(the_map(A, B) @ A) + 1e-9
    assert positive == 1


@pytest.mark.derives("thm-bures")
def test_vectors_that_are_not_normal_obey_the_same_bound() -> None:
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(60, 2)) @ np.array([[1.0, 0.4], [0.0, 1.0]])
    y = rng.uniform(-2, 2, size=(60, 2))
    costs = ((x[:, None] - y) ** 2).sum(axis=2)
    least = costs[optimize.linear_sum_assignment(costs)].mean()
    bound = wasserstein(Normal.fit(x), Normal.fit(y)).distance ** 2
    assert least > bound
    # equality for an affine image by the map
    T = the_map(Normal.fit(x).covariance, np.array([[2.0, 0.5], [0.5, 1.0]]))
    image = x @ T + 1.0
    moved = ((x - image) ** 2).sum(axis=1).mean()
    assert moved == pytest.approx(
        wasserstein(Normal.fit(x), Normal.fit(image)).distance ** 2, rel=1e-10
    )


@pytest.mark.derives("prop-procrustes", "eq-procrustes")
@pytest.mark.parametrize("seed", range(4))
def test_roots_are_turned_as_near_as_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, B = random_covariance(rng, 2), random_covariance(rng, 2)
    L, R = np.linalg.cholesky(A), root(B)
    turned, _ = linalg.orthogonal_procrustes(L, R)
    found = wasserstein(Normal([0, 0], A), Normal([0, 0], B)).distance
    assert np.linalg.norm(L @ turned - R) == pytest.approx(found, rel=1e-9)
    angles = np.linspace(0, 2 * np.pi, 721)
    for flip in (1, -1):
        for angle in angles:
            c, s = np.cos(angle), np.sin(angle)
            U = np.array([[c, -s * flip], [s, c * flip]])
            assert np.linalg.norm(L @ U - R) >= found - 1e-12


def test_near_covariances_keep_their_digits() -> None:
    A = np.array([[2.0, 0.6], [0.6, 1.0]])
    for epsilon in (1e-3, 1e-7, 1e-11):
        found = wasserstein(Normal([0, 0], A), Normal([0, 0], (1 + epsilon) ** 2 * A)).distance
        # the rounding of the covariance itself
        assert found == pytest.approx(epsilon * np.sqrt(3.0), rel=1e-12 + 1e-15 / epsilon)


# ---------------------------------------------------------------- the line


def quantile_distance(one: Mixture, other: Mixture, n: int = 40_000) -> float:
    """The distance by quantiles, found by bisection in the distribution functions."""
    u = (np.arange(n) + 0.5) / n
    both = []
    for mixture in (one, other):
        m, s = mixture.means[:, 0], np.sqrt(mixture.covariances[:, 0, 0])
        low, high = np.full(n, (m - 10 * s).min()), np.full(n, (m + 10 * s).max())
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = stats.norm.cdf((middle[:, None] - m) / s) @ mixture.weights < u
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        both.append(low)
    return float(np.sqrt(np.mean((both[0] - both[1]) ** 2)))


def on_line(rng: np.random.Generator, k: int, size: float = 1.0) -> Mixture:
    variances = size * rng.uniform(0.1, 1.5, k)
    return Mixture(rng.dirichlet(np.full(k, 2.0)), rng.uniform(-4, 4, (k, 1)), variances, "V")


@pytest.mark.derives("thm-transport-line", "eq-transport-line")
def test_on_the_line_the_best_coupling_keeps_the_order() -> None:
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.normal(size=6)), np.sort(rng.exponential(size=6))
    least = min(np.mean((x - y[list(order)]) ** 2) for order in permutations(range(6)))
    assert np.mean((x - y) ** 2) == pytest.approx(least, rel=1e-12)
    # quantiles of two normals, by quadrature, against the formula
    square, _ = integrate.quad(
        lambda u: (stats.norm.ppf(u, 1, 2) - stats.norm.ppf(u, -0.5, 0.7)) ** 2, 0, 1, limit=200
    )
    found = wasserstein(Normal([1.0], [[4.0]]), Normal([-0.5], [[0.49]])).distance
    assert square == pytest.approx(found**2, rel=1e-6)
    assert found**2 == pytest.approx(1.5**2 + 1.3**2, rel=1e-12)


@pytest.mark.derives("thm-transport-line", "eq-transport-line")
@pytest.mark.parametrize("seed", range(4))
def test_unequal_atoms_on_the_line_by_a_linear_programme(seed: int) -> None:
    """All couplings of discrete distributions are tried by the programme, ties of atoms too."""
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.normal(size=7)), np.sort(rng.exponential(size=5))
    x[3] = x[2]
    p, r = rng.dirichlet(np.ones(7)), rng.dirichlet(np.ones(5))
    found = optimize.linprog(
        ((x[:, None] - y) ** 2).ravel(),
        A_eq=np.vstack([np.repeat(np.eye(7), 5, axis=1), np.tile(np.eye(5), 7)])[:-1],
        b_eq=np.concatenate([p, r])[:-1],
    )
    # the quantiles are constant between the steps of both distribution functions
    F, G = np.cumsum(p), np.cumsum(r)
    ends = np.sort(np.concatenate([[0.0], F[:-1], G[:-1], [1.0]]))
    middle = 0.5 * (ends[1:] + ends[:-1])
    gaps = x[np.searchsorted(F, middle)] - y[np.searchsorted(G, middle)]
    assert found.fun == pytest.approx(np.diff(ends) @ gaps**2, rel=1e-9)


# ---------------------------------------------------------------- on the way


@pytest.mark.derives("prop-displacement", "eq-displacement")
def test_the_path_between_normals_is_straight() -> None:
    rng = np.random.default_rng(1)
    A, B = random_covariance(rng, 3), random_covariance(rng, 3)
    a, b = rng.normal(size=(2, 3))
    T = the_map(A, B)

    def at(t: float) -> Normal:
        M = (1 - t) * np.eye(3) + t * T
        return Normal((1 - t) * a + t * b, M @ A @ M)

    whole = wasserstein(Normal(a, A), Normal(b, B)).distance
    for s, t in ((0.0, 0.3), (0.2, 0.9), (0.5, 1.0), (0.0, 1.0)):
        assert wasserstein(at(s), at(t)).distance == pytest.approx((t - s) * whole, rel=1e-9)
    # rows that walk straight to their images have this distribution half-way
    x = np.random.default_rng(2).multivariate_normal(a, A, 100_000)
    moved = 0.5 * x + 0.5 * (b + (x - a) @ T)
    np.testing.assert_allclose(np.cov(moved.T), at(0.5).covariance, rtol=0.05, atol=0.05)


@pytest.mark.derives("prop-leaves-mixtures")
@pytest.mark.parametrize(("a", "sigma", "t"), [(1.0, 0.5, 0.5), (2.0, 1.5, 0.8)])
def test_the_tail_on_the_way_has_the_weight_that_no_mixture_can_have(
    a: float, sigma: float, t: float
) -> None:
    """Tails with fifty digits; the limit is approached like one over the square."""
    with mpmath.workdps(60):

        def tail(x: mpmath.mpf) -> mpmath.mpf:
            return mpmath.erfc(x / mpmath.sqrt(2)) / 2

        c = 1 - t + t * sigma
        limit = mpmath.mpf(2) ** (-t * sigma / c)
        gaps = []
        for x in (10, 20, 40):
            log_tail = mpmath.log(tail(mpmath.mpf(x)))

            def excess(y: mpmath.mpf, log_tail: mpmath.mpf = log_tail) -> mpmath.mpf:
                both = tail((y - a) / sigma) + tail((y + a) / sigma)
                return mpmath.log(both / 2) - log_tail

            y = mpmath.findroot(excess, a + sigma * (x - mpmath.log(2) / x))
            place = (1 - t) * x + t * y
            gaps.append(float(tail(mpmath.mpf(x)) / tail((place - t * a) / c) - limit))
    assert abs(gaps[2]) < 1e-3
    assert abs(gaps[2]) < abs(gaps[1]) < abs(gaps[0])
    assert 2 * float(limit) > 1


# ---------------------------------------------------------------- mixtures


@pytest.mark.derives("thm-mixture-wasserstein", "eq-mixture-wasserstein")
@pytest.mark.parametrize("seed", range(5))
def test_the_plan_is_the_best_of_all_plans(seed: int) -> None:
    """With two components each, plans are a segment: all of it is tried."""
    rng = np.random.default_rng(seed)
    one, other = random_mixture("VVV", 2, 3, seed=seed), random_mixture("VEV", 2, 3, seed=seed + 9)
    found = wasserstein(one, other)
    costs = np.array(
        [
            [wasserstein(one.component(k), other.component(j)).distance ** 2 for j in range(2)]
            for k in range(2)
        ]
    )
    np.testing.assert_allclose(found.costs, costs, rtol=1e-10)
    p, r = one.weights[0], other.weights[0]
    least = np.inf
    for w in np.linspace(max(0, p + r - 1), min(p, r), 1001):
        plan = np.array([[w, p - w], [r - w, 1 - p - r + w]])
        least = min(least, float((plan * costs).sum()))
    assert found.distance**2 == pytest.approx(least, rel=1e-9)
    np.testing.assert_allclose(found.plan.sum(axis=1), one.weights, atol=1e-12)
    np.testing.assert_allclose(found.plan.sum(axis=0), other.weights, atol=1e-12)
    # any coupling that is a mixture of normals costs as much at least: some at random
    for _ in range(20):
        w = rng.uniform(max(0, p + r - 1), min(p, r))
        plan = np.array([[w, p - w], [r - w, 1 - p - r + w]])
        cost = 0.0
        for k in range(2):
            for j in range(2):
                A, B = one.covariances[k], other.covariances[j]
                turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
                cross = root(A) @ turn @ root(B)
                step = one.means[k] - other.means[j]
                cost += plan[k, j] * (step @ step + np.trace(A + B - 2 * cross))
        assert cost >= found.distance**2 - 1e-9


@pytest.mark.derives("thm-mixture-wasserstein")
@pytest.mark.parametrize(("k", "j"), [(3, 5), (7, 7), (12, 4)])
def test_few_entries_of_the_plan_are_positive(k: int, j: int) -> None:
    one, other = random_mixture("VVI", k, 2, seed=k), random_mixture("VII", j, 2, seed=j)
    found = wasserstein(one, other)
    assert (found.plan > 0).sum() <= k + j - 1
    np.testing.assert_allclose(found.plan.sum(axis=1), one.weights, atol=1e-12)
    np.testing.assert_allclose(found.plan.sum(axis=0), other.weights, atol=1e-12)
    # prices prove that it is best: those of the linear programme's dual
    A = np.vstack([np.repeat(np.eye(k), j, axis=1), np.tile(np.eye(j), k)])
    dual = optimize.linprog(
        -np.concatenate([one.weights, other.weights]),
        A_ub=A.T,
        b_ub=found.costs.ravel(),
        bounds=(None, None),
    )
    assert dual.fun is not None
    assert -dual.fun == pytest.approx(found.distance**2, rel=1e-9)


def test_equal_weights_make_an_assignment() -> None:
    rng = np.random.default_rng(0)
    one, other = (
        Mixture(np.full(5, 0.2), rng.normal(size=(5, 2)), rng.uniform(0.1, 1, 5), "VII")
        for _ in range(2)
    )
    found = wasserstein(one, other)
    rows, columns = optimize.linear_sum_assignment(found.costs)
    np.testing.assert_allclose(found.plan[rows, columns], 0.2, rtol=1e-9)


def test_order_and_copies_of_components_do_not_matter() -> None:
    one, other = random_mixture("VVV", 3, 2, seed=0), random_mixture("VVV", 4, 2, seed=1)
    found = wasserstein(one, other).distance
    assert wasserstein(one.reordered([2, 0, 1]), other).distance == pytest.approx(found, rel=1e-10)
    split = Mixture(
        np.concatenate([[0.3, 0.7] * one.weights[:1], one.weights[1:]]),
        one.means[[0, 0, 1, 2]],
        one.covariances[[0, 0, 1, 2]],
    )
    assert wasserstein(split, other).distance == pytest.approx(found, rel=1e-10)
    assert wasserstein(split, one).distance < 1e-12


@pytest.mark.derives("prop-mixture-metric")
@pytest.mark.parametrize("seed", range(8))
def test_it_is_a_metric(seed: int) -> None:
    a, b, c = (random_mixture("VVV", k, 2, seed=10 * seed + k) for k in (2, 3, 4))
    ab, bc, ac = (wasserstein(*pair).distance for pair in ((a, b), (b, c), (a, c)))
    assert wasserstein(b, a).distance == pytest.approx(ab, rel=1e-9)
    assert wasserstein(a, a).distance < 1e-12
    assert ac <= ab + bc + 1e-9
    assert ab <= ac + bc + 1e-9
    assert min(ab, bc, ac) > 0.01


@pytest.mark.derives("prop-mixture-metric")
def test_the_path_between_mixtures_is_straight() -> None:
    one, other = random_mixture("VVV", 3, 2, seed=3), random_mixture("VVV", 2, 2, seed=4)
    whole = wasserstein(one, other)

    def at(t: float) -> Mixture:
        parts = np.argwhere(whole.plan > 0)
        weights, means, covariances = [], [], []
        for k, j in parts:
            M = (1 - t) * np.eye(2) + t * the_map(one.covariances[k], other.covariances[j])
            weights.append(whole.plan[k, j])
            means.append((1 - t) * one.means[k] + t * other.means[j])
            covariances.append(M @ one.covariances[k] @ M)
        return Mixture(weights, means, covariances)

    for s, t in ((0.0, 0.5), (0.3, 0.6), (0.6, 1.0)):
        assert wasserstein(at(s), at(t)).distance == pytest.approx(
            (t - s) * whole.distance, rel=1e-8
        )
    assert wasserstein(at(1.0), other).distance < 1e-7


@pytest.mark.derives("prop-mixture-bounds", "eq-mixture-bounds")
@pytest.mark.parametrize("seed", range(12))
def test_between_the_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (0.05, 1.0, 6.0)[seed % 3]
    one, other = on_line(rng, 2 + seed % 3, size), on_line(rng, 3, size)
    exact = quantile_distance(one, other)
    moments = wasserstein(*(Normal(m.mean, m.covariance) for m in (one, other))).distance
    mixed = wasserstein(one, other).distance
    widths = [float(np.sqrt(m.weights @ m.covariances[:, 0, 0])) for m in (one, other)]
    assert moments <= exact + 1e-3
    assert exact <= mixed + 1e-3
    assert mixed**2 <= (exact + sum(widths)) ** 2 + widths[0] ** 2 + widths[1] ** 2 + 1e-3


def test_units_and_shifts() -> None:
    one, other = random_mixture("VVV", 3, 2, seed=0), random_mixture("EEE", 2, 2, seed=1)
    found = wasserstein(one, other).distance
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    moved = [gmm.algebra.affine(m, 3 * turn, [1.0, -2.0]) for m in (one, other)]
    assert wasserstein(*moved).distance == pytest.approx(3 * found, rel=1e-9)


def test_a_normal_counts_as_a_mixture_of_one() -> None:
    mixture = random_mixture("VVV", 3, 2, seed=5)
    normal = Normal([0.3, -0.2], [[1.0, 0.2], [0.2, 0.5]])
    found = wasserstein(mixture, normal)
    expected = sum(
        w * wasserstein(mixture.component(k), normal).distance ** 2
        for k, w in enumerate(mixture.weights)
    )
    assert found.distance**2 == pytest.approx(expected, rel=1e-10)
    assert found.plan.shape == (3, 1)


def test_other_things_are_refused() -> None:
    mixture = random_mixture("VVV", 2, 2, seed=0)
    with pytest.raises(TypeError, match="other: expected a Mixture or a Normal, got 3"):
        wasserstein(mixture, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="other: expected a distribution on 2 features, got"):
        wasserstein(mixture, Normal([0.0], [[1.0]]))


def test_without_scipy_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = random_mixture("VVV", 2, 2, seed=0)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"pip install 'gmm-first-principles\[transport\]'"):
        wasserstein(mixture, mixture)
    normal = Normal([0.0, 0.0], np.eye(2))
    assert wasserstein(mixture, normal).distance > 0
