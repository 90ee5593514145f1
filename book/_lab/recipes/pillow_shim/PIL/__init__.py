"""In the place of Pillow: it can hand an array to a PNG file, all that drawing as SVG needs.

It is not Pillow and holds none of its code. What it cannot do ends in NotImplementedError.
"""

from typing import NoReturn

__version__ = "0.2.png"


class UnidentifiedImageError(OSError):
    """What Pillow raises for a file that is no picture."""


def refuse(what: str) -> NoReturn:
    """Say that something is missing here."""
    raise NotImplementedError(
        f"PIL.{what} is not available here: this page has a small writer of PNG files in the place "
        "of Pillow, so pictures cannot be read, resized or converted."
    )
