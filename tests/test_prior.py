"""Maximum a posteriori: the M-step maximises what it says, and nothing collapses."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from conftest import random_member, random_mixture
from numpy.typing import NDArray

import gmm
from gmm.bound import expected_complete_log_likelihood
from gmm.e_step import e_step, expected_statistics
from gmm.families import FAMILIES
from gmm.m_step import m_step
from gmm.prior import Prior, default_prior

Floats = NDArray[np.float64]
FOURTEEN = [name for name in FAMILIES if len(name) == 3]


def some_prior(d: int, concentration: float = 1.0) -> Prior:
    rng = np.random.default_rng(9)
    scale = random_member("VVV", 1, d, rng)[0]
    return Prior(rng.standard_normal(d), scale, 0.7, d + 3.5, concentration)


@pytest.mark.derives("eq-log-prior")
@pytest.mark.parametrize("family", FOURTEEN)
def test_the_log_density_is_that_of_the_distributions(family: str) -> None:
    """Differences of scipy's Dirichlet, inverse Wishart and normal log-densities."""
    prior = some_prior(3, concentration=2.5)

    def reference(mixture: gmm.Mixture) -> float:
        total = scipy.stats.dirichlet(np.full(3, 2.5)).logpdf(mixture.weights)
        for mean, covariance in zip(mixture.means, mixture.covariances, strict=True):
            # |Σ|^(-(ν+d+2)/2): the normal has |Σ|^(-1/2), the inverse Wishart |Σ|^(-(ν+d+1)/2)
            total += scipy.stats.invwishart(prior.degrees_of_freedom, prior.scale).logpdf(
                covariance
            )
            total += scipy.stats.multivariate_normal(
                prior.mean, covariance / prior.mean_precision
            ).logpdf(mean)
        return float(total)

    one, two = (random_mixture(family, 3, 3, seed=s, spread=1.0) for s in (1, 2))
    got = prior.log_density(one) - prior.log_density(two)
    assert got == pytest.approx(reference(one) - reference(two), rel=1e-9)


@pytest.mark.derives("thm-map-m-step", "eq-map-weights", "eq-map-means")
@pytest.mark.parametrize("family", FOURTEEN)
def test_no_nearby_mixture_has_a_greater_posterior(family: str) -> None:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((40, 3)) @ np.diag([1.0, 2.0, 0.5])
    shares = rng.dirichlet(np.ones(2), 40)
    prior = some_prior(3, concentration=1.8)
    statistics = expected_statistics(X, shares, np.zeros((2, 3)), FAMILIES[family])
    best = m_step(statistics, family, prior=prior)

    def value(mixture: gmm.Mixture) -> float:
        q = expected_complete_log_likelihood(X, mixture, shares)
        return q + prior.log_density(mixture)

    top = value(best)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            weights = best.weights * np.exp(size * rng.standard_normal(2))
            means = best.means + size * rng.standard_normal((2, 3))
            turn = np.eye(3) + size * rng.standard_normal((2, 3, 3))
            covariances = turn @ best.covariances @ np.swapaxes(turn, 1, 2)
            stored = gmm.families.restrict(covariances, family, weights)
            other = gmm.Mixture.from_stored(weights / weights.sum(), means, stored, family)
            assert value(other) <= top + 1e-9


