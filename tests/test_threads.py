"""Work on threads gives the results of work without them, and its errors."""

from __future__ import annotations

import os
import threading
import time

import pytest
import threadpoolctl

from gmm import threads


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_tasks(n_threads: int) -> None:
    def work(worker: int, task: int) -> tuple[int, int]:
        time.sleep(0.002 * (task % 3))  # so that they do not end in this order
        return worker, task

    results = threads.run(20, work, n_threads)
    assert [task for _, task in results] == list(range(20))
    assert {worker for worker, _ in results} <= set(range(n_threads))


def test_every_task_is_done_once() -> None:
    done: list[int] = []
    threads.run(200, lambda _, task: done.append(task), 3)
    assert sorted(done) == list(range(200))


def test_no_tasks_give_no_results() -> None:
    assert threads.run(0, lambda worker, task: task, 3) == []


def test_workers_run_at_the_same_time() -> None:
    """Three tasks that wait for one another end only if three threads are at work."""
    barrier = threading.Barrier(3, timeout=10)
    assert sorted(threads.run(3, lambda worker, task: barrier.wait() >= 0, 3)) == [True] * 3


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("guilty", [0, 7, 19])
def test_an_error_reaches_the_caller(n_threads: int, guilty: int) -> None:
    def work(worker: int, task: int) -> int:
        if task == guilty:
            raise ArithmeticError(f"task {task}")
        return task

    with pytest.raises(ArithmeticError, match=f"task {guilty}"):
        threads.run(20, work, n_threads)
    assert threads.run(3, lambda worker, task: task, n_threads) == [0, 1, 2]  # and work goes on


def test_callers_in_several_threads_do_not_disturb_one_another() -> None:
    """They share one pool, which grows for whoever asks for more."""
    results: dict[int, list[int]] = {}

    def caller(number: int) -> None:
        for _ in range(50):
            results[number] = threads.run(10, lambda _, task: task * number, 1 + number)

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(1, 6)]
    for each in callers:
        each.start()
    for each in callers:
        each.join(timeout=30)
    assert results == {n: [n * task for task in range(10)] for n in range(1, 6)}


def test_a_task_may_run_tasks() -> None:
    """Whoever finds the pool busy does the work alone instead of waiting for a turn."""

    def outer(_: int, task: int) -> list[int]:
        return threads.run(4, lambda _, inner: 10 * task + inner, 3)

    assert threads.run(6, outer, 3) == [[10 * t + i for i in range(4)] for t in range(6)]


def test_a_caller_does_not_wait_for_another_s_tasks() -> None:
    """With all threads of the pool held by one caller, another still comes to its end."""
    held, ended = threading.Event(), threading.Event()

    def slow(worker: int, task: int) -> bool:
        held.set()
        return ended.wait(timeout=10)

    other = threading.Thread(target=threads.run, args=(3, slow, 3))
    other.start()
    assert held.wait(timeout=10)
    time.sleep(0.05)
    assert threads.run(5, lambda _, task: task, 3) == list(range(5))
    assert other.is_alive()
    ended.set()
    other.join(timeout=10)


def test_an_error_of_the_caller_s_own_task_ends_the_others() -> None:
    done: list[int] = []

    def work(worker: int, task: int) -> None:
        if worker == 0:
            raise KeyboardInterrupt
        time.sleep(0.001)
        done.append(task)

    with pytest.raises(KeyboardInterrupt):
        threads.run(1000, work, 2)
    assert len(done) < 500


def test_use_sets_the_number_and_restores_it() -> None:
    before = threads.number()
    assert before >= 1
    with threads.use(3):
        assert threads.number() == 3
        with threads.use(1):
            assert threads.number() == 1
        assert threads.number() == 3
    assert threads.number() == before
    with pytest.raises(ArithmeticError), threads.use(5):
        raise ArithmeticError
    assert threads.number() == before


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2"])
def test_use_refuses_what_is_no_number_of_threads(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match="n_threads"), threads.use(wrong):  # type: ignore[arg-type]  # wrong
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork beside threads: that is the point
def test_a_forked_child_makes_threads_of_its_own() -> None:
    """Threads do not survive a fork: a child that waited for its parent's would wait for ever."""
    assert threads.run(4, lambda worker, task: task, 2) == [0, 1, 2, 3]
    child = os.fork()
    if child == 0:
        barrier = threading.Barrier(2, timeout=5)
        try:  # both workers are needed
            threads.run(2, lambda worker, task: barrier.wait(), 2)
        except BaseException:
            os._exit(1)
        os._exit(0)
    until = time.monotonic() + 10
    ended, status = os.waitpid(child, os.WNOHANG)
    while ended == 0 and time.monotonic() < until:
        time.sleep(0.01)
        ended, status = os.waitpid(child, os.WNOHANG)
    if ended == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended == child
    assert os.waitstatus_to_exitcode(status) == 0


def test_one_hold_on_blas_outlasts_another() -> None:
    """Threads that enter and leave in any order: held while any is inside, and then free again."""
    controller = threadpoolctl.ThreadpoolController()

    def sizes() -> set[int]:
        return {part["num_threads"] for part in controller.info() if part["user_api"] == "blas"}

    before = sizes()
    first, second = threads.one_blas_thread(), threads.one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sizes() == {1}
    second.__exit__(None, None, None)
    assert sizes() == before
