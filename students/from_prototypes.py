"""Student whose images begin as released prototypes: varied, noised, and denoised in a few steps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpsad.data.augmentation import AugmentationConfig, variation_size, vary
from dpsad.privacy.provenance import combined, provenance_of
from students.base import Student
from students.few_step import SamplerConfig, denoised
from students.prototypes import Prototypes
from students.seeds import Normal


class StartedDenoiser(nn.Module):
    """What is released together: a denoiser, and the prototypes that its images begin as."""

    def __init__(self, denoiser: nn.Module, prototypes: Prototypes):
        super().__init__()
        self.denoiser = denoiser
        self.provenance = combined(provenance_of(denoiser), prototypes.provenance)
        self.register_buffer("images", prototypes.images)
        self.register_buffer("labels", prototypes.labels)
        self.register_buffer("counts", prototypes.counts)
        self.register_buffer("min_count", torch.tensor(float(prototypes.min_count)))

    def prototypes(self) -> Prototypes:
        return Prototypes(self.images, self.labels, self.counts, self.min_count.item())  # type: ignore[arg-type, operator]


def prototype_student(
    model: StartedDenoiser,
    sampler: SamplerConfig,
    augmentation: AugmentationConfig,
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
) -> Student:
    """A student that denoises varied prototypes.

    A prototype says what is in the image and a public variation where; the denoiser says what such images look like.
    A short way from `sampler.sigma_max`, about 1, asks less of few steps than the whole way from noise.

    Args:
        model: on its device.
        sampler: `sigma_max` is the level that prototypes are noised to.
        augmentation: public variation of prototypes; its white noise is left out.
        image_shape, class_names: as for `Student`.

    Source: Meng et al. 2022 (SDEdit), Algorithm 1, with prototypes for guides.
    """

    def make(labels: Tensor, normal: Normal) -> Tensor:
        prototypes = model.prototypes()
        chosen = prototypes.images[prototypes.choose(labels, torch.special.ndtr(normal((1,))[:, 0]))]
        varied = vary(chosen, augmentation, normal((variation_size(chosen, augmentation),)))
        return denoised(model.denoiser, sampler, labels, normal, varied, no_label=len(class_names))

    return Student(model, make, image_shape, class_names)
