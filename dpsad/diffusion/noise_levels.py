"""Noise levels that a model is trained on and sampled through."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Levels = Callable[[Tensor], Tensor]  # uniform numbers in (0, 1) -> noise levels of the same shape, float32


def lognormal_levels(num: int, *, mean: float, std: float, rng: torch.Generator) -> Tensor:
    """Draws training noise levels whose logarithm is normal.

    Args:
        num: how many.
        mean: mean of log sigma.
        std: standard deviation of log sigma.
        rng: source of randomness; its device is the result's.

    Returns:
        [num] levels, > 0.

    Source: Karras et al. 2022, Table 1, row "Noise distribution".
    """
    return (mean + std * torch.randn(num, generator=rng, device=rng.device)).exp()


def mixture_quantiles(uniform: Tensor, bounds: Sequence[float], weights: Sequence[float]) -> Tensor:
    """Draws from a mixture of uniform distributions on adjoining ranges, from uniform numbers.

    Args:
        uniform: in (0, 1), of any shape.
        bounds: where ranges begin and the last one ends, rising.
        weights: probability of each range, one fewer than `bounds`; they sum to 1.

    Returns:
        Like `uniform`: the mixture's quantiles.
    """
    edges = uniform.new_tensor([0.0, *weights]).cumsum(0)
    places = uniform.new_tensor(bounds)
    index = (torch.searchsorted(edges, uniform, right=True) - 1).clamp(max=len(weights) - 1)
    share = (uniform - edges[index]) / (edges[index + 1] - edges[index])
    return places[index] + share * (places[index + 1] - places[index])


def sampling_levels(steps: int, *, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Falling noise levels for a sampler, dense where the image takes shape, with a final zero.

    Args:
        steps: number of denoising steps, >= 1.
        sigma_min: last positive level, > 0.
        sigma_max: first level.
        rho: how strongly steps crowd towards low noise.

    Returns:
        [steps + 1] from sigma_max to 0. With one step: [sigma_max, 0].

    Source: Karras et al. 2022, equation 5.
    """
    ramp = torch.linspace(0, 1, steps)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1)])


def linear_schedule_levels(num: int) -> Tensor:
    """Noise levels of a DDPM chain of `num` steps, as standard deviations beside an unscaled image.

    A chain state sqrt(a) x + sqrt(1 - a) n, divided by sqrt(a), is x + sigma n with sigma = sqrt((1 - a) / a).
    The betas are Ho et al.'s 1e-4..0.02 for 1,000 steps, stretched to `num` steps.

    Returns:
        [num] rising levels, > 0.

    Source: Ho et al. 2020, section 4; Karras et al. 2022, Appendix C.
    """
    scale = 1000 / num
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, num, dtype=torch.float64).clamp(max=0.999)
    kept = torch.cumprod(1 - betas, dim=0)
    return ((1 - kept) / kept).sqrt().float()


def one_random_level(num_levels: int, num: int, rng: torch.Generator) -> Tensor:
    """[1, num] which of `num_levels` levels each image meets: one, drawn evenly.

    Source: Ho et al. 2020, Algorithm 1.
    """
    return torch.randint(num_levels, (1, num), generator=rng, device=rng.device)


def every_level(num_levels: int, num: int, rng: torch.Generator) -> Tensor:
    """[num_levels, num] all levels for every image, each in an order of its own, so that every row mixes levels."""
    return torch.rand(num_levels, num, generator=rng, device=rng.device).argsort(dim=0)
