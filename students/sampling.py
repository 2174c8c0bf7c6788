"""Sampling: images from a student, as files."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dpsad.data.records import UNLABELLED
from students.base import Student, require_finite_images
from students.seeds import image_seeds

ARCHIVE = ".npz"
NO_LABEL = -1  # of samples whose class nobody knows


def even_labels(num: int, num_classes: int) -> Tensor:
    """[num] labels 0, 1, ..., 0, 1, ...: every class equally often, up to one."""
    return torch.arange(num) % num_classes


def labels_to_sample(student: Student, num: int) -> Tensor:
    """[num] labels that spread samples evenly over the classes; all -1 where the student heeds no label."""
    return even_labels(num, len(student.class_names)) if student.use_labels else torch.full((num,), NO_LABEL)


def to_bytes(images: Tensor) -> np.ndarray:
    """[num, chan, height, width] in [-1, 1] -> uint8 [num, height, width], or [num, height, width, 3] in colour.

    Raises:
        ValueError: an image has NaN or infinite pixels, which no byte stands for.
    """
    require_finite_images(images)
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return levels[..., 0] if levels.shape[-1] == 1 else levels


def generate(
    student: Student,
    labels: Tensor,
    *,
    seed: int,
    batch_size: int = 250,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Makes one image for each label, image i from its own seed: [num, chan, height, width] in [-1, 1].

    Image i depends on the base seed, i and its label alone, not on how many others are made, or in which batches.
    """
    return student.sample(labels, image_seeds(seed, len(labels)), batch_size=batch_size, progress=progress)


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


def write_samples(images: Tensor, labels: Tensor, out: Path) -> None:
    """Writes images and labels.

    Args:
        images: [num, chan, height, width] in [-1, 1].
        labels: [num]; -1 is "unlabelled".
        out: `*.npz`, in any case, takes `images` uint8 and `labels` int64; any other name is a folder of
            <label>/<index>.png, or of unlabelled/<index>.png.

    Raises:
        ValueError: as `check_destination`.
    """
    check_destination(out)
    pixels, classes = to_bytes(images), labels.cpu().numpy().astype(np.int64)
    if out.suffix.lower() == ARCHIVE:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.part")
        try:
            with open(temporary, "wb") as file:
                np.savez_compressed(file, images=pixels, labels=classes)
            os.replace(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
        return
    folders = {label: out / (UNLABELLED if label == NO_LABEL else str(label)) for label in np.unique(classes)}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for index, (image, label) in enumerate(zip(pixels, classes, strict=True)):
        Image.fromarray(image).save(folders[label] / f"{index:06d}.png")


def sample_grid(images: Tensor, columns: int) -> Image.Image:
    """One picture of [num, chan, height, width] images in [-1, 1], row by row, enlarged to about 1,000 pixels."""
    num, chan, height, width = images.shape
    rows = -(-num // columns)
    canvas = torch.ones(rows * columns, chan, height + 2, width + 2)
    canvas[:num, :, 1:-1, 1:-1] = images
    sheet = canvas.reshape(rows, columns, chan, height + 2, width + 2).permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2)
    picture = Image.fromarray(to_bytes(sheet[None])[0])
    factor = max(1, 1000 // picture.width)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
