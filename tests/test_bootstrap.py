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