@pytest.mark.derives("thm-map-m-step")
def test_full_updates_are_the_textbook_s() -> None:
    """(Λ + W_k + κ n_k/(κ+n_k) (x̄−m)(x̄−m)ᵀ) / (n_k + ν + d + 2), as mclust's VVV has it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2)) + np.array([1.0, 2.0])
    shares = rng.dirichlet(np.ones(2), 30)
    prior = some_prior(2)
    got = m_step(expected_statistics(X, shares, np.ones((2, 2)), "full"), prior=prior)
    for k in range(2):
        n = shares[:, k].sum()
        mean = shares[:, k] @ X / n
        scatter = ((X - mean) * shares[:, [k]]).T @ (X - mean)
        shrink = prior.mean_precision * n / (prior.mean_precision + n)
        outer = np.outer(mean - prior.mean, mean - prior.mean)
        wanted = (prior.scale + scatter + shrink * outer) / (n + prior.degrees_of_freedom + 4)
        np.testing.assert_allclose(got.covariances[k], wanted, rtol=1e-11)
        at = (n * mean + prior.mean_precision * prior.mean) / (n + prior.mean_precision)
        np.testing.assert_allclose(got.means[k], at, rtol=1e-12)
        assert got.weights[k] == pytest.approx(n / 30, rel=1e-12)


@pytest.mark.derives("thm-map-monotone")
@pytest.mark.parametrize("family", FOURTEEN)
def test_the_posterior_never_falls(family: str) -> None:
    X = gmm.datasets.iris().X
    prior = default_prior(X, 3)
    kept = gmm.fit(X, 3, family, prior=prior, random_state=0, keep="all", tol=1e-10)
    objectives = [m.log_likelihood(X) + prior.log_density(m) for m in kept.trace.mixtures.values()]
    assert np.diff(objectives).min() >= -1e-9 * abs(objectives[0])
    assert kept.converged
    assert kept.log_prior == pytest.approx(prior.log_density(kept.mixture), rel=1e-12)
    assert kept.log_likelihood == pytest.approx(kept.mixture.log_likelihood(X), rel=1e-10)
    assert kept.trace.log_likelihood[-1] == kept.log_likelihood


def test_it_is_a_maximum_of_the_posterior() -> None:
    """A general-purpose minimiser, started at the answer, finds nothing better."""
    X = gmm.datasets.acidity().X
    prior = default_prior(X, 2)
    fit = gmm.fit(X, 2, prior=prior, random_state=0, tol=1e-14, accelerate="squarem")

    def loss(free: Floats) -> float:
        weights = np.array([free[0], 1 - free[0]])
        mixture = gmm.Mixture(weights, free[1:3, None], np.exp(free[3:5]), "VII")
        return -mixture.log_likelihood(X) - prior.log_density(mixture)

    at = np.concatenate(
        [fit.mixture.weights[:1], fit.mixture.means[:, 0], np.log(fit.mixture.covariances[:, 0, 0])]
    )
    found = scipy.optimize.minimize(loss, at, method="Nelder-Mead", options={"xatol": 1e-9})
    assert found.fun >= loss(at) - 1e-7
    np.testing.assert_allclose(found.x, at, atol=1e-3)


@pytest.mark.derives("thm-map-bounded")
@pytest.mark.parametrize("family", FOURTEEN)
def test_nothing_collapses(family: str) -> None:
    """Two copies of one row far from all others, constant columns, more features than rows."""
    rng = np.random.default_rng(0)
    spot = np.vstack([rng.standard_normal((20, 2)), np.full((2, 2), 9.0)])
    few = rng.standard_normal((4, 6))
    for X, k in ((spot, 3), (few, 3)):
        fit = gmm.fit(X, k, family, prior="default", random_state=0)
        assert np.isfinite(fit.log_likelihood)
        assert (np.linalg.eigvalsh(fit.mixture.covariances) > 0).all()
        floor = np.linalg.eigvalsh(default_prior(X, k).scale)[0]
        n = len(X) + k * (2 * X.shape[1] + 4)
        assert np.linalg.eigvalsh(fit.mixture.covariances).min() >= 0.5 * floor / n


@pytest.mark.derives("thm-map-bounded", "eq-posterior-bound")
@pytest.mark.parametrize("deviation", [1.0, 1e-2, 1e-5, 1e-9])
def test_the_posterior_keeps_below_its_bound_where_a_component_shrinks(deviation: float) -> None:
    X = gmm.datasets.old_faithful().X
    prior = default_prior(X, 2)
    n, d, e = len(X), 2, prior.covariance_weight
    wide = np.cov(X.T)
    mixture = gmm.Mixture([0.99, 0.01], [X.mean(axis=0), X[0]], [wide, deviation**2 * wide])
    posterior = mixture.log_likelihood(X) + prior.log_density(mixture)
    least = int(np.argmin(mixture.log_determinants))
    weights = e + n * (np.arange(2) == least)
    traces = np.trace(np.linalg.solve(mixture.covariances, prior.scale), axis1=1, axis2=2)
    constant = -0.5 * n * d * np.log(2 * np.pi)
    bound = constant - 0.5 * (weights * mixture.log_determinants + traces).sum()
    lowest = weights * (np.linalg.slogdet(prior.scale)[1] - d * np.log(weights) + d)
    assert posterior <= bound <= constant - 0.5 * lowest.sum()


@pytest.mark.derives("thm-map-bounded")
def test_no_update_is_smaller_than_the_scale_over_all_weight() -> None:
    """Of one row for a component there is no scatter: the covariance is the scale over 1 + e."""
    X = np.random.default_rng(1).standard_normal((12, 2))
    shares = np.zeros((12, 2))
    shares[0, 0] = shares[1:, 1] = 1.0
    prior = Prior(X[0], some_prior(2).scale)
    found = m_step(expected_statistics(X, shares, np.zeros((2, 2)), "full"), prior=prior)
    e = prior.covariance_weight
    np.testing.assert_allclose(found.covariances[0], prior.scale / (1 + e), rtol=1e-10)
    above = found.covariances - prior.scale / (12 + e)
    assert np.linalg.eigvalsh(above).min() > 0


@pytest.mark.derives("eq-default-prior")
def test_the_default_prior_is_fraley_and_raftery_s() -> None:
    X = gmm.datasets.iris().X
    prior = default_prior(X, 3)
    np.testing.assert_allclose(prior.mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(prior.scale, np.cov(X.T) / 3 ** (2 / 4), rtol=1e-11)
    assert (prior.mean_precision, prior.degrees_of_freedom, prior.concentration) == (0.01, 6.0, 1.0)


def test_a_prior_of_no_weight_changes_nothing_but_the_covariances() -> None:
    X = gmm.datasets.old_faithful().X
    weak = Prior(X.mean(axis=0), 1e-12 * np.eye(2), 0.0, 1.0 + 1e-9)
    statistics = e_step(X, gmm.fit(X, 2, random_state=0, max_iter=2).mixture)
    got, plain = m_step(statistics, prior=weak), m_step(statistics)
    np.testing.assert_allclose(got.means, plain.means, rtol=1e-13)
    np.testing.assert_allclose(got.weights, plain.weights, rtol=1e-13)
    shrunk = plain.covariances * (statistics.counts / (statistics.counts + 5))[:, None, None]
    np.testing.assert_allclose(got.covariances, shrunk, rtol=1e-6)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"scale": [[1.0, 2.0], [2.0, 1.0]]}, "scale"),
        ({"scale": np.eye(3)}, "scale: expected shape"),
        ({"degrees_of_freedom": 1.0}, "degrees_of_freedom: expected a finite number of more"),
        ({"degrees_of_freedom": np.inf}, "degrees_of_freedom: expected a finite number"),
        ({"concentration": np.inf}, "concentration: expected a finite number"),
        ({"mean_precision": -1.0}, "mean_precision"),
        ({"concentration": 0.5}, "concentration: expected a finite number of at least 1, got 0.5"),
        ({"mean": [0.0, np.nan]}, "mean"),
    ],
)
def test_bad_priors_are_refused(keywords: dict[str, object], message: str) -> None:
    arguments = {"mean": [0.0, 0.0], "scale": np.eye(2)} | keywords
    with pytest.raises(ValueError, match=message):
        Prior(**arguments)  # type: ignore[arg-type]  # wrong on purpose


def test_bad_priors_are_refused_by_fit() -> None:
    X = np.random.default_rng(0).standard_normal((20, 2))
    with pytest.raises(TypeError, match="prior: expected a Prior, 'default' or None, got 3"):
        gmm.fit(X, 2, prior=3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="prior: expected one of 'default'"):
        gmm.fit(X, 2, prior="strong")
    with pytest.raises(ValueError, match="prior: expected one for 2 features, got one for 1"):
        gmm.fit(X, 2, prior=Prior([0.0], [[1.0]]))


def test_priors_are_made_for_any_number_of_components_and_once() -> None:
    rows = gmm.rows.as_rows(gmm.datasets.old_faithful().X)
    priors = gmm.prior.Priors.of("default", rows)
    assert priors is not None
    for k in (1, 4):
        wanted = gmm.prior.default_prior(rows, k)
        np.testing.assert_array_equal(priors(k).scale, wanted.scale)
        assert priors(k) is priors(k)
    assert gmm.prior.Priors.of(None, rows) is None
    with pytest.raises(TypeError, match="prior: expected a Prior, 'default' or None, got 3"):
        gmm.prior.Priors.of(3, rows)
