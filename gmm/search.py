r"""The search behind a table of models: for each family and each K the best fit that can be found.

The likelihood has many maxima, and a table is only worth as much as its worst cell. Four sources of
starts are used, each cheap because all fits of a stage run as one batch (:mod:`gmm.batch`):

1. the partitions of model-based agglomerative clustering (:mod:`gmm.agglomerative`), and those of
   k-means;
2. the *neighbours* of a cell: the fits of other families with the same K,
3. the fits with K − 1 components of which one is cut in two, and
4. the fit with K + 1 components of which two are joined.

Of large data random parts are searched, and the best fits of each go on with all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from gmm.agglomerative import hierarchy
from gmm.batch import Batch, Candidate, Outcome
from gmm.checks import FloatArray
from gmm.families import is_nested, n_parameters
from gmm.kmeans import kmeans
from gmm.prior import Prior
from gmm.rows import Rows, Source

__all__ = ["Cell", "is_plausible", "search", "search_parts"]

#: Rows of a part that is searched, and the number of parts of larger data.
PART_ROWS, PARTS = 1000, 2
#: Tolerances of the log-likelihood of a row, while searching and in the end, and the greatest
#: numbers of iterations. A fit that is looked at later goes on from there (:mod:`gmm.selection`).
COARSE, FINE = 1e-4, 1e-6
LONG, LONGEST = 40, 150
#: Iterations after which the candidates for a cell are compared, and how many go on.
SHORT = ((8, 3), (25, 1))
#: Draws of seeds for each number of components.
DRAWS = 6
#: Rounds of starts from neighbours, and what makes a fit new: nats above the one before.
ROUNDS, NEWS = 2, 0.1
#: Families of the same K that lend their partition to the others.
LENDERS = 3
#: A fit whose components are, on average, this many times narrower than the data in variance is
#: taken for one of the likelihood's spikes.
SPIKE = 1e4

#: A cell of the table: a family and a number of components.
Cell = tuple[str, int]
#: The prior of fits with a given number of components.
PriorFor = Callable[[int], Prior]


def search(
    rows: Rows,
    cells: list[Cell],
    rng: np.random.Generator,
    *,
    ridge: float = 0.0,
    prior: PriorFor | None = None,
    tol: float = FINE,
    hierarchical: bool = True,
) -> dict[Cell, Outcome]:
    """The best plausible fit of each cell; cells without one are left out.

    Parameters
    ----------
    rows : Rows
    cells : list of (family, K)
    rng : Generator
        Chooses the parts of large data.
    ridge : float
    prior : callable, optional
        The prior of fits with a given number of components.
    tol : float
        The tolerance of the last stage, in nats for a unit of weight.
    hierarchical : bool
        Whether agglomerative partitions are among the starts. For a few cells they take most of the
        time and are rarely missed.
    """
    table = _Table(rows, ridge, prior, hierarchical)
    if rows.n_rows <= 2 * PART_ROWS:
        table.fill(cells, rng)
    else:
        table.try_briefly(
            [
                (cell, table.batch.moments(table.batch.shares(outcome.mixture)))
                for part in search_parts(
                    rows, cells, rng, ridge=ridge, prior=prior, hierarchical=hierarchical
                )
                for cell, outcome in part.items()
            ]
        )
    table.finish(cells, tol)
    return table.best


def search_parts(
    rows: Source,
    cells: list[Cell],
    rng: np.random.Generator,
    *,
    ridge: float = 0.0,
    prior: PriorFor | None = None,
    hierarchical: bool = True,
) -> list[dict[Cell, Outcome]]:
    """The best plausible fits of each cell to random parts of the rows."""
    parts = []
    for _ in range(PARTS):
        table = _Table(rows.sample(PART_ROWS, rng), ridge, prior, hierarchical)
        table.fill(cells, rng)
        parts.append(table.best)
    return parts


def is_plausible(cell: Cell, outcome: Outcome, n_features: int) -> bool:
    """Whether a fit may stand in a table: not singular, and not one of the likelihood's spikes.

    A component needs as many rows as its own covariance has to have rank, and may not be
    narrower than the data by more than a hundred times in the mean (:eq:`eq-narrowness`).
    """
    family, _ = cell
    own_shape = family in ("VVV", "EVV")
    fewest = n_features + 1 if own_shape else 2 if family[0] == "V" else 1
    return outcome.narrowness <= SPIKE and outcome.smallest >= fewest - 1e-6


class _Table:
    """The best outcomes so far, on some rows."""

    def __init__(
        self,
        rows: Rows,
        ridge: float,
        prior: PriorFor | None = None,
        hierarchical: bool = True,
    ) -> None:
        self.rows = rows
        self.hierarchical = hierarchical
        self.prior = prior
        self.batch = Batch(rows, ridge, prior)
        self.scaled = rows.standardised()
        self.best: dict[Cell, Outcome] = {}
        self.fresh: set[Cell] = set()

    def bic(self, cell: Cell) -> float:
        """Smaller is better."""
        family, k = cell
        count = n_parameters(family, k, self.rows.n_features)
        penalty = count * float(np.log(self.rows.total_weight))
        return penalty - 2 * self.best[cell].log_likelihood

    def run(
        self, candidates: list[tuple[Cell, FloatArray]], tol: float, max_iter: int = LONG
    ) -> None:
        """Fit candidates almost to convergence, and keep those that are better than before."""
        for cell, outcome in self._outcomes(candidates, tol, max_iter):
            before = self.objective(self.best[cell]) if cell in self.best else -np.inf
            reached = self.objective(outcome)
            if reached > before:
                self.best[cell] = outcome
                if reached > before + NEWS:
                    self.fresh.add(cell)

    def objective(self, outcome: Outcome) -> float:
        """What fits of one cell are compared by: the log-likelihood and the log-prior."""
        if self.prior is None:
            return outcome.log_likelihood
        mixture = outcome.mixture
        return outcome.log_likelihood + self.prior(mixture.n_components).log_density(mixture)

    def try_briefly(self, candidates: list[tuple[Cell, FloatArray]]) -> None:
        """Short runs of all candidates, of which fewer and fewer go on; the best to convergence."""
        for iterations, survivors in SHORT:
            by_cell: dict[Cell, list[Outcome]] = {}
            for cell, outcome in self._outcomes(candidates, COARSE, iterations):
                by_cell.setdefault(cell, []).append(outcome)
            candidates = [
                (cell, outcome.moments)
                for cell, outcomes in by_cell.items()
                for outcome in sorted(outcomes, key=self.objective, reverse=True)[:survivors]
            ]
        self.run(candidates, COARSE)

    def _outcomes(
        self, candidates: list[tuple[Cell, FloatArray]], tol: float, max_iter: int
    ) -> Iterable[tuple[Cell, Outcome]]:
        """The plausible outcomes; with a prior, all that are not singular."""
        if not candidates:
            return
        batch = [Candidate(cell[0], moments) for cell, moments in candidates]
        outcomes = self.batch.run(batch, tol, max_iter)
        for (cell, _), outcome in zip(candidates, outcomes, strict=True):
            bounded = self.prior is not None and outcome.parameters is not None
            if bounded or is_plausible(cell, outcome, self.rows.n_features):
                yield cell, outcome

    # ------------------------------------------------------------------ starts

    def fill(self, cells: list[Cell], rng: np.random.Generator) -> None:
        """The agglomerative starts of all cells, and rounds of others."""
        numbers = sorted({k for _, k in cells})
        partitions = self._partitions(numbers)
        self.run([(cell, m) for cell in cells for m in partitions.get(cell[1], [])], COARSE)
        near = {k: [self._near(k, rng) for _ in range(DRAWS)] for k in numbers if k > 1}
        others = [(cell, m) for cell in cells for m in near.get(cell[1], [])]
        for _ in range(ROUNDS):
            fresh, self.fresh = self.fresh, set()
            others += [(cell, m) for cell in cells for m in self._neighbours(cell, fresh)]
            self.try_briefly(others)
            others = []

    def finish(self, cells: list[Cell], tol: float) -> None:
        """The fine tolerance; and no family is left below one that it contains."""
        self.run([(cell, outcome.moments) for cell, outcome in self.best.items()], tol, LONGEST)
        lent = [(cell, m) for cell in cells for m in self._greater_nested(cell)]
        self.run(lent, tol, LONGEST)

    def _partitions(self, numbers: list[int]) -> dict[int, list[FloatArray]]:
        """Moments of the agglomerative partitions; of one feature also those of quantiles."""
        n = self.rows.n_rows
        levels = {1: np.zeros(n, dtype=np.int64)}
        if self.hierarchical:
            levels = hierarchy(self.rows, max(numbers))
        partitions = {k: [self.batch.of_labels(levels[k], k)] for k in numbers if k in levels}
        if self.rows.n_features == 1:
            ranks = np.argsort(np.argsort(self.batch.rows[0], kind="stable"))
            for k in numbers:
                quantiles = self.batch.of_labels(ranks * k // n, k)
                partitions.setdefault(k, []).append(quantiles)
        return partitions

    def _near(self, k: int, rng: np.random.Generator) -> FloatArray:
        """Moments of clusters about a draw of seeds, by distance between standardised rows."""
        labels, _ = kmeans(self.scaled.X, k, rng, sample_weight=self.scaled.weights, max_iter=3)
        return self.batch.of_labels(labels, k)

    def _greater_nested(self, cell: Cell) -> Iterable[FloatArray]:
        """Moments of the best fit of a family within this one, if it is better than this one's."""
        family, k = cell
        own = self.best[cell].log_likelihood if cell in self.best else -np.inf
        within = [other for other in self.best if other[1] == k and is_nested(other[0], family)]
        best = max(within, key=lambda other: self.best[other].log_likelihood, default=cell)
        if best != cell and self.best[best].log_likelihood > own:
            yield self.best[best].moments

    def _neighbours(self, cell: Cell, fresh: set[Cell]) -> Iterable[FloatArray]:
        """Moments of starts for a cell from the fits of other cells, if those are new."""
        family, k = cell
        same = [other for other in self.best if other[1] == k and other != cell]
        lenders = sorted(same, key=self.bic)[:LENDERS]
        nested = [other for other in same if is_nested(other[0], family)]
        if nested:
            lenders.append(max(nested, key=lambda other: self.best[other].log_likelihood))
        for other in dict.fromkeys(lenders):
            if other in fresh:
                yield self.best[other].moments
        if (family, k - 1) in fresh:
            yield from self._splits((family, k - 1))
        if (family, k + 1) in fresh:
            yield self._merger((family, k + 1))

    def _splits(self, cell: Cell) -> Iterable[FloatArray]:
        """Each component in turn cut in two, softly, across its longest axis."""
        mixture = self.best[cell].mixture
        shares = self.batch.shares(mixture)
        for k in range(len(shares)):
            spread, axes = np.linalg.eigh(mixture.covariances[k])
            centred = self.batch.rows.T * self.batch.scale + self.batch.mean - mixture.means[k]
            along = centred @ axes[:, -1] / np.sqrt(spread[-1])
            right = 1.0 / (1.0 + np.exp(-np.clip(4.0 * along, -500, 500)))
            parts = np.vstack([shares, shares[k] * (1 - right)])
            parts[k] *= right
            yield self.batch.moments(parts)

    def _merger(self, cell: Cell) -> FloatArray:
        """The two components that overlap most, joined."""
        mixture = self.best[cell].mixture
        shares = self.batch.shares(mixture)
        overlap = shares @ shares.T
        lengths = np.sqrt(np.diagonal(overlap))
        overlap /= np.outer(lengths, lengths)
        np.fill_diagonal(overlap, -1.0)
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        joined = np.delete(shares, j, axis=0)
        joined[i - (i > j)] += shares[j]
        return self.batch.moments(joined)
