"""A sweep over all rows is the E-step, however the rows are cut, kept and shared out."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import mpmath
import numpy as np
import pytest
from conftest import FAMILIES, random_mixture

import gmm
from gmm import sweep, threads
from gmm.checks import FloatArray
from gmm.e_step import one_pass
from gmm.natural import TOLERANCE, cancellation
from gmm.rows import as_rows
from gmm.statistics import Statistics
from gmm.sweep import Sweep


def swept(X: FloatArray, mixture: gmm.Mixture, weights: FloatArray | None = None) -> Statistics:
    return Sweep(as_rows(X, weights), mixture.n_components, mixture.kind)(mixture)


def assert_same(got: Statistics, wanted: Statistics, rtol: float = 1e-10) -> None:
    """The same statistics about the same centres, up to the rounding of their greatest terms."""
    assert got.n_rows == wanted.n_rows
    assert got.kind == wanted.kind
    got = got.shifted(wanted.centres)
    # moments of components far from the common centre are moved: units of the whole data
    np.testing.assert_allclose(got.counts, wanted.counts, rtol=rtol)
    size = np.abs(wanted.second).max()
    np.testing.assert_allclose(got.first, wanted.first, rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(got.second, wanted.second, rtol=rtol, atol=rtol * size)
    assert got.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-12)


def in_natural_form(X: FloatArray, mixture: gmm.Mixture) -> bool:
    """Whether a sweep takes the natural-parameter form (as its statistics' centres show)."""
    centres = swept(X, mixture).centres
    return bool((centres == centres[0]).all()) and mixture.n_components > 1


# ---------------------------------------------------------------- the same sums


@pytest.mark.derives("thm-two-products")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_sweep_is_a_pass_of_the_e_step(family: str, d: int, weighted: bool) -> None:
    mixture = random_mixture(family, 4, d, seed=d)
    X, _ = mixture.sample(3000, 0)
    weights = np.random.default_rng(1).uniform(0.1, 3, 3000) if weighted else None
    assert in_natural_form(X, mixture)
    assert_same(swept(X, mixture, weights), one_pass(as_rows(X, weights), mixture))


@pytest.mark.parametrize(
    "memory", [(1e9, 0), (0, 1e9), (0, 0)], ids=["features kept", "rows kept", "nothing kept"]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_kept_does_not_matter(
    family: str, memory: tuple[float, float], weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "FEATURE_MEMORY", memory[0])
    monkeypatch.setattr(sweep, "ROW_MEMORY", memory[1])
    monkeypatch.setattr(sweep, "PRODUCT", 4 * 10 * 100)  # blocks of some hundred rows
    mixture = random_mixture(family, 4, 3, seed=2)
    X, _ = mixture.sample(1501, 0)
    weights = np.random.default_rng(1).uniform(0.1, 3, 1501) if weighted else None
    of_all = Sweep(as_rows(X, weights), 4, mixture.kind)
    assert len(of_all.parts) > 3
    assert bool(of_all.kept_features) == (memory[0] > 0)
    assert (of_all.kept_rows is not None) == (memory[1] > 0)
    wanted = one_pass(as_rows(X, weights), mixture)
    assert_same(of_all(mixture), wanted)
    assert_same(of_all(mixture), wanted)  # a second time, from used workspaces


@pytest.mark.parametrize("shared", [False, True])
def test_many_small_blocks_give_the_same_sums(
    family: str, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PRODUCT", 1)
    monkeypatch.setattr(sweep, "SHORTEST", 16)
    monkeypatch.setattr(sweep, "SHARED", 1 if shared else 10**9)
    mixture = random_mixture(family, 3, 2, seed=4)
    X, _ = mixture.sample(2500, 0)
    of_all = Sweep(as_rows(X), 3, mixture.kind)
    assert len(of_all.parts) > 2 * sweep.GROUPS
    assert of_all.shared is shared
    assert_same(of_all(mixture), one_pass(as_rows(X), mixture))


def test_blocks_cover_all_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (1, 15, 16, 17, 511, 512, 513, 8192, 10_000, 100_003):
        for size in (16, 64, 512, 1000, 8192):
            parts = sweep._parts(n, size)
            assert [p.start for p in parts[1:]] == [p.stop for p in parts[:-1]]
            assert (parts[0].start, parts[-1].stop) == (0, n)
            assert max(p.stop - p.start for p in parts) <= size + 32
            groups = sweep._groups(parts)
            assert len(groups) <= sweep.GROUPS
            assert [p for group in groups for p in group] == parts
            assert all(groups)


def test_one_row_and_one_component() -> None:
    X = np.array([[1.0, 2.0]])
    mixture = gmm.Mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
    got = swept(X, mixture)
    assert got.counts[0] == pytest.approx(1.0, abs=1e-15)
    assert got.log_likelihood == pytest.approx(mixture.log_likelihood(X), rel=1e-14)


# ---------------------------------------------------------------- exponents out of range


@pytest.mark.derives("prop-clipping")
@pytest.mark.parametrize("weighted", [False, True])
def test_far_points_have_their_greatest_exponent_taken_out(family: str, weighted: bool) -> None:
    """Some rows are so far from all components that all their powers of two are nothing."""
    mixture = random_mixture(family, 3, 2, seed=6, spread=1.0)
    X, _ = mixture.sample(400, 0)
    X[::50] += 80.0
    weights = np.random.default_rng(1).uniform(0.1, 3, 400) if weighted else None
    assert np.exp(mixture.log_density(X)).min() == 0
    assert in_natural_form(X, mixture)
    assert_same(swept(X, mixture, weights), one_pass(as_rows(X, weights), mixture), rtol=1e-8)


@pytest.mark.derives("prop-clipping")
def test_a_far_block_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most blocks show no small exponent; one holds nothing else."""
    monkeypatch.setattr(sweep, "PRODUCT", 3 * 6 * 100)
    mixture = random_mixture("VVV", 3, 2, seed=6, spread=1.0)
    X, _ = mixture.sample(1000, 0)
    X[600:700] += 80.0
    assert np.exp(mixture.log_density(X)).min() == 0
    assert in_natural_form(X, mixture)
    assert_same(swept(X, mixture), one_pass(as_rows(X), mixture), rtol=1e-8)


@pytest.mark.derives("prop-clipping")
def test_exponents_that_become_small_between_two_looks_change_nothing() -> None:
    wide = random_mixture("VVV", 3, 2, seed=6)
    narrow = gmm.Mixture.from_stored(wide.weights, wide.means, 1e-3 * wide.stored, "VVV")
    X = wide.sample(1000, 0)[0]
    of_all = Sweep(as_rows(X), 3, "full")
    of_all(wide)
    assert of_all.notes.small == {0: False}
    assert in_natural_form(X, narrow)
    assert (narrow.log_joint(X) < -1100 * np.log(2)).any()
    assert_same(of_all(narrow), one_pass(as_rows(X), narrow), rtol=1e-8)
    assert of_all.notes.small == {0: False}


@pytest.mark.derives("prop-clipping")
def test_powers_of_a_tied_family_may_overflow() -> None:
    """Without the common quadratic term exponents are positive far from the centre."""
    mixture = gmm.Mixture([0.5, 0.5], [[-100.0], [100.0]], np.ones((1, 1)), "EEE")
    X = np.concatenate([-100.0 + np.linspace(-2, 2, 100), 100.0 + np.linspace(-2, 2, 100)])[:, None]
    assert in_natural_form(X, mixture)
    assert_same(swept(X, mixture), one_pass(as_rows(X), mixture))


def test_a_weight_of_zero_gets_nothing(family: str) -> None:
    whole = random_mixture(family, 3, 2, seed=3)
    weights = np.array([0.4, 0.0, 0.6])
    mixture = gmm.Mixture.from_stored(weights, whole.means, whole.stored, family)
    X, _ = whole.sample(200, 0)
    got = swept(X, mixture)
    assert got.counts[1] <= 200 * 2.0**-1000 / 1e-250  # what clipping may give it
    assert got.counts.sum() == pytest.approx(200, rel=1e-13)
    assert got.log_likelihood == pytest.approx(mixture.log_likelihood(X), rel=1e-12)


def test_sixteen_logarithms_in_one() -> None:
    rng = np.random.default_rng(0)
    for low, high in ((-1, 1), (-17, 17), (-200, 200)):
        values = 10.0 ** rng.uniform(low, high, 64)
        got = sweep._sum_of_logs(values, float(values.min()), float(values.max()))
        # 64 logarithms below 460, each right to a rounding
        assert got == pytest.approx(float(np.log(values).sum()), abs=1e-10)


# ---------------------------------------------------------------- narrow components


@pytest.mark.derives("eq-cancellation", "prop-residual-error")
@pytest.mark.parametrize("weighted", [False, True])
def test_narrow_components_are_done_by_residuals(family: str, weighted: bool) -> None:
    whole = random_mixture(family, 3, 2, seed=8)
    mixture = gmm.Mixture.from_stored(whole.weights, whole.means, 1e-12 * whole.stored, family)
    X, _ = mixture.sample(500, 0)
    weights = np.random.default_rng(1).uniform(0.1, 3, 500) if weighted else None
    assert not in_natural_form(X, mixture)
    got, wanted = swept(X, mixture, weights), one_pass(as_rows(X, weights), mixture)
    # rows centred in common cost as many digits as centre and width lie apart: here six
    np.testing.assert_allclose(got.counts, wanted.counts, rtol=1e-9)
    np.testing.assert_allclose(got.scatter(), wanted.scatter(), rtol=1e-8, atol=1e-20)
    assert got.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-10)


@pytest.mark.derives("eq-cancellation")
def test_the_form_changes_where_the_bound_says() -> None:
    X = np.array([[-1.0], [0.0], [1.0]])
    rows = as_rows(X)
    for width in np.geomspace(1e-5, 1e-1, 9):
        mixture = gmm.Mixture([0.5, 0.5], [[-1.0], [1.0]], np.full((2, 1, 1), width**2))
        of_all = Sweep(rows, 2, "full")
        errors = cancellation(mixture.whiteners, "full", of_all.reach)
        centres = of_all(mixture).centres
        assert (centres[0] == centres[1]).all() == (errors < TOLERANCE).all()


@pytest.mark.derives("eq-cancellation")
def test_a_start_beyond_all_rows_is_looked_at_too() -> None:
    """Long, thin components whose means lie far from all rows, along their length."""
    turn = np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    matrix = turn @ np.diag([1e8, 1e-6]) @ turn.T
    covariances = np.tile((matrix + matrix.T) / 2, (2, 1, 1))
    mixture = gmm.Mixture([0.5, 0.5], [[1e4, 1e4], [-1e4, -1e4]], covariances)
    X = 1e-2 * np.random.default_rng(0).standard_normal((100, 2))
    with mpmath.workdps(50):
        total = mpmath.mpf(0)
        W = [mpmath.matrix(w.tolist()) for w in mixture.whiteners]
        for x in X:
            density = mpmath.mpf(0)
            for k in range(2):
                y = W[k] * (mpmath.matrix(x.tolist()) - mpmath.matrix(mixture.means[k].tolist()))
                determinant = W[k][0, 0] * W[k][1, 1]
                density += determinant * mpmath.exp(-(y.T * y)[0] / 2) / (4 * mpmath.pi)
            total += mpmath.log(density)
    # residuals keep 1e-16 times 1e7 (the reach of a mean in widths) of each of 100 rows
    assert swept(X, mixture).log_likelihood == pytest.approx(float(total), abs=1e-5)
    assert mixture.log_likelihood(X) == pytest.approx(float(total), abs=1e-5)


# ---------------------------------------------------------------- threads and memory


@pytest.mark.derives("prop-threads")
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("narrow", [False, True])
def test_the_last_bit_does_not_depend_on_the_threads(name: str, narrow: bool) -> None:
    mixture = random_mixture(name, 4, 3, seed=9)
    if narrow:
        mixture = gmm.Mixture.from_stored(
            mixture.weights, mixture.means, 1e-10 * mixture.stored, name
        )
    X, _ = mixture.sample(150_000, 0)
    rows = as_rows(X)
    results = []
    for n_threads in (1, 2, 5):
        with threads.use(n_threads):
            of_all = Sweep(rows, 4, mixture.kind)
            assert of_all.shared
            assert len(of_all.parts) >= 5
            results.append(of_all(mixture))
    for other in results[1:]:
        assert other.log_likelihood == results[0].log_likelihood
        for field in ("counts", "first", "second", "centres"):
            np.testing.assert_array_equal(getattr(other, field), getattr(results[0], field))


@pytest.mark.derives("prop-threads")
def test_a_fit_does_not_depend_on_the_threads() -> None:
    X, _ = random_mixture("VVV", 3, 2, seed=1).sample(80_000, 0)
    values = []
    for n_threads in (1, 2, 5):
        with threads.use(n_threads):
            fit = gmm.fit(X, 3, start="random", max_iter=3, tol=0, random_state=0)
            values.append((fit.log_likelihood, fit.mixture.covariances.tobytes()))
    assert values[0] == values[1] == values[2]


def test_memory_beside_the_data_does_not_grow_with_it(tmp_path: Path) -> None:
    """Two million rows of a memory map; the sum of their features alone would be 96 MB."""
    n, d = 2_000_000, 2
    X = np.memmap(tmp_path / "rows", dtype=np.float64, mode="w+", shape=(n, d))
    rng = np.random.default_rng(0)
    for start in range(0, n, 250_000):
        X[start : start + 250_000] = rng.standard_normal((250_000, d), dtype=np.float32)
    mixture = gmm.Mixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], np.tile(np.eye(d), (2, 1, 1)))
    with threads.use(2):
        tracemalloc.start()
        try:
            got = swept(X, mixture)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert got.n_rows == n
    assert got.counts.sum() == pytest.approx(n, rel=1e-12)
    assert peak < 64 * 2**20
