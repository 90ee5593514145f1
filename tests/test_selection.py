"""The criteria are their definitions, and agree with published values."""

from __future__ import annotations

from math import lgamma

import numpy as np
import pytest
from conftest import random_mixture
from numpy.typing import NDArray
from scipy import integrate, optimize, stats

import gmm
from gmm.selection import aic, bic


@pytest.mark.derives("eq-aic", "eq-bic")
def test_criteria_are_their_definitions() -> None:
    assert aic(-10.0, 3) == 26.0
    assert bic(-10.0, 3, 100) == pytest.approx(20 + 3 * np.log(100))


@pytest.mark.derives("eq-bic")
@pytest.mark.parametrize(
    ("family", "k", "published"),
    [("EEE", 3, 2314.316), ("VVV", 2, 2322.192), ("EEE", 1, 2607.6), ("EEE", 2, 2325.2)],
)
def test_bic_of_old_faithful_is_as_published(
    family: str, k: int, published: float, old_faithful: NDArray[np.float64]
) -> None:
    """mclust's table, with the sign turned; ours may be better by a later stop, never worse."""
    fit = gmm.fit(old_faithful, k, family, n_starts=5, tol=1e-10, random_state=0)
    assert published - 0.1 < fit.bic < published + 0.05


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="n: expected a positive number, got 0"):
        bic(-1.0, 2, 0)
    with pytest.raises(ValueError, match="n_parameters: expected an integer of at least 1"):
        aic(-1.0, 0)


# ---------------------------------------------------------------- the theory


def precision_model(n: int, prior: float = 2.0) -> tuple[float, float, float]:
    """Rows from N(0, 1/τ) with a gamma prior on τ: exact evidence, Laplace's terms, the maximum.

    The exact value is checked by quadrature in the test below.
    """
    total = 1.3 * n
    exact = -n / 2 * np.log(2 * np.pi) + prior * np.log(prior) - lgamma(prior)
    exact += lgamma(prior + n / 2) - (prior + n / 2) * np.log(prior + total / 2)
    tau = n / total
    peak = n / 2 * np.log(tau / (2 * np.pi)) - n / 2
    information = 1 / (2 * tau**2)
    log_prior = stats.gamma(prior, scale=1 / prior).logpdf(tau)
    rest = 0.5 * np.log(2 * np.pi) - 0.5 * np.log(information) + log_prior
    return float(exact), float(peak - 0.5 * np.log(n) + rest), float(peak)


def test_the_exact_evidence_is_its_integral() -> None:
    n, prior = 12, 2.0
    exact, _, _ = precision_model(n, prior)

    def integrand(tau: float) -> float:
        log_likelihood = n / 2 * np.log(tau / (2 * np.pi)) - tau * 1.3 * n / 2
        log_prior = stats.gamma(prior, scale=1 / prior).logpdf(tau)
        return float(np.exp(log_likelihood + log_prior - exact))

    assert integrate.quad(integrand, 0, 20)[0] == pytest.approx(1.0, rel=1e-7)


@pytest.mark.derives("thm-laplace")
def test_laplaces_error_falls_like_one_over_n_and_bics_stays() -> None:
    sizes = np.array([100, 1000, 10_000])
    errors = np.array([abs(precision_model(n)[0] - precision_model(n)[1]) for n in sizes])
    np.testing.assert_allclose(errors[:-1] / errors[1:], 10.0, rtol=0.05)
    dropped = [
        precision_model(n)[0] + 0.5 * bic(precision_model(n)[2], 1, n) for n in sizes.tolist()
    ]
    np.testing.assert_allclose(dropped, dropped[-1], atol=0.02)
    assert abs(dropped[-1]) > 0.1


