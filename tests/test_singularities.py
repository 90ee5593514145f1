"""Singularities and rounding: how covariances vanish, and what keeps them from it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import sympy
from numpy.typing import NDArray
from scipy import optimize, stats

import gmm
from gmm.e_step import e_step, expected_statistics
from gmm.inference import coordinates, information
from gmm.m_step import m_step
from gmm.normal import cholesky

Floats = NDArray[np.float64]
ROUNDING = 2.0**-53


# ---------------------------------------------------------------- singular from the first pass


@pytest.mark.derives("prop-scatter-rank")
@pytest.mark.parametrize("plane", [0, 1, 2, 3])
def test_the_rank_of_a_covariance_is_the_dimension_of_its_rows(plane: int) -> None:
    """In rational arithmetic: rows in a plane of given dimension, some of share zero."""
    rng = np.random.default_rng(plane)
    n, d = 6, 4
    basis = sympy.Matrix(rng.integers(-3, 4, (plane, d)).tolist()) if plane else None
    origin = sympy.Matrix([rng.integers(-3, 4, d).tolist()])
    rows = []
    for _ in range(n):
        row = origin
        if basis is not None:
            row = row + sympy.Matrix([rng.integers(-5, 6, plane).tolist()]) * basis
        rows.append(row)
    for gone in (0, 2, 4):
        shares = [sympy.Rational(int(s), 7) for s in rng.integers(1, 7, n)]
        shares[:gone] = [sympy.Integer(0)] * gone
        total = sum(shares, sympy.Integer(0))
        mean = sum((s * x for s, x in zip(shares, rows, strict=True)), sympy.zeros(1, d)) / total
        scatter = sympy.zeros(d, d)
        for s, x in zip(shares, rows, strict=True):
            scatter += s * (x - mean).T * (x - mean)
        differences = sympy.Matrix.vstack(*[x - rows[gone] for x in rows[gone:]])
        assert scatter.rank() == differences.rank() <= min(plane, n - gone - 1)
        # the same column space: together they have no greater rank
        assert sympy.Matrix.hstack(scatter, differences.T).rank() == scatter.rank()


@pytest.mark.derives("prop-scatter-rank")
def test_all_components_have_the_rank_of_the_rows_at_every_step() -> None:
    """Rows in a plane of four dimensions; responsibilities of spherical components."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 2)) @ rng.standard_normal((2, 4)) + rng.standard_normal(4)
    mixture = gmm.initial.starting_mixture(X, 3, "VII", "random", 0)
    for _ in range(5):
        r = mixture.responsibilities(X)
        for k in range(3):
            covariance = np.cov(X.T, aweights=r[:, k], ddof=0)
            assert np.linalg.matrix_rank(covariance, tol=1e-10 * np.trace(covariance)) == 2
        mixture = m_step(e_step(X, mixture), "VII")


def test_a_fit_says_which_data_no_covariance_can_bear() -> None:
    good = np.random.default_rng(0).standard_normal((60, 3))
    total = good.copy()
    total[:, 2] = good[:, 0] + good[:, 1]
    for family, sound in {"VVV": False, "EEE": False, "VVI": True, "VII": True}.items():
        if sound:
            assert np.isfinite(gmm.fit(total, 2, family, random_state=0).log_likelihood)
        else:
            with pytest.raises(gmm.SingularCovarianceError, match="hyperplane"):
                gmm.fit(total, 2, family, random_state=0)


# ---------------------------------------------------------------- the collapse


def collapsing_step(
    X: list[list[float]], v: mpmath.mpf, mean: list[mpmath.mpf], weight: mpmath.mpf
) -> tuple[mpmath.mpf, list[mpmath.mpf], mpmath.mpf]:
    """One step of EM for a spherical component; the others have a fixed density, with weights."""
    d = len(mean)
    shares = []
    for x in X:
        squared = mpmath.fsum((mpmath.mpf(a) - b) ** 2 for a, b in zip(x, mean, strict=True))
        own = weight * (2 * mpmath.pi * v) ** (-mpmath.mpf(d) / 2) * mpmath.exp(-squared / (2 * v))
        others = mpmath.mpf("0.9") * mpmath.exp(-(mpmath.mpf(x[0]) ** 2) / 2) / 3
        shares.append(own / (own + others))
    count = mpmath.fsum(shares)
    new = [
        mpmath.fsum(s * mpmath.mpf(x[j]) for s, x in zip(shares, X, strict=True)) / count
        for j in range(d)
    ]
    spread = mpmath.fsum(
        s * (mpmath.mpf(a) - m) ** 2
        for s, x in zip(shares, X, strict=True)
        for a, m in zip(x, new, strict=True)
    )
    return spread / (d * count), new, count / len(X)


