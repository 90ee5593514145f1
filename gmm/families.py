r"""The fourteen covariance families: their names, their storage, their size, and their M-steps.

A covariance is a volume, a shape and an orientation,
:math:`\boldsymbol\Sigma_k = \lambda_k \boldsymbol D_k \boldsymbol A_k \boldsymbol D_k^{\mathsf T}`
with :math:`\det \boldsymbol A_k = 1` (:eq:`eq-volume-shape-orientation`). The three letters of a
family say, in this order, whether these are equal for all components (E) or vary (V); I stands for
the identity. Four families have a second name, after what a reader sees.

=====================  ================================  ===========  ==================
family                 covariance of component k         second name  stored as
=====================  ================================  ===========  ==================
``EII``, ``VII``       λ I, λ_k I                        spherical    (K,)
``EEI``, ``VEI``       λ A, λ_k A  (A diagonal)                       (K, d)
``EVI``, ``VVI``       λ A_k, λ_k A_k                    diag         (K, d)
``EEE``                λ D A Dᵀ                          tied         (d, d)
``VEE``                λ_k D A Dᵀ                                     (K, d, d)
``EVE``, ``VVE``       λ D A_k Dᵀ, λ_k D A_k Dᵀ                       (K, d, d)
``EEV``, ``VEV``       λ D_k A D_kᵀ, λ_k D_k A D_kᵀ                   (K, d, d)
``EVV``, ``VVV``       λ D_k A_k D_kᵀ, λ_k D_k A_k D_kᵀ  full         (K, d, d)
=====================  ================================  ===========  ==================

Of one feature there are only two, ``E`` and ``V``: equal variances or not. Second names belong to
the families ``VII``, ``VVI``, ``EEE`` and ``VVV``.

Each M-step minimises :math:`\sum_k \operatorname{tr}(\boldsymbol W_k \boldsymbol\Sigma_k^{-1}) +
N_k \log \det \boldsymbol\Sigma_k` for scatter matrices :math:`\boldsymbol W_k` and counts
:math:`N_k` over the family. The functions here do so for the components of several mixtures at
once, which costs little more than one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gmm.cached import cached_property
from gmm.checks import EPS, FloatArray, IntArray, SingularCovarianceError, as_choice

__all__ = [
    "FAMILIES",
    "KINDS",
    "Groups",
    "Scatter",
    "inverse_update",
    "is_nested",
    "n_parameters",
    "parse_family",
    "refuse_units_apart",
    "update",
]

Value = TypeVar("Value", bound=np.generic)

#: What a component of no weight counts where its covariance is to be found.
LEAST_COUNT = 1e-100

#: The kind of storage of each family, from the fewest parameters to the most.
FAMILIES = {
    "EII": "spherical",
    "VII": "spherical",
    "EEI": "diag",
    "VEI": "diag",
    "EVI": "diag",
    "VVI": "diag",
    "EEE": "tied",
    "VEE": "full",
    "EVE": "full",
    "VVE": "full",
    "EEV": "full",
    "VEV": "full",
    "EVV": "full",
    "VVV": "full",
    "E": "spherical",
    "V": "spherical",
}
#: The second names of four families, which are those of the kinds of storage.
KINDS = {"full": "VVV", "tied": "EEE", "diag": "VVI", "spherical": "VII"}
_NAMES = {name: name for name in FAMILIES} | KINDS

#: Families whose axes are found apart from the variances along them, so that units must compare.
TURNED = ("EVE", "VVE", "EEV", "VEV")

#: Inner steps of the M-steps that need them: at most, and the relative change at which they end.
INNER_STEPS = 200
INNER_TOLERANCE = 1e-10


def parse_family(family: object, n_features: int | None = None) -> str:
    """The name of a family.

    Parameters
    ----------
    family : str
    n_features : int, optional
        If it is given, the families E and V are refused for more than one feature.

    Examples
    --------
    >>> parse_family("full"), parse_family("EEE")
    ('VVV', 'EEE')
    """
    name = _NAMES[as_choice(family, "family", tuple(_NAMES))]
    if len(name) == 1 and n_features is not None and n_features > 1:
        raise ValueError(
            f"family: expected one of three letters for {n_features} features, got {name!r}, which "
            "is for one"
        )
    return name


def stored_shape(kind: str, n_components: int, n_features: int) -> tuple[int, ...]:
    """The shape in which the covariances of one kind are stored."""
    k, d = n_components, n_features
    return {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[kind]


def n_parameters(family: str, n_components: int, n_features: int) -> int:
    """The number of free parameters of a mixture (:eq:`eq-parameter-count`).

    Parameters
    ----------
    family : str
    n_components, n_features : int

    Returns
    -------
    int
        K − 1 weights, K d means, and the volumes, shapes and orientations of the covariances.

    Examples
    --------
    >>> n_parameters("VVV", 2, 2), n_parameters("EEE", 3, 2), n_parameters("VEV", 3, 2)
    (11, 11, 15)
    """
    k, d = n_components, n_features
    letters = _letters(family)
    each = (1, d - 1, d * (d - 1) // 2)  # of one volume, shape, orientation
    times = ({"E": 1, "V": k, "I": 0}[letter] for letter in letters)
    return k - 1 + k * d + sum(t * n for t, n in zip(times, each, strict=True))


@cache
def is_nested(small: str, large: str) -> bool:
    """Whether every mixture of one family belongs to the other too.

    Examples
    --------
    >>> is_nested("EEE", "VEV"), is_nested("VII", "EVV")
    (True, False)
    """
    pairs = zip(_letters(small), _letters(large), strict=True)
    return all("IEV".index(a) <= "IEV".index(b) for a, b in pairs)


def _letters(family: str) -> str:
    """Volume, shape, orientation: those of one feature have neither of the latter."""
    return f"{parse_family(family)}II"[:3]


# ---------------------------------------------------------------- storage


def expand(stored: FloatArray, kind: str, n_components: int, n_features: int) -> FloatArray:
    """The stored covariances as matrices, shape ``(K, d, d)``."""
    shape = (n_components, n_features, n_features)
    if kind == "full":
        return stored
    if kind == "tied":
        return np.broadcast_to(stored, shape)
    variances = stored if kind == "diag" else np.broadcast_to(stored[:, None], shape[:2])
    return variances[:, :, None] * np.eye(n_features)


def restrict(covariances: FloatArray, family: str, weights: FloatArray) -> FloatArray:
    """The member of a family that fits given matrices ``(K, d, d)`` best, in its stored shape.

    It is what the M-step of the family makes of statistics whose scatter matrices are these
    covariances, with counts proportional to the weights.
    """
    counts = _counts(weights, family)
    unit = 1.0
    if counts.min() <= LEAST_COUNT:  # its share of small covariances might be none
        unit = 2.0 ** float(np.frexp(np.abs(covariances).max())[1])
    groups = Groups([len(covariances)])
    scatter = Scatter.of(counts[:, None, None] * (covariances / unit), counts, family, groups)
    stored, _ = update(family, scatter)
    return unit * (stored[0] if FAMILIES[family] == "tied" else stored)


def restrict_variances(
    stored: FloatArray, family: str, weights: FloatArray, n_features: int
) -> FloatArray:
    """The same for variances ``(K, d)`` or ``(K,)``, of families that are stored as such."""
    counts = _counts(weights, family)
    traces = stored * n_features if stored.ndim == 1 else stored
    unit = 2.0 ** float(np.frexp(np.abs(stored).max())[1])
    scatter = Scatter((counts * (traces / unit).T).T, counts, n_features, Groups([len(stored)]))
    restricted: FloatArray = unit * update(family, scatter)[0]
    return restricted


def _counts(weights: FloatArray, family: str) -> FloatArray:
    """How much each component counts; one of no weight has a covariance too."""
    if is_free(family):  # each component by itself: weights do not matter
        return np.ones(len(weights))
    return np.maximum(weights, LEAST_COUNT)


def is_free(family: str) -> bool:
    """Whether the components of a family have nothing in common but the form of each."""
    return "E" not in family


def refuse_units_apart(family: str, deviations: FloatArray) -> None:
    """Raise if features vary so differently that an update would lose the lesser ones in rounding.

    Parameters
    ----------
    family : str
    deviations : array (d,)
        Of the data's features.

    Raises
    ------
    SingularCovarianceError
        For EVE, VVE, EEV and VEV, if the least squared deviation is less than the greatest by a
        factor of ``16 d EPS``.
    """
    least, greatest = float(deviations.min()), float(deviations.max())
    if family in TURNED and least < np.sqrt(16 * len(deviations) * EPS) * greatest:
        raise SingularCovarianceError(
            f"X: expected features in comparable units for the family {family}, got deviations "
            f"from {least:.3g} to {greatest:.3g}; standardise them, or take EEE or VVV"
        )


def of_marginals(family: str) -> str:
    """The least family that holds the marginals and conditionals of the mixtures of a family."""
    return _OF_MARGINALS.get(family, family)


_OF_MARGINALS = {"EVI": "VVI"} | dict.fromkeys(("EVE", "VVE", "EEV", "VEV", "EVV"), "VVV")


# ---------------------------------------------------------------- scatter


class Groups:
    """Which components, in a stack of those of several mixtures, belong together.

    Parameters
    ----------
    sizes : sequence of int
        The number of components of each mixture.
    """

    def __init__(self, sizes: list[int] | tuple[int, ...]) -> None:
        self.sizes = np.asarray(sizes)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        self.index = np.repeat(np.arange(len(self.sizes)), self.sizes)

    def sum(self, values: FloatArray) -> FloatArray:
        """Sums over the components of each mixture: ``(C, ...)`` to ``(G, ...)``."""
        sums: FloatArray
        if len(self.sizes) == 1:
            sums = values.sum(axis=0, keepdims=True)
        else:
            sums = np.add.reduceat(values, self.starts, axis=0)
        return sums

    def spread(self, values: NDArray[Value]) -> NDArray[Value]:
        """What belongs to a mixture, for each of its components: ``(G, ...)`` to ``(C, ...)``."""
        return values.take(self.index, axis=0)


@dataclass(frozen=True, eq=False)
class Scatter:
    """What a covariance update needs.

    Parameters
    ----------
    matrices : array
        W_k of all components: matrices ``(C, d, d)`` if full, their sums over each mixture
        ``(G, d, d)`` if tied, diagonals ``(C, d)`` if diag, traces ``(C,)`` if spherical.
    counts : array (C,)
        N_k.
    n_features : int
    groups : Groups
    """

    matrices: FloatArray
    counts: FloatArray
    n_features: int
    groups: Groups

    @classmethod
    def of(cls, matrices: FloatArray, counts: FloatArray, family: str, groups: Groups) -> Scatter:
        """From matrices ``(C, d, d)``, in the form that a family needs."""
        d = matrices.shape[-1]
        kind = FAMILIES[family]
        if kind == "tied":
            matrices = groups.sum(matrices)
        elif kind != "full":
            matrices = np.diagonal(matrices, axis1=1, axis2=2)
            matrices = matrices if kind == "diag" else matrices.sum(axis=1)
        return cls(matrices, counts, d, groups)

    @cached_property
    def totals(self) -> FloatArray:
        """Σ N_k over the components of each mixture, shape ``(G,)``."""
        return self.groups.sum(self.counts)


def update(
    family: str,
    scatter: Scatter,
    state: FloatArray | None = None,
    steps: int = INNER_STEPS,
) -> tuple[FloatArray, FloatArray | None]:
    """The covariances of a family that maximise the expected log-likelihood (the M-step).

    Parameters
    ----------
    family : str
    scatter : Scatter
    state : array, optional
        Where the inner iteration of VEI, VEE, VEV (volumes), EVE or VVE (orientation) begins, as an
        earlier update has returned it. The default begins afresh.
    steps : int
        The greatest number of inner steps. Each of them raises the expected log-likelihood.

    Returns
    -------
    stored : array
        ``(C, d, d)``, ``(G, d, d)``, ``(C, d)`` or ``(C,)``; not positive or NaN where the scatter
        of a component is singular.
    state : array or None
    """
    with np.errstate(all="ignore"):  # of singular scatter: the caller looks at the result
        found, state = _maximum(family, scatter, state, steps)
        return (found if isinstance(found, np.ndarray) else found.matrices()), state


def inverse_update(
    family: str,
    scatter: Scatter,
    state: FloatArray | None = None,
    steps: int = INNER_STEPS,
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """The inverses of what :func:`update` finds, which an E-step needs.

    Common factors are inverted once for all components, and diagonal ones entry by entry.

    Parameters
    ----------
    family, scatter, state, steps
        As for :func:`update`.

    Returns
    -------
    precisions : array
        In the shape of :func:`update`'s result.
    log_determinants : array (C,)
        Of the covariances; not finite where one is singular.
    state : array or None
    """
    with np.errstate(all="ignore"):
        found, state = _maximum(family, scatter, state, steps)
        if not isinstance(found, np.ndarray):
            return *found.inverses(), state
        kind = FAMILIES[family]
        if kind == "spherical":
            return 1.0 / found, scatter.n_features * np.log(found), state
        if kind == "diag":
            return 1.0 / found, np.log(found).sum(axis=1), state
        inverses, log_determinants = _inverses(found)
        if kind == "tied":
            log_determinants = scatter.groups.spread(log_determinants)
        return inverses, log_determinants, state


def _maximum(
    family: str, scatter: Scatter, state: FloatArray | None, steps: int
) -> tuple[FloatArray | Factored, FloatArray | None]:
    if family in _CLOSED:
        return _CLOSED[family](scatter), None
    return _INNER[family](scatter, state, steps)


class Spectral(NamedTuple):
    """Covariances D_k diag(v_k) D_kᵀ.

    Parameters
    ----------
    axes : array (C, d, d)
        D_k.
    variances : array (C, d)
        v_k.
    """

    axes: FloatArray
    variances: FloatArray

    def matrices(self) -> FloatArray:
        """The covariances."""
        return _composed(self.axes, self.variances)

    def inverses(self) -> tuple[FloatArray, FloatArray]:
        """Their inverses and log-determinants."""
        return _composed(self.axes, 1.0 / self.variances), np.log(self.variances).sum(axis=1)


class Scaled(NamedTuple):
    """Covariances λ_k C, of several mixtures.

    Parameters
    ----------
    volumes : array (C,)
        λ_k.
    common : array (G, d, d)
        C of each mixture.
    groups : Groups
    """

    volumes: FloatArray
    common: FloatArray
    groups: Groups

    def matrices(self) -> FloatArray:
        """The covariances."""
        return self.volumes[:, None, None] * self.groups.spread(self.common)

    def inverses(self) -> tuple[FloatArray, FloatArray]:
        """Their inverses and log-determinants."""
        inverses, log_determinants = _inverses(self.common)
        d = self.common.shape[-1]
        return (
            self.groups.spread(inverses) / self.volumes[:, None, None],
            self.groups.spread(log_determinants) + d * np.log(self.volumes),
        )


#: Covariances by their factors.
Factored = Spectral | Scaled


# ---------------------------------------------------------------- closed forms


def eii(scatter: Scatter) -> FloatArray:
    """λ = Σ_k tr W_k / (d Σ_k N_k) (:eq:`eq-eii-update`)."""
    groups = scatter.groups
    return groups.spread(groups.sum(scatter.matrices) / (scatter.n_features * scatter.totals))


def vii(scatter: Scatter) -> FloatArray:
    """λ_k = tr W_k / (d N_k) (:eq:`eq-spherical-update`)."""
    return scatter.matrices / (scatter.n_features * scatter.counts)


def eei(scatter: Scatter) -> FloatArray:
    """The diagonal of Σ_k W_k / Σ_k N_k (:eq:`eq-eei-update`)."""
    groups = scatter.groups
    return groups.spread(groups.sum(scatter.matrices) / scatter.totals[:, None])


def evi(scatter: Scatter) -> FloatArray:
    """λ diag(W_k) / m_k with the geometric mean m_k and λ = Σ m_k / Σ N_k (:eq:`eq-evi-update`)."""
    means = _geometric_mean(scatter.matrices)
    return (_shared_volume(means, scatter) / means)[:, None] * scatter.matrices


def vvi(scatter: Scatter) -> FloatArray:
    """The diagonals of W_k / N_k (:eq:`eq-diag-update`)."""
    return scatter.matrices / scatter.counts[:, None]


def eee(scatter: Scatter) -> FloatArray:
    """Σ_k W_k / Σ_k N_k (:eq:`eq-tied-update`)."""
    return scatter.matrices / scatter.totals[:, None, None]


def eev(scatter: Scatter) -> Spectral:
    """L_k B L_kᵀ with W_k = L_k Ω_k L_kᵀ and B = Σ_k Ω_k / Σ_k N_k (:eq:`eq-eev-update`)."""
    spectra, axes = _eigen(scatter.matrices)
    groups = scatter.groups
    shape = _above_rounding(groups.sum(spectra) / scatter.totals[:, None])
    return Spectral(axes, groups.spread(shape))


def evv(scatter: Scatter) -> FloatArray:
    """λ W_k / g_k with g_k = (det W_k)^(1/d) and λ = Σ g_k / Σ N_k (:eq:`eq-evv-update`)."""
    _, log_determinants = np.linalg.slogdet(finite(scatter.matrices))
    means: FloatArray = np.exp(log_determinants / scatter.n_features)
    return (_shared_volume(means, scatter) / means)[:, None, None] * scatter.matrices


def vvv(scatter: Scatter) -> FloatArray:
    """W_k / N_k (:eq:`eq-covariance-update`)."""
    return scatter.matrices / scatter.counts[:, None, None]


def _shared_volume(means: FloatArray, scatter: Scatter) -> FloatArray:
    """λ = Σ_k m_k / Σ_k N_k, for each component."""
    groups = scatter.groups
    return groups.spread(groups.sum(means) / scatter.totals)


# ---------------------------------------------------------------- common shape, own volumes


def vei(
    scatter: Scatter, volumes: FloatArray | None, steps: int
) -> tuple[FloatArray, FloatArray | None]:
    """λ_k diag(b) by turns (:eq:`eq-vei-update`)."""
    return _volumes_and_shape(scatter.matrices, scatter, volumes, steps)


def vev(
    scatter: Scatter, volumes: FloatArray | None, steps: int
) -> tuple[Spectral, FloatArray | None]:
    """λ_k L_k diag(b) L_kᵀ with W_k = L_k Ω_k L_kᵀ (:eq:`eq-vev-update`)."""
    spectra, axes = _eigen(scatter.matrices)
    variances, volumes = _volumes_and_shape(spectra, scatter, volumes, steps)
    return Spectral(axes, _above_rounding(variances)), volumes


def _volumes_and_shape(
    spectra: FloatArray, scatter: Scatter, volumes: FloatArray | None, steps: int
) -> tuple[FloatArray, FloatArray]:
    """Minimise Σ_k Σ_j w_kj / (λ_k b_j) + N_k Σ_j log(λ_k b_j) over b and λ by turns."""
    groups, counts, totals = scatter.groups, scatter.counts, scatter.totals[:, None]
    if volumes is None:
        volumes = spectra.mean(axis=1) / counts
    for _ in range(steps):
        shape = groups.spread(groups.sum(spectra / volumes[:, None]) / totals)  # (C, d)
        before, volumes = volumes, (spectra / shape).mean(axis=1) / counts
        if not (np.abs(volumes - before) > INNER_TOLERANCE * before).any():
            break
    return volumes[:, None] * shape, volumes


def vee(
    scatter: Scatter, volumes: FloatArray | None, steps: int
) -> tuple[Scaled, FloatArray | None]:
    """λ_k C by turns (:eq:`eq-vee-update`)."""
    groups, counts, d = scatter.groups, scatter.counts, scatter.n_features
    matrices = finite(scatter.matrices)
    if volumes is None:
        volumes = np.trace(matrices, axis1=1, axis2=2) / (d * counts)
    for _ in range(steps):
        pooled = groups.sum(matrices / volumes[:, None, None]) / scatter.totals[:, None, None]
        inverse = groups.spread(_inverses(pooled)[0])
        before, volumes = volumes, np.einsum("kij,kij->k", matrices, inverse) / (d * counts)
        if not (np.abs(volumes - before) > INNER_TOLERANCE * before).any():
            break
    return Scaled(volumes, pooled, groups), volumes


# ---------------------------------------------------------------- common orientation


def eve(
    scatter: Scatter, axes: FloatArray | None, steps: int
) -> tuple[Spectral, FloatArray | None]:
    """λ D A_k Dᵀ by rotations of D (:eq:`eq-eve-update`)."""

    def variances(diagonals: FloatArray) -> FloatArray:
        means = _geometric_mean(diagonals)
        return (_shared_volume(means, scatter) / means)[:, None] * diagonals

    return _common_axes(scatter, variances, axes, steps)


def vve(
    scatter: Scatter, axes: FloatArray | None, steps: int
) -> tuple[Spectral, FloatArray | None]:
    """D diag(Dᵀ W_k D) Dᵀ / N_k by rotations of D (:eq:`eq-vve-update`)."""
    return _common_axes(scatter, lambda w: w / scatter.counts[:, None], axes, steps)


def _common_axes(
    scatter: Scatter,
    variances: Callable[[FloatArray], FloatArray],
    axes: FloatArray | None,
    steps: int,
) -> tuple[Spectral, FloatArray]:
    """Minimise over the common axes D and the variances along them by turns.

    With the variances fixed, the objective is Σ_k Σ_j (Dᵀ W_k D)_jj / v_kj. In the plane of two
    axes it is a cosine of twice the angle of rotation, whose minimum is known
    (:prf:ref:`prop-plane-rotation`). The angles of all planes at once make one rotation of space,
    which is shortened wherever it does not lower the objective.
    """
    groups = scatter.groups
    if axes is None:
        axes = _eigen(groups.sum(scatter.matrices))[1]
    spread = groups.spread(axes)
    turned = np.swapaxes(spread, 1, 2) @ scatter.matrices @ spread  # D' W_k D
    for _ in range(steps):
        diagonals = _above_rounding(_diagonals(turned))
        precisions = 1.0 / variances(diagonals)
        angles = _angles(turned, precisions, groups)  # (G, d, d), skew
        before = groups.sum((precisions * diagonals).sum(axis=1))
        rotation, turned, after = _descent(angles, turned, precisions, before, groups)
        axes = axes @ rotation
        if not (before - after > INNER_TOLERANCE**1.5 * np.abs(before)).any():
            break
    return Spectral(groups.spread(axes), variances(_above_rounding(_diagonals(turned)))), axes


@cache
def _planes(d: int) -> tuple[IntArray, IntArray]:
    """The pairs of axes."""
    i, j = np.triu_indices(d, 1)
    return i, j


def _angles(turned: FloatArray, precisions: FloatArray, groups: Groups) -> FloatArray:
    """The best angle of rotation in each plane of two axes (:eq:`eq-plane-rotation`), skew.

    Axes along which a component has no variance are the best there are, and stay.
    """
    d = turned.shape[-1]
    i, j = _planes(d)
    diagonals = _diagonals(turned)
    difference = precisions[:, i] - precisions[:, j]
    cosine = 0.5 * groups.sum(difference * (diagonals[:, i] - diagonals[:, j]))
    sine = groups.sum(difference * turned[:, i, j])
    angles = np.where((cosine == 0) & (sine == 0), 0.0, 0.5 * np.arctan2(-sine, -cosine))
    angles[~np.isfinite(groups.sum(precisions.sum(axis=1)))] = 0.0
    skew = np.zeros((len(angles), d, d))
    skew[:, j, i], skew[:, i, j] = angles, -angles
    return skew


def _descent(
    angles: FloatArray,
    turned: FloatArray,
    precisions: FloatArray,
    before: FloatArray,
    groups: Groups,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The rotation by these angles, or by a part of them, that does not raise the objective."""
    identity = np.eye(turned.shape[-1])
    part = np.ones(len(angles))
    while True:
        half = 0.5 * np.where(np.isfinite(angles), part[:, None, None] * angles, 0.0)
        rotation: FloatArray = np.linalg.inv(identity - half) @ (identity + half)  # Cayley's
        spread = groups.spread(rotation)
        result = np.swapaxes(spread, 1, 2) @ turned @ spread
        after = groups.sum((precisions * _diagonals(result)).sum(axis=1))
        worse = (after > before * (1 + 1e-14)) & (part > 0)
        if not worse.any():
            return rotation, result, after
        part[worse] = np.where(part[worse] > 1e-6, 0.25 * part[worse], 0.0)


