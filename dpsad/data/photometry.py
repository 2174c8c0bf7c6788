"""Random changes of pixel values: what light, camera and printing do to an image."""

import torch
from torch import Tensor
from torch.nn import functional as F


def vary_values(images: Tensor, normals: Tensor, *, sharpness: float, gamma: float, contrast: float) -> Tensor:
    """Sharpens, bends and scales each image by its own random amounts.

    With u = (x + 1) / 2 in [0, 1], in this order: x + s (x - blur(x)) with s uniform in [0, sharpness] and blur the
    mean over 3x3 pixels; u^exp(gamma n); u exp(contrast n), with n standard normal.

    Args:
        images: [num, chan, height, width] in [-1, 1].
        normals: [num, 3] standard normal, for sharpness, gamma and contrast.

    Returns:
        Like `images`, in [-1, 1].
    """
    for_sharpness, for_gamma, for_contrast = normals.to(images.dtype)[:, :, None, None, None].unbind(1)
    if sharpness:
        blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        amount = sharpness * torch.special.ndtr(for_sharpness)
        images = (images + amount * (images - blurred)).clamp(-1, 1)
    if gamma:
        images = 2 * ((images + 1) / 2).clamp(0, 1) ** (gamma * for_gamma).exp() - 1
    if contrast:
        images = (images + 1) * (contrast * for_contrast).exp() - 1
    return images.clamp(-1, 1)
