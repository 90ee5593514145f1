"""One dimension, as an interview question: how EM fails there, and what the answers are worth."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

import gmm

Floats = NDArray[np.float64]


def one_pass(x: Floats, mu: Floats, v: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """An iteration of EM in plain numbers, without protection."""
    p = w * np.exp(-0.5 * (x[:, None] - mu) ** 2 / v) / np.sqrt(2 * np.pi * v)
    r = p / p.sum(axis=1, keepdims=True)
    counts = r.sum(axis=0)
    means = r.T @ x / counts
    return means, (r * (x[:, None] - means) ** 2).sum(axis=0) / counts, counts / len(x)


@pytest.fixture
def numbers() -> Floats:
    return np.asarray(gmm.datasets.hastie().X[:, 0])


def test_a_draft_finds_what_the_function_finds(numbers: Floats) -> None:
    ours = gmm.gmm_em(numbers, 2, max_iter=200, tol=0)
    first = np.random.RandomState(42).choice(20, 2, replace=False)
    state = numbers[first], np.full(2, numbers.var()), np.full(2, 0.5)
    for _ in range(200):
        state = one_pass(numbers, *state)
    for name, values in zip(("means", "variances", "weights"), state, strict=True):
        np.testing.assert_allclose(ours[name], values, rtol=1e-9)  # type: ignore[literal-required]  # one of its keys


def test_a_far_number_breaks_the_draft_and_not_the_function(numbers: Floats) -> None:
    far = np.append(numbers, 300.0)
    state = np.array([1.0, 5.0]), np.ones(2), np.full(2, 0.5)
    with np.errstate(invalid="ignore"):
        assert np.isnan(one_pass(far, *state)[0]).all()
    result = gmm.gmm_em(far, 2, seed=1)
    assert sorted(np.round(result["means"], 1)) == [2.7, 300.0]


@pytest.mark.parametrize(("n", "k", "iterations"), [(4000, 16, 2), (8000, 16, 2), (4000, 16, 5)])
def test_the_memory_is_a_few_tables_of_responsibilities(n: int, k: int, iterations: int) -> None:
    x = np.random.default_rng(0).standard_normal(n)
    gmm.gmm_em(x[:100], 2, max_iter=1)  # what is loaded at the first call is not counted
    tracemalloc.start()
    gmm.gmm_em(x, k, max_iter=iterations, tol=0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 1.0 < most / (8 * n * k) < 6.0


@pytest.mark.derives("prop-twins")
@pytest.mark.parametrize("seed", range(5))
def test_twins_stay_twins(numbers: Floats, seed: int) -> None:
    """Beside a third component; the two together are one with the sum of their weights."""
    rng = np.random.default_rng(seed)
    twin, other = rng.uniform(0, 6, 2)
    v, u = rng.uniform(0.5, 2.0, 2)
    a, b, c = rng.dirichlet([2, 2, 2])
    apart = one_pass(
        numbers, np.array([twin, twin, other]), np.array([v, v, u]), np.array([a, b, c])
    )
    one = one_pass(numbers, np.array([twin, other]), np.array([v, u]), np.array([a + b, c]))
    for values, joined in zip(apart[:2], one[:2], strict=True):
        assert values[0] == pytest.approx(values[1], rel=1e-12)
        np.testing.assert_allclose(values[[0, 2]], joined, rtol=1e-12)
    assert apart[2][0] / apart[2][1] == pytest.approx(a / b, rel=1e-12)
    assert apart[2][0] + apart[2][1] == pytest.approx(one[2][0], rel=1e-12)


def test_twins_of_the_function_never_reach_the_best() -> None:
    x = np.r_[np.full(6, 1.0), 3.9, 4.0, 4.2, 4.4, 7.0, 7.1, 7.3, 7.4]
    by_twins: list[float] = []
    by_others: list[float] = []
    for seed in range(60):
        first = np.random.RandomState(seed).choice(len(x), 3, replace=False)
        result = gmm.gmm_em(x, 3, max_iter=300, tol=1e-10, seed=seed)
        equal = len(np.unique(x[first])) < 3
        (by_twins if equal else by_others).append(result["log_likelihood"])
        if equal:
            assert len(np.unique(np.round(result["means"], 9))) < 3
    assert by_twins
    assert max(by_twins) < max(by_others) - 10


def test_almost_twins_part_by_the_quotient_of_variances() -> None:
    """To first order the distance is multiplied by s²/v."""
    x = np.random.default_rng(0).standard_normal(4000)
    x -= x.mean()
    for v in (0.7, 1.0, 1.6):
        delta = 1e-4
        means, _, _ = one_pass(x, np.array([-delta, delta]) / 2, np.full(2, v), np.full(2, 0.5))
        assert (means[1] - means[0]) / delta == pytest.approx(x.var() / v, rel=1e-4)


def test_blocks_give_the_same_pass(numbers: Floats) -> None:
    state = np.array([1.0, 5.0]), np.ones(2), np.full(2, 0.5)
    sums = np.zeros((3, 2))
    for block in np.array_split(numbers, 3):
        away = block[:, None] - state[0]
        p = state[2] * np.exp(-0.5 * away**2)
        r = p / p.sum(axis=1, keepdims=True)
        sums += [r.sum(0), (r * away).sum(0), (r * away**2).sum(0)]
    shift = sums[1] / sums[0]
    means, variances, weights = one_pass(numbers, *state)
    np.testing.assert_allclose(state[0] + shift, means, rtol=1e-12)
    np.testing.assert_allclose(sums[2] / sums[0] - shift**2, variances, rtol=1e-12)
    np.testing.assert_allclose(sums[0] / len(numbers), weights, rtol=1e-12)


def test_nothing_left_is_an_error_of_the_package(numbers: Floats) -> None:
    start = gmm.Mixture(np.full(3, 1 / 3), [[1.0], [5.0], [400.0]], np.ones(3), "VII")
    with pytest.raises(gmm.SingularCovarianceError, match=r"^component 2 is responsible"):
        gmm.fit(numbers[:, None], 3, "VII", start=start)
