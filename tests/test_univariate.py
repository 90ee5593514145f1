"""gmm_em against a literal transcription of its definition, and where that breaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gmm
from gmm.univariate import gmm_em


def literal(
    data: NDArray[np.float64], k: int, max_iter: int = 100, tol: float = 1e-6, seed: int = 42
) -> dict[str, Any]:
    """The definition, word by word, with plain densities."""
    n = len(data)
    mu = data[np.random.RandomState(seed).choice(n, k, replace=False)]
    var = np.full(k, max(data.var(), 1e-6))
    pi = np.full(k, 1 / k)
    old = None
    iteration = 0
    while iteration < max_iter:
        iteration += 1
        squares = (data[:, None] - mu) ** 2
        density = pi * np.exp(-squares / (2 * var)) / np.sqrt(2 * np.pi * var)
        r = density / density.sum(axis=1)[:, None]
        log_likelihood = np.log(density.sum(axis=1)).sum()
        for j in range(k):
            total = r[:, j].sum()
            mu[j] = (r[:, j] * data).sum() / total
            var[j] = max((r[:, j] * (data - mu[j]) ** 2).sum() / total, 1e-6)
            pi[j] = total / n
        if old is not None and abs(log_likelihood - old) < tol:
            break
        old = log_likelihood
    return {
        "means": mu,
        "variances": var,
        "weights": pi,
        "log_likelihood": old,
        "iterations": iteration,
    }


@pytest.mark.derives("eq-scalar-responsibilities", "eq-scalar-updates")
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_agrees_with_the_literal_definition(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    data = np.concatenate([rng.normal(0, 1, 25), rng.normal(4, 0.5 + rng.random(), 15)])
    ours, theirs = gmm_em(data, k, seed=seed), literal(data, k, seed=seed)
    assert ours["iterations"] == theirs["iterations"]
    for name in ("means", "variances", "weights", "log_likelihood"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_stops_at_max_iter_with_the_last_log_likelihood(iterations: int) -> None:
    data = gmm.datasets.old_faithful().X[:, 1]
    ours = gmm_em(data, 3, max_iter=iterations, tol=0.0)
    theirs = literal(data, 3, max_iter=iterations, tol=0.0)
    assert ours["iterations"] == iterations
    assert ours["log_likelihood"] == pytest.approx(theirs["log_likelihood"], rel=1e-12)


def test_a_number_60_deviations_away_does_no_harm() -> None:
    """There the literal form divides zero by zero; in logarithms nothing happens."""
    rng = np.random.default_rng(0)
    data = np.concatenate([rng.normal(0, 1, 20_000), rng.normal(8, 1, 20_000), [-60.0]])
    with np.errstate(all="ignore"):
        assert np.isnan(literal(data, 2, seed=2)["means"]).any()
    result = gmm_em(data, 2, seed=2, max_iter=500)
    order = np.argsort(result["means"])
    means, variances = (np.array(result[name])[order] for name in ("means", "variances"))
    # the far number belongs wholly to the lower component, whose moments it moves as it must
    lower = np.r_[data[:20_000], -60.0]
    np.testing.assert_allclose(means, [lower.mean(), 8.0], atol=0.03)
    np.testing.assert_allclose(variances, [lower.var(), 1.0], rtol=0.03)
    assert np.isfinite(result["log_likelihood"])


def test_agrees_with_the_multivariate_fit_on_one_feature() -> None:
    data = gmm.datasets.hastie().X[:, 0]
    scalar = gmm_em(data, 2, max_iter=2000, tol=1e-14)
    start = gmm.Mixture(
        scalar["weights"], np.array(scalar["means"])[:, None], scalar["variances"], "VII"
    )
    fit = gmm.fit(data[:, None], 2, "VII", start=start, max_iter=1)
    np.testing.assert_allclose(fit.mixture.means[:, 0], scalar["means"], rtol=1e-7)
    assert fit.log_likelihood == pytest.approx(scalar["log_likelihood"], rel=1e-12)


def test_returns_plain_lists_and_numbers() -> None:
    result = gmm_em(gmm.datasets.hastie().X[:, 0], 2)
    assert list(result) == ["means", "variances", "weights", "log_likelihood", "iterations"]
    for name in ("means", "variances", "weights"):
        values = result[name]
        assert type(values) is list
        assert all(type(v) is float for v in values)
    assert type(result["log_likelihood"]) is float
    assert type(result["iterations"]) is int


def test_variances_are_floored() -> None:
    result = gmm_em([1.0, 1.0, 1.0, 1.0], 2)
    assert result["variances"] == [1e-6, 1e-6]
    assert np.isfinite(result["log_likelihood"])
    assert result["means"] == [1.0, 1.0]


def test_one_component_has_the_moments_of_the_data() -> None:
    data = np.array([1.0, 2.0, 6.0])
    result = gmm_em(data, 1)
    assert result["means"] == pytest.approx([3.0])
    assert result["variances"] == pytest.approx([data.var()])
    assert result["iterations"] == 3  # the first has no predecessor, the second moves


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0, 2.0]], 1), ValueError, "data: expected a 1-D array"),
        (([], 1), ValueError, "data: expected at least 1 numbers, got 0"),
        (([1.0, 2.0], 3), ValueError, "data: expected at least 3 numbers, got 2"),
        (([1.0, np.nan], 1), ValueError, r"data: expected finite numbers, got NaN at \[1\]"),
        (([1.0, np.inf], 1), ValueError, r"data: expected finite numbers, got infinity"),
        ((["a", "b"], 1), TypeError, "data: expected real numbers"),
        (([1j, 2.0], 1), TypeError, "data: expected real numbers"),
        (([1.0, 2.0], 0), ValueError, "k: expected an integer of at least 1"),
        (([1.0, 2.0], 1.5), TypeError, "k: expected an integer, got 1.5"),
        (([1.0, 2.0], 1, 0), ValueError, "max_iter: expected an integer of at least 1"),
        (([1.0, 2.0], 1, 5, -1.0), ValueError, "tol: expected a finite number of at least 0"),
        (([1.0, 2.0], 1, 5, 1.0, -1), ValueError, "seed: expected an integer of at least 0"),
    ],
)
def test_bad_input_is_refused(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gmm_em(*arguments)
