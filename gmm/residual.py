r"""The E-step by centred residuals: for many features, and where the expanded form would cancel.

Whitened residuals :math:`\boldsymbol y_k = \boldsymbol L_k^{-1}(\boldsymbol x - \boldsymbol\mu_k)`
of all components come from a few wide matrix products. The inverse factors are lower triangular, so
the rows a to e of all of them need the first e features only: taken a few rows at a time, the
products form a staircase that leaves out almost all of the zeros. Second moments are taken about
the present means, from the rows for which a component is responsible at all, usually one component
for a row.
"""

from __future__ import annotations

import numpy as np

from gmm.checks import FloatArray
from gmm.mixture import Mixture
from gmm.natural import log_weights
from gmm.normal import LOG_2PI
from gmm.statistics import Statistics

__all__ = ["Residuals"]

#: Rows of the inverse factors in one step of the staircase.
STEP = 8
#: Numbers in the result of one product.
PRODUCT = 32_768
#: Responsibilities below this change no sum of moments by a rounding unit.
NEGLIGIBLE = 2.0**-60
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
        self.constants = (
            log_weights(mixture.weights) - 0.5 * mixture.log_determinants - 0.5 * d * LOG_2PI
        )[:, None]
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
            first[j] = share @ residuals
            residuals *= np.sqrt(share)[:, None]
            second[j] = residuals.T @ residuals
        return Statistics(
            "full",
            self.mixture.means,
            np.add.reduce(shares, axis=1),
            first,
            second,
            float(log_densities.sum() if weights is None else weights @ log_densities),
            len(block),
        )
