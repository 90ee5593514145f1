r"""The search behind a table of models: for each family and each K the best fit that can be found.

The likelihood has many maxima, and a table is only worth as much as its worst cell. Four sources of
starts are used, each cheap because all fits of a stage run as one batch (:mod:`gmm.batch`):

1. the partitions of model-based agglomerative clustering (:mod:`gmm.agglomerative`; of one feature,
   those between quantiles), and those about draws of seeds (:func:`gmm.kmeans.drawn_partitions`);
2. the *neighbours* of a cell: the fits of other families with the same K,
3. the fits with K − 1 components of which one is cut in two, and
4. the fit with K + 1 components of which two are joined.

Of large data random parts are searched, and the best fits of each go on with all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from gmm.agglomerative import hierarchy
from gmm.batch import Batch, Candidate, Outcome
from gmm.checks import FloatArray
from gmm.families import is_nested, n_parameters
from gmm.kmeans import drawn_partitions
from gmm.prior import Prior
from gmm.rows import Rows, Source

__all__ = ["Cell", "search", "search_parts"]

#: Rows that are merged at most: the time of a hierarchy grows with their square.
MERGED_ROWS = 500
#: Rows of a part that is searched, and the number of parts of larger data.
PART_ROWS, PARTS = 1000, 2
#: Tolerances of the log-likelihood of a row, while searching and in the end. A fit that is looked
#: at later goes on from there (:mod:`gmm.selection`).
COARSE, FINE = 1e-4, 1e-6
#: The greatest numbers of iterations: from partitions, from other starts, and in the end.
FIRST, LONG, LONGEST = 25, 15, 150
#: Iterations after which the candidates for a cell are compared, and how many go on.
SHORT = ((3, 4), (8, 2), (12, 1))
#: Draws of seeds for each number of components.
DRAWS = 4
#: The same for rows of one feature: two families, and components that hide in one another.
SHORT_OF_ONE, DRAWS_OF_ONE = ((3, 12), (8, 6), (12, 4)), 12
#: The race of a few cells, which help one another less and cost little, and its iterations.
SHORT_OF_FEW, LONG_OF_FEW = ((5, 12), (12, 6), (30, 3)), 60
#: Where windows are cut out of a component of one feature, and how wide they are, in deviations.
WINDOWS, WINDOW = (-1.5, -0.75, 0.0, 0.75, 1.5), 0.25
#: A direction in which the rows vary less than this part of the greatest variance is flat.
FLAT = 1e-10
#: Rounds of starts from neighbours, and what makes a fit new: nats above the one before.
ROUNDS, NEWS = 4, 0.1
#: Rounds in which fits are lent to families that contain theirs: longer than chains of families.
CHAIN = 4
#: By what factor a step is longer than the last (:meth:`gmm.batch.Batch.run`).
STRIDE = 1.2
#: Families of the same K that lend their partition to the others.
LENDERS = 2

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
        time and are rarely missed; the race of the others is then longer.
    """
    asked, fewest = set(cells), min(k for _, k in cells)
    if fewest > 1:  # to be cut in two
        cells = [*cells, *dict.fromkeys((family, fewest - 1) for family, _ in cells)]
    table = _Table(rows, ridge, prior, hierarchical)
    if rows.n_rows <= 2 * PART_ROWS:
        table.fill(cells, rng)
    else:
        table.run(
            [
                (cell, table.batch.moments(table.batch.shares(outcome.mixture)))
                for part in search_parts(
                    rows, cells, rng, ridge=ridge, prior=prior, hierarchical=hierarchical
                )
                for cell, outcome in part.items()
            ],
            COARSE,
            race=SHORT,
        )
    table.finish(cells, tol)
    return {cell: outcome for cell, outcome in table.sound().items() if cell in asked}


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
        parts.append(table.sound())
    return parts


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
        self.batch = Batch(rows, ridge, prior)
        # with a ridge EM passes the likelihood's top: that it falls says nothing of a step's length
        self.stride = 1.0 if ridge else STRIDE
        self.best: dict[Cell, Outcome] = {}
        self.fresh: set[Cell] = set()

    def sound(self) -> dict[Cell, Outcome]:
        """The best outcomes that are mixtures: a batch finds singular matrices less surely."""
        return {cell: outcome for cell, outcome in self.best.items() if outcome.is_mixture}

    def bic(self, cell: Cell) -> float:
        """Smaller is better."""
        family, k = cell
        count = n_parameters(family, k, self.rows.n_features)
        penalty = count * float(np.log(self.rows.total_weight))
        return penalty - 2 * self.best[cell].log_likelihood

    def run(
        self,
        candidates: Iterable[tuple[Cell, FloatArray]],
        tol: float,
        max_iter: int = LONG,
        race: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Fit candidates almost to convergence, and keep those that are better than before."""
        batch = [Candidate(cell[0], moments) for cell, moments in candidates]
        if not batch:
            return
        for outcome in self.batch.run(batch, tol, max_iter, race=race, stride=self.stride):
            cell = outcome.family, len(outcome.moments)
            before = self.best[cell].objective if cell in self.best else -np.inf
            if outcome.plausible and outcome.objective > before:
                self.best[cell] = outcome
                if outcome.objective > before + NEWS:
                    self.fresh.add(cell)

    # ------------------------------------------------------------------ starts

    def fill(self, cells: list[Cell], rng: np.random.Generator) -> None:
        """Agglomerative starts for all cells, then draws of seeds, and rounds of neighbours."""
        numbers = sorted({k for _, k in cells})
        whole, drawn = self._partitions(numbers, rng), self._drawn(numbers, rng)
        self.run([(cell, m) for cell in cells for m in whole.get(cell[1], [])], COARSE, FIRST)
        others = [(cell, m) for cell in cells for m in drawn.get(cell[1], [])]
        race, most = (SHORT, LONG) if self.rows.n_features > 1 else (SHORT_OF_ONE, LONG)
        if not self.hierarchical:
            race, most = SHORT_OF_FEW, LONG_OF_FEW
        for _ in range(ROUNDS):
            fresh, self.fresh = self.fresh, set()
            others += self._neighbours(cells, fresh)
            self.run(others, COARSE, most, race)
            others = []

    def finish(self, cells: list[Cell], tol: float) -> None:
        """The fine tolerance; and no family is left below one that it contains."""
        self.run(
            [(cell, outcome.moments) for cell, outcome in self.best.items()],
            tol,
            LONGEST,
        )
        for _ in range(CHAIN):
            lent = [(cell, m) for cell in cells for m in self._greater_nested(cell)]
            if not lent:
                break
            self.run(lent, tol, LONGEST)

    def _partitions(
        self, numbers: list[int], rng: np.random.Generator
    ) -> dict[int, list[FloatArray]]:
        """Moments of the agglomerative partitions; of one feature those of quantiles."""
        n = self.rows.n_rows
        levels = {1: np.zeros(n, dtype=np.int64)}
        if self.rows.n_features == 1:
            ranks = np.argsort(np.argsort(self.batch.rows[0], kind="stable"))
            levels = {k: ranks * k // n for k in numbers}
        elif self.hierarchical and n <= MERGED_ROWS:
            levels = hierarchy(self.rows, max(numbers))
        elif self.hierarchical:
            chosen = np.sort(rng.choice(n, MERGED_ROWS, replace=False))
            for k, labels in hierarchy(self.rows.subset(chosen), max(numbers)).items():
                levels[k] = np.full(n, -1)  # rows that are left out have no part in the moments
                levels[k][chosen] = labels
        return {k: [self.batch.of_labels(levels[k], k)] for k in numbers if k in levels}

    def _drawn(self, numbers: list[int], rng: np.random.Generator) -> dict[int, list[FloatArray]]:
        """Moments of clusters about draws of seeds.

        By distance between standardised rows, and between rows whose covariance is the identity:
        the former know no correlation, the latter let it vanish.
        """
        drawn: dict[int, list[FloatArray]] = {k: [] for k in numbers if k > 1}
        views, draws = [self.rows.standardised()], DRAWS_OF_ONE
        if self.rows.n_features > 1:
            views, draws = [*views, _sphered(self.rows)], DRAWS // 2
        for rows in views:
            partitions = drawn_partitions(rows, max(numbers), draws, rng)
            for k, moments in drawn.items():
                moments += [self.batch.of_labels(labels, k) for labels in partitions[k]]
        return drawn

    def _greater_nested(self, cell: Cell) -> Iterable[FloatArray]:
        """Moments of the best fit of a family within this one, if it is better than this one's."""
        family, k = cell
        own = self.best[cell].log_likelihood if cell in self.best else -np.inf
        within = [other for other in self.best if other[1] == k and is_nested(other[0], family)]
        best = max(within, key=lambda other: self.best[other].log_likelihood, default=cell)
        if best != cell and self.best[best].log_likelihood > own:
            yield self.best[best].moments

    def _neighbours(self, cells: list[Cell], fresh: set[Cell]) -> Iterator[tuple[Cell, FloatArray]]:
        """Starts for cells from the fits of other cells, if those are new."""
        for k in sorted({k for _, k in cells}):
            yield from self._lent([cell for cell in cells if cell[1] == k], fresh)
        wanted = set(cells)
        for family, k in sorted(fresh):
            above, below = (family, k + 1) in wanted, (family, k - 1) in wanted
            if above or below:
                shares = self.batch.shares_of(self.best[family, k])
            if above:
                for moments in self._splits((family, k), shares):
                    yield (family, k + 1), moments
            if below:
                yield (family, k - 1), self._merger((family, k), shares)

    def _lent(self, cells: list[Cell], fresh: set[Cell]) -> Iterator[tuple[Cell, FloatArray]]:
        """For cells with the same K, the fits of the best families, and of the best one within."""
        same = sorted((cell for cell in self.best if cell[1] == cells[0][1]), key=self.bic)
        by_height = sorted(same, key=lambda other: -self.best[other].log_likelihood)
        for cell in cells:
            lenders = [other for other in same[: LENDERS + 1] if other != cell][:LENDERS]
            lenders += [other for other in by_height if is_nested(other[0], cell[0])][:1]
            for other in dict.fromkeys(lenders):
                if other in fresh and other != cell:
                    yield cell, self.best[other].moments

    def _splits(self, cell: Cell, shares: FloatArray) -> Iterator[FloatArray]:
        """Each component in turn cut in two, softly, across its longest axis.

        Of one feature also with a window cut out of it: a component may hide within another.
        """
        batch, outcome = self.batch, self.best[cell]
        assert outcome.parameters is not None
        _, means, covariances = outcome.parameters
        spreads, axes = np.linalg.eigh(covariances / batch.scale**2)
        along = axes[:, :, -1] / np.sqrt(spreads[:, -1:])  # (K, d)
        distances = along @ batch.rows
        distances -= np.einsum("ki,ki->k", along, (means - batch.mean) / batch.scale)[:, None]
        cuts = [shares / (1.0 + np.exp(-np.clip(4.0 * distances, -500, 500)))]
        if means.shape[1] == 1:
            cuts += [shares * np.exp(-0.5 * ((distances - at) / WINDOW) ** 2) for at in WINDOWS]
        for cut in cuts:
            for k, part in enumerate(batch.moments(cut)):
                moments = np.vstack([outcome.moments, outcome.moments[k] - part])
                moments[k] = part
                yield moments

    def _merger(self, cell: Cell, shares: FloatArray) -> FloatArray:
        """The two components that overlap most, joined."""
        overlap = shares @ shares.T
        lengths = np.sqrt(np.diagonal(overlap))
        lengths[lengths == 0] = 1.0  # a component without rows, as a prior allows
        overlap /= np.outer(lengths, lengths)
        np.fill_diagonal(overlap, -1.0)
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        moments = self.best[cell].moments
        joined = np.delete(moments, j, axis=0)
        joined[i - (i > j)] += moments[j]
        return joined


def _sphered(rows: Rows) -> Rows:
    """The rows in coordinates in which their covariance is the identity; flat directions vanish."""
    variances, axes = np.linalg.eigh(rows.standardised().covariance)
    sound = variances > FLAT * variances[-1]
    scaled = rows.standardised().X @ (axes[:, sound] / np.sqrt(variances[sound]))
    return Rows(scaled, rows.weights)
