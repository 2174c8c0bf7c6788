"""Random Fourier features of the Gaussian kernel."""

import math

import torch
from torch import Tensor

from dpsad.privacy.exact import exact_products


class RandomFourierFeatures:
    """Maps vectors to features whose inner products are, on average over the frequencies, a Gaussian kernel.

    Args:
        num_features: even; half are cosines, half sines.
        dim: of the vectors.
        length_scale: of the kernel exp(-||x - y||^2 / (2 length_scale^2)), in the units of the vectors, > 0.
        rng: public, on the CPU; draws the frequencies, so that they are the same on every device.
        device: of the vectors.

    Formal guarantee: every feature vector has norm 1, up to float32 rounding, since cos^2 + sin^2 = 1.

    Source: Rahimi and Recht 2007; Harder et al. 2021, equation 3.
    """

    def __init__(
        self,
        num_features: int,
        dim: int,
        *,
        length_scale: float,
        rng: torch.Generator,
        device: torch.device | str = "cpu",
    ):
        self.frequencies = (torch.randn(dim, num_features // 2, generator=rng) / length_scale).to(device)

    def __call__(self, x: Tensor, chosen: Tensor | slice = slice(None)) -> Tensor:
        """[num, ...] vectors, their axes flattened -> [num, 2 * frequencies] features: cosines, then sines."""
        return _waves(x.flatten(1) @ self.frequencies[:, chosen])

    def of_each(self, x: Tensor, bound: float) -> Tensor:
        """As a call, of vectors whose elements are brought within `bound`; each result is a function of its vector
        alone, to the bit, whatever stands beside it. Slower, and without gradients."""
        frequencies = self.frequencies.T
        return _waves(exact_products(x.flatten(1), frequencies, bound, float(frequencies.abs().max())).float())


def _waves(phases: Tensor) -> Tensor:
    """[num, frequencies] -> [num, 2 * frequencies] of norm 1: cosines, then sines."""
    return torch.cat([phases.cos(), phases.sin()], dim=1) / math.sqrt(phases.shape[1])
