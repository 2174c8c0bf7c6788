"""Images that are there twice: equal ones by their pixels, likely near ones by small thumbnails."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np
from PIL import Image

SIDE = 8  # of a thumbnail: 64 bits say where it is above its mean
TOLERANCE = 1.0  # levels of 256 between two thumbnails, on average; with 2, one in fifty digits of MNIST has a double


def content_hash(pixels: np.ndarray) -> str:
    """The same for the same pixels, whatever file they came in, and grey or equal red, green and blue.

    Args:
        pixels: [height, width] or [height, width, 3] uint8.

    Source: BLAKE2b, RFC 7693.
    """
    if pixels.ndim == 3 and not has_colour(pixels):
        pixels = np.ascontiguousarray(pixels[..., 0])
    return hashlib.blake2b(f"{pixels.shape} ".encode() + pixels.tobytes(), digest_size=16).hexdigest()


def has_colour(pixels: np.ndarray) -> bool:
    """Whether any pixel of [height, width] or [height, width, 3] is other than grey."""
    return pixels.ndim == 3 and bool((pixels != pixels[..., :1]).any())


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """[height, width] or [height, width, 3] uint8 -> [64] uint8, mean luminance of 8x8 parts."""
    return np.asarray(Image.fromarray(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)).ravel()


def equal_groups(keys: Sequence[Hashable]) -> list[list[int]]:
    """Places of equal keys, two or more in each group, in the order of the first."""
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return [group for group in places.values() if len(group) > 1]


def near_groups(thumbnails: np.ndarray) -> list[list[int]]:
    """Places of images that are likely alike: the same average hash, and nearly the same thumbnail as their first.

    Args:
        thumbnails: [num, 64] uint8.

    Edge cases: cheap rather than complete. Of copies as JPEG of quality 90 it finds nine in ten, and takes one in 1,400
        digits of MNIST for another's copy; one that was cut, turned or brightened, or resized from few pixels, is not
        found.

    Source: average hash, Krawetz 2011 ("Looks Like It").
    """
    averages = thumbnails.mean(axis=1, keepdims=True)
    hashes = np.packbits(thumbnails > averages, axis=1)
    groups: dict[bytes, list[list[int]]] = {}
    for place, bits in enumerate(hashes):
        alike = groups.setdefault(bits.tobytes(), [])
        for group in alike:
            if np.abs(thumbnails[place].astype(np.int16) - thumbnails[group[0]]).mean() <= TOLERANCE:
                group.append(place)
                break
        else:
            alike.append([place])
    return sorted(group for alike in groups.values() for group in alike if len(group) > 1)
