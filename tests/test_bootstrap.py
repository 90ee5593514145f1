"""The simulated test has the level that it claims, and finds components that are there."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import gmm
from gmm import bootstrap
from gmm.bootstrap import BootstrapTest, bootstrap_test
from gmm.checks import SingularCovarianceError
from gmm.inference import sample_like


@pytest.mark.derives("prop-bootstrap-level", "eq-bootstrap-p-value")
def test_among_exchangeable_values_every_p_value_is_equally_likely() -> None:
    """Each of B + 1 different values in turn as the data's: the p-values are j / (B + 1)."""
    values = np.random.default_rng(0).standard_normal(12)
    p_values = [
        BootstrapTest(float(v), np.delete(values, i), 1, "VVV").p_value
        for i, v in enumerate(values)
    ]
    np.testing.assert_allclose(np.sort(p_values), np.arange(1, 13) / 12)


@pytest.mark.derives("prop-bootstrap-level")
def test_ties_only_make_the_test_more_cautious() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 2.0])
    p_values = np.array(
        [BootstrapTest(v, np.delete(values, i), 1, "E").p_value for i, v in enumerate(values)]
    )
    for j in range(1, 7):
        assert (p_values <= j / 6 + 1e-12).sum() <= j


def test_two_groups_are_found_and_a_third_is_not() -> None:
    X = gmm.Mixture([0.5, 0.5], [[-2.0], [2.0]], [1.0, 1.0], "VII").sample(120, 0)[0]
    one = bootstrap_test(X, 1, "E", n_samples=19, random_state=0)
    two = bootstrap_test(X, 2, "E", n_samples=19, random_state=0)
    assert one.p_value == 1 / 20  # the least that 19 samples can give
    assert one.statistic > 1.2 * one.samples.max()
    assert two.p_value > 0.2


def test_the_statistic_is_twice_the_gain_of_the_best_fits() -> None:
    X = gmm.datasets.acidity().X
    test = bootstrap_test(X, 2, "E", n_samples=1, random_state=0)
    fits = gmm.select(X, [2, 3], ["E"], random_state=0)
    gain = fits.fit("E", 3).log_likelihood - fits.fit("E", 2).log_likelihood
    assert test.statistic == pytest.approx(2 * gain, abs=0.05)  # the search's tolerance


