"""Sampling: images from a student, as bytes and as one picture."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from students.base import Student, require_finite_images
from students.seeds import image_seeds

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