@pytest.mark.derives("thm-collapse", "eq-collapse-bound", "eq-collapse-law")
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_collapse_is_an_iterated_exponential(d: int, copies: int) -> None:
    """Two steps of EM with as many digits as the second variance has zeros."""
    rng = np.random.default_rng(d)
    X = rng.standard_normal((12, d)).tolist()
    X += [X[0]] * (copies - 1)
    gaps = sorted(sum((a - b) ** 2 for a, b in zip(x, X[0], strict=True)) for x in X)
    squared = mpmath.mpf(gaps[copies])

    def two_steps(y: float, digits: int, n_steps: int) -> list[tuple[mpmath.mpf, mpmath.mpf]]:
        """The variance, and the mean's squared distance from the row, before and after each."""
        with mpmath.workdps(digits):
            v, weight = squared / (2 * y), mpmath.mpf(copies) / len(X)
            mean = [mpmath.mpf(a) for a in X[0]]
            mean[0] += mpmath.sqrt(v) / 2  # a little beside
            path = [(v, v / 4)]
            for _ in range(n_steps):
                v, mean, weight = collapsing_step(X, v, mean, weight)
                aside = [(a - mpmath.mpf(b)) ** 2 for a, b in zip(mean, X[0], strict=True)]
                path.append((v, mpmath.fsum(aside)))
            return path

    # from a width whose next leaves some hundred digits for the one after
    tried = {y: float(squared / (2 * two_steps(y, 50, 1)[1][0])) for y in np.linspace(4, 25, 43)}
    begin = min(tried, key=lambda y: abs(tried[y] - 800.0))
    assert 200 < tried[begin] < 2500
    path = two_steps(begin, 200 + int(1.2 * tried[begin]), 2)
    errors = []
    for (v, _), (after, aside) in pairwise(path):
        assert after <= mpmath.exp(-squared / (4 * v))
        assert aside <= after
        errors.append(abs(float(2 * v * mpmath.log(1 / after) / squared) - 1))
    assert path[2][1] / path[2][0] < 1e-30 * path[1][1] / path[1][0]
    assert errors[1] < 0.03
    assert errors[1] < 0.2 * errors[0]


