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
        return augment(self.images[self.choose(labels, generator)], augmentation, generator=generator).clamp(-1, 1)

    def choose(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """[batch] classes -> [batch] which prototype, in proportion to the released counts."""
        return torch.multinomial(self._weights()[labels], 1, generator=generator).flatten()

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
