"""Gaussian mixtures from first principles.

>>> import gmm
>>> X = gmm.datasets.old_faithful().X
>>> gmm.fit(X, 2, random_state=0)
Fit
  family          VVV, 2 components
  data            272 rows, 2 features
  log-likelihood  -1130.2640
  BIC             2322.192 with 11 parameters
  iterations      6, converged
  weight 0.3559   mean [ 2.0364 54.4785]
  weight 0.6441   mean [ 4.2897 79.9681]
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from gmm import bound
from gmm.checks import (
    ConvergenceWarning,
    FileFormatError,
    MissingDataWarning,
    SingularCovarianceError,
)
from gmm.em import fit
from gmm.mixture import Mixture
from gmm.normal import Normal
from gmm.prior import Prior
from gmm.result import Fit, Progress, Trace
from gmm.selection import Selection, select
from gmm.statistics import Statistics
from gmm.univariate import gmm_em

if TYPE_CHECKING:
    from gmm import algebra, datasets, inference, plots, transport
    from gmm.bayesian_estimator import BayesianGaussianMixture
    from gmm.bootstrap import bootstrap_test
    from gmm.estimator import GaussianMixture
    from gmm.merging import merge_by_entropy
    from gmm.prior import default_prior
    from gmm.selection import cross_validated
    from gmm.stepwise import StepwiseEM
    from gmm.variational import fit_variational

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless someone listens

__all__ = [
    "BayesianGaussianMixture",
    "ConvergenceWarning",
    "FileFormatError",
    "Fit",
    "GaussianMixture",
    "MissingDataWarning",
    "Mixture",
    "Normal",
    "Prior",
    "Progress",
    "Selection",
    "SingularCovarianceError",
    "Statistics",
    "StepwiseEM",
    "Trace",
    "algebra",
    "bootstrap_test",
    "bound",
    "cross_validated",
    "datasets",
    "default_prior",
    "fit",
    "fit_variational",
    "gmm_em",
    "inference",
    "merge_by_entropy",
    "plots",
    "select",
    "transport",
]

_ON_DEMAND = {
    "BayesianGaussianMixture": "gmm.bayesian_estimator",
    "GaussianMixture": "gmm.estimator",
    "StepwiseEM": "gmm.stepwise",
    "algebra": "",
    "bootstrap_test": "gmm.bootstrap",
    "cross_validated": "gmm.selection",
    "datasets": "",
    "default_prior": "gmm.prior",
    "fit_variational": "gmm.variational",
    "inference": "",
    "merge_by_entropy": "gmm.merging",
    "plots": "",
    "transport": "",
}


def __getattr__(name: str) -> object:
    """Load what most users of :func:`fit` do not need when it is first asked for."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module 'gmm' has no attribute {name!r}")
    home = _ON_DEMAND[name]
    value: object = getattr(import_module(home), name) if home else import_module(f"gmm.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