def test_the_packages_own_step_follows_the_law() -> None:
    rng = np.random.default_rng(5)
    for X, family in (
        (stats.norm.ppf((np.arange(60) + 0.5) / 60)[:, None], "VVV"),
        (rng.standard_normal((60, 2)), "VII"),
        (rng.standard_normal((60, 2)), "VVV"),
    ):
        n, d = X.shape
        row = X[n // 2]
        delta = np.sort(np.linalg.norm(X - row, axis=1))[1]
        rest = gmm.Normal.fit(X)
        errors = []
        for y in (30.0, 100.0, 300.0, 650.0):
            v = float(delta**2 / (2 * y))
            covariances = np.array([v * np.eye(d), rest.covariance])
            if family == "VII":
                covariances = np.trace(covariances, axis1=1, axis2=2) / d
            start = gmm.Mixture([1 / n, 1 - 1 / n], [row, rest.mean], covariances, family)
            found = e_step(X, start)
            S = found.scatter()[0] / found.counts[0]  # a matrix, or its trace
            after = float(S / d) if S.ndim == 0 else float(np.linalg.eigvalsh(S)[-1])
            errors.append(abs(2 * v * np.log(1 / after) / delta**2 - 1))
        assert errors[-1] < 0.02
        assert errors[-1] < errors[0]


def test_a_second_copy_of_a_row_moves_the_edge_of_the_chasm() -> None:
    line = stats.norm.ppf((np.arange(60) + 0.5) / 60)
    collapsed = {}
    for m in (1, 2):
        X = np.append(line, np.full(m - 1, line[30]))[:, None]
        n, rest = len(X), gmm.Normal.fit(X)
        for width in (0.012, 0.05, 0.3):
            start = gmm.Mixture(
                [m / n, 1 - m / n],
                [[float(line[30])], [float(rest.mean[0])]],
                [[[width**2]], [[float(rest.covariance[0, 0])]]],
            )
            try:
                gmm.fit(X, 2, start=start, tol=1e-10, max_iter=5000)
                collapsed[m, width] = False
            except gmm.SingularCovarianceError:
                collapsed[m, width] = True
    assert [collapsed[1, width] for width in (0.012, 0.05, 0.3)] == [True, False, False]
    assert all(collapsed[2, width] for width in (0.012, 0.05, 0.3))


# ---------------------------------------------------------------- rounding


@pytest.mark.derives("prop-rounded-rows")
@pytest.mark.parametrize("seed", range(5))
def test_rounded_rows_change_deviations_by_no_more_than_the_rounding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = 30, 3
    X = rng.standard_normal((n, d)) * [3.0, 0.1, 1e-3]
    shares = rng.uniform(size=n)

    def deviations(rows: Floats) -> Floats:
        covariance = np.cov(rows.T, aweights=shares, ddof=0)
        return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 0.0)))

    for eta in (1e-4, 1e-2, 1.0):
        for changed in (
            X + rng.uniform(-eta, eta, X.shape),
            X + eta * rng.choice([-1.0, 1.0], X.shape),
            X + eta * np.sign(X - np.average(X, axis=0, weights=shares)),  # outwards
        ):
            assert (np.abs(deviations(changed) - deviations(X)) <= eta * np.sqrt(d) + 1e-8).all()
    # in one dimension the bound is nearly reached
    x = np.repeat([-1.0, 1.0], 10)
    assert np.std(x + 0.1 * np.sign(x)) - np.std(x) == pytest.approx(0.1, rel=1e-12)


def correlation_with(least: float, d: int, rng: np.random.Generator) -> Floats:
    """A symmetric matrix with this eigenvalue, the others about one, in units of its own."""
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    matrix = (Q * np.append(least, rng.uniform(0.5, 1.5, d - 1))) @ Q.T
    symmetric: Floats = 0.5 * (matrix + matrix.T)
    return symmetric


@pytest.mark.derives("prop-variance-inflation", "eq-variance-inflation", "eq-inflation-eigenvalue")
@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_variance_inflation_bounds_the_least_eigenvalue_of_the_correlations(d: int) -> None:
    rng = np.random.default_rng(d)
    for least in (1e-1, 1e-4, 1e-8):
        for _ in range(20):
            units = 10.0 ** rng.uniform(-3, 3, d)
            covariance = correlation_with(least, d, rng) * np.outer(units, units)
            with mpmath.workdps(50):
                exact = mpmath.matrix(covariance.tolist())
                deviations = mpmath.diag([mpmath.sqrt(exact[j, j]) for j in range(d)])
                factor, precision = mpmath.cholesky(exact), exact**-1
                inflations = [exact[j, j] * precision[j, j] for j in range(d)]
                total = mpmath.fsum(inflations)
                correlations = deviations**-1 * exact * deviations**-1
                smallest = min(mpmath.eigsy(correlations, eigvals_only=True))
                tiny = mpmath.mpf(10) ** -30
                assert mpmath.mnorm(factor**-1 * deviations, "f") ** 2 == pytest.approx(total)
                assert 1 / total <= smallest * (1 + tiny)
                assert smallest <= d / total * (1 + tiny)
                for j in range(d):
                    others = [i for i in range(d) if i != j]
                    rest = exact[j, j]
                    if others:
                        block = mpmath.matrix([[exact[a, b] for b in others] for a in others])
                        across = mpmath.matrix([exact[a, j] for a in others])
                        rest -= (across.T * block**-1 * across)[0]
                    assert abs(rest / exact[j, j] * inflations[j] - 1) < tiny
                    assert inflations[j] * factor[j, j] ** 2 >= exact[j, j] * (1 - tiny)


