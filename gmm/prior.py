r"""Conjugate priors: maximum a posteriori instead of maximum likelihood.

The prior is a Dirichlet distribution for the weights and, for each component, a normal–inverse
Wishart distribution for its mean and covariance, restricted to the family:

.. math::

    \log p(\boldsymbol\theta) = (\alpha - 1) \sum_k \log \pi_k
    - \tfrac12 \sum_k \bigl[ (\nu + d + 2) \log \det \boldsymbol\Sigma_k
    + \operatorname{tr} \boldsymbol\Lambda \boldsymbol\Sigma_k^{-1}
    + \kappa (\boldsymbol\mu_k - \boldsymbol m)^{\mathsf T} \boldsymbol\Sigma_k^{-1}
    (\boldsymbol\mu_k - \boldsymbol m) \bigr]

up to a constant (:eq:`eq-log-prior`). It enters the M-step as rows that were never seen: κ rows at
the prior mean and a scatter Λ for each component (:prf:ref:`thm-map-m-step`). With it the objective
is bounded, and no covariance can become singular (:prf:ref:`thm-map-bounded`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import (
    FloatArray,
    SingularCovarianceError,
    as_choice,
    as_non_negative,
    as_numbers,
    as_vector,
    read_only,
    refuse_far,
    shown,
)
from gmm.families import Scatter
from gmm.mixture import Mixture
from gmm.natural import log_weights
from gmm.normal import as_covariance, cholesky
from gmm.rows import Source, as_source
from gmm.statistics import Statistics, squares_of

__all__ = ["Prior", "Priors", "as_prior", "default_prior"]


@dataclass(frozen=True, eq=False, init=False)
class Prior:
    """A conjugate prior for the weights, means and covariances of a mixture.

    Parameters
    ----------
    mean : array (d,)
        Where means are expected, m.
    scale : array (d, d)
        Positive definite; Λ. The covariances' prior mode is Λ / (ν + d + 2).
    mean_precision : float
        How many rows the expected mean is worth, κ; not negative.
    degrees_of_freedom : float
        How many rows the scale is worth, ν; more than d − 1.
    concentration : float
        Of the weights, α; at least 1. With 1 they have no prior.

    Examples
    --------
    >>> prior = Prior(mean=[0.0], scale=[[1.0]], degrees_of_freedom=3.0)
    >>> prior.n_features
    1
    """

    mean: FloatArray
    scale: FloatArray
    mean_precision: float
    degrees_of_freedom: float
    concentration: float

    def __init__(
        self,
        mean: ArrayLike,
        scale: ArrayLike,
        mean_precision: float = 0.01,
        degrees_of_freedom: float | None = None,
        concentration: float = 1.0,
    ) -> None:
        centre = as_vector(np.atleast_1d(as_numbers(mean, "mean")), "mean")
        d = len(centre)
        matrix = as_covariance(scale, "scale", (d, d))
        cholesky(matrix, "scale")
        freedom = float(d + 2) if degrees_of_freedom is None else float(degrees_of_freedom)
        if not inf > freedom > d - 1:
            raise ValueError(
                f"degrees_of_freedom: expected a finite number of more than {d - 1} for {d} "
                f"features, got {freedom}"
            )
        if not inf > float(concentration) >= 1:
            raise ValueError(
                f"concentration: expected a finite number of at least 1, got {concentration}"
            )
        for name, value in (
            ("mean", read_only(centre)),
            ("scale", read_only(matrix)),
            ("mean_precision", as_non_negative(mean_precision, "mean_precision")),
            ("degrees_of_freedom", freedom),
            ("concentration", float(concentration)),
        ):
            object.__setattr__(self, name, value)

    @property
    def n_features(self) -> int:
        """The dimension d."""
        return len(self.mean)

    @property
    def covariance_weight(self) -> float:
        """ν + d + 2: how many rows the prior adds to each component's count for its covariance."""
        return self.degrees_of_freedom + self.n_features + 2

    @property
    def trifle(self) -> float:
        """A variance that is nothing beside the scale, with which a start may be degenerate."""
        return 1e-6 * float(np.diagonal(self.scale).mean())

    def log_density(self, mixture: Mixture) -> float:
        """Its logarithm at a mixture, but for a constant (:eq:`eq-log-prior`).

        Parameters
        ----------
        mixture : Mixture
        """
        d = self.n_features
        whiteners = mixture.whiteners
        if mixture.kind in ("diag", "spherical"):
            squared = whiteners**2 if mixture.kind == "diag" else whiteners[:, None] ** 2
            traces = (squared * np.diagonal(self.scale)).sum(axis=1)
        else:
            traces = np.einsum("...ij,jl,...il->...", whiteners, self.scale, whiteners)
        distances = mixture.squared_distances(self.mean.reshape(1, d))[0]
        per_component = self.covariance_weight * mixture.log_determinants + traces
        total = -0.5 * (per_component + self.mean_precision * distances).sum()
        if self.concentration > 1:
            total += (self.concentration - 1) * log_weights(mixture.weights).sum()
        return float(total)

    # ------------------------------------------------------------------ in the M-step

    def weights(self, counts: FloatArray) -> FloatArray:
        """π_k ∝ N_k + α − 1 (:eq:`eq-map-weights`), shape ``(K,)``."""
        raised = counts + (self.concentration - 1)
        raised /= raised.sum()
        return raised

    def completed(self, statistics: Statistics) -> Statistics:
        """The statistics with κ rows at the prior mean for each component (:eq:`eq-map-means`)."""
        kappa = self.mean_precision
        step = self.mean - statistics.centres  # (K, d)
        return replace(
            statistics,
            counts=statistics.counts + kappa,
            first=statistics.first + kappa * step,
            second=statistics.second + kappa * squares_of(step, statistics.kind),
        )

    def raised(self, scatter: Scatter, counts: FloatArray, kind: str) -> Scatter:
        """Scatter and counts for the covariances: Λ and ν + d + 2 rows more for each component.

        Parameters
        ----------
        scatter : Scatter
            About the new means, from :meth:`completed` statistics.
        counts : array (C,)
            N_k, without rows of the prior.
        kind : str
        """
        diagonal = np.diagonal(self.scale)
        added = {
            "full": self.scale,
            "tied": scatter.groups.sizes[:, None, None] * self.scale,
            "diag": diagonal,
            "spherical": diagonal.sum(),
        }[kind]
        return replace(
            scatter, matrices=scatter.matrices + added, counts=counts + self.covariance_weight
        )


