"""Samplers: from noise to images through any denoiser."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # x [B,C,H,W], sigma [B], labels [B] -> clean image [B,C,H,W]
FreshNoise = Callable[[], Tensor]  # standard normal, shaped like the batch


@dataclass(frozen=True, kw_only=True)
class Churn:
    """Fresh noise inside a sampler: amount over all steps, and the noise levels between which it is added.

    Source: Karras et al. 2022, Algorithm 2.
    """

    amount: float
    sigma_min: float = 0.05
    sigma_max: float = 50.0
    inflation: float = 1.0


def guided(denoise: Denoise, *, scale: float, no_label: int) -> Denoise:
    """Pushes predictions away from the unconditional one; scale 0 leaves them unchanged.

    Source: Ho and Salimans 2022, equation 6.
    """
    if scale == 0:
        return denoise

    def denoise_guided(x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        with_label = denoise(x, sigma, labels)
        without_label = denoise(x, sigma, torch.full_like(labels, no_label))
        return with_label + scale * (with_label - without_label)

    return denoise_guided


def sample_heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    labels: Tensor,
    *,
    churn: Churn | None = None,
    fresh_noise: FreshNoise | None = None,
) -> Tensor:
    """Follows the probability flow from noise to images with second-order steps.

    Args:
        denoise: predicts the clean image.
        x: [batch, chan, height, width] start, normal with standard deviation sigmas[0].
        sigmas: [steps + 1] falling noise levels, the last one 0.
        labels: [batch] classes.
        churn: adds noise before each step and removes it again; None is deterministic.
        fresh_noise: draws churn's noise; needed with churn.

    Returns:
        [batch, chan, height, width] images. Costs 2 * steps - 1 evaluations of `denoise`.

    Source: Karras et al. 2022, Algorithms 1 and 2.
    """
    if churn is not None and fresh_noise is None:
        raise ValueError("churn needs fresh_noise")
    for sigma, sigma_next in itertools.pairwise(sigmas):
        if churn is not None and fresh_noise is not None and churn.sigma_min <= sigma <= churn.sigma_max:
            gamma = min(churn.amount / (len(sigmas) - 1), 2**0.5 - 1)
            noise = fresh_noise() * churn.inflation
            x = x + (gamma**2 + 2 * gamma) ** 0.5 * sigma * noise
            sigma = sigma * (1 + gamma)
        slope = (x - denoise(x, sigma.expand(len(x)), labels)) / sigma
        x_next = x + (sigma_next - sigma) * slope
        if sigma_next > 0:
            slope_next = (x_next - denoise(x_next, sigma_next.expand(len(x)), labels)) / sigma_next
            x_next = x + (sigma_next - sigma) * (slope + slope_next) / 2
        x = x_next
    return x


def sample_ddim(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    labels: Tensor,
    *,
    churn: float = 0.0,
    fresh_noise: FreshNoise | None = None,
) -> Tensor:
    """Takes first-order steps; `churn` 0 is DDIM, 1 is ancestral (DDPM) sampling.

    Args, returns: as `sample_heun`; costs one evaluation of `denoise` a step.

    Source: Song et al. 2021, equation 12, written for unscaled images.
    """
    if churn > 0 and fresh_noise is None:
        raise ValueError("churn needs fresh_noise")
    for sigma, sigma_next in itertools.pairwise(sigmas):
        clean = denoise(x, sigma.expand(len(x)), labels)
        fresh = churn * sigma_next * (1 - (sigma_next / sigma) ** 2).sqrt()
        kept = (sigma_next**2 - fresh**2).clamp(min=0).sqrt()
        x = clean + kept * (x - clean) / sigma
        if churn > 0 and fresh_noise is not None:
            x = x + fresh * fresh_noise()
    return x
