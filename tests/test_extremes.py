"""Numbers near the ends of their range, and other inputs that random cases have found wanting.

Each was an overflow, an error without a name or a wrong number once; the random cases themselves
are in ``tests/fuzz``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import gmm
from gmm import algebra, missing
from gmm.families import restrict
from gmm.initial import starting_mixture
from gmm.kmeans import kmeans
from gmm.rows import BlockRows
from gmm.small import SmallSteps

ROWS = np.random.default_rng(0).standard_normal((60, 2)) + 4.0 * (np.arange(60) % 2)[:, None]


@pytest.mark.parametrize("scale", [1e-160, 1e-140, 1e140, 1e160, 1e307])
@pytest.mark.parametrize("options", [{}, {"prior": "default"}, {"ridge": 1.0}, {"missing": "em"}])
def test_features_whose_squares_are_no_numbers_are_refused(
    scale: float, options: dict[str, Any]
) -> None:
    X = ROWS * [1.0, scale]
    if "missing" in options:
        X[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"X: expected features with a range .* of feature 1"):
        gmm.fit(X, 2, **options)
    with pytest.raises(ValueError, match="X: expected features with a range"):
        gmm.Normal.fit(ROWS * scale)


def test_a_block_may_vary_as_little_as_it_likes() -> None:
    blocks = [ROWS, 3.0 + 1e-200 * np.array([[0.0, 0.0], [1.0, 1.0]])]
    assert gmm.fit(BlockRows(blocks), 2, random_state=0).converged


@pytest.mark.parametrize("exponent", [-420, -266, 266, 420])
def test_small_determinants_keep_their_digits(exponent: int) -> None:
    """At 1e-80 the determinant of two features had four digits left, and the fit went astray."""
    unit = 2.0**exponent
    wanted = gmm.fit(ROWS, 2, random_state=0, max_iter=20).mixture
    found = gmm.fit(ROWS * unit, 2, random_state=0, max_iter=20).mixture
    np.testing.assert_allclose(found.means / unit, wanted.means, rtol=1e-9)
    np.testing.assert_allclose(found.covariances / unit**2, wanted.covariances, rtol=1e-9)
    assert not SmallSteps.suit(gmm.rows.as_rows(ROWS * unit), 2, "VVV")


@pytest.mark.parametrize("exponent", [-420, 420])
def test_clusters_do_not_depend_on_the_unit(exponent: int) -> None:
    labels, centres = kmeans(ROWS, 3, random_state=0)
    others, moved = kmeans(ROWS * 2.0**exponent, 3, random_state=0)
    np.testing.assert_array_equal(labels, others)
    np.testing.assert_allclose(moved / 2.0**exponent, centres, rtol=1e-12)


def test_weights_that_add_up_to_hardly_anything_are_refused() -> None:
    for factor in (1e-60, 1e60):
        with pytest.raises(ValueError, match="sample_weight: expected a sum from 1e-40 to 1e"):
            gmm.fit(ROWS, 2, sample_weight=np.full(60, factor))


def test_numbers_too_great_for_float64_are_infinite_or_no_numbers() -> None:
    if np.finfo(np.longdouble).max > np.finfo(np.float64).max:
        X = ROWS.astype(np.longdouble)
        X[3, 1] = np.longdouble(10) ** 400
        with pytest.raises(ValueError, match=r"X: .* got infinity at \[3, 1\]"):
            gmm.fit(X, 2)
    with pytest.raises(TypeError, match="means: expected an array of real numbers"):
        gmm.Mixture([1.0], [[10**400]], [[[1.0]]])


def test_rows_too_far_away_for_numbers_are_refused_and_others_are_not() -> None:
    mixture = gmm.Mixture([0.5, 0.5], [[0.0], [1.0]], [1.0, 2.0], "VII")
    found = mixture.log_density([[1e140]])
    assert found[0] == pytest.approx(-0.25e280)  # the wider component's
    np.testing.assert_array_equal(mixture.responsibilities([[1e140]]), [[0.0, 1.0]])
    for method in (mixture.log_density, mixture.responsibilities, mixture.predict, mixture.impute):
        if method != mixture.impute:  # which has nothing to fill in
            with pytest.raises(ValueError, match="X: expected rows whose squared distances"):
                method([[1.0], [1e200]])
    with pytest.raises(ValueError, match="X: expected rows whose squared distances"):
        missing.log_density(mixture, [[1e200]])
    with pytest.raises(ValueError, match="X: expected rows whose squared distances"):
        gmm.Normal([0.0], [[1.0]]).log_density([[1e200]])


def test_mixtures_that_are_too_wide_or_too_narrow_are_refused() -> None:
    with pytest.raises(ValueError, match="covariances: expected variances from 1e-280 to 1e"):
        gmm.Mixture([1.0], [[0.0]], [1e-300], "VII")
    with pytest.raises(ValueError, match="covariance: expected variances from 1e-280 to 1e"):
        gmm.Normal([0.0], [[1e300]])
    with pytest.raises(ValueError, match="means: expected features with a range"):
        gmm.Mixture([0.5, 0.5], [[0.0], [1e200]], [1.0, 1.0], "VII")
    with pytest.raises(ValueError, match="ridge: expected variances"):
        gmm.fit(ROWS, 2, ridge=1e300)


def test_starts_and_priors_beyond_all_measure_are_refused() -> None:
    with pytest.raises(ValueError, match=r"start: expected means at most .* in feature 0"):
        gmm.fit(ROWS, 1, start=[[1e140, 0.0]])
    narrow = gmm.Mixture([1.0], [[0.0, 0.0]], [1e-220], "VII")
    with pytest.raises(ValueError, match="start: expected deviations from"):
        gmm.fit(ROWS, 1, start=narrow)
    prior = gmm.Prior([1e140, 0.0], np.eye(2))
    with pytest.raises(ValueError, match="prior: expected means at most"):
        gmm.fit(ROWS, 2, prior=prior)
    with pytest.raises(TypeError, match="mean: expected an array of real numbers"):
        gmm.Prior([[1.0], [1.0, 2.0]], np.eye(2))


@pytest.mark.parametrize("accelerate", ["squarem", "anderson"])
def test_a_ridge_far_above_the_data_is_a_unit_of_its_own(accelerate: str) -> None:
    """Vectors in units of the data's own spread overflowed when they were squared."""
    fit = gmm.fit(ROWS * 1e-100, 2, "VEV", ridge=1e20, accelerate=accelerate, max_iter=6)
    np.testing.assert_allclose(fit.mixture.variances, 1e20)


