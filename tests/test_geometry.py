"""The geometry of EM: metrics by integration, projections by search, angles by linear algebra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import random_mixture
from numpy.typing import NDArray
from scipy import linalg, optimize, special, stats

import gmm

Floats = NDArray[np.float64]
Chart = Callable[[Floats], tuple[Floats, Floats, Floats]]


def rows_of_three(seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return np.vstack([rng.normal(m, s, (40, 2)) for m, s in ((0, 1), (3, 0.7), (-2, 1.4))])


def em_step(mixture: gmm.Mixture, X: Floats, weight: Floats | None = None) -> gmm.Mixture:
    return gmm.fit(
        X,
        mixture.n_components,
        mixture.family,
        start=mixture,
        tol=0,
        max_iter=1,
        sample_weight=weight,
    ).mixture


def complete_kl(one: gmm.Mixture, other: gmm.Mixture) -> float:
    """The divergence of densities of rows with labels, from the formula for two normals."""
    total = 0.0
    for k in range(one.n_components):
        P = np.linalg.inv(other.covariances[k])
        step = one.means[k] - other.means[k]
        part = np.trace(P @ one.covariances[k]) + step @ P @ step - one.n_features
        part -= np.linalg.slogdet(P @ one.covariances[k])[1]
        total += one.weights[k] * (np.log(one.weights[k] / other.weights[k]) + 0.5 * part)
    return float(total)


# -------------------------------------------------- two components on the line, three charts


def from_moments(s: Floats) -> tuple[Floats, Floats, Floats]:
    """Of s = (π₁, π₁μ₁, π₁(v₁ + μ₁²), π₂μ₂, π₂(v₂ + μ₂²))."""
    weights = np.array([s[0], 1 - s[0]])
    means = np.array([s[1], s[3]]) / weights
    return weights, means, np.array([s[2], s[4]]) / weights - means**2


def from_means(c: Floats) -> tuple[Floats, Floats, Floats]:
    return np.array([c[0], 1 - c[0]]), c[1:3], c[3:5]


def from_natural(e: Floats) -> tuple[Floats, Floats, Floats]:
    """Of the coefficients of 1, x, x² for the first label and of x, x² for the second."""
    variances = -0.5 / np.array([e[2], e[4]])
    means = np.array([e[1], e[3]]) * variances
    logs = np.array([e[0], 0.0]) + 0.5 * means**2 / variances + 0.5 * np.log(variances)
    return special.softmax(logs), means, variances


def to_moments(w: Floats, m: Floats, v: Floats) -> Floats:
    second = w * (v + m**2)
    return np.array([w[0], w[0] * m[0], second[0], w[1] * m[1], second[1]])


def to_means(w: Floats, m: Floats, v: Floats) -> Floats:
    return np.array([w[0], *m, *v])


def to_natural(w: Floats, m: Floats, v: Floats) -> Floats:
    c = np.log(w) - 0.5 * np.log(v) - 0.5 * m**2 / v
    return np.array([c[0] - c[1], m[0] / v[0], -0.5 / v[0], m[1] / v[1], -0.5 / v[1]])


CHARTS: dict[str, tuple[Chart, Callable[[Floats, Floats, Floats], Floats]]] = {
    "moments": (from_moments, to_moments),
    "means": (from_means, to_means),
    "natural": (from_natural, to_natural),
}
GRID = np.linspace(-14, 17, 12_001)
START = np.array([0.35, 0.65]), np.array([-0.4, 2.6]), np.array([0.8, 1.9])
LINE = np.concatenate(
    [
        np.random.default_rng(5).normal(0, 1, 40),
        np.random.default_rng(6).normal(3, 1.2, 60),
    ]
)


def joint_logs(w: Floats, m: Floats, v: Floats, x: Floats) -> Floats:
    return np.asarray(np.log(w) + stats.norm.logpdf(x[:, None], m, np.sqrt(v)))


def differences(function: Callable[[Floats], Floats], at: Floats) -> Floats:
    """Central differences, along a first axis."""
    rows = []
    for j in range(len(at)):
        h = 1e-5 * max(1.0, abs(at[j]))
        e = h * np.eye(len(at))[j]
        rows.append((function(at + e) - function(at - e)) / (2 * h))
    return np.array(rows)


def natural_step(chart: str) -> tuple[Floats, Floats, Floats]:
    """A unit step along the inverse of the Fisher information times the gradient, by numbers."""
    back, forth = CHARTS[chart]
    at = forth(*START)
    scores = differences(lambda c: joint_logs(*back(c), GRID), at)  # (p, n, K)
    p = np.exp(joint_logs(*START, GRID)) * (GRID[1] - GRID[0])
    metric = np.einsum("ank,bnk,nk->ab", scores, scores, p)
    slope = differences(
        lambda c: np.array(special.logsumexp(joint_logs(*back(c), LINE), axis=1).mean()), at
    )
    return back(at + np.linalg.solve(metric, slope))


def em_on_line() -> gmm.Mixture:
    w, m, v = START
    start = gmm.Mixture(w, m[:, None], v[:, None, None])
    return em_step(start, LINE[:, None])


@pytest.mark.derives("thm-natural-step", "eq-natural-step")
def test_a_unit_natural_step_in_moments_is_em() -> None:
    after = em_on_line()
    w, m, v = natural_step("moments")
    np.testing.assert_allclose(w, after.weights, atol=1e-6)
    np.testing.assert_allclose(m, after.means[:, 0], atol=1e-5)
    np.testing.assert_allclose(v, after.covariances[:, 0, 0], atol=1e-5)


@pytest.mark.derives("thm-natural-step", "eq-natural-step-moments")
def test_a_unit_natural_step_in_means_and_variances() -> None:
    after = em_on_line()
    w, m, v = natural_step("means")
    nu = after.weights / START[0]
    delta = after.means[:, 0] - START[1]
    np.testing.assert_allclose(w, after.weights, atol=1e-6)
    np.testing.assert_allclose(m, START[1] + nu * delta, atol=1e-5)
    expected = START[2] + nu * (after.covariances[:, 0, 0] + delta**2 - START[2])
    np.testing.assert_allclose(v, expected, atol=1e-5)
    assert np.abs(v - after.covariances[:, 0, 0]).max() > 1e-3  # not EM


@pytest.mark.derives("thm-natural-step")
def test_in_natural_parameters_the_step_agrees_to_first_order() -> None:
    """With rows nearer to what the mixture expects the difference is of second order."""
    gaps = []
    x = GRID[::4]
    p = np.exp(special.logsumexp(joint_logs(*START, x), axis=1)) * (x[1] - x[0])
    for share in (0.1, 0.05, 0.025):
        tilt = p * (1 + share * np.sin(x))
        tilt /= tilt.sum()
        at = to_natural(*START)
        scores = differences(lambda c: joint_logs(*from_natural(c), GRID), at)
        density = np.exp(joint_logs(*START, GRID)) * (GRID[1] - GRID[0])
        metric = np.einsum("ank,bnk,nk->ab", scores, scores, density)

        def height(c: Floats, tilt: Floats = tilt) -> Floats:
            logs = special.logsumexp(joint_logs(*from_natural(c), x), axis=1)
            return np.array(tilt @ logs)

        step = np.linalg.solve(metric, differences(height, at))
        w, m, v = START
        start = gmm.Mixture(w, m[:, None], v[:, None, None])
        after = em_step(start, x[:, None], tilt)
        image = to_natural(after.weights, after.means[:, 0], after.covariances[:, 0, 0])
        gaps.append(np.abs(image - at - step).max())
    assert gaps[1] / gaps[0] == pytest.approx(0.25, abs=0.06)
    assert gaps[2] / gaps[1] == pytest.approx(0.25, abs=0.04)


# -------------------------------------------------- mirror ascent


def log_normaliser(e: Floats) -> float:
    """Of the chart "natural", by integration."""
    constants = np.array([e[0], 0.0])
    linear, square = np.array([e[1], e[3]]), np.array([e[2], e[4]])
    x = GRID[:, None]
    exponents = constants + linear * x + square * x**2
    return float(np.log(np.exp(exponents).sum() * (GRID[1] - GRID[0])))


def mean_log_likelihood(e: Floats) -> float:
    return float(special.logsumexp(joint_logs(*from_natural(e), LINE), axis=1).mean())


def others(seed: int) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    first = rng.uniform(0.2, 0.8)
    weights = np.array([first, 1 - first])
    return weights, rng.normal([0, 2], 1.0), rng.uniform(0.5, 2.0, 2)


@pytest.mark.derives(
    "thm-em-mirror", "eq-bregman", "eq-mirror", "eq-relative-smoothness", "eq-geometry-known"
)
@pytest.mark.parametrize("seed", range(5))
def test_the_m_step_pays_with_a_bregman_divergence(seed: int) -> None:
    at, to = to_natural(*START), to_natural(*others(seed))
    expected = differences(lambda e: np.array(log_normaliser(e)), at)
    bregman = log_normaliser(to) - log_normaliser(at) - expected @ (to - at)
    here, there = joint_logs(*START, GRID), joint_logs(*from_natural(to), GRID)
    kl = np.sum(np.exp(here) * (here - there)) * (GRID[1] - GRID[0])
    assert bregman == pytest.approx(kl, rel=1e-5)
    np.testing.assert_allclose(expected, to_moments(*START), atol=1e-6)  # the gradient of A
    slope = differences(lambda e: np.array(mean_log_likelihood(e)), at)
    r = special.softmax(joint_logs(*START, LINE), axis=1)
    q_gain = np.sum(r * (joint_logs(*from_natural(to), LINE) - joint_logs(*START, LINE)))
    assert q_gain / len(LINE) == pytest.approx(slope @ (to - at) - bregman, rel=1e-5, abs=1e-6)
    gain = mean_log_likelihood(to) - mean_log_likelihood(at)
    assert gain >= slope @ (to - at) - bregman - 1e-6
    # L + A is convex
    middle = 0.5 * (at + to)
    ends = [mean_log_likelihood(e) + log_normaliser(e) for e in (at, middle, to)]
    assert ends[1] <= 0.5 * (ends[0] + ends[2]) + 1e-10


@pytest.mark.derives("thm-em-kl-rate", "eq-em-gain", "eq-em-kl-rate")
@pytest.mark.parametrize("family", ["VVV", "EEE", "VVI", "VII"])
def test_every_step_earns_its_divergence(family: str) -> None:
    X = rows_of_three()
    run = gmm.fit(X, 3, family, start="random", random_state=1, tol=0, max_iter=60, keep="all")
    L = run.trace.log_likelihood / len(X)
    earned = 0.0
    least = np.inf
    for t in range(60):
        a, b = run.trace.mixtures[t], run.trace.mixtures[t + 1]
        step = complete_kl(b, a)
        r, q = a.responsibilities(X), b.responsibilities(X)
        labels = np.sum(special.rel_entr(r, q)) / len(X)
        assert L[t + 1] - L[t] == pytest.approx(step + labels, abs=1e-11)
        earned += step
        least = min(least, step)
        assert earned <= L[t + 1] - L[0] + 1e-11
        assert least <= (L[t + 1] - L[0]) / (t + 1) + 1e-12


@pytest.mark.derives("thm-em-local-rate", "eq-em-local-rate")
@pytest.mark.parametrize("start", [0.7, 1.1, 3.0])
def test_where_the_likelihood_is_concave_divergences_shrink_by_the_missing_share(
    start: float,
) -> None:
    """Two balanced components on the line: η = θ, A = θ²/2, G = 1, L'' = M' - 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=400) + rng.choice([-1, 1], 400) * 1.5

    def slope_of_map(theta: float) -> float:
        return float(np.mean(x**2 / np.cosh(theta * x) ** 2))

    def height(theta: float) -> float:
        return float(np.mean(np.log(np.cosh(theta * x))) - theta**2 / 2)

    path = [start]
    for _ in range(40):
        path.append(float(np.mean(x * np.tanh(path[-1] * x))))
    end = optimize.brentq(lambda t: np.mean(x * np.tanh(t * x)) - t, 0.3, 5, xtol=1e-14)
    low = min(start, end)
    rest = slope_of_map(low)  # the map is concave: its slope is greatest at the lower end
    assert rest < 1
    first = 0.5 * (start - end) ** 2
    for t in range(1, 20):
        before, after = 0.5 * (path[t - 1] - end) ** 2, 0.5 * (path[t] - end) ** 2
        assert after <= rest * before + 1e-15
        assert height(end) - height(path[t]) <= rest**t * first + 1e-14
        assert height(end) - height(path[t]) <= first / t + 1e-14


