"""EM on few rows of up to three features, in plain numbers.

With a few hundred rows the arithmetic of an iteration takes microseconds, and what takes the time
is to make arrays and objects of a few numbers. Here the parameters and the statistics of an
iteration are Python floats, and only the two matrix products and the exponential between them are
NumPy's: eight calls for an iteration. The formulas are those of :mod:`gmm.natural` and
:mod:`gmm.m_step`, with the inverses of small matrices written out; where rounding or range forbids
them, the iteration is done by :class:`gmm.sweep.Sweep` instead.
"""

from __future__ import annotations

from math import inf, log, pi
from typing import Any

import numpy as np

from gmm.checks import EPS, EmptyComponentError, FloatArray, SingularCovarianceError
from gmm.families import FAMILIES, restrict
from gmm.m_step import EMPTY, NARROWEST, SMALLEST_WEIGHT, m_step
from gmm.mixture import Mixture
from gmm.natural import LOG2_E, TOLERANCE, features, statistics_size, unpacked
from gmm.rows import Rows
from gmm.statistics import Statistics
from gmm.sweep import LOWEST, Sweep

__all__ = ["Component", "SmallSteps"]

LOG_2PI = log(2 * pi)

HALF = 0.5 * LOG2_E

#: A component: its weight, its mean, the lower triangle of its covariance, row by row.
Component = list[float]
#: Its statistics about the centre of the data, in the order of :func:`gmm.natural.features`.
Moments = list[float]
#: What :func:`_expand_2` and its like return.
Expansion = tuple[float, float, float, float, list[float]]


