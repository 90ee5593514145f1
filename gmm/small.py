"""EM on few rows of one or two features, in plain numbers.

With a few hundred rows the arithmetic of an iteration takes microseconds, and what takes the time
is to make arrays and objects of two or three numbers. Here the parameters and the statistics of an
iteration are Python floats, and only the two matrix products and the exponential between them are
NumPy's: eight calls for an iteration. The formulas are those of :mod:`gmm.natural` and
:mod:`gmm.m_step`, written out for matrices of two rows; where rounding or range forbids them, the
iteration is done by :class:`gmm.sweep.Sweep` instead.
"""

from __future__ import annotations

from math import inf, log, pi

import numpy as np

from gmm.checks import FloatArray, SingularCovarianceError
from gmm.families import FAMILIES, restrict
from gmm.m_step import EMPTY, m_step
from gmm.mixture import Mixture
from gmm.natural import EPS, TOLERANCE
from gmm.rows import Rows
from gmm.statistics import Statistics
from gmm.sweep import LOWEST, Sweep

__all__ = ["PlaneSteps"]

LOG2_E = 1.0 / log(2.0)
LOG_2PI = log(2 * pi)

#: A component: weight, mean (x, y), covariance (xx, xy, yy). With one feature y is constant, and
#: the variance in y is one.
Component = tuple[float, float, float, float, float, float]
#: Its expected statistics: N, Σx, Σy, Σxx, Σxy, Σyy about the centre of the data.
Moments = list[float]


