"""Bad input is refused before any work, by one sentence that names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

import gmm
from gmm import checks

GOOD = np.random.default_rng(0).standard_normal((20, 2))


def with_value(value: float) -> Any:
    rows = GOOD.copy()
    rows[3, 1] = value
    return rows


BAD_ROWS = [
    ("wrong rank: a vector", GOOD[:, 0], ValueError, r"X: expected a 2-D array .*reshape\(-1, 1\)"),
    ("wrong rank: a cube", GOOD[None], ValueError, r"X: expected a 2-D array .*\(1, 20, 2\)"),
    ("a number", 3.0, ValueError, r"X: expected a 2-D array"),
    ("no rows", GOOD[:0], ValueError, r"X: expected at least one row"),
    ("no features", GOOD[:, :0], ValueError, r"X: expected at least one row and one feature"),
    ("nothing", [], ValueError, r"X: expected a 2-D array"),
    ("text", [["a", "b"], ["c", "d"]], TypeError, r"X: expected real numbers, got .*<U1"),
    ("text among numbers", [[1.0, "b"], [2.0, 3.0]], TypeError, r"X: expected real numbers"),
    ("objects", [[1.0, None], [2.0, {}]], TypeError, r"X: expected an array of real numbers"),
    ("ragged", [[1.0], [1.0, 2.0]], TypeError, r"X: expected an array of real numbers"),
    ("complex", GOOD * 1j, TypeError, r"X: expected real numbers, got .*complex"),
    ("dates", np.zeros((3, 1), "datetime64[D]"), TypeError, r"X: expected real numbers"),
    ("sparse", sparse.csr_array(GOOD), TypeError, r"X: expected a dense array.*toarray"),
    ("masked", np.ma.masked_less(GOOD, 0), ValueError, r"X: .*masked entries"),
    ("NaN", with_value(np.nan), ValueError, r"X: expected finite numbers, got NaN at \[3, 1\]"),
    ("infinity", with_value(-np.inf), ValueError, r"X: expected finite .*infinity at \[3, 1\]"),
    ("fewer rows than components", GOOD[:2], ValueError, r"X: expected at least 3 rows"),
]


@pytest.mark.parametrize(
    ("rows", "error", "message"), [b[1:] for b in BAD_ROWS], ids=[b[0] for b in BAD_ROWS]
)
def test_bad_rows_are_refused_by_fit(rows: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gmm.fit(rows, 3)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [b[1:] for b in BAD_ROWS if b[0] != "fewer rows than components"],
    ids=[b[0] for b in BAD_ROWS if b[0] != "fewer rows than components"],
)
def test_bad_rows_are_refused_by_a_mixture(rows: Any, error: type[Exception], message: str) -> None:
    mixture = gmm.Mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
    with pytest.raises(error, match=message):
        mixture.log_density(rows)


def test_rows_with_another_number_of_features_are_refused() -> None:
    mixture = gmm.Mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
    with pytest.raises(ValueError, match="X: expected 2 features, got 3"):
        mixture.predict(np.zeros((4, 3)))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(19), r"sample_weight: expected shape \(20,\), got shape \(19,\)"),
        (np.ones((20, 1)), r"sample_weight: expected shape \(20,\)"),
        (np.r_[-1.0, np.ones(19)], r"sample_weight: expected no negative value, got -1.0 at \[0\]"),
        (np.zeros(20), r"sample_weight: expected a positive value, got zeros only"),
        (np.r_[np.nan, np.ones(19)], r"sample_weight: expected finite numbers, got NaN at \[0\]"),
        (np.r_[1.0, 1.0, np.zeros(18)], r"X \(rows of positive weight\): expected at least 3 rows"),
    ],
    ids=["too few", "a column", "negative", "all zero", "NaN", "too few positive"],
)
def test_bad_weights_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gmm.fit(GOOD, 3, sample_weight=weights)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components: expected an integer of at least 1, got 0"),
        ({"n_components": 2.0}, TypeError, "n_components: expected an integer, got 2.0"),
        ({"n_components": True}, TypeError, "n_components: expected an integer, got True"),
        ({"family": "XYZ"}, ValueError, "family: expected one of 'EII', 'VII', .*; got 'XYZ'"),
        ({"family": 7}, ValueError, "family: expected one of"),
        ({"start": "best"}, ValueError, "start: expected one of 'k-means', .*; got 'best'"),
        ({"start": np.zeros((3, 2))}, ValueError, "start: expected 2 means, got 3"),
        ({"start": np.zeros((2, 3))}, ValueError, "start: expected 2 features, got 3"),
        ({"start": [[0.0, np.nan], [1, 1]]}, ValueError, "start: expected finite numbers"),
        ({"start": GOOD[:2], "n_starts": 2}, ValueError, "n_starts: expected 1"),
        ({"n_starts": 0}, ValueError, "n_starts: expected an integer of at least 1"),
        ({"stop": "never"}, ValueError, "stop: expected one of 'mean', 'absolute'"),
        ({"tol": -1.0}, ValueError, "tol: expected a finite number of at least 0"),
        ({"tol": "small"}, TypeError, "tol: expected a number, got 'small'"),
        ({"ridge": np.inf}, ValueError, "ridge: expected a finite number of at least 0"),
        ({"max_iter": -1}, ValueError, "max_iter: expected an integer of at least 0"),
        ({"keep": "some"}, ValueError, "keep: expected one of 'all'"),
        ({"keep": 0}, ValueError, "keep: expected an integer of at least 1"),
        ({"random_state": "seed"}, TypeError, "random_state: expected an integer"),
    ],
)
def test_bad_options_are_refused_by_fit(
    keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gmm.fit(GOOD, **{"n_components": 2, **keywords})


def test_a_start_of_another_shape_is_refused() -> None:
    start = gmm.Mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
    with pytest.raises(ValueError, match="start: expected a mixture of 2 components on 2 features"):
        gmm.fit(GOOD, 2, start=start)


def test_a_constant_column_is_refused_by_name() -> None:
    rows = np.column_stack([GOOD, np.full(20, 7.0)])
    with pytest.raises(gmm.SingularCovarianceError, match="X: feature 2 is constant"):
        gmm.fit(rows, 2)


def test_a_constant_column_is_fitted_with_a_ridge() -> None:
    rows = np.column_stack([GOOD, np.full(20, 7.0)])
    result = gmm.fit(rows, 2, ridge=1e-3, random_state=0)
    assert np.isfinite(result.log_likelihood)
    # the constant feature has the ridge as its variance, whatever the component
    np.testing.assert_allclose(result.mixture.covariances[:, 2, 2], 1e-3, rtol=1e-12)


@pytest.mark.parametrize("family", ["VII", "EII"])
def test_spherical_covariances_bear_a_constant_column(family: str) -> None:
    """Without it, the same fixed point with the variance of one feature spread over two."""
    rng = np.random.default_rng(0)
    line = np.concatenate([rng.standard_normal(30), 9.0 + rng.standard_normal(30)])[:, None]
    plane = np.column_stack([line, np.full(60, 7.0)])
    found = gmm.fit(plane, 2, family, random_state=0, tol=1e-12).mixture
    np.testing.assert_array_equal(found.means[:, 1], 7.0)
    shares = found.responsibilities(plane)
    counts = shares.sum(axis=0)
    means = shares.T @ line / counts[:, None]
    squares = np.einsum("ik,ik->k", shares, (line - means.T) ** 2)
    variances = squares / (2 * counts) if family == "VII" else np.full(2, squares.sum() / 120)
    np.testing.assert_allclose(found.covariances[:, 0, 0], variances, rtol=1e-6)
    with pytest.raises(gmm.SingularCovarianceError, match="X: all 20 rows are equal"):
        gmm.fit(np.ones((20, 2)), 2, family)


def test_equal_rows_are_refused() -> None:
    with pytest.raises(gmm.SingularCovarianceError, match="X: all 20 rows are equal"):
        gmm.fit(np.ones((20, 2)), 2)


def test_collinear_columns_are_refused() -> None:
    rows = np.column_stack([GOOD, GOOD @ [1.0, 2.0]])
    with pytest.raises(gmm.SingularCovarianceError, match="X: the rows lie in a hyperplane"):
        gmm.fit(rows, 2, start="random", random_state=0)


def test_duplicated_points_end_in_a_named_error_or_a_regularised_answer() -> None:
    """A cluster of copies of one point has no covariance: the likelihood is unbounded there."""
    rows = np.vstack([GOOD, np.full((15, 2), 50.0)])
    with pytest.raises(gmm.SingularCovarianceError, match="a component has collapsed"):
        gmm.fit(rows, 2, random_state=0)
    result = gmm.fit(rows, 2, ridge=1e-2, random_state=0)
    assert result.converged
    np.testing.assert_allclose(result.mixture.means[1], [50.0, 50.0], rtol=1e-9)
    np.testing.assert_allclose(
        result.mixture.covariances[1], 1e-2 * np.eye(2), rtol=1e-6, atol=1e-11
    )


def test_a_covariance_that_is_not_positive_definite_is_refused_by_component() -> None:
    bad = np.array([np.eye(2), [[1.0, 2.0], [2.0, 1.0]]])
    with pytest.raises(gmm.SingularCovarianceError, match="covariances of component 1"):
        gmm.Mixture([0.5, 0.5], np.zeros((2, 2)), bad)
    with pytest.raises(gmm.SingularCovarianceError, match="covariances of component 1"):
        gmm.Mixture([0.5, 0.5], np.zeros((2, 2)), [1.0, 0.0], "VII")


def test_numbers_of_every_kind_are_accepted() -> None:
    wanted = gmm.fit(np.round(GOOD * 10), 2, random_state=0).log_likelihood
    for kind in (np.int16, np.int64, np.float16, np.float32, object):
        rows = np.round(GOOD * 10).astype(kind)
        assert gmm.fit(rows, 2, random_state=0).log_likelihood == wanted


def test_input_is_never_changed() -> None:
    rows, weights = GOOD.copy(), np.ones(20)
    gmm.fit(rows, 2, sample_weight=weights, random_state=0)
    np.testing.assert_array_equal(rows, GOOD)
    np.testing.assert_array_equal(weights, 1.0)


@pytest.mark.parametrize("order", ["C", "F"])
def test_layout_and_read_only_arrays_make_no_difference(order: Any) -> None:
    rows = np.array(GOOD, order=order)
    rows.flags.writeable = False
    strided = np.repeat(GOOD, 2, axis=0)[::2]
    wanted = gmm.fit(GOOD, 2, random_state=0).log_likelihood
    # only the order of summation inside matrix products may differ
    assert gmm.fit(rows, 2, random_state=0).log_likelihood == pytest.approx(wanted, rel=1e-12)
    assert gmm.fit(strided, 2, random_state=0).log_likelihood == pytest.approx(wanted, rel=1e-12)


def test_indices_are_checked() -> None:
    mixture = gmm.Mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
    refused: list[tuple[Any, type[Exception]]] = [
        (2, ValueError),
        ([0, 0], ValueError),
        ([], TypeError),
        (0.5, TypeError),
    ]
    for indices, error in refused:
        with pytest.raises(error, match="indices: expected"):
            mixture.marginal(indices)
    with pytest.raises(ValueError, match="indices: expected fewer than all 2"):
        mixture.conditional([0, 1], [0.0, 0.0])
    with pytest.raises(ValueError, match="values: expected shape"):
        mixture.conditional([0], [0.0, 0.0])


def test_generators_come_from_every_kind_of_seed() -> None:
    generator = np.random.default_rng(1)
    assert checks.as_generator(generator) is generator
    a = checks.as_generator(np.random.RandomState(1)).random()
    assert a == checks.as_generator(np.random.RandomState(1)).random()
    assert checks.as_generator(1).random() == np.random.default_rng(1).random()
    assert 0 <= checks.as_generator(None).random() < 1


def test_long_values_are_cut_in_messages() -> None:
    assert checks.shown("x" * 100) == "'" + "x" * 56 + "..."
