"""Variational Bayes with scikit-learn's interface, beside scikit-learn's own class."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning as PeerWarning
from sklearn.exceptions import NotFittedError
from sklearn.mixture import BayesianGaussianMixture as Peer
from sklearn.utils.estimator_checks import check_estimator

from gmm import BayesianGaussianMixture, ConvergenceWarning, datasets
from gmm.belief import Belief, Dirichlet
from gmm.rows import as_rows
from gmm.statistics import Statistics
from gmm.sweep import Sweep
from gmm.variational import bound_terms, fit_variational, prior_belief

Floats = NDArray[np.float64]
KINDS = ("full", "tied", "diag", "spherical")
PRIORS = ("dirichlet_process", "dirichlet_distribution")
POSTERIOR = ("weight_concentration_", "mean_precision_", "means_", "degrees_of_freedom_",
             "covariances_", "precisions_cholesky_")  # fmt: skip
PRIOR = ("weight_concentration_prior_", "mean_precision_prior_", "mean_prior_",
         "degrees_of_freedom_prior_", "covariance_prior_")  # fmt: skip


def both(X: Floats, n_iter: int, **arguments: Any) -> tuple[BayesianGaussianMixture, Any]:
    """Our model and scikit-learn's after the same iterations from the same posterior."""
    arguments = {"random_state": 0, "warm_start": True, "tol": 1e-3, **arguments}
    ours = BayesianGaussianMixture(**arguments, max_iter=1)
    with pytest.warns(ConvergenceWarning):
        ours.fit(X)
    peer = Peer(**arguments, max_iter=n_iter)
    for name in (*POSTERIOR, "lower_bound_", "n_features_in_"):
        setattr(peer, name, getattr(ours, name))
    peer.converged_ = True
    ours.set_params(max_iter=n_iter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", PeerWarning)
        peer.fit(X)
        ours.fit(X)
    return ours, peer


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_is_scikit_learns_to_the_attributes(kind: str, prior: str) -> None:
    X = datasets.iris().X
    ours, peer = both(
        X, 40, n_components=5, covariance_type=kind, weight_concentration_prior_type=prior
    )
    assert (ours.n_iter_, ours.converged_) == (peer.n_iter_, peer.converged_)
    for name in (*POSTERIOR, *PRIOR, "weights_", "precisions_", "lower_bound_", "lower_bounds_"):
        theirs = np.squeeze(getattr(peer, name))  # tied bounds have a needless axis there
        np.testing.assert_allclose(
            np.squeeze(getattr(ours, name)), theirs, rtol=1e-8, atol=1e-10, err_msg=name
        )
    Z = X[::7] + 0.1
    for method in ("predict", "predict_proba", "score_samples", "score"):
        np.testing.assert_allclose(
            getattr(ours, method)(Z), getattr(peer, method)(Z), rtol=1e-8, atol=1e-10
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_given_prior_is_used_as_scikit_learn_does(kind: str) -> None:
    X = datasets.old_faithful().X
    given: dict[str, Any] = {
        "weight_concentration_prior": 0.3,
        "mean_precision_prior": 0.05,
        "mean_prior": [3.0, 70.0],
        "degrees_of_freedom_prior": 4.5,
        "covariance_prior": {
            "full": [[1.0, 0.5], [0.5, 30.0]],
            "tied": [[1.0, 0.5], [0.5, 30.0]],
            "diag": [1.0, 30.0],
            "spherical": 15.0,
        }[kind],
    }
    ours, peer = both(X, 12, n_components=3, covariance_type=kind, reg_covar=0.01, **given)
    for name in (*POSTERIOR, *PRIOR, "lower_bounds_"):
        theirs = np.squeeze(getattr(peer, name))
        np.testing.assert_allclose(
            np.squeeze(getattr(ours, name)), theirs, rtol=1e-8, atol=1e-10, err_msg=name
        )


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_without_a_ridge_it_is_the_variational_fit(kind: str) -> None:
    X = datasets.old_faithful().X
    k, d = 2, 2
    model = BayesianGaussianMixture(
        n_components=k, covariance_type=kind, reg_covar=0.0, tol=1e-9, max_iter=2000,
        weight_concentration_prior_type="dirichlet_distribution", random_state=0,
    ).fit(X)  # fmt: skip
    shares = k if kind == "tied" else 1  # scikit-learn's tied prior is a share of the whole
    fit = fit_variational(
        X, k, kind, scale=shares * np.cov(X.T), degrees_of_freedom=shares * d,
        start=model.mixture_, tol=1e-12,
    )  # fmt: skip
    # both have stopped a little before the limit
    np.testing.assert_allclose(model.means_, fit.mixture.means, rtol=1e-5)
    np.testing.assert_allclose(model.predict_proba(X), fit.responsibilities(X), atol=1e-5)


def as_full(model: BayesianGaussianMixture) -> Belief:
    """The posterior of a model as one of the family VVV."""
    k = model.n_components
    nu = np.broadcast_to(model.degrees_of_freedom_, (k,)).astype(float)
    weights = Dirichlet(np.asarray(model.weight_concentration_))
    scales = model.mixture_.covariances * nu[:, None, None]
    return Belief("VVV", weights, model.means_, model.mean_precision_, nu, scales)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.derives("prop-restricted-factors", "eq-restricted-update")
def test_all_types_are_the_full_model_with_restricted_factors(kind: str) -> None:
    X, k, d = datasets.iris().X, 3, 4
    model = BayesianGaussianMixture(
        n_components=k, covariance_type=kind, reg_covar=0.0, random_state=0, warm_start=True,
        weight_concentration_prior_type="dirichlet_distribution", max_iter=1, tol=0.0,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    constants = []
    for _ in range(2):
        with pytest.warns(ConvergenceWarning):
            model.fit(X)
        before = as_full(model)
        np.testing.assert_allclose(
            model.predict_proba(X), before.joint.responsibilities(X), rtol=1e-7, atol=1e-12
        )
        scale = np.asarray(model.covariance_prior_)
        prior = prior_belief(X, k, scale=scale if scale.ndim == 2 else scale * np.eye(d))
        statistics = Sweep(as_rows(X), k, "full")(before.joint)
        entropy = bound_terms(prior, before, statistics)["label entropy"]

        def bound(
            belief: Belief,
            prior: Belief = prior,
            statistics: Statistics = statistics,
            entropy: float = entropy,
        ) -> float:
            """The full model's bound, for the labels that ``before`` gives."""
            terms = bound_terms(prior, belief, statistics)
            return sum(terms.values()) - terms["label entropy"] + entropy

        with pytest.warns(ConvergenceWarning):
            model.fit(X)
        after = as_full(model)
        constants.append(bound(after) - model.lower_bound_)
        for _ in range(5):  # no other factor of the kind is better
            factor = np.exp(0.02 * rng.standard_normal())
            stretch = np.exp(0.02 * rng.standard_normal(1 if kind == "spherical" else d))
            scales = after.scales * np.outer(stretch, stretch)
            assert bound(replace(after, scales=scales)) < bound(after)
            freedom = after.degrees_of_freedom * factor
            assert bound(replace(after, degrees_of_freedom=freedom)) < bound(after)
    # what lower_bound_ leaves out does not depend on the posterior
    assert constants[0] == pytest.approx(constants[1], abs=1e-8)
    assert constants[0] < -100


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random", "random_from_data"])
def test_every_start_ends_in_a_fit(init: str) -> None:
    X = datasets.old_faithful().X
    model = BayesianGaussianMixture(
        n_components=2, init_params=init, n_init=3, max_iter=500, random_state=0
    )
    labels = model.fit_predict(X)
    np.testing.assert_array_equal(labels, model.predict(X))
    assert sorted(np.bincount(labels)) == [97, 175]


def test_bounds_rise_with_a_warm_start() -> None:
    X = datasets.iris().X
    model = BayesianGaussianMixture(
        n_components=6, max_iter=3, warm_start=True, tol=1e-9, reg_covar=0.0, random_state=0
    )
    bounds = []
    for _ in range(4):
        with pytest.warns(ConvergenceWarning, match="Best performing initialization did not"):
            bounds.extend(model.fit(X).lower_bounds_)
    assert len(bounds) == 12
    assert (np.diff(bounds) > 0).all()


def test_sample_weight_means_repetition() -> None:
    X = datasets.iris().X
    weights = np.arange(150) % 3
    model = BayesianGaussianMixture(n_components=1, max_iter=5, tol=1e-6)
    a = clone(model).fit(X, sample_weight=weights)
    b = clone(model).fit(np.repeat(X, weights, axis=0))
    np.testing.assert_allclose(a.means_, b.means_, rtol=1e-10)
    np.testing.assert_allclose(a.covariances_, b.covariances_, rtol=1e-10)
    assert a.lower_bound_ == pytest.approx(b.lower_bound_, rel=1e-10)


def test_float32_data_give_float32_parameters() -> None:
    X = datasets.old_faithful().X.astype(np.float32)
    model = BayesianGaussianMixture(n_components=2, random_state=0, max_iter=200).fit(X)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(model, name).dtype == np.float32


def test_samples_come_from_the_mean_mixture() -> None:
    model = BayesianGaussianMixture(n_components=2, random_state=0, max_iter=200)
    X, labels = model.fit(datasets.old_faithful().X).sample(2000)
    assert (np.diff(labels) >= 0).all()
    np.testing.assert_allclose(X.mean(axis=0), model.mixture_.mean, rtol=0.03)  # of 2 000 draws


def test_progress_is_printed_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    BayesianGaussianMixture(
        n_components=3, verbose=2, verbose_interval=5, tol=1e-4, max_iter=500, random_state=0
    ).fit(datasets.old_faithful().X)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Initialization 0"
    assert lines[1].startswith("  Iteration 5: lower bound -")
    assert lines[-1].startswith("Initialization converged. Lower bound -")


def test_it_is_an_estimator() -> None:
    model = BayesianGaussianMixture(n_components=3)
    assert Peer().get_params() == BayesianGaussianMixture().get_params()
    assert repr(clone(model)) == "BayesianGaussianMixture(n_components=3)"
    with pytest.raises(NotFittedError, match="This BayesianGaussianMixture instance is not fitted"):
        model.predict([[0.0]])


@pytest.mark.filterwarnings("ignore::gmm.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:Estimator .* does not inherit from:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.EstimatorCheckFailedWarning")
def test_it_passes_scikit_learns_checks() -> None:
    results = check_estimator(BayesianGaussianMixture(), on_fail=None)
    assert [r["check_name"] for r in results if r["status"] == "failed"] == []
    assert len(results) > 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_components": 200}, "Expected n_samples >= n_components but got n_components = 200"),
        ({"covariance_type": "round"}, "covariance_type: expected one of 'full'"),
        ({"init_params": "best"}, "init_params: expected one of 'kmeans'"),
        ({"n_init": 0}, "n_init: expected an integer of at least 1"),
        ({"tol": -1.0}, "tol: expected a finite number"),
        ({"weight_concentration_prior_type": "flat"}, "weight_concentration_prior_type: expected"),
        ({"weight_concentration_prior": 0.0}, "weight_concentration_prior: expected a positive"),
        ({"mean_precision_prior": 0.0}, "mean_precision_prior: expected a positive number"),
        ({"mean_prior": [0.0]}, r"mean_prior: expected shape \(4,\)"),
        (
            {"degrees_of_freedom_prior": 3.0},
            "The parameter 'degrees_of_freedom_prior' should be greater than 3, but got 3.000.",
        ),
        ({"covariance_prior": np.eye(3)}, r"covariance_prior: expected shape \(4, 4\)"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    model = BayesianGaussianMixture(**{"n_components": 2, **arguments})
    with pytest.raises(ValueError, match=message):
        model.fit(datasets.iris().X)
