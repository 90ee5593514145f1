"""Fits of rows of every kind."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import gmm
from fuzz.data import (
    EPS,
    NAMES,
    SEEDS,
    STARTS,
    Floats,
    Table,
    assert_never_falls,
    assert_sound,
    cases,
    outcome,
    reference_log_density,
    tables,
    weights_of,
)
from gmm.convergence import ACCELERATIONS


@st.composite
def options(draw: Any, d: int) -> dict[str, Any]:
    """Options of a fit, most of them as they are by default."""
    families = NAMES if d == 1 else [name for name in NAMES if len(name) == 3]
    chosen: dict[str, Any] = {
        "family": draw(st.sampled_from(families)),
        "start": draw(st.sampled_from(("k-means", *STARTS))),
        "accelerate": draw(st.sampled_from(("none", *ACCELERATIONS))),
        "max_iter": draw(st.sampled_from((0, 1, 5, 12))),
        "random_state": draw(SEEDS),
    }
    if draw(st.integers(0, 3)) == 0:
        chosen["n_starts"] = 2 if chosen["start"] != "octant" else 1
    bound = draw(st.sampled_from(("none", "none", "prior", "ridge", "strange ridge")))
    if bound == "prior":
        chosen["prior"] = "default"
    elif bound != "none":
        chosen["ridge"] = 10.0 ** draw(
            st.integers(-8, 2) if bound == "ridge" else st.integers(-300, 300)
        )
    return chosen


def assert_fit(fit: gmm.Fit, X: Floats, weights: Any, chosen: dict[str, Any]) -> None:
    """A sound mixture, whose log-likelihood is what it says, after a rise."""
    assert_sound(fit.mixture)
    densities, errors = reference_log_density(fit.mixture, X)
    counts = np.ones(len(X)) if weights is None else np.asarray(weights, dtype=np.float64)
    seen = counts > 0  # rows that do not count may be at any distance
    counts, densities, errors = counts[seen], densities[seen], errors[seen]
    slack = float(counts @ errors)
    assert abs(fit.log_likelihood - counts @ densities) <= slack
    if "prior" not in chosen and "ridge" not in chosen:
        assert_never_falls(fit.trace.log_likelihood, float(counts.sum()), slack)
    assert fit.trace.log_likelihood[-1] == fit.log_likelihood


def nearness(fit: gmm.Fit, X: Floats) -> float:
    """How far rounding may have moved log-densities on the way, where covariances were narrow.

    By its errors in densities, and in variances, from moments about a point at some distance.
    """
    reach = np.abs(X - X.mean(axis=0)).max(axis=0)
    mixtures = fit.trace.mixtures.values()
    moments = max(float((reach**2 / mixture.variances).max()) for mixture in mixtures)
    densities = max(float(reference_log_density(mixture, X)[1].max()) for mixture in mixtures)
    return densities + 16 * EPS * moments


@cases(700)
@given(data=st.data(), table=tables())
def test_a_fit_is_sound_or_refused_by_name(data: st.DataObject, table: Table) -> None:
    n, d = table.values.shape
    k = data.draw(st.one_of(st.integers(1, 4), st.integers(1, n + 2)))
    weights = data.draw(weights_of(n))
    chosen = data.draw(options(d))
    before = table.copied()
    fit = outcome(lambda: gmm.fit(table.X, k, sample_weight=weights, **chosen))
    assert table.is_untouched(before)
    if fit is not None:
        assert fit.mixture.means.shape == (k, d)
        assert_fit(fit, table.values, weights, chosen)


@cases(200)
@given(data=st.data(), table=tables(least_rows=4))
def test_missing_values_of_any_pattern(data: st.DataObject, table: Table) -> None:
    n, d = table.values.shape
    rng = np.random.default_rng(data.draw(SEEDS))
    X = table.values.copy()
    X[rng.random((n, d)) < data.draw(st.sampled_from((0.0, 0.1, 0.4, 0.9)))] = np.nan
    k = data.draw(st.integers(1, 3))
    weights = data.draw(weights_of(n))
    chosen = data.draw(options(d))
    before = X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gmm.MissingDataWarning)
        fit = outcome(lambda: gmm.fit(X, k, sample_weight=weights, missing="em", **chosen))
    np.testing.assert_array_equal(X, before)
    if fit is not None:
        told = ~np.isnan(X).all(axis=1)
        assert_fit(fit, X[told], None if weights is None else weights[told], chosen)


@cases(120)
@given(
    table=tables(least_rows=8, plain=True),
    k=st.integers(1, 3),
    family=st.sampled_from(("VVV", "EEE", "VVI", "VII", "VEV", "EII")),
    exponent=st.integers(-400, 400),
    seed=SEEDS,
)
def test_units_that_are_powers_of_two_change_nothing(
    table: Table, k: int, family: str, exponent: int, seed: int
) -> None:
    """Everything is scaled exactly, so that nothing but logarithms is rounded otherwise."""
    X, unit = table.values, 2.0**exponent

    def fitted(rows: Floats) -> Any:
        return outcome(
            lambda: gmm.fit(rows, k, family, max_iter=4, tol=0.0, keep="all", random_state=seed)
        )

    one, other = fitted(X), fitted(X * unit)
    if one is None or other is None:  # on the border of what is singular, either may be
        return
    n, d = X.shape
    near = nearness(one, X)
    np.testing.assert_allclose(
        other.mixture.means / unit, one.mixture.means, rtol=1e-5 + near, atol=1e-5 + near
    )
    wanted = one.log_likelihood - n * d * exponent * np.log(2.0)
    size = n + abs(one.log_likelihood) + abs(wanted)
    assert abs(other.log_likelihood - wanted) < 1e-6 * size + n * near


@cases(100)
@given(data=st.data(), table=tables(least_rows=8), seed=SEEDS)
def test_the_same_call_gives_the_same_bits(data: st.DataObject, table: Table, seed: int) -> None:
    chosen = {**data.draw(options(table.values.shape[1])), "random_state": seed}
    first = outcome(lambda: gmm.fit(table.X, 2, **chosen))
    with gmm.threads.use(1):
        second = outcome(lambda: gmm.fit(table.X, 2, **chosen))
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        np.testing.assert_array_equal(first.mixture.means, second.mixture.means)
        np.testing.assert_array_equal(first.mixture.stored, second.mixture.stored)
        assert first.log_likelihood == second.log_likelihood


@cases(100)
@given(
    table=tables(least_rows=10, plain=True),
    k=st.integers(1, 3),
    family=st.sampled_from(("VVV", "EEE", "VVI", "VII", "EVE", "VEE")),
    seed=SEEDS,
)
def test_the_order_of_rows_and_the_place_of_features_do_not_matter(
    table: Table, k: int, family: str, seed: int
) -> None:
    """From given means; a sum in another order is rounded otherwise."""
    X = table.values
    n, d = X.shape
    rng = np.random.default_rng(seed)
    means = X[rng.choice(n, k, replace=False)]
    rows, columns = rng.permutation(n), rng.permutation(d)

    def fitted(values: Floats, start: Floats) -> Any:
        return outcome(
            lambda: gmm.fit(values, k, family, start=start, max_iter=3, tol=0.0, keep="all")
        )

    one = fitted(X, means)
    other = fitted(X[rows][:, columns], means[:, columns])
    if one is None or other is None:
        return
    spread = np.ptp(X, axis=0)
    spread[spread == 0] = 1.0
    errors = np.abs(other.mixture.means - one.mixture.means[:, columns]) / spread[columns]
    near = nearness(one, X)
    assert errors.max() < 1e-5 + near, errors
    assert (
        abs(one.log_likelihood - other.log_likelihood)
        < 1e-5 * (n + abs(one.log_likelihood)) + n * near
    )


@cases(80)
@given(data=st.data(), table=tables(least_rows=6), seed=SEEDS)
def test_rows_in_blocks_give_what_the_array_gives(
    data: st.DataObject, table: Table, seed: int
) -> None:
    X = table.values
    cuts = data.draw(st.lists(st.integers(1, len(X) - 1), unique=True, max_size=4))
    parts = np.split(X, sorted(cuts))
    family = data.draw(st.sampled_from(("VVV", "VVI", "VII") if X.shape[1] > 1 else ("V", "VVV")))

    def fitted(rows: Any) -> Any:
        return outcome(lambda: gmm.fit(rows, 2, family, max_iter=3, random_state=seed))

    fits = [fitted(rows) for rows in (X, gmm.rows.BlockRows(parts))]
    for fit in fits:
        if fit is not None:
            assert_fit(fit, X, None, {})
