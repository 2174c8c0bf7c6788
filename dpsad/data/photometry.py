"""Random changes of pixel values: what light, camera and printing do to an image."""

import torch
from torch import Tensor
from torch.nn import functional as F


def vary_values(
    images: Tensor,
    *,
    sharpness: float,
    gamma: float,
    contrast: float,
    noise: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sharpens, bends, scales and roughens each image by its own random amounts.

    With u = (x + 1) / 2 in [0, 1], in this order: x + s (x - blur(x)) with s uniform in [0, sharpness] and blur the
    mean over 3x3 pixels; u^exp(gamma n); u exp(contrast n); x + noise n at every pixel, with n standard normal.

    Args:
        images: [num, chan, height, width] in [-1, 1].
        generator: on the device of `images`; the device's default generator if None.

    Returns:
        Like `images`, in [-1, 1].
    """
    one_each = (len(images), 1, 1, 1)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=images.device, dtype=images.dtype)

    if sharpness:
        blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        amount = sharpness * torch.rand(one_each, generator=generator, device=images.device, dtype=images.dtype)
        images = (images + amount * (images - blurred)).clamp(-1, 1)
    if gamma:
        images = 2 * ((images + 1) / 2).clamp(0, 1) ** (gamma * normal(one_each)).exp() - 1
    if contrast:
        images = (images + 1) * (contrast * normal(one_each)).exp() - 1
    if noise:
        images = images + noise * normal(tuple(images.shape))
    return images.clamp(-1, 1)
