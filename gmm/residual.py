r"""The E-step by centred residuals: for many features, and where the expanded form would cancel.

:class:`Residuals` is for many features. Whitened residuals
:math:`\boldsymbol y_k = \boldsymbol L_k^{-1}(\boldsymbol x - \boldsymbol\mu_k)` of all components
come from a few wide matrix products. The inverse factors are lower triangular, so the rows a to e
of all of them need the first e features only: taken a few rows at a time, the products form a
staircase that leaves out almost all of the zeros. Second moments are taken about the present means,
from the rows for which a component is responsible at all, usually one component for a row.

:class:`Narrow` is for those components of few features for which the expanded form would cancel.
That form is still good enough to tell which rows matter to them: residuals are taken for these.
"""

from __future__ import annotations

import numpy as np

from gmm.checks import FloatArray, IntArray
from gmm.mixture import Mixture
from gmm.natural import LOG2_E, OF_ZERO, TOLERANCE, features, statistics_size
from gmm.statistics import Statistics

__all__ = ["Narrow", "Residuals"]

#: Rows of the inverse factors in one step of the staircase.
STEP = 8
#: Numbers in the result of one product.
PRODUCT = 32_768
#: Responsibilities below this change no sum of moments by a rounding unit.
NEGLIGIBLE_EXPONENT = -60
NEGLIGIBLE = 2.0**NEGLIGIBLE_EXPONENT
#: Exponents below this are nothing, and slow.
LOWEST = -700.0


class Residuals:
    """The E-step of one mixture with a covariance matrix for each component.

    Parameters
    ----------
    mixture : Mixture
        Of the family VVV.
    centre : array (d,)
        Rows are handed over centred here.
    """

    def __init__(self, mixture: Mixture, centre: FloatArray) -> None:
        k, d = mixture.means.shape
        self.mixture = mixture
        self.means = mixture.means - centre
        whitened = np.matmul(mixture.whiteners, self.means[:, :, None])[:, :, 0]  # (K, d)
        self.constants = mixture.log_constants[:, None]
        self.stairs: list[FloatArray] = []
        for a in range(0, d, STEP):
            e = min(a + STEP, d)
            stair = np.empty((e - a, k, e + 1))
            stair[:, :, 0] = -whitened[:, a:e].T
            stair[:, :, 1:] = mixture.whiteners[:, a:e, :e].transpose(1, 0, 2)
            self.stairs.append(stair.reshape(-1, e + 1))

    def log_joint(self, rows: FloatArray) -> FloatArray:
        """Log π_k + log N(x | μ_k, Σ_k) for rows, features-major with a first row of ones.

        Parameters
        ----------
        rows : array (1 + d, b)

        Returns
        -------
        array (K, b)
        """
        b, k = rows.shape[1], len(self.means)
        joint = np.empty((k, b))
        length = max(64, PRODUCT // (k * STEP))
        for start in range(0, b, length):
            part = rows[:, start : start + length]
            width = part.shape[1]
            squares: FloatArray | None = None
            for stair in self.stairs:
                y = stair @ part[: stair.shape[1]]  # (step K, width)
                np.multiply(y, y, out=y)
                more = np.add.reduce(y.reshape(-1, k * width), axis=0)
                squares = more if squares is None else np.add(squares, more, out=squares)
            assert squares is not None
            np.multiply(squares.reshape(k, width), -0.5, out=joint[:, start : start + length])
        joint += self.constants
        return joint

    def statistics(
        self, rows: FloatArray, block: FloatArray, weights: FloatArray | None
    ) -> Statistics:
        """Expected statistics of some rows about the present means, and their log-likelihood.

        Parameters
        ----------
        rows : array (1 + d, b)
            Centred, features-major, with a first row of ones.
        block : array (b, d)
            The same, rows-major.
        weights : array (b,), optional
        """
        shares = self.log_joint(rows)
        top = np.maximum.reduce(shares, axis=0)
        shares -= top
        np.maximum(shares, LOWEST, out=shares)
        np.exp(shares, out=shares)
        totals = np.add.reduce(shares, axis=0)
        log_densities = np.log(totals) + top
        np.divide(1.0 if weights is None else weights, totals, out=totals)
        shares *= totals
        k, d = self.means.shape
        first, second = np.zeros((k, d)), np.zeros((k, d, d))
        for j in range(k):
            share = shares[j]
            mine = np.flatnonzero(share > NEGLIGIBLE)
            residuals = block[mine] - self.means[j]
            share = share[mine]
            first[j] = np.dot(share, residuals)
            residuals *= np.sqrt(share)[:, None]
            second[j] = np.dot(residuals.T, residuals)
        return Statistics(
            "full",
            self.mixture.means,
            np.add.reduce(shares, axis=1),
            first,
            second,
            float(log_densities.sum() if weights is None else weights @ log_densities),
            len(block),
        )


class Narrow:
    """The components of one mixture that are too narrow for the expanded form.

    The expanded form of their exponents is wrong, but by no more than a known bound, which tells
    for most rows that such a component has no part in them (:prf:ref:`prop-narrow`). The exponents
    of the others are corrected, and moments are taken about the components' own means.

    Parameters
    ----------
    mixture : Mixture
    errors : array (K,)
        The bounds of :func:`gmm.natural.cancellation`.
    shift : float
        What was taken out of all exponents, in nats, beside the logarithm of 2π.
    """

    def __init__(self, mixture: Mixture, errors: FloatArray, shift: float) -> None:
        self.mixture = mixture
        self.components = np.flatnonzero(~(errors < TOLERANCE)).tolist()
        self.slack = np.zeros(len(errors))
        narrow, d = self.components, mixture.n_features
        bound = statistics_size(mixture.kind, d) + 3 * d + 5  # times this: eq-cancellation-bound
        self.slack[narrow] = LOG2_E * bound * errors[narrow]
        self.constants = LOG2_E * (mixture.log_constants - shift)

    def correct(self, exponents: FloatArray, rows: FloatArray) -> list[IntArray]:
        """Replace the exponents of the narrow components by exact ones where they matter.

        Parameters
        ----------
        exponents : array (K, b)
            Of two; changed in place. Where they do not matter they become those of nothing.
        rows : array (b, d)

        Returns
        -------
        list of arrays of int
            The rows that may matter, for each narrow component.
        """
        upper = exponents[self.components] + self.slack[self.components, None]
        certain = np.maximum.reduce(exponents - self.slack[:, None], axis=0) + NEGLIGIBLE_EXPONENT
        matter = []
        for k, most in zip(self.components, upper, strict=True):
            mine = np.flatnonzero(~(most < certain))
            distances = self.mixture.squared_distances_from(k, rows[mine])
            exponents[k] = OF_ZERO
            exponents[k, mine] = self.constants[k] - 0.5 * LOG2_E * distances
            matter.append(mine)
        return matter

    def add_moments(
        self, sums: FloatArray, shares: FloatArray, rows: FloatArray, matter: list[IntArray]
    ) -> None:
        """Add the moments of the narrow components about their own means, and clear their shares.

        Parameters
        ----------
        sums : array (K, P)
            Added to, in the narrow components' rows.
        shares : array (K, b)
            Responsibilities; those of narrow components become zero.
        rows : array (b, d)
        matter : list of arrays of int
            From :meth:`correct`.
        """
        kind = self.mixture.kind
        for k, mine in zip(self.components, matter, strict=True):
            residuals = (rows[mine] - self.mixture.means[k]).T
            sums[k] += (
                features(residuals, kind, np.empty((sums.shape[1], len(mine)))) @ shares[k, mine]
            )
            shares[k] = 0.0
