"""The steps in plain numbers are the steps on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy
from conftest import FAMILIES, random_mixture
from scipy import stats

import gmm
from gmm.checks import FloatArray, SingularCovarianceError
from gmm.families import FAMILIES as KINDS
from gmm.normal import cholesky
from gmm.rows import as_rows
from gmm.small import _SOUND, Component, SmallSteps
from gmm.statistics import Statistics
from gmm.steps import MixtureSteps
from gmm.sweep import Sweep


def both(
    X: FloatArray, k: int, family: str, weights: FloatArray | None = None, ridge: float = 0.0
) -> tuple[SmallSteps, MixtureSteps]:
    rows = as_rows(X, weights)
    sweep = Sweep(rows, k, KINDS[family])
    return SmallSteps(rows, sweep, family, ridge), MixtureSteps(rows, sweep, family, ridge)


def after(steps: Any, start: gmm.Mixture, iterations: int) -> tuple[gmm.Mixture, float, Statistics]:
    """The mixture after some iterations, its log-likelihood and its statistics."""
    parameters = steps.load(start)
    statistics, log_likelihood = steps.expect(parameters)
    for _ in range(iterations):
        parameters = steps.maximise(statistics)
        statistics, log_likelihood = steps.expect(parameters)
    return (
        steps.mixture(parameters),
        log_likelihood,
        steps.statistics(statistics, log_likelihood),
    )


def assert_same(a: gmm.Mixture, b: gmm.Mixture, rtol: float = 1e-9) -> None:
    assert a.family == b.family
    np.testing.assert_allclose(a.weights, b.weights, rtol=rtol)
    size = np.sqrt(b.variances.max())
    np.testing.assert_allclose(a.means, b.means, rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(a.stored, b.stored, rtol=rtol, atol=rtol * size**2)


@pytest.mark.derives("thm-two-products")
@pytest.mark.parametrize("iterations", [0, 1, 5, 30])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("more", ["", "weights", "ridge"])
def test_plain_numbers_are_arrays(family: str, iterations: int, d: int, more: str) -> None:
    truth = random_mixture(family, 3, d, seed=d)
    X, _ = truth.sample(300, 0)
    X += 5.0
    start = gmm.Mixture.from_stored(truth.weights, truth.means + 4.5, truth.stored, family)
    weights = np.random.default_rng(1).uniform(0.1, 3, 300) if more == "weights" else None
    plain, arrays = both(X, 3, family, weights, ridge=0.1 if more == "ridge" else 0.0)
    got, wanted = after(plain, start, iterations), after(arrays, start, iterations)
    assert_same(got[0], wanted[0])
    assert got[1] == pytest.approx(wanted[1], rel=1e-11)
    assert got[2].kind == wanted[2].kind
    assert got[2].n_rows == wanted[2].n_rows
    np.testing.assert_allclose(got[2].counts, wanted[2].counts, rtol=1e-9)
    size = np.abs(wanted[2].second).max()
    np.testing.assert_allclose(got[2].second, wanted[2].second, rtol=1e-9, atol=1e-9 * size)


@pytest.mark.parametrize("d", [1, 2])
def test_far_points_are_handed_to_the_sweep(
    family: str, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All powers of two of a row are nothing: its greatest exponent must be taken out."""
    mixture = random_mixture(family, 2, d, seed=6, spread=1.0)
    X, _ = mixture.sample(100, 0)
    X[::20] += 150.0
    plain, arrays = both(X, 2, family)
    handed = []
    by_sweep = plain._by_sweep

    def note(components: list[Component]) -> tuple[Statistics, float]:
        handed.append(components)
        return by_sweep(components)

    monkeypatch.setattr(plain, "_by_sweep", note)
    statistics, log_likelihood = plain.expect(plain.load(mixture))
    assert len(handed) == 1
    assert isinstance(statistics, Statistics)
    assert log_likelihood == pytest.approx(mixture.log_likelihood(X), rel=1e-12)
    assert_same(after(plain, mixture, 5)[0], after(arrays, mixture, 5)[0], rtol=1e-8)


@pytest.mark.derives("eq-cancellation")
@pytest.mark.parametrize("d", [1, 2])
def test_narrow_components_are_handed_to_the_sweep(family: str, d: int) -> None:
    whole = random_mixture(family, 2, d, seed=8)
    mixture = gmm.Mixture.from_stored(whole.weights, whole.means, 1e-12 * whole.stored, family)
    X, _ = mixture.sample(200, 0)
    plain, arrays = both(X, 2, family)
    statistics, _ = plain.expect(plain.load(mixture))
    assert isinstance(statistics, Statistics)
    # the rows themselves are rounded at 1e-16, a component's width is 1e-6
    assert_same(after(plain, mixture, 3)[0], after(arrays, mixture, 3)[0], rtol=1e-7)