@pytest.mark.derives("eq-inflation-eigenvalue")
@pytest.mark.parametrize("d", [3, 4, 6])
def test_covariances_of_too_few_rows_are_refused_though_their_diagonals_look_sound(d: int) -> None:
    """Of d rows; the diagonal of the factor alone would let some of them pass."""
    rng = np.random.default_rng(d)
    looked_sound = 0
    for _ in range(1500):
        rows = rng.standard_normal((d, d)) * 10.0 ** rng.uniform(-5, 5, d)
        S = np.cov(rows.T, ddof=0)
        with pytest.raises(gmm.SingularCovarianceError):
            cholesky(S)
        with pytest.raises(gmm.SingularCovarianceError):
            gmm.fit(rows, 1, "EEE", max_iter=0)
        try:
            remains = np.diagonal(np.linalg.cholesky(S)) ** 2 / np.diagonal(S)
        except np.linalg.LinAlgError:
            continue
        looked_sound += bool((remains > 32 * d * ROUNDING).all())
    assert looked_sound


@pytest.mark.parametrize("d", [2, 5, 12])
def test_highams_guarantee_holds_and_the_package_asks_for_more(d: int) -> None:
    rng = np.random.default_rng(d)
    gamma = (d + 1) * ROUNDING / (1 - (d + 1) * ROUNDING)
    accepted = 0
    for _ in range(200):
        units = 10.0 ** rng.uniform(-5, 5, d)
        # the correlations' least eigenvalue may be half of that of the matrix before scaling
        sound = correlation_with(4 * d * gamma, d, rng) * np.outer(units, units)
        assert np.isfinite(np.linalg.cholesky(sound)).all()
        safe = correlation_with(4 * 32 * d * ROUNDING, d, rng) * np.outer(units, units)
        assert cholesky(safe).shape == (d, d)
        singular = correlation_with(1e-18, d, rng)
        try:
            cholesky(singular)
            accepted += 1
        except gmm.SingularCovarianceError:
            pass
    assert accepted < 30


@pytest.mark.parametrize("family", ["EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV"])
@pytest.mark.parametrize("max_iter", [0, 2])
def test_fewer_rows_than_features_are_refused(family: str, max_iter: int) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        d = int(rng.integers(3, 35))
        X = rng.standard_normal((int(rng.integers(2, d + 1)), d)) * rng.uniform(0.3, 5, d)
        with pytest.raises(gmm.SingularCovarianceError):
            gmm.fit(X, 1, family, max_iter=max_iter, random_state=0)


SHAPED = ("EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV")


@pytest.mark.parametrize("family", SHAPED)
@pytest.mark.parametrize("accelerate", ["none", "auto"])
def test_a_feature_that_is_constant_within_clusters_is_never_fitted(
    family: str, accelerate: str
) -> None:
    """Its variances are zero, and rounding makes small numbers of both signs of them."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(20, 60))
        kind = np.arange(n) % int(rng.integers(2, 4)) == 0
        label = np.where(kind, *rng.choice([0.0, 0.1, 0.3, 0.7, 1.0], 2, replace=False))
        X = np.column_stack([rng.standard_normal((n, 2)) + 6 * kind[:, None], label])
        with pytest.raises(gmm.SingularCovarianceError):
            gmm.fit(X, 2, family, random_state=seed, accelerate=accelerate)


def told_apart(seed: int) -> Floats:
    """Two groups of a few rows, and a feature that has one value in each."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 40))
    kind = (rng.random(n) < 0.5).astype(float)
    across = rng.standard_normal(n) + 2 * kind
    return np.column_stack([across, kind * rng.choice([1, 0.1, 3]) + rng.choice([0, 0.3])])


@pytest.mark.parametrize(
    ("family", "seed", "last"), [("EEI", 4, 3), ("VEE", 13, 3), ("VEV", 10, 3)]
)
def test_no_run_ends_at_a_variance_that_rounding_has_made(
    family: str, seed: int, last: int
) -> None:
    """After ``last`` iterations the variance is zero, but came out as some 1e-17."""
    X = told_apart(seed)
    before = gmm.fit(X, 2, family, random_state=0, max_iter=last - 1)
    assert before.mixture.variances.min() > 1e-10
    with pytest.raises(gmm.SingularCovarianceError, match="a component has collapsed: "):
        gmm.fit(X, 2, family, random_state=0, max_iter=last)


