"""Each M-step is the global maximum of the expected log-likelihood over its family."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from conftest import random_mixture
from hypothesis import given, settings
from hypothesis import strategies as st

import gmm
from gmm.bound import expected_complete_log_likelihood
from gmm.checks import EmptyComponentError, FloatArray, SingularCovarianceError
from gmm.e_step import e_step, expected_statistics
from gmm.families import FAMILIES, Scatter, update
from gmm.m_step import EMPTY, Held, inner_state, m_step, scatter_of, updated_weights
from gmm.statistics import Statistics


def _problem(
    seed: int = 0, n: int = 60, k: int = 3, d: int = 2
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows, responsibilities that belong to no mixture, and weights."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d))
    return (
        rng.normal(size=(n, d)) @ mix + 5.0,
        rng.dirichlet(np.ones(k), size=n),
        rng.uniform(0.0, 2.0, size=n),
    )


@pytest.mark.derives("thm-monotone")
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_step_never_lowers_the_likelihood(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for family in FAMILIES:
        if len(family) == 1:
            continue
        mixture = random_mixture(family, 3, 2, seed, spread=1.0)
        X = 3 * rng.standard_normal((60, 2))
        before = e_step(X, mixture)
        after = e_step(X, m_step(before, family))
        assert after.log_likelihood >= before.log_likelihood - 1e-9 * abs(before.log_likelihood)


def test_ridge_is_added_to_every_variance(family: str) -> None:
    X, shares, _ = _problem(6)
    statistics = expected_statistics(X, shares, np.zeros((3, 2)), FAMILIES[family])
    plain, ridged = m_step(statistics, family), m_step(statistics, family, ridge=0.25)
    np.testing.assert_allclose(
        ridged.covariances, plain.covariances + 0.25 * np.eye(2), rtol=1e-13, atol=1e-15
    )


@pytest.mark.parametrize("names", [{"weights"}, {"means"}, {"covariances"}, {"weights", "means"}])
def test_held_parameters_stay_and_the_others_maximise_the_same_function(
    family: str, names: set[str]
) -> None:
    """About held means the scatter is that of the rows about them, summed row by row."""
    X, shares, _ = _problem(9)
    before = random_mixture(family, 3, 2, seed=0)
    statistics = expected_statistics(X, shares, np.zeros((3, 2)), FAMILIES[family])
    got = m_step(statistics, family, held=Held(before, frozenset(names)))
    free = m_step(statistics, family)
    weights = (before if "weights" in names else free).weights
    means = (before if "means" in names else free).means
    np.testing.assert_allclose(got.weights, weights, rtol=1e-15)
    np.testing.assert_allclose(got.means, means, rtol=1e-15)
    if "covariances" in names:
        np.testing.assert_array_equal(got.stored, before.stored)
        return
    residuals = X[:, None, :] - means
    scatter = np.einsum("nk,nka,nkb->kab", shares, residuals, residuals)
    counts = shares.sum(axis=0)
    diagonals = np.diagonal(scatter, axis1=1, axis2=2)
    wanted = {
        "VVV": scatter / counts[:, None, None],
        "EEE": scatter.sum(axis=0) / len(X),
        "VVI": diagonals / counts[:, None],
        "VII": diagonals.mean(axis=1) / counts,
    }[family]
    np.testing.assert_allclose(got.stored, wanted, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", ["VEI", "VEE", "VEV", "EVE", "VVE"])
def test_an_iterative_update_goes_on_from_the_previous_mixture(name: str) -> None:
    """To the last bit the update from that mixture's state, about moments summed row by row."""
    X, shares, _ = _problem(10, d=3)
    statistics = expected_statistics(X, shares, np.zeros((3, 3)), FAMILIES[name])
    previous = random_mixture(name, 3, 3, seed=1)
    scatter = scatter_of(statistics, statistics.means())
    residuals = X[:, None, :] - statistics.means()
    by_rows = np.einsum("nk,nka,nkb->kab", shares, residuals, residuals)
    wanted = Scatter.of(by_rows, shares.sum(axis=0), name, scatter.groups)
    np.testing.assert_allclose(scatter.matrices, wanted.matrices, rtol=1e-9, atol=1e-11)
    begun = m_step(statistics, name, previous=previous).stored
    np.testing.assert_array_equal(begun, update(name, scatter, inner_state(previous))[0])
    afresh = m_step(statistics, name).stored
    assert (begun != afresh).any()
    np.testing.assert_allclose(begun, afresh, rtol=1e-5, atol=1e-6)


