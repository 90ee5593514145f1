"""The lab's Python, without a page: it computes what the package computes."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

import gmm

from .conftest import ROOT

sys.path.insert(0, str(ROOT / "book" / "_lab"))

from in_page.laboratory import DATA, PRESSED, Laboratory

FAMILIES = ["VVV", "EEE", "VVI", "VII", "VEV"]


def _begun(name: str = "old_faithful", k: int = 2, family: str = "VVV", **rest: Any) -> Laboratory:
    lab = Laboratory()
    lab.data(name)
    lab.begin(k, family, **({"seed": 8} | rest))
    return lab


def _shown(state: dict[str, Any]) -> gmm.Mixture:
    mixture = state["mixture"]
    return gmm.Mixture(
        mixture["weights"], mixture["means"], mixture["covariances"], mixture["family"]
    )


def _ran(program: str) -> gmm.Mixture:
    names: dict[str, Any] = {}
    exec(program, names)
    mixture: gmm.Mixture = names["mixture"]
    return mixture


def _apart(one: gmm.Mixture, other: gmm.Mixture) -> float:
    return max(
        float(np.abs(a - b).max())
        for a, b in [
            (one.weights, other.weights),
            (one.means, other.means),
            (one.covariances, other.covariances),
        ]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_half_steps_are_those_of_fit(family: str) -> None:
    lab = _begun("iris", 3, family)
    start = _shown(lab.state())
    for _ in range(10):
        state = lab.step()
    fit = gmm.fit(lab.rows, 3, family, start=start, max_iter=5, tol=0)
    assert state["iteration"] == 5
    assert _apart(_shown(state), fit.mixture) < 1e-9
    np.testing.assert_allclose(
        [state["curve"][place] for place in (0, 2, 4, 6, 8, 10)],
        fit.trace.log_likelihood,
        rtol=1e-12,
    )


@pytest.mark.derives("thm-monotone", "thm-decomposition")
def test_an_e_step_closes_the_gap_and_an_m_step_lifts_the_bound() -> None:
    lab = _begun()
    bounds: list[float] = []
    for number in range(20):
        state = lab.step()
        if number % 2 == 0:
            assert state["step"] == "E"
            assert state["bound"] == pytest.approx(state["log_likelihood"], abs=1e-9)
        assert state["bound"] <= state["log_likelihood"] + 1e-9
        bounds.append(state["bound"])
    assert np.all(np.diff(bounds) >= -1e-9)


def test_the_predicted_rate_is_the_measured_one_near_the_end() -> None:
    lab = _begun("watching_em", 3, seed=1)
    lab.run(80)
    measured = lab.state()["measured_rate"]
    assert lab.rate()["rate"] == pytest.approx(measured, rel=1e-3)
    assert lab.begin(3, "VVV", prior=True) is not None
    assert lab.rate()["rate"] is None  # the theorem is about the likelihood


def test_going_back_and_on_again_changes_nothing() -> None:
    lab = _begun()
    states = [lab.step() for _ in range(12)]
    for place in (3, 7, 12):
        state = lab.go(place)
        assert state["mixture"] == states[place - 1]["mixture"]
        assert state["length"] == 13
    lab.go(6)
    again = [lab.step() for _ in range(6)]
    assert [state["log_likelihood"] for state in again] == [
        state["log_likelihood"] for state in states[6:]
    ]
    lab.go(4)
    assert lab.step()["length"] == 6  # a new course takes the place of the old one


@pytest.mark.parametrize("name", DATA)
def test_the_program_does_the_same(name: str) -> None:
    lab = _begun(name, 3, seed=2)
    lab.run(15)
    state = lab.state()
    assert _apart(_ran(lab.program()["program"]), _shown(state)) < 1e-9 * lab.rows.std() ** 2


def test_the_program_of_a_moved_mean_own_points_and_a_prior() -> None:
    points = [[0.0, 0.1], [0.2, 0.4], [0.5, 0.0], [4.0, 4.2], [4.4, 4.0], [4.1, 4.6], [2.0, 2.2]]
    lab = Laboratory()
    assert lab.data(points=points) == {"points": points, "names": ["x", "y"]}
    lab.begin(2, "VVV", start="k-means", prior=True)
    state = lab.move(1, [3.0, 3.5])
    assert state["step"] == "start"
    assert state["mixture"]["means"][1] == [3.0, 3.5]
    assert _apart(_ran(lab.program()["program"]), _shown(state)) == 0.0
    lab.run(4)
    assert _apart(_ran(lab.program()["program"]), _shown(lab.state())) < 1e-12
    shared = lab.begin_at(state["mixture"], prior=True)
    assert shared["mixture"] == state["mixture"]


@pytest.mark.parametrize("name", DATA)
def test_a_pressed_component_collapses_and_a_prior_saves_it(name: str) -> None:
    lab = _begun(name, 2, start="k-means")
    lab.run(50)
    lab.press(0)
    state = lab.run(100)
    assert "component 0" in state["failure"]
    assert state["iteration"] > 0  # the reader sees it happen
    lab.begin(2, "VVV", start="k-means", prior=True)
    lab.press(0)
    assert "failure" not in lab.run(400)
    assert PRESSED[0] < 1


def test_ends_are_those_of_fits_from_the_same_starts() -> None:
    lab = _begun("course_project", 4)
    ends = lab.ends([0, 1, 2, 3], ["k-means", "random", "random", "k-means++"])["ends"]
    values = [end["log_likelihood"] for end in ends]
    assert values == sorted(values, reverse=True)
    for end in ends:
        start = gmm.initial.starting_mixture(lab.rows, 4, "VVV", end["start"], end["seed"])
        fit = gmm.fit(lab.rows, 4, start=start)
        assert end["log_likelihood"] == pytest.approx(fit.log_likelihood, rel=1e-12)
        assert end["n_iter"] == fit.n_iter


def test_bic_is_that_of_select() -> None:
    lab = _begun("iris", 3, "VVI")
    table = gmm.select(lab.rows, range(1, 5), ["VVI"], random_state=0)
    assert lab.bic(4)["bic"] == [table.bic("VVI", k) for k in range(1, 5)]


def test_questions_and_answers_are_json() -> None:
    lab = Laboratory()
    json.loads(lab.answer("data", '{"name": "galaxies"}'))
    state = json.loads(lab.answer("begin", '{"n_components": 2, "start": "k-means"}'))
    assert np.shape(state["mixture"]["covariances"]) == (2, 1, 1)
    assert len(json.loads(lab.answer("colours", "{}"))["colours"]) == 10
    shares = json.loads(lab.answer("step", "{}"))["shares"]
    np.testing.assert_allclose(np.reshape(shares, (-1, 2)).sum(axis=1), 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("answer", "{}", "no such question"),
        ("_begin", "{}", "no such question"),
        ("data", '{"name": "nonsense"}', r"name: expected one of old_faithful.*'nonsense'"),
        ("data", '{"points": [[1, 2, 3]]}', "points: expected one or two numbers each, got 3"),
        ("go", '{"place": 99}', "place: expected 0 to 0, got 99"),
        ("step", "", "Expecting value"),
    ],
)
def test_wrong_questions_are_refused(name: str, arguments: str, message: str) -> None:
    lab = _begun()
    with pytest.raises(ValueError, match=message):
        lab.answer(name, arguments)


def test_nothing_is_shown_before_anything_has_begun() -> None:
    with pytest.raises(ValueError, match="nothing has begun"):
        Laboratory().state()
