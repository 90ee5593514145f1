"""Clusters of several components: a mixture's components joined where rows are in doubt.

A cluster that is not normal is described by several components. Joining components leaves the
density as it is and lowers the entropy of the assignment (:prf:ref:`prop-merging-entropy`); the
joining that lowers it most is made first (Baudry, Raftery, Celeux, Lo and Gottardo 2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gmm.checks import FloatArray, IntArray, as_count, as_sample_weight
from gmm.mixture import Mixture

__all__ = ["Merging", "merge_by_entropy"]

#: Groups of components.
Partition = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Merging:
    """What :func:`merge_by_entropy` returns.

    Parameters
    ----------
    shares : array (n, K)
        The responsibilities of the components for the rows.
    partitions : tuple
        Partitions of the components into K, K − 1, …, 1 groups.
    entropies : array (K,)
        The entropy of the assignment of the rows to each of them (:eq:`eq-cluster-entropy`).
    """

    shares: FloatArray
    partitions: tuple[Partition, ...]
    entropies: FloatArray

    def groups(self, n_clusters: int) -> Partition:
        """The components of each cluster.

        Parameters
        ----------
        n_clusters : int
            At most the number of components.
        """
        count = as_count(n_clusters, "n_clusters")
        if count > len(self.partitions):
            raise ValueError(
                f"n_clusters: expected at most the {len(self.partitions)} components, got {count}"
            )
        return self.partitions[-count]

    def responsibilities(self, n_clusters: int) -> FloatArray:
        """The probabilities with which the rows belong to the clusters, ``(n, n_clusters)``."""
        return _joined(self.shares, self.groups(n_clusters))

    def labels(self, n_clusters: int) -> IntArray:
        """The likeliest cluster of each row, ``(n,)``."""
        likeliest: IntArray = self.responsibilities(n_clusters).argmax(axis=1)
        return likeliest

    def plot(self, ax: Any = None) -> Any:
        """The entropy against the number of clusters (:func:`gmm.plots.entropies`)."""
        from gmm import plots

        return plots.entropies(self, ax)


def merge_by_entropy(
    mixture: Mixture, X: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> Merging:
    """Join the components of a mixture, two groups at a time, where rows are most in doubt.

    Each joining is the one that lowers the entropy of the assignment most (:eq:`eq-entropy-drop`).

    Parameters
    ----------
    mixture : Mixture
    X : array (n, d)
        The rows whose assignment counts.
    sample_weight : array (n,), optional

    Returns
    -------
    Merging

    Examples
    --------
    >>> import gmm
    >>> X = gmm.datasets.old_faithful().X
    >>> merging = merge_by_entropy(gmm.fit(X, 3, "EEE", random_state=0).mixture, X)
    >>> [len(group) for group in merging.groups(2)]
    [1, 2]
    """
    shares = mixture.responsibilities(X)
    given = as_sample_weight(sample_weight, len(shares))
    weights = np.ones(len(shares)) if given is None else given
    groups: Partition = tuple((k,) for k in range(mixture.n_components))
    partitions, entropies = [groups], [_entropy(shares, weights)]
    while len(groups) > 1:
        choices = [_with_pair_joined(groups, a, b) for a, b in combinations(range(len(groups)), 2)]
        left = [_entropy(_joined(shares, choice), weights) for choice in choices]
        groups = choices[int(np.argmin(left))]
        partitions.append(groups)
        entropies.append(min(left))
    return Merging(shares, tuple(partitions), np.array(entropies))


def _with_pair_joined(groups: Partition, a: int, b: int) -> Partition:
    """The partition in which group b, later than a, has gone into a."""
    joined = tuple(sorted(groups[a] + groups[b]))
    return (*groups[:a], joined, *groups[a + 1 : b], *groups[b + 1 :])


def _joined(shares: FloatArray, groups: Partition) -> FloatArray:
    """The responsibilities of groups of components."""
    return np.stack([shares[:, list(group)].sum(axis=1) for group in groups], axis=1)


def _entropy(shares: FloatArray, weights: FloatArray) -> float:
    """−Σ w s log s (:eq:`eq-cluster-entropy`)."""
    logs = np.log(np.where(shares > 0, shares, 1.0))
    return float(max(-(weights @ (shares * logs)).sum(), 0.0))
