"""A discriminator that tells teacher outputs from student outputs, knowing their class and noise level."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpsad.errors import require_positive


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The shape of a `ConvolutionalDiscriminator`.

    channels: width of its first level; each of three levels doubles it and halves the resolution.
    use_labels: whether it knows the class.
    use_noise_level: whether it knows the noise level that the outputs answer.
    """

    channels: int = 24
    use_labels: bool = True
    use_noise_level: bool = True

    def __post_init__(self) -> None:
        require_positive("discriminator.channels", self.channels)


class ConvolutionalDiscriminator(nn.Module):
    """Strided convolutions down to one logit per image; GroupNorm only.

    Args:
        config: its shape.
        image_channels: channels of the image.
        num_classes: labels are 0..num_classes-1, and `num_classes` for "no label".

    Source: DP-SAD section 3.3 (conditioning on class and time); Miyato and Koyama 2018 (class by inner product).
    """

    def __init__(self, config: DiscriminatorConfig, *, image_channels: int, num_classes: int):
        super().__init__()
        self.use_labels, self.use_noise_level = config.use_labels, config.use_noise_level
        widths = [config.channels, 2 * config.channels, 4 * config.channels]
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for before, after in zip([image_channels, *widths[:-1]], widths, strict=True):
            self.convs.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
            self.norms.append(nn.GroupNorm(math.gcd(after, 8), after))
        self.noise_shifts = nn.Linear(2, sum(widths))
        self.score = nn.Linear(widths[-1], 1)
        self.label_directions = nn.Embedding(num_classes + 1, widths[-1])
        nn.init.zeros_(self.label_directions.weight)

    def forward(self, images: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Returns [batch] logits, positive for "teacher".

        Args:
            images: [batch, chan, height, width] clean images.
            sigma: [batch] noise level of the input that they were predicted from.
            labels: [batch] classes.
        """
        level = sigma.log() / 4
        shifts = self.noise_shifts(torch.stack([level, level**2], dim=1)) * self.use_noise_level
        h = images
        for conv, norm, shift in zip(
            self.convs, self.norms, shifts.split([n.num_channels for n in self.norms], dim=1), strict=True
        ):
            h = F.leaky_relu(norm(conv(h)) + shift[:, :, None, None], 0.2)
        features = h.mean(dim=(2, 3))
        by_label = (features * self.label_directions(labels)).sum(1) * self.use_labels
        return self.score(features).squeeze(1) + by_label
