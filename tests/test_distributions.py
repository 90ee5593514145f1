"""The formulas of the appendix on distributions, against SciPy and numerical integration."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, special, stats

from gmm.belief import Dirichlet

Floats = NDArray[np.float64]
SHAPES = [(0.6, 0.5), (1.0, 3.0), (2.5, 4.0), (9.0, 0.2)]


def mean_of(density: Callable[[float], float], f: Callable[[float], float]) -> float:
    with mpmath.workdps(30):
        points = [0, mpmath.mpf(1) / 100, 1, 10, 100, mpmath.inf]
        return float(mpmath.quad(lambda t: density(t) * f(t), points))


def wishart_constant(nu: float, d: int) -> float:
    """g(ν) of the book for full matrices; scipy's log-gamma of several variables has the rest."""
    return float(0.5 * nu * d * np.log(2) + special.multigammaln(nu / 2, d))


def positive_definite(d: int, seed: int) -> Floats:
    a = np.random.default_rng(seed).standard_normal((d, d))
    return a @ a.T + 0.5 * np.eye(d)


def log_det(a: Floats) -> float:
    return float(np.linalg.slogdet(a)[1])


@pytest.mark.derives("prop-chi-squared")
@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_chi_squared_is_gamma(d: int) -> None:
    grid = np.linspace(0.1, 20, 30)
    gamma = stats.gamma(d / 2, scale=2.0)
    np.testing.assert_allclose(stats.chi2(d).pdf(grid), gamma.pdf(grid), rtol=1e-12)
    radius = integrate.quad(lambda r: r ** (d - 1) * np.exp(-(r**2) / 2), 0, np.sqrt(3.0))[0]
    total = integrate.quad(lambda r: r ** (d - 1) * np.exp(-(r**2) / 2), 0, np.inf)[0]
    assert gamma.cdf(3.0) == pytest.approx(radius / total, rel=1e-9)
    assert (gamma.mean(), gamma.var()) == pytest.approx((d, 2 * d))
    if d > 2:
        inverse = gamma.expect(lambda t: 1 / t)
        assert inverse == pytest.approx(1 / (d - 2), rel=1e-6)


@pytest.mark.derives("prop-gamma-moments", "eq-gamma-moments", "eq-gamma-entropy")
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_moments_and_entropy_of_the_gamma_distribution(a: float, b: float) -> None:
    peer = stats.gamma(a, scale=1 / b)

    def density(t: float) -> float:
        return b**a / mpmath.gamma(a) * t ** (a - 1) * mpmath.exp(-b * t)  # type: ignore[no-any-return]

    assert float(density(0.7)) == pytest.approx(peer.pdf(0.7), rel=1e-12)
    for s in (-0.4, 0.5, 1.0, 2.0):
        expected = special.gamma(a + s) / (special.gamma(a) * b**s)
        assert mean_of(density, lambda t, s=s: t**s) == pytest.approx(expected, rel=1e-5)  # type: ignore[misc]
    assert (peer.mean(), peer.var()) == pytest.approx((a / b, a / b**2))
    assert mean_of(density, mpmath.log) == pytest.approx(special.digamma(a) - np.log(b), rel=1e-5)
    entropy = a - np.log(b) + special.gammaln(a) + (1 - a) * special.digamma(a)
    assert entropy == pytest.approx(peer.entropy(), rel=1e-9)
    if a > 1:
        assert mean_of(density, lambda t: 1 / t) == pytest.approx(b / (a - 1), rel=1e-5)


@pytest.mark.derives("prop-gamma-moments", "eq-gamma-kl")
@pytest.mark.parametrize(("one", "two"), list(itertools.pairwise(SHAPES)))
def test_the_divergence_of_two_gamma_distributions(
    one: tuple[float, float], two: tuple[float, float]
) -> None:
    (a, b), (a0, b0) = one, two
    p, q = stats.gamma(a, scale=1 / b), stats.gamma(a0, scale=1 / b0)
    formula = (
        (a - a0) * special.digamma(a)
        - special.gammaln(a)
        + special.gammaln(a0)
        + a0 * np.log(b / b0)
        + a * (b0 - b) / b
    )
    # in u = log t both ends are smooth
    integral = integrate.quad(
        lambda u: p.pdf(np.exp(u)) * (p.logpdf(np.exp(u)) - q.logpdf(np.exp(u))) * np.exp(u),
        -60,
        8,
        limit=400,
    )[0]
    assert formula == pytest.approx(integral, rel=1e-7)


