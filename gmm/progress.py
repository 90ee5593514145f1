"""The bar that ``progress=True`` shows while something long goes on."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy as np

from gmm.checks import shown

__all__ = ["Bar"]


class Bar:
    """A bar of tqdm while a context lasts, if it is wanted; otherwise nothing.

    Parameters
    ----------
    progress : bool
        Whether it is wanted.
    unit : str
        What it counts, in the plural.
    total : int, optional
        How many there will be, if that is known.

    Raises
    ------
    TypeError
        If ``progress`` is neither true nor false.
    ImportError
        If it is true and tqdm is not installed.

    Examples
    --------
    >>> with Bar(False, "samples", 3) as bar:
    ...     for _ in range(3):
    ...         bar.advance()
    """

    def __init__(self, progress: bool, unit: str, total: int | None = None) -> None:
        if not isinstance(progress, bool | np.bool_):
            raise TypeError(f"progress: expected True or False, got {shown(progress)}")
        self.tqdm = _tqdm() if progress else None
        self.unit = unit
        self.total = total
        self.shown: Any = None

    def __enter__(self) -> Self:
        if self.tqdm is not None:
            self.shown = self.tqdm(total=self.total, unit=f" {self.unit}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.shown is not None:
            self.shown.close()

    @property
    def is_shown(self) -> bool:
        """Whether there is anything to see: who advances in a tight loop asks this first."""
        return self.shown is not None

    @property
    def count(self) -> int:
        """How far the bar is."""
        return 0 if self.shown is None else int(self.shown.n)

    def describe(self, text: str) -> None:
        """Say what is going on, before the bar."""
        if self.shown is not None:
            self.shown.set_description(text)

    def advance(self, by: int = 1) -> None:
        """Count some more."""
        if self.shown is not None:
            self.shown.update(by)

    def note(self, text: str) -> None:
        """Say what has been reached, behind the bar."""
        if self.shown is not None:
            self.shown.set_postfix_str(text, refresh=False)


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError(
            "progress: needs tqdm: pip install 'gmm-first-principles[progress]'"
        ) from None
    return tqdm
