"""The fourteen families: names, storage, counts, and M-steps that nothing in the family beats."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from conftest import random_member, random_mixture
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import gmm
from gmm.checks import SingularCovarianceError
from gmm.e_step import e_step, expected_statistics
from gmm.families import (
    FAMILIES,
    KINDS,
    Groups,
    Scatter,
    expand,
    inverse_update,
    is_nested,
    n_parameters,
    of_marginals,
    parse_family,
    refuse_units_apart,
    restrict,
    restrict_variances,
    stored_shape,
    update,
)
from gmm.m_step import inner_state, m_step

Floats = NDArray[np.float64]

FOURTEEN = [name for name in FAMILIES if len(name) == 3]
INNER = ("VEI", "VEE", "VEV", "EVE", "VVE")
LABELS = (
    "eq-eii-update", "eq-eei-update", "eq-evi-update", "eq-eev-update", "eq-evv-update",
    "eq-vei-update", "eq-vee-update", "eq-vev-update", "eq-eve-update", "eq-vve-update",
    "eq-tied-update", "eq-diag-update", "eq-spherical-update", "eq-covariance-update",
)  # fmt: skip


def sizes(family: str, k: int, d: int) -> tuple[int, int, int]:
    """How many free numbers of volume, shape and orientation a family has."""
    times = [{"E": 1, "V": k, "I": 0}[letter] for letter in family]
    return times[0], times[1] * (d - 1), times[2] * d * (d - 1) // 2


def parts(family: str, free: Floats, k: int, d: int) -> tuple[Floats, Floats]:
    """Variances (K, d) and axes (K, d, d) from free volumes, shapes and (by Cayley) rotations."""
    n_volume, n_shape, _ = sizes(family, k, d)
    volumes, shapes, turns = np.split(free, [n_volume, n_volume + n_shape])
    entries = np.zeros((k, d))
    if n_shape:
        entries[:, :-1] = shapes.reshape(-1, d - 1)
        entries[:, -1] = -entries.sum(axis=1)
    axes = np.tile(np.eye(d), (k, 1, 1))
    if len(turns):
        skew = np.zeros((k, d, d))
        skew[(slice(None), *np.triu_indices(d, 1))] = turns.reshape(-1, d * (d - 1) // 2)
        skew -= np.swapaxes(skew, 1, 2)
        axes = np.asarray(np.linalg.solve(np.eye(d) + skew, np.eye(d) - skew), dtype=float)
    return np.exp(volumes[:, None] + entries), axes


def from_free(family: str, free: Floats, k: int, d: int) -> Floats:
    """The member of a family with these free numbers: volumes, shapes, rotations."""
    variances, axes = parts(family, free, k, d)
    return np.asarray((axes * variances[:, None]) @ np.swapaxes(axes, 1, 2))


def objective(covariances: Floats, scatter: Floats, counts: Floats) -> float:
    """Σ tr(W_k Σ_k⁻¹) + N_k log det Σ_k: twice the loss of expected log-likelihood."""
    traces = np.trace(np.linalg.solve(covariances, scatter), axis1=1, axis2=2)
    return float(traces.sum() + counts @ np.linalg.slogdet(covariances)[1])


def some_scatter(k: int, d: int, seed: int) -> tuple[Floats, Floats]:
    """Scatter matrices of unequal volume, shape and orientation, and counts."""
    rng = np.random.default_rng(seed)
    counts = rng.uniform(10, 40, k)
    return random_member("VVV", k, d, rng) * counts[:, None, None], counts


def updated(family: str, matrices: Floats, counts: Floats) -> Floats:
    """The covariances of the M-step, as matrices."""
    k, d = matrices.shape[:2]
    stored, _ = update(family, Scatter.of(matrices, counts, family, Groups([k])))
    stored = stored[0] if FAMILIES[family] == "tied" else stored
    return np.array(expand(stored, FAMILIES[family], k, d))


# ---------------------------------------------------------------- names, storage, counts


@pytest.mark.parametrize("kind", KINDS)
def test_both_names_mean_the_same_family(kind: str) -> None:
    assert parse_family(kind) == parse_family(KINDS[kind]) == KINDS[kind]
    assert FAMILIES[KINDS[kind]] == kind


def test_families_of_one_feature_are_refused_for_more() -> None:
    assert parse_family("E", 1) == "E"
    wanted = "family: expected one of three letters for 2 features, got 'V', which is for one"
    with pytest.raises(ValueError, match=f"^{wanted}$"):
        parse_family("V", 2)
    with pytest.raises(ValueError, match=r"^family: expected one of 'EII', 'VII', 'EEI'"):
        parse_family("round")
    with pytest.raises(ValueError, match=r"family: expected one of three letters"):
        gmm.fit(np.random.default_rng(0).standard_normal((9, 2)), 1, "E")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_expands_to_matrices_and_back(kind: str) -> None:
    k, d = 3, 4
    rng = np.random.default_rng(1)
    stored = rng.uniform(1.0, 2.0, stored_shape(kind, k, d))
    if kind in ("full", "tied"):
        stored = stored + np.swapaxes(stored, -1, -2)
    matrices = expand(stored, kind, k, d)
    assert matrices.shape == (k, d, d)
    weights = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(restrict(matrices, KINDS[kind], weights), stored, rtol=1e-15)


@pytest.mark.parametrize("name", FOURTEEN)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_member_is_its_own_best_fit(name: str, d: int) -> None:
    matrices = random_member(name, 3, d, np.random.default_rng(4))
    stored = restrict(matrices, name, np.array([0.2, 0.3, 0.5]))
    np.testing.assert_allclose(expand(stored, FAMILIES[name], 3, d), matrices, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    "name", [name for name in FAMILIES if FAMILIES[name] in ("diag", "spherical")]
)
def test_stored_variances_are_fitted_as_their_matrices_are(name: str) -> None:
    """Variances of no family, one component of which has no weight."""
    d = 1 if len(name) == 1 else 3
    kind, weights = FAMILIES[name], np.array([0.2, 0.0, 0.8])
    stored = np.random.default_rng(6).uniform(1.0, 2.0, stored_shape(kind, 3, d))
    got = restrict_variances(stored, name, weights, d)
    wanted = restrict(expand(stored, kind, 3, d), name, weights)
    np.testing.assert_allclose(got, wanted, rtol=1e-13)
    assert got.shape == stored.shape
    if name in ("VII", "VVI", "V"):
        np.testing.assert_allclose(got, stored, rtol=1e-15)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("exponent", [-900, 900])
def test_the_best_fit_has_the_unit_of_its_matrices_beside_a_component_of_no_weight(
    name: str, exponent: int
) -> None:
    """With powers of two, so that rounding is alike."""
    d = 1 if len(name) == 1 else 3
    kind, weights, factor = FAMILIES[name], np.array([0.2, 0.0, 0.8]), 2.0**exponent
    matrices = random_member("VVV", 3, d, np.random.default_rng(7))
    plain = restrict(matrices, name, weights)
    assert (np.linalg.eigvalsh(expand(plain, kind, 3, d)) > 0).all()
    scaled = restrict(factor * matrices, name, weights) / factor
    np.testing.assert_allclose(scaled, plain, rtol=1e-12, atol=1e-13)
    if kind in ("diag", "spherical"):
        scaled = restrict_variances(factor * plain, name, weights, d) / factor
        np.testing.assert_allclose(scaled, plain, rtol=1e-9)


def test_tied_covariance_of_different_matrices_is_their_weighted_mean() -> None:
    matrices = np.array([np.eye(2), 3 * np.eye(2)])
    np.testing.assert_allclose(
        restrict(matrices, "EEE", np.array([0.25, 0.75])), 2.5 * np.eye(2), rtol=1e-15
    )


@pytest.mark.derives("eq-parameter-count", "prop-volume-shape-orientation", "prop-family-dimension")
@pytest.mark.parametrize("name", FOURTEEN)
@pytest.mark.parametrize("d", [2, 3])
def test_parameter_count_is_the_rank_of_the_map_to_log_densities(name: str, d: int) -> None:
    """As many directions change the density as there are parameters, and no more."""
    k = 2
    rng = np.random.default_rng(3)
    X = 2 * rng.standard_normal((120, d))
    n_covariance = sum(sizes(name, k, d))

    def log_density(parameters: Floats) -> Floats:
        free_weight, means, free = np.split(parameters, [1, 1 + k * d])
        weights = np.array([free_weight[0], 1 - free_weight[0]])
        total = np.zeros(len(X))
        covariances = from_free(name, free, k, d)
        for w, m, c in zip(weights, means.reshape(k, d), covariances, strict=True):
            z = X - m
            q = np.einsum("ij,jk,ik->i", z, np.linalg.inv(c), z)
            total += w * np.exp(-0.5 * q) / np.sqrt(np.linalg.det(c))
        return np.asarray(np.log(total))

    at = np.concatenate(
        [[0.4], rng.standard_normal(k * d), 0.6 * rng.standard_normal(n_covariance)]
    )
    step = 1e-5
    jacobian = np.array(
        [(log_density(at + step * e) - log_density(at - step * e)) / (2 * step)
         for e in np.eye(len(at))]
    )  # fmt: skip
    assert np.linalg.matrix_rank(jacobian, tol=1e-6) == len(at) == n_parameters(name, k, d)


def test_published_parameter_counts() -> None:
    """mclust's counts for three components of two features (nMclustParams)."""
    counts = [n_parameters(name, 3, 2) for name in FOURTEEN]
    assert counts == [9, 11, 10, 12, 12, 14, 11, 13, 13, 15, 13, 15, 15, 17]
    assert n_parameters("E", 3, 1) == 6
    assert n_parameters("V", 3, 1) == 8
    assert all(isinstance(count, int) for count in counts)


