"""Arrays and tensors as a set of records."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dpsad.data.pixels import channels_first, from_bytes
from dpsad.data.records import UNLABELLED, ImageSet, validate


def image_set_of(
    images: ArrayLike | Tensor, labels: ArrayLike | Tensor | None = None, *, class_names: Sequence[str] | None = None
) -> ImageSet:
    """Takes arrays or tensors for records.

    Args:
        images: [num, height, width], [num, height, width, chan] or [num, chan, height, width] with 1 or 3 channels;
            uint8, or floats in [-1, 1].
        labels: [num] integers from 0 on, or texts, which become classes in alphabetical order. None: all images are of
            one class, "unlabelled".
        class_names: by label; None takes the numbers, or the texts.

    Raises:
        ValueError: another shape, type or range, labels that do not fit, a class without images.

    Each id is a hash of the image, its label and how often both came before: a record that comes or goes moves no
    other's, unless they are equal.
    """
    pixels = _pixels(images)
    own, names = _labels(labels, len(pixels), class_names)
    return validate(
        ImageSet(images=pixels, labels=own, ids=content_ids(pixels, own), class_names=names), where="images"
    )


def content_ids(images: Tensor, labels: Tensor) -> tuple[str, ...]:
    """An id for each record from its pixels, its label and its occurrence number among equal ones.

    Source: BLAKE2b, RFC 7693.
    """
    seen: Counter[bytes] = Counter()
    ids = []
    for image, label in zip(images.contiguous().numpy(), labels.tolist(), strict=True):
        digest = hashlib.blake2b(f"{label} ".encode() + image.tobytes(), digest_size=16)
        seen[digest.digest()] += 1
        ids.append(f"{digest.hexdigest()}-{seen[digest.digest()]}")
    return tuple(ids)


def _pixels(images: ArrayLike | Tensor) -> Tensor:
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    if array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise ValueError(
            f"images have shape {list(array.shape)}; expected [num, height, width], [num, height, width, chan] or "
            "[num, chan, height, width] with 1 or 3 channels"
        )
    if array.dtype == np.uint8:
        return from_bytes(array)
    if array.dtype.kind != "f":
        raise ValueError(f"images are {array.dtype}; expected uint8, or floats in [-1, 1]")
    pixels = channels_first(array)
    low, high = (pixels.min().item(), pixels.max().item()) if pixels.numel() else (0.0, 0.0)
    if low < -1 or high > 1:
        raise ValueError(
            f"images hold floats in [{low:g}, {high:g}]; expected [-1, 1]: pass uint8, or rescale them by a public rule"
        )
    return pixels


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
        names, array = np.unique(array, return_inverse=True)
        return torch.from_numpy(array.astype(np.int64)), tuple(map(str, class_names or names))
    if array.dtype.kind not in "iu":
        raise ValueError(f"labels are {array.dtype}; expected integers from 0 on, or texts")
    own = torch.from_numpy(array.astype(np.int64))
    largest = int(own.max()) if num else -1
    # more classes than records cannot all have one; `validate` then names the label that is out of range
    return own, tuple(class_names or map(str, range(min(largest + 1, max(1, num)))))
