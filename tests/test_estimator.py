"""The scikit-learn interface, beside scikit-learn's own class."""

from __future__ import annotations

import re
import subprocess
import sys
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
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gmm
from gmm import ConvergenceWarning, GaussianMixture, SingularCovarianceError, datasets

pandas: Any = import_module("pandas")  # it has no type stubs
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


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data"])
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
    assert Peer().get_params() == GaussianMixture().get_params()
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
    with pytest.warns(UserWarning, match="X does not have valid feature names, but Gauss"):
        model.predict(X.to_numpy())
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


def test_more_components_than_distinct_rows_share_them() -> None:
    X = np.vstack([np.ones((5, 3)), np.zeros((5, 3))])
    for kind in ("full", "tied", "diag", "spherical"):
        model = gmm.GaussianMixture(10, covariance_type=kind, random_state=0).fit(X)
        assert np.isfinite(model.score(X))
        assert model.weights_.sum() == pytest.approx(1.0)