def test_the_scatter_of_a_tied_family_is_a_stack_of_one() -> None:
    X, shares, _ = _problem(11)
    statistics = expected_statistics(X, shares, np.zeros((3, 2)), "tied")
    assert scatter_of(statistics, statistics.means()).matrices.shape == (1, 2, 2)


def test_affine_maps_of_the_rows_map_the_parameters() -> None:
    X, shares, _ = _problem(7)
    A, b = np.array([[2.0, 1.0], [-1.0, 0.5]]), np.array([3.0, -4.0])
    plain = m_step(expected_statistics(X, shares, np.zeros((3, 2)), "full"))
    mapped = m_step(expected_statistics(X @ A.T + b, shares, np.zeros((3, 2)), "full"))
    np.testing.assert_allclose(mapped.means, plain.means @ A.T + b, rtol=1e-12)
    np.testing.assert_allclose(mapped.covariances, A @ plain.covariances @ A.T, rtol=1e-11)


def test_an_empty_component_is_refused_by_name() -> None:
    X = np.random.default_rng(0).standard_normal((10, 2))
    shares = np.column_stack([np.ones(10), np.zeros(10)])
    statistics = expected_statistics(X, shares, np.zeros((2, 2)), "full")
    with pytest.raises(gmm.SingularCovarianceError, match="component 1 is responsible for no row"):
        m_step(statistics)


@pytest.mark.parametrize("total", [1.0, 2.0**-60, 2.0**60])
def test_a_share_of_this_size_or_less_is_none(total: float) -> None:
    for share, refused in ((EMPTY, True), (2 * EMPTY, False)):
        counts = total * np.array([1.0, share])  # of which the sum is exactly the first
        zero = np.zeros((2, 1))
        statistics = Statistics("spherical", zero, counts, zero, counts, 0.0, 2)
        if refused:
            with pytest.raises(EmptyComponentError, match="component 1"):
                m_step(statistics, "V")
        else:
            np.testing.assert_allclose(m_step(statistics, "V").stored, 1.0, rtol=1e-15)


def test_a_wrong_ridge_or_family_is_refused_by_name() -> None:
    X, shares, _ = _problem(12)
    statistics = expected_statistics(X, shares, np.zeros((3, 2)), "spherical")
    with pytest.raises(ValueError, match=r"^ridge: expected"):
        m_step(statistics, "VII", ridge=-1.0)
    with pytest.raises(ValueError, match=r"^family: expected one of three letters for 2 features"):
        m_step(statistics, "V")


def test_statistics_of_another_kind_are_refused() -> None:
    X, shares, _ = _problem(8)
    statistics = expected_statistics(X, shares, np.zeros((3, 2)), "diag")
    with pytest.raises(ValueError, match="statistics: expected the kind 'full' for the family VVV"):
        m_step(statistics, "VVV")


# ---------------------------------------------------------------- the theory of the chapter


def _answer(X: FloatArray, r: FloatArray, w: FloatArray, family: str) -> gmm.Mixture:
    centres = np.zeros((r.shape[1], X.shape[1]))
    return m_step(expected_statistics(X, r, centres, FAMILIES[family], w), family)


