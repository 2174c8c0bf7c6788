"""A small discriminator that tells teacher outputs from student outputs, knowing their class and noise level."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from discriminators.base import label_directions, noise_level_inputs, projected


class ConvolutionalDiscriminator(nn.Module):
    """Strided convolutions down to one logit per image; GroupNorm only.

    Args:
        channels: width of its first level; each of three levels doubles it and halves the resolution.
        image_channels: channels of the image.
        num_classes: labels are 0..num_classes-1, and `num_classes` for "no label".
        use_labels: whether it knows the class.
        use_noise_level: whether it knows the noise level that the outputs answer.

    Source: DP-SAD section 3.3 (conditioning on class and time); Miyato and Koyama 2018 (class by inner product).
    """

    def __init__(
        self,
        channels: int,
        *,
        image_channels: int,
        num_classes: int,
        use_labels: bool = True,
        use_noise_level: bool = True,
    ):
        super().__init__()
        self.use_labels, self.use_noise_level = use_labels, use_noise_level
        widths = [channels, 2 * channels, 4 * channels]
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for before, after in zip([image_channels, *widths[:-1]], widths, strict=True):
            self.convs.append(nn.Conv2d(before, after, 3, stride=2, padding=1))
            self.norms.append(nn.GroupNorm(math.gcd(after, 8), after))
        self.noise_shifts = nn.Linear(2, sum(widths))
        self.score = nn.Linear(widths[-1], 1)
        self.label_directions = label_directions(num_classes, widths[-1])

    def features(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Returns [batch, features] what is known of each image before its class is asked for.

        Args:
            images: [batch, chan, height, width] clean images.
            sigma: [batch] noise level of the input that they were predicted from.
        """
        shifts = self.noise_shifts(noise_level_inputs(sigma)) * self.use_noise_level
        h = images
        for conv, norm, shift in zip(
            self.convs, self.norms, shifts.split([n.num_channels for n in self.norms], dim=1), strict=True
        ):
            h = F.leaky_relu(norm(conv(h)) + shift[:, :, None, None], 0.2)
        return h.mean(dim=(2, 3))

    def forward(self, images: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Returns [batch] logits, positive for "teacher".

        Args:
            images, sigma: as for `features`.
            labels: [batch] classes.
        """
        return projected(self.features(images, sigma), self.score, self.label_directions(labels) * self.use_labels)
