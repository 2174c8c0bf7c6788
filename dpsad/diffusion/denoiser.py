"""The one contract of every diffusion model here: a noisy image, its noise level and its label -> a clean image."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Denoiser(nn.Module):
    """Wraps a network so that it predicts clean images well at every noise level.

    Args:
        network: called as `network(scaled_image, noise_embedding, labels)`, returns the image's shape.
        sigma_data: standard deviation of clean pixels, > 0.

    Source: Karras et al. 2022, equation 7 and Table 1, column "Ours".
    """

    def __init__(self, network: Callable[..., Tensor], *, sigma_data: float = 0.5):
        super().__init__()
        self.network, self.sigma_data = network, sigma_data

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Predicts the clean image.

        Args:
            x: [batch, chan, height, width] clean image plus `sigma` times standard normal noise.
            sigma: [batch] noise levels, > 0.
            labels: [batch] class of each image.

        Returns:
            [batch, chan, height, width] float32.
        """
        sigma_data = self.sigma_data
        sigma = sigma.float()[:, None, None, None]
        c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
        c_out = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
        c_in = 1 / (sigma**2 + sigma_data**2).sqrt()
        c_noise = sigma.log().flatten() / 4
        return c_skip * x + c_out * self.network(c_in * x, c_noise, labels).float()


def loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Weight that gives every noise level the same expected loss at the start of training.

    Source: Karras et al. 2022, Table 1, row "Loss weighting".
    """
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def weighted_error(denoised: Tensor, target: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """Squared error of clean-image predictions, averaged over pixels and weighted by noise level.

    Args:
        denoised: [batch, chan, height, width] predictions.
        target: [batch, chan, height, width] what they should be.
        sigma: [batch] noise level of each prediction's input.
        sigma_data: standard deviation of clean pixels.

    Returns:
        [batch] one non-negative number per image.
    """
    return loss_weight(sigma, sigma_data) * (denoised - target).square().mean(dim=(1, 2, 3))


def denoising_loss(denoiser: Denoiser, x0: Tensor, sigma: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
    """The diffusion training loss, with the noise given.

    Args:
        denoiser: model to train.
        x0: [batch, chan, height, width] clean images.
        sigma: [batch] noise levels, > 0.
        noise: like x0, standard normal.
        labels: [batch] class of each image.

    Returns:
        [batch] weighted squared error per image.

    Source: Karras et al. 2022, equation 2.
    """
    noisy = x0 + sigma[:, None, None, None] * noise
    return weighted_error(denoiser(noisy, sigma, labels), x0, sigma, denoiser.sigma_data)


def drop_labels(labels: Tensor, no_label: int, prob: float, generator: torch.Generator) -> Tensor:
    """Replaces labels by "no label" with probability `prob`, so that the model also learns the whole data.

    Source: Ho and Salimans 2022, Algorithm 1.
    """
    dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < prob
    return torch.where(dropped, no_label, labels)
