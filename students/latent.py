"""Latent student: latents in a few steps, and images of them in one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpsad.networks.autoencoder import Decoder
from dpsad.privacy.provenance import combined, provenance_of, public_images_of, united
from students.base import Student
from students.few_step import SamplerConfig, denoised
from students.seeds import Normal


class LatentModel(nn.Module):
    """What is released together: a denoiser of latents, and the decoder of the public autoencoder they belong to."""

    def __init__(self, denoiser: nn.Module, decoder: Decoder):
        super().__init__()
        self.denoiser, self.decoder = denoiser, decoder
        self.provenance = combined(provenance_of(denoiser), provenance_of(decoder))
        self.public_images = united(public_images_of(denoiser), public_images_of(decoder))


def latent_student(
    model: LatentModel, sampler: SamplerConfig, image_shape: tuple[int, int, int], class_names: Sequence[str]
) -> Student:
    """A student that denoises latents in a few steps, and decodes them.

    Args:
        model: on its device.
        sampler: how latents are made.
        image_shape: (chan, height, width) of what the decoder makes.
        class_names: by label.

    Source: Rombach et al. 2022, section 3.2.
    """

    def make(labels: Tensor, normal: Normal) -> Tensor:
        start = torch.zeros(model.decoder.latent_shape)
        return model.decoder(denoised(model.denoiser, sampler, labels, normal, start, no_label=len(class_names)))

    return Student(model, make, image_shape, class_names)
