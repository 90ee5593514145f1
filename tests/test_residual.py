"""The staircase of residuals gives the densities and statistics of their definitions."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from conftest import random_mixture
from numpy.typing import NDArray

import gmm
from gmm.e_step import e_step, one_pass
from gmm.residual import STEP, Narrow, Residuals
from gmm.rows import as_rows
from gmm.sweep import Sweep

Floats = NDArray[np.float64]


def laid_out(X: Floats, centre: Floats) -> tuple[Floats, Floats]:
    """Rows as the form takes them: features-major with a first row of ones, and rows-major."""
    block = X - centre
    return np.vstack([np.ones(len(X)), block.T]), block


@pytest.mark.parametrize("d", [1, 2, STEP, STEP + 1, 3 * STEP + 5])
@pytest.mark.parametrize("rows", [1, 63, 700])
def test_the_log_joint_is_that_of_the_mixture(d: int, rows: int) -> None:
    """Whole and broken steps of the staircase, one block and several."""
    mixture = random_mixture("VVV", 3, d, seed=d)
    X = mixture.sample(rows, 0)[0]
    centre = X.mean(axis=0)
    joint = Residuals(mixture, centre).log_joint(laid_out(X, centre)[0])
    np.testing.assert_allclose(joint.T, mixture.log_joint(X), rtol=1e-10, atol=1e-10)


@pytest.mark.derives("eq-expected-statistics")
@pytest.mark.parametrize("weighted", [False, True])
def test_the_statistics_are_those_of_the_plain_e_step(weighted: bool) -> None:
    mixture = random_mixture("VVV", 4, 11, seed=1)
    X = mixture.sample(300, 0)[0]
    weights = np.random.default_rng(0).uniform(0, 2, 300) if weighted else None
    centre = X.mean(axis=0)
    got = Residuals(mixture, centre).statistics(*laid_out(X, centre), weights)
    wanted = e_step(X, mixture, weights)
    assert got.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-13)
    assert got.n_rows == 300
    for name in ("counts", "first", "second"):
        np.testing.assert_allclose(
            getattr(got, name), getattr(wanted, name), rtol=1e-9, atol=1e-10, err_msg=name
        )


def test_rows_without_responsibility_change_no_sum() -> None:
    """Components so far apart that each row has one: the others' moments lack it, to rounding."""
    mixture = gmm.Mixture([0.5, 0.5], [[0.0], [1e4]], [[[1.0]], [[1.0]]])
    X = np.array([[0.5], [-0.5], [1e4 + 1]])
    got = Residuals(mixture, np.zeros(1)).statistics(*laid_out(X, np.zeros(1)), None)
    np.testing.assert_allclose(got.counts, [2.0, 1.0], rtol=1e-15)
    np.testing.assert_allclose(got.first, [[0.0], [1.0]], atol=1e-12)
    np.testing.assert_allclose(got.second[:, 0, 0], [0.5, 1.0], rtol=1e-12)


@pytest.mark.derives("prop-residual-error")
def test_narrow_components_far_from_the_centre_keep_their_digits() -> None:
    """Widths of a millionth of the distance: the expanded form would be wrong by whole nats."""
    width = 2.0**-20
    mixture = gmm.Mixture([0.5, 0.5], [[-1.0], [1.0]], [[[width**2]], [[width**2]]])
    x = 1.0 + 1.5 * width
    joint = Residuals(mixture, np.zeros(1)).log_joint(np.array([[1.0], [x]]))
    with mpmath.workdps(50):
        z = (mpmath.mpf(x) - 1) / mpmath.mpf(width)
        exact = mpmath.log(0.5) - mpmath.log(mpmath.mpf(width)) - mpmath.log(2 * mpmath.pi) / 2
        exact -= z**2 / 2
        error = abs(float(joint[1, 0]) - exact)
    # the whitened mean, 2**20, is rounded to 2**-33; times the residual, and a few of them
    assert error < 8 * 2.0**-33