@pytest.mark.derives("eq-cancellation")
def test_a_start_beyond_all_rows_is_handed_to_the_sweep() -> None:
    X = random_mixture("VVV", 2, 2, seed=1).sample(50, 0)[0]
    start = gmm.Mixture([0.5, 0.5], [[100.0, 0.0], [0.0, 100.0]], np.tile(np.eye(2), (2, 1, 1)))
    plain, _ = both(X, 2, "VVV")
    statistics, log_likelihood = plain.expect(plain.load(start))
    assert isinstance(statistics, Statistics)
    assert log_likelihood == pytest.approx(start.log_likelihood(X), rel=1e-12)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_collapses_are_refused_alike(name: str, d: int) -> None:
    """A component on a single row, one on two rows (a line), one on none."""
    X = np.array([[0.0, 0.0], [0.5, 1.0], [1.0, 0.2], [0.3, 0.7], [90.0, 90.0], [91.0, 95.0]])[
        :, :d
    ]
    for mine in ([4], [4, 5], []):
        plain, arrays = both(X, 2, name)
        # responsibilities as a converged start would give them: all or nothing
        shares = np.tile([1.0, 0.0], (len(X), 1))
        shares[mine] = [0.0, 1.0]
        moments: list[list[float]] = (shares.T @ plain.transposed).tolist()
        statistics = plain.statistics(moments, 0.0)
        outcomes = []
        cases: list[tuple[Any, Any]] = [(plain, moments), (arrays, statistics)]
        for steps, value in cases:
            try:
                steps.maximise(value)
                outcomes.append("")
            except SingularCovarianceError as error:
                outcomes.append(str(error))
        if name == "VVV" and mine == [4, 5] and d == 2:
            assert outcomes[0]  # a Cholesky factor of rounding errors may exist, or may not
            continue
        assert bool(outcomes[0]) == bool(outcomes[1]), (mine, outcomes)
        if mine != [4, 5]:
            # one covariance for both components is not singular while one of them has width
            assert bool(outcomes[0]) == (not mine or name != "EEE")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_fit_that_must_collapse_says_so(name: str) -> None:
    X = np.concatenate([np.random.default_rng(0).standard_normal((30, 2)), np.full((5, 2), 9.0)])
    start = np.array([[0.0, 0.0], [9.0, 9.0]])
    if name == "EEE":
        assert gmm.fit(X, 2, name, start=start).converged
    else:
        with pytest.raises(SingularCovarianceError, match="collapsed"):
            gmm.fit(X, 2, name, start=start)


def test_no_step_of_a_fit_leaves_a_component_narrower_than_what_is_refused() -> None:
    """Nor where narrow components are handed to the sweep: one sits on two equal rows."""
    line = np.append(stats.norm.ppf((np.arange(60) + 0.5) / 60), stats.norm.ppf(40.5 / 60))
    X, widths = line[:, None], []
    start = gmm.Mixture([2 / 61, 59 / 61], [X[40], [0.0]], np.array([0.3**2, 1.0])[:, None, None])
    with pytest.raises(SingularCovarianceError, match="collapsed"):
        gmm.fit(
            X,
            2,
            start=start,
            tol=0,
            callback=lambda p: widths.append(float(p.mixture.covariances.min()) ** 0.5),
        )
    assert len(widths) > 50
    assert min(widths) > 1e-9 * X.std()


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("power", [-100, -60, 60, 100])
def test_units_do_not_matter(family: str, d: int, power: int) -> None:
    """Powers of two of a thousand bits: squares of covariances leave the range of numbers."""
    X, _ = random_mixture(family, 2, d, seed=2).sample(60, 0)
    scale = 2.0 ** (3 * power)
    a = gmm.fit(X, 2, family, start=X[:2], tol=0, max_iter=4)
    b = gmm.fit(scale * X, 2, family, start=scale * X[:2], tol=0, max_iter=4)
    np.testing.assert_allclose(b.mixture.weights, a.mixture.weights, rtol=1e-9)
    np.testing.assert_allclose(b.mixture.means / scale, a.mixture.means, rtol=1e-9)


@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("least", [0.0, 1e-15, 1e-14, 2e-14, 1e-13, 1e-10, 0.1])
def test_covariances_are_sound_where_those_of_a_mixture_are(d: int, least: float) -> None:
    """By the same rule, but within a factor of two of its bound, where rounding decides."""
    rng = np.random.default_rng(d)
    i, j = np.tril_indices(d)
    told = set()
    for _ in range(300):
        values = np.append(least, 10.0 ** rng.uniform(-4, 0, d - 1))
        axes = np.linalg.qr(rng.standard_normal((d, d)))[0]
        units = 10.0 ** rng.uniform(-3, 3, d)
        matrix = (axes * values) @ axes.T * np.outer(units, units)
        matrix = 0.5 * (matrix + matrix.T)
        exact = sympy.Matrix(d, d, [sympy.Rational(float(value)) for value in matrix.ravel()])
        if exact.det() > 0:
            precision = exact.inv()
            inflation = float(sum(exact[a, a] * precision[a, a] for a in range(d)))
        else:
            inflation = np.inf
        if 1 / 2 < inflation * 16 * d * 2**-52 < 2:
            continue
        sound = _SOUND[d]([1.0, *np.zeros(d), *matrix[i, j]], [0.0] * d)
        try:
            cholesky(matrix)
            assert sound
        except SingularCovarianceError:
            assert not sound
        told.add(sound)
    assert told