class SmallSteps:
    """The two steps of EM for rows of one, two or three features.

    Parameters
    ----------
    rows : Rows
    sweep : Sweep
        Does what cannot be done here.
    family : str
    ridge : float
    scales : array (d,), optional
        Units for :meth:`vector`; by default those of the sweep.
    """

    #: Here no parameter is held.
    fixed: frozenset[str] = frozenset()
    #: The families whose updates are averages.
    FAMILIES = ("EII", "VII", "EEI", "VVI", "EEE", "VVV", "E", "V")
    #: The most features, and the most multiplications of a pass, for which this is worth while.
    MOST_FEATURES = 3
    MOST_WORK = 1_000_000
    #: The variances of the data between which a product of three, of components that are narrower
    #: by a factor of 1e-18 each, is a normal number.
    LEAST_VARIANCE, MOST_VARIANCE = 1e-75, 1e75

    def __init__(
        self,
        rows: Rows,
        sweep: Sweep,
        family: str,
        ridge: float,
        scales: FloatArray | None = None,
    ) -> None:
        d = self.d = rows.n_features
        self.family = family
        self.kind = FAMILIES[family]
        self.ridge = ridge
        self.sweep = sweep
        self.rows = rows
        pairs = [(i, j) for i in range(d) for j in range(i + 1)]
        self.diagonal = [1.0 if i == j else 0.0 for i, j in pairs]
        self.ridges = [ridge * one for one in self.diagonal]
        self.constant = -0.5 * d * LOG_2PI
        self.squared = (sweep.scales**2).tolist()
        scales = sweep.scales if scales is None else scales
        self.units = np.array([1.0, *scales, *(scales[i] * scales[j] for i, j in pairs)])
        self.narrowest = (NARROWEST**2 * rows.variances).tolist()
        self.expand, self.central, self.sound = _EXPANDED[d], _CENTRAL[d], _SOUND[d]
        centred = np.asarray(rows.X, dtype=np.float64).T - sweep.centre[:, None]
        size = statistics_size("full", d)
        self.features = features(centred, "full", np.empty((size, rows.n_rows)))  # (P, n)
        self.transposed = np.ascontiguousarray(self.features.T)
        self.ones = np.ones(rows.n_rows) if rows.weights is None else rows.weights
        self.lowest = np.full(rows.n_rows, LOWEST)
        self.loaded: tuple[list[Component], Mixture] | None = None
        k = len(sweep.centres)
        self.theta = np.empty((k, size))  # room for the parameters, and then for the statistics
        self.joint = np.empty((k, rows.n_rows))
        self.summing = np.ones(k)
        self.totals = np.empty(rows.n_rows)
        self.logs = np.empty(rows.n_rows)

    @classmethod
    def suit(cls, rows: Rows, n_components: int, family: str, ridge: float = 0.0) -> bool:
        """Whether these rows are few enough, and the family's update is an average.

        And whether determinants, written out as products of variances, keep all their digits.
        """
        d = rows.n_features
        if d > cls.MOST_FEATURES or family not in cls.FAMILIES:
            return False
        variances = rows.variances + ridge
        if not (cls.LEAST_VARIANCE <= variances.min() and variances.max() <= cls.MOST_VARIANCE):
            return False
        return rows.n_rows * n_components * statistics_size("full", d) <= cls.MOST_WORK

    def load(self, mixture: Mixture) -> list[Component]:
        """A mixture's parameters as plain numbers, about the centre of the data."""
        i, j = np.tril_indices(self.d)
        table = np.column_stack(
            [mixture.weights, mixture.means - self.sweep.centre, mixture.covariances[:, i, j]]
        )
        components: list[Component] = table.tolist()
        self.loaded = components, mixture
        return components

    def begin(self, start: Mixture) -> list[Component]:
        """The parameters of a start."""
        return self.load(start)

    def mixture(self, components: list[Component]) -> Mixture:
        """The mixture that has these parameters: to the last digit the one that was loaded."""
        if self.loaded is not None and components is self.loaded[0]:
            return self.loaded[1]
        table = np.array(components)
        weights, means = table[:, 0], table[:, 1 : 1 + self.d] + self.sweep.centre
        matrices = unpacked(table[:, 1 + self.d :], self.d)
        tied = self.kind == "tied"
        stored = matrices[0] if tied else restrict(matrices, self.family, weights)
        return Mixture.from_stored(weights, means, np.ascontiguousarray(stored), self.family)

    def saved(self, components: list[Component]) -> dict[str, Any]:
        """All that the steps to come depend on, for a checkpoint."""
        known = self.loaded is not None and components is self.loaded[0]
        return {"components": components, "loaded": self.mixture(components) if known else None}

    def restored(self, saved: dict[str, Any]) -> list[Component]:
        """The parameters of which :meth:`saved` has told."""
        components: list[Component] = saved["components"]
        table = np.array(components)
        if table.shape != self.theta.shape or table.dtype != np.float64:
            raise ValueError("components of another kind")
        if not np.isfinite(table).all() or not (table[:, 0] > 0).all():
            raise ValueError("components of other things than numbers")
        self.loaded = None if saved["loaded"] is None else (components, saved["loaded"])
        return components

    def expect(self, components: list[Component]) -> tuple[list[Moments] | Statistics, float]:
        """The E-step: expected statistics (:eq:`eq-expected-statistics`) and log-likelihood."""
        theta = self._natural(components)
        if theta is None:
            return self._by_sweep(components)
        joint, totals, logs = self.joint, self.totals, self.logs
        self.theta[...] = theta
        self.theta.dot(self.features, joint)  # (K, n)
        np.maximum(joint, self.lowest, out=joint)
        np.exp2(joint, joint)
        self.summing.dot(joint, totals)
        if not totals[totals.argmin()] > 1e-250:
            return self._by_sweep(components)
        np.log(totals, logs)
        log_likelihood = float(logs.dot(self.ones))
        if not log_likelihood < inf:
            return self._by_sweep(components)
        np.divide(self.ones, totals, totals)
        np.multiply(joint, totals, joint)
        joint.dot(self.transposed, self.theta)
        moments: list[Moments] = self.theta.tolist()
        return moments, log_likelihood

    def log_likelihood(self, statistics: object, objective: float) -> float:
        """The log-likelihood alone: there is no prior here."""
        return objective

    def _natural(self, components: list[Component]) -> list[Moments] | None:
        """Θ, one row for each component; None where its rounding errors would be too great."""
        theta = []
        reach = max(self.sweep.squared_radius, 1.0)
        limit = TOLERANCE / (EPS * reach)
        reach *= 1.0001  # only the means of a start can lie beyond all rows
        expand, squared, constant = self.expand, self.squared, self.constant
        for component in components:
            weight = component[0]
            found = expand(component, squared)
            if found is None or not weight > 0:
                return None
            log_determinant, quadratic, trace, distance, row = found
            if not (trace < limit and distance <= reach):
                return None
            row[0] = LOG2_E * (log(weight) - 0.5 * (log_determinant + quadratic) + constant)
            theta.append(row)
        return theta

    def _by_sweep(self, components: list[Component]) -> tuple[Statistics, float]:
        statistics = self.sweep(self.mixture(components))
        return statistics, statistics.log_likelihood

    def maximise(self, moments: list[Moments] | Statistics) -> list[Component]:
        """The M-step (:eq:`eq-weight-update` to :eq:`eq-spherical-update`)."""
        if isinstance(moments, Statistics):
            made = self.load(m_step(moments, self.family, self.ridge))
            self._refuse_singular(made)
            return made
        total = sum([m[0] for m in moments])
        weights: list[float] = []
        means, covariances = [], []
        for m in moments:
            if not m[0] > EMPTY * total:
                raise EmptyComponentError.of(len(weights))
            mean, packed = self.central(m)
            weights.append(m[0] / total)
            means.append(mean)
            covariances.append(packed)
        if self.family != "VVV":
            covariances = self._restricted(covariances, weights)
        if self.ridge:
            ridges = self.ridges
            covariances = [[c + r for c, r in zip(p, ridges)] for p in covariances]  # noqa: B905  # twice as slow with a check
        components = [
            [w, *mean, *packed] for w, mean, packed in zip(weights, means, covariances, strict=True)
        ]
        self._refuse_singular(components)
        return components

    def _restricted(
        self, covariances: list[list[float]], weights: list[float]
    ) -> list[list[float]]:
        """The covariances of the family, from the full ones: pooled, cut to a diagonal, or both."""
        if "E" in self.family:
            shared = [
                sum(w * c for w, c in zip(weights, entries, strict=True))
                for entries in zip(*covariances, strict=True)
            ]
            covariances = [shared] * len(covariances)
        if self.kind in ("full", "tied"):
            return covariances
        result = []
        for packed in covariances:
            variances = [c * one for c, one in zip(packed, self.diagonal, strict=True)]
            if self.kind == "spherical":
                mean = sum(variances) / self.d
                variances = [mean * one for one in self.diagonal]
            result.append(variances)
        return result

    def _refuse_singular(self, components: list[Component]) -> None:
        """Raise for a covariance that is not positive definite to working precision."""
        sound, narrowest = self.sound, self.narrowest
        for k, component in enumerate(components):
            if not sound(component, narrowest):
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
        table: list[Component] = (vector.reshape(len(like), -1) * self.units).tolist()
        total = sum(row[0] for row in table)
        if not min(row[0] for row in table) > SMALLEST_WEIGHT:
            return None
        components = [[row[0] / total, *row[1:]] for row in table]
        try:
            self._refuse_singular(components)
        except SingularCovarianceError:
            return None
        return components

    def statistics(self, moments: list[Moments] | Statistics, log_likelihood: float) -> Statistics:
        """The same statistics as one value."""
        if isinstance(moments, Statistics):
            return moments
        d = self.d
        table = np.array(moments)
        second: FloatArray = unpacked(table[:, 1 + d :], d)
        if self.kind == "tied":
            second = second.sum(axis=0)
        elif self.kind != "full":
            second = np.diagonal(second, axis1=1, axis2=2)
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


