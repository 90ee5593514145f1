"""What a mixture says of rows of every kind, wherever they are."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import gmm
from fuzz.data import (
    SEEDS,
    Floats,
    Table,
    assert_sound,
    cases,
    mixtures,
    outcome,
    reference,
    reference_log_density,
    tables,
)
from gmm import algebra, missing
from gmm.missing import MISSING


@st.composite
def rows_for(draw: Any, mixture: gmm.Mixture) -> Floats:
    """Rows at components, near them, far away, or as far away as numbers go."""
    rng = np.random.default_rng(draw(SEEDS))
    n = draw(st.integers(1, 30))
    labels = rng.integers(mixture.n_components, size=n)
    steps = rng.standard_normal((n, mixture.n_features))
    far = 10.0 ** draw(st.sampled_from((-3, 0, 0, 0, 1, 5, 20, 100, 140)))
    with np.errstate(over="ignore"):
        X = mixture.means[labels] + far * steps * np.sqrt(mixture.variances[labels])
        X *= 10.0 ** draw(st.sampled_from((0, 0, 0, 0, 0, 150, 300)))
    return np.asarray(np.clip(X, -1.7e308, 1.7e308))


@cases(400)
@given(data=st.data(), mixture=mixtures())
def test_densities_and_shares_are_those_of_scipy(data: st.DataObject, mixture: gmm.Mixture) -> None:
    X = data.draw(rows_for(mixture))
    before = X.copy()
    densities = outcome(lambda: mixture.log_density(X))
    shares = outcome(lambda: mixture.responsibilities(X))
    parts = outcome(lambda: mixture.component_log_densities(X))
    labels = outcome(lambda: mixture.predict(X))
    np.testing.assert_array_equal(X, before)
    assert (densities is None) == (shares is None) == (parts is None) == (labels is None)
    if densities is None:
        return
    assert np.isfinite(densities).all()
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)
    with np.errstate(over="ignore", invalid="ignore"):
        joint, errors = reference(mixture, X)
        wanted, bounds = reference_log_density(mixture, X)
        assert (~(np.abs(densities - wanted) > bounds)).all()
        assert (~(np.abs(parts - joint) > 1e-9 * (1 + np.abs(joint)) + 20 * errors)).all()
    rest = np.sort(shares, axis=1)[:, -2:]
    clear = (rest[:, -1] - rest[:, 0] > 1e-9) if shares.shape[1] > 1 else np.ones(len(X), bool)
    np.testing.assert_array_equal(labels[clear], shares.argmax(axis=1)[clear])
    assert (shares[:, mixture.weights == 0] == 0).all()


@cases(150)
@given(table=tables(), mixture=mixtures(extreme=False))
def test_rows_of_any_type_and_layout(table: Table, mixture: gmm.Mixture) -> None:
    """They mean the same numbers, or are refused; and they stay as they are."""
    before = table.copied()
    for method in (mixture.log_density, mixture.responsibilities, mixture.predict):
        found = outcome(method, table.X)
        wanted = outcome(method, table.values)
        assert table.is_untouched(before)
        assert (found is None) == (wanted is None)
        if found is not None:
            assert type(found) is np.ndarray
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@cases(250)
@given(data=st.data(), mixture=mixtures())
def test_marginals_and_conditionals_are_mixtures(data: st.DataObject, mixture: gmm.Mixture) -> None:
    d = mixture.n_features
    kept = data.draw(st.lists(st.integers(0, d - 1), unique=True, min_size=1, max_size=d))
    marginal = outcome(lambda: mixture.marginal(kept))
    if marginal is not None:
        assert_sound(marginal)
        np.testing.assert_array_equal(marginal.means, mixture.means[:, kept])
        matrices = mixture.covariances[:, kept][:, :, kept]
        np.testing.assert_allclose(marginal.covariances, matrices, rtol=1e-9)
    row = data.draw(rows_for(mixture))[0]
    conditional = outcome(lambda: mixture.conditional(kept, row[kept]))
    if conditional is None:
        return
    assert_sound(conditional)
    if (conditional.weights == 0).any():  # a weight may be too small for a number
        return
    joint, bounds = reference_log_density(mixture, row[None])
    alone = outcome(lambda: mixture.marginal(kept).log_density(row[None, kept]))
    rest = [i for i in range(d) if i not in kept]
    given_rest = outcome(lambda: conditional.log_density(row[None, rest]))
    if alone is not None and given_rest is not None and np.isfinite(bounds).all():
        more = reference_log_density(conditional, row[None, rest])[1] * 100
        difference = np.abs(alone + given_rest - joint)
        assert (difference <= 100 * bounds + more + 1e-7 * (1 + np.abs(alone))).all()


@cases(150)
@given(mixture=mixtures(), n=st.integers(0, 200), seed=SEEDS)
def test_draws_are_finite_and_repeatable(mixture: gmm.Mixture, n: int, seed: int) -> None:
    X, labels = mixture.sample(n, seed)
    assert X.shape == (n, mixture.n_features)
    assert np.isfinite(X).all()
    assert labels.shape == (n,)
    assert np.isin(labels, np.flatnonzero(mixture.weights)).all()
    again, _ = mixture.sample(n, seed)
    np.testing.assert_array_equal(X, again)
    if n:
        steps = np.abs(X - mixture.means[labels]) / np.sqrt(mixture.variances[labels])
        assert steps.max() < 10 + 1e-9 * np.abs(X / np.sqrt(mixture.variances[labels])).max()


@cases(150)
@given(data=st.data(), mixture=mixtures())
def test_incomplete_rows(data: st.DataObject, mixture: gmm.Mixture) -> None:
    X = data.draw(rows_for(mixture))
    rng = np.random.default_rng(data.draw(SEEDS))
    X[rng.random(X.shape) < 0.4] = np.nan
    before = X.copy()
    densities = outcome(lambda: missing.log_density(mixture, X))
    shares = outcome(lambda: missing.responsibilities(mixture, X))
    filled = outcome(lambda: mixture.impute(X))
    drawn = outcome(lambda: mixture.impute(X, draw=True, random_state=0))
    np.testing.assert_array_equal(X, before)
    if densities is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            wanted, bounds = reference_log_density(mixture, X)
            assert (~(np.abs(densities - wanted) > bounds)).all()
    if shares is not None:
        np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)
    for rows in (filled, drawn):
        if rows is not None:
            assert np.isfinite(rows).all()
            np.testing.assert_array_equal(rows[~np.isnan(X)], X[~np.isnan(X)])


@cases(100)
@given(mixture=mixtures())
def test_copies_are_the_same_and_none_can_be_changed(mixture: gmm.Mixture) -> None:
    for other in (copy.deepcopy(mixture), pickle.loads(pickle.dumps(mixture))):
        np.testing.assert_array_equal(other.means, mixture.means)
        np.testing.assert_array_equal(other.covariances, mixture.covariances)
    arrays = (mixture.weights, mixture.means, mixture.stored, mixture.covariances, mixture.mean)
    assert not any(array.flags.writeable for array in arrays)
    order = np.arange(mixture.n_components)[::-1]
    back = mixture.reordered(order).reordered(order)
    np.testing.assert_array_equal(back.means, mixture.means)


@cases(120)
@given(data=st.data(), mixture=mixtures())
def test_algebra_of_mixtures(data: st.DataObject, mixture: gmm.Mixture) -> None:
    d = mixture.n_features
    rng = np.random.default_rng(data.draw(SEEDS))
    moved = outcome(
        lambda: algebra.affine(mixture, 2.0 * np.eye(d)[rng.permutation(d)], rng.random(d))
    )
    if moved is not None:
        assert_sound(moved)
    other = data.draw(mixtures(features=d, extreme=data.draw(st.booleans())))
    made = outcome(lambda: algebra.product(mixture, other))
    if made is not None:
        assert_sound(made[0])
        assert not np.isnan(made[1])
    found = outcome(lambda: algebra.divergence_bounds(mixture, other))
    if found is not None:
        assert found[0] <= found[1] + 1e-6 * (1 + abs(found[1]))
    shared = outcome(lambda: algebra.overlap(mixture))
    if shared is not None:
        assert np.isfinite(shared).all()


ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.floats(), max_size=3),
    st.lists(st.lists(st.floats(), max_size=3), max_size=3),
    st.lists(st.integers(-4, 4), max_size=3),
    st.sampled_from([np.nan, 1j, b"x", {}, object(), np.zeros((2, 2, 2)), np.array("a"), MISSING]),
)


@cases(400)
@given(weights=ANY, means=ANY, covariances=ANY, family=st.sampled_from(("VVV", "VII", "EII", 3)))
def test_arguments_that_make_no_sense_make_no_mixture(
    weights: Any, means: Any, covariances: Any, family: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = outcome(lambda: gmm.Mixture(weights, means, covariances, family))
    if made is not None:
        assert_sound(made)


@cases(300)
@given(argument=ANY, seed=SEEDS)
def test_arguments_that_make_no_sense_are_refused_by_every_method(argument: Any, seed: int) -> None:
    mixture = gmm.Mixture([0.4, 0.6], [[0.0, 1.0], [3.0, 4.0]], [np.eye(2), 2 * np.eye(2)])
    for method in (mixture.log_density, mixture.responsibilities, mixture.predict, mixture.impute):
        found = outcome(method, argument)
        assert found is None or np.isfinite(found).all()
    marginal = outcome(lambda: mixture.marginal(argument))
    assert marginal is None or marginal.n_features <= 2
    conditional = outcome(lambda: mixture.conditional([seed % 2], argument))
    if conditional is not None:
        assert_sound(conditional)
