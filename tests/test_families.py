"""The names, the storage and the counts of the covariance families."""

from __future__ import annotations

import numpy as np
import pytest

from gmm.families import FAMILIES, expand, n_parameters, parse_family, restrict, stored_shape


@pytest.mark.parametrize("name", FAMILIES)
def test_both_names_mean_the_same_family(name: str) -> None:
    assert parse_family(FAMILIES[name]) == parse_family(name) == name


@pytest.mark.parametrize("kind", FAMILIES.values())
def test_what_is_stored_expands_to_matrices_and_back(kind: str) -> None:
    k, d = 3, 4
    rng = np.random.default_rng(1)
    stored = rng.uniform(1.0, 2.0, stored_shape(kind, k, d))
    if kind in ("full", "tied"):
        stored = stored + np.swapaxes(stored, -1, -2)
    matrices = expand(stored, kind, k, d)
    assert matrices.shape == (k, d, d)
    weights = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(restrict(matrices, kind, weights), stored, rtol=1e-15)


def test_tied_covariance_of_different_matrices_is_their_weighted_mean() -> None:
    matrices = np.array([np.eye(2), 3 * np.eye(2)])
    np.testing.assert_allclose(
        restrict(matrices, "tied", np.array([0.25, 0.75])), 2.5 * np.eye(2), rtol=1e-15
    )


@pytest.mark.derives("eq-parameter-count")
@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_count_is_the_rank_of_the_map_to_log_densities(name: str) -> None:
    """Count free directions by the rank of a numerical Jacobian at many points."""
    k, d = 2, 2
    rng = np.random.default_rng(3)
    kind = FAMILIES[name]
    X = 3 * rng.standard_normal((60, d))
    shape = stored_shape(kind, k, d)

    def log_density(parameters: np.ndarray) -> np.ndarray:  # overcomplete: all entries, symmetrised
        free_weight, means, flat = parameters[0], parameters[1:5], parameters[5:]
        weights = np.array([free_weight, 1 - free_weight])
        stored = flat.reshape(shape)
        if kind in ("full", "tied"):
            stored = 0.5 * (stored + np.swapaxes(stored, -1, -2))
        matrices = expand(stored, kind, k, d)
        total = np.zeros(len(X))
        for w, m, c in zip(weights, means.reshape(k, d), matrices, strict=True):
            z = X - m
            q = np.einsum("ij,jk,ik->i", z, np.linalg.inv(c), z)
            total += w * np.exp(-0.5 * q) / np.sqrt(np.linalg.det(c))
        return np.log(total)

    eye = {"full": np.array([np.eye(2), 2 * np.eye(2)]), "tied": np.eye(2)}
    plain = eye.get(kind, rng.uniform(1.0, 2.0, shape))
    at = np.concatenate([[0.4], [1.0, 0.0, -1.0, 0.5], plain.ravel()])
    step = 1e-5
    jacobian = np.array(
        [(log_density(at + step * e) - log_density(at - step * e)) / (2 * step)
         for e in np.eye(len(at))]
    )  # fmt: skip
    assert np.linalg.matrix_rank(jacobian, tol=1e-6) == n_parameters(name, k, d)