@pytest.mark.parametrize("seed", [386, 662])
def test_no_run_ends_at_rounding_that_an_equal_volume_has_raised(seed: int) -> None:
    """By a root of it: a variance of 1e-74 came out as 1e-15."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(8, 60)), int(rng.integers(1, 3))
    kind = rng.random(n) < 0.4
    label = np.where(kind, *rng.choice([0, 0.1, 0.3, 0.7, 1.0], 2, replace=False))
    X = np.column_stack([rng.standard_normal((n, d)) + 3 * kind[:, None], label])
    assert gmm.fit(X, 2, "EVV", random_state=0, max_iter=2).n_iter == 2
    with pytest.raises(gmm.SingularCovarianceError, match="a component has collapsed: "):
        gmm.fit(X, 2, "EVV", random_state=0, max_iter=3)


@pytest.mark.parametrize("seed", [11, 29])
def test_no_run_converges_to_an_eigenvalue_that_rounding_has_made(seed: int) -> None:
    X = told_apart(seed)
    with pytest.raises(gmm.SingularCovarianceError):
        gmm.fit(X, 2, "VVE", random_state=0)


# ---------------------------------------------------------------- remedies


def criterion(covariance: Floats, S: Floats) -> float:
    return float(np.linalg.slogdet(covariance)[1] + np.trace(np.linalg.solve(covariance, S)))


def clipped(S: Floats, low: float, high: float = np.inf) -> Floats:
    values, vectors = np.linalg.eigh(S)
    return np.asarray((vectors * np.clip(values, low, high)) @ vectors.T)


@pytest.mark.derives("prop-clipped-eigenvalues")
@pytest.mark.parametrize("high", [2.0, np.inf])
def test_no_matrix_within_the_bounds_is_better_than_the_clipped_one(high: float) -> None:
    rng = np.random.default_rng(0)
    low, d = 0.5, 3
    for values in ([0.1, 1.0, 5.0], [0.0, 0.0, 0.7], [0.6, 0.9, 1.9], [3.0, 4.0, 5.0]):
        Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
        S = (Q * values) @ Q.T
        S = 0.5 * (S + S.T)
        best = clipped(S, low, high)
        top = criterion(best, S)
        ceiling = 8.0 if np.isinf(high) else high

        def parameters(
            p: Floats, S: Floats = S, low: float = low, ceiling: float = ceiling
        ) -> float:
            """Any rotation and eigenvalues between the bounds."""
            skew = np.zeros((3, 3))
            skew[np.triu_indices(3, 1)] = p[3:]
            turn = np.linalg.solve(np.eye(3) + skew - skew.T, np.eye(3) - skew + skew.T)
            s = low + (ceiling - low) * (0.5 + 0.5 * np.sin(p[:3]))
            return criterion((turn * s) @ turn.T, S)

        for _ in range(200):
            assert parameters(rng.uniform(-3, 3, 6)) >= top - 1e-9
        ends = [optimize.minimize(parameters, rng.uniform(-2, 2, 6)).fun for _ in range(6)]
        assert min(ends) >= top - 1e-9
        assert min(ends) == pytest.approx(top, abs=1e-4)


def floored_em(X: Floats, mixture: gmm.Mixture, floor: float, n_iter: int) -> list[float]:
    values = []
    for _ in range(n_iter):
        r = mixture.responsibilities(X)
        values.append(float(mixture.log_likelihood(X)))
        means = r.T @ X / r.sum(axis=0)[:, None]
        covariances = np.array(
            [
                clipped(np.cov(X.T, aweights=r[:, k], ddof=0), floor)
                for k in range(mixture.n_components)
            ]
        )
        mixture = gmm.Mixture(r.mean(axis=0), means, covariances)
    return values


@pytest.mark.derives("cor-floor")
def test_em_with_a_floor_ascends_where_plain_em_collapses() -> None:
    rng = np.random.default_rng(0)
    X = np.round(2 * rng.standard_normal((50, 2))) / 2
    starts = [gmm.initial.starting_mixture(X, 5, "VVV", "random", s) for s in range(6)]
    collapsed = 0
    for start in starts:
        try:
            gmm.fit(X, 5, start=start)
        except gmm.SingularCovarianceError:
            collapsed += 1
        for floor in (1e-6, 1e-2):
            values = floored_em(X, start, floor, 150)
            assert (np.diff(values) >= -1e-9).all()
            assert max(values) <= -0.5 * X.size * np.log(2 * np.pi * floor)
    assert collapsed > 0


def ratio_objective(a: float, values: Floats, counts: Floats, c: float) -> float:
    s = np.clip(values, a, a / c)
    return float((counts * (np.log(s) + values / s)).sum())


def ratio_candidates(values: Floats, counts: Floats, c: float) -> list[float]:
    """The numbers of the proposition, one interval after the other."""
    ends = sorted([*values, *(c * values)])
    middles = [0.5 * (a + b) for a, b in pairwise(ends)]
    inside = [ends[0] / 2, *middles, 2 * ends[-1]]
    found = [a for a in ends if a > 0]
    for a in inside:
        low, high = values < a, values > a / c
        M = counts[low | high].sum()
        if M:
            found.append((counts[low] @ values[low] + c * counts[high] @ values[high]) / M)
    return [a for a in found if a > 0]


@pytest.mark.derives("prop-ratio-update", "eq-ratio-objective", "eq-ratio-candidate")
@pytest.mark.parametrize("seed", range(8))
def test_the_best_bound_of_a_ratio_is_among_the_candidates(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(0, 2.5, 6))
    if seed % 3 == 0:
        values[:2] = 0.0
    counts = rng.uniform(1, 20, 6)
    for c in (1.0, 0.3, 0.01):
        candidates = ratio_candidates(values, counts, c)
        best = min(ratio_objective(a, values, counts, c) for a in candidates)
        grid = np.geomspace(1e-6, 1e6, 20_001)
        brute = min(ratio_objective(float(a), values, counts, c) for a in grid)
        assert best <= brute + 1e-12
        assert best == pytest.approx(brute, abs=1e-3)
    # all equal if c is one: the mean of the eigenvalues
    mean = float(counts @ values / counts.sum())
    ones = [ratio_objective(a, values, counts, 1.0) for a in ratio_candidates(values, counts, 1.0)]
    assert min(ones) == pytest.approx(ratio_objective(mean, values, counts, 1.0), rel=1e-12)


def noisy_joint(X: Floats, mixture: gmm.Mixture, eps: float) -> Floats:
    traces = np.trace(np.linalg.inv(mixture.covariances), axis1=1, axis2=2)
    return np.asarray(mixture.component_log_densities(X) - 0.5 * eps * traces)


def noisy_value(X: Floats, mixture: gmm.Mixture, eps: float) -> float:
    return float(np.logaddexp.reduce(noisy_joint(X, mixture, eps), axis=1).sum())


@pytest.mark.derives("prop-ridge-objective", "eq-ridge-objective")
def test_with_its_own_responsibilities_a_ridge_ascends() -> None:
    X = gmm.datasets.old_faithful().X / [1.0, 10.0]
    # the noise: Gauss–Hermite quadrature
    normal, eps = gmm.Normal([0.3, -0.2], [[1.0, 0.4], [0.4, 0.5]]), 0.3
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    noise = np.sqrt(eps) * np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    shares = np.outer(weights, weights).ravel() / (2 * np.pi)
    for x in X[:3]:
        mean = float(shares @ normal.log_density(x + noise))
        trace = float(np.trace(np.linalg.inv(normal.covariance)))
        log_density = float(normal.log_density(x[None])[0])
        assert mean == pytest.approx(log_density - 0.5 * eps * trace, rel=1e-12)
    for eps in (1e-3, 0.1, 2.0):
        mixture = gmm.initial.starting_mixture(X, 3, "VVV", "random", 3)
        values = []
        for _ in range(200):
            joint = noisy_joint(X, mixture, eps)
            shares = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
            values.append(noisy_value(X, mixture, eps))
            mixture = m_step(expected_statistics(X, shares, mixture.means, "full"), ridge=eps)
            assert np.linalg.eigvalsh(mixture.covariances).min() >= eps * (1 - 1e-12)
        assert (np.diff(values) >= -1e-9).all()
        assert max(values) <= -0.5 * X.size * (1 + np.log(2 * np.pi * eps))


def test_with_ordinary_responsibilities_neither_objective_need_rise() -> None:
    world = gmm.Mixture(
        [0.4, 0.35, 0.25],
        [[0.0, 0.0], [3.5, 0.0], [1.5, 3.0]],
        [[[1.0, 0.5], [0.5, 1.0]], [[0.6, -0.2], [-0.2, 0.8]], [[0.3, 0.0], [0.0, 0.3]]],
    )
    X, _ = world.sample(400, random_state=7)
    at, eps = gmm.fit(X, 3, random_state=0, tol=1e-12).mixture, 0.3
    step = m_step(e_step(X, at), ridge=eps)
    assert step.log_likelihood(X) < at.log_likelihood(X) - 1
    for _ in range(3000):  # to the maximum of the other
        joint = noisy_joint(X, at, eps)
        shares = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
        at = m_step(expected_statistics(X, shares, at.means, "full"), ridge=eps)
    step = m_step(e_step(X, at), ridge=eps)
    assert noisy_value(X, step, eps) < noisy_value(X, at, eps) - 1e-3


@pytest.mark.derives("thm-ridge-bias", "eq-ridge-bias", "eq-ridge-loss")
@pytest.mark.parametrize("distance", [2.6, 4.0])
def test_the_bias_of_a_ridge_is_the_one_that_the_informations_predict(distance: float) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 2))
    X[:150, 0] += distance
    end = gmm.fit(X, 2, random_state=0, tol=0, max_iter=4000).mixture
    parts = information(end, X)
    wider = gmm.Mixture(end.weights, end.means, end.covariances + np.eye(2))
    b = coordinates(wider) - coordinates(end)
    assert sorted(set(b.round(9))) == [0.0, 1.0]
    shift = np.linalg.solve(parts.observed, parts.complete @ b)
    errors = []
    for eps in (1e-2, 1e-3, 1e-4):
        mixture = end
        for _ in range(4000):  # the changed map, by itself
            mixture = m_step(e_step(X, mixture), ridge=eps)
        moved = coordinates(mixture) - coordinates(end)
        errors.append(float(np.abs(moved / eps - shift).max() / np.abs(shift).max()))
        lost = end.log_likelihood(X) - mixture.log_likelihood(X)
        loss = 0.5 * eps**2 * float(b @ parts.complete @ shift)
        assert lost == pytest.approx(loss, rel=30 * eps + 1e-4)
    assert errors[2] < 1e-3
    assert errors[1] < 0.2 * errors[0]
    # one component: nothing is missing
    alone = gmm.fit(X, 1).mixture
    parts = information(alone, X)
    wider = gmm.Mixture([1.0], alone.means, alone.covariances + np.eye(2))
    b = coordinates(wider) - coordinates(alone)
    np.testing.assert_allclose(np.linalg.solve(parts.observed, parts.complete @ b), b, atol=1e-9)


def test_the_price_of_a_ridge_for_one_normal() -> None:
    X = gmm.datasets.old_faithful().X
    values = np.linalg.eigvalsh(np.cov(X.T, ddof=0))
    for eps in (1e-3, 1e-2, 1.0):
        t = eps / values
        price = len(X) / 2 * float(np.sum(np.log1p(t) - t / (1 + t)))
        free, ridged = gmm.fit(X, 1), gmm.fit(X, 1, ridge=eps)
        assert free.log_likelihood - ridged.log_likelihood == pytest.approx(price, rel=1e-6)


@pytest.mark.parametrize(
    ("remedy", "ends"),
    [
        (lambda X, start: gmm.fit(X, 6, start=start, ridge=1e-6), True),
        (lambda X, start: gmm.fit(X, 6, start=start, prior="default"), True),
        (lambda X, start: gmm.fit(X, 6, "EEE", start=start), True),
        (lambda X, start: gmm.fit(X, 6, start=start), False),
    ],
)
def test_which_remedies_let_runs_on_hard_data_end(
    remedy: Callable[[Floats, gmm.Mixture], gmm.Fit], ends: bool
) -> None:
    failed = 0
    for seed in range(12):
        X = np.random.default_rng(seed).standard_normal((60, 2)) * [2.0, 1.5]
        X = np.round(2 * X) / 2
        start = gmm.initial.starting_mixture(X, 6, "VVV", "random", seed)
        try:
            remedy(X, start)
        except gmm.SingularCovarianceError:
            failed += 1
    assert (failed == 0) == ends