@pytest.mark.derives("prop-gamma-moments")
def test_shapes_add() -> None:
    a, c, b, x = 1.3, 2.2, 0.7, 3.0
    p, q = stats.gamma(a, scale=1 / b), stats.gamma(c, scale=1 / b)
    convolution = integrate.quad(lambda s: p.pdf(s) * q.pdf(x - s), 0, x)[0]
    assert stats.gamma(a + c, scale=1 / b).pdf(x) == pytest.approx(convolution, rel=1e-8)


@pytest.mark.derives("eq-wishart-density")
@pytest.mark.parametrize(("d", "nu"), [(1, 2.5), (2, 3.5), (3, 4.2)])
def test_the_wishart_density_has_the_inverse_scale_of_scipy(d: int, nu: float) -> None:
    scale, at = positive_definite(d, 1), positive_definite(d, 2)
    ours = (
        -wishart_constant(nu, d)
        + nu / 2 * log_det(scale)
        + (nu - d - 1) / 2 * log_det(at)
        - np.trace(scale @ at) / 2
    )
    theirs = stats.wishart(nu, np.linalg.inv(scale)).logpdf(at)
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.derives("prop-wishart-sum", "eq-wishart-transform")
def test_a_sum_of_squares_has_the_transform_of_a_wishart_matrix() -> None:
    """Both sides by integration or draws: one row by quadrature, ν that is not whole by draws."""
    v = np.array([[1.0, 0.4], [0.4, 0.6]])
    t = np.array([[0.1, -0.05], [-0.05, 0.15]])
    normal = stats.multivariate_normal(cov=v)
    one_row = integrate.dblquad(
        lambda y, x: float(normal.pdf([x, y]) * np.exp(np.array([x, y]) @ t @ [x, y])),
        -9,
        9,
        -9,
        9,
        epsabs=1e-8,
    )[0]
    determinant = np.linalg.det(np.eye(2) - 2 * v @ t)
    assert one_row == pytest.approx(determinant**-0.5, rel=1e-5)
    draws = stats.wishart(3.7, v).rvs(200_000, random_state=0)
    values = np.exp(np.einsum("ij,nji->n", t, draws))
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - determinant ** (-3.7 / 2)) < 4 * error
    rows = np.random.default_rng(1).multivariate_normal(np.zeros(2), v, (50_000, 4))
    sums = np.einsum("nij,nik->njk", rows, rows)
    quantities = [sums[:, 0, 0], np.linalg.det(sums)]
    peers = np.asarray(stats.wishart(4, v).rvs(50_000, random_state=2))
    for ours, theirs in zip(quantities, [peers[:, 0, 0], np.linalg.det(peers)], strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


@pytest.mark.derives("prop-wishart-sum", "eq-wishart-covariance")
@pytest.mark.parametrize("nu", [2.4, 5.0])
def test_covariances_of_the_entries_of_a_wishart_matrix(nu: float) -> None:
    v = np.array([[1.0, 0.4], [0.4, 0.6]])
    # the logarithm of the transform, differentiated twice with thirty digits
    with mpmath.workdps(30):
        for i, j, k, m in itertools.product(range(2), repeat=4):

            def log_transform(
                s: mpmath.mpf, t: mpmath.mpf, places: tuple[int, ...] = (i, j, k, m)
            ) -> mpmath.mpf:
                a, b, c, e = places
                h = mpmath.zeros(2)
                h[a, b] += s / 2
                h[b, a] += s / 2
                h[c, e] += t / 2
                h[e, c] += t / 2
                return -nu / 2 * mpmath.log(mpmath.det(mpmath.eye(2) - 2 * mpmath.matrix(v) * h))

            numeric = float(mpmath.diff(log_transform, (0, 0), (1, 1)))
            formula = nu * (v[i, k] * v[j, m] + v[i, m] * v[j, k])
            assert formula == pytest.approx(numeric, rel=1e-8)
    peer = np.asarray(stats.wishart(nu, v).var())
    for i, j in itertools.product(range(2), repeat=2):
        assert peer[i, j] == pytest.approx(nu * (v[i, j] ** 2 + v[i, i] * v[j, j]))


@pytest.mark.derives("prop-wishart-kl", "eq-wishart-kl", "eq-wishart-entropy")
@pytest.mark.parametrize(("d", "nu", "nu_0"), [(1, 2.5, 1.2), (2, 5.5, 3.0), (3, 6.0, 9.0)])
def test_divergence_and_entropy_of_wishart_distributions(d: int, nu: float, nu_0: float) -> None:
    scale, scale_0 = positive_definite(d, 3), positive_definite(d, 4)
    slope = d / 2 * np.log(2) + 0.5 * sum(special.digamma((nu - j) / 2) for j in range(d))
    expected = 2 * slope - log_det(scale)
    kl = (
        (nu - nu_0) / 2 * expected
        - nu * d / 2
        + nu / 2 * np.trace(scale_0 @ np.linalg.inv(scale))
        + nu / 2 * log_det(scale)
        - nu_0 / 2 * log_det(scale_0)
        - wishart_constant(nu, d)
        + wishart_constant(nu_0, d)
    )
    entropy = (
        ((d + 1) / 2 - nu / 2) * expected
        + nu * d / 2
        - nu / 2 * log_det(scale)
        + wishart_constant(nu, d)
    )
    q = stats.wishart(nu, np.linalg.inv(scale))
    q_0 = stats.wishart(nu_0, np.linalg.inv(scale_0))
    assert entropy == pytest.approx(float(q.entropy()), rel=1e-9)
    draws = q.rvs(60_000, random_state=5).reshape(-1, d, d)
    columns = draws.transpose(1, 2, 0)  # scipy wants the matrices last
    ratios = np.asarray(q.logpdf(columns)) - np.asarray(q_0.logpdf(columns))
    assert abs(ratios.mean() - kl) < 4 * ratios.std() / np.sqrt(len(ratios))
    assert kl > 0


@pytest.mark.derives("prop-wishart-kl")
@pytest.mark.parametrize("family", ["VVI", "VII"])
def test_the_divergence_in_the_families_of_gamma_distributions(family: str) -> None:
    d, nu, nu_0 = 3, 4.0, 2.5
    b = np.array([1.0, 2.0, 0.7]) if family == "VVI" else np.full(3, 1.3)
    b_0 = np.array([0.4, 1.1, 2.0]) if family == "VVI" else np.full(3, 0.6)

    def g(x: float) -> float:
        if family == "VVI":
            return float(x * d / 2 * np.log(2) + d * special.gammaln(x / 2))
        return float(special.gammaln(d * x / 2) - d * x / 2 * np.log(d / 2))

    slope = (g(nu + 1e-6) - g(nu - 1e-6)) / 2e-6
    expected = 2 * slope - np.log(b).sum()
    kl = (nu - nu_0) / 2 * expected - nu * d / 2 + nu / 2 * (b_0 / b).sum()
    kl += nu / 2 * np.log(b).sum() - nu_0 / 2 * np.log(b_0).sum() - g(nu) + g(nu_0)

    def gamma_kl(a: float, r: float, a0: float, r0: float) -> float:
        p, q = stats.gamma(a, scale=1 / r), stats.gamma(a0, scale=1 / r0)
        return float(p.expect(lambda t: p.logpdf(t) - q.logpdf(t)))

    if family == "VVI":
        pairs = zip(b, b_0, strict=True)
        reference = sum(gamma_kl(nu / 2, x / 2, nu_0 / 2, y / 2) for x, y in pairs)
    else:
        reference = gamma_kl(d * nu / 2, d * b[0] / 2, d * nu_0 / 2, d * b_0[0] / 2)
    assert kl == pytest.approx(reference, rel=1e-6)


@pytest.mark.derives("prop-inverse-wishart", "eq-inverse-wishart-density")
@pytest.mark.parametrize(("d", "nu"), [(1, 4.5), (2, 5.5), (3, 7.0)])
def test_the_inverse_wishart_distribution(d: int, nu: float) -> None:
    scale, at = positive_definite(d, 6), positive_definite(d, 7)
    peer = stats.invwishart(nu, scale)

    def log_density(sigma: Floats) -> float:
        return float(
            -wishart_constant(nu, d)
            + nu / 2 * log_det(scale)
            - (nu + d + 1) / 2 * log_det(sigma)
            - np.trace(scale @ np.linalg.inv(sigma)) / 2
        )

    assert log_density(at) == pytest.approx(peer.logpdf(at), rel=1e-12)
    mode = scale / (nu + d + 1)
    np.testing.assert_allclose(mode, np.asarray(peer.mode(), float), rtol=1e-12)
    rng = np.random.default_rng(8)
    for _ in range(50):
        change = rng.standard_normal((d, d))
        root = np.eye(d) + 0.1 * change
        assert log_density(root @ mode @ root.T) < log_density(mode)
    mean = scale / (nu - d - 1)
    np.testing.assert_allclose(np.atleast_2d(peer.mean()), mean, rtol=1e-12)
    draws = np.linalg.inv(
        stats.wishart(nu, np.linalg.inv(scale)).rvs(100_000, random_state=9).reshape(-1, d, d)
    )
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * error)


