"""Texts in PNG files."""

from PIL import refuse
from PIL.Image import Image


class PngInfo:
    """Texts to be written with a picture."""

    def __init__(self) -> None:
        self.chunks: list[tuple[bytes, bytes]] = []

    def add_text(self, key: str, value: object, zip: bool = False) -> None:
        """Add one, as Latin-1 if that is possible."""
        name = key.encode("latin-1")
        try:
            self.chunks.append((b"tEXt", name + b"\0" + str(value).encode("latin-1")))
        except UnicodeError:
            self.chunks.append((b"iTXt", name + b"\0\0\0\0\0" + str(value).encode()))


class PngImageFile(Image):
    """A PNG file that is read, which is not possible here."""

    def __init__(self, *args: object, **options: object) -> None:
        refuse("PngImagePlugin.PngImageFile (reading a PNG file)")
