"""Densities and EM steps against fifty digits, for narrow components far apart and far out.

A component's *width* is its deviation, *separation* the distance of the means, *location* that of
all rows from the origin; both are counted in widths. Numbers that are given, rows and parameters,
count as exact. The error of a log-density is taken relative to the greater of one and its
magnitude: what matters of a logarithm is its absolute error, as long as the number itself can be
written more finely than that. Responsibilities and weights lie between zero and one, and their
error is absolute. The error of a mean is counted in deviations of its component, feature by
feature, for the units and the origin of the data mean nothing (and at a million widths from the
origin the mean's last binary digit alone is 1.2e-10 deviations). The error of a covariance matrix
is the Frobenius norm of it in coordinates in which the exact matrix is the identity, so that no
variance in any direction has a greater relative error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture as Peer

import gmm
from gmm.checks import FloatArray
from gmm.families import expand
from gmm.m_step import m_step
from gmm.rows import as_rows
from gmm.sweep import Sweep

Exact = NDArray[np.object_]

#: What is promised up to 1e3 widths of separation and 1e6 of location.
PROMISED = 1e-9
PLACES = [(3.0, 0.0), (1e3, 0.0), (3.0, 1e6), (1e3, 1e6)]
DIMENSIONS = [1, 2, 3, 5, 30]


@pytest.fixture(autouse=True)
def fifty_digits() -> Any:
    """All of mpmath's arithmetic in this file is done with fifty digits."""
    with mpmath.workdps(50):
        yield


# ---------------------------------------------------------------- EM in fifty digits

exact = np.frompyfunc(lambda value: mpmath.mpf(float(value)), 1, 1)
exp, log, sqrt = (np.frompyfunc(f, 1, 1) for f in (mpmath.exp, mpmath.log, mpmath.sqrt))


def cholesky(matrix: Exact) -> Exact:
    """The lower factor of a positive definite matrix."""
    factor = np.zeros_like(matrix)
    for i in range(len(matrix)):
        for j in range(i):
            factor[i, j] = (matrix[i, j] - factor[i, :j] @ factor[j, :j]) / factor[j, j]
        factor[i, i] = sqrt(matrix[i, i] - factor[i, :i] @ factor[i, :i])
    return factor


def whitened(factor: Exact, columns: Exact) -> Exact:
    """L⁻¹ times columns, by forward substitution."""
    result = np.empty_like(columns)
    for i in range(len(factor)):
        result[i] = (columns[i] - factor[i, :i] @ result[:i]) / factor[i, i]
    return result


@dataclass
class ExactMixture:
    """Weights (K,), means (K, d) and covariance matrices (K, d, d) of fifty digits."""

    weights: Exact
    means: Exact
    covariances: Exact

    @classmethod
    def of(cls, mixture: gmm.Mixture) -> ExactMixture:
        return cls(exact(mixture.weights), exact(mixture.means), exact(mixture.covariances))

    def log_joint(self, X: Exact) -> Exact:
        """Log π_k + log N(x | μ_k, Σ_k), shape (n, K)."""
        columns = []
        for weight, mean, covariance in zip(
            self.weights, self.means, self.covariances, strict=True
        ):
            factor = cholesky(covariance)
            y = whitened(factor, (X - mean).T)
            constant = log(weight) - log(factor.diagonal()).sum()
            constant -= len(mean) * mpmath.log(2 * mpmath.pi) / 2
            columns.append(constant - (y * y).sum(axis=0) / 2)
        return np.stack(columns, axis=1)

    def step(self, X: Exact, shares: Exact, kind: str) -> ExactMixture:
        """The M-step for given responsibilities, in the family of a kind."""
        n, d = X.shape
        counts = shares.sum(axis=0)
        means = (shares.T @ X) / counts[:, None]
        pairs = zip(means, shares.T, strict=True)
        scatters = np.stack([((X - m) * r[:, None]).T @ (X - m) for m, r in pairs])
        if kind == "tied":
            covariances = np.stack([scatters.sum(axis=0) / n] * len(counts))
        else:
            covariances = scatters / counts[:, None, None]
        one = np.eye(d, dtype=int)
        if kind == "diag":
            covariances = covariances * one
        elif kind == "spherical":
            variances = np.trace(covariances, axis1=1, axis2=2) / d
            covariances = variances[:, None, None] * one
        return ExactMixture(counts / n, means, covariances)


