"""A function in a process of its own, with a limit of time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_context = multiprocessing.get_context("spawn")


def isolated(function: Callable[..., Any], *arguments: Any, timeout: float) -> Any:
    """What a function of a module returns, called in a fresh process.

    Parameters
    ----------
    function, arguments
        They must be picklable.
    timeout : float
        Seconds, after which the process is killed.

    Raises
    ------
    TimeoutError
    RuntimeError
        If the function raises, or the process dies.
    """
    receiver, sender = _context.Pipe(duplex=False)
    process = _context.Process(target=_answer, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            raise TimeoutError(f"no answer within {timeout:.0f} s")
        succeeded, value = receiver.recv()
    except EOFError:
        raise RuntimeError("the process ended without an answer") from None
    finally:
        process.kill()
        process.join()
    if not succeeded:
        raise RuntimeError(value)
    return value


def _answer(
    sender: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    try:
        sender.send((True, function(*arguments)))
    except Exception as error:
        sender.send((False, f"{type(error).__name__}: {error}"))