def default_prior(X: object, n_components: int) -> Prior:
    """A weak prior in the units of the data, after Fraley and Raftery (2007).

    Parameters
    ----------
    X : array (n, d), or rows as :func:`gmm.fit` takes them
    n_components : int

    Returns
    -------
    Prior
        Its mean is that of the data, worth a hundredth of a row; its scale is the covariance of
        the data (divisor n − 1) divided by :math:`K^{2/d}`, as if the components shared the
        data's volume, with d + 2 degrees of freedom. Of rows that lie in a hyperplane only the
        variances are taken.

    Examples
    --------
    >>> default_prior([[0.0], [2.0], [4.0]], 2).scale
    array([[1.]])
    """
    rows: Source = as_source(X)
    rows.refuse_degenerate()
    total = rows.total_weight
    unbiased = total / (total - 1) if total > 1 else 1.0
    d = rows.n_features
    covariance = rows.covariance * unbiased / n_components ** (2 / d)
    try:
        return Prior(rows.mean, covariance, 0.01, d + 2.0)
    except SingularCovarianceError:
        return Prior(rows.mean, np.diag(np.diagonal(covariance)), 0.01, d + 2.0)


def as_prior(prior: object, rows: Source, n_components: int) -> Prior | None:
    """The prior that a caller of a fit has named.

    Parameters
    ----------
    prior : Prior, "default" or None
    rows : Source
    n_components : int
    """
    if isinstance(prior, str):
        as_choice(prior, "prior", ("default",))
        return default_prior(rows, n_components)
    found = checked_prior(prior, rows.n_features, "a Prior, 'default' or None")
    if found is not None:
        refuse_far(found.mean[None], rows.survey.least, rows.survey.greatest, "prior")
    return found


def checked_prior(prior: object, n_features: int, wanted: str) -> Prior | None:
    """A prior of so many features, or None; what else there is, is refused.

    Parameters
    ----------
    prior : Prior or None
    n_features : int
    wanted : str
        What the caller takes, for the message.
    """
    if prior is None:
        return None
    if not isinstance(prior, Prior):
        raise TypeError(f"prior: expected {wanted}, got {shown(prior)}")
    if prior.n_features != n_features:
        raise ValueError(
            f"prior: expected one for {n_features} features, got one for {prior.n_features}"
        )
    return prior


class Priors:
    """The prior of mixtures with any number of components, made when it is first asked for.

    Parameters
    ----------
    prior : Prior or "default"
    rows : Source

    Raises
    ------
    ValueError, TypeError
        If it is neither, or not for rows of this kind.
    """

    def __init__(self, prior: object, rows: Source) -> None:
        self.prior = prior
        self.rows = rows
        self.known: dict[int, Prior] = {}
        self(1)

    @classmethod
    def of(cls, prior: object, rows: Source) -> Priors | None:
        """Those that a caller has named; None if none was."""
        return None if prior is None else cls(prior, rows)

    def __call__(self, n_components: int) -> Prior:
        """The prior of mixtures with K components."""
        if n_components not in self.known:
            found = as_prior(self.prior, self.rows, n_components)
            assert found is not None
            self.known[n_components] = found
        return self.known[n_components]