class PlaneSteps:
    """The two steps of EM for rows of one or two features.

    Parameters
    ----------
    rows : Rows
    sweep : Sweep
        Does what cannot be done here.
    family : str
    ridge : float
    """

    def __init__(self, rows: Rows, sweep: Sweep, family: str, ridge: float) -> None:
        self.family = family
        self.kind = FAMILIES[family]
        self.ridge = ridge
        self.sweep = sweep
        self.rows = rows
        self.d = rows.n_features
        self.centre = sweep.centre.tolist()
        self.scales = (sweep.scales**2).tolist()
        s, t = sweep.scales[0], sweep.scales[1] if self.d == 2 else 1.0
        self.units = np.array([1.0, s, t, s * s, s * t, t * t])
        self.narrowest = 1e-18 * rows.variances
        x = np.asarray(rows.X, dtype=np.float64).T - sweep.centre[:, None]
        one, u = np.ones(rows.n_rows), x[0]
        v = x[1] if self.d == 2 else np.zeros(rows.n_rows)
        self.features = np.stack([one, u, v, u * u, u * v, v * v])  # (6, n)
        self.transposed = np.ascontiguousarray(self.features.T)
        self.ones = one if rows.weights is None else rows.weights
        self.lowest = np.full(rows.n_rows, LOWEST)
        self.totals = np.empty(rows.n_rows)
        self.logs = np.empty(rows.n_rows)

    def load(self, mixture: Mixture) -> list[Component]:
        """A mixture's parameters as plain numbers, about the centre of the data."""
        one = self.d == 1
        centre = self.centre
        return [
            (w, m[0] - centre[0], 0.0, c[0][0], 0.0, 1.0)
            if one
            else (w, m[0] - centre[0], m[1] - centre[1], c[0][0], c[0][1], c[1][1])
            for w, m, c in zip(
                mixture.weights.tolist(),
                mixture.means.tolist(),
                mixture.covariances.tolist(),
                strict=True,
            )
        ]

    def mixture(self, components: list[Component]) -> Mixture:
        """The mixture that has these parameters."""
        d = self.d
        weights = np.array([c[0] for c in components])
        means = np.array([c[1 : 1 + d] for c in components]) + self.sweep.centre
        matrices = np.array([[[c[3], c[4]], [c[4], c[5]]] for c in components])[:, :d, :d]
        stored = restrict(matrices, self.kind, weights / weights.sum())
        if self.kind == "tied":
            stored = matrices[0]
        return Mixture.from_stored(weights, means, np.ascontiguousarray(stored), self.family)

    def expect(self, components: list[Component]) -> tuple[list[Moments] | Statistics, float]:
        """The E-step: expected statistics (:eq:`eq-expected-statistics`) and log-likelihood."""
        theta = self._natural(components)
        if theta is None:
            return self._by_sweep(components)
        joint = np.array(theta).dot(self.features)  # (K, n)
        np.maximum(joint, self.lowest, out=joint)
        np.exp2(joint, out=joint)
        totals, logs = self.totals, self.logs
        np.add.reduce(joint, axis=0, out=totals)
        if not np.minimum.reduce(totals) > 1e-250:
            return self._by_sweep(components)
        np.log(totals, logs)
        log_likelihood = float(logs.dot(self.ones))
        if not log_likelihood < inf:
            return self._by_sweep(components)
        np.divide(self.ones, totals, totals)
        np.multiply(joint, totals, joint)
        moments: list[Moments] = joint.dot(self.transposed).tolist()
        return moments, log_likelihood

    def _natural(self, components: list[Component]) -> list[Moments] | None:
        """Θ, one row for each component; None where its rounding errors would be too great."""
        theta = []
        constant = -0.5 * self.d * LOG_2PI
        half = 0.5 * LOG2_E
        s0 = self.scales[0]
        s1 = self.scales[1] if self.d == 2 else 0.0
        i0, i1 = 1 / s0, 1 / s1 if self.d == 2 else 0.0
        reach = max(self.sweep.squared_radius, 1.0)
        limit = TOLERANCE / (EPS * reach)
        reach *= 1.0001  # only the means of a start can lie beyond all rows
        for w, x, y, xx, xy, yy in components:
            determinant = xx * yy - xy * xy
            if not 0 < determinant < inf:  # in units too small or too great for a square
                return None
            p, q, r = yy / determinant, -xy / determinant, xx / determinant
            if not (w > 0 and p * s0 + r * s1 < limit and x * x * i0 + y * y * i1 <= reach):
                return None
            u, v = p * x + q * y, q * x + r * y
            theta.append(
                [
                    LOG2_E * (log(w) - 0.5 * log(determinant) + constant) - half * (u * x + v * y),
                    LOG2_E * u,
                    LOG2_E * v,
                    -half * p,
                    -LOG2_E * q,
                    -half * r,
                ]
            )
        return theta

    def _by_sweep(self, components: list[Component]) -> tuple[Statistics, float]:
        statistics = self.sweep(self.mixture(components))
        return statistics, statistics.log_likelihood

    def maximise(self, moments: list[Moments] | Statistics) -> list[Component]:
        """The M-step (:eq:`eq-weight-update` to :eq:`eq-spherical-update`)."""
        if isinstance(moments, Statistics):
            return self.load(m_step(moments, self.family, self.ridge))
        total = sum(m[0] for m in moments)
        two, kind, ridge = self.d == 2, self.kind, self.ridge
        components: list[Component] = []
        for n, x, y, xx, xy, yy in moments:
            if not n > EMPTY * total:
                raise SingularCovarianceError(
                    f"component {len(components)} is responsible for no row, so its mean is "
                    "undefined"
                )
            x /= n
            y /= n
            a, b, c = xx / n - x * x, xy / n - x * y, yy / n - y * y
            if kind == "diag":
                b = 0.0
            elif kind == "spherical" and two:
                a, b = 0.5 * (a + c), 0.0
                c = a
            components.append((n / total, x, y, a, b, c))
        if kind == "tied":
            a = sum(c[0] * c[3] for c in components)
            b = sum(c[0] * c[4] for c in components)
            c_ = sum(c[0] * c[5] for c in components)
            components = [(c[0], c[1], c[2], a, b, c_) for c in components]
        if two:
            if ridge:
                components = [(w, x, y, a + ridge, b, c + ridge) for w, x, y, a, b, c in components]
        else:
            components = [(w, x, 0.0, a + ridge, 0.0, 1.0) for w, x, _, a, _, _ in components]
        self._refuse_singular(components)
        return components

    def _refuse_singular(self, components: list[Component]) -> None:
        """Raise for a covariance that is not positive definite to working precision."""
        narrow_x = float(self.narrowest[0])
        narrow_y = float(self.narrowest[1]) if self.d == 2 else 0.0
        for k, (_, _, _, a, b, c) in enumerate(components):
            if not (a > narrow_x and c > narrow_y and c - b * (b / a) > 32 * EPS * c):
                raise SingularCovarianceError(
                    f"covariances of component {k}: expected a positive definite matrix that is "
                    "not negligible beside the data"
                )

    def vector(self, components: list[Component]) -> FloatArray:
        """The parameters as one vector, in units of the data's own spread."""
        table: FloatArray = np.array(components) / self.units
        return table.ravel()

    def from_vector(self, vector: FloatArray, like: list[Component]) -> list[Component] | None:
        """The parameters of a vector; None if they make no mixture."""
        table = (vector.reshape(len(like), 6) * self.units).tolist()
        total = sum(row[0] for row in table)
        if not min(row[0] for row in table) > 1e-12:
            return None
        components: list[Component] = [(w / total, x, y, a, b, c) for w, x, y, a, b, c in table]
        try:
            self._refuse_singular(components)
        except SingularCovarianceError:
            return None
        return components

    def statistics(self, moments: list[Moments] | Statistics, log_likelihood: float) -> Statistics:
        """The same statistics as one value."""
        if isinstance(moments, Statistics):
            return moments
        table = np.array(moments)
        d = self.d
        matrices = np.array([[[m[3], m[4]], [m[4], m[5]]] for m in moments])[:, :d, :d]
        second: FloatArray = matrices
        if self.kind == "tied":
            second = matrices.sum(axis=0)
        elif self.kind != "full":
            second = np.diagonal(matrices, axis1=1, axis2=2)
            second = second if self.kind == "diag" else second.sum(axis=1)
        centres = np.broadcast_to(self.sweep.centre, (len(moments), d))
        return Statistics(
            self.kind,
            centres,
            table[:, 0],
            table[:, 1 : 1 + d],
            second,
            log_likelihood,
            self.rows.n_rows,
        )
