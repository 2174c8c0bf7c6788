"""Samples as files: a folder of PNG files or an .npz, whole or split into train and test as data sets are."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dpsad.data.records import UNLABELLED
from students.sampling import NO_LABEL, to_bytes

ARCHIVE = ".npz"
PLAIN_NAME = re.compile(r"[\w()+,=@-][\w ()+,.=@-]{0,99}(?<![ .])")  # a folder's on any system
# Readers of image folders look for these words in paths, and would take such a class for a split
SPLIT_WORD = re.compile(r"(?<![^\W\d_])(train(ing)?|valid(ation)?|val|dev|test(ing)?|eval(uation)?)(?![^\W\d_])", re.I)


def check_destination(out: Path) -> None:
    """Refuses to write over anything, and places where nothing can be made: before any image is.

    Raises:
        ValueError: something is there that is no empty folder, or a folder where an archive is to be; what it would lie
            in is no folder, or may not be written to.
    """
    is_new_folder = out.is_dir() and out.suffix.lower() != ARCHIVE and not any(out.iterdir())
    if out.exists() and not is_new_folder:
        raise ValueError(f"--out {out} exists already; name another place, or remove it")
    above = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"--out {out} cannot be made: {above} is no folder that one may write to; name another place")


def check_split(labels: Tensor, test_share: float) -> None:
    """Refuses a split that leaves a class on one side alone: before any image is made.

    Raises:
        ValueError: a share outside (0, 1), a class with one image.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"--test-share {test_share:g} must lie between 0 and 1, such as 0.2")
    if (torch.unique(labels, return_counts=True)[1] < 2).any():
        raise ValueError("--test-share needs two images of each class, one a side; raise --num")


def write_samples(
    images: Tensor, labels: Tensor, out: Path, *, test_share: float | None = None, class_names: Sequence[str] = ()
) -> None:
    """Writes images and labels.

    Args:
        images: [num, chan, height, width] in [-1, 1].
        labels: [num]; -1 is "unlabelled".
        out: `*.npz`, in any case, takes `images` uint8 and `labels` int64; any other name is a folder of
            <label>/<index>.png, or of unlabelled/<index>.png.
        test_share: splits each class into train and test, as `check_split` allows. An archive then has MedMNIST's keys,
            `train_images`, `train_labels` [num, 1], `test_images`, `test_labels`, without labels where nobody knows
            them; a folder is train/<class>/<index>.png and test/<class>/<index>.png, an image folder of Hugging Face's.
        class_names: of these folders, see `class_folders`.

    Raises:
        ValueError: as `check_destination` and `check_split`; an image has pixels that are not finite.
    """
    check_destination(out)
    if test_share is not None:
        check_split(labels, test_share)
    pixels, classes = to_bytes(images), labels.cpu().numpy().astype(np.int64)
    sides = {"": np.ones(len(classes), dtype=bool)}
    if test_share is not None:
        is_test = _last_of_each(classes, test_share)
        sides = {"train": ~is_test, "test": is_test}
    if out.suffix.lower() == ARCHIVE:
        _write_archive(pixels, classes, sides, out)
        return
    names = {label: UNLABELLED if label == NO_LABEL else str(label) for label in np.unique(classes).tolist()}
    if test_share is not None and NO_LABEL not in names:
        names = dict(enumerate(class_folders(class_names or [str(label) for label in range(int(classes.max()) + 1)])))
    for side, chosen in sides.items():
        for index in np.flatnonzero(chosen):
            folder = out / side / names[int(classes[index])]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[index]).save(folder / f"{index:06d}.png")


def class_folders(class_names: Sequence[str]) -> list[str]:
    """A folder for each class: its name, where all are plain, unlike each other and no words for a split.

    Otherwise its label, with leading zeros, so that the alphabet keeps their order.
    """
    plain = all(PLAIN_NAME.fullmatch(name) and not SPLIT_WORD.search(name) for name in class_names)
    if plain and len({name.casefold() for name in class_names}) == len(class_names):
        return list(class_names)
    width = len(str(len(class_names) - 1))
    return [f"{label:0{width}d}" for label in range(len(class_names))]


def _last_of_each(classes: np.ndarray, share: float) -> np.ndarray:
    """[num] labels -> [num] whether it is among the last of its class: that share, one at least and not all."""
    chosen = np.zeros(len(classes), dtype=bool)
    for label in np.unique(classes):
        own = np.flatnonzero(classes == label)
        chosen[own[-min(max(round(share * len(own)), 1), len(own) - 1) :]] = True
    return chosen


def _write_archive(pixels: np.ndarray, classes: np.ndarray, sides: dict[str, np.ndarray], out: Path) -> None:
    """Whole or not at all."""
    arrays = {"images": pixels, "labels": classes}
    if "" not in sides:
        known = {"images": pixels} if (classes == NO_LABEL).all() else {"images": pixels, "labels": classes[:, None]}
        arrays = {f"{side}_{what}": array[chosen] for side, chosen in sides.items() for what, array in known.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.part")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