def test_the_seed_decides() -> None:
    X = gmm.datasets.acidity().X[:60]
    one, two = (bootstrap_test(X, 1, "V", n_samples=3, random_state=5) for _ in range(2))
    np.testing.assert_array_equal(one.samples, two.samples)
    assert repr(one).startswith("BootstrapTest of V, 1 against 2 components: statistic ")
    assert repr(one).endswith(f"p-value {one.p_value:.3f} by 3 samples")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_components": 0}, ValueError, "n_components: expected an integer of at least 1"),
        ({"n_samples": 0}, ValueError, "n_samples: expected an integer of at least 1"),
        ({"n_components": 30}, ValueError, "X"),
        ({"family": "ABC"}, ValueError, "family: expected one of"),
        ({"family": "V"}, ValueError, "family: expected one of three letters"),
        ({"sample_weight": np.full(30, 0.5)}, ValueError, "sample_weight: expected whole numbers"),
        ({"ridge": -1.0}, ValueError, "ridge: expected a finite number of at least 0"),
        ({"prior": "weak"}, ValueError, "prior: expected one of 'default'"),
        ({"prior": gmm.Prior([0.0], [[1.0]])}, ValueError, "prior: expected one for 2 features"),
        ({"missing": "drop"}, ValueError, "missing: expected one of 'raise', 'em'"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    X = np.random.default_rng(0).standard_normal((30, 2))
    with pytest.raises(error, match=message):
        bootstrap_test(X, **({"n_components": 1} | arguments))


def test_no_sound_null_hypothesis_is_an_error() -> None:
    X = np.random.default_rng(0).standard_normal((6, 2))
    with pytest.raises(SingularCovarianceError, match="no fit of VVV with 4 components"):
        bootstrap_test(X, 4, "VVV")


def test_a_sample_without_a_fit_counts_against_the_alternative() -> None:
    """Of six rows from two components, some samples have too few rows in one of them."""
    X = np.random.default_rng(4).standard_normal((7, 2))
    test = bootstrap_test(X, 2, "VVV", n_samples=5, random_state=0)
    assert np.isinf(test.samples).any()
    assert test.p_value > np.isinf(test.samples).mean()


def test_the_log_tells_of_the_test_and_of_every_sample(caplog: pytest.LogCaptureFixture) -> None:
    X = gmm.datasets.acidity().X
    with caplog.at_level(logging.DEBUG, "gmm.bootstrap"):
        test = bootstrap_test(X, 1, "E", n_samples=3, random_state=0)
    assert caplog.messages == [
        "test of E with 1 components against 2 begins",
        *(f"sample {i} of 3: statistic {s:.3f}" for i, s in enumerate(test.samples, 1)),
        f"test ends: statistic {test.statistic:.3f}, p-value {test.p_value:.3f}",
    ]


def test_the_log_warns_of_samples_without_a_sound_fit(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = bootstrap._gain, 0

    def second_sample_fails(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return (None, np.inf) if calls == 3 else real(*args)

    monkeypatch.setattr(bootstrap, "_gain", second_sample_fails)
    test = bootstrap_test(gmm.datasets.acidity().X, 1, "E", n_samples=3, random_state=0)
    assert test.samples[1] == np.inf
    assert caplog.messages == ["sample 2 of 3 has no sound fit, so it counts as greater"]


# ---------------------------------------------------------------- weights, ridges, priors, gaps


def test_weights_are_how_often_rows_have_occurred() -> None:
    """The statistic is that of the rows written out, and samples have as many rows."""
    X = gmm.datasets.acidity().X[:80]
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    written = np.repeat(X, weights, axis=0)
    sizes = []
    real = sample_like

    def watched(*args: Any) -> Any:
        sample = real(*args)
        sizes.append(len(sample))
        return sample

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "sample_like", watched)
        weighted = bootstrap_test(X, 1, "E", n_samples=19, sample_weight=weights, random_state=0)
    plain = bootstrap_test(written, 1, "E", n_samples=19, random_state=0)
    assert weighted.statistic == pytest.approx(plain.statistic, abs=0.02)
    assert sizes == [weights.sum()] * 19
    # of 19 draws each, the means err by 0.4 of a standard deviation together
    spread = np.std(np.concatenate([weighted.samples, plain.samples]))
    assert abs(weighted.samples.mean() - plain.samples.mean()) < 4 * spread * np.sqrt(2 / 19)


@pytest.mark.parametrize("extra", [{"ridge": 0.02}, {"prior": "default"}])
def test_the_fits_that_are_compared_are_those_of_fit(extra: dict[str, Any]) -> None:
    X = gmm.datasets.acidity().X
    test = bootstrap_test(X, 1, "V", n_samples=2, random_state=0, **extra)
    one = gmm.fit(X, 1, "V", **extra)
    two = gmm.fit(X, 2, "V", n_starts=5, random_state=0, **extra)
    gain = 2 * (two.log_likelihood - one.log_likelihood)
    # with a ridge steps do not end at the likelihood's top but pass it, and a search stops there
    assert test.statistic == pytest.approx(gain, abs=0.2)
    ridge = float(extra.get("ridge", 0.0))
    # every sample is fitted alike: brute force for the first of them
    rng = np.random.default_rng(0)
    null, _ = bootstrap._gain(
        gmm.rows.as_rows(X), bootstrap._Models("V", 1, ridge, extra.get("prior")), rng
    )
    assert null is not None
    sample = null.sample(len(X), rng)[0]
    one = gmm.fit(sample, 1, "V", **extra)
    two = gmm.fit(sample, 2, "V", n_starts=20, start="random", random_state=0, **extra)
    gain = max(0.0, 2 * (two.log_likelihood - one.log_likelihood))
    assert test.samples[0] == pytest.approx(gain, abs=0.2)


def test_a_prior_lets_samples_of_few_rows_be_fitted() -> None:
    X = np.random.default_rng(4).standard_normal((7, 2))
    test = bootstrap_test(X, 2, "VVV", n_samples=5, prior="default", random_state=0)
    assert np.isfinite(test.samples).all()


def test_gaps_are_laid_on_samples_and_fits_are_those_of_what_is_seen() -> None:
    truth = gmm.Mixture([0.5, 0.5], [[-2.0, -2.0], [2.0, 2.0]], [1.0, 1.0], "VII")
    X = truth.sample(120, 0)[0]
    gaps = np.random.default_rng(1).random(X.shape) < 0.25
    gaps[gaps.all(axis=1), 0] = False
    Y = np.where(gaps, np.nan, X)
    seen = []
    real = sample_like

    def watched(*args: Any) -> Any:
        sample = real(*args)
        seen.append(np.isnan(sample))
        return sample

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "sample_like", watched)
        one = bootstrap_test(Y, 1, "EII", n_samples=19, missing="em", random_state=0)
    for pattern in seen:
        np.testing.assert_array_equal(pattern, gaps)
    fits = [
        gmm.fit(Y, k, "EII", missing="em", n_starts=5, random_state=0).log_likelihood
        for k in (1, 2)
    ]
    assert one.statistic == pytest.approx(2 * (fits[1] - fits[0]), abs=0.05)
    assert one.p_value == 1 / 20
    two = bootstrap_test(Y, 2, "EII", n_samples=9, missing="em", random_state=0)
    assert two.p_value > 0.1
    complete = bootstrap_test(X, 1, "EII", n_samples=2, missing="em", random_state=0)
    plain = bootstrap_test(X, 1, "EII", n_samples=2, random_state=0)
    np.testing.assert_array_equal(complete.samples, plain.samples)


def test_missing_values_are_refused_unless_they_are_expected() -> None:
    with pytest.raises(ValueError, match="got NaN"):
        bootstrap_test([[1.0], [np.nan], [2.0]], 1)