# ---------------------------------------------------------------- narrow components among others


def with_narrow(family: str, width: float, d: int) -> gmm.Mixture:
    """Two wide components and two narrow ones, of which one lies within a wide one."""
    rng = np.random.default_rng(3)
    means = np.vstack([rng.uniform(-3, 3, (3, d)), np.zeros(d)])
    means[3] = means[0] + 0.5
    kind = gmm.families.FAMILIES[family]
    square = np.array([1.0, 2.0, width**2, width**2])
    shape = {"full": (4, d, d), "diag": (4, d), "spherical": (4,)}[kind]
    unit = np.eye(d) if kind == "full" else np.ones(shape[1:])
    stored = square.reshape(4, *(1,) * len(shape[1:])) * unit
    return gmm.Mixture.from_stored(np.array([0.3, 0.3, 0.2, 0.2]), means, stored, family)


@pytest.mark.derives("prop-narrow")
@pytest.mark.parametrize("family", ["VVV", "VVI", "VII"])
@pytest.mark.parametrize("width", [1e-3, 1e-5, 1e-8, 1e-11])
@pytest.mark.parametrize("weighted", [False, True])
def test_narrow_components_among_wide_ones(family: str, width: float, weighted: bool) -> None:
    """Only the narrow ones change their form; all agree with the plain E-step."""
    mixture = with_narrow(family, width, 2)
    X = mixture.sample(800, 0)[0]
    weights = np.random.default_rng(1).uniform(0.1, 3, 800) if weighted else None
    got = Sweep(as_rows(X, weights), 4, mixture.kind)(mixture)
    wanted = one_pass(as_rows(X, weights), mixture)
    own = (got.centres == mixture.means).all(axis=1)
    assert own.tolist() == [False, False, width < 1e-2, width < 1e-2]
    # the wide ones are right to the bound of their form, 1e-10
    np.testing.assert_allclose(got.counts, wanted.counts, rtol=1e-9)
    np.testing.assert_allclose(got.means(), wanted.means(), rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(got.scatter(), wanted.scatter(), rtol=1e-9)
    assert got.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-12)


@pytest.mark.derives("prop-narrow")
def test_a_row_that_might_matter_is_never_left_out() -> None:
    """Exponents off by as much as the bound allows, in the worst direction, change nothing."""
    mixture = with_narrow("VVV", 1e-7, 2)
    X = mixture.sample(400, 0)[0]
    exact = mixture.log_joint(X).T / np.log(2)
    errors = np.array([0.0, 0.0, 0.3, 0.3])
    narrow = Narrow(mixture, errors, 0.0)
    for sign in (-1.0, 1.0):
        exponents = exact + sign * np.array([[0.0], [0.0], [1.0], [-1.0]]) * narrow.slack[2]
        matter = narrow.correct(exponents, X)
        kept = exponents > -1e299
        np.testing.assert_allclose(exponents[kept], exact[kept], rtol=1e-12)
        assert (exact - exact.max(axis=0) < -60)[~kept].all()
        assert [len(rows) for rows in matter] == kept[2:].sum(axis=1).tolist()
        assert all(0 < len(rows) < 400 for rows in matter)


def test_shares_of_narrow_components_are_taken_once() -> None:
    mixture = with_narrow("VII", 1e-9, 3)
    rows = np.vstack([mixture.means, mixture.means[2:]])
    narrow = Narrow(mixture, np.array([0.0, 0.0, 1.0, 1.0]), 0.0)
    shares = np.full((4, 6), 0.25)
    sums = np.zeros((4, 5))
    narrow.add_moments(sums, shares, rows, [np.array([2, 4]), np.array([3, 5])])
    np.testing.assert_array_equal(shares[2:], 0.0)
    np.testing.assert_array_equal(shares[:2], 0.25)
    np.testing.assert_array_equal(sums, [[0.0] * 5] * 2 + [[0.5, 0, 0, 0, 0]] * 2)
