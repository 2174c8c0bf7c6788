"""Data source: NumPy archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpsad.data.config import DataConfig
from dpsad.data.pixels import channels_first, from_bytes
from dpsad.data.records import UNLABELLED, ImageSet
from dpsad.data.splits import held_out


def read_npz(config: DataConfig, split: str) -> ImageSet:
    """Reads an .npz file that is split as MedMNIST's are, or holds plain `images` and `labels` as samples do.

    Keys are `train_images`, `train_labels`, `test_images`, `test_labels`; other keys are ignored. Plain `images` and
    `labels` are split 80/20 by a hash of the index. Images are [num, height, width] or [num, height, width, chan] with
    1 or 3 channels: uint8, or floats in [0, 1] or [-1, 1], told apart by whether this split has a negative pixel.
    Labels are [num] or [num, 1] integers; with `pseudo_labels` they may be missing, and all records are of one class,
    "unlabelled". Where `num_classes` is 0 it is the largest label plus one. Pickles are never loaded.

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
    images = _images(_array(path, f"{prefix}images", where), f"{where}: {prefix}images")
    class_names: tuple[str, ...] = (UNLABELLED,)
    own = torch.zeros(len(images), dtype=torch.int64)
    if not unlabelled:
        labels = {key: _labels(_array(path, key, where), f"{where}: {key}") for key in label_keys}
        own = labels[f"{prefix}labels"]
        class_names = tuple(str(label) for label in range(config.num_classes or _num_classes(labels)))
    if len(images) != len(own):
        raise ValueError(f"{where}: {len(images)} {prefix}images but {len(own)} {prefix}labels; make them equal")

    records = ImageSet(
        images=images,
        labels=own,
        ids=tuple(f"{split}-{index:06d}" if prefix else f"{index:06d}" for index in range(len(own))),
        class_names=class_names,
    )
    if prefix:
        return records
    return records.take(torch.tensor([held_out(name) == (split == "test") for name in records.ids], dtype=torch.bool))


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


def _images(array: np.ndarray, where: str) -> Tensor:
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
        raise ValueError(
            f"{where} has shape {list(array.shape)}; "
            "expected [num, height, width] or [num, height, width, chan] with 1 or 3 channels"
        )
    if array.dtype == np.uint8:
        return from_bytes(array)
    if array.dtype.kind != "f":
        raise ValueError(f"{where} is {array.dtype}; expected uint8, or floats in [0, 1] or [-1, 1]")
    images = channels_first(array)
    finite = images[images.isfinite()]
    low, high = (finite.min().item(), finite.max().item()) if len(finite) else (0.0, 0.0)
    if low < -1 or high > 1:
        raise ValueError(
            f"{where} holds floats in [{low:g}, {high:g}]; expected [0, 1] or [-1, 1]: rescale them, or save uint8"
        )
    return images if low < 0 else images.mul_(2).sub_(1)
