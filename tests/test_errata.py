"""The claims of the appendix on slips, by other means than those of its cells."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

import gmm

Floats = NDArray[np.float64]
PRINTED_1977 = (
    608247423,
    624321051,
    626488879,
    626777323,
    626815632,
    626820719,
    626821395,
    626821484,
)


def test_three_values_of_1977_are_a_unit_too_large() -> None:
    """With forty digits, from the closed form of the map rather than from fractions."""
    with mpmath.workdps(40):
        p, excess = mpmath.mpf(1) / 2, []
        for value in PRINTED_1977:
            p = (159 * p + 68) / (197 * p + 144)
            excess.append(value - int(mpmath.nint(p * 10**9)))
    assert excess == [0, 1, 0, 1, 0, 0, 1, 0]


def test_the_sequence_meets_the_condition_of_1977_and_does_not_converge() -> None:
    """Exact inequalities for single steps, and a lower bound of the angle."""
    with mpmath.workdps(40):
        for t in [*range(1, 200), 10**4, 10**8]:
            one, two = 1 + 1 / mpmath.sqrt(t), 1 + 1 / mpmath.sqrt(t + 1)
            gain = ((one - 1) ** 2 - (two - 1) ** 2) / 2
            assert mpmath.almosteq(gain, mpmath.mpf(1) / (2 * t * (t + 1)), 1e-25)
            angle = mpmath.mpf(1) / (t + 1)
            squared = one**2 + two**2 - 2 * one * two * mpmath.cos(angle)
            assert gain >= mpmath.mpf(2) / 17 * squared
    # from t to 3 t the angle grows by more than 1/2, for ever
    for t in (10, 100, 1000):
        assert sum(Fraction(1, s) for s in range(t + 1, 3 * t + 1)) > Fraction(1, 2)


def test_no_fixed_point_rounds_to_the_printed_estimates() -> None:
    """Interval arithmetic: from all parameters in the box, a step of EM raises the weight."""
    iv = mpmath.iv
    rows = [iv.mpf(str(value)) for value in gmm.datasets.hastie().X[:, 0]]
    assert len(rows) == 20
    printed = (("4.62", 5), ("0.87", 5), ("1.06", 5), ("0.77", 5), ("0.546", 0.5))
    m1, v1, m2, v2, pi = (iv.mpf(c) + iv.mpf([-1, 1]) * iv.mpf(h) / 1000 for c, h in printed)
    total = iv.mpf(0)
    for x in rows:
        odds = iv.sqrt(v2 / v1) * (1 - pi) / pi
        odds *= iv.exp((x - m2) ** 2 / (2 * v2) - (x - m1) ** 2 / (2 * v1))
        total += 1 / (1 + odds)
    assert float((total / 20 - pi).a) > 1e-3
    # the same arithmetic does not exclude the true fixed point
    assert float(mpmath.mpf(pi.b)) < 0.55459


@pytest.mark.parametrize("n", [1, 3])
def test_the_degrees_of_freedom_have_no_extra_one(n: int) -> None:
    """The exact posterior mean of the precision, by quadrature over the precision alone."""
    x = np.array([0.2, -1.1, 0.9])[:n]
    m0, kappa, nu, b = 0.5, 0.8, 2.0, 1.5

    def joint(precision: float) -> float:
        # the rows without their mean: jointly normal, covariance (I + 11ᵀ/κ)/Λ
        covariance = (np.eye(n) + 1 / kappa) / precision
        rows = stats.multivariate_normal(np.full(n, m0), covariance).pdf(x)
        return float(rows * stats.gamma(nu / 2, scale=2 / b).pdf(precision))

    grid = np.exp(np.linspace(-14, 5, 4001))
    values = np.array([joint(value) for value in grid]) * grid
    mean = float((values * grid).sum() / values.sum())
    scatter = ((x - x.mean()) ** 2).sum() + kappa * n / (kappa + n) * (x.mean() - m0) ** 2
    assert mean == pytest.approx((nu + n) / (b + scatter), rel=1e-6)
    assert mean != pytest.approx((nu + n + 1) / (b + scatter), rel=1e-2)


def test_the_variance_needs_the_square_and_the_dimension() -> None:
    """A numerical optimiser finds the mean squared distance divided by the dimension."""
    rng = np.random.default_rng(0)
    x, r = rng.standard_normal((50, 4)) * 3.0, rng.uniform(size=50)

    def loss(log_variance: float) -> float:
        normal = stats.multivariate_normal(np.zeros(4), np.exp(log_variance) * np.eye(4))
        return -float(r @ normal.logpdf(x))

    found = float(np.exp(optimize.minimize_scalar(loss, bounds=(-5, 8), method="bounded").x))
    norms = np.linalg.norm(x, axis=1)
    assert found == pytest.approx(r @ norms**2 / (4 * r.sum()), rel=1e-4)
    for wrong in (r @ norms / r.sum(), r @ norms**2 / r.sum()):
        assert abs(wrong / found - 1) > 0.1


def test_the_lost_dimension_of_the_constant() -> None:
    """For Old Faithful the log-likelihood is off by 136 log 2π; responsibilities stay."""
    x = gmm.datasets.old_faithful().X
    assert x.shape == (272, 2)
    mixture = gmm.fit(x, 2, random_state=0).mixture
    wrong = mixture.component_log_densities(x) + 0.5 * np.log(2 * np.pi)
    total = np.logaddexp.reduce(wrong, axis=1)
    shift = total.sum() - mixture.log_likelihood(x)
    assert shift == pytest.approx(136 * np.log(2 * np.pi), rel=1e-10)
    assert 249 < shift < 250
    np.testing.assert_allclose(
        np.exp(wrong - total[:, None]), mixture.responsibilities(x), atol=1e-12
    )


def test_what_ellipses_hold_by_counting() -> None:
    z = np.random.default_rng(1).standard_normal((400_000, 2))
    for radius, claimed in ((2.0, 0.9545), (3.0, 0.9973)):
        held = np.mean((z**2).sum(axis=1) <= radius**2)
        assert held == pytest.approx(1 - np.exp(-(radius**2) / 2), abs=0.003)
        assert held < claimed - 0.005


def test_axes_with_volumes_do_not_depend_on_the_scale_of_a_component() -> None:
    """Both objectives minimised over axes and shapes together, without their closed forms."""

    def scatter(angle: float) -> Floats:
        c, s = np.cos(angle), np.sin(angle)
        d = np.array([[c, -s], [s, c]])
        return np.asarray(d @ np.diag([4.0, 1.0]) @ d.T)

    alpha = np.radians(25)

    def axes(scale: float, volumes: bool) -> float:
        matrices = [scale**2 * scatter(0.0), scatter(alpha)]

        def objective(p: Floats) -> float:
            c, s = np.cos(p[0]), np.sin(p[0])
            d, total = np.array([[c, -s], [s, c]]), 0.0
            for k, w in enumerate(matrices):
                shape = np.array([np.exp(p[1 + k]), np.exp(-p[1 + k])])
                trace = float(((d.T @ w @ d).diagonal() / shape).sum())
                # with the best volume for this shape, tr/λ + d log λ is 2 log tr and a constant
                total += 2 * np.log(trace) if volumes else trace / scale
            return total

        starts = [np.array([a, 0.7, 0.7]) for a in (0.05, 0.2, 0.4)]
        ends = [
            optimize.minimize(objective, start, method="Nelder-Mead", tol=1e-12) for start in starts
        ]
        return float(np.degrees(min(ends, key=lambda end: end.fun).x[0]))

    right = [axes(scale, True) for scale in (1.0, 2.0, 5.0)]
    np.testing.assert_allclose(right, 12.5, atol=1e-3)
    wrong = [axes(scale, False) for scale in (1.0, 2.0, 5.0)]
    np.testing.assert_allclose(wrong, [12.5, 3.22, 0.49], atol=0.01)
