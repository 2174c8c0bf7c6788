"""Augmentation: public variation of images, by geometry and by pixel values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from dpsad.data.photometry import vary_values
from dpsad.privacy.ranges import Fraction, Range, require_ranges


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How far images are varied at random. 0 or False turns a part off.

    rotation: largest turn either way, in degrees.
    scale: largest relative change; the zoom is uniform in [1/(1+scale), 1+scale].
    shear: largest slant of the vertical either way, in degrees, below 90.
    shift: largest move either way, as a fraction of the image's width and height.
    elastic: standard deviation of each pixel's displacement along each axis, in 1/28 of the image's side.
    elastic_smoothness: standard deviation of the Gaussian that smooths the displacements, in 1/28 of the side.
    flip: mirrors left and right with probability 1/2. Not for digits and letters.
    sharpness: largest gain of what a 3x3 mean leaves out. For prototypes, which are means and so softer than records.
    gamma, contrast: standard deviation of the logarithm of each image's gamma, and of its gain over black.
    noise: standard deviation of white noise. For classifiers that learn from prototypes: it keeps them from trusting
        smoothness; a generative model would learn it, so the teacher's images go without.
    """

    rotation: Annotated[float, Range("[0, 180]")] = 0.0
    scale: Annotated[float, Range("[0, 1e3]")] = 0.0
    shear: Annotated[float, Range("[0, 89]")] = 0.0
    shift: Fraction = 0.0
    elastic: Annotated[float, Range("[0, 1e3]")] = 0.0
    elastic_smoothness: Annotated[float, Range("[0.5, 1e3]")] = 4.0
    flip: bool = False
    sharpness: Annotated[float, Range("[0, 1e3]")] = 0.0
    gamma: Annotated[float, Range("[0, 10]")] = 0.0
    contrast: Annotated[float, Range("[0, 10]")] = 0.0
    noise: Annotated[float, Range("[0, 1e3]")] = 0.0

    def __post_init__(self) -> None:
        require_ranges(self, "augmentation")

    @property
    def moves(self) -> bool:
        """Whether anything but mirroring happens."""
        return any((self.rotation, self.scale, self.shear, self.shift, self.elastic))


def augment(images: Tensor, config: AugmentationConfig, *, rng: torch.Generator | None = None) -> Tensor:
    """Varies each image by its own random flip, affine map and elastic field, then in its pixel values.

    Args:
        images: [num, chan, height, width] floats in [-1, 1], on any device.
        rng: on the device of `images`; the device's default generator if None.

    Returns:
        The shape, dtype and device of `images`; `images` itself where `config` turns everything off.
    """
    if not len(images):
        return images
    normals = torch.randn(len(images), variation_size(images, config), generator=rng, device=images.device)
    images = vary(images, config, normals)
    if config.noise:
        white = torch.randn(images.shape, generator=rng, device=images.device, dtype=images.dtype)
        images = (images + config.noise * white).clamp(-1, 1)
    return images


def vary(images: Tensor, config: AugmentationConfig, normals: Tensor) -> Tensor:
    """All of `augment` but white noise, each image as its own numbers say.

    Args:
        images: [num, chan, height, width] floats in [-1, 1], on any device.
        normals: [num, variation_size] standard normal.
    """
    if config.moves or config.flip:
        images = warp(images, config, normals[:, :-3])
    if config.sharpness or config.gamma or config.contrast:
        images = vary_values(
            images, normals[:, -3:], sharpness=config.sharpness, gamma=config.gamma, contrast=config.contrast
        )
    return images


def variation_size(images: Tensor, config: AugmentationConfig) -> int:
    """How many normal numbers `vary` needs for an image: those of `warp`, then three for pixel values."""
    if not config.elastic:
        return 9
    down, across = _filters(images, config)
    return 9 + 2 * down.shape[1] * across.shape[1]


