"""The same pass on a Dask array or cluster: statistics of each chunk, summed in a tree.

The chunks stay where they are. On a cluster each worker that holds some of them has a
:class:`Keeper`, which is sent the mixture and returns sums of statistics; neither depends on the
number of rows. A pass then costs a message to each worker and its answer, where tasks would cost
the scheduler's turns. The tree is the same whichever worker computes its parts, so that a result
depends neither on their number nor on their order. A lost worker's chunks are made again by Dask
from their recipe, and the pass that was under way is begun again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmm import threads
from gmm.cached import cached_property
from gmm.checkpoint import Digest, digest_of
from gmm.checks import as_matrix, as_sample_weight, refuse_non_finite
from gmm.mixture import Mixture
from gmm.rows import Block, Rows, Source, Survey, surveyed, with_weight
from gmm.statistics import Statistics
from gmm.sweep import ChunkSweep, Frame, Notes, Sweep, Workspace, sweep_of

__all__ = ["DaskRows", "DaskSweep", "Keeper", "added_in_tree"]

Value = TypeVar("Value")
#: For each chunk the addresses of the workers that hold it; None where there is no cluster.
Holders = list[list[str] | None]
#: Partial sums in the tree, by level and position: on level l, over 2ˡ neighbouring chunks.
Nodes = dict[tuple[int, int], Any]

#: Seconds between two looks at whether all workers are still there.
PATIENCE = 1.0


class DaskRows(Source):
    """The rows of a Dask array, chunk by chunk.

    Parameters
    ----------
    X : dask.array.Array (n, d)
        With a distributed client its rows are kept on the workers; without one it is computed again
        in each pass, so that it need not fit into memory.
    sample_weight : array (n,), optional
        A Dask array or one that can be cut like the rows.

    Raises
    ------
    ImportError
        If Dask is not installed.
    """

    def __init__(self, X: Any, sample_weight: ArrayLike | None = None) -> None:
        dask = _dask()
        if X.ndim != 2:
            raise ValueError(f"X: expected a 2-D array (rows, features), got shape {X.shape}")
        self.dask = dask
        self.client = _client()
        X = X.rechunk({1: -1})
        sizes = np.array(X.chunks[0], dtype=np.float64)
        if np.isnan(sizes).any():
            raise ValueError(
                "X: expected chunks of known sizes; call X.compute_chunk_sizes() before"
            )
        self.starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        chunks = X.to_delayed().ravel().tolist()
        chunk_weights: list[Any] = [None] * len(chunks)
        if sample_weight is not None:
            weights = import_module("dask.array").asarray(sample_weight)
            if weights.shape != (X.shape[0],):
                raise ValueError(
                    f"sample_weight: expected shape {(X.shape[0],)}, got shape {weights.shape}"
                )
            chunk_weights = weights.rechunk((X.chunks[0],)).to_delayed().ravel().tolist()
        given = list(zip(chunks, chunk_weights, self.starts[:-1].tolist(), strict=True))
        #: The chunks as :class:`gmm.rows.Rows`: validated, for the survey; and as they are.
        self.validated = [dask.delayed(_validated)(*chunk) for chunk in given]
        if self.client is None:
            self.chunks = [dask.delayed(_rows)(chunk, weights) for chunk, weights, _ in given]
        else:
            self.chunks = self.validated = self.client.persist(self.validated)

    def __iter__(self) -> Iterator[Block]:
        for chunk in self.chunks:
            rows = chunk.compute()
            if rows.n_rows:
                yield np.asarray(rows.X, dtype=np.float64), rows.weights

    def tree_sum(
        self, task: Callable[..., Value | None], inputs: Sequence[tuple[Any, ...]], *shared: Any
    ) -> Value | None:
        """The sum over chunks of ``task(*inputs of the chunk, *shared)``, in a tree.

        The tree depends on the number of chunks alone (:prf:ref:`thm-tree-sum`). A task returns
        None for a chunk without rows of positive weight.
        """

        def tree(holders: Holders) -> Any:
            delayed = self.dask.delayed
            parts = self._bound(task, inputs, shared, holders)
            while len(parts) > 1:
                pairs = [delayed(_add)(*parts[i : i + 2]) for i in range(0, len(parts) - 1, 2)]
                parts = pairs + parts[len(pairs) * 2 :]
            return parts[0]

        total: Value | None = self._result(tree)
        return total

    def _bound(
        self,
        task: Callable[..., Any],
        inputs: Sequence[tuple[Any, ...]],
        shared: Sequence[Any],
        holders: Holders,
    ) -> list[Any]:
        """The task for each chunk, to be computed by a worker that holds the chunk."""
        common = self.dask.delayed(tuple(shared), traverse=False)  # sent once to each worker
        parts = []
        for chunk, workers in zip(inputs, holders, strict=True):
            where = {} if workers is None else {"workers": workers}
            with self.dask.annotate(**where):
                parts.append(self.dask.delayed(_applied)(task, common, *chunk))
        return parts

    def _result(self, build: Callable[[Holders], Any]) -> Any:
        """The value of what is built for the present holders; built anew if one of them is lost."""
        if self.client is None:
            return build([None] * len(self.chunks)).compute()
        while True:
            holders = self._holders()
            future = self.client.compute(build(holders), optimize_graph=False)
            if self._ends(future, {worker for workers in holders for worker in workers or ()}):
                return future.result()

    def _holders(self) -> Holders:
        """The addresses of the workers that hold each chunk."""
        distributed = import_module("distributed")
        futures = distributed.futures_of(self.chunks)
        while True:
            distributed.wait(futures)
            for future in futures:
                if future.status == "error":
                    future.result()  # raises it
            found = self.client.who_has(futures)
            holders: Holders = [list(found.get(chunk.key, ())) for chunk in self.chunks]
            if all(holders):
                return holders

    def homes(self) -> dict[str, dict[int, str]]:
        """The keys of the chunks that each worker is to look after, by their positions."""
        homes: dict[str, dict[int, str]] = {}
        for position, (chunk, workers) in enumerate(zip(self.chunks, self._holders(), strict=True)):
            home = min(workers or (), key=lambda worker: len(homes.get(worker, ())))
            homes.setdefault(home, {})[position] = chunk.key
        return homes

    def are_there(self, workers: Collection[str]) -> bool:
        """Whether none of some workers is lost."""
        return set(workers) <= set(self.client.nthreads())

    def _ends(self, future: Any, workers: Collection[str]) -> bool:
        """Wait for a result; False as soon as one of the workers is found to be lost."""
        wait = import_module("distributed").wait
        while True:
            try:
                wait(future, timeout=PATIENCE)
            except TimeoutError:
                if not self.are_there(workers):
                    return False
            else:
                return True

    @cached_property
    def survey(self) -> Survey:
        """One look at all rows, by the workers; the only one that validates them."""
        survey = self.tree_sum(_survey, [(chunk,) for chunk in self.validated])
        if survey is None:
            raise ValueError("sample_weight: expected a positive value, got zeros only")
        return survey.checked()

    def sample(self, size: int, rng: np.random.Generator) -> Rows:
        """At most ``size`` of the rows, drawn on the workers without replacement."""
        sizes = np.diff(self.starts)
        wanted = min(size, int(sizes.sum()))
        shares = rng.multivariate_hypergeometric(sizes, wanted, method="marginals")
        seeds = rng.integers(2**63, size=len(sizes))
        inputs = list(zip(self.chunks, shares.tolist(), seeds.tolist(), strict=True))

        def all_parts(holders: Holders) -> Any:
            return self.dask.delayed(list)(self._bound(_sampled, inputs, (), holders))

        drawn: list[Rows] = self._result(all_parts)
        weights = None
        if drawn[0].weights is not None:
            weights = np.concatenate([rows.weights for rows in drawn if rows.weights is not None])
        return Rows(np.concatenate([rows.X for rows in drawn]), weights)


class DaskSweep(ChunkSweep):
    """The E-step of all chunks, where they are.

    Parameters
    ----------
    rows : DaskRows
    n_components : int
    kind : str
    """

    rows: DaskRows
    crew: _Crew | None = None

    def __call__(self, mixture: Mixture) -> Statistics:
        """Expected statistics of all rows, and their log-likelihood, under a mixture."""
        options = self.n_components, self.kind, self.frame
        if self.rows.client is None:
            inputs = [(chunk,) for chunk in self.rows.chunks]
            total = self.rows.tree_sum(_swept, inputs, mixture, *options)
        else:
            total = self._of_crew(mixture, options)
        assert total is not None  # or the survey would have failed
        return total

    def _of_crew(self, mixture: Mixture, options: tuple[int, str, Frame]) -> Statistics | None:
        """The total from those who keep the chunks; others are found when some are lost."""
        n_chunks = len(self.rows.chunks)
        while True:
            try:
                if self.crew is None:
                    self.crew = _Crew(self.rows, options)
                nodes = added_in_tree(self.crew.sweep(mixture), n_chunks)
            except _LostError:
                self.crew = None
            else:
                total: Statistics | None = nodes.popitem()[1]
                return total


class _LostError(Exception):
    """A worker, or a chunk that it kept, is no longer there."""


class _Crew:
    """A keeper on each worker that holds chunks."""

    def __init__(self, rows: DaskRows, options: tuple[int, str, Frame]) -> None:
        self.rows = rows
        self.homes = rows.homes()
        n_threads = rows.client.nthreads()
        if not rows.are_there(self.homes):
            raise _LostError
        self.futures = [
            rows.client.submit(
                Keeper,
                keys,
                len(rows.chunks),
                n_threads[worker],
                *options,
                actor=True,
                pure=False,
                workers=[worker],
            )
            for worker, keys in self.homes.items()
        ]
        if not all(rows._ends(future, self.homes) for future in self.futures):
            raise _LostError
        self.keepers = [future.result() for future in self.futures]

    def sweep(self, mixture: Mixture) -> Nodes:
        """What all keepers return.

        Raises
        ------
        _LostError
            If a worker is no longer there, or no longer holds a chunk.
        """
        nodes: Nodes = {}
        try:
            answers = [keeper.swept(mixture) for keeper in self.keepers]
            for answer in answers:
                nodes |= self._awaited(answer)
        except (OSError, RuntimeError):  # what Dask raises where it cannot reach a worker
            if self._is_whole():
                raise
            raise _LostError from None
        return nodes

    def _awaited(self, answer: Any) -> Nodes:
        while True:
            try:
                nodes: Nodes = answer.result(timeout=PATIENCE)
            except TimeoutError:
                if not self.rows.are_there(self.homes):
                    raise _LostError from None
            else:
                return nodes

    def _is_whole(self) -> bool:
        """Whether all workers are still there, for as long as a loss may take to be noticed."""
        for _ in range(10):
            if not self.rows.are_there(self.homes):
                return False
            time.sleep(PATIENCE / 10)
        return True


class Keeper:
    """The E-step of the chunks that one worker holds: an actor, which lives there between passes.

    Parameters
    ----------
    keys : dict of int to str
        Dask's names of the chunks, by their positions among all. They are looked up in each pass,
        so that the worker may keep them on disk meanwhile.
    n_chunks : int
        The number of all chunks.
    n_threads : int
        The worker's own.
    n_components, kind, frame
        For :class:`gmm.sweep.Sweep`.
    """

    def __init__(
        self,
        keys: dict[int, str],
        n_chunks: int,
        n_threads: int,
        n_components: int,
        kind: str,
        frame: Frame,
    ) -> None:
        self.worker = import_module("distributed").get_worker()
        self.keys = sorted(keys.items())
        self.n_chunks = n_chunks
        self.n_threads = n_threads
        self.options = n_components, kind, frame
        self.rooms: dict[int, dict[int, Workspace]] = {}
        self.notes = {at: Notes() for at in keys}

    def swept(self, mixture: Mixture) -> Nodes:
        """Expected statistics of the chunks, added as far as they are neighbours in the tree."""

        def task(thread: int, i: int) -> Statistics | None:
            at, key = self.keys[i]
            try:
                rows = self.worker.data[key]
            except KeyError:
                raise _LostError from None
            room = self.rooms.setdefault(thread, {})
            return _swept(rows, mixture, *self.options, room, self.notes[at])

        parts = threads.run(len(self.keys), task, self.n_threads)
        leaves = {(0, at): part for (at, _), part in zip(self.keys, parts, strict=True)}
        return added_in_tree(leaves, self.n_chunks)


def added_in_tree(nodes: Nodes, n_chunks: int) -> Nodes:
    """The highest sums of the tree that some partial sums suffice for.

    Parameters
    ----------
    nodes : dict
        Partial sums by level and position, over different chunks.
    n_chunks : int
        The number of all chunks, which alone decides what the tree is: on each level neighbours are
        added in pairs, and a last one without a neighbour goes up as it is.

    Examples
    --------
    >>> added_in_tree({(0, 0): 1, (0, 1): 2, (0, 2): 3, (0, 4): 5}, 5)
    {(0, 2): 3, (1, 0): 3, (2, 1): 5}
    """
    nodes = dict(sorted(nodes.items()))
    width, level = n_chunks, 0
    while width > 1:
        for at in range(0, width, 2):
            left, right, parent = (level, at), (level, at + 1), (level + 1, at // 2)
            if at + 1 == width and left in nodes:
                nodes[parent] = nodes.pop(left)
            elif left in nodes and right in nodes:
                nodes[parent] = _add(nodes.pop(left), nodes.pop(right))
        width, level = (width + 1) // 2, level + 1
    return nodes


def _applied(task: Callable[..., Value], shared: tuple[Any, ...], *chunk: Any) -> Value:
    return task(*chunk, *shared)


def _rows(chunk: NDArray[Any], weights: ArrayLike | None) -> Rows:
    """The rows of positive weight, without another look at what they hold."""
    array = np.asarray(chunk)
    if weights is None:
        return Rows(array)
    return Rows(*with_weight(array, np.asarray(weights, dtype=np.float64)))


@sweep_of.register
def _(rows: DaskRows, n_components: int, kind: str) -> DaskSweep:
    return DaskSweep(rows, n_components, kind)


def _validated(chunk: NDArray[Any], weights: ArrayLike | None, first: int) -> Rows:
    """The rows of positive weight, after a look at all of them."""
    array = np.asarray(chunk)
    if len(array):
        as_matrix(array)
        refuse_non_finite(array, "X", first_row=first)
        weights = as_sample_weight(weights, len(array), may_vanish=True)
    return _rows(array, weights)


@digest_of.register
def _(rows: DaskRows) -> Digest:
    total = rows.tree_sum(_digest, [(chunk,) for chunk in rows.chunks])
    assert total is not None  # or the survey would have failed
    return total


def _digest(rows: Rows) -> Digest | None:
    return digest_of(rows) if rows.n_rows else None


def _survey(rows: Rows) -> Survey | None:
    return surveyed(rows) if rows.n_rows else None


def _swept(
    rows: Rows,
    mixture: Mixture,
    n_components: int,
    kind: str,
    frame: Frame,
    workspaces: dict[int, Workspace] | None = None,
    notes: Notes | None = None,
) -> Statistics | None:
    """One chunk's statistics, by one thread: Dask has its own."""
    if not rows.n_rows:
        return None
    sweep = Sweep(
        rows, n_components, kind, frame, n_threads=1, once=True, workspaces=workspaces, notes=notes
    )
    return sweep(mixture)


def _sampled(rows: Rows, size: int, seed: int) -> Rows:
    drawn = rows.sample(size, np.random.default_rng(seed))
    return Rows(np.asarray(drawn.X, dtype=np.float64), drawn.weights)


def _add(left: Any, right: Any) -> Any:
    if left is None or right is None:
        return right if left is None else left
    return left + right


def _dask() -> Any:
    try:
        import dask
    except ImportError:
        raise ImportError(
            "gmm.distributed needs Dask: pip install 'gmm-first-principles[dask]'"
        ) from None
    return dask


def _client() -> Any:
    """The client of a cluster to compute on, or None."""
    try:
        from distributed import get_client
    except ImportError:
        return None
    try:
        return get_client()
    except ValueError:
        return None