def shares_of(joint: Exact) -> tuple[Exact, Exact]:
    """Responsibilities (n, K) and log-densities (n,) from log joint densities."""
    top = joint.max(axis=1)
    terms = exp(joint - top[:, None])
    totals = terms.sum(axis=1)
    return terms / totals[:, None], log(totals) + top


def errors_of(mixture: Any, wanted: ExactMixture) -> dict[str, float]:
    """How far weights, means and covariances (K, d, d) are from exact ones; see above."""
    found = {
        "weights": np.abs(exact(mixture.weights) - wanted.weights).max(),
        "means": mpmath.mpf(0),
        "covariances": mpmath.mpf(0),
    }
    for k, covariance in enumerate(wanted.covariances):
        away = np.abs(exact(mixture.means[k]) - wanted.means[k]) / sqrt(covariance.diagonal())
        found["means"] = max(found["means"], away.max())
        factor = cholesky(covariance)
        change = exact(mixture.covariances[k]) - covariance
        change = whitened(factor, whitened(factor, change).T)
        found["covariances"] = max(found["covariances"], sqrt((change * change).sum()))
    return {name: float(error) for name, error in found.items()}


def relative(got: FloatArray, wanted: Exact) -> float:
    """The greatest error of logarithms, relative to the greater of one and their magnitude."""
    return float((np.abs(exact(got) - wanted) / np.maximum(1, np.abs(wanted))).max())


# ---------------------------------------------------------------- the cases


def case(
    family: str, d: int, separation: float, location: float, seed: int = 0
) -> tuple[gmm.Mixture, FloatArray]:
    """Three components of width one or so, two of them overlapping, and rows of each."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal((3, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    means = location * (1 + 0.1 * rng.random(d)) + np.array(
        [np.zeros(d), 1.5 * direction[1], separation * direction[2]]
    )
    factors = np.eye(d) + np.tril(rng.uniform(-0.5, 0.5, (3, d, d)), -1) / np.sqrt(d)
    full = factors @ factors.transpose(0, 2, 1)
    variances = rng.uniform(0.5, 2.0, (3, d))
    stored = {"VVV": full, "EEE": full[0], "VVI": variances, "VII": variances[:, 0]}[family]
    mixture = gmm.Mixture([0.3, 0.2, 0.5], means, stored, family)
    labels = np.repeat([0, 1, 2], 20 if d < 30 else 40)
    X = means[labels] + rng.standard_normal((len(labels), d))
    return mixture, X


class ExactCase:
    """A case with its rows, the exact densities of its mixture, and the exact next iterate."""

    def __init__(
        self, family: str, d: int, separation: float, location: float, seed: int = 0
    ) -> None:
        self.mixture, self.X = case(family, d, separation, location, seed)
        of = ExactMixture.of(self.mixture)
        X = exact(self.X)
        self.joint = of.log_joint(X)
        self.shares, self.log_densities = shares_of(self.joint)
        self.next = of.step(X, self.shares, self.mixture.kind)

    def steps(self) -> dict[str, gmm.Mixture]:
        """The next iterate of a fit (plain numbers where they are few) and of a sweep."""
        family, k = self.mixture.family, self.mixture.n_components
        fit = gmm.fit(self.X, k, family, start=self.mixture, tol=0, max_iter=1)
        sweep = Sweep(as_rows(self.X), k, self.mixture.kind)
        return {"fit": fit.mixture, "sweep": m_step(sweep(self.mixture), family)}


@pytest.mark.parametrize(("separation", "location"), PLACES)
@pytest.mark.parametrize("d", DIMENSIONS)
def test_nine_digits_are_right(family: str, d: int, separation: float, location: float) -> None:
    exactly = ExactCase(family, d, separation, location)
    mixture, X = exactly.mixture, exactly.X
    assert relative(mixture.log_density(X), exactly.log_densities) < PROMISED
    assert relative(mixture.component_log_densities(X), exactly.joint) < PROMISED
    assert np.abs(exact(mixture.responsibilities(X)) - exactly.shares).max() < PROMISED
    errors = {name: errors_of(step, exactly.next) for name, step in exactly.steps().items()}
    worst = max(max(error.values()) for error in errors.values())
    assert worst < PROMISED, errors


# ---------------------------------------------------------------- beyond the promise


class PeerResult:
    """Weights, means and covariance matrices as scikit-learn gives them."""

    def __init__(self, peer: Peer, kind: str) -> None:
        self.weights, self.means = peer.weights_, peer.means_
        self.covariances = expand(peer.covariances_, kind, *peer.means_.shape)


def peer_step(mixture: gmm.Mixture, X: FloatArray) -> PeerResult | None:
    """scikit-learn's next iterate; None where it gives up."""
    matrices = mixture.kind in ("full", "tied")
    peer = Peer(
        mixture.n_components,
        covariance_type=mixture.kind,
        reg_covar=0,
        tol=0,
        max_iter=1,
        weights_init=mixture.weights,
        means_init=mixture.means,
        precisions_init=np.linalg.inv(mixture.stored) if matrices else 1 / mixture.stored,
    )
    try:
        return PeerResult(peer.fit(X), mixture.kind)
    except ValueError:
        return None


