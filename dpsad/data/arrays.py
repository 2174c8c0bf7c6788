"""Arrays and tensors as a set of records."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dpsad.data.config import RANGES
from dpsad.data.labels import numbered
from dpsad.data.pixels import images_of
from dpsad.data.records import CLASSES_OF_DATA, UNLABELLED, ImageSet, validate
from dpsad.errors import require_choice


def image_set_of(
    images: ArrayLike | Tensor,
    labels: ArrayLike | Tensor | None = None,
    *,
    class_names: Sequence[str] | None = None,
    pixel_range: str = "auto",
) -> ImageSet:
    """Takes arrays or tensors for records.

    Args:
        images: [num, height, width], [num, height, width, chan] or [num, chan, height, width] with 1, 3 or 4 (RGBA)
            channels; uint8, uint16 or floats. Transparency is laid over white.
        labels: [num] integers from 0 on, or texts, which become classes in alphabetical order. None: all images are of
            one class, "unlabelled".
        class_names: by label; texts are looked up among them. None takes the numbers up to the largest, or the texts:
            the list of classes is then taken from the data, and counts as public.
        pixel_range: bytes, unit or signed, for 0 to 255, 0 to 1 or -1 to 1: values outside are cut. auto takes uint8
            for bytes and floats for signed, and refuses floats outside.

    Raises:
        ValueError: another shape or type, labels that do not fit; without `class_names`, also a record with a label
            out of range or a pixel that is not finite, and a class without images. With them, such a record is left
            out, and any class may be empty.

    Each id is a hash of the image, its label and how often both came before: a record that comes or goes moves no
    other's, unless they are equal.
    """
    require_choice("pixel_range", pixel_range, RANGES)
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    pixels = images_of(array, pixel_range, where="images")
    own, names = _labels(labels, len(pixels), class_names)
    read_off = (CLASSES_OF_DATA,) if labels is not None and not class_names else ()
    records = ImageSet(images=pixels, labels=own, ids=content_ids(pixels, own), class_names=names, read_off=read_off)
    return validate(records, where="images")


def records_of(images: ArrayLike | Tensor | ImageSet, labels: ArrayLike | Tensor | None = None) -> ImageSet:
    """What a program passes for records, checked: arrays or tensors as `image_set_of` takes them, or an `ImageSet`.

    Raises:
        ValueError: what `image_set_of` or `validate` refuses; labels beside an `ImageSet`.

    Edge cases: latents are no images, and taken as they are.
    """
    if not isinstance(images, ImageSet):
        return image_set_of(images, labels)
    if labels is not None:
        raise ValueError("labels beside an ImageSet, which has its own; leave them out")
    images = replace(images)  # another set: a program may have changed its pixels since they were last looked at
    return images if images.origin is not None else validate(images, where="images")


def content_ids(images: Tensor, labels: Tensor | Sequence[int | str]) -> tuple[str, ...]:
    """An id for each record from its pixels, its label and its occurrence number among equal ones."""
    own = labels.tolist() if isinstance(labels, Tensor) else labels
    pixels = images.contiguous().numpy()
    return ids_of(f"{label} ".encode() + image.tobytes() for image, label in zip(pixels, own, strict=True))


def ids_of(contents: Iterable[bytes]) -> tuple[str, ...]:
    """An id for each content from its bytes and its occurrence number among equal ones.

    Source: BLAKE2b, RFC 7693.
    """
    seen: Counter[bytes] = Counter()
    ids = []
    for content in contents:
        digest = hashlib.blake2b(content, digest_size=16)
        seen[digest.digest()] += 1
        ids.append(f"{digest.hexdigest()}-{seen[digest.digest()]}")
    return tuple(ids)


def _labels(
    labels: ArrayLike | Tensor | None, num: int, class_names: Sequence[str] | None
) -> tuple[Tensor, tuple[str, ...]]:
    if labels is None:
        return torch.zeros(num, dtype=torch.int64), (UNLABELLED,)
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (num,):
        raise ValueError(f"labels have shape {list(array.shape)}, there are {num} images; give each image one label")
    if array.dtype.kind in "US":
        texts = array.astype(str)
        names = tuple(class_names or sorted(set(texts.tolist())))
        return torch.from_numpy(numbered(texts, names, 0)), names
    if array.dtype.kind not in "iu":
        raise ValueError(f"labels are {array.dtype}; expected integers from 0 on, or texts")
    own = torch.from_numpy(array.astype(np.int64))
    largest = int(own.max()) if num else -1
    # more classes than records cannot all have one; `validate` then names the label that is out of range
    return own, tuple(class_names or map(str, range(min(largest + 1, max(1, num)))))
