"""The other implementations of EM, each as a function of the number of iterations.

Each takes the same rows and starts from the same mixture, with full covariances. They are imported
when they are asked for; what is not installed is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from measure import Floats
from sklearn.mixture import GaussianMixture

import gmm

#: Added to variances by all who can.
RIDGE = 1e-6

#: Runs so many iterations; returns the means.
Fitting = Callable[[int], Floats]


@dataclass(frozen=True)
class Peer:
    """An implementation, the number type that it computes in, and how it is called."""

    package: str
    dtype: str
    fitting: Callable[[Floats, gmm.Mixture], Fitting]

    @property
    def name(self) -> str:
        """The package with its version."""
        return f"{self.package} {version(self.package)}"

    @property
    def installed(self) -> bool:
        """Whether it can be imported."""
        try:
            version(self.package)
            import_module({"scikit-learn": "sklearn"}.get(self.package, self.package))
        except (PackageNotFoundError, ImportError):
            return False
        return True


def scikit_learn(X: Floats, start: gmm.Mixture) -> Fitting:
    """scikit-learn's class, in any family."""
    invert = np.linalg.inv if start.kind in ("full", "tied") else np.reciprocal
    precisions = invert(start.stored)

    def fit(iterations: int) -> Floats:
        peer = GaussianMixture(
            start.n_components,
            covariance_type=start.kind,
            reg_covar=RIDGE,
            tol=0,
            max_iter=iterations,
            weights_init=start.weights,
            means_init=start.means,
            precisions_init=precisions,
        )
        means: Floats = peer.fit(X).means_
        return means

    return fit


def gmmx(X: Floats, start: gmm.Mixture) -> Fitting:
    """GMMX, on JAX: compiled for each number of iterations, the first time it is asked for."""
    package, jnp = import_module("gmmx"), import_module("jax.numpy")
    rows = jnp.asarray(X, dtype=jnp.float32)
    mixture = package.GaussianMixtureModelJax.from_squeezed(
        means=jnp.asarray(start.means, dtype=jnp.float32),
        covariances=jnp.asarray(start.covariances, dtype=jnp.float32),
        weights=jnp.asarray(start.weights, dtype=jnp.float32),
    )

    def fit(iterations: int) -> Floats:
        fitter = package.EMFitter(max_iter=iterations, tol=0.0, reg_covar=RIDGE)
        result = fitter.fit(rows, mixture).gmm
        return np.asarray(result.means.block_until_ready())[0, :, :, 0]

    return fit


def pomegranate(X: Floats, start: gmm.Mixture) -> Fitting:
    """pomegranate, on torch; it has no ridge."""
    torch = import_module("torch")
    general = import_module("pomegranate.gmm").GeneralMixtureModel
    normal = import_module("pomegranate.distributions").Normal
    rows = torch.from_numpy(X)

    def tensor(values: Floats) -> Any:
        return torch.tensor(values, dtype=rows.dtype)

    def fit(iterations: int) -> Floats:
        parts = [
            normal(tensor(mean), tensor(covariance), check_data=False)
            for mean, covariance in zip(start.means, start.covariances, strict=True)
        ]
        model = general(
            parts,
            priors=tensor(start.weights),
            max_iter=iterations,
            tol=-float("inf"),
            check_data=False,
        )
        model.fit(rows)
        return np.stack([part.means.detach().numpy() for part in parts])

    return fit


SCIKIT_LEARN = Peer("scikit-learn", "float64", scikit_learn)
OTHERS = (
    Peer("gmmx", "float32", gmmx),
    Peer("pomegranate", "float32", pomegranate),
    Peer("pomegranate", "float64", pomegranate),
)


def ours(X: Floats, start: gmm.Mixture) -> Fitting:
    """The package itself, in any family."""

    def fit(iterations: int) -> Floats:
        k, family = start.n_components, start.family
        found = gmm.fit(X, k, family, start=start, tol=0, max_iter=iterations, ridge=RIDGE)
        return found.mixture.means

    return fit


def agree(theirs: Floats, means: Floats, X: Floats) -> bool:
    """Whether two means, after as many iterations, are the same: one peer has no ridge."""
    allowed = 1e-4 if X.dtype == np.float64 else 1e-2
    return bool((np.abs(theirs - means) <= allowed * X.std(axis=0)).all())