@pytest.mark.parametrize("accelerate", ["squarem", "lbfgs", "anderson", "auto"])
@pytest.mark.parametrize("family", ["VVV", "EEE", "VVI", "EEI"])
@pytest.mark.parametrize("prior", [None, "default"])
@pytest.mark.parametrize("units", [(1e-52, 1e117), (1e-70, 1e70), (1e120, 1e-120)])
def test_accelerators_bear_features_whose_units_are_worlds_apart(
    accelerate: str, family: str, prior: str | None, units: tuple[float, float]
) -> None:
    """Products of such numbers overflowed, with a warning of NumPy's."""
    fit = gmm.fit(ROWS * units, 2, family, accelerate=accelerate, prior=prior, random_state=0)
    assert np.isfinite(fit.mixture.stored).all()
    if prior is None:  # a default prior is round for some families, and no unit fits both features
        plain = gmm.fit(ROWS, 2, family, accelerate=accelerate, random_state=0)
        logs = len(ROWS) * np.log(units).sum()
        assert fit.log_likelihood == pytest.approx(plain.log_likelihood - logs, rel=1e-9)


def test_common_axes_of_features_whose_units_are_worlds_apart_are_refused() -> None:
    """The log-likelihood fell: eigenvalues were the rounding of greater ones."""
    X = [
        [3.29354788e-04, 2.80777681e11, 3.05295837e-33],
        [-7.61200235e-10, 6.85745819e06, 2.55668442e-38],
        [-3.01841558e-09, 7.28248267e06, 2.04794293e-38],
        [5.28631652e-09, 8.16389123e06, 2.44936764e-38],
    ]
    with pytest.raises(gmm.SingularCovarianceError):
        gmm.fit(X, 1, "VVE", missing="em", max_iter=1, random_state=0)


