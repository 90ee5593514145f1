"""Pictures with eight bits in a channel: grey or colours, with or without transparency."""

import builtins
import os
import struct
import zlib
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from PIL import UnidentifiedImageError, refuse

__all__ = ["Image", "UnidentifiedImageError", "fromarray", "frombuffer", "open"]

#: Number of channels, and PNG's number for it, of each mode.
CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
COLOUR_TYPES = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}
MODES = {channels: mode for mode, channels in CHANNELS.items()}
SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: PNG's filter that writes the difference to the row above.
ABOVE = 2
INCH = 0.0254  # metres


class Image:
    """An array (height, width) or (height, width, channels) of bytes."""

    format = None

    def __init__(self, pixels: Any, mode: str) -> None:
        self.pixels = pixels
        self.mode = mode
        self.info: dict[str, object] = {}

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def width(self) -> int:
        """The width."""
        return self.size[0]

    @property
    def height(self) -> int:
        """The height."""
        return self.size[1]

    @property
    def __array_interface__(self) -> Any:
        return np.ascontiguousarray(self.pixels).__array_interface__

    def copy(self) -> "Image":
        """Return another picture with the same pixels."""
        return Image(self.pixels.copy(), self.mode)

    def tobytes(self) -> bytes:
        """Return the pixels, row after row."""
        data: bytes = self.pixels.tobytes()
        return data

    def save(
        self,
        fp: Any,
        format: str | None = None,
        dpi: tuple[float, float] | None = None,
        pnginfo: Any = None,
        compress_level: int = 6,
        optimize: bool = False,
        **others: object,
    ) -> None:
        """Write a PNG file."""
        if format is None:
            format = os.path.splitext(os.fspath(fp))[1].lstrip(".")
        if format.lower() != "png":
            refuse(f"Image.save(format={format!r})")
        if others:
            refuse(f"Image.save({', '.join(sorted(others))}=...)")
        texts = pnginfo.chunks if pnginfo else ()
        data = encoded(self.pixels, self.mode, dpi, texts, 9 if optimize else compress_level)
        if hasattr(fp, "write"):
            fp.write(data)
        else:
            with builtins.open(fp, "wb") as file:
                file.write(data)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith(("__", "_repr_")):
            raise AttributeError(name)
        refuse(f"Image.Image.{name}")


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a part of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encoded(
    pixels: Any,
    mode: str,
    dpi: tuple[float, float] | None = None,
    texts: Iterable[tuple[bytes, bytes]] = (),
    level: int = 6,
) -> bytes:
    """Return a PNG file."""
    height, width = pixels.shape[:2]
    if not height or not width:
        raise ValueError("cannot write empty image as PNG")
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = ABOVE
    filtered[:, 1:] = rows
    filtered[1:, 1:] -= rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 8, COLOUR_TYPES[mode], 0, 0, 0)
    parts = [SIGNATURE, chunk(b"IHDR", header)]
    if dpi:
        per_metre = (int(dots / INCH + 0.5) for dots in dpi)
        parts.append(chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    parts += [chunk(kind, body) for kind, body in texts]
    parts.append(chunk(b"IDAT", zlib.compress(filtered.tobytes(), level)))
    parts.append(chunk(b"IEND", b""))
    return b"".join(parts)


def fromarray(obj: Any, mode: str | None = None) -> Image:
    """Return a picture of an array of bytes."""
    pixels = np.asarray(obj)
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1]
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels not in MODES:
        raise TypeError(
            f"Cannot handle this data type: shape {pixels.shape}, {pixels.dtype} (8-bit L, LA, RGB "
            "and RGBA only)"
        )
    if mode not in (None, MODES[channels]):
        refuse(f"Image.fromarray(mode={mode!r})")
    return Image(pixels, MODES[channels])


def frombuffer(
    mode: str, size: tuple[int, int], data: Any, decoder_name: str = "raw", *args: Any
) -> Image:
    """Return a picture of bytes, row after row."""
    plain = not args or args[0] == mode
    upright = len(args) < 3 or args[2] == 1
    if mode not in CHANNELS or decoder_name != "raw" or not (plain and upright):
        refuse(f"Image.frombuffer({mode!r}, {decoder_name!r}, {args!r})")
    width, height = size
    channels = CHANNELS[mode]
    pixels = np.frombuffer(data, np.uint8, width * height * channels)
    shape = (height, width, channels) if channels > 1 else (height, width)
    return Image(pixels.reshape(shape), mode)


def open(fp: object, *args: object, **options: object) -> NoReturn:
    """Refuse to read a picture."""
    refuse("Image.open")


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(name)
    refuse(f"Image.{name}")
