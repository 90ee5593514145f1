"""Sums travel: how sums round, what shares do to noise, and how long a start is remembered."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import sympy
from conftest import random_mixture
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import gmm
from gmm.e_step import e_step
from gmm.m_step import m_step
from gmm.stepwise import matched_statistics

Floats = NDArray[np.float64]
UNIT = Fraction(1, 2**24)


def rounded_sum(values: list[np.float32], sizes: list[int]) -> tuple[np.float32, int]:
    """Add along a tree: the first of the sizes says where it is cut; and the height of the tree."""
    if len(values) == 1:
        return values[0], 0
    cut = 1 + sizes[0] % (len(values) - 1) if sizes else 1
    left, a = rounded_sum(values[:cut], sizes[1:])
    right, b = rounded_sum(values[cut:], sizes[1:])
    return np.float32(left + right), 1 + max(a, b)


@pytest.mark.derives("thm-tree-sum")
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.lists(st.integers(0, 100), max_size=12),
)
def test_sums_along_any_tree_keep_within_the_bound(numbers: list[float], cuts: list[int]) -> None:
    """Single precision against exact fractions; no cuts mean a running sum from the right."""
    # numbers so small that their sums might underflow are left out
    values = [np.float32(x) if abs(x) > 1e-20 else np.float32(0) for x in numbers]
    total, height = rounded_sum(values, cuts)
    exact = sum((Fraction(float(v)) for v in values), Fraction(0))
    size = sum((abs(Fraction(float(v))) for v in values), Fraction(0))
    assert abs(Fraction(float(total)) - exact) <= height * UNIT / (1 - height * UNIT) * size


@pytest.mark.derives("prop-who-adds")
def test_the_same_tree_gives_the_same_bits_in_any_order_of_time() -> None:
    """Nodes of a tree computed from left to right, and at random, as soon as they are ready."""
    rng = np.random.default_rng(0)
    leaves = list(rng.standard_normal(16))
    tree = {16 + i: (2 * i, 2 * i + 1) for i in range(8)}
    tree |= {24 + i: (16 + 2 * i, 17 + 2 * i) for i in range(4)}
    tree |= {28: (24, 25), 29: (26, 27), 30: (28, 29)}
    results = set()
    for _ in range(50):
        known = dict(enumerate(leaves))
        while 30 not in known:
            ready = [n for n, (a, b) in tree.items() if n not in known and {a, b} <= set(known)]
            node = ready[rng.integers(len(ready))]
            known[node] = known[tree[node][0]] + known[tree[node][1]]
        results.add(known[30])
    assert len(results) == 1
    assert results != {float(np.add.accumulate(leaves)[-1])}  # another tree, another rounding


@pytest.mark.derives("thm-damped")
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 1.0])
def test_a_damped_step_never_lowers_the_likelihood(share: float, family: str) -> None:
    for seed in range(8):
        X, _ = random_mixture(family, 3, 2, seed=seed).sample(200, seed)
        here = random_mixture(family, 3, 2, seed=100 + seed)
        found = e_step(X, here)
        statistics = matched_statistics(here)
        mixed = gmm.Statistics(
            found.kind,
            found.centres,
            (1 - share) * statistics.counts + share * found.counts / 200,
            (1 - share) * statistics.first + share * found.first / 200,
            (1 - share) * statistics.second + share * found.second / 200,
            0.0,
            200,
        )
        there = m_step(mixed, family)
        # strictly: a random mixture is no fixed point, and the gain is far above rounding
        assert there.log_likelihood(X) > found.log_likelihood + 1e-6


@pytest.mark.derives("lem-vanishing")
def test_what_the_lemma_says_vanishes_does_and_the_conditions_are_needed() -> None:
    t = np.arange(1.0, 200_001.0)

    def last(a: Floats, b: Floats) -> float:
        e = 5.0
        for share, more in zip(a.tolist(), b.tolist(), strict=True):
            e = (1 - share) * e + more
        return e

    assert last(t**-0.7, t**-0.9) < 0.2  # b / a = t^-0.2 = 0.09 at the end
    assert last(t**-0.7, t**-0.7) == pytest.approx(1.0, abs=0.01)  # b / a does not vanish
    assert last(0.5 * t**-1.5, 0 * t) > 1.0  # the sum of a is finite


@pytest.mark.derives("thm-step-sizes")
def test_weights_of_blocks_and_their_variance_symbolically() -> None:
    c = sympy.Symbol("c", positive=True)
    shares = [1 / (j + c) for j in range(1, 8)]
    weights = [c / (7 + c)] + [1 / (7 + c)] * 7
    products = [sympy.prod([1 - s for s in shares])] + [
        shares[i] * sympy.prod([1 - s for s in shares[i + 1 :]]) for i in range(7)
    ]
    for weight, product in zip(weights, products, strict=True):
        assert sympy.simplify(weight - product) == 0
    variance = sympy.Integer(0)
    for s in shares:
        variance = (1 - s) ** 2 * variance + s**2
    assert sympy.simplify(variance - 7 / (7 + c) ** 2) == 0


@pytest.mark.derives("thm-step-sizes")
@pytest.mark.parametrize("exponent", [0.3, 0.6, 0.8])
def test_the_variance_over_the_share_tends_to_one_half(exponent: float) -> None:
    variance, ratios = 0.0, []
    for t in range(1, 300_001):
        share = (t + 2.0) ** -exponent
        variance = (1 - share) ** 2 * variance + share**2
        if t in (3_000, 300_000):
            ratios.append(variance / share - 0.5)
    assert abs(ratios[1]) < 0.6 * abs(ratios[0])
    assert abs(ratios[1]) < 0.03


@pytest.mark.derives("thm-step-sizes")
def test_a_constant_share_leaves_a_floor() -> None:
    share, variance = 0.2, 0.0
    for _ in range(200):
        variance = (1 - share) ** 2 * variance + share**2
    assert variance == pytest.approx(share / (2 - share), rel=1e-12)


@pytest.mark.derives("prop-memory", "eq-memory")
@pytest.mark.parametrize("exponent", [0.55, 0.75, 1.0])
def test_how_long_a_start_is_remembered(exponent: float) -> None:
    """Error over prediction tends to a constant: the same at two late times."""
    rho, c = 0.8, 1.5
    t = np.arange(1.0, 1_000_001.0)
    logs = np.cumsum(np.log1p(-(1 - rho) * (t + c) ** -exponent))
    if exponent == 1.0:
        predicted = -(1 - rho) * np.log(t)
    else:
        predicted = -(1 - rho) / (1 - exponent) * (t + c) ** (1 - exponent)
    constant = logs - predicted
    assert constant[-1] == pytest.approx(constant[len(t) // 4], abs=0.02)
    assert abs(predicted[-1] - predicted[len(t) // 4]) > 0.2
