"""Denoiser, the one contract of every diffusion model here: noisy image, noise level and label -> clean image."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dpsad.diffusion.parameterisations import PARAMETERISATIONS
from dpsad.privacy.provenance import provenance_of, public_images_of


class Denoiser(nn.Module):
    """Wraps a network so that it predicts clean images well at every noise level.

    Args:
        network: called as `network(scaled_image, noise_embedding, labels)`, returns the image's shape.
        sigma_data: standard deviation of clean pixels, > 0.
        parameterisation: what the network predicts; a key of `PARAMETERISATIONS`.

    Attributes:
        provenance: what it has seen: nothing at first. Whatever trains it says so, and copies keep it.
        public_images: those that it has learned from, likewise.

    Source: Karras et al. 2022, equation 7.
    """

    def __init__(self, network: Callable[..., Tensor], *, sigma_data: float = 0.5, parameterisation: str = "edm"):
        super().__init__()
        self.network, self.sigma_data = network, sigma_data
        self.parameterisation = PARAMETERISATIONS[parameterisation]
        self.provenance, self.public_images = provenance_of(network), public_images_of(network)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Predicts the clean image.

        Args:
            x: [batch, chan, height, width] clean image plus `sigma` times standard normal noise.
            sigma: [batch] noise levels, > 0.
            labels: [batch] class of each image.

        Returns:
            [batch, chan, height, width] float32.
        """
        c_skip, c_out, c_in, c_noise = self.parameterisation.coefficients(sigma.float(), self.sigma_data)
        c_skip, c_out, c_in = (c[:, None, None, None] for c in (c_skip, c_out, c_in))
        return c_skip * x + c_out * self.network(c_in * x, c_noise, labels).float()


def denoising_loss(denoiser: Denoiser, x0: Tensor, sigma: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
    """The diffusion training loss, with the noise given.

    Args:
        denoiser: model to train.
        x0: [batch, chan, height, width] clean images.
        sigma: [batch] noise levels, > 0.
        noise: like x0, standard normal.
        labels: [batch] class of each image.

    Returns:
        [batch] squared error per image, averaged over pixels and weighted by noise level.

    Source: Karras et al. 2022, equation 2.
    """
    noisy = x0 + sigma[:, None, None, None] * noise
    error = (denoiser(noisy, sigma, labels) - x0).square().mean(dim=(1, 2, 3))
    return denoiser.parameterisation.loss_weight(sigma, denoiser.sigma_data) * error


def drop_labels(labels: Tensor, no_label: int, prob: float, rng: torch.Generator) -> Tensor:
    """Replaces labels by "no label" with probability `prob`, so that the model also learns the whole data.

    Source: Ho and Salimans 2022, Algorithm 1.
    """
    dropped = torch.rand(labels.shape, generator=rng, device=labels.device) < prob
    return torch.where(dropped, no_label, labels)