# ---------------------------------------------------------------- small matrices, written out
#
# Three functions for each number of features. The first expands a component: the logarithm of its
# determinant, its mean's squared Mahalanobis distance from the centre, the trace of its precision
# and the mean's squared distance in the data's units, and its natural parameters but for the
# constant. The second takes the moments of a component about its mean. The third tells whether a
# covariance is sound: wider than what is negligible, and with variance inflation factors whose sum
# rounding allows, as in gmm.normal.cholesky.


def _expand_1(component: Component, squared: list[float]) -> Expansion | None:
    _, x, xx = component
    if not 0 < xx < inf:
        return None
    p = 1 / xx
    u = p * x
    return log(xx), u * x, p * squared[0], x * x / squared[0], [0.0, LOG2_E * u, -HALF * p]


def _central_1(m: Moments) -> tuple[list[float], list[float]]:
    n, x, xx = m
    x /= n
    return [x], [xx / n - x * x]


def _sound_1(component: Component, narrowest: list[float]) -> bool:
    return component[2] > narrowest[0]


def _expand_2(component: Component, squared: list[float]) -> Expansion | None:
    _, x, y, xx, yx, yy = component
    determinant = xx * yy - yx * yx
    if not 0 < determinant < inf:  # also in units too small or too great for a product
        return None
    p, q, r = yy / determinant, -yx / determinant, xx / determinant
    u, v = p * x + q * y, q * x + r * y
    s, t = squared
    row = [0.0, LOG2_E * u, LOG2_E * v, -HALF * p, -LOG2_E * q, -HALF * r]
    return log(determinant), u * x + v * y, p * s + r * t, x * x / s + y * y / t, row