def peer_densities(mixture: gmm.Mixture, X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """scikit-learn's log-densities and responsibilities."""
    peer = Peer(mixture.n_components, covariance_type=mixture.kind)
    peer.weights_, peer.means_, peer.covariances_ = mixture.weights, mixture.means, mixture.stored
    matrices = mixture.kind in ("full", "tied")
    white = mixture.whiteners
    peer.precisions_cholesky_ = white.swapaxes(-2, -1) if matrices else white
    return peer.score_samples(X), peer.predict_proba(X)


@pytest.mark.filterwarnings("ignore")  # one iteration does not converge
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("separation", "location"), [(1e8, 0.0), (3.0, 1e8), (1e8, 1e8)])
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_no_worse_than_the_peer_at_a_hundred_million_widths(
    family: str, d: int, separation: float, location: float, seed: int
) -> None:
    """Where the peer finds no answer at all, any answer is better.

    Errors of a few hundred roundings count as none, nor do those of writing a mean down: a unit in
    the last place of 1e8 is 1.5e-8, and half of that is lost on the start's mean or on the result.
    """
    exactly = ExactCase(family, d, separation, location, seed)
    mixture, X = exactly.mixture, exactly.X

    def of_densities(log_densities: FloatArray, shares: FloatArray) -> dict[str, float]:
        return {
            "log-densities": relative(log_densities, exactly.log_densities),
            "responsibilities": float(np.abs(exact(shares) - exactly.shares).max()),
        }

    theirs = of_densities(*peer_densities(mixture, X))
    peer = peer_step(mixture, X)
    if peer is not None:
        theirs |= errors_of(peer, exactly.next)
    tolerated = dict.fromkeys(theirs, 1e-13)
    tolerated["means"] = float(np.spacing(1.1 * max(separation, location)))
    for path, step in exactly.steps().items():
        ours = of_densities(mixture.log_density(X), mixture.responsibilities(X))
        ours |= errors_of(step, exactly.next)
        worse = {
            name: f"{ours[name]:.1e} against {error:.1e}"
            for name, error in theirs.items()
            if ours[name] > max(error, tolerated[name])
        }
        assert not worse, f"by {path}: {worse}"