def _disturbed(best: gmm.Mixture, size: float, rng: np.random.Generator) -> gmm.Mixture:
    """Another member of the same family."""
    k, d = best.means.shape
    weights = best.weights * np.exp(size * rng.normal(size=k))
    if best.family == "VVV":
        push = np.eye(d) + size * rng.normal(size=(k, d, d))
        covariances = push @ best.covariances @ push.transpose(0, 2, 1)
    elif best.family == "EEE":
        one = np.eye(d) + size * rng.normal(size=(d, d))
        covariances = one @ best.covariances @ one.T
    elif best.family == "VVI":
        covariances = best.covariances * np.exp(size * rng.normal(size=(k, d)))[:, :, None]
    else:
        covariances = best.covariances * np.exp(size * rng.normal(size=k))[:, None, None]
    means = best.means + size * rng.normal(size=(k, d))
    return gmm.Mixture(weights / weights.sum(), means, covariances, best.family)


def _predicted_loss(statistics: Statistics, best: gmm.Mixture, other: gmm.Mixture) -> float:
    """Counts times divergences, with the divergence of two normals written out."""
    d = best.n_features
    loss = 0.0
    for k, count in enumerate(statistics.counts):
        precision = np.linalg.inv(other.covariances[k])
        shift = other.means[k] - best.means[k]
        ratio = precision @ best.covariances[k]
        divergence = 0.5 * (
            np.trace(ratio) + shift @ precision @ shift - d - np.linalg.slogdet(ratio)[1]
        )
        loss += count * (np.log(best.weights[k] / other.weights[k]) + divergence)
    return float(loss)


@pytest.mark.derives("thm-m-step-weights", "eq-weight-update")
def test_weights_beat_every_other_point_of_the_simplex_and_empty_ones_are_zero() -> None:
    counts = np.array([3.0, 0.0, 5.0, 2.0])
    zero = np.zeros((4, 1))
    statistics = Statistics("spherical", zero, counts, zero, np.ones(4), 0.0, 10)
    best = updated_weights(statistics)
    np.testing.assert_allclose(best, [0.3, 0.0, 0.5, 0.2], rtol=1e-15)
    alive = counts > 0
    top = counts[alive] @ np.log(best[alive])
    rng = np.random.default_rng(0)
    for concentration in (0.2, 1.0, 5.0):
        for other in rng.dirichlet(np.full(4, concentration), size=50):
            with np.errstate(divide="ignore"):
                value = counts[alive] @ np.log(other[alive])
            assert value < top
    # a small weight for the empty component costs W times that weight
    moved = best * (1 - 1e-6) + 1e-6 * ~alive
    assert top - counts[alive] @ np.log(moved[alive]) == pytest.approx(10 * 1e-6, rel=1e-5)


@pytest.mark.derives("lem-log-det-trace")
def test_log_determinant_plus_trace_is_least_at_the_matrix_itself() -> None:
    rng = np.random.default_rng(1)
    for d in (1, 2, 4):
        root = rng.normal(size=(d, d))
        S = root @ root.T + 0.1 * np.eye(d)
        least = np.linalg.slogdet(S)[1] + d
        for size in (1e-2, 1.0):
            push = np.eye(d) + size * rng.normal(size=(d, d))
            other = push @ S @ push.T
            value = np.linalg.slogdet(other)[1] + np.trace(np.linalg.solve(other, S))
            # the excess is the sum of λ - log λ - 1, λ the eigenvalues of Σ^-1 S
            eigenvalues = np.linalg.eigvals(np.linalg.solve(other, S)).real
            excess = np.sum(eigenvalues - np.log(eigenvalues) - 1)
            assert value - least == pytest.approx(excess, rel=1e-8)
            assert excess > 0


@pytest.mark.derives("lem-log-det-trace")
def test_of_a_singular_matrix_the_same_sum_has_no_lower_bound() -> None:
    S = np.outer([1.0, 2.0], [1.0, 2.0])
    values = []
    for epsilon in (1e-3, 1e-6, 1e-9):
        other = S + epsilon * np.eye(2)
        values.append(np.linalg.slogdet(other)[1] + np.trace(np.linalg.solve(other, S)))
    # one zero eigenvalue: each factor of 1000 takes away log 1000, up to terms of order epsilon
    np.testing.assert_allclose(np.diff(values), -np.log(1000), rtol=1e-3)


