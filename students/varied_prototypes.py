"""The student without a network: it holds released images of each class, and varies them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpsad.data.augmentation import AugmentationConfig, variation_size, vary
from students.base import Student
from students.prototypes import Prototypes
from students.seeds import Normal
from students.spread import Spread


class HeldPrototypes(nn.Module):
    """Prototypes as weights that can be saved and loaded, and that nothing trains."""

    images: Tensor
    labels: Tensor
    counts: Tensor
    min_count: Tensor
    spread_basis: Tensor
    spread_factors: Tensor

    def __init__(self, prototypes: Prototypes):
        super().__init__()
        self.provenance = prototypes.provenance
        self.register_buffer("images", prototypes.images)
        self.register_buffer("labels", prototypes.labels)
        self.register_buffer("counts", prototypes.counts)
        self.register_buffer("min_count", torch.tensor(float(prototypes.min_count)))
        if prototypes.spread is not None:
            self.register_buffer("spread_basis", prototypes.spread.basis)
            self.register_buffer("spread_factors", prototypes.spread.factors)

    def prototypes(self) -> Prototypes:
        spread = Spread(self.spread_basis, self.spread_factors) if "spread_basis" in self._buffers else None
        return Prototypes(self.images, self.labels, self.counts, self.min_count.item(), self.provenance, spread)


def varied(prototypes: Prototypes, augmentation: AugmentationConfig, labels: Tensor, normal: Normal) -> Tensor:
    """A prototype for each label, in proportion to the released counts, spread out and varied as its own noise says.

    Args:
        augmentation: public variation; its white noise is left out.
        labels: [batch] classes.
        normal: the noise of each image.

    Returns:
        [batch, chan, height, width].
    """
    chosen = prototypes.choose(labels, torch.special.ndtr(normal((1,))[:, 0]))
    images = prototypes.spread_out(chosen, normal((prototypes.spread_dim,)))
    return vary(images, augmentation, normal((variation_size(images, augmentation),)))


def varied_student(
    model: HeldPrototypes,
    augmentation: AugmentationConfig,
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
) -> Student:
    """A student whose images are varied prototypes, as they are.

    Args:
        model: on its device.
        augmentation: public variation; without any, the images of a prototype are all the same.
        image_shape, class_names: as for `Student`.
    """

    def make(labels: Tensor, normal: Normal) -> Tensor:
        return varied(model.prototypes(), augmentation, labels, normal)

    return Student(model, make, image_shape, class_names)
