"""Pixels: from bytes to [-1, 1], channels first, grey, resized."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def from_bytes(pixels: np.ndarray) -> Tensor:
    """Maps 0..255 to [-1, 1].

    Args:
        pixels: [num, height, width] or [num, height, width, chan] uint8.

    Returns:
        [num, chan, height, width] float32, contiguous; chan is 1 where `pixels` has no such axis.
    """
    return channels_first(pixels).div_(127.5).sub_(1)


def channels_first(pixels: np.ndarray) -> Tensor:
    """[num, height, width] or [num, height, width, chan] -> a new [num, chan, height, width] float32, contiguous."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    return torch.from_numpy(np.array(pixels.transpose(0, 3, 1, 2), dtype=np.float32, order="C"))


def to_grey(images: Tensor) -> Tensor:
    """Luminance of RGB images: [num, 3, H, W] -> [num, 1, H, W]; grey images are returned unchanged.

    Source: ITU-R BT.601.
    """
    if images.shape[1] == 1:
        return images
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True).clamp_(-1, 1)


def to_square(images: Tensor, side: int) -> Tensor:
    """Resizes with antialiasing, without keeping the aspect: [num, chan, H, W] -> [num, chan, side, side]."""
    return resized(images, (side, side))


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes likewise to any (height, width); images of that size are returned unchanged."""
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True).clamp_(-1, 1)
