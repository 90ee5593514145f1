"""gmm.replay: what a page plays is what the fit did."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import numpy as np
import pytest

import gmm
from gmm.marks import DARK, PALETTE
from gmm.replay import VERSION, replay

X = gmm.datasets.old_faithful().X


def _fit(seed: int, rows: np.ndarray = X, k: int = 3) -> gmm.Fit:
    return gmm.fit(rows, k, start="random", max_iter=8, tol=0, keep="all", random_state=seed)


def test_every_iteration_is_there_with_its_parameters() -> None:
    fit = _fit(0)
    (run,) = replay(fit, X).content["runs"]
    assert len(run["means"]) == fit.n_iter + 1
    for t, mixture in fit.trace.mixtures.items():
        np.testing.assert_allclose(run["weights"][t], mixture.weights, rtol=1e-5)
        np.testing.assert_allclose(run["means"][t], mixture.means, rtol=1e-5)
        np.testing.assert_allclose(run["covariances"][t], mixture.covariances, rtol=1e-5)
    np.testing.assert_allclose(run["log_likelihood"], fit.trace.log_likelihood, atol=1e-6)


@pytest.mark.derives("thm-monotone")
def test_the_bound_lies_between_the_likelihoods_before_and_after_the_m_step() -> None:
    (run,) = replay(_fit(1), X).content["runs"]
    for (before, after), bound in zip(
        pairwise(run["log_likelihood"]), run["bound"][1:], strict=True
    ):
        assert before - 2e-6 <= bound <= after + 2e-6
    assert run["bound"][0] == run["log_likelihood"][0]


def test_the_bound_is_the_expected_log_joint_plus_the_entropy() -> None:
    """From the definition, with densities by scipy, which the package does not use."""
    from scipy.stats import multivariate_normal

    fit = _fit(2)
    before, after = fit.trace.mixtures[3], fit.trace.mixtures[4]

    def joint(mixture: gmm.Mixture) -> np.ndarray:
        return np.column_stack(
            [
                np.log(weight) + multivariate_normal(mean, covariance).logpdf(X)
                for weight, mean, covariance in zip(
                    mixture.weights, mixture.means, mixture.covariances, strict=True
                )
            ]
        )

    shares = np.exp(joint(before))
    shares /= shares.sum(axis=1, keepdims=True)
    expected = np.sum(shares * (joint(after) - np.log(shares)))
    (run,) = replay(fit, X).content["runs"]
    assert run["bound"][4] == pytest.approx(expected, abs=1e-5)


def test_a_page_gets_valid_json_that_cannot_end_its_own_element() -> None:
    fits = {"</script><b>": _fit(0), "another": _fit(1)}
    played = replay(fits, X, figure='fig-"x"')
    written = played._repr_html_()
    found = re.fullmatch(r"<script ([^>]*)>(.*)</script>", written, re.DOTALL)
    assert found
    assert "<" not in found[2]
    assert 'data-figure="fig-&quot;x&quot;"' in found[1]
    content = json.loads(found[2])
    assert content == played.content
    assert [run["name"] for run in content["runs"]] == list(fits)
    assert content["version"] == VERSION
    assert repr(played) == "Replay(runs=2, rows=272)"


def test_one_feature_and_two_of_many() -> None:
    lengths = X[:, :1]
    fit = _fit(0, lengths, 2)
    content = replay(fit, lengths).content
    np.testing.assert_allclose(content["points"], lengths)
    iris = gmm.datasets.iris().X
    fit = _fit(0, iris, 2)
    content = replay(fit, iris, features=(2, 0)).content
    np.testing.assert_allclose(content["points"], iris[:, [2, 0]])
    np.testing.assert_allclose(
        content["runs"][0]["means"][-1], fit.mixture.means[:, [2, 0]], rtol=1e-5
    )
    covariances = fit.mixture.covariances[:, [[2], [0]], [2, 0]]
    np.testing.assert_allclose(content["runs"][0]["covariances"][-1], covariances, rtol=1e-5)
    np.testing.assert_allclose(
        content["runs"][0]["log_likelihood"], fit.trace.log_likelihood, atol=1e-6
    )


def test_colours_are_those_of_the_figures_in_both_themes() -> None:
    colours = replay(_fit(0), X).content["colours"]
    assert [light for light, _ in colours][2:] == list(PALETTE)
    assert all(DARK[light] == dark for light, dark in colours)


@pytest.mark.parametrize(
    ("fits", "rows", "message"),
    [
        ({}, X, r"fits: expected one fit or more, got none"),
        (gmm.fit(X, 2, random_state=0), X, r"fits: expected all iterations of the fit, got those"),
        ({"a": _fit(0), "b": _fit(0, X[:, :1])}, X, r"fits: expected 2 features .*got 1 in b"),
        (_fit(0), X[:, :1], r"X"),
    ],
)
def test_bad_input_is_refused(fits: object, rows: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replay(fits, rows)  # type: ignore[arg-type]  # what the types forbid is what is tested