def test_weights_too_great_to_be_added_are_refused() -> None:
    with pytest.raises(ValueError, match="weights: expected non-negative numbers that sum to 1"):
        gmm.Mixture([1e308, 1e308], [[0.0], [1.0]], [1.0, 1.0], "VII")


def test_one_row_far_from_zero_has_no_normal_distribution() -> None:
    """The rounding of its mean overflowed when it was squared."""
    with pytest.raises(gmm.SingularCovarianceError, match="X: the 1 rows lie in a hyperplane"):
        gmm.Normal.fit([[2.4202409e163]], [1.31022721e25])


def test_predictions_bear_components_that_expect_no_row() -> None:
    """Sticks of which nothing is left: the logarithm of their weights was that of zero."""
    X = [[-1.14712397e12, -1.34358672e11], [-10.8411725, -0.895736633], [-6.8853011, -2.9780584]]
    fit = gmm.fit_variational(
        X,
        3,
        "VVI",
        weight_prior="dirichlet-process",
        concentration=1e-3,
        sample_weight=[1.31022721e14, 6.12594756e13, 1.77849695e13],
        max_iter=8,
        random_state=0,
    )
    assert np.isfinite(fit.predictive(X)).all()


def test_short_runs_bear_equal_rows_with_a_ridge() -> None:
    found = starting_mixture(np.ones((6, 2)), 2, "VVV", "short-runs", 0, ridge=1.0)
    np.testing.assert_allclose(found.means, 1.0)


def test_indices_and_values_that_are_ragged_are_refused_by_name() -> None:
    mixture = gmm.Mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
    ragged: Any = [[], [0.0]]
    with pytest.raises(TypeError, match="indices: expected an array of real numbers"):
        mixture.marginal(ragged)
    with pytest.raises(TypeError, match="values: expected an array of real numbers"):
        mixture.conditional([0], ragged)


def test_a_component_of_no_weight_keeps_its_family_in_small_units() -> None:
    """Its share of the scatter was zero, and what all have in common NaN."""
    stored = np.array([[2.0, 8.0], [1.0, 4.0]])
    full = 1e-240 * stored[:, :, None] * np.eye(2)
    found = restrict(full, "VEI", np.array([0.0, 1.0]))
    np.testing.assert_allclose(found, 1e-240 * stored, rtol=1e-9)


def test_bounds_of_distant_mixtures_are_in_order() -> None:
    """Rounding of large divergences had changed the weights of what is between the bounds."""
    one = gmm.Mixture([0.3, 0.7], [[0.0], [0.1]], [5e-6, 5e-6], "VII")
    other = gmm.Mixture([1.0], [[1.3e6]], [1.4], "VII")
    lower, upper = algebra.divergence_bounds(one, other)
    assert lower <= upper
    assert upper == pytest.approx(1.3e6**2 / 2.8, rel=1e-6)
    weightless = gmm.Mixture([0.0, 1.0], [[0.0], [0.0]], [1.0, 1.0], "VII")
    assert np.isfinite(algebra.divergence_bounds(weightless, other)).all()
    assert algebra.product(one, other)[0].weights.sum() == pytest.approx(1.0, rel=1e-12)


def test_a_selection_without_a_fit_in_every_fold_says_so() -> None:
    with pytest.raises(gmm.SingularCovarianceError, match="criterion: expected a cell with a fit"):
        gmm.select([[0.0], [1.0]], 1, "E", criterion="cv", n_folds=2, random_state=0)


def test_a_selection_with_a_prior_bears_components_without_rows() -> None:
    X = np.array([[-1.98e-38], [-9.01e-38]])
    found = gmm.select(X, range(1, 4), "V", prior="default", ridge=1e-3, random_state=0)
    assert np.isfinite(found.best.log_likelihood)


