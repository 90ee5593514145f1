"""The gamma function's logarithm and derivative, beside fifty digits and SciPy."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from gmm.special import digamma, log_beta, log_gamma, wishart_digamma, wishart_log_gamma

ARGUMENTS = np.concatenate([10.0 ** np.linspace(-8, 12, 81), np.linspace(0.05, 30.0, 120)])


@pytest.mark.derives("eq-gamma-function", "eq-digamma")
def test_values_are_those_of_fifty_digits() -> None:
    with mpmath.workdps(50):
        for ours, exact in ((log_gamma, mpmath.loggamma), (digamma, mpmath.digamma)):
            for x, value in zip(ARGUMENTS, ours(ARGUMENTS), strict=True):
                reference = exact(mpmath.mpf(float(x)))
                # a few roundings of the value, or of one where the value passes through zero
                assert abs(value - reference) < 2e-15 * max(1, abs(reference))


@given(st.floats(1e-3, 1e6))
def test_recurrences_hold(x: float) -> None:
    assert digamma(x + 1) == pytest.approx(digamma(x) + 1 / x, abs=1e-14 * (1 + 1 / x))
    step = log_gamma(x + 1) - log_gamma(x)  # differences lose what is common to the two
    assert step == pytest.approx(np.log(x), abs=4e-16 * max(16, 4 * abs(float(log_gamma(x)))))


def test_shapes_are_kept() -> None:
    for function in (digamma, log_gamma):
        assert function(np.ones((2, 3))).shape == (2, 3)
        assert np.shape(function(1.0)) == ()
    assert wishart_digamma(np.full(4, 5.0), 3).shape == (4,)
    assert wishart_log_gamma(5.0, 3).shape == ()


def test_the_beta_function_is_scipys() -> None:
    a, b = np.array([0.01, 1.0, 30.0]), np.array([2.0, 0.5, 1e4])
    np.testing.assert_allclose(log_beta(a, b), scipy.special.betaln(a, b), rtol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_multivariate_gamma_function_is_scipys(d: int) -> None:
    nu = d - 1 + np.array([0.1, 1.0, 7.3, 400.0])
    pi_powers = 0.25 * d * (d - 1) * np.log(np.pi)
    expected = [scipy.special.multigammaln(0.5 * v, d) for v in nu]
    np.testing.assert_allclose(wishart_log_gamma(nu, d) + pi_powers, expected, rtol=1e-13)
    expected = [scipy.special.digamma(0.5 * (v - np.arange(d))).sum() for v in nu]
    np.testing.assert_allclose(wishart_digamma(nu, d), expected, rtol=1e-13)