def warp(images: Tensor, config: AugmentationConfig, normals: Tensor) -> Tensor:
    """Flips each image, maps and bends it as its own numbers say, in one bilinear resampling.

    Args:
        images: [num, chan, height, width] floats, on any device.
        normals: [num, variation_size - 3] standard normal.

    Returns:
        Like `images`, each image within its own range; points outside an image take the value of its border.
    """
    num, _, height, width = images.shape
    draws = 2 * torch.special.ndtr(normals[:, :6]) - 1
    if config.flip:
        images = torch.where((draws[:, 5] > 0).view(-1, 1, 1, 1), images.flip(-1), images)
    if not config.moves:
        return images
    grid = F.affine_grid(affine_maps(draws, config, height / width), [num, 1, height, width], align_corners=False)
    if config.elastic:
        down, across = _filters(images, config)
        noise = normals[:, 6:].reshape(num, 2, down.shape[1], across.shape[1])
        grid = grid + _filtered(noise, down, across) * (2 * config.elastic / 28)
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    warped = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.to(images.dtype).clamp(low, high)


def affine_maps(draws: Tensor, config: AugmentationConfig, aspect: float) -> Tensor:
    """Maps from output to input coordinates, as `F.affine_grid` takes them.

    The image is zoomed, slanted, turned (clockwise where positive) and moved (right and down), about its centre.

    Args:
        draws: [num, >= 5] in [-1, 1]: rotation, scale, shear, shift right, shift down, as fractions of their largest.
        aspect: height / width.

    Returns:
        [num, 2, 3] in coordinates that run from -1 to 1 over each axis.
    """
    turn = torch.deg2rad(config.rotation * draws[:, 0])
    smallest, largest = 1 / (1 + config.scale), 1 + config.scale
    zoom = smallest + (largest - smallest) * (draws[:, 1] + 1) / 2
    slant = torch.tan(torch.deg2rad(config.shear * draws[:, 2]))
    move = 2 * config.shift * draws[:, 3:5, None]

    cos, sin = turn.cos() / zoom, turn.sin() / zoom
    # the inverse of turn . slant . zoom, in pixels: unturn, then unslant
    top = torch.stack([cos + slant * sin, (sin - slant * cos) * aspect], dim=1)
    bottom = torch.stack([-sin / aspect, cos], dim=1)
    inverse = torch.stack([top, bottom], dim=1)
    return torch.cat([inverse, -inverse @ move], dim=2)


def smooth_fields(
    num: int,
    height: int,
    width: int,
    smoothness: float,
    *,
    device: torch.device | str = "cpu",
    rng: torch.Generator | None = None,
) -> Tensor:
    """Gaussian random fields of standard deviation 1 at every pixel: white noise under a Gaussian filter.

    The filter is separable and as wide as its nodes are apart, so a small matrix for each axis spreads coarse noise.

    Args:
        smoothness: standard deviation of the filter, as a fraction of the image's side.

    Returns:
        [num, height, width, 2] float32, the two components independent.
    """
    down, across = (_spread(side, smoothness).to(device) for side in (height, width))
    noise = torch.randn(num, 2, down.shape[1], across.shape[1], generator=rng, device=device)
    return _filtered(noise, down, across)


def _filtered(noise: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """[num, 2, nodes down, nodes across] -> [num, height, width, 2]."""
    return (down @ noise @ across.T).permute(0, 2, 3, 1)


def _filters(images: Tensor, config: AugmentationConfig) -> tuple[Tensor, Tensor]:
    height, width = images.shape[-2:]
    smoothness = config.elastic_smoothness / 28
    return _spread(height, smoothness).to(images.device), _spread(width, smoothness).to(images.device)


def _spread(side: int, smoothness: float) -> Tensor:
    """[side, nodes] Gaussian weights of noise nodes on pixel centres, every row of norm 1."""
    reach = math.ceil(1 / smoothness) + 3
    nodes = torch.arange(-3, reach + 1) * smoothness
    centres = (torch.arange(side) + 0.5) / side
    weights = torch.exp(-((centres[:, None] - nodes) ** 2) / (2 * smoothness**2))
    return weights / weights.norm(dim=1, keepdim=True)