class TestSelectionOfFewRows:
    """What random cases have found in tables of a few rows."""

    def test_cells_without_a_value_are_not_ranked(self) -> None:
        X = np.array(
            [
                [-3.28220122, 1.69000757],
                [-3.4945373, -4.55499338],
                [-3.51246315, 1.94242724],
                [4.97132997, 0.95428653],
                [-3.57097417, 1.11056367],
                [-3.54296228, 1.77867956],
                [3.70790669, 0.35819734],
                [4.08359518, 0.09566669],
            ]
        )
        found = gmm.select(X, range(1, 4), "VVV", criterion="cv", n_folds=2, random_state=0)
        assert [cell[:2] for cell in found.ranking()] == [("VVV", 1)]
        assert found.table[1, 0] == np.inf  # a fold without a fit

    def test_a_covariance_without_an_inverse_is_no_fit(self) -> None:
        X = np.array(
            [
                [-1020.27916915, 3.52140502, -393.73999347],
                [-1022.06581474, 2.49139171, -390.40768573],
                [-1022.79703578, 4.15391649, -392.64692473],
            ]
        )
        with pytest.raises(gmm.SingularCovarianceError):
            gmm.select(X, range(1, 4), "VVV", random_state=0)

    @pytest.mark.parametrize(
        ("seed", "shape", "criterion"),
        [(16, (3, 3), "bic"), (13, (4, 4), "bic"), (8, (4, 2), "bic"), (8, (4, 2), "cv")],
    )
    def test_what_the_search_has_found_is_a_mixture(
        self, seed: int, shape: tuple[int, int], criterion: str
    ) -> None:
        """Some covariances had no inverse, or one that a mixture refuses."""
        rng = np.random.default_rng(seed)
        assert shape == (int(rng.integers(2, 5)), int(rng.integers(1, 5)))
        X = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3)
        families = ["VVV", "EEE", "VII", "EVI", "VEV", "VVE"]
        found = gmm.select(X, [1, 2, 3], families, criterion=criterion, n_folds=2, random_state=0)
        fit = found.best
        assert fit.log_likelihood == pytest.approx(fit.mixture.log_likelihood(X), rel=1e-9)

    def test_the_likelihood_of_a_fit_on_its_way_to_a_singularity_is_exact(self) -> None:
        """With weights beside which a prior is nothing; a batch knew it to five digits."""
        X = np.random.default_rng(5).standard_normal((37, 1))
        weights = np.random.default_rng(6).uniform(1e16, 2e17, 37)
        fit = gmm.select(
            X, [1, 2, 3], ["E", "V"], prior="default", sample_weight=weights, random_state=0
        ).fit("V", 3)
        assert fit.mixture.variances.min() < 1e-12
        exact = fit.mixture.log_likelihood(X, weights)
        assert fit.log_likelihood == pytest.approx(exact, rel=1e-11)

    def test_families_that_need_comparable_units_are_left_out_with_their_reason(self) -> None:
        """Though within components, which lie far apart, units compare."""
        X = ROWS * [1.0, 3e5] + [0.0, 1e8] * (np.arange(60) % 2)[:, None]
        found = gmm.select(X, [1, 2], ["EEV", "VVV", "VVE"], random_state=0)
        assert {cell[0] for cell in found.ranking()} == {"VVV"}
        message = "X: expected features in comparable units for the family EEV, got deviations"
        assert found.reason("EEV", 2).startswith(message)
        with pytest.raises(gmm.SingularCovarianceError, match=f"^{message}"):
            gmm.select(X, [1, 2], ["EEV"], random_state=0)

    def test_more_folds_than_rows(self) -> None:
        with pytest.raises(ValueError, match=r"^n_folds: expected at most one for each of the 3"):
            gmm.select([[0.0], [1.0], [3.0]], [1], "E", criterion="cv", n_folds=4)

    def test_no_ridge_that_is_nothing_beside_the_data(self) -> None:
        X = np.random.default_rng(0).standard_normal((9, 2)) * [1.0, 1e125]
        cross_validated = gmm.selection.cross_validated
        for call in (
            partial(gmm.fit, X, 1),
            partial(gmm.select, X, [1]),
            partial(cross_validated, X, 1),
        ):
            with pytest.raises(ValueError, match=r"^ridge: expected 0, or a variance of at least"):
                call(ridge=1e-73)
