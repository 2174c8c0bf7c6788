"""The student that makes latents in a few steps, and images of them in one."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from dpsad.networks.autoencoder import Decoder
from students.few_step import FewStepStudent, SamplerConfig
from students.seeds import Normal, images_of_seeds


class LatentModel(nn.Module):
    """What is released together: a denoiser of latents, and the decoder of the public autoencoder they belong to."""

    def __init__(self, denoiser: nn.Module, decoder: Decoder):
        super().__init__()
        self.denoiser, self.decoder = denoiser, decoder


class LatentStudent:
    """Makes images of a class from seeds.

    Args:
        model: on its device.
        sampler: how latents are made.
        image_shape: (chan, height, width) of what the decoder makes.
        class_names: by label.

    Source: Rombach et al. 2022, section 3.2.
    """

    use_labels = True

    def __init__(
        self,
        model: LatentModel,
        sampler: SamplerConfig,
        image_shape: tuple[int, int, int],
        class_names: Sequence[str],
    ):
        self.model, self.sampler = model.eval().requires_grad_(False), sampler
        self.image_shape, self.class_names = image_shape, tuple(class_names)
        self.latents = FewStepStudent(model.denoiser, sampler, model.decoder.latent_shape, class_names)

    def sample(
        self,
        labels: Tensor,
        seeds: Sequence[int],
        *,
        batch_size: int = 250,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Makes one image for each label and seed; as `images_of_seeds`."""

        def make(labels: Tensor, normal: Normal) -> Tensor:
            return self.model.decoder(self.latents.make(labels, normal))

        device = next(self.model.parameters()).device
        return images_of_seeds(
            make,
            labels,
            seeds,
            image_shape=self.image_shape,
            device=device,
            batch_size=batch_size,
            progress=progress,
        )
