"""Statistics add exactly and move between centres exactly, in every kind of storage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gmm.e_step import expected_statistics
from gmm.statistics import Statistics

KINDS = ("full", "tied", "diag", "spherical")


def example(kind: str, n: int = 30, k: int = 3, d: int = 2, seed: int = 0) -> Statistics:
    rng = np.random.default_rng(seed)
    X, shares = rng.standard_normal((n, d)), rng.dirichlet(np.ones(k), n)
    return expected_statistics(X, shares, rng.standard_normal((k, d)), kind, log_likelihood=-1.5)


def assert_same(a: Statistics, b: Statistics, rtol: float = 1e-12) -> None:
    assert a.kind == b.kind
    for name in ("centres", "counts", "first", "second", "log_likelihood", "n_rows"):
        np.testing.assert_allclose(
            getattr(a, name), getattr(b, name), rtol=rtol, atol=1e-12, err_msg=name
        )


@pytest.mark.derives("thm-merging", "eq-expected-statistics")
@pytest.mark.parametrize("kind", KINDS)
@given(cut=st.integers(0, 40), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_merged_statistics_of_parts_are_those_of_the_whole(kind: str, cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, shares = rng.standard_normal((40, 3)), rng.dirichlet(np.ones(2), 40)
    weights, centres = rng.uniform(0, 2, 40), rng.standard_normal((2, 3))
    whole = expected_statistics(X, shares, centres, kind, weights, log_likelihood=2.0)
    parts = [
        expected_statistics(X[s], shares[s], centres, kind, weights[s], log_likelihood=1.0)
        for s in (slice(None, cut), slice(cut, None))
    ]
    assert_same(parts[0] + parts[1], whole)


@pytest.mark.derives("eq-shift-centre", "thm-merging")
@pytest.mark.parametrize("kind", KINDS)
def test_statistics_about_another_centre_are_those_computed_there(kind: str) -> None:
    rng = np.random.default_rng(5)
    X, shares = rng.standard_normal((30, 2)), rng.dirichlet(np.ones(3), 30)
    here, there = rng.standard_normal((2, 3, 2))
    moved = expected_statistics(X, shares, here, kind).shifted(there)
    assert_same(moved, expected_statistics(X, shares, there, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_with_different_centres_merge_about_the_first(kind: str) -> None:
    a, b = example(kind, seed=1), example(kind, seed=2)
    assert_same(a + b, a + b.shifted(a.centres))
    assert_same((a + b).shifted(b.centres), b + a)


@pytest.mark.parametrize("kind", KINDS)
def test_scatter_does_not_depend_on_the_centre(kind: str) -> None:
    statistics = example(kind)
    at_means = statistics.shifted(statistics.means())
    np.testing.assert_allclose(statistics.scatter(), at_means.second, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(at_means.first, 0.0, atol=1e-13)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_scatter_is_symmetric_to_the_last_bit(kind: str) -> None:
    """Also where moments are not: beside a tiny variance their rounding is not small."""
    statistics = example(kind, d=4)
    noise = 1e-16 * np.random.default_rng(1).standard_normal(statistics.second.shape)
    scatter = replace(statistics, second=statistics.second + noise).scatter()
    np.testing.assert_array_equal(scatter, np.swapaxes(scatter, -1, -2))
    np.testing.assert_allclose(scatter, statistics.scatter(), atol=1e-13)


def test_statistics_of_different_kinds_or_sizes_do_not_add() -> None:
    with pytest.raises(ValueError, match="statistics: expected the same kind and sizes"):
        example("full") + example("diag")
    with pytest.raises(ValueError, match="statistics: expected the same kind and sizes"):
        example("full", k=2) + example("full", k=3)
    with pytest.raises(TypeError):
        example("full") + 1  # type: ignore[operator]  # the error is what is tested


def test_far_from_the_origin_nothing_cancels() -> None:
    """Centres near the data keep the moments exact, however far away the data are."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((100, 2))
    offset = 2.0**40  # a power of two, so that adding it to multiples of 2**-10 is exact
    X = np.round(X * 1024) / 1024
    one = np.ones((100, 1))
    near = expected_statistics(X, one, np.zeros((1, 2)), "full")
    far = expected_statistics(X + offset, one, np.full((1, 2), offset), "full")
    np.testing.assert_array_equal(near.second, far.second)
    assert (replace(far, centres=near.centres).means() == near.means()).all()


def test_sizes_and_weight() -> None:
    statistics = example("full")
    assert (statistics.n_components, statistics.n_features, statistics.n_rows) == (3, 2, 30)
    assert statistics.total_weight == pytest.approx(30, rel=1e-14)
