"""Images from seeds: each one a function of its own seed and label, whatever else is made, and in which batches."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Normal = Callable[[tuple[int, ...]], Tensor]  # shape -> [images, *shape], fresh at each call
Make = Callable[[Tensor, Normal], Tensor]  # labels [images], their noise -> images [images, chan, height, width]


def normal_of(seeds: Sequence[int], device: torch.device) -> Normal:
    """Standard normal noise for each image from its own seed, keyed by the whole of it; torch takes 32 bits on CPUs."""
    generators = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]

    def normal(shape: tuple[int, ...]) -> Tensor:
        drawn = [generator.standard_normal(shape, dtype=np.float32) for generator in generators]
        return torch.from_numpy(np.stack(drawn)).to(device)

    return normal


@torch.no_grad()
def images_of_seeds(
    make: Make,
    labels: Tensor,
    seeds: Sequence[int],
    *,
    image_shape: tuple[int, int, int],
    device: torch.device,
    batch_size: int = 250,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Makes one image for each label and seed.

    Args:
        make: what the student does with a batch; mixes no images.
        labels: [num] classes.
        seeds: one per image, in [0, 2^128). The same seed and label give the same image, up to rounding, whatever else
            is in the batch.
        image_shape: (chan, height, width).
        device: of the student.
        batch_size: images at a time.
        progress: called with the number of images of each finished batch.

    Returns:
        [num, chan, height, width] in [-1, 1], float32, on the CPU.
    """
    images = torch.empty(len(labels), *image_shape)
    for start in range(0, len(labels), batch_size):
        index = slice(start, start + batch_size)
        images[index] = make(labels[index].to(device), normal_of(seeds[index], device)).clamp(-1, 1).cpu()
        if progress is not None:
            progress(len(labels[index]))
    return images


def image_seeds(seed: int, num: int, *, first: int = 0) -> list[int]:
    """One seed per image, apart for every base seed: image i of base seed s has s * 2^64 + i."""
    return [(seed << 64) + index for index in range(first, first + num)]