@pytest.mark.derives("thm-em-local-rate", "eq-em-local-rate")
def test_in_the_plane_the_missing_share_of_a_ball_bounds_every_step() -> None:
    """Two balanced components in the plane, C a ball: the least curvature is found on a grid."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 2)) + rng.choice([-1, 1], (600, 1)) * np.array([1.6, 0.5])
    end = np.array([1.6, 0.5])
    for _ in range(500):
        end = np.tanh(x @ end) @ x / len(x)
    radius = 0.7
    axis = np.linspace(-1, 1, 25)
    inside = np.array([(a, b) for a in axis for b in axis if a * a + b * b <= 1])
    shares = []
    for offset in np.vstack([inside, [(np.cos(t), np.sin(t)) for t in np.arange(0, 6.3, 0.1)]]):
        missing = (x.T / np.cosh(x @ (end + radius * offset)) ** 2) @ x / len(x)
        shares.append(np.linalg.eigvalsh(missing).max())
    rest = 1.01 * max(shares)  # 1 - α; the grid may miss a little
    assert rest < 0.95

    def height(theta: Floats) -> float:
        return float(np.mean(np.log(np.cosh(x @ theta))) - theta @ theta / 2)

    for angle in np.arange(0.1, 6.3, 0.7):
        theta = end + 0.99 * radius * np.array([np.cos(angle), np.sin(angle)])
        first = 0.5 * (theta - end) @ (theta - end)
        for t in range(1, 12):
            before = 0.5 * (theta - end) @ (theta - end)
            theta = np.tanh(x @ theta) @ x / len(x)
            after = 0.5 * (theta - end) @ (theta - end)
            assert after <= rest * before + 1e-15
            assert height(end) - height(theta) <= min(rest**t, 1 / t) * first + 1e-14


@pytest.mark.derives("thm-weights-global", "eq-weights-global")
@pytest.mark.parametrize("seed", range(4))
def test_weights_alone_lack_no_more_than_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    K, n = 6, 80
    x = rng.normal(0, 2, n)
    row_weights = rng.uniform(0.5, 2, n)
    row_weights /= row_weights.sum()
    dense = stats.norm.pdf(x[:, None], np.linspace(-4, 4, K), 1.0)

    def lack(w: Floats) -> float:
        return -float(row_weights @ np.log(dense @ w))

    def of_logits(a: Floats) -> float:
        return lack(special.softmax(a))

    found = optimize.minimize(of_logits, np.zeros(K), tol=1e-10)
    best = special.softmax(found.x)
    w = rng.dirichlet(np.ones(K)) if seed else np.full(K, 1 / K)
    price = float(special.rel_entr(best, w).sum())
    if not seed:
        assert price <= np.log(K)
    for t in range(300):
        assert lack(w) - lack(best) <= price / (t + 1) + 1e-9
        w = w * ((dense / (dense @ w)[:, None]).T @ row_weights)


# -------------------------------------------------- projections


def natural(normal: gmm.Normal) -> Floats:
    P = np.linalg.inv(normal.covariance)
    return np.concatenate([P @ normal.mean, (-0.5 * P).ravel()])


def expected(normal: gmm.Normal) -> Floats:
    second = normal.covariance + np.outer(normal.mean, normal.mean)
    return np.concatenate([normal.mean, second.ravel()])


def random_normal(seed: int, d: int = 2) -> gmm.Normal:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(d, d + 2))
    return gmm.Normal(rng.normal(size=d), a @ a.T / d)


@pytest.mark.derives("thm-pythagoras", "eq-pythagoras")
@pytest.mark.parametrize("seed", range(5))
def test_three_divergences_and_an_angle(seed: int) -> None:
    P, Q, R = (random_normal(3 * seed + i) for i in range(3))
    inner = (expected(P) - expected(Q)) @ (natural(R) - natural(Q))
    assert P.kl(R) == pytest.approx(P.kl(Q) + Q.kl(R) - inner, rel=1e-10)
    # the same by numbers: the velocity of the m-geodesic in η, and the Hessian of A at Q
    keep = [0, 1, 2, 3, 5]  # free coordinates: an off-diagonal entry once, counted twice

    def log_normaliser(free: Floats) -> Floats:
        linear, square = free[:2], np.array([[free[2], free[3]], [free[3], free[4]]])
        value = -0.25 * linear @ np.linalg.solve(square, linear)
        return np.array(value - 0.5 * np.linalg.slogdet(-2 * square)[1])

    def along(tau: float) -> Floats:
        s = (1 - tau) * expected(Q) + tau * expected(P)
        covariance = s[2:].reshape(2, 2) - np.outer(s[:2], s[:2])
        return natural(gmm.Normal(s[:2], covariance))[keep]

    velocity = (along(1e-5) - along(-1e-5)) / 2e-5
    metric = differences(lambda e: differences(log_normaliser, e), natural(Q)[keep])
    ahead = (natural(R) - natural(Q))[keep]
    scale = np.sqrt((velocity @ metric @ velocity) * (ahead @ metric @ ahead))
    assert abs(velocity @ metric @ ahead - inner) < 1e-3 * scale


@pytest.mark.derives("cor-projection", "eq-projection")
def test_projections_found_by_search_have_right_angles() -> None:
    P = random_normal(1)

    def diagonal(c: Floats) -> gmm.Normal:
        return gmm.Normal(c[:2], np.diag(np.exp(c[2:])))

    def to_diagonal(c: Floats) -> float:
        return P.kl(diagonal(c))

    found = optimize.minimize(to_diagonal, np.zeros(4), tol=1e-9)
    Q = diagonal(found.x)
    np.testing.assert_allclose(np.diag(Q.covariance), np.diag(P.covariance), rtol=1e-4)
    for seed in range(5):
        R = diagonal(np.random.default_rng(seed).normal(size=4))
        assert P.kl(R) == pytest.approx(P.kl(Q) + Q.kl(R), rel=1e-6)
    # m-flat: all normals with a given mean and a given variance of the first coordinate
    R = random_normal(2)

    def member(c: Floats) -> gmm.Normal:
        covariance = np.array([[1.3, c[1]], [c[1], c[1] ** 2 / 1.3 + np.exp(c[2])]])
        return gmm.Normal([0.4, c[0]], covariance)

    def from_member(c: Floats) -> float:
        return member(c).kl(R)

    found = optimize.minimize(from_member, np.zeros(3), tol=1e-9)
    Q = member(found.x)
    for seed in range(5):
        other = member(np.random.default_rng(seed).normal(size=3))
        assert other.kl(R) == pytest.approx(other.kl(Q) + Q.kl(R), rel=1e-6)


@pytest.mark.derives("cor-projection", "eq-projection")
def test_the_tied_m_step_is_the_free_one_projected() -> None:
    X = gmm.datasets.iris().X
    at = gmm.fit(X, 3, "EEE", random_state=0, max_iter=2, tol=0).mixture
    free = em_step(gmm.Mixture(at.weights, at.means, at.covariances), X)
    tied = em_step(at, X)
    assert complete_kl(free, at) == pytest.approx(
        complete_kl(free, tied) + complete_kl(tied, at), rel=1e-9
    )


@pytest.mark.derives("thm-em-projections", "eq-e-projection", "eq-m-projection")
@pytest.mark.parametrize("seed", range(3))
def test_both_half_steps_take_off_a_leg(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rows_of_three(seed)
    w = rng.uniform(0.5, 2, len(X))
    W = w.sum()
    mixture = random_mixture("VVV", 3, 2, seed=seed)
    r = rng.dirichlet(np.ones(3), len(X))

    def divergence(r: Floats, mixture: gmm.Mixture) -> float:
        q = w[:, None] * r / W
        joint = np.column_stack(
            [
                mixture.weights[k]
                * stats.multivariate_normal(mixture.means[k], mixture.covariances[k]).pdf(X)
                for k in range(3)
            ]
        )
        return float(np.sum(q * np.log(q / joint)))

    bound = gmm.bound.lower_bound(X, mixture, r, sample_weight=w)
    assert divergence(r, mixture) == pytest.approx(
        -bound / W + np.sum(w / W * np.log(w / W)), rel=1e-10
    )
    posterior = mixture.responsibilities(X)
    leg = float(np.sum(w[:, None] / W * special.rel_entr(r, posterior)))
    assert divergence(r, mixture) == pytest.approx(leg + divergence(posterior, mixture), rel=1e-10)
    counts = w @ r
    means = (w[:, None] * r).T @ X / counts[:, None]
    covariances = np.array([np.cov(X.T, aweights=w * r[:, k], ddof=0) for k in range(3)])
    hat = gmm.Mixture(counts / W, means, covariances)
    assert divergence(r, mixture) == pytest.approx(
        divergence(r, hat) + complete_kl(hat, mixture), rel=1e-10
    )


@pytest.mark.derives("thm-em-angle", "eq-em-angle")
@pytest.mark.parametrize("distance", [2.5, 4.0])
def test_the_rate_is_the_squared_cosine_of_an_angle_between_subspaces(distance: float) -> None:
    """Principal angles of the two tangent spaces on a grid, against differences of the EM map."""
    w, m, v = np.array([0.4, 0.6]), np.array([0.0, distance]), np.array([1.0, 1.5])
    x = np.linspace(-8, 9 + distance, 700)
    joint = np.exp(joint_logs(w, m, v, x))
    joint /= joint.sum()
    o, one = np.zeros_like(x), np.ones_like(x)
    t = np.stack(
        [np.stack([one, x, x**2, o, o], axis=1), np.stack([o, o, o, x, x**2], axis=1)], axis=1
    )
    mean = np.einsum("nk,nkp->p", joint, t)
    model = ((t - mean) * np.sqrt(joint)[:, :, None]).reshape(-1, 5)
    # changes that leave the density of x alone: +1/p for one label, -1/p for the other
    data = np.zeros((len(x), 2, len(x)))
    for i in range(len(x)):
        data[i, 0, i] = 1 / np.sqrt(joint[i, 0])
        data[i, 1, i] = -1 / np.sqrt(joint[i, 1])
        data[:, :, i] /= np.linalg.norm(data[:, :, i])
    angles = linalg.subspace_angles(model, data.reshape(-1, len(x)))
    cosine = np.cos(angles.min()) ** 2

    weight = joint.sum(axis=1)

    def image(e: Floats) -> Floats:
        a, b, c = from_natural(e)
        after = em_step(gmm.Mixture(a, b[:, None], c[:, None, None]), x[:, None], weight)
        return to_natural(after.weights, after.means[:, 0], after.covariances[:, 0, 0])

    jacobian = differences(image, to_natural(w, m, v)).T
    rate = np.linalg.eigvals(jacobian).real.max()
    assert rate == pytest.approx(cosine, rel=1e-4)
