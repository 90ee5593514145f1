"""Values that are worked out when they are first asked for.

Before Python 3.12 :class:`functools.cached_property` holds a lock while it works, one for all
objects of a class: threads wait for each other, and a process that is forked meanwhile waits for
ever. Here two threads that ask at the same time both work the value out, and get the same.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or sys.version_info >= (3, 12):
    cached_property = functools.cached_property
else:

    class cached_property(functools.cached_property):  # noqa: N801 -- as the one it stands for
        """``functools.cached_property`` as it is from Python 3.12 on."""

        def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
            """Return the value, worked out if it is not there."""
            if instance is None:
                return self
            values = instance.__dict__
            if self.attrname not in values:
                values[self.attrname] = self.func(instance)
            return values[self.attrname]
