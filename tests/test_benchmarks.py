"""What the benchmarks rest on: differences, medians, means of ratios, and a table that is kept."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from importlib import import_module
from itertools import permutations, product
from math import comb, prod
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.mark.derives("prop-difference", "eq-difference")
def test_the_difference_of_two_runs_is_unbiased_and_has_its_variance() -> None:
    """By simulation: 200 000 estimates, so that means are known to 0.3 % of a deviation."""
    rng = np.random.default_rng(0)
    s, sigma, c, tau, few, many, size = 5.0, 0.5, 0.2, 0.1, 2, 10, 200_000

    def total(m: int) -> np.ndarray:
        setup = s + sigma * rng.standard_normal(size)
        iterations = rng.gamma((c / tau) ** 2, tau**2 / c, (m, size))  # mean c, deviation tau
        return np.asarray(setup + iterations.sum(axis=0))

    estimate = (total(many) - total(few)) / (many - few)
    variance = (2 * sigma**2 + (few + many) * tau**2) / (many - few) ** 2
    assert abs(estimate.mean() - c) < 5 * np.sqrt(variance / size)
    assert estimate.var() == pytest.approx(variance, rel=0.02)
    assert (total(few) / few).mean() == pytest.approx(c + s / few, rel=0.01)


@pytest.mark.derives("prop-mean-of-ratios")
def test_means_of_ratios_take_sides_and_medians_do_not() -> None:
    a, b = [Fraction(1), Fraction(4), Fraction(5)], [Fraction(2), Fraction(3)]
    ratios = [x / y for x, y in product(a, b)]  # independent and uniform
    mean, reverse = sum(ratios) / 6, sum(1 / r for r in ratios) / 6
    assert mean * reverse > 1
    assert mean > Fraction(sum(a), 3) / Fraction(sum(b), 2)
    odd = sorted(ratios)[:5]
    assert sorted(1 / r for r in odd)[2] == 1 / odd[2]


@pytest.mark.derives("thm-median-interval", "eq-median-interval")
@pytest.mark.parametrize(("n", "j"), [(3, 1), (5, 1), (7, 2), (8, 3)])
def test_the_interval_holds_the_median_as_often_as_it_says(n: int, j: int) -> None:
    predicted = 1 - Fraction(2, 2**n) * sum(comb(n, i) for i in range(j))
    # continuous: only on which side of the median a number falls matters; all 2ⁿ ways
    inside = sum(j <= sum(below) <= n - j for below in product((0, 1), repeat=n))
    assert Fraction(inside, 2**n) == predicted
    # discrete: of zero, one and two with probabilities .3, .4, .3 the median is one
    exact = 1 - 2 * scipy.stats.binom(n, 0.7).cdf(j - 1)
    draws = np.random.default_rng(0).choice(3, (20_000, n), p=[0.3, 0.4, 0.3])
    draws.sort(axis=1)
    held = ((draws[:, j - 1] <= 1) & (draws[:, n - j] >= 1)).mean()
    assert held == pytest.approx(exact, abs=0.015)  # four deviations
    assert exact >= float(predicted)


@pytest.mark.derives("thm-geometric-mean")
def test_only_the_geometric_mean_has_the_three_properties() -> None:
    x, y = (2.0, 3.0, 7.0), (5.0, 0.5, 0.1)

    def geometric(v: tuple[float, ...]) -> float:
        return float(prod(v) ** (1 / len(v)))

    means = {
        "arithmetic": lambda v: sum(v) / len(v),
        "harmonic": lambda v: len(v) / sum(1 / a for a in v),
        "geometric": geometric,
    }
    multiplicative = []
    for name, mean in means.items():
        assert mean((4.0, 4.0, 4.0)) == pytest.approx(4.0)
        assert len({round(mean(p), 12) for p in permutations(x)}) == 1
        both = mean(tuple(a * b for a, b in zip(x, y, strict=True)))
        if both == pytest.approx(mean(x) * mean(y), rel=1e-12):
            multiplicative.append(name)
    assert multiplicative == ["geometric"]
    # the step of the proof: the shifts of x multiply to a constant vector
    shifts = np.prod([np.roll(x, j) for j in range(3)], axis=0)
    np.testing.assert_allclose(shifts, geometric(x) ** 3, rtol=1e-14)


@pytest.mark.derives("prop-floor")
@pytest.mark.parametrize("size", [3, 12, 40])
def test_no_schedule_beats_the_floor(size: int) -> None:
    """All schedules: in each moment one kind of operation or none, and bytes beside it."""
    rates, rate, work = (2, 3), 4, (5, 7)
    moments, now = 0, {(*work, size)}
    while (0, 0, 0) not in now:
        moments += 1
        now = {
            (max(0, a - x), max(0, b - y), max(0, left - rate))
            for a, b, left in now
            for x, y in ((rates[0], 0), (0, rates[1]), (0, 0))
        }
    floor = max(Fraction(5, 2) + Fraction(7, 3), Fraction(size, rate))
    assert floor <= moments <= floor + 2  # whole moments: up to one for each kind is lost


def test_the_table_keeps_what_is_not_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command itself, on the small cells."""
    path = tmp_path / "table.csv"
    command = [sys.executable, str(BENCHMARKS / "bench.py"), str(path), "--reduced"]
    command += ["--repeats", "1", "--only", "prediction"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    measure = import_module("measure")
    kept = measure.Table(path, ["grid"]).rows
    assert {row.part for row in kept} == {"prediction"}
    assert all(0 < row.ours < np.inf and row.value == row.lowest for row in kept)
    assert measure.Table(path, ["prediction"]).rows == []
    table = measure.Table(path, ["grid"])
    table.add(kept[0])
    assert measure.Table(path, ["grid"]).rows == [*kept, kept[0]]
    first, rest = path.read_text().split("\n", 1)
    path.write_text(f"{first}, another machine\n{rest}")
    assert measure.Table(path, ["grid"]).rows == []  # times of two machines do not mix


def test_a_file_of_many_rows_takes_little_memory(tmp_path: Path) -> None:
    """The whole process's own memory grows by 64 MiB at most; the features would take 96 MB."""
    path = tmp_path / "rows.npy"
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(2_000_000, 2))
    rows[...] = rng.standard_normal(rows.shape, dtype=np.float32)
    rows.flush()
    command = [sys.executable, str(BENCHMARKS / "memory.py"), str(path), str(len(rows))]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert 0 < int(answer.stdout) <= 64 * 2**20
