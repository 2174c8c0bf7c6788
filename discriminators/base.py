"""What every discriminator offers: features of an image, and a logit made of them and its class."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Discriminator(nn.Module, ABC):
    """A score that all classes share, and one of the image's own class, both linear in features.

    Whoever inherits makes the two layers, and keeps each image's features a function of that image alone.

    Source: Miyato and Koyama 2018 (class by inner product).
    """

    score: nn.Linear
    label_directions: nn.Embedding
    use_labels: bool

    @abstractmethod
    def features(self, images: Tensor, sigma: Tensor) -> Tensor:
        """Returns [batch, features] what is known of each image before its class is asked for.

        Args:
            images: [batch, chan, height, width] clean images.
            sigma: [batch] noise level of the input that they were predicted from.
        """

    def forward(self, images: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Returns [batch] logits, positive for "teacher".

        Args:
            images, sigma: as for `features`.
            labels: [batch] classes.
        """
        features = self.features(images, sigma)
        by_label = (features * self.label_directions(labels)).sum(1) * self.use_labels
        return self.score(features).squeeze(1) + by_label


def noise_level_inputs(sigma: Tensor) -> Tensor:
    """[batch] noise levels -> [batch, 2], of order one, for a linear layer to make shifts of."""
    level = sigma.log() / 4
    return torch.stack([level, level**2], dim=1)


def label_directions(num_classes: int, num_features: int) -> nn.Embedding:
    """What features are multiplied with for each class, "no label" included: zero at first, so that all score alike."""
    directions = nn.Embedding(num_classes + 1, num_features)
    nn.init.zeros_(directions.weight)
    return directions
