"""A residual discriminator without normalisation, to be steadied by a gradient penalty."""

import torch.nn.functional as F
from torch import Tensor, nn

from discriminators.base import label_directions, noise_level_inputs, projected
from dpsad.networks.layers import halved


class ProjectionDiscriminator(nn.Module):
    """Residual blocks that average-pool, a sum over positions, and the class by inner product.

    Args:
        channels: width of its first block; each of three blocks doubles it and halves the resolution.
        image_channels, num_classes, use_labels, use_noise_level: as for `ConvolutionalDiscriminator`.

    Source: Miyato and Koyama 2018, without their spectral normalisation.
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
        self.widths = [channels, 2 * channels, 4 * channels]
        self.blocks = nn.ModuleList(
            HalvingBlock(before, after)
            for before, after in zip([image_channels, *self.widths[:-1]], self.widths, strict=True)
        )
        self.noise_shifts = nn.Linear(2, sum(self.widths))
        self.score = nn.Linear(self.widths[-1], 1)
        self.label_directions = label_directions(num_classes, self.widths[-1])

    def features(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Returns [batch, features], as `ConvolutionalDiscriminator` does."""
        shifts = self.noise_shifts(noise_level_inputs(sigma)) * self.use_noise_level
        h = images
        for block, shift in zip(self.blocks, shifts.split(self.widths, dim=1), strict=True):
            h = block(h, shift)
        return F.leaky_relu(h, 0.2).sum(dim=(2, 3))

    def forward(self, images: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Returns [batch] logits, as `ConvolutionalDiscriminator` does."""
        return projected(self.features(images, sigma), self.score, self.label_directions(labels) * self.use_labels)


class HalvingBlock(nn.Module):
    """Two convolutions with the pooling between them, beside a pooled 1x1 convolution.

    Pooled after the second one, as published, a block would cost twice as much.
    """

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv_fine = nn.Conv2d(before, after, 3, padding=1)
        self.conv_coarse = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        """[batch, before, height, width], [batch, after] -> [batch, after, height / 2, width / 2], rounded up."""
        h = self.conv_fine(F.leaky_relu(x, 0.2)) + shift[:, :, None, None]
        return self.skip(halved(x)) + self.conv_coarse(halved(F.leaky_relu(h, 0.2)))
