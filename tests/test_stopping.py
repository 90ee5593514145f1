"""The stopping rules: where they stop, what moves them, what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from numpy.typing import NDArray

import gmm
from gmm.checks import FloatArray
from gmm.stopping import STOPPING_RULES, StoppingRule

Floats = NDArray[np.float64]

START = np.array([[3.4, 68.0], [3.5, 74.0]])


def _faithful() -> FloatArray:
    return gmm.datasets.old_faithful().X


@pytest.mark.derives("eq-stop-absolute", "eq-stop-mean", "eq-stop-relative", "eq-aitken")
@pytest.mark.parametrize("rule", STOPPING_RULES)
def test_each_rule_stops_at_the_first_iteration_that_meets_it(
    rule: str, old_faithful: Floats
) -> None:
    tol = 1e-5
    long = gmm.fit(
        old_faithful, 3, start="random", tol=0, max_iter=120, random_state=1
    ).trace.log_likelihood

    def met(t: int) -> bool:
        gain = long[t] - long[t - 1]
        if rule == "mean":
            return bool(abs(gain) / len(old_faithful) < tol)
        if rule == "absolute":
            return bool(abs(gain) < tol)
        if rule == "relative":
            return bool(abs(gain / long[t]) < tol)
        if t < 2:
            return False
        rate = gain / (long[t - 1] - long[t - 2])
        limit = long[t - 1] + gain / (1 - rate)
        return bool(0 <= rate < 1 and limit - long[t] < tol)

    first = next((t for t in range(1, len(long)) if met(t)), None)
    fit = gmm.fit(old_faithful, 3, start="random", stop=rule, tol=tol, max_iter=120, random_state=1)
    if first is None:
        assert fit.reason == "max_iter"
    else:
        assert (fit.n_iter, fit.reason) == (first, "converged")


def test_aitken_predicts_the_limit(old_faithful: Floats) -> None:
    limit = gmm.fit(old_faithful, 3, "EEE", tol=1e-15, random_state=0).log_likelihood
    for tol in (1e-2, 1e-4, 1e-6):
        fit = gmm.fit(old_faithful, 3, "EEE", stop="aitken", tol=tol, random_state=0)
        # the rule extrapolates linear convergence; it is no guarantee, hence the factor
        assert limit - fit.log_likelihood < 5 * tol


def _stops(log_likelihoods: FloatArray, total: float, stop: str, tol: float) -> int:
    """The first iteration at which the rule holds, from its definition."""
    for t in range(1, len(log_likelihoods)):
        now, gain = log_likelihoods[t], log_likelihoods[t] - log_likelihoods[t - 1]
        if stop == "absolute" and abs(gain) < tol:
            return t
        if stop == "mean" and abs(gain) < tol * total:
            return t
        if stop == "relative" and abs(gain) < tol * abs(now):
            return t
        if stop == "aitken" and t >= 2:
            c = gain / (log_likelihoods[t - 1] - log_likelihoods[t - 2])
            if 0 <= c < 1 and c / (1 - c) * gain < tol:
                return t
    raise AssertionError("the rule never held")


@pytest.mark.derives("eq-stop-absolute", "eq-stop-mean", "eq-stop-relative", "eq-aitken")
@pytest.mark.parametrize(
    ("stop", "tol"), [("absolute", 1e-4), ("mean", 1e-4), ("relative", 1e-6), ("aitken", 1e-3)]
)
def test_each_rule_stops_where_its_formula_says(stop: str, tol: float) -> None:
    X = _faithful()
    long = gmm.fit(X, 2, start=START, tol=0, max_iter=40)
    fit = gmm.fit(X, 2, start=START, tol=tol, stop=stop)
    assert fit.reason == "converged"
    assert fit.n_iter == _stops(long.trace.log_likelihood, len(X), stop, tol)


@pytest.mark.parametrize("tol", [0.0, 1e-9])
def test_aitken_takes_a_gain_of_nothing_for_the_end_if_there_may_be_one(tol: float) -> None:
    assert StoppingRule("aitken", tol, 1.0).is_met([-3.0, -1.0, -1.0], 2) == (tol > 0)


@pytest.mark.derives("prop-stopping-rules")
def test_units_move_only_the_relative_rule_and_weights_only_the_absolute_one() -> None:
    X = _faithful()
    long = gmm.fit(X, 2, start=START, tol=0, max_iter=40)
    unit = np.exp(-long.log_likelihood / (2 * len(X)))  # the log-likelihood becomes zero
    changed = {}
    for stop, tol in (("absolute", 1e-4), ("mean", 1e-6), ("relative", 1e-6)):
        plain = gmm.fit(X, 2, start=START, tol=tol, stop=stop)
        units = gmm.fit(X / unit, 2, start=START / unit, tol=tol, stop=stop)
        heavy = gmm.fit(
            X, 2, start=START, tol=tol, stop=stop, sample_weight=np.full(len(X), 1000.0)
        )
        np.testing.assert_allclose(
            heavy.trace.log_likelihood[:10], 1000 * plain.trace.log_likelihood[:10], rtol=1e-10
        )
        changed[stop] = (units.n_iter != plain.n_iter, heavy.n_iter != plain.n_iter)
    assert changed == {"absolute": (False, True), "mean": (False, False), "relative": (True, False)}


@pytest.mark.derives("thm-aitken")
def test_aitken_is_exact_for_one_mode_symbolically() -> None:
    limit, g, rho, t = sympy.symbols("limit g rho t", positive=True)

    def log_likelihood(s: sympy.Expr) -> sympy.Expr:
        return limit - g * rho**s

    gains = [log_likelihood(t - j) - log_likelihood(t - j - 1) for j in (0, 1)]
    c = sympy.simplify(gains[0] / gains[1])
    assert sympy.simplify(c - rho) == 0
    assert sympy.simplify(c / (1 - c) * gains[0] - g * rho**t) == 0


@pytest.mark.derives("thm-aitken")
def test_aitken_is_right_in_the_limit_and_hopeful_before_for_two_modes() -> None:
    t = np.arange(0, 60)
    remaining = 0.9**t + 5 * 0.3**t
    gains = remaining[:-1] - remaining[1:]  # gains[s] is that of iteration s + 1
    c = gains[1:] / gains[:-1]
    ratio = c / (1 - c) * gains[1:] / remaining[2:]
    assert (ratio < 1 + 1e-12).all()  # too hopeful, up to rounding
    assert ratio[0] < 0.8
    # the second mode fades like (1/3)^t: nothing of it is left after 58 iterations but rounding
    assert ratio[-1] == pytest.approx(1, abs=1e-9)


@pytest.mark.derives("thm-aitken")
def test_aitken_predicts_the_end_of_a_real_run() -> None:
    long = gmm.fit(_faithful(), 3, start="random", random_state=3, tol=0, max_iter=450)
    ell = long.trace.log_likelihood
    gains = np.diff(ell)
    for t in (70, 100):
        c = gains[t - 1] / gains[t - 2]
        # the ratio of gains has converged to about one per cent there
        assert c / (1 - c) * gains[t - 1] == pytest.approx(ell[-1] - ell[t], rel=0.03)