@pytest.mark.derives("cor-unit-information")
def test_bic_is_exact_for_the_unit_information_prior() -> None:
    """Rows from N(μ, 1), prior N(x̄, 1): the evidence in closed form against BIC."""
    for n in (10, 1000, 100_000):
        x = stats.norm.ppf((np.arange(n) + 0.5) / n)
        peak = stats.norm(x.mean(), 1).logpdf(x).sum()
        # exp(ℓ) is exp(peak) exp(-n (μ - x̄)²/2); against the prior it integrates to (1 + n)^-1/2
        evidence = peak - 0.5 * np.log(1 + n)
        assert -2 * evidence - bic(peak, 1, n) == pytest.approx(np.log1p(1 / n), abs=1e-6)


@pytest.mark.derives("prop-optimism")
def test_a_fitted_mean_flatters_itself_by_one_nat_for_each_parameter() -> None:
    """Exact, by the algebra of covariances: no simulation."""
    n, d = 7, 3
    centring = np.eye(n) - 1 / n
    on_its_own = 0.5 * d * np.trace(centring @ centring.T)
    on_new_rows = 0.5 * d * n * (1 + 1 / n)
    assert on_new_rows - on_its_own == pytest.approx(d)
    x, y = np.random.default_rng(0).standard_normal((2, 40_000, n, d))
    centre = x.mean(axis=1, keepdims=True)
    gap = 0.5 * (((y - centre) ** 2).sum((1, 2)) - ((x - centre) ** 2).sum((1, 2)))
    assert gap.mean() == pytest.approx(d, abs=4 * gap.std() / 200)


@pytest.mark.derives("prop-nested")
def test_a_split_component_gives_the_same_density(family: str) -> None:
    mixture = random_mixture(family, 2, 2, seed=1)
    weights = np.array([mixture.weights[0] / 2, mixture.weights[0] / 2, mixture.weights[1]])
    stored = mixture.stored if family == "EEE" else mixture.stored[[0, 0, 1]]
    split = gmm.Mixture(weights, mixture.means[[0, 0, 1]], stored, family)
    X = mixture.sample(50, 0)[0]
    np.testing.assert_allclose(split.log_density(X), mixture.log_density(X), rtol=1e-13)


@pytest.mark.derives("prop-singular-information")
@pytest.mark.parametrize("case", ["equal components", "a weight of zero"])
def test_superfluous_components_make_the_information_singular(case: str) -> None:
    """The Fisher information of (π, μ1, μ2, σ) by quadrature, at a true and at a false model."""

    def log_density(theta: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        weight, low, high, scale = theta
        parts = (1 - weight) * stats.norm(low, scale).pdf(x) + weight * stats.norm(high, scale).pdf(
            x
        )
        return np.asarray(np.log(parts))

    def information(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        x = np.linspace(-12, 12, 4001)
        step = 1e-5 * np.eye(4)
        score = np.array(
            [(log_density(theta + h, x) - log_density(theta - h, x)) / 2e-5 for h in step]
        )
        return np.asarray((score * np.exp(log_density(theta, x))) @ score.T * (x[1] - x[0]))

    regular = np.linalg.eigvalsh(information(np.array([0.4, -1.0, 1.0, 1.0])))
    theta = np.array([0.4, 0.0, 0.0, 1.0] if case == "equal components" else [2e-5, 0.0, 2.0, 1.0])
    singular = np.linalg.eigvalsh(information(theta))
    assert regular[0] > 1e-3
    assert singular[0] < 1e-8


def test_the_boundary_makes_half_of_the_gains_vanish() -> None:
    """The chapter's example: 1 − π of N(0, 1) and π of N(1, 1), rows from the former."""
    rows = np.random.default_rng(1).standard_normal((500, 200))
    excess = np.exp(rows - 0.5) - 1

    def best(e: NDArray[np.float64]) -> float:
        found = optimize.minimize_scalar(
            lambda p: -np.log1p(p * e).sum(), bounds=(0, 1), method="bounded"
        )
        return float(max(0.0, -found.fun))

    gains = np.array([best(e) for e in excess])
    assert (gains < 1e-4).mean() == pytest.approx(0.5, abs=0.08)
