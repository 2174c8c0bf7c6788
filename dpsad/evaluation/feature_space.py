"""Feature spaces, where distances between images are measured: their contract, and images taken there."""

from typing import Protocol

import torch
from torch import Tensor


class FeatureSpace(Protocol):
    """A frozen network in evaluation mode that turns images into vectors.

    Attributes:
        name: what figures measured in it are labelled with.
        source: where its weights come from, in words.
        num_features: length of a vector.
    """

    name: str
    source: str
    num_features: int

    def __call__(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> features [num, num_features]."""

    def classify(self, features: Tensor) -> Tensor:
        """[num, num_features] on the network's device -> logits [num, classes] of the classes it was trained on."""

    def fingerprint(self) -> str:
        """SHA-256 of the weights in hexadecimal digits."""


@torch.no_grad()
def embed(space: FeatureSpace, images: Tensor, *, device: torch.device | str = "cpu", batch_size: int = 1000) -> Tensor:
    """Features of any number of images.

    Args:
        space: on `device`.
        images: [num, chan, height, width] in [-1, 1] on any device, unchanged but for the device.
        device: where to compute.
        batch_size: images at once; changes speed and memory alone.

    Returns:
        [num, num_features] on the CPU.

    Raises:
        ValueError: a feature is NaN or infinite.
    """
    features = torch.cat([space(batch.to(device)).cpu() for batch in images.split(batch_size)])
    if not features.isfinite().all():
        raise ValueError(
            f"features of {len(images)} images ({space.name}) are NaN or infinite; check images and weights"
        )
    return features
