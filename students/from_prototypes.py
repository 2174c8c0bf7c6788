"""The student whose images begin as released prototypes: varied, noised, and denoised in a few steps."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dpsad.data.augmentation import AugmentationConfig, variation_size, vary
from students.few_step import FewStepStudent, SamplerConfig
from students.prototypes import Prototypes
from students.seeds import Normal, images_of_seeds


class StartedDenoiser(nn.Module):
    """What is released together: a denoiser, and the prototypes that its images begin as."""

    def __init__(self, denoiser: nn.Module, prototypes: Prototypes):
        super().__init__()
        self.denoiser = denoiser
        self.register_buffer("images", prototypes.images)
        self.register_buffer("labels", prototypes.labels)
        self.register_buffer("counts", prototypes.counts)
        self.register_buffer("min_count", torch.tensor(float(prototypes.min_count)))

    def prototypes(self) -> Prototypes:
        return Prototypes(self.images, self.labels, self.counts, self.min_count.item())  # type: ignore[arg-type, operator]


class PrototypeStudent:
    """Makes images of a class from seeds.

    A prototype says what is in the image and a public variation where; the denoiser says what such images look like.
    A short way from `sampler.sigma_max`, about 1, asks less of few steps than the whole way from noise.

    Args:
        model: on its device.
        sampler: `sigma_max` is the level that prototypes are noised to.
        augmentation: public variation of prototypes; its white noise is left out.
        image_shape: (chan, height, width).
        class_names: by label.

    Source: Meng et al. 2022 (SDEdit), Algorithm 1, with prototypes for guides.
    """

    use_labels = True

    def __init__(
        self,
        model: StartedDenoiser,
        sampler: SamplerConfig,
        augmentation: AugmentationConfig,
        image_shape: tuple[int, int, int],
        class_names: Sequence[str],
    ):
        self.model, self.sampler, self.augmentation = model.eval().requires_grad_(False), sampler, augmentation
        self.image_shape, self.class_names = image_shape, tuple(class_names)
        self.few_step = FewStepStudent(model.denoiser, sampler, image_shape, class_names)

    def sample(
        self,
        labels: Tensor,
        seeds: Sequence[int],
        *,
        batch_size: int = 250,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Makes one image for each label and seed; as `images_of_seeds`."""
        prototypes = self.model.prototypes()

        def make(labels: Tensor, normal: Normal) -> Tensor:
            chosen = prototypes.images[prototypes.choose(labels, torch.special.ndtr(normal((1,))[:, 0]))]
            varied = vary(chosen, self.augmentation, normal((variation_size(chosen, self.augmentation),)))
            return self.few_step.make(labels, normal, start=varied)

        return images_of_seeds(
            make,
            labels,
            seeds,
            image_shape=self.image_shape,
            device=prototypes.images.device,
            batch_size=batch_size,
            progress=progress,
        )
