"""Values that are worked out once, by any number of threads and in forked processes."""

from __future__ import annotations

import threading

from gmm.cached import cached_property


class Slow:
    """An object whose value takes until the event is set."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.ready = threading.Event()
        self.times = 0

    @cached_property
    def value(self) -> float:
        """A value."""
        self.times += 1
        self.asked.set()
        assert self.ready.wait(10)
        return 2.0


def test_value_is_worked_out_once() -> None:
    slow = Slow()
    slow.ready.set()
    assert [slow.value, slow.value, slow.times] == [2.0, 2.0, 1]
    assert isinstance(Slow.value, cached_property)
    assert Slow.value.__doc__ == "A value."


def test_nobody_waits_for_another_object() -> None:
    """Which is why a forked process never does: it has no other thread that could end."""
    slow, quick = Slow(), Slow()
    quick.ready.set()
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert slow.asked.wait(10)
    assert quick.value == 2.0  # while the other is at work
    slow.ready.set()
    thread.join(10)
    assert slow.value == 2.0
