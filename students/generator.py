"""One-pass student: noise and a label in, an image out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpsad.privacy.provenance import Provenance
from dpsad.privacy.ranges import Count, require_ranges
from students.base import Student
from students.seeds import Normal

KERNEL = 5


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The shape of a `Generator`.

    noise_dim: numbers of noise that an image is made from.
    hidden: width of the layer between noise and the first feature map.
    channels: of the middle feature map, at half resolution; the first, at a quarter, has twice as many.
    """

    noise_dim: Count = 8
    hidden: Count = 200
    channels: Count = 16

    def __post_init__(self) -> None:
        require_ranges(self, "generator")


class Generator(nn.Module):
    """Two linear layers and two upsampling convolutions, told the class; GroupNorm only, so that no image sees another.

    Args:
        config: its shape.
        image_shape: (chan, height, width), of any size: the image is cut from the next multiple of 4.
        num_classes: labels are 0..num_classes-1.

    Source: Harder et al. 2021, appendix, without BatchNorm.
    """

    def __init__(self, config: GeneratorConfig, *, image_shape: tuple[int, int, int], num_classes: int):
        super().__init__()
        chan, height, width = image_shape
        self.provenance = Provenance.PUBLIC
        self.num_classes, self.noise_dim, self.size = num_classes, config.noise_dim, (height, width)
        self.first_map = (2 * config.channels, -(-height // 4), -(-width // 4))
        self.embed = nn.Linear(config.noise_dim + num_classes, config.hidden)
        self.expand = nn.Linear(config.hidden, math.prod(self.first_map))
        self.norm_first = _norm(2 * config.channels)
        self.conv_middle = nn.Conv2d(2 * config.channels, config.channels, KERNEL, padding=KERNEL // 2)
        self.norm_middle = _norm(config.channels)
        self.conv_out = nn.Conv2d(config.channels, chan, KERNEL, padding=KERNEL // 2)

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Returns [batch, chan, height, width] images in [-1, 1].

        Args:
            noise: [batch, noise_dim] standard normal.
            labels: [batch] classes.
        """
        told = F.one_hot(labels, self.num_classes).to(noise.dtype)
        h = F.silu(self.embed(torch.cat([noise, told], dim=1)))
        h = F.silu(self.norm_first(self.expand(h).unflatten(1, self.first_map)))
        h = F.silu(self.norm_middle(self.conv_middle(_twice(h))))
        height, width = self.size
        return self.conv_out(_twice(h)).tanh()[..., :height, :width]


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, 8), channels)


def _twice(h: Tensor) -> Tensor:
    return F.interpolate(h, scale_factor=2, mode="nearest")


def generator_student(generator: Generator, image_shape: tuple[int, int, int], class_names: Sequence[str]) -> Student:
    """A student that makes images in one pass of a generator, which is on its device."""

    def make(labels: Tensor, normal: Normal) -> Tensor:
        return generator(normal((generator.noise_dim,)), labels)

    return Student(generator, make, image_shape, class_names)
