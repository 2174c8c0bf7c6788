"""Student whose images begin as released prototypes: varied, noised, and denoised in a few steps."""

from collections.abc import Sequence

from torch import Tensor, nn

from dpsad.data.augmentation import AugmentationConfig
from dpsad.privacy.provenance import combined, provenance_of, public_images_of
from students.base import Student
from students.few_step import SamplerConfig, denoised
from students.prototypes import Prototypes
from students.seeds import Normal
from students.varied_prototypes import HeldPrototypes, varied


class StartedDenoiser(HeldPrototypes):
    """What is released together: a denoiser, and the prototypes that its images begin as."""

    def __init__(self, denoiser: nn.Module, prototypes: Prototypes):
        super().__init__(prototypes)
        self.denoiser = denoiser
        self.provenance = combined(provenance_of(denoiser), prototypes.provenance)
        self.public_images = public_images_of(denoiser)


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
        begun = varied(model.prototypes(), augmentation, labels, normal)
        return denoised(model.denoiser, sampler, labels, normal, begun, no_label=len(class_names))

    return Student(model, make, image_shape, class_names)