@pytest.mark.parametrize("large", FOURTEEN)
@pytest.mark.parametrize("small", FOURTEEN)
def test_nested_families_hold_each_other_s_members(small: str, large: str) -> None:
    matrices = random_member(small, 3, 3, np.random.default_rng(5))
    stored = restrict(matrices, large, np.full(3, 1 / 3))
    kept = np.allclose(expand(stored, FAMILIES[large], 3, 3), matrices, rtol=1e-6, atol=1e-7)
    assert kept == is_nested(small, large)


@pytest.mark.parametrize("name", FOURTEEN)
def test_marginals_and_conditionals_belong_to_the_family_that_is_named(name: str) -> None:
    mixture = random_mixture(name, 3, 3, seed=2)
    marginal = mixture.marginal([0, 2])
    assert marginal.family == of_marginals(name)
    assert is_nested(name, marginal.family)
    index = np.ix_(range(3), [0, 2], [0, 2])
    np.testing.assert_allclose(marginal.covariances, mixture.covariances[index], rtol=1e-8)
    conditional = mixture.conditional([1], [0.3])
    x = np.array([[0.1, 0.7]])
    joint = mixture.log_density([[0.1, 0.3, 0.7]]) - mixture.marginal([1]).log_density([[0.3]])
    np.testing.assert_allclose(conditional.log_density(x), joint, rtol=1e-8)


