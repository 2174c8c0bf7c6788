"""The student's first form: class-conditional images that it holds directly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsad.data.augmentation import AugmentationConfig, augment


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Released images, each standing for a number of records. All of it may be shared.

    Attributes:
        images: [num, chan, height, width] in [-1, 1].
        labels: [num] int64.
        counts: [num] released counts of the records behind each image; noisy, may be negative.
        min_count: images behind which there are fewer are noise, and are not drawn.
    """

    images: Tensor
    labels: Tensor
    counts: Tensor
    min_count: float

    def draw(self, labels: Tensor, augmentation: AugmentationConfig, generator: torch.Generator) -> Tensor:
        """Draws an image for each label, in proportion to the released counts, and varies it.

        Args:
            labels: [batch] classes.
            augmentation: public variation.
            generator: on the device of the prototypes.

        Returns:
            [batch, chan, height, width] in [-1, 1].
        """
        uniform = torch.rand(len(labels), generator=generator, device=generator.device)
        return augment(self.images[self.choose(labels, uniform)], augmentation, generator=generator).clamp(-1, 1)

    def choose(self, labels: Tensor, uniform: Tensor) -> Tensor:
        """Which prototype each image is of, in proportion to the released counts.

        Args:
            labels: [batch] classes.
            uniform: [batch] uniform numbers in [0, 1).

        Returns:
            [batch] index into the prototypes.
        """
        rising = self._weights().double().cumsum(1)[labels]
        place = torch.searchsorted(rising, uniform[:, None].double() * rising[:, -1:], right=True)
        return place.flatten().clamp(max=len(self.images) - 1)

    def _weights(self) -> Tensor:
        """[classes, num] how often each prototype is drawn for a class; classes without any large one draw all."""
        num_classes = int(self.labels.max()) + 1
        own = self.labels == torch.arange(num_classes, device=self.labels.device)[:, None]
        counts = torch.where(self.counts >= self.min_count, self.counts.float(), 0)
        weights = own * counts
        return torch.where(weights.sum(1, keepdim=True) > 0, weights, own.float())

    def to(self, device: torch.device) -> "Prototypes":
        return Prototypes(self.images.to(device), self.labels.to(device), self.counts.to(device), self.min_count)

    def state_dict(self) -> dict:
        return {"images": self.images, "labels": self.labels, "counts": self.counts, "min_count": self.min_count}
