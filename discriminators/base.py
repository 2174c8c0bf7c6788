"""What discriminators share: noise levels as inputs, and a logit made of features and class."""

import torch
from torch import Tensor, nn


def noise_level_inputs(sigma: Tensor) -> Tensor:
    """[batch] noise levels -> [batch, 2], of order one, for a linear layer to make shifts of."""
    level = sigma.log() / 4
    return torch.stack([level, level**2], dim=1)


def label_directions(num_classes: int, num_features: int) -> nn.Embedding:
    """What features are multiplied with for each class, "no label" included: zero at first, so that all score alike."""
    directions = nn.Embedding(num_classes + 1, num_features)
    nn.init.zeros_(directions.weight)
    return directions


def projected(features: Tensor, score: nn.Linear, directions: Tensor) -> Tensor:
    """A logit of what all classes share, and of each image's own class, both linear in features.

    Args:
        features: [batch, features], each row of one image alone.
        score: what all classes share, to one number.
        directions: [batch, features] of each image's class; zeros where the class is not to be known.

    Returns:
        [batch] logits, positive for "teacher".

    Source: Miyato and Koyama 2018, equation 3.
    """
    return score(features).squeeze(1) + (features * directions).sum(1)