@pytest.mark.derives("prop-dirichlet", "eq-dirichlet-covariance", "eq-dirichlet-kl")
def test_moments_entropy_and_divergence_of_the_dirichlet_distribution() -> None:
    alpha, beta = np.array([1.7, 2.6, 4.0]), np.array([3.0, 1.2, 2.0])
    total, p, q = alpha.sum(), stats.dirichlet(alpha), stats.dirichlet(beta)
    covariance = (np.diag(alpha) - np.outer(alpha, alpha) / total) / (total * (total + 1))
    np.testing.assert_allclose(covariance, p.cov(), rtol=1e-12)

    def log_b(x: Floats) -> float:
        return float(special.gammaln(x).sum() - special.gammaln(x.sum()))

    logs = special.digamma(alpha) - special.digamma(total)
    np.testing.assert_allclose(logs, Dirichlet(alpha).expected_logs, rtol=1e-12)
    assert log_b(alpha) - (alpha - 1) @ logs == pytest.approx(p.entropy(), rel=1e-12)
    kl = log_b(beta) - log_b(alpha) + (alpha - beta) @ logs

    def integrand(y: float, x: float) -> float:
        w = np.array([x, y, 1 - x - y])
        return float(p.pdf(w) * (p.logpdf(w) - q.logpdf(w)))

    integral = integrate.dblquad(integrand, 1e-9, 1 - 1e-9, 0, lambda x: 1 - x, epsabs=1e-6)[0]
    assert kl == pytest.approx(integral, rel=1e-4)
    mode = (alpha - 1) / (total - 3)
    for other in np.random.default_rng(0).dirichlet(np.ones(3), 200):
        assert p.logpdf(other) <= p.logpdf(mode)