# ---------------------------------------------------------------- M-steps


@pytest.mark.derives(*LABELS)
@pytest.mark.derives("thm-m-step-volumes", "thm-m-step-spectra", "prop-orientation-descent")
@pytest.mark.parametrize("name", FOURTEEN)
@pytest.mark.parametrize("d", [2, 3, 4])
def test_no_member_of_the_family_is_better(name: str, d: int) -> None:
    """Not near, not far, and not where a general-purpose minimiser goes."""
    k = 3 if d < 4 else 2
    matrices, counts = some_scatter(k, d, seed=d)
    best = updated(name, matrices, counts)
    least = objective(best, matrices, counts)
    rng = np.random.default_rng(1)
    size = sum(sizes(name, k, d))

    def of_free(free: Floats) -> float:
        variances, axes = parts(name, free, k, d)
        along = (axes * (matrices @ axes)).sum(axis=1)  # the diagonals of D' W D
        return float((along / variances).sum() + counts @ np.log(variances).sum(axis=1))

    for _ in range(2):
        found = scipy.optimize.minimize(of_free, 0.5 * rng.standard_normal(size), method="BFGS")
        assert found.fun >= least - 1e-7 * abs(least)
    # BFGS is led to the same place from there
    assert found.fun == pytest.approx(least, rel=1e-6)
    for scale in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            near = of_free(found.x + scale * rng.standard_normal(size))
            assert near >= least - 1e-12 * abs(least)


@pytest.mark.derives("prop-volume-shape-orientation", "eq-volume-shape-orientation")
@pytest.mark.parametrize("name", FOURTEEN)
@pytest.mark.parametrize("d", [2, 4])
def test_constraints_hold(name: str, d: int) -> None:
    covariances = updated(name, *some_scatter(3, d, seed=7))
    volumes = np.linalg.det(covariances) ** (1 / d)
    shapes = np.linalg.eigvalsh(covariances) / volumes[:, None]
    if name[0] == "E":
        np.testing.assert_allclose(volumes, volumes[0], rtol=1e-12)
    if name[1] == "I":
        np.testing.assert_allclose(shapes, 1.0, rtol=1e-12)
    if name[1] == "E":
        np.testing.assert_allclose(shapes, np.tile(shapes[0], (3, 1)), rtol=1e-11)
    if name[2] == "I":
        off = covariances[:, ~np.eye(d, dtype=bool)]
        np.testing.assert_array_equal(off, 0.0)
    if name[2] == "E":  # equal axes: the matrices commute
        for i in range(3):
            for j in range(i):
                product = covariances[i] @ covariances[j]
                np.testing.assert_allclose(product, product.T, atol=1e-12)


@pytest.mark.derives("thm-m-step-volumes", "prop-orientation-descent")
@pytest.mark.parametrize("name", INNER)
def test_the_inner_iteration_never_raises_the_objective(name: str) -> None:
    matrices, counts = some_scatter(4, 4, seed=3)
    scatter = Scatter.of(matrices, counts, name, Groups([4]))
    values = []
    for steps in range(1, 12):
        stored, _ = update(name, scatter, None, steps)
        values.append(objective(expand(stored, FAMILIES[name], 4, 4), matrices, counts))
    assert (np.diff(values) <= 1e-12 * abs(values[0])).all()
    last = objective(updated(name, matrices, counts), matrices, counts)
    assert last <= values[-1] + 1e-12 * abs(last)


