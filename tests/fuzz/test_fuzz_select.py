"""Selections, variational fits, estimators, k-means and streams on rows of every kind."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import gmm
from fuzz.data import (
    SEEDS,
    Table,
    assert_never_falls,
    assert_sound,
    cases,
    mixtures,
    outcome,
    reference_log_density,
    tables,
    weights_of,
)
from gmm.agglomerative import agglomerative
from gmm.initial import STARTS, starting_mixture
from gmm.kmeans import kmeans, kmeans_plus_plus
from gmm.stepwise import IncrementalEM
from gmm.univariate import VARIANCE_FLOOR


@cases(150)
@given(data=st.data(), table=tables(most_rows=40, most_features=3), seed=SEEDS)
def test_a_selection_is_sound_or_refused_by_name(
    data: st.DataObject, table: Table, seed: int
) -> None:
    X, n, d = table.values, *table.values.shape
    families = ["VVV", "EEE", "VII", "EVI", "VEV", "VVE"] if d > 1 else ["E", "V"]
    chosen: dict[str, Any] = {
        "families": data.draw(st.lists(st.sampled_from(families), min_size=1, unique=True)),
        "criterion": data.draw(st.sampled_from(("bic", "aic", "icl", "bic", "cv"))),
        "prior": data.draw(st.sampled_from((None, None, "default"))),
        "ridge": data.draw(st.sampled_from((0.0, 0.0, 1e-3))),
        "n_folds": data.draw(st.integers(2, 6)),
    }
    weights = data.draw(weights_of(n))
    before = table.copied()
    found = outcome(
        lambda: gmm.select(table.X, range(1, 4), sample_weight=weights, random_state=seed, **chosen)
    )
    assert table.is_untouched(before)
    if found is None:
        return
    best = found.best
    assert_sound(best.mixture)
    densities, errors = reference_log_density(best.mixture, X)
    counts = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    assert abs(best.log_likelihood - counts @ densities) <= counts @ errors
    values = [value for _, _, value in found.ranking()]
    assert values == sorted(values)
    assert np.isfinite(values).all()


@cases(150)
@given(data=st.data(), table=tables(most_rows=40), seed=SEEDS)
def test_a_variational_fit_is_sound_or_refused_by_name(
    data: st.DataObject, table: Table, seed: int
) -> None:
    n = len(table.values)
    weights = data.draw(weights_of(n))
    before = table.copied()
    fit = outcome(
        lambda: gmm.fit_variational(
            table.X,
            data.draw(st.integers(1, 4)),
            data.draw(st.sampled_from(("VVV", "EEE", "VVI", "VII"))),
            weight_prior=data.draw(st.sampled_from(("dirichlet", "dirichlet-process"))),
            concentration=data.draw(st.sampled_from((None, 1e-3, 1e3))),
            accelerate=data.draw(st.sampled_from(("none", "squarem"))),
            max_iter=8,
            sample_weight=weights,
            random_state=seed,
        )
    )
    assert table.is_untouched(before)
    if fit is None:
        return
    assert_sound(fit.mixture)
    assert np.isfinite(fit.trace).all()
    counts = float(n if weights is None else np.sum(weights))
    near = reference_log_density(fit.mixture, table.values)[1].max()
    # the bound has terms of the prior that do not shrink with the weights of the rows
    assert_never_falls(fit.trace, counts, counts * near + 1e-12)
    shares = fit.responsibilities(table.values)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)
    assert np.isfinite(fit.predictive(table.values)).all()


@cases(120)
@given(data=st.data(), table=tables(most_rows=40), seed=st.integers(0, 2**31))
def test_estimators_follow_the_same_rules(data: st.DataObject, table: Table, seed: int) -> None:
    form = data.draw(st.sampled_from(("full", "tied", "diag", "spherical")))
    k = data.draw(st.integers(1, 4))
    kind = data.draw(st.sampled_from((gmm.GaussianMixture, gmm.BayesianGaussianMixture)))
    estimator = kind(n_components=k, covariance_type=form, max_iter=6, random_state=seed)
    before = table.copied()
    with warnings.catch_warnings():
        # scikit-learn's class, if it is there, or the package's own of the same name
        warnings.filterwarnings("ignore", "the fit stopped|.*converge")
        found = outcome(lambda: estimator.fit(table.X))
    assert table.is_untouched(before)
    if found is None:
        return
    assert_sound(estimator.mixture_)
    shares = estimator.predict_proba(table.X)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(estimator.predict(table.X), shares.argmax(axis=1))
    assert np.isfinite(estimator.score_samples(table.X)).all()


@cases(250)
@given(data=st.data(), table=tables(), seed=SEEDS)
def test_clusters_of_kmeans_are_those_of_the_nearest_centres(
    data: st.DataObject, table: Table, seed: int
) -> None:
    X, n = table.values, len(table.values)
    k = data.draw(st.one_of(st.integers(1, 4), st.integers(1, n + 1)))
    weights = data.draw(weights_of(n))
    before = table.copied()
    found = outcome(lambda: kmeans(table.X, k, seed, sample_weight=weights, max_iter=30))
    seeds = outcome(lambda: kmeans_plus_plus(table.X, k, seed, sample_weight=weights))
    assert table.is_untouched(before)
    assert (found is None) == (seeds is None)
    if found is None:
        return
    labels, centres = found
    kept = np.ones(n, bool) if weights is None else np.asarray(weights) > 0
    assert len(labels) == np.count_nonzero(kept)
    assert labels.min() >= 0
    assert labels.max() < k
    assert np.isfinite(centres).all()
    inside = np.abs(X[kept]).max(axis=0)
    assert (centres >= X[kept].min(axis=0) - 1e-9 * inside).all()
    assert (centres <= X[kept].max(axis=0) + 1e-9 * inside).all()
    assert len(seeds) == k


@cases(60)
@given(data=st.data(), table=tables(most_rows=30), seed=SEEDS)
def test_merging_gives_as_many_clusters_as_are_asked_for(
    data: st.DataObject, table: Table, seed: int
) -> None:
    k = data.draw(st.integers(1, len(table.values) + 1))
    before = table.copied()
    labels = outcome(lambda: agglomerative(table.X, k))
    assert table.is_untouched(before)
    if labels is not None:
        np.testing.assert_array_equal(np.unique(labels), np.arange(k))


@cases(150)
@given(data=st.data(), table=tables(), start=st.sampled_from(STARTS), seed=SEEDS)
def test_every_start_is_sound_or_refused_by_name(
    data: st.DataObject, table: Table, start: str, seed: int
) -> None:
    k = data.draw(st.integers(1, 6))
    family = data.draw(st.sampled_from(("VVV", "EEE", "VVI", "VII", "EVE", "VEV")))
    before = table.copied()
    found = outcome(lambda: starting_mixture(table.X, k, family, start, seed))
    assert table.is_untouched(before)
    if found is not None:
        assert_sound(found)


@cases(200)
@given(data=st.data(), table=tables(least_rows=2, most_features=3), seed=SEEDS)
def test_mixtures_from_elsewhere_as_starts(data: st.DataObject, table: Table, seed: int) -> None:
    """However far from the rows, however wide or narrow they are."""
    d = table.values.shape[1]
    start = data.draw(mixtures(features=d))
    fixed = data.draw(st.sampled_from(((), (), "means", "covariances", "weights")))
    accelerate = data.draw(st.sampled_from(("none", "squarem", "anderson")))
    means = data.draw(st.booleans())
    fit = outcome(
        lambda: gmm.fit(
            table.X,
            start.n_components,
            data.draw(st.sampled_from(("VVV", "VII", "VVI"))),
            start=start.means if means else start,
            fixed=fixed,
            accelerate=accelerate,
            max_iter=4,
        )
    )
    if fit is not None:
        assert_sound(fit.mixture)
        assert np.isfinite(fit.log_likelihood)


@cases(150)
@given(data=st.data(), start=mixtures(), seed=SEEDS)
def test_streams_learn_or_stay_as_they_are(
    data: st.DataObject, start: gmm.Mixture, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    stream = gmm.StepwiseEM(start, missing=data.draw(st.sampled_from(("raise", "em"))))
    for _ in range(4):
        n = data.draw(st.integers(1, 12))
        far = 10.0 ** data.draw(st.sampled_from((0, 0, 0, 3, 12)))
        block = start.sample(n, rng)[0]
        block = block + (far - 1.0) * rng.standard_normal(block.shape) * np.sqrt(
            start.variances.max(axis=0)
        )
        weights = data.draw(weights_of(n))
        before, steps, mixture = block.copy(), stream.n_steps, stream.mixture
        learnt = outcome(stream.update, block, weights)
        np.testing.assert_array_equal(block, before)
        assert_sound(stream.mixture)
        if learnt is None:
            assert stream.mixture is mixture
            assert stream.n_steps == steps
        else:
            assert np.isfinite(stream.log_likelihood)


@cases(60)
@given(data=st.data(), table=tables(least_rows=8), seed=SEEDS)
def test_incremental_passes_are_sound_or_refused_by_name(
    data: st.DataObject, table: Table, seed: int
) -> None:
    X = table.values
    start = outcome(lambda: starting_mixture(X, 2, "VVV", "random", seed))
    if start is None:
        return
    blocks = gmm.rows.BlockRows(np.array_split(X, data.draw(st.integers(1, 5))))
    learner = outcome(lambda: IncrementalEM(blocks, start))
    if learner is None:
        return
    for _ in range(3):
        if outcome(lambda: learner.run_pass() or True) is None:
            return
        assert_sound(learner.mixture)


@cases(150)
@given(table=tables(most_features=1), k=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_the_function_for_numbers(table: Table, k: int, seed: int) -> None:
    x = table.values[:, 0]
    found = outcome(lambda: gmm.gmm_em(x, k, max_iter=5, seed=seed))
    if found is not None:
        assert np.isfinite(found["means"]).all()
        assert min(found["variances"]) >= VARIANCE_FLOOR
        assert abs(sum(found["weights"]) - 1) < 1e-9
        assert not np.isnan(found["log_likelihood"])


@cases(150)
@given(data=st.data(), table=tables())
def test_one_normal_is_sound_or_refused_by_name(data: st.DataObject, table: Table) -> None:
    weights = data.draw(weights_of(len(table.values)))
    before = table.copied()
    normal = outcome(lambda: gmm.Normal.fit(table.X, weights))
    assert table.is_untouched(before)
    if normal is not None:
        assert np.isfinite(normal.log_density(table.X)).all()
        assert np.isfinite(normal.entropy())