@pytest.mark.derives("prop-dirichlet")
def test_gamma_variables_divided_by_their_sum_are_dirichlet() -> None:
    alpha = np.array([0.7, 1.5, 2.0, 0.4])
    rng = np.random.default_rng(1)
    g = rng.gamma(alpha, 1 / 3.3, (20_000, 4))
    weights = g / g.sum(axis=1, keepdims=True)
    merged = weights[:, 0] + weights[:, 2]
    total = alpha.sum()
    assert stats.kstest(merged, stats.beta(2.7, total - 2.7).cdf).pvalue > 1e-3
    assert stats.kstest(weights[:, 1], stats.beta(1.5, total - 1.5).cdf).pvalue > 1e-3
    a, b = 2.7, total - 2.7
    assert stats.beta(a, b).var() == pytest.approx(a * b / ((a + b) ** 2 * (a + b + 1)))


@pytest.mark.derives("prop-student", "eq-student-density")
@pytest.mark.parametrize(("d", "f"), [(1, 3.0), (2, 3.5), (3, 5.0)])
def test_the_student_density_is_a_mixture_over_scales(d: int, f: float) -> None:
    v, m = positive_definite(d, 10), np.arange(d) * 1.0
    x = m + 0.8
    delta = float((x - m) @ np.linalg.solve(v, x - m))
    log_density = (
        special.gammaln((f + d) / 2)
        - special.gammaln(f / 2)
        - d / 2 * np.log(f * np.pi)
        - log_det(v) / 2
        - (f + d) / 2 * np.log1p(delta / f)
    )
    # the stubs want a whole number, scipy does not
    peer = stats.multivariate_t(loc=m, shape=v, df=f)  # type: ignore[arg-type]
    assert log_density == pytest.approx(peer.logpdf(x), rel=1e-12)
    scales = stats.gamma(f / 2, scale=2 / f)
    mixed = integrate.quad(
        lambda s: scales.pdf(s) * stats.multivariate_normal(m, v / s).pdf(x), 0, np.inf
    )[0]
    assert np.exp(log_density) == pytest.approx(mixed, rel=1e-7)
    assert scales.expect(lambda s: 1 / s) == pytest.approx(f / (f - 2), rel=1e-4)
    if d == 1:
        variance = stats.t(f, scale=np.sqrt(v[0, 0])).var()
        assert variance == pytest.approx(f / (f - 2) * v[0, 0])


