"""The two steps with held parameters; in plain numbers they are tested in test_small.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gmm
from gmm.families import FAMILIES as KINDS


@pytest.mark.parametrize("accelerate", ["none", "squarem", "lbfgs"])
@pytest.mark.parametrize(
    "fixed", [("weights",), ("means",), ("covariances",), ("weights", "covariances")]
)
@pytest.mark.parametrize("name", [name for name in KINDS if len(name) == 3])
def test_held_parameters_stay_and_the_others_are_best(
    name: str, fixed: tuple[str, ...], accelerate: str
) -> None:
    """Each step of the free ones raises the likelihood; those held are the start's, to the bit."""
    X = gmm.datasets.iris().X
    start = gmm.fit(X, 3, name, start="random", random_state=1, max_iter=3, tol=0).mixture
    fit = gmm.fit(X, 3, name, start=start, fixed=fixed, tol=1e-10, accelerate=accelerate)
    assert np.diff(fit.trace.log_likelihood).min() >= -1e-9 * abs(fit.log_likelihood)
    for parameter in ("weights", "means", "covariances"):
        attribute = "stored" if parameter == "covariances" else parameter
        got, was = getattr(fit.mixture, attribute), getattr(start, attribute)
        assert (got == was).all() == (parameter in fixed)
    assert fit.log_likelihood > start.log_likelihood(X) + 0.1
    assert fit.fixed == set(fixed)


def test_covariances_about_held_means_are_second_moments() -> None:
    X = gmm.datasets.old_faithful().X
    start = gmm.Mixture([1.0], [[3.0, 70.0]], [np.eye(2)])
    for prior in (None, gmm.default_prior(X, 1)):
        fit = gmm.fit(X, 1, start=start, fixed="means", prior=prior)
        residuals = X - start.means
        scatter, n = residuals.T @ residuals, 272.0
        if prior is not None:
            step = prior.mean - start.means[0]
            scatter += prior.scale + prior.mean_precision * np.outer(step, step)
            n += prior.covariance_weight
        np.testing.assert_allclose(fit.mixture.covariances[0], scatter / n, rtol=1e-10)


@pytest.mark.parametrize("family", ["VVV", "VVI", "VII"])
def test_a_component_a_milliardth_as_wide_as_the_data_has_collapsed(family: str) -> None:
    """Not singular, but of a likelihood that says nothing; thirty times as wide it is a fit."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 4))  # plain numbers serve up to three features
    X /= X.std(axis=0)
    for width, collapsed in ((3e-10, True), (3e-8, False)):
        spot = rng.standard_normal((20, 4))
        X[:20] = width * (spot - spot.mean(axis=0)) / spot.std(axis=0)
        covariances = [width**2 * np.eye(4), np.eye(4)]
        start = gmm.Mixture([0.05, 0.95], np.zeros((2, 4)), covariances)
        options: dict[str, Any] = {"start": start, "max_iter": 3, "tol": 0.0}
        if collapsed:
            message = "component 0 has almost no width"
            with pytest.raises(gmm.SingularCovarianceError, match=message):
                gmm.fit(X, 2, family, **options)
        else:
            fit = gmm.fit(X, 2, family, **options)
            np.testing.assert_allclose(np.sqrt(fit.mixture.variances[0]), width, rtol=1e-6)
