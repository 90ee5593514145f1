"""Modules that are imported when they are used: most cells import matplotlib, fewer draw."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


class DeferredModule(ModuleType):
    """A module that is executed when one of its attributes is asked for.

    Parameters
    ----------
    name : str
        Its full name.
    before : callable
        Called before the module is looked for; it brings the files.
    after : callable
        Called when the module has been executed.
    """

    def __init__(self, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
        super().__init__(name)
        self.__dict__["_hooks"] = before, after

    def __getattr__(self, attribute: str) -> Any:
        before, after = self.__dict__.pop("_hooks")
        self.__class__ = ModuleType  # type: ignore[assignment]  # Python allows it for modules, mypy for nothing
        try:
            before()
            _execute(self)
        except BaseException:  # the next use tries again
            self.__class__ = DeferredModule
            self.__dict__["_hooks"] = before, after
            raise
        after()
        return getattr(self, attribute)


def _execute(module: ModuleType) -> None:
    parent, _, _ = module.__name__.rpartition(".")
    places = sys.modules[parent].__path__ if parent else None
    spec = importlib.machinery.PathFinder.find_spec(module.__name__, places)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)
    module.__spec__ = spec
    module.__loader__ = spec.loader
    module.__file__ = spec.origin
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    module.__package__ = spec.parent
    spec.loader.exec_module(module)


def defer(before: Callable[[], None], after: Mapping[str, Callable[[], None]]) -> None:
    """Put modules in their places that are executed when they are used.

    Parameters
    ----------
    before : callable
        Called once, before the first of them is looked for.
    after : mapping of str to callable
        The names of the modules, a package before what is in it, and what is called when each has
        been executed.
    """
    waiting = [before]

    def once() -> None:
        if waiting:
            waiting[0]()
            waiting.clear()

    for name, then in after.items():
        module = DeferredModule(name, once, then)
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            sys.modules[parent].__dict__[last] = module


def is_deferred(name: str) -> bool:
    """Return whether a module is still waiting to be used."""
    return isinstance(sys.modules.get(name), DeferredModule)
