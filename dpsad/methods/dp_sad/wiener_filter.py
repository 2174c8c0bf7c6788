"""Wiener filter: takes known noise out of released images, which is post-processing."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def wiener_shrink(images: Tensor, noise_variance: Tensor) -> Tensor:
    """Shrinks each spatial frequency by how much of its power, over all images, is signal.

    Released images carry white noise of known variance, and what they show lies mostly in low frequencies. The power
    of the signal at a frequency is estimated as the released power beyond the noise, averaged over all images with a
    weight that falls with their noise, and over neighbouring frequencies.

    Args:
        images: [num, chan, height, width] signal plus white noise, the signal centred at 0.
        noise_variance: [num] variance of each image's noise per pixel, >= 0.

    Returns:
        [num, chan, height, width] estimates of the signal.

    Edge cases: where the released power is below the noise, the estimate is 0; without noise, the images as they are.

    Source: Wiener 1949; empirical Bayes as Efron and Morris 1973, one group per frequency.
    """
    if not noise_variance.any():
        return images
    height, width = images.shape[-2:]
    down, across = cosine_basis(height).to(images), cosine_basis(width).to(images)
    spectrum = down @ images @ across.T
    variance = noise_variance[:, None, None, None]
    weight = 1 / (variance + variance.median())
    power = ((spectrum**2 - variance) * weight).sum(0) / weight.sum()
    signal = smooth_power(power).clamp(min=0)
    return down.T @ (spectrum * (signal / (signal + variance))) @ across


def smooth_power(power: Tensor) -> Tensor:
    """Averages [chan, height, width] powers over 5x5 neighbours, the mean (frequency 0) excepted."""
    smooth = F.avg_pool2d(F.pad(power[None], (2, 2, 2, 2), mode="replicate"), 5, stride=1)[0]
    smooth[:, 0, 0] = power[:, 0, 0]
    return smooth


def cosine_basis(size: int) -> Tensor:
    """[size, size] orthonormal cosine basis (DCT-II), one frequency a row, rising."""
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    position = torch.arange(size, dtype=torch.float64) + 0.5
    basis = torch.cos(torch.pi * frequency * position / size) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis.float()