@pytest.mark.derives("thm-m-step-full", "thm-m-step-weights")
@pytest.mark.derives("eq-weight-update", "eq-mean-update", "eq-covariance-update")
def test_full_update_is_the_weighted_mean_and_covariance() -> None:
    X, r, w = _problem()
    ours = _answer(X, r, w, "VVV")
    for k in range(3):
        share = w * r[:, k]
        np.testing.assert_allclose(ours.means[k], np.average(X, axis=0, weights=share), rtol=1e-12)
        # numpy's own weighted covariance, with the divisor N_k
        theirs = np.cov(X.T, aweights=share, ddof=0)
        np.testing.assert_allclose(ours.covariances[k], theirs, rtol=1e-10)
    np.testing.assert_allclose(ours.weights, (w @ r) / w.sum(), rtol=1e-13)


@pytest.mark.derives("thm-m-step-weights", "thm-m-step-full", "thm-m-step-tied")
@pytest.mark.derives("thm-m-step-diag", "thm-m-step-spherical", "thm-matched-statistics")
@pytest.mark.derives("eq-weight-update", "eq-mean-update", "eq-covariance-update")
@pytest.mark.derives("eq-tied-update", "eq-diag-update", "eq-spherical-update")
@pytest.mark.parametrize("family", ["VVV", "EEE", "VVI", "VII"])
def test_no_other_member_of_the_family_is_better_and_the_loss_is_the_divergence(
    family: str,
) -> None:
    X, r, w = _problem(seed=1)
    best = _answer(X, r, w, family)
    top = expected_complete_log_likelihood(X, best, r, w)
    statistics = expected_statistics(X, r, best.means, FAMILIES[family], w)
    rng = np.random.default_rng(2)
    for size in (1e-3, 1e-2, 0.3):
        for _ in range(5):
            other = _disturbed(best, size, rng)
            loss = top - expected_complete_log_likelihood(X, other, r, w)
            assert loss > 0
            # both values of Q are of the order of 1e3 to 1e5 and rounded to 2^-53 of that
            assert loss == pytest.approx(
                _predicted_loss(statistics, best, other), abs=1e-9, rel=1e-8
            )