@pytest.mark.derives("prop-multinomial", "eq-multinomial-density")
def test_counts_of_labels_by_listing_all_sequences() -> None:
    p, n = np.array([0.5, 0.3, 0.2]), 4
    chance: dict[tuple[int, ...], float] = {}
    for labels in itertools.product(range(3), repeat=n):
        key = tuple(np.bincount(labels, minlength=3).tolist())
        chance[key] = chance.get(key, 0.0) + float(np.prod(p[list(labels)]))
    peer = stats.multinomial(n, p)
    for counts, value in chance.items():
        assert peer.pmf(counts) == pytest.approx(value, rel=1e-12)
        ways = special.factorial(n) / np.prod(special.factorial(counts))
        assert ways * np.prod(p ** np.array(counts)) == pytest.approx(value, rel=1e-12)
    points, masses = np.array(list(chance)), np.array(list(chance.values()))
    mean = masses @ points
    np.testing.assert_allclose(mean, n * p, rtol=1e-12)
    covariance = (masses[:, None] * (points - mean)).T @ (points - mean)
    np.testing.assert_allclose(covariance, n * (np.diag(p) - np.outer(p, p)), atol=1e-13)


@pytest.mark.derives("prop-poisson")
def test_poisson_variables_add_and_split() -> None:
    means = np.array([0.7, 2.0])
    x = np.arange(120)
    for rate in means:
        mass = stats.poisson(rate).pmf(x)
        assert mass @ x == pytest.approx(rate)
        assert mass @ (x - rate) ** 2 == pytest.approx(rate)
    one, two = (stats.poisson(rate).pmf(x[:30]) for rate in means)
    joint = stats.poisson(means.sum())
    for n in range(10):
        total = sum(one[i] * two[n - i] for i in range(n + 1))
        assert total == pytest.approx(joint.pmf(n), rel=1e-12)
        for i in range(n + 1):
            given = stats.binom(n, means[0] / means.sum()).pmf(i)
            assert one[i] * two[n - i] / total == pytest.approx(given, rel=1e-10)


@pytest.mark.derives("prop-poisson")
def test_the_m_step_of_a_poisson_mixture_is_a_weighted_mean() -> None:
    rng = np.random.default_rng(2)
    x, w, r = rng.poisson(3.0, 40), rng.uniform(0.5, 2, 40), rng.uniform(0, 1, 40)
    best = float((w * r) @ x / (w @ r))

    def q(rate: float) -> float:
        return float((w * r) @ stats.poisson(rate).logpmf(x))

    for factor in (0.2, 0.9, 0.999, 1.001, 1.1, 5.0):
        assert q(best * factor) < q(best)
