"""The scikit-learn interface, beside scikit-learn's own class."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
import sklearn.exceptions
import sklearn.mixture
from conftest import random_mixture
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.mixture import GaussianMixture as Peer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import gmm
from gmm import ConvergenceWarning, GaussianMixture, SingularCovarianceError, datasets, missing
from gmm.families import FAMILIES, stored_shape

pandas: Any = import_module("pandas")  # it has no type stubs
polars = import_module("polars")
Floats = NDArray[np.float64]
KINDS = ("full", "tied", "diag", "spherical")


def same_start(X: Floats, kind: str) -> dict[str, Any]:
    """Initial parameters for both classes."""
    family = {"full": "VVV", "tied": "EEE", "diag": "VVI", "spherical": "VII"}[kind]
    mixture = random_mixture(family, 3, X.shape[1], seed=5)
    means = X[[3, 50, 120]]
    scale = X.var(axis=0).mean()
    inverse = np.linalg.inv if kind in ("full", "tied") else np.reciprocal
    return {
        "weights_init": mixture.weights,
        "means_init": means,
        "precisions_init": inverse(scale * mixture.stored),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_is_scikit_learns_to_the_attributes(kind: str) -> None:
    X = datasets.iris().X
    arguments: dict[str, Any] = {
        "n_components": 3,
        "covariance_type": kind,
        "tol": 1e-5,
        "max_iter": 500,
        **same_start(X, kind),
    }
    ours, theirs = GaussianMixture(**arguments).fit(X), Peer(**arguments).fit(X)
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)
    names = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_",
             "lower_bound_", "lower_bounds_", "n_features_in_")  # fmt: skip
    for name in names:
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-7, atol=1e-10, err_msg=name
        )
    Z = X[::7] + 0.1
    for method in ("predict", "predict_proba", "score_samples", "score", "aic", "bic"):
        np.testing.assert_allclose(
            getattr(ours, method)(Z), getattr(theirs, method)(Z), rtol=1e-7, atol=1e-9
        )


@pytest.mark.parametrize(
    "init",
    ["kmeans", "k-means++", "random", "random_from_data", "agglomerative", "short-runs", "octant"],
)
def test_every_start_ends_in_a_fit(init: str) -> None:
    X = datasets.old_faithful().X
    model = GaussianMixture(2, init_params=init, n_init=3, max_iter=500, random_state=0)
    labels = model.fit_predict(X)
    assert model.lower_bound_ * len(X) > -1300
    np.testing.assert_array_equal(labels, model.predict(X))


def test_given_means_replace_those_of_the_start() -> None:
    X = datasets.old_faithful().X
    means = np.array([[2.0, 55.0], [4.3, 80.0]])
    model = GaussianMixture(2, means_init=means, random_state=0)
    start = model._start(__import__("gmm").rows.as_rows(X), "VVV", np.random.default_rng(0))
    np.testing.assert_array_equal(start.means, means)


def test_float32_data_give_float32_parameters() -> None:
    X = datasets.iris().X.astype(np.float32)
    model = GaussianMixture(3, random_state=0).fit(X)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(model, name).dtype == np.float32
    assert model.fit(X.astype(np.float64)).means_.dtype == np.float64


@pytest.mark.parametrize("unit", [1e25, 1e-25])
def test_float32_data_give_parameters_that_are_numbers(unit: float) -> None:
    """Variances of numbers that float32 holds may be too great or too small for it."""
    X = (unit * datasets.iris().X).astype(np.float32)
    model = GaussianMixture(2, random_state=0, reg_covar=0.0).fit(X)
    assert model.covariances_.dtype == model.precisions_.dtype == np.float64
    np.testing.assert_array_equal(model.covariances_, model.mixture_.covariances)
    assert np.isfinite(model.precisions_).all()


def test_sample_weight_means_repetition() -> None:
    X = datasets.iris().X
    weights = np.arange(150) % 3
    start = same_start(X, "full")
    a = GaussianMixture(3, **start).fit(X, sample_weight=weights)
    b = GaussianMixture(3, **start).fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(a.means_, b.means_, rtol=1e-9)
    assert a.lower_bound_ == pytest.approx(b.lower_bound_, rel=1e-10)


def test_a_warm_start_goes_on_where_the_last_fit_ended() -> None:
    X = datasets.old_faithful().X
    model = GaussianMixture(3, max_iter=5, warm_start=True, tol=0, random_state=0)
    bounds = []
    for _ in range(3):
        with pytest.warns(ConvergenceWarning, match="Best performing initialization did not"):
            model.fit(X)
        bounds.append(model.lower_bound_)
    assert bounds[0] < bounds[1] < bounds[2]


def test_parameters_can_be_read_set_and_cloned() -> None:
    model = GaussianMixture(3, covariance_type="diag", tol=1e-4)
    theirs, ours = Peer().get_params(), GaussianMixture().get_params()
    assert {name: ours[name] for name in theirs} == theirs
    own = {"missing": "raise", "prior": None, "accelerate": "none"}
    assert {name: value for name, value in ours.items() if name not in theirs} == own
    assert list(GaussianMixture._defaults())[-len(own) :] == list(own)  # after scikit-learn's
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(n_components=5) is model
    assert repr(model) == "GaussianMixture(n_components=5, covariance_type='diag', tol=0.0001)"
    with pytest.raises(ValueError, match="Invalid parameter 'k' for estimator"):
        model.set_params(k=1)


def test_works_in_a_pipeline() -> None:
    X = datasets.old_faithful().X
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(2, random_state=0))
    assert sorted(np.bincount(pipeline.fit_predict(X))) == [97, 175]


def test_samples_are_ordered_by_component() -> None:
    model = GaussianMixture(2, random_state=0).fit(datasets.old_faithful().X)
    X, labels = model.sample(100)
    assert X.shape == (100, 2)
    assert (np.diff(labels) >= 0).all()
    with pytest.raises(ValueError, match="Invalid value for 'n_samples': 0"):
        model.sample(0)


def test_progress_is_printed_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    X = datasets.iris().X
    GaussianMixture(3, verbose=2, verbose_interval=5, tol=1e-6, random_state=0).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Initialization 0"
    assert lines[1].startswith("  Iteration 5: log-likelihood -")
    assert lines[-1].startswith("Initialization converged.")


def test_zero_iterations_keep_the_start() -> None:
    X = datasets.iris().X
    start = same_start(X, "full")
    model = GaussianMixture(3, max_iter=0, **start).fit(X)
    np.testing.assert_array_equal(model.means_, start["means_init"])
    assert model.n_iter_ == 0


def test_an_unfitted_model_says_so() -> None:
    with pytest.raises(AttributeError, match="This GaussianMixture instance is not fitted yet"):
        GaussianMixture().predict([[0.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_components": 200}, "Expected n_samples >= n_components but got n_components = 200"),
        ({"covariance_type": "round"}, "covariance_type: expected one of 'full'"),
        ({"init_params": "best"}, "init_params: expected one of 'kmeans'"),
        ({"n_init": 0}, "n_init: expected an integer of at least 1"),
        ({"tol": -1.0}, "tol: expected a finite number"),
        ({"reg_covar": -1.0}, "reg_covar: expected a finite number"),
        ({"weights_init": [0.5]}, "The parameter 'weights' should have the shape of"),
        ({"weights_init": [0.9, 0.9]}, "The parameter 'weights' should be normalized"),
        ({"weights_init": [1.9, -0.9]}, r"The parameter 'weights' should be in the range \[0, 1\]"),
        ({"means_init": [[0.0] * 3] * 2}, "The parameter 'means' should have the shape of"),
        ({"precisions_init": np.eye(4)}, "'full precision' should have the shape"),
        ({"precisions_init": [-np.eye(4)] * 2}, "should be symmetric, positive-definite"),
        ({"precisions_init": [np.eye(4) + np.eye(4, k=1)] * 2}, "should be symmetric"),
        (
            {"precisions_init": -np.ones((2, 4)), "covariance_type": "diag"},
            "'diag precision' should be positive",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    model = GaussianMixture(**{"n_components": 2, **arguments})
    with pytest.raises(ValueError, match=message):
        model.fit(datasets.iris().X)


def test_another_number_of_features_is_refused() -> None:
    model = GaussianMixture(random_state=0).fit(datasets.iris().X)
    with pytest.raises(ValueError, match="X has 3 features, but GaussianMixture is expecting 4"):
        model.predict(np.zeros((2, 3)))


def test_a_collapse_is_named() -> None:
    X = np.ones((10, 2))
    with pytest.raises(SingularCovarianceError, match="some components have ill-defined empirical"):
        GaussianMixture(2, reg_covar=0.0, random_state=0).fit(X)


# ---------------------------------------------------------------- streams


def test_a_stream_of_blocks_is_learned() -> None:
    mixture = random_mixture("VVV", 2, 2, seed=3)
    X, _ = mixture.sample(20_000, 0)
    model = GaussianMixture(2, random_state=0)
    for number, block in enumerate(np.array_split(X, 100), start=1):
        assert model.partial_fit(block) is model
        assert model.n_iter_ == len(model.lower_bounds_) == number
        for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
            assert np.isfinite(getattr(model, name)).all()
    batch = GaussianMixture(2, random_state=0, tol=1e-8, max_iter=1000).fit(X)
    # the mean log-likelihood of a row is within a few parameters / n of the greatest
    assert batch.score(X) - model.score(X) < 20 * batch.mixture_.n_parameters / len(X)
    assert not model.converged_


def test_a_stream_goes_on_from_a_fit_and_a_fit_ends_it() -> None:
    X = datasets.old_faithful().X
    model = GaussianMixture(2, random_state=0).fit(X)
    means = model.means_
    model.partial_fit(X[:50])
    assert model.n_iter_ == 1
    assert np.abs(model.means_ - means).max() < 1.0
    assert model.fit(X).n_iter_ > 1
    np.testing.assert_array_equal(model.means_, means)
    assert model.partial_fit(X[:50]).n_iter_ == 1


def test_weights_in_a_stream_mean_repetition() -> None:
    X = datasets.iris().X
    weights = np.arange(150) % 3
    start = same_start(X, "diag")
    a = GaussianMixture(3, covariance_type="diag", **start).partial_fit(X, sample_weight=weights)
    b = GaussianMixture(3, covariance_type="diag", **start).partial_fit(np.repeat(X, weights, 0))
    np.testing.assert_allclose(a.means_, b.means_, rtol=1e-10)
    assert a.lower_bound_ == pytest.approx(b.lower_bound_, rel=1e-12)


def test_bad_blocks_of_a_stream_are_refused() -> None:
    X = datasets.iris().X
    with pytest.raises(ValueError, match="Expected n_samples >= n_components but got"):
        GaussianMixture(3).partial_fit(X[:2])
    model = GaussianMixture(3, random_state=0).partial_fit(X)
    model.partial_fit(X[:1])  # later blocks may be as small as they like
    with pytest.raises(ValueError, match="X has 3 features, but GaussianMixture is expecting 4"):
        model.partial_fit(X[:, :3])
    with pytest.raises(ValueError, match="n_components, covariance_type: expected those of the"):
        model.set_params(n_components=4).partial_fit(X)


# ---------------------------------------------------------------- scikit-learn's own tests

#: Tests of scikit-learn that are not of the public face: they call or replace private functions.
#: The last one wants no error from a fit that diverges in its first step; ours names the trouble.
NOT_PUBLIC = (
    "test_gaussian_mixture_precisions_init",
    "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters",
    "test_compare_covar_type",
    "test_gaussian_mixture_setting_best_params",
)


@pytest.mark.parametrize("name", ["test_gaussian_mixture", "test_bayesian_mixture", "test_mixture"])
def test_scikit_learn_s_own_tests_pass(name: str, tmp_path: Path) -> None:
    """Its public mixture tests, with our classes in the place of its own."""
    source = Path(sklearn.mixture.__file__).parent / "tests" / f"{name}.py"
    text = re.sub(
        r"^from sklearn\.mixture import (.*)$",
        r"from gmm import \1",
        source.read_text(),
        flags=re.M,
    )
    (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "conftest.py").write_text("from sklearn.conftest import *\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    left_out = " or ".join(NOT_PUBLIC)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k"]
    run = subprocess.run(
        [*command, f"not ({left_out})", f"{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed.group(1)) >= {"test_gaussian_mixture": 40, "test_bayesian_mixture": 10}.get(
        name, 2
    )


# ---------------------------------------------------------------- names and requests


def test_names_of_features_are_kept_and_compared() -> None:
    X = pandas.DataFrame(datasets.old_faithful().X, columns=["eruptions", "waiting"])
    model = gmm.GaussianMixture(2, random_state=0).fit(X)
    assert model.feature_names_in_.tolist() == ["eruptions", "waiting"]
    model.predict(X)
    for method in ("predict", "predict_proba", "score_samples"):
        with pytest.warns(UserWarning, match="X does not have valid feature names") as caught:
            getattr(model, method)(X.to_numpy())
        assert caught[0].filename == __file__
    with pytest.raises(ValueError, match="The feature names should match those that were passed"):
        model.predict(X[["waiting", "eruptions"]])
    plain = gmm.GaussianMixture(2, random_state=0).fit(X.to_numpy())
    assert not hasattr(plain, "feature_names_in_")
    with pytest.warns(UserWarning, match="X has feature names, but GaussianMixture was fitted"):
        plain.predict(X)
    with pytest.raises(TypeError, match="Feature names are only supported if all input features"):
        model.fit(X.set_axis(["a", 1], axis=1))
    model.fit(X.to_numpy())
    assert not hasattr(model, "feature_names_in_")


def test_polars_tables_are_taken_as_those_of_pandas() -> None:
    rows = datasets.old_faithful().X
    X = polars.DataFrame({"eruptions": rows[:, 0], "waiting": rows[:, 1]})
    model = gmm.GaussianMixture(2, random_state=0).fit(X)
    assert model.feature_names_in_.tolist() == ["eruptions", "waiting"]
    plain = gmm.GaussianMixture(2, random_state=0).fit(rows)
    np.testing.assert_array_equal(model.means_, plain.means_)
    np.testing.assert_array_equal(model.predict(X), plain.predict(rows))
    with pytest.raises(ValueError, match="The feature names should match those that were passed"):
        model.predict(X.rename({"waiting": "wait"}))
    gaps = X.with_columns(
        waiting=polars.when(polars.col("eruptions") > 5).then(None).otherwise(1.0)
    )
    with pytest.raises(ValueError, match="NaN"):
        model.fit(gaps)
    filled = gmm.GaussianMixture(2, random_state=0, missing="em").fit(
        X.with_columns(
            waiting=polars.when(polars.col("eruptions") > 5).then(None).otherwise("waiting")
        )
    )
    assert np.isfinite(filled.means_).all()


def test_weights_are_routed_where_they_are_asked_for() -> None:
    X = gmm.datasets.old_faithful().X
    weights = np.random.default_rng(0).uniform(0.1, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        model = gmm.GaussianMixture(2, random_state=0, tol=1e-8, max_iter=500)
        unscaled = StandardScaler().set_fit_request(sample_weight=False)
        scaled = make_pipeline(unscaled, model.set_fit_request(sample_weight=True))
        scaled.fit(X, sample_weight=weights)
        unweighted = make_pipeline(unscaled, clone(model).set_fit_request(sample_weight=False))
    inner = scaled[-1]
    Z = scaled[0].transform(X)
    alone = gmm.GaussianMixture(2, random_state=0, tol=1e-8, max_iter=500).fit(Z, None, weights)
    np.testing.assert_allclose(inner.means_, alone.means_, rtol=1e-6)
    assert clone(model).get_metadata_routing().fit.requests["sample_weight"] is True
    assert unweighted[-1].get_metadata_routing().fit.requests["sample_weight"] is False


def test_a_warning_is_scikit_learn_s_too() -> None:
    X = gmm.datasets.old_faithful().X
    for category in (gmm.ConvergenceWarning, sklearn.exceptions.ConvergenceWarning):
        with pytest.warns(category, match="did not converge"):
            gmm.GaussianMixture(2, max_iter=1, random_state=0).fit(X)


def test_a_warning_needs_no_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sklearn.exceptions")
    with pytest.warns(gmm.ConvergenceWarning, match="did not converge") as found:
        gmm.GaussianMixture(2, max_iter=1, random_state=0).fit(gmm.datasets.old_faithful().X)
    assert [warning.category for warning in found] == [gmm.ConvergenceWarning]


def test_more_components_than_distinct_rows_share_them() -> None:
    X = np.vstack([np.ones((5, 3)), np.zeros((5, 3))])
    for kind in ("full", "tied", "diag", "spherical"):
        model = gmm.GaussianMixture(10, covariance_type=kind, random_state=0).fit(X)
        assert np.isfinite(model.score(X))
        assert model.weights_.sum() == pytest.approx(1.0)


# ---------------------------------------------------------------- families

FOURTEEN = [name for name in FAMILIES if len(name) == 3]


@pytest.mark.parametrize("name", FOURTEEN)
def test_a_family_is_fitted_as_fit_does_and_its_precisions_are_inverses(name: str) -> None:
    X = datasets.iris().X
    start = gmm.initial.starting_mixture(X, 3, "VII", random_state=0)
    given: dict[str, Any] = {"weights_init": start.weights, "means_init": start.means}
    shape = stored_shape(FAMILIES[name], 3, 4)
    whole = np.diag(1 / X.var(axis=0))
    given["precisions_init"] = {
        "full": np.tile(whole, (3, 1, 1)),
        "tied": whole,
        "diag": np.tile(np.diagonal(whole), (3, 1)),
        "spherical": np.full(3, 1.0),
    }[FAMILIES[name]]
    ours = GaussianMixture(3, covariance_type=name, tol=0, max_iter=20, reg_covar=0, **given)
    with pytest.warns(ConvergenceWarning):
        ours.fit(X)
    base = gmm.Mixture(
        start.weights,
        start.means,
        {"full": np.diag(X.var(axis=0)) * np.ones((3, 1, 1)), "tied": np.diag(X.var(axis=0)),
         "diag": np.tile(X.var(axis=0), (3, 1)), "spherical": np.ones(3)}[FAMILIES[name]],
        {"full": "VVV", "tied": "EEE", "diag": "VVI", "spherical": "VII"}[FAMILIES[name]],
    )  # fmt: skip
    plain = gmm.fit(X, 3, name, start=base, tol=0, max_iter=20)
    assert ours.mixture_.family == name
    assert ours.covariances_.shape == shape
    np.testing.assert_allclose(ours.means_, plain.mixture.means, atol=1e-9)
    np.testing.assert_allclose(ours.covariances_, plain.mixture.stored, atol=1e-9)
    if FAMILIES[name] in ("full", "tied"):
        identity = np.broadcast_to(np.eye(4), shape)
        np.testing.assert_allclose(ours.covariances_ @ ours.precisions_, identity, atol=1e-8)
        u = ours.precisions_cholesky_
        np.testing.assert_allclose(u @ np.swapaxes(u, -1, -2), ours.precisions_, rtol=1e-9)
        np.testing.assert_array_equal(u, np.triu(u))
    else:
        np.testing.assert_allclose(ours.precisions_, 1 / ours.covariances_, rtol=1e-12)
        np.testing.assert_allclose(ours.precisions_cholesky_**2, ours.precisions_, rtol=1e-12)
    assert ours._n_parameters() == gmm.families.n_parameters(name, 3, 4)


@pytest.mark.parametrize("name", ["E", "V"])
def test_one_feature_has_families_of_its_own(name: str) -> None:
    X = datasets.acidity().X
    model = GaussianMixture(2, covariance_type=name, tol=1e-9, max_iter=2000, random_state=0).fit(X)
    assert model.covariances_.shape == (2,)
    assert bool(model.covariances_[0] == model.covariances_[1]) == (name == "E")
    best = gmm.fit(X, 2, name, random_state=0).log_likelihood
    assert model.score(X) * len(X) == pytest.approx(best, abs=1e-3)
    with pytest.raises(ValueError, match=f"covariance_type: expected one of three .* got '{name}'"):
        GaussianMixture(covariance_type=name).fit(datasets.iris().X)


def test_a_grid_search_chooses_among_all_families_in_a_pipeline() -> None:
    truth = random_mixture("EEI", 2, 3, seed=1, spread=5.0)
    X = truth.sample(120, 0)[0]
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(2, random_state=0, tol=1e-5))
    grid = {"gaussianmixture__covariance_type": [*KINDS, *FOURTEEN]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 18
    assert np.isfinite(scores).all()
    by_name = dict(zip(grid["gaussianmixture__covariance_type"], scores, strict=True))
    for second, family in {"full": "VVV", "tied": "EEE", "diag": "VVI", "spherical": "VII"}.items():
        assert by_name[second] == by_name[family]
    assert search.best_estimator_[-1].mixture_.family in FOURTEEN
    copy = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(copy.predict_proba(X), search.predict_proba(X))


@pytest.mark.filterwarnings("ignore::gmm.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Estimator .* does not inherit from:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.EstimatorCheckFailedWarning")
@pytest.mark.parametrize(
    "arguments",
    [{}, {"missing": "em"}, {"prior": "default"}, {"covariance_type": "EEV"},
     {"covariance_type": "VVE", "missing": "em", "prior": "default", "accelerate": "auto"}],
)  # fmt: skip
def test_it_passes_scikit_learns_checks(arguments: dict[str, Any]) -> None:
    results = check_estimator(GaussianMixture(**arguments), on_fail=None)
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []
    assert len(results) > 40


# ---------------------------------------------------------------- missing values


def with_gaps(X: Floats, share: float, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    gaps = rng.random(X.shape) < share
    gaps[gaps.all(axis=1), 0] = False
    return np.where(gaps, np.nan, X)


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical", "EEV", "VEI"])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_missing_is_dealt_with_in_every_method(name: str, weighted: bool) -> None:
    X = with_gaps(datasets.iris().X, 0.2, 0)
    weights = np.random.default_rng(1).integers(1, 4, len(X)).astype(float) if weighted else None
    model = GaussianMixture(
        3, covariance_type=name, missing="em", tol=1e-9, max_iter=3000, reg_covar=0, random_state=0
    ).fit(X, sample_weight=weights)
    mixture = model.mixture_
    again = gmm.fit(
        X, 3, mixture.family, start=mixture, missing="em", sample_weight=weights, tol=1e-12
    )
    seen = missing.log_density(mixture, X)  # tested row by row in tests/test_missing.py
    ones = np.ones(len(X)) if weights is None else weights
    assert again.log_likelihood - ones @ seen < 1e-3  # no way up is left
    np.testing.assert_allclose(model.score_samples(X), seen)
    assert model.score(X) == pytest.approx(seen.mean())
    shares = missing.responsibilities(mixture, X)
    np.testing.assert_allclose(model.predict_proba(X), shares)
    np.testing.assert_array_equal(model.predict(X), shares.argmax(axis=1))
    count = mixture.n_parameters
    assert model.bic(X, weights) == pytest.approx(-2 * ones @ seen + count * np.log(ones.sum()))
    assert model.aic(X, weights) == pytest.approx(-2 * ones @ seen + 2 * count)
    sure = -2 * float(ones @ np.log(shares.max(axis=1)))
    assert model.icl(X, weights) == pytest.approx(model.bic(X, weights) + sure)
    np.testing.assert_allclose(model.impute(X), mixture.impute(X))
    assert not np.isnan(model.sample(20)[0]).any()


def test_criteria_count_rows_that_say_something() -> None:
    X = with_gaps(datasets.iris().X, 0.2, 0)
    more = np.vstack([X, np.full((5, 4), np.nan)])
    model = GaussianMixture(2, missing="em", random_state=0).fit(X)
    with pytest.warns(gmm.MissingDataWarning, match="5 of 155 rows") as caught:
        other = GaussianMixture(2, missing="em", random_state=0).fit(more)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(other.means_, model.means_)
    for criterion in ("aic", "bic", "icl"):
        assert getattr(model, criterion)(more) == pytest.approx(getattr(model, criterion)(X))
    np.testing.assert_allclose(model.predict_proba(more)[150:], np.tile(model.weights_, (5, 1)))
    np.testing.assert_allclose(model.score_samples(more)[150:], 0.0, atol=1e-15)


def test_without_gaps_and_without_missing_values_nothing_changes() -> None:
    X = datasets.iris().X
    one, two = (GaussianMixture(3, missing=m, random_state=0).fit(X) for m in ("raise", "em"))
    np.testing.assert_array_equal(one.means_, two.means_)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))
    narrow = GaussianMixture(3, missing="em", random_state=0)
    assert narrow.fit(with_gaps(X, 0.1, 0).astype(np.float32)).means_.dtype == np.float32


@pytest.mark.parametrize(
    "init",
    ["kmeans", "k-means++", "random", "random_from_data", "agglomerative", "short-runs", "octant"],
)
def test_every_start_takes_missing_values(init: str) -> None:
    X = with_gaps(datasets.old_faithful().X, 0.1, 0)
    model = GaussianMixture(2, init_params=init, missing="em", max_iter=500, random_state=0).fit(X)
    assert model.converged_
    assert np.isfinite(model.score(X))


def test_values_are_missing_only_where_they_may_be() -> None:
    X = with_gaps(datasets.iris().X, 0.1, 0)
    with pytest.raises(ValueError, match=r"X: expected finite numbers, got NaN"):
        GaussianMixture(2).fit(X)
    model = GaussianMixture(2, random_state=0).fit(datasets.iris().X)
    for method in ("predict", "predict_proba", "score_samples", "score", "bic", "aic", "icl"):
        with pytest.raises(ValueError, match=r"X: expected finite numbers, got NaN"):
            getattr(model, method)(X)
    with pytest.raises(ValueError, match="got infinity"):
        model.set_params(missing="em").predict(np.where(np.isnan(X), np.inf, X))
    never = X.copy()
    never[:, 2] = np.nan
    with pytest.raises(ValueError, match="feature 2 has none"):
        model.fit(never)
    assert model.__sklearn_tags__().input_tags.allow_nan
    assert not GaussianMixture().__sklearn_tags__().input_tags.allow_nan
    scaler = make_pipeline(StandardScaler(), GaussianMixture(2, missing="em", random_state=0))
    assert np.isfinite(scaler.fit(X).score(X))  # the scaler lets NaN through


# ---------------------------------------------------------------- priors and acceleration


@pytest.mark.parametrize("accelerate", ["none", "squarem", "auto"])
def test_a_prior_is_that_of_fit_and_its_bound_never_falls(accelerate: str) -> None:
    X = datasets.iris().X
    prior = gmm.default_prior(X, 3)
    model = GaussianMixture(
        3, prior="default", tol=1e-10, max_iter=5000, reg_covar=0, accelerate=accelerate,
        random_state=0,
    ).fit(X)  # fmt: skip
    best = gmm.fit(X, 3, start=model.mixture_, prior=prior, tol=1e-13, max_iter=5000)
    assert model.prior_ is not None
    np.testing.assert_array_equal(model.prior_.scale, prior.scale)
    assert best.objective - model.lower_bound_ * len(X) < 1e-5
    objective = model.score(X) * len(X) + prior.log_density(model.mixture_)
    assert objective == pytest.approx(model.lower_bound_ * len(X), abs=1e-5)
    assert (np.diff(model.lower_bounds_) > -1e-12).all()
    assert len(model.lower_bounds_) == model.n_iter_


def test_the_best_of_several_starts_has_the_greatest_objective() -> None:
    X = datasets.iris().X
    prior = gmm.Prior(X.mean(axis=0), np.eye(4), 0.1, 20.0)
    arguments: dict[str, Any] = {"prior": prior, "init_params": "random_from_data", "tol": 1e-6,
                                 "max_iter": 2000}  # fmt: skip
    draws = np.random.default_rng(3)
    alone = [GaussianMixture(4, random_state=draws, **arguments).fit(X) for _ in range(5)]
    together = GaussianMixture(4, n_init=5, random_state=np.random.default_rng(3), **arguments).fit(
        X
    )
    assert together.lower_bound_ == max(model.lower_bound_ for model in alone)


def test_with_a_prior_nothing_collapses() -> None:
    X = np.repeat(np.random.default_rng(0).standard_normal((4, 2)), 5, axis=0)
    with pytest.raises(SingularCovarianceError):
        GaussianMixture(4, reg_covar=0, random_state=0).fit(X)
    model = GaussianMixture(4, reg_covar=0, prior="default", random_state=0, max_iter=1000).fit(X)
    assert np.isfinite(model.lower_bound_)


def test_acceleration_takes_fewer_iterations_to_the_same_end() -> None:
    X = datasets.iris().X
    arguments: dict[str, Any] = {"tol": 1e-9, "max_iter": 5000, "random_state": 0}
    plain = GaussianMixture(3, **arguments).fit(X)
    fast = GaussianMixture(3, accelerate="squarem", **arguments).fit(X)
    assert fast.converged_
    assert fast.n_iter_ < plain.n_iter_
    assert fast.lower_bound_ == pytest.approx(plain.lower_bound_, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"missing": "drop"}, ValueError, "missing: expected one of 'raise', 'em'"),
        ({"prior": "weak"}, ValueError, "prior: expected one of 'default'"),
        ({"prior": 3.0}, TypeError, "prior: expected a Prior, 'default' or None, got 3.0"),
        ({"prior": gmm.Prior([0.0], [[1.0]])}, ValueError, "prior: expected one for 4 features"),
        ({"accelerate": "much"}, ValueError, "accelerate: expected one of 'none'"),
        ({"covariance_type": "EVIL"}, ValueError, "covariance_type: expected one of 'full'"),
    ],
)
def test_bad_arguments_of_our_own_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        GaussianMixture(2, **arguments).fit(datasets.iris().X)


@pytest.mark.parametrize("criterion", ["aic", "bic", "icl"])
def test_weights_of_criteria_are_checked(criterion: str) -> None:
    X = datasets.iris().X
    model = GaussianMixture(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="sample_weight: expected shape"):
        getattr(model, criterion)(X, [1.0])
    with pytest.raises(ValueError, match="sample_weight: expected no negative value"):
        getattr(model, criterion)(X, -np.ones(150))


def test_an_estimator_with_a_prior_is_cloned_and_pickled() -> None:
    X = datasets.iris().X
    prior = gmm.Prior(X.mean(axis=0), np.eye(4))
    model = clone(GaussianMixture(2, prior=prior, random_state=0)).fit(X)
    assert isinstance(model.prior, gmm.Prior)
    np.testing.assert_array_equal(model.prior.scale, prior.scale)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))


# ---------------------------------------------------------------- streams with more, known mixtures


def test_streams_take_missing_values_and_priors() -> None:
    truth = random_mixture("VVV", 2, 3, seed=3, spread=6.0)
    X = with_gaps(truth.sample(4000, 0)[0], 0.2, 0)
    model = GaussianMixture(2, missing="em", prior="default", random_state=0)
    for block in np.array_split(X, 20):
        model.partial_fit(block)
    assert model.prior_ is not None
    batch = GaussianMixture(2, missing="em", random_state=0, tol=1e-8, max_iter=1000).fit(X)
    assert batch.score(X) - model.score(X) < 20 * batch.mixture_.n_parameters / len(X)
    model.partial_fit([[1.0, np.nan, np.nan]])  # features without any value in a block
    with pytest.raises(ValueError, match="feature 1 has none"):
        GaussianMixture(1, missing="em").partial_fit([[1.0, np.nan], [2.0, np.nan]])


def test_a_known_mixture_is_an_estimator() -> None:
    mixture = random_mixture("EEV", 2, 3, seed=0)
    model = GaussianMixture.from_mixture(mixture, missing="em")
    X = mixture.sample(30, 0)[0]
    assert model.covariance_type == "EEV"
    np.testing.assert_array_equal(model.predict_proba(X), mixture.responsibilities(X))
    X[0, 0] = np.nan
    assert model.predict(X).shape == (30,)
    fuller = GaussianMixture.from_mixture(random_mixture("VVV", 2, 3, seed=0))
    assert (fuller.covariance_type, fuller.n_components) == ("full", 2)
    warm = GaussianMixture.from_mixture(mixture, warm_start=True).fit(mixture.sample(300, 1)[0])
    assert warm.n_iter_ > 0
    with pytest.raises(TypeError, match="mixture: expected a Mixture, got 3"):
        GaussianMixture.from_mixture(3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="n_components: expected to be left to the mixture"):
        GaussianMixture.from_mixture(mixture, n_components=3)