@pytest.mark.parametrize("name", INNER)
def test_the_iteration_goes_on_where_it_was(name: str) -> None:
    """From the state of the answer one step changes nothing; a mixture gives back its state."""
    matrices, counts = some_scatter(3, 3, seed=6)
    scatter = Scatter.of(matrices, counts, name, Groups([3]))
    stored, state = update(name, scatter)
    again, _ = update(name, scatter, state, 1)
    # volumes end to 1e-10; axes where the objective, quadratic in them, does, to 1e-15
    np.testing.assert_allclose(again, stored, rtol=1e-6, atol=1e-6)
    mixture = gmm.Mixture.from_stored(np.full(3, 1 / 3), np.zeros((3, 3)), stored, name)
    again, _ = update(name, scatter, inner_state(mixture), 1)
    np.testing.assert_allclose(again, stored, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", INNER[:3])
def test_the_iteration_begins_at_spherical_covariances(name: str) -> None:
    matrices, counts = some_scatter(3, 3, seed=6)
    scatter = Scatter.of(matrices, counts, name, Groups([3]))
    traces = np.trace(matrices, axis1=1, axis2=2)
    begun, _ = update(name, scatter, traces / (3 * counts), 1)
    np.testing.assert_allclose(update(name, scatter, None, 1)[0], begun, rtol=1e-13, atol=1e-15)


class CountedGroups(Groups):
    """Groups that count the sums over them: an inner step has one or two."""

    sums = 0

    def sum(self, values: Floats) -> Floats:
        self.sums += 1
        return super().sum(values)


@pytest.mark.parametrize("name", INNER)
def test_the_iteration_ends_when_it_has_arrived(name: str) -> None:
    matrices, counts = some_scatter(3, 3, seed=6)
    state = update(name, Scatter.of(matrices, counts, name, Groups([3])))[1]
    groups = CountedGroups([3])
    update(name, Scatter.of(matrices, counts, name, groups), state)
    assert groups.sums < 40  # of two hundred steps


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("exponent", [-60, 60])
def test_units_and_the_weight_of_the_rows_do_not_matter(name: str, exponent: int) -> None:
    """The covariances are homogeneous in the scatter; its ratio to the counts is all that counts.

    With powers of two, so that both iterations round alike.
    """
    matrices, counts = some_scatter(3, 3, seed=6)
    plain, factor = updated(name, matrices, counts), 2.0**exponent
    scaled = updated(name, factor * matrices, counts) / factor
    np.testing.assert_allclose(scaled, plain, rtol=1e-12, atol=1e-13)
    heavier = updated(name, factor * matrices, factor * counts)
    np.testing.assert_allclose(heavier, plain, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["EVE", "VVE"])
@pytest.mark.parametrize("exponent", [-80, 80])
def test_the_axes_of_a_mixture_are_found_beside_round_components_of_any_size(
    name: str, exponent: int
) -> None:
    """Of a long component and a round one 2^80 as large or as small, only the first has axes."""
    axes = rotations(3, np.random.default_rng(1), 1)[0]
    long = (axes * np.array([0.25, 1.0, 4.0])) @ axes.T
    stored = np.array([2.0**exponent * np.eye(3), long])
    mixture = gmm.Mixture.from_stored(np.full(2, 0.5), np.zeros((2, 3)), stored, name)
    state = inner_state(mixture)
    assert state is not None
    # up to their order and signs
    np.testing.assert_allclose(np.abs(state[0].T @ axes).max(axis=0), 1.0, rtol=1e-12)


@pytest.mark.derives("prop-plane-rotation", "eq-plane-rotation")
@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_two_axes_are_turned_to_the_minimum_at_once(seed: int) -> None:
    """Against all angles of a fine grid, for fixed variances in the plane."""
    rng = np.random.default_rng(seed)
    matrices = random_member("VVV", 3, 2, rng)
    precisions = np.exp(rng.standard_normal((3, 2)))
    angle = gmm.families._angles(matrices, precisions, Groups([3]))[0, 1, 0]

    def value(t: float) -> float:
        axes = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
        turned = axes.T @ matrices @ axes
        return float((precisions * np.diagonal(turned, axis1=1, axis2=2)).sum())

    least = min(value(t) for t in np.linspace(0, np.pi, 181))
    assert value(angle) <= least + 1e-12


def test_where_the_objective_is_flat_the_axes_stay_and_elsewhere_they_turn_all_the_way() -> None:
    precisions, groups = np.array([[2.0, 1.0]]), Groups([1])
    for matrix, angle in (
        (np.eye(2), 0.0),
        (np.diag([1.0, 3.0]), 0.0),  # the smaller beside the greater precision
        (np.diag([3.0, 1.0]), np.pi / 2),
        (np.array([[2.0, 0.5], [0.5, 2.0]]), np.pi / 4),
    ):
        found = gmm.families._angles(matrix[None], precisions, groups)
        np.testing.assert_allclose(np.abs(found[0]), [[0, angle], [angle, 0]], rtol=1e-15)


# ---------------------------------------------------------------- the theory


def rotations(d: int, rng: np.random.Generator, n: int) -> Floats:
    """Orthogonal matrices (n, d, d), uniform but for signs."""
    return np.asarray(np.linalg.qr(rng.standard_normal((n, d, d)))[0])


@pytest.mark.derives("lem-shape", "eq-shape")
@pytest.mark.parametrize("d", [2, 3, 5])
def test_no_shape_has_a_smaller_trace(d: int) -> None:
    rng = np.random.default_rng(d)
    S = random_member("VVV", 1, d, rng)[0]
    bound = d * np.linalg.det(S) ** (1 / d)
    others = random_member("EVV", 100, d, rng)
    others /= np.linalg.det(others)[:, None, None] ** (1 / d)
    assert (np.trace(np.linalg.solve(others, S), axis1=1, axis2=2) >= bound * (1 - 1e-12)).all()
    best = S / np.linalg.det(S) ** (1 / d)
    assert np.trace(np.linalg.solve(best, S)) == pytest.approx(bound, rel=1e-12)


@pytest.mark.derives("lem-trace-inequality", "eq-trace-inequality")
@pytest.mark.parametrize("d", [2, 3, 5])
def test_no_axes_have_a_smaller_trace(d: int) -> None:
    """Spectra of both signs, which the lemma allows."""
    rng = np.random.default_rng(d)
    omega, b = np.sort(rng.standard_normal(d)), np.sort(rng.uniform(0.2, 3.0, d))
    eigenvectors = rotations(d, rng, 1)[0]
    S = (eigenvectors * omega) @ eigenvectors.T
    bound = (omega / b).sum()
    axes = rotations(d, rng, 500)
    traces = np.einsum("nij,ik,nkj->nj", axes, S, axes) @ (1 / b)
    assert (traces >= bound - 1e-12).all()
    assert np.diagonal(eigenvectors.T @ S @ eigenvectors) @ (1 / b) == pytest.approx(bound)


@pytest.mark.derives("lem-trace-inequality", "thm-m-step-spectra")
def test_axes_that_attain_the_bound_make_the_same_matrix_but_for_the_choice_of_eigenvectors() -> (
    None
):
    """Equal entries, equal eigenvalues, and the wrong order: who attains the bound, and who not."""
    rng = np.random.default_rng(0)
    c, s = np.cos(0.6), np.sin(0.6)
    first, last = np.eye(3), np.eye(3)
    first[:2, :2] = last[1:, 1:] = [[c, -s], [s, c]]
    L = rotations(3, rng, 1)[0]
    cases = (
        # of eigenvalues and entries, a turn of the eigenvectors: whether the bound is attained
        ([1.0, 1.0, 4.0], [1.0, 2.0, 3.0], first, True),  # another choice of eigenvectors
        ([1.0, 2.0, 4.0], [1.0, 1.0, 3.0], first, True),  # the same matrix
        ([1.0, 1.0, 4.0], [1.0, 2.0, 3.0], last, False),
        ([1.0, 2.0, 4.0], [1.0, 1.0, 3.0], last, False),
        ([1.0, 2.0, 4.0], [1.0, 2.0, 3.0], np.eye(3)[:, [1, 0, 2]], False),  # commutes, in disorder
    )
    for omega, b, turn, attained in cases:
        D = L @ turn
        S, made = (L * np.array(omega)) @ L.T, (D * np.array(b)) @ D.T
        excess = np.trace(S @ np.linalg.inv(made)) - (np.array(omega) / b).sum()
        assert excess > -1e-12
        assert (excess < 1e-12) == attained
        # attained exactly for L' B L' with columns L' that are eigenvectors in ascending order
        of_choice = any(
            np.allclose((M * np.array(b)) @ M.T, made) and np.allclose(S @ M, M * np.array(omega))
            for M in (L, D)
        )
        assert of_choice == attained


@pytest.mark.derives("lem-log-det-convex")
@given(seed=st.integers(0, 10**6), d=st.integers(1, 4), k=st.integers(2, 4))
@settings(max_examples=40)
def test_log_determinants_of_positive_combinations_are_convex(seed: int, d: int, k: int) -> None:
    """Along a random line: second differences; strictly, unless the line is that of the shifts."""
    rng = np.random.default_rng(seed)
    matrices = random_member("VVV", k, d, rng)
    u, v = rng.standard_normal((2, k))

    def phi(point: Floats) -> float:
        combined = (np.exp(point)[:, None, None] * matrices).sum(axis=0)
        return float(np.linalg.slogdet(combined)[1])

    assert phi(u + v) - 2 * phi(u) + phi(u - v) > 0
    assert phi(u + 0.7) == pytest.approx(phi(u) + 0.7 * d, abs=1e-10)
    # of rank one each: still convex
    thin = rng.standard_normal((d + 1, d))
    matrices = thin[:, :, None] * thin[:, None, :]
    u, v = rng.standard_normal((2, d + 1))
    assert phi(u + v) - 2 * phi(u) + phi(u - v) > -1e-9


@pytest.mark.derives("prop-orientation-descent")
def test_a_rotation_that_would_raise_the_objective_is_cut_to_quarters_until_it_does_not() -> None:
    """Of several mixtures at once: too far by a little or by much, at the minimum, undefined."""
    rng = np.random.default_rng(3)
    k, d = 6, 3
    axes = rotations(d, rng, k)
    turned = axes @ random_member("VVI", k, d, rng) @ np.swapaxes(axes, 1, 2)
    precisions = np.exp(rng.standard_normal((k, d)))
    # the smallest entry beside the greatest precision: no rotation lowers this objective
    precisions[4], turned[4] = [3.0, 2.0, 1.0], np.diag([1.0, 2.0, 3.0])
    groups = Groups([1] * k)
    before = (precisions * np.diagonal(turned, axis1=1, axis2=2)).sum(axis=1)
    best = gmm.families._angles(turned, precisions, groups)
    angles = np.array([1.0, 3.0, 9.0, 1e3, 1.0, np.nan])[:, None, None] * best
    angles[4] = [[0.0, -1.0, 0.5], [1.0, 0.0, -0.5], [-0.5, 0.5, 0.0]]
    found, result, after = gmm.families._descent(angles, turned, precisions, before, groups)
    quarters = []
    for i in range(k):
        skew = np.nan_to_num(angles[i])
        for j in range(12):
            half = 0.5 * (0.25**j if j < 11 else 0.0) * skew
            rotation = np.linalg.solve(np.eye(d) - half, np.eye(d) + half)
            value = float(precisions[i] @ np.diag(rotation.T @ turned[i] @ rotation))
            if value <= before[i] * (1 + 1e-13):
                break
        quarters.append(j)
        np.testing.assert_allclose(found[i], rotation, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(result[i], rotation.T @ turned[i] @ rotation, atol=1e-12)
        assert after[i] == pytest.approx(value, rel=1e-13)
    assert quarters[0] == quarters[5] == 0
    assert quarters[4] == 11
    assert len(set(quarters)) > 3


def test_axes_without_variance_stay_where_they_are() -> None:
    """Precisions there are infinite, in one mixture of three; its other planes stay, too."""
    rng = np.random.default_rng(4)
    axes = rotations(3, rng, 4)
    turned = axes @ random_member("VVI", 4, 3, rng) @ np.swapaxes(axes, 1, 2)
    precisions = np.exp(rng.standard_normal((4, 3)))
    groups = Groups([1, 2, 1])
    sound = gmm.families._angles(turned, precisions, groups)
    precisions[2, 1] = np.inf
    with np.errstate(all="ignore"):
        angles = gmm.families._angles(turned, precisions, groups)
    np.testing.assert_array_equal(angles[[0, 2]], sound[[0, 2]])
    np.testing.assert_array_equal(angles[1], 0.0)


def test_eigenvalues_of_rounding_are_none() -> None:
    """Up to sixteen rounding units a dimension of the greatest, in each row for itself."""
    unit = 2.0**-52
    spectra = np.array([[31 * unit, 4.0], [32 * unit, 1.0], [33 * unit, 1.0], [-1e-9, 1e-9]])
    wanted = spectra.copy()
    wanted[[0, 1, 3], 0] = 0.0
    np.testing.assert_array_equal(gmm.families._above_rounding(spectra), wanted)
    three = np.array([[40 * unit, 50 * unit, 1.0], [0.0, 0.0, 0.0]])
    wanted = np.array([[0.0, 50 * unit, 1.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(gmm.families._above_rounding(three), wanted)


@pytest.mark.parametrize("name", FOURTEEN)
def test_features_in_units_that_do_not_compare_are_refused_where_axes_turn(name: str) -> None:
    bound = 2.0**-26 * np.sqrt(48)
    refuse_units_apart(name, np.array([3.0, 1.0001 * bound * 5.0, 5.0]))
    refuse_units_apart(name, np.array([1.0, 2.0**-23, 1.0, 0.5]))  # the bound itself
    apart = np.array([3.0, 0.9999 * bound * 5.0, 5.0])
    if name not in ("EVE", "VVE", "EEV", "VEV"):
        refuse_units_apart(name, apart)
        return
    message = (
        f"^X: expected features in comparable units for the family {name}, got deviations from "
        "5.16e-07 to 5; standardise them, or take EEE or VVV$"
    )
    with pytest.raises(SingularCovarianceError, match=message):
        refuse_units_apart(name, apart)
    X = gmm.datasets.iris().X * [1.0, 1e-9, 1.0, 1.0]
    with pytest.raises(SingularCovarianceError, match=r"^X: expected features in comparable units"):
        gmm.fit(X, 2, name)
    start = gmm.Mixture([0.5, 0.5], X[[0, 99]], [np.eye(4)] * 2, name)
    held = gmm.fit(X, 2, name, start=start, fixed="covariances", max_iter=2)  # nothing turns
    np.testing.assert_array_equal(held.mixture.variances, 1.0)


@pytest.mark.parametrize("name", ["EEV", "VEV"])
def test_common_shapes_are_right_in_any_unit_or_singular(name: str) -> None:
    """The lesser variances of one component were lost before those of the other, and halved."""
    shapes = np.array([[[1.0, 0.5], [0.5, 1.0]], [[1.0, 0.15], [0.15, 0.09]]])
    remaining, told = [], set()
    for unit in (1e3, 1e5, 1e6, 3e6, 5e6, 6e6, 8e6, 2e7, 1e9):
        matrices = 100 * shapes * np.outer([unit, 1.0], [unit, 1.0])
        stored, _ = update(name, Scatter(matrices, np.full(2, 100.0), 2, Groups([2])))
        try:
            gmm.Mixture.from_stored(np.full(2, 0.5), np.zeros((2, 2)), stored, name)
        except SingularCovarianceError:
            told.add("singular")
            continue
        told.add("sound")
        remaining.append(stored[:, 1, 1] - stored[:, 0, 1] ** 2 / stored[:, 0, 0])
    np.testing.assert_allclose(remaining, [remaining[0]] * len(remaining), rtol=2e-3)
    assert told == {"singular", "sound"}


@pytest.mark.parametrize("name", ["EEV", "VEV", "EVE", "VVE"])
def test_updates_of_matrices_that_are_singular_are_singular(name: str) -> None:
    """Of rank one: what rounding leaves of the other directions is no variance."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        d = int(rng.integers(3, 12))
        rows = rng.standard_normal((2, d))
        scatter = Scatter(
            np.array([np.outer(row, row) for row in rows]), np.ones(2), d, Groups([2])
        )
        stored, _ = update(name, scatter)
        with pytest.raises(SingularCovarianceError):
            gmm.Mixture.from_stored(np.full(2, 0.5), np.zeros((2, d)), stored, name)


@pytest.mark.derives("prop-orientation-descent")
@pytest.mark.parametrize("name", ["EVE", "VVE"])
def test_common_eigenvectors_are_found_and_are_the_best(name: str) -> None:
    """Matrices that commute: F has the lower bound of Hadamard, which the free axes attain."""
    rng = np.random.default_rng(0)
    d, counts = 4, np.array([10.0, 20.0, 15.0])
    axes = rotations(d, rng, 1)[0]
    matrices = (axes * rng.uniform(1, 9, (3, 1, d))) @ axes.T
    free = {"EVE": "EVV", "VVE": "VVV"}[name]
    bound = objective(updated(free, matrices, counts), matrices, counts)
    assert objective(updated(name, matrices, counts), matrices, counts) == pytest.approx(bound)


@pytest.mark.derives("prop-unweighted", "eq-unweighted")
def test_axes_without_the_volumes_are_those_of_eve() -> None:
    """The alternation of R's mclust for VVE, written out: its axes, and a covariance it prints."""
    iris = gmm.datasets.iris()
    labels = iris.labels
    assert labels is not None
    counts = np.bincount(labels).astype(float)
    residuals = iris.X - np.array([iris.X[labels == k].mean(axis=0) for k in range(3)])[labels]
    matrices = np.array([residuals[labels == k].T @ residuals[labels == k] for k in range(3)])

    def unweighted(axes: Floats) -> float:
        """U after its minimum over the shapes was found by the formula for each component."""
        along = np.diagonal(axes.T @ matrices @ axes, axis1=1, axis2=2)
        shapes = along / np.exp(np.log(along).mean(axis=1, keepdims=True))
        return float((along / shapes).sum())

    whole = Scatter.of(matrices, counts, "EVE", Groups([3]))
    _, state = update("EVE", whole)
    assert state is not None
    axes = state[0]
    rng = np.random.default_rng(0)
    least = unweighted(axes)
    for size in (1e-3, 1e-2, 0.1, 1.0):
        skew = size * rng.standard_normal((50, 4, 4))
        turns = np.linalg.qr(np.eye(4) + skew - np.swapaxes(skew, 1, 2))[0]
        assert all(unweighted(axes @ turn) >= least * (1 - 1e-12) for turn in turns)
    along = np.diagonal(axes.T @ matrices @ axes, axis1=1, axis2=2)
    covariances = (axes * (along / counts[:, None])[:, None]) @ axes.T
    # mstepVVE(iris[, 1:4], unmap(iris$Species)) of mclust 6.0.0, with
    # control = emControl(tol = c(1e-13, 1e-13), itmax = c(1e5, 1e5))
    printed = [
        [0.0912935047826, 0.1017880283339, 0.0935446421987, 0.0163938246848],
        [0.2900915318721, 0.0795602320893, 0.2113095199647, 0.0313667160739],
        [0.400636771327, 0.104931150885, 0.296093981739, 0.068938096048],
    ]
    # the two iterations end at different distances from the minimum
    np.testing.assert_allclose(np.diagonal(covariances, axis1=1, axis2=2), printed, rtol=1e-5)
    ours = objective(updated("VVE", matrices, counts), matrices, counts)
    assert ours < objective(covariances, matrices, counts) - 0.5


# ---------------------------------------------------------------- stacks, and what is singular


@pytest.mark.parametrize("name", FOURTEEN)
def test_several_mixtures_at_once_are_each_by_itself(name: str) -> None:
    parts = [some_scatter(k, 3, seed=k) for k in (2, 1, 4)]
    matrices = np.concatenate([part[0] for part in parts])
    counts = np.concatenate([part[1] for part in parts])
    groups = Groups([2, 1, 4])
    stored, _ = update(name, Scatter.of(matrices, counts, name, groups))
    if FAMILIES[name] == "tied":
        stored = groups.spread(stored)
    start = 0
    for size, (w, n) in zip((2, 1, 4), parts, strict=True):
        got = expand(stored[start : start + size], FAMILIES[name], size, 3)
        # iterative updates end together, so some make a step more than they would alone
        np.testing.assert_allclose(got, updated(name, w, n), rtol=1e-7, atol=1e-8)
        start += size


@pytest.mark.parametrize("name", FOURTEEN)
def test_covariances_are_symmetric_to_the_last_bit(name: str) -> None:
    covariances = updated(name, *some_scatter(3, 5, seed=12))
    np.testing.assert_array_equal(covariances, np.swapaxes(covariances, 1, 2))


@pytest.mark.parametrize("name", FOURTEEN)
def test_numbers_that_are_none_spoil_no_other_mixture(name: str) -> None:
    matrices, counts = some_scatter(5, 3, seed=13)
    alone = updated(name, matrices[:3], counts[:3])
    matrices[3] = np.nan
    groups = Groups([3, 2])
    stored, _ = update(name, Scatter.of(matrices, counts, name, groups))
    if FAMILIES[name] == "tied":
        stored = groups.spread(stored)
    got = expand(stored[:3], FAMILIES[name], 3, 3)
    np.testing.assert_allclose(got, alone, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", FOURTEEN)
def test_equal_components_make_all_families_with_the_same_freedom_equal(name: str) -> None:
    """With one component only the form of the matrix matters."""
    matrices, counts = some_scatter(1, 3, seed=8)
    twin = {"I": "VII" if name[1] == "I" else "VVI"}.get(name[2], "VVV")
    np.testing.assert_allclose(
        updated(name, matrices, counts), updated(twin, matrices, counts), rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("name", FOURTEEN)
def test_a_singular_component_is_never_taken_for_a_sound_one(name: str) -> None:
    """Of rank one: a named error, or a covariance that the others have made sound."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3))
    X[:10] = np.outer(rng.standard_normal(10), [1.0, 2.0, 3.0])
    shares = np.repeat(np.eye(2), [10, 30], axis=0)
    statistics = expected_statistics(X, shares, np.zeros((2, 3)), FAMILIES[name])
    if name in ("EVV", "VVV"):
        with pytest.raises(SingularCovarianceError):
            m_step(statistics, name)
        return
    try:  # of EVE and VVE common axes decide; the others have the variances of the other component
        mixture = m_step(statistics, name)
    except SingularCovarianceError:
        assert name in ("EVE", "VVE")
    else:
        assert (np.linalg.eigvalsh(mixture.covariances) > 0).all()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("steps", [1, 200])
def test_inverse_updates_are_the_inverses_of_updates(name: str, steps: int) -> None:
    """By NumPy's inverse and determinant; iterations that begin elsewhere and end early too."""
    d = 1 if len(name) == 1 else 3
    matrices, counts = some_scatter(6, d, seed=9)
    groups = Groups([2, 4])
    scatter = Scatter.of(matrices, counts, name, groups)
    elsewhere = Scatter.of(some_scatter(6, d, seed=10)[0], counts, name, groups)
    begin = update(name, elsewhere)[1]
    stored, state = update(name, scatter, begin, steps)
    precisions, log_determinants, again = inverse_update(name, scatter, begin, steps)
    kind = FAMILIES[name]
    assert precisions.shape == stored.shape
    if kind == "tied":
        stored, precisions, kind = groups.spread(stored), groups.spread(precisions), "full"
    covariances = expand(stored, kind, 6, d)
    np.testing.assert_allclose(
        expand(precisions, kind, 6, d), np.linalg.inv(covariances), rtol=1e-10, atol=1e-10
    )
    np.testing.assert_allclose(
        log_determinants, np.linalg.slogdet(covariances)[1], rtol=1e-10, atol=1e-12
    )
    assert (state is None) == (again is None) == (name not in INNER)
    if state is not None and again is not None:
        np.testing.assert_array_equal(again, state)


@pytest.mark.parametrize("name", ["VVV", "VVI", "VII"])
def test_one_singular_component_spoils_no_other(name: str) -> None:
    """Without a warning: zero, not a number, or with determinant zero or negative beside others."""
    matrices, counts = some_scatter(6, 2, seed=11)
    matrices[1], matrices[2] = 0.0, np.nan
    if name == "VVV":
        matrices[3], matrices[4] = np.diag([1.0, 0.0]), np.diag([1.0, -1.0])
    scatter = Scatter.of(matrices, counts, name, Groups([6]))
    stored, _ = update(name, scatter)
    precisions, log_determinants, _ = inverse_update(name, scatter)
    broken = np.isin(np.arange(6), [1, 2, 3, 4] if name == "VVV" else [1, 2])
    np.testing.assert_array_equal(np.isfinite(log_determinants), ~broken)
    axes = tuple(range(1, precisions.ndim))
    np.testing.assert_array_equal(np.isfinite(precisions).all(axis=axes), ~broken)
    kind, n_sound = FAMILIES[name], int((~broken).sum())
    sound = expand(stored[~broken], kind, n_sound, 2)
    inverses = expand(precisions[~broken], kind, n_sound, 2)
    np.testing.assert_allclose(inverses, np.linalg.inv(sound), rtol=1e-12)
    np.testing.assert_allclose(log_determinants[~broken], np.linalg.slogdet(sound)[1], rtol=1e-12)


# ---------------------------------------------------------------- EM


@pytest.mark.derives("thm-monotone")
@pytest.mark.parametrize("name", FOURTEEN)
def test_em_never_lowers_the_likelihood(name: str) -> None:
    X = gmm.datasets.iris().X
    fit = gmm.fit(X, 3, name, random_state=0, tol=1e-9, ridge=0.0)
    gains = np.diff(fit.trace.log_likelihood)
    assert gains.min() >= -1e-10 * abs(fit.log_likelihood)
    assert fit.mixture.family == name
    assert fit.converged
    np.testing.assert_allclose(fit.mixture.log_likelihood(X), fit.log_likelihood, rtol=1e-11)


@pytest.mark.parametrize("name", FOURTEEN)
def test_the_result_is_a_fixed_point(name: str) -> None:
    X = gmm.datasets.iris().X
    mixture = gmm.fit(X, 2, name, random_state=0, tol=1e-13).mixture
    again = m_step(e_step(X, mixture), name)
    np.testing.assert_allclose(again.covariances, mixture.covariances, rtol=1e-4, atol=1e-5)


def test_likelihoods_of_nested_families_from_nested_starts_are_ordered() -> None:
    """From the optimum of a smaller family, a larger one can only rise."""
    X = gmm.datasets.iris().X
    fits = {name: gmm.fit(X, 2, name, random_state=0) for name in FOURTEEN}
    for small in FOURTEEN:
        for large in FOURTEEN:
            if small != large and is_nested(small, large):
                fit = gmm.fit(X, 2, large, start=fits[small].mixture)
                assert fit.log_likelihood >= fits[small].log_likelihood - 1e-8


@pytest.mark.parametrize("name", FOURTEEN)
def test_a_ridge_keeps_the_family(name: str) -> None:
    X = gmm.datasets.iris().X
    fit = gmm.fit(X, 3, name, random_state=0, ridge=0.05)
    kept = gmm.Mixture(fit.mixture.weights, fit.mixture.means, fit.mixture.covariances, name)
    np.testing.assert_allclose(kept.covariances, fit.mixture.covariances, rtol=1e-6)
    assert np.linalg.eigvalsh(fit.mixture.covariances).min() >= 0.05 * 0.5


def test_one_feature_has_two_families() -> None:
    X = gmm.datasets.acidity().X
    equal, own = (gmm.fit(X, 2, name, random_state=0) for name in ("E", "V"))
    assert equal.mixture.family == "E"
    assert equal.log_likelihood == pytest.approx(-185.9493, abs=1e-4)
    for name in FOURTEEN:
        wanted = equal if name[0] == "E" else own
        fit = gmm.fit(X, 2, name, random_state=0)
        assert fit.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-7)
        assert fit.n_parameters == wanted.n_parameters
