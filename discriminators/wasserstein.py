"""Wasserstein critic: scores images of a class, without bound and without normalisation."""

import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 5


class WassersteinCritic(nn.Module):
    """Two strided convolutions and a linear layer over all positions: one score common to all classes, one of each.

    Args:
        channels: width of the first level; the second doubles it.
        image_shape: (chan, height, width).
        num_classes: labels are 0..num_classes-1.

    Source: Radford et al. 2016 for the shape; Gulrajani et al. 2017, section 4 (no normalisation across images).
    """

    def __init__(self, channels: int, *, image_shape: tuple[int, int, int], num_classes: int):
        super().__init__()
        chan, height, width = image_shape
        self.num_classes = num_classes
        self.conv_fine = nn.Conv2d(chan, channels, KERNEL, stride=2, padding=KERNEL // 2)
        self.conv_coarse = nn.Conv2d(channels, 2 * channels, KERNEL, stride=2, padding=KERNEL // 2)
        self.score = nn.Linear(2 * channels * -(-height // 4) * -(-width // 4), 1 + num_classes)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Returns [batch] scores, higher for images that look like records of their class.

        Args:
            images: [batch, chan, height, width].
            labels: [batch] classes.
        """
        h = F.leaky_relu(self.conv_fine(images), 0.2)
        h = F.leaky_relu(self.conv_coarse(h), 0.2)
        scores = self.score(h.flatten(1))
        return scores[:, 0] + (scores[:, 1:] * F.one_hot(labels, self.num_classes)).sum(1)
