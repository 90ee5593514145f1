"""Acceleration: never lower than EM, always feasible, and faster where EM is slow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gmm
from gmm.convergence import Accelerator, Anderson, Squarem, WhenSlow, accelerator

Floats = NDArray[np.float64]
NAMES = ("auto", "squarem", "anderson")


def iterate(
    helper: Accelerator, matrix: Floats, limit: Floats, point: Floats, passes: int
) -> Floats:
    """Iterate a linear map towards its fixed point, taking every candidate."""
    gain = 1.0
    for _ in range(passes):
        image = limit + matrix @ (point - limit)
        candidate = helper.propose(point, image, gain)
        point = image if candidate is None else candidate
        gain *= 0.9
    return point


@pytest.mark.derives("eq-squarem")
def test_squarem_is_exact_after_two_steps_of_a_map_with_one_rate() -> None:
    """If all errors shrink by ρ, then ‖r‖ / ‖v‖ = 1 / (1 − ρ), and the candidate is the limit."""
    limit, start = np.array([1.0, -2.0, 3.0]), np.array([4.0, 0.0, 0.0])
    helper = Squarem()
    rate = 0.9 * np.eye(3)
    one = limit + rate @ (start - limit)
    two = limit + rate @ (one - limit)
    assert helper.propose(start, one, 1.0) is None
    candidate = helper.propose(one, two, 0.9)
    assert candidate is not None
    np.testing.assert_allclose(candidate, limit, atol=1e-12)


@pytest.mark.derives("eq-anderson")
def test_anderson_solves_a_linear_map_in_as_many_steps_as_it_has_dimensions() -> None:
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    matrix, limit = q @ np.diag([0.99, 0.9, 0.5, 0.1]) @ q.T, rng.standard_normal(4)
    helper = Anderson()
    helper.damping = 1e-14
    reached = iterate(helper, matrix, limit, np.zeros(4), 6)
    plain = np.zeros(4)
    for _ in range(6):
        plain = limit + matrix @ (plain - limit)
    # damping keeps it from being exact
    assert np.abs(reached - limit).max() < 1e-3 * np.abs(plain - limit).max()


def test_the_first_extrapolations_are_short() -> None:
    limit, start = np.zeros(2), np.ones(2)
    rate = 0.999
    candidate = None
    helper = Squarem()
    helper.propose(start, rate * start, 1.0)
    candidate = helper.propose(rate * start, rate**2 * start, 1.0)
    assert candidate is not None
    r, v = (rate - 1) * start, (rate - 1) ** 2 * start
    np.testing.assert_allclose(candidate, start + 32 * r + 256 * v, rtol=1e-12)
    helper.rejected()
    assert helper.longest == 16.0
    assert (limit == 0).all()


def test_a_fast_sequence_is_left_alone() -> None:
    helper = WhenSlow(Squarem())
    point = np.ones(2)
    for gain in (1.0, 0.5, 0.2, 0.05):
        assert helper.propose(point, 0.5 * point, gain) is None
        point = 0.5 * point
    assert not helper.slow
    helper.propose(point, 0.9 * point, 0.04)
    assert helper.slow
    helper.rejected()


def test_names() -> None:
    assert accelerator("none") is None
    assert isinstance(accelerator("squarem"), Squarem)
    assert isinstance(accelerator("auto"), WhenSlow)
    with pytest.raises(ValueError, match="accelerate: expected one of 'none', 'auto'"):
        gmm.fit(np.random.default_rng(0).standard_normal((9, 1)), 2, accelerate="faster")


@pytest.mark.derives("thm-safeguard")
@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 4))
@settings(max_examples=12, deadline=None)
def test_an_accelerated_likelihood_never_decreases(name: str, seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((120, d)) + 2 * rng.integers(0, 2, (120, 1))
    for family in ("VVV", "EEE", "VVI", "VII"):
        seen: list[float] = []

        def note(progress: gmm.Progress, seen: list[float] = seen) -> None:
            seen.append(progress.log_likelihood)
            assert (progress.mixture.weights > 0).all()

        try:
            fit = gmm.fit(X, 3, family, start="random", accelerate=name, max_iter=60,
                          callback=note, random_state=seed)  # fmt: skip
        except gmm.SingularCovarianceError:
            pass  # a small cluster has collapsed, as it does under plain EM
        else:
            assert (np.diff(fit.trace.passes) >= 1).all()
            assert fit.n_passes == fit.trace.passes[-1]
        values = np.array(seen)
        assert (np.diff(values) >= -1e-11 * np.abs(values[1:])).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_slow_fit_takes_far_fewer_passes_to_the_same_end(name: str, old_faithful: Floats) -> None:
    """One covariance for three components: EM needs some 260 passes for a millionth of a nat."""
    plain = gmm.fit(old_faithful, 3, "VVI", tol=1e-12, random_state=0)
    fast = gmm.fit(old_faithful, 3, "VVI", tol=1e-12, accelerate=name, random_state=0)
    assert fast.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-5)
    target = plain.log_likelihood - 1e-5
    needed = [
        int(f.trace.passes[np.argmax(f.trace.log_likelihood >= target)]) for f in (plain, fast)
    ]
    assert needed[1] < needed[0] / 2.5


def test_auto_is_plain_em_where_that_is_fast(old_faithful: Floats) -> None:
    plain, auto = (
        gmm.fit(old_faithful, 2, accelerate=name, random_state=0) for name in ("none", "auto")
    )
    np.testing.assert_array_equal(plain.trace.log_likelihood, auto.trace.log_likelihood)


@pytest.mark.parametrize("name", ["squarem", "anderson"])
def test_acceleration_works_beyond_the_plane(name: str) -> None:
    X = gmm.datasets.iris().X
    plain = gmm.fit(X, 3, "EEE", tol=1e-11, random_state=0)
    fast = gmm.fit(X, 3, "EEE", tol=1e-11, accelerate=name, random_state=0)
    assert fast.log_likelihood >= plain.log_likelihood - 1e-4