def _central_2(m: Moments) -> tuple[list[float], list[float]]:
    n, x, y, xx, yx, yy = m
    x /= n
    y /= n
    return [x, y], [xx / n - x * x, yx / n - y * x, yy / n - y * y]


def _sound_2(component: Component, narrowest: list[float]) -> bool:
    _, _, _, xx, yx, yy = component
    wide = xx > narrowest[0] and yy > narrowest[1]
    return wide and yy - yx * (yx / xx) >= 64 * EPS * yy  # the two factors are equal


def _expand_3(component: Component, squared: list[float]) -> Expansion | None:
    _, x, y, z, xx, yx, yy, zx, zy, zz = component
    p, q, r = yy * zz - zy * zy, zy * zx - yx * zz, yx * zy - yy * zx
    determinant = xx * p + yx * q + zx * r
    if not 0 < determinant < inf:
        return None
    p, q, r = p / determinant, q / determinant, r / determinant
    a = (xx * zz - zx * zx) / determinant
    b = (yx * zx - xx * zy) / determinant
    c = (xx * yy - yx * yx) / determinant
    u, v, w = p * x + q * y + r * z, q * x + a * y + b * z, r * x + b * y + c * z
    s, t, o = squared
    row = [0.0, LOG2_E * u, LOG2_E * v, LOG2_E * w, -HALF * p, -LOG2_E * q, -HALF * a]
    row += [-LOG2_E * r, -LOG2_E * b, -HALF * c]
    trace, distance = p * s + a * t + c * o, x * x / s + y * y / t + z * z / o
    return log(determinant), u * x + v * y + w * z, trace, distance, row


def _central_3(m: Moments) -> tuple[list[float], list[float]]:
    n, x, y, z, xx, yx, yy, zx, zy, zz = m
    x /= n
    y /= n
    z /= n
    upper = [xx / n - x * x, yx / n - y * x, yy / n - y * y]
    return [x, y, z], [*upper, zx / n - z * x, zy / n - z * y, zz / n - z * z]


def _sound_3(component: Component, narrowest: list[float]) -> bool:
    _, _, _, _, xx, yx, yy, zx, zy, zz = component
    if not (xx > narrowest[0] and yy > narrowest[1] and zz > narrowest[2]):
        return False
    a, b = yx / xx, zx / xx
    second, rest = yy - a * yx, zy - a * zx
    if not second > 48 * EPS * yy:
        return False
    c = rest / second
    third = zz - b * zx - c * rest
    if not third > 48 * EPS * zz:
        return False
    d = a * c - b
    of_x = 1 + a * a * (xx / second) + d * d * (xx / third)
    of_y = yy / second + c * c * (yy / third)
    return (of_x + of_y + zz / third) * 48 * EPS <= 1


_EXPANDED = {1: _expand_1, 2: _expand_2, 3: _expand_3}
_CENTRAL = {1: _central_1, 2: _central_2, 3: _central_3}
_SOUND = {1: _sound_1, 2: _sound_2, 3: _sound_3}
