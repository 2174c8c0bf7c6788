"""From an image file, or its bytes, to pixels: every format comes out as 8 bits, grey or RGB, each image by itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dpsad.data.pixels import LIMITS
from dpsad.errors import require_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm", ".pbm", ".pnm")
ORIENTATION = 0x0112  # Exif's tag; from 5 on, width and height change places


@dataclass(frozen=True)
class Header:
    """What a file says of its image before its pixels are decoded.

    size: (width, height), upright.
    colour: whether it may have any.
    format, mode: as Pillow calls them.
    transparent: whether it has an alpha channel or a transparent colour.
    animated: whether it has more frames or pages than one.
    """

    size: tuple[int, int]
    colour: bool
    format: str
    mode: str
    transparent: bool
    animated: bool


def header_of(stored: Path | bytes, name: str) -> Header:
    """Reads the header alone.

    Args:
        stored: a file, or its bytes.
        name: of the image, for the error.

    Raises:
        ValueError: it is no image.
    """
    with _opened(stored, name) as image:
        width, height = image.size
        if image.getexif().get(ORIENTATION, 1) >= 5:
            width, height = height, width
        return Header(
            size=(width, height),
            colour=_has_colour(image),
            format=image.format or "",
            mode=image.mode,
            transparent=image.has_transparency_data,
            animated=getattr(image, "is_animated", False),
        )


def decode(stored: Path | bytes, name: str, *, colour: bool, side: int, pixel_range: str) -> np.ndarray:
    """Decodes an image, of several frames or pages the first, upright.

    16 bits are brought to 8 over their full range, and transparency is laid over white.

    Args:
        stored: a file, or its bytes.
        name: of the image, for the error.
        colour: RGB; else luminance.
        side: of the square to resize to, with antialiasing; 0 keeps the size.
        pixel_range: of floats, which TIFF may hold: bytes, unit or signed; values outside are cut.

    Returns:
        [height, width] or [height, width, 3] uint8.

    Raises:
        ValueError: it cannot be decoded, or holds floats and the range is auto.
    """
    with _opened(stored, name) as first:
        image = _in_8_bits(ImageOps.exif_transpose(first), pixel_range)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB" if colour else "L")
        if side and image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(image)


@contextmanager
def _opened(stored: Path | bytes, name: str) -> Iterator[Image.Image]:
    try:
        if isinstance(stored, Path):
            require_file(stored, name)
        with Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored) as image:
            yield image
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more for broken bytes
        raise ValueError(f"cannot decode {name} ({error}); replace or remove the file") from error


def _in_8_bits(image: Image.Image, pixel_range: str) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.mode != "F":
        return image
    if pixel_range == "auto":
        raise ValueError("it holds floats: pass data.range=unit, signed or bytes")
    pixels = np.asarray(image)
    if not np.isfinite(pixels).all():
        raise ValueError("a pixel is not finite")
    low, high = LIMITS[pixel_range]
    return Image.fromarray(((pixels.clip(low, high) - low) * (255 / (high - low))).round().astype(np.uint8))


def _has_colour(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        return bool((palette != palette[:, :1]).any())
    return not image.mode.startswith(("1", "L", "I", "F")) or image.mode == "LAB"
