"""Data source: NumPy archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpsad.data.arrays import content_ids
from dpsad.data.config import DataConfig
from dpsad.data.pixels import images_of
from dpsad.data.records import CLASSES_OF_DATA, RANGE_OF_DATA, UNLABELLED, ImageSet
from dpsad.data.splits import held_out


def read_npz(config: DataConfig, split: str) -> ImageSet:
    """Reads an .npz file that is split as MedMNIST's are, or holds plain `images` and `labels` as samples do.

    Keys are `train_images`, `train_labels`, `test_images`, `test_labels`; other keys are ignored. Plain `images` and
    `labels` are split 80/20 by a hash of the record. Images are as `images_of` takes them, in the stated `range`; where
    it is auto, floats are in [-1, 1] if this split has a negative pixel, else in [0, 1]. Labels are [num] or [num, 1]
    integers; with `pseudo_labels` they may be missing, and all records are of one class, "unlabelled". Classes are
    `class_names`, or numbers: `num_classes` of them, or, where neither is stated, up to the largest label. Pickles are
    never loaded. An id is a hash of the image, its label and how often both came before.

    Raises:
        ValueError: no file, a broken file, missing keys, or arrays of another shape, type or range.
    """
    if config.path is None:
        raise ValueError("data.path is not set; data.source=npz needs data.path=..., an .npz file")
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise ValueError(f"no file at data.path='{config.path}' (looked for {path.absolute()}); pass data.path=...")
    where = f"data.path='{config.path}'"
    keys = _keys(path, where)
    unlabelled = config.pseudo_labels > 0 and not any(key.endswith("labels") for key in keys)
    needed = ("images",) if unlabelled else ("images", "labels")
    if {f"{side}_{what}" for side in ("train", "test") for what in needed} <= set(keys):
        prefix, label_keys = f"{split}_", ["train_labels", "test_labels"]
    elif set(needed) <= set(keys):
        prefix, label_keys = "", ["labels"]
    else:
        raise ValueError(
            f"{where}: found keys {', '.join(keys) or 'none'}; expected train_images, train_labels, test_images and "
            "test_labels, or images and labels; without labels, pass data.pseudo_labels=... (guarantee=nominal alone)"
        )
    array = _array(path, f"{prefix}images", where)
    pixel_range = _unit_or_auto(array) if config.range == "auto" else config.range
    images = images_of(array, pixel_range, where=f"{where}: {prefix}images")
    read_off = [RANGE_OF_DATA] if config.range == "auto" and array.dtype != np.uint8 else []
    class_names: tuple[str, ...] = (UNLABELLED,)
    own = torch.zeros(len(images), dtype=torch.int64)
    if not unlabelled:
        labels = {key: _labels(_array(path, key, where), f"{where}: {key}") for key in label_keys}
        own = labels[f"{prefix}labels"]
        numbers = range(config.num_classes or _num_classes(labels))
        class_names = config.class_names or tuple(str(label) for label in numbers)
        read_off += [] if config.class_names or config.num_classes else [CLASSES_OF_DATA]
    if len(images) != len(own):
        raise ValueError(f"{where}: {len(images)} {prefix}images but {len(own)} {prefix}labels; make them equal")

    records = ImageSet(
        images=images,
        labels=own,
        ids=content_ids(images, own),
        class_names=class_names,
        read_off=tuple(read_off),
    )
    if prefix:
        return records
    return records.take(torch.tensor([held_out(name) == (split == "test") for name in records.ids], dtype=torch.bool))


def _unit_or_auto(array: np.ndarray) -> str:
    """unit for floats that are all in [0, 1]; else the type decides."""
    if array.dtype.kind != "f":
        return "auto"
    finite = array[np.isfinite(array)]
    return "unit" if ((finite >= 0) & (finite <= 1)).all() else "auto"


def _keys(path: Path, where: str) -> list[str]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file.keys())
    except Exception as error:  # numpy and zipfile raise half a dozen kinds for broken bytes
        raise ValueError(f"{where}: not a readable .npz file ({error}); write it again with numpy.savez") from error


def _array(path: Path, key: str, where: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file[key]
    except Exception as error:
        raise ValueError(f"{where}: cannot read '{key}' ({error}); write it again without pickled objects") from error


def _num_classes(labels: dict[str, Tensor]) -> int:
    """Largest label plus one, at most one class a record: `validate` then names the label that is out of range."""
    known = torch.cat(list(labels.values()))
    return min(max(int(known.max()) + 1, 1), len(known)) if len(known) else 1


def _labels(array: np.ndarray, where: str) -> Tensor:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{where} is {array.dtype} {list(array.shape)}; expected one integer class a record, [num] or [num, 1]"
        )
    return torch.from_numpy(array.astype(np.int64))
