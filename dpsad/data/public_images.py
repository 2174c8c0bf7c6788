"""Public images by their content, so that none of them is a record, whatever file it comes in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from dpsad.data.pixels import resized, to_grey
from dpsad.data.records import ImageSet
from dpsad.privacy.provenance import Provenance, PublicImages

CHUNK = 8192  # images that are brought to bytes at once


def hashed(images: ImageSet, size: tuple[int, int] | None = None) -> PublicImages:
    """Notes which images these are: a hash of each one's luminance in 256 levels.

    Neither labels, order, names nor the kind of file matter, and grey images are the same in one channel or three.

    Args:
        images: a set, or latents of one, which go by their origin.
        size: (height, width) to resize to first; None keeps theirs.

    Two different images have the same hash with a probability of 2^-64.
    Edge cases: images of one level alone are left out; they are nobody's, and equal ones need no common source.

    Source: BLAKE2b, RFC 7693.
    """
    pictures = images if images.origin is None else images.origin
    size = size or pictures.image_shape[1:]
    hashes: set[bytes] = set()
    for part in pictures.images.split(CHUNK):
        grey = to_grey(part) if part.shape[1] == 3 else part
        levels = resized(grey.cpu(), size).add(1).mul_(127.5).round_().byte().flatten(1).numpy()
        varied = levels[levels.min(axis=1) < levels.max(axis=1)]
        hashes.update(hashlib.blake2b(image, digest_size=8).digest() for image in varied)
    return PublicImages(size, b"".join(sorted(hashes)))


def public_images_in(images: ImageSet) -> tuple[PublicImages, ...]:
    """What a model notes that learns from a set: its images where they are taken to be public; of records, nothing."""
    return (hashed(images),) if images.provenance is Provenance.PUBLIC else ()


def require_apart(what: str, seen: Sequence[PublicImages], records: ImageSet) -> None:
    """Refuses public images among which there are records; records are compared at the size of the public images.

    Args:
        what: who brought the images, for the error.
        seen: sets that were taken to be public; those that nobody noted pass.
        records: the private records, or latents of them.

    Raises:
        ValueError: a record is among them.

    Formal guarantee: none of its own. A model of public images costs nothing only where they hold no record; this finds
    equal ones, not similar ones. That there are some is told to whoever runs it, before anything is released.
    """
    for public in seen:
        if public.hashes is not None and _are_some_in_both(public.hashes, hashed(records, public.size).hashes or b""):
            raise ValueError(
                f"{what}: some of the images that were taken to be public are records themselves, and nothing here "
                "protects public images; pass other ones (public_data.source, .name, .path; public=... in Python), or "
                "a model that learned from others"
            )


def _are_some_in_both(one: bytes, other: bytes) -> bool:
    return bool(np.isin(np.frombuffer(one, np.uint64), np.frombuffer(other, np.uint64)).any())