@pytest.mark.derives("thm-m-step-tied", "eq-tied-update")
@pytest.mark.derives("thm-m-step-diag", "eq-diag-update")
@pytest.mark.derives("thm-m-step-spherical", "eq-spherical-update")
def test_restricted_updates_are_averages_of_the_full_one() -> None:
    X, r, w = _problem(seed=3, d=3)
    full = _answer(X, r, w, "VVV")
    counts = w @ r
    tied = np.tensordot(counts / w.sum(), full.covariances, axes=1)
    diagonals = np.diagonal(full.covariances, axis1=1, axis2=2)
    for family, expected in (
        ("EEE", np.broadcast_to(tied, (3, 3, 3))),
        ("VVI", diagonals[:, :, None] * np.eye(3)),
        ("VII", diagonals.mean(axis=1)[:, None, None] * np.eye(3)),
    ):
        ours = _answer(X, r, w, family)
        np.testing.assert_allclose(ours.covariances, expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(ours.means, full.means, rtol=1e-12)


@pytest.mark.derives("thm-m-step-spherical")
def test_a_numerical_optimiser_finds_the_same_spherical_variance() -> None:
    X, r, w = _problem(seed=4, k=1, d=3)
    best = _answer(X, r, w, "VII")

    def loss(log_variance: float) -> float:
        other = gmm.Mixture([1.0], best.means, [float(np.exp(log_variance))], "VII")
        return -expected_complete_log_likelihood(X, other, r, w)

    found = scipy.optimize.minimize_scalar(
        loss, bounds=(-5, 10), method="bounded", options={"xatol": 1e-9}
    )
    # an optimiser on values finds the place of a quadratic minimum to half the digits
    assert np.exp(found.x) == pytest.approx(best.covariances[0, 0, 0], rel=1e-5)


@pytest.mark.derives("prop-scatter")
def test_scatter_is_singular_just_when_the_owned_rows_lie_in_a_hyperplane() -> None:
    rng = np.random.default_rng(5)
    line = np.array([[1.0, 2.0]]) + rng.normal(size=(6, 1)) * np.array([[3.0, -1.0]])
    X = np.vstack([line, rng.normal(size=(6, 2))])
    hard = np.repeat(np.eye(2), 6, axis=0)  # the first component owns the line
    soft = 0.9 * hard + 0.05

    def least_eigenvalues(rows: FloatArray, r: FloatArray) -> FloatArray:
        statistics = expected_statistics(rows, r, np.zeros((2, 2)), "full")
        return np.linalg.eigvalsh(statistics.scatter())[:, 0].astype(np.float64)

    # scatters are of the order of 100, and rounded to 2^-53 of that
    owned = least_eigenvalues(X, hard)
    assert abs(owned[0]) < 1e-12
    assert owned[1] > 0.1
    assert (least_eigenvalues(X, soft) > 0.1).all()
    # if every row has a share in every component, all scatters are definite or none is
    flat = np.vstack([line, line + np.array([3.0, -1.0])])
    assert (np.abs(least_eigenvalues(flat, soft)) < 1e-12).all()


@pytest.mark.derives("thm-m-step-full")
def test_two_rows_of_the_plane_are_refused_by_the_full_family_only() -> None:
    X = np.array([[0.0, 0.0], [2.0, 2.0]])  # their scatter is exact, and exactly singular
    r, w = np.ones((2, 1)), np.ones(2)
    with pytest.raises(SingularCovarianceError):
        _answer(X, r, w, "VVV")
    ours = _answer(X, r, w, "VII").covariances[0]
    np.testing.assert_allclose(ours, np.eye(2), rtol=1e-14)


def _kept(moments: FloatArray, family: str) -> FloatArray:
    """The part of second moments (K, d, d) that a family matches."""
    if family == "VVV":
        return moments
    if family == "EEE":
        return np.asarray(moments.sum(axis=0, keepdims=True), dtype=np.float64)
    diagonals = np.diagonal(moments, axis1=1, axis2=2).astype(np.float64)
    if family == "VVI":
        return diagonals
    return np.asarray(diagonals.sum(axis=1, keepdims=True), dtype=np.float64)


@pytest.mark.derives("thm-matched-statistics")
@pytest.mark.parametrize("family", ["VVV", "EEE", "VVI", "VII"])
def test_the_mixture_expects_the_statistics_that_it_was_given(family: str) -> None:
    X, r, w = _problem(seed=6)
    mixture = _answer(X, r, w, family)
    total = w.sum()
    shares = w[:, None] * r
    np.testing.assert_allclose(total * mixture.weights, shares.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        total * mixture.weights[:, None] * mixture.means, shares.T @ X, rtol=1e-11
    )
    expected = (
        total
        * mixture.weights[:, None, None]
        * (mixture.covariances + mixture.means[:, :, None] * mixture.means[:, None, :])
    )
    found = np.einsum("ik,ia,ib->kab", shares, X, X)
    for ours, theirs in zip(_kept(expected, family), _kept(found, family), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


@pytest.mark.derives("cor-moments-match")
@pytest.mark.parametrize("family", ["VVV", "EEE", "VVI", "VII"])
def test_after_an_m_step_the_mixture_has_the_moments_of_the_rows(family: str) -> None:
    X, r, w = _problem(seed=7)
    mixture = _answer(X, r, w, family)
    np.testing.assert_allclose(mixture.mean, np.average(X, axis=0, weights=w), rtol=1e-12)
    data = np.cov(X.T, aweights=w, ddof=0)
    ours = mixture.covariance
    if family in ("VVV", "EEE"):
        np.testing.assert_allclose(ours, data, rtol=1e-10)
    elif family == "VVI":
        np.testing.assert_allclose(np.diag(ours), np.diag(data), rtol=1e-10)
        assert abs(ours[0, 1] - data[0, 1]) > 1e-3  # and no more than the diagonal
    else:
        assert np.trace(ours) == pytest.approx(np.trace(data), rel=1e-10)
        assert abs(ours[0, 0] - data[0, 0]) > 1e-3