# ---------------------------------------------------------------- stacks of small matrices


def _diagonals(matrices: FloatArray) -> FloatArray:
    return np.diagonal(matrices, axis1=1, axis2=2)


def _geometric_mean(values: FloatArray) -> FloatArray:
    """Geometric means of the rows, shape ``(C,)``."""
    means: FloatArray = np.exp(np.log(values).mean(axis=1))
    return means


def _composed(axes: FloatArray, variances: FloatArray) -> FloatArray:
    """D diag(v) Dᵀ, symmetric to the last bit."""
    matrices = (axes * variances[:, None, :]) @ np.swapaxes(axes, 1, 2)
    return 0.5 * (matrices + np.swapaxes(matrices, 1, 2))


def finite(matrices: FloatArray) -> FloatArray:
    """The same stack with NaN in no matrix: LAPACK would refuse all for the sake of one."""
    sound = np.isfinite(matrices).all(axis=(1, 2), keepdims=True)
    return matrices if sound.all() else np.where(sound, matrices, np.eye(matrices.shape[-1]))


def _eigen(matrices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues, ascending and not negative, and eigenvectors of symmetric matrices."""
    spectra, axes = np.linalg.eigh(finite(matrices))
    return np.maximum(spectra, 0.0), axes


def _above_rounding(spectra: FloatArray) -> FloatArray:
    """Variances along axes, with zeros for what is only rounding beside the greatest of a row."""
    greatest = spectra.max(axis=1, keepdims=True)
    return np.where(spectra > 16 * spectra.shape[1] * EPS * greatest, spectra, 0.0)


def _inverses(matrices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Inverses and log-determinants of symmetric matrices; NaN of those not positive definite."""
    signs, logs = np.linalg.slogdet(finite(matrices))
    log_determinants: FloatArray = np.asarray(logs, dtype=np.float64)
    sound = (signs > 0) & np.isfinite(matrices).all(axis=(1, 2))
    if not sound.all():
        matrices = np.where(sound[:, None, None], matrices, np.eye(matrices.shape[-1]))
    inverses = np.asarray(np.linalg.inv(matrices), dtype=np.float64)
    if not sound.all():
        inverses[~sound], log_determinants[~sound] = np.nan, np.nan
    return inverses, log_determinants


_CLOSED: dict[str, Callable[[Scatter], FloatArray | Spectral]] = {
    "EII": eii, "VII": vii, "EEI": eei, "EVI": evi, "VVI": vvi, "EEE": eee,
    "EEV": eev, "EVV": evv, "VVV": vvv, "E": eii, "V": vii,
}  # fmt: skip
_INNER: dict[
    str,
    Callable[[Scatter, FloatArray | None, int], tuple[FloatArray | Factored, FloatArray | None]],
] = {"VEI": vei, "VEE": vee, "VEV": vev, "EVE": eve, "VVE": vve}
