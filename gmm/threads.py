"""Threads for passes over rows: how many, and how work is dealt to them.

NumPy releases Python's lock inside matrix products and elementwise functions, so blocks of rows can
be worked on at the same time. (Not always: np.matmul keeps the lock where its result has less than
500 numbers, however long the sums are; np.dot never does.) The linear-algebra library's own threads
are held to one meanwhile (with threadpoolctl, where it is installed): they would fight for the same
processors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import count
from threading import Lock
from typing import Any, TypeVar

from gmm.checks import as_count

__all__ = ["number", "one_blas_thread", "run", "use"]

Result = TypeVar("Result")


class _State:
    """What belongs to this process: a forked child starts afresh."""

    limit: int | None = None
    pool: ThreadPoolExecutor | None = None
    size: int = 0
    controller: Any = None
    looked: bool = False
    holds: int = 0
    limiter: Any = None
    lock = Lock()


def _forget() -> None:
    _State.pool, _State.size = None, 0
    _State.holds, _State.limiter, _State.lock = 0, None, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def number() -> int:
    """How many threads a pass may use: by default one for each processor that is available."""
    if _State.limit is not None:
        return _State.limit
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def use(n_threads: int) -> Iterator[None]:
    """Let passes use this many threads while the context lasts.

    Results do not depend on it (:prf:ref:`prop-threads`).

    Examples
    --------
    >>> with use(1):
    ...     number()
    1
    """
    before = _State.limit
    _State.limit = as_count(n_threads, "n_threads")
    try:
        yield
    finally:
        _State.limit = before


def run(
    tasks: int, work: Callable[[int, int], Result], n_threads: int | None = None
) -> list[Result]:
    """The results of ``work(worker, task)`` for all tasks, in the order of the tasks.

    Parameters
    ----------
    tasks : int
    work : callable
        Called with the number of the worker, for its own workspace, and the number of the task.
    n_threads : int, optional
        By default :func:`number`.
    """
    workers = min(number() if n_threads is None else n_threads, tasks)
    if workers <= 1:
        return [work(0, task) for task in range(tasks)]
    results: list[Any] = [None] * tasks
    turn = count()
    over = False

    def labour(worker: int) -> None:
        nonlocal over
        try:
            while not over and (task := next(turn)) < tasks:
                results[task] = work(worker, task)
        finally:  # after the last task, an error or an interrupt, the others take no more turns
            over = True

    with _State.lock:  # others may be running tasks of their own
        if _State.pool is None or _State.size < workers - 1:
            if _State.pool is not None:
                _State.pool.shutdown(wait=False)
            _State.pool, _State.size = ThreadPoolExecutor(workers - 1, "gmm"), workers - 1
        others = [_State.pool.submit(labour, worker) for worker in range(1, workers)]
    try:
        labour(0)
    finally:
        begun = [other for other in others if not other.cancel()]
        wait(begun)
    for other in begun:
        other.result()
    return results


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold the linear-algebra library to one thread, if threadpoolctl is there to ask.

    The setting belongs to the whole process: the first that asks for it makes it, and the last that
    leaves takes it back, whatever threads they are in.
    """
    with _State.lock:
        _State.holds += 1
        if _State.holds == 1:
            _State.limiter = _limiter()
    try:
        yield
    finally:
        with _State.lock:
            _State.holds -= 1
            if _State.holds == 0 and _State.limiter is not None:
                _State.limiter.restore_original_limits()
                _State.limiter = None


def _limiter() -> Any:
    """A limit of one thread that is in force until it is taken back; None without threadpoolctl."""
    if not _State.looked:
        _State.looked = True
        try:
            from threadpoolctl import ThreadpoolController
        except ImportError:
            pass
        else:
            _State.controller = ThreadpoolController()
    if _State.controller is None:
        return None
    return _State.controller.limit(limits=1, user_api="blas")
