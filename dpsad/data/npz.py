"""Data source: NumPy archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dpsad.data.arrays import content_ids
from dpsad.data.config import DataConfig
from dpsad.data.files import at_home
from dpsad.data.labels import flat_labels, names_found, numbered, numbers_from, remarks_on
from dpsad.data.npz_file import ArrayHeader, array_of, header_of, keys_of
from dpsad.data.pixels import images_of, layout_of
from dpsad.data.reading import NEITHER_SIDE, ReadReport
from dpsad.data.records import CLASSES_OF_DATA, RANGE_OF_DATA, UNLABELLED, ImageSet
from dpsad.data.splits import held_out, require_classes_on_both


def read_npz(config: DataConfig, split: str) -> ImageSet:
    """Reads an .npz file that is split as MedMNIST's are, or holds plain `images` and `labels` as samples do.

    Keys are `train_images`, `train_labels`, `test_images`, `test_labels`; other images are counted and not read. Plain
    `images` and `labels` are split 80/20 by a hash of the record. Images are as `images_of` takes them, in the stated
    `range`; where it is auto, floats are in [-1, 1] if this split has a negative pixel, else in [0, 1]. Labels are as
    `flat_labels` takes them; with `pseudo_labels` they may be missing, and all records are of one class, "unlabelled".
    Classes are `class_names`, or `num_classes` numbers, from `first_label` on; where neither is stated, the texts or
    numbers of both sides. Pickles are never loaded. An id is a hash of the image, its label as it is in the file, and
    how often both came before.

    Raises:
        ValueError: no file, a broken file, missing keys, arrays of another shape, type or range than can be read, or
            than the other side's; where classes are not stated, a class on one side alone.
    """
    if config.path is None:
        raise ValueError("data.path is not set; data.source=npz needs data.path=..., an .npz file")
    path = at_home(config.path)
    if not path.is_file():
        raise ValueError(f"no file at data.path='{config.path}' (looked for {path.absolute()}); pass data.path=...")
    where = f"data.path='{config.path}'"
    keys = keys_of(path, where)
    unlabelled = config.pseudo_labels > 0 and not any(key.endswith("labels") for key in keys)
    sides = _sides(keys, ("images",) if unlabelled else ("images", "labels"), where)
    own = f"{split}_" if len(sides) == 2 else ""

    array = array_of(path, f"{own}images", where)
    pixel_range = _unit_or_auto(array) if config.range == "auto" else config.range
    images = images_of(array, pixel_range, where=f"{where}: {own}images")
    headers = {side: header_of(path, f"{side}images", where) for side in sides}
    _require_alike(headers, config, where)

    class_names, first = (UNLABELLED,) if unlabelled else config.class_names, config.first_label
    is_stated = bool(class_names or config.num_classes)
    stored = {
        side: np.zeros(len(headers[side]), dtype=np.int64) if unlabelled
        else _labels(path, side, len(headers[side]), where, skip_broken=is_stated)
        for side in sides
    }  # fmt: skip
    if not class_names and config.num_classes and all(labels.dtype.kind == "i" for labels in stored.values()):
        class_names = numbers_from(first, config.num_classes)
    read_off = [RANGE_OF_DATA] if config.range == "auto" and array.dtype.kind == "f" else []
    if not class_names:
        class_names, first = names_found(stored.values(), first, where=where)
        read_off.append(CLASSES_OF_DATA)
    labels = {side: torch.from_numpy(numbered(stored[side], class_names, first)) for side in sides}

    others = [key for key in keys if key.endswith("_images") and key.removesuffix("images") not in sides]
    records = ImageSet(
        images=images,
        labels=labels[own],
        ids=content_ids(images, stored[own].tolist()),
        class_names=class_names,
        read_off=tuple(read_off),
        report=ReadReport.of(
            {NEITHER_SIDE: sum(len(header_of(path, key, where)) for key in others)},
            [*_remarks_on(headers[own], where), *([] if unlabelled else remarks_on(stored.values(), first))],
        ),
    )
    by_side = [labels[side] for side in sides]
    if not own:
        is_test = torch.tensor([held_out(name) for name in records.ids], dtype=torch.bool)
        by_side = [records.labels[~is_test], records.labels[is_test]]
        records = records.take(is_test if split == "test" else ~is_test)
    if CLASSES_OF_DATA in read_off:
        present = [{name for label, name in enumerate(class_names) if (side == label).any()} for side in by_side]
        require_classes_on_both(*present, where=where)
    return records


def _sides(keys: list[str], needed: tuple[str, ...], where: str) -> tuple[str, ...]:
    """What the keys of each side begin with; one empty text where there are no sides."""
    for sides in (("train_", "test_"), ("",)):
        if {f"{side}{what}" for side in sides for what in needed} <= set(keys):
            return sides
    raise ValueError(
        f"{where}: found keys {', '.join(keys) or 'none'}; expected train_images, train_labels, test_images and "
        "test_labels, or images and labels; without labels, pass data.pseudo_labels=... (guarantee=nominal alone)"
    )


def _remarks_on(header: ArrayHeader, where: str) -> list[str]:
    """What was made of images that are neither grey nor RGB of 8 bits."""
    transparent = layout_of(header.shape, where=where).chan == 4
    remarks = ["transparency is laid over white"] if transparent else []
    return [*remarks, *(["16 bits are taken over their full range"] if header.dtype == np.uint16 else [])]


def _unit_or_auto(array: np.ndarray) -> str:
    """unit for floats that are all in [0, 1]; else the type decides."""
    if array.dtype.kind != "f":
        return "auto"
    finite = array[np.isfinite(array)]
    return "unit" if ((finite >= 0) & (finite <= 1)).all() else "auto"


def _require_alike(headers: dict[str, ArrayHeader], config: DataConfig, where: str) -> None:
    """Refuses sides of different images, before one of them is learned from, unless the config makes them alike."""
    forms = []
    for side, header in headers.items():
        layout = layout_of(header.shape, where=f"{where}: {side}images")
        chan = 1 if config.grey else 3 if config.colour or layout.chan == 4 else layout.chan
        size = (config.image_size,) * 2 if config.image_size else (layout.height, layout.width)
        forms.append((chan, *size))
    if len(set(forms)) > 1:
        told = " but ".join(f"{side}images {list(header.shape)} {header.dtype}" for side, header in headers.items())
        raise ValueError(
            f"{where}: {told}; make them alike, or pass data.image_size=... and data.grey=true or data.colour=true"
        )


def _labels(path: Path, side: str, num: int, where: str, *, skip_broken: bool) -> np.ndarray:
    """[num] integers or texts, as they are in the file."""
    array = array_of(path, f"{side}labels", where)
    labels = flat_labels(array, where=f"{where}: {side}labels", skip_broken=skip_broken)
    if len(labels) != num:
        raise ValueError(f"{where}: {num} {side}images but {len(labels)} {side}labels; make them equal")
    return labels
