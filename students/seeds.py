"""Seeded noise: each image a function of its own seed and label, whatever else is made, and in which batches."""

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


def places_drawn(weights: Tensor, uniform: Tensor) -> Tensor:
    """One place for each row, in proportion to its weights.

    Args:
        weights: [batch, num] >= 0, some in each row above 0.
        uniform: [batch] uniform numbers in [0, 1).

    Returns:
        [batch] int64, below num.
    """
    rising = weights.double().cumsum(1)
    place = torch.searchsorted(rising, uniform[:, None].double() * rising[:, -1:], right=True)
    return place.flatten().clamp(max=weights.shape[1] - 1)


def image_seeds(seed: int, num: int, *, first: int = 0) -> list[int]:
    """One seed per image, apart for every base seed: image i of base seed s has s * 2^64 + i."""
    return [(seed << 64) + index for index in range(first, first + num)]
