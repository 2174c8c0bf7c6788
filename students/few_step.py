"""Few-step student: a denoiser and the few steps in which it makes images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from dpsad.diffusion.noise_levels import sampling_levels
from dpsad.diffusion.samplers import Churn, FreshNoise, guided, sample_ddim, sample_heun
from dpsad.errors import require_choice
from dpsad.privacy.ranges import Positive, Range, Weight, require_ranges
from students.base import Student
from students.seeds import Normal


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How images are made.

    start: noise, or prototypes: varied prototypes of the sketch, noised to sigma_max, which may then be about 1.
    method: heun (two evaluations of the network a step, the last one) or ddim (one).
    steps: denoising steps; students take 1 to 8.
    sigma_min, sigma_max: last and first noise level.
    churn: fresh noise during sampling; 0 makes an image a function of its first noise.
    guidance: how far predictions are pushed towards the label; needs teacher.label_dropout > 0.
    """

    start: str = "noise"
    method: str = "heun"
    steps: Annotated[int, Range("[1, 1e4]")] = 6
    sigma_min: Positive = 0.05
    sigma_max: Positive = 20.0
    churn: Weight = 0.0
    guidance: Annotated[float, Range("[-1, 1e3]")] = 0.0

    def __post_init__(self) -> None:
        require_ranges(self, "sampler")
        require_choice("sampler.start", self.start, ("noise", "prototypes"))
        require_choice("sampler.method", self.method, ("heun", "ddim"))
        if not self.sigma_max > self.sigma_min:
            raise ValueError(f"sampler.sigma_max={self.sigma_max} must be above sampler.sigma_min={self.sigma_min}")


def few_step_student(
    denoiser: nn.Module,
    sampler: SamplerConfig,
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
    *,
    use_labels: bool = True,
) -> Student:
    """A student that denoises pure noise in a few steps.

    Args:
        denoiser: a `Denoiser`, on its device.
        sampler: how many steps, and of which kind.
        image_shape, class_names, use_labels: as for `Student`.
    """

    def make(labels: Tensor, normal: Normal) -> Tensor:
        return denoised(denoiser, sampler, labels, normal, torch.zeros(image_shape), no_label=len(class_names))

    return Student(denoiser, make, image_shape, class_names, use_labels=use_labels)


def denoised(
    denoiser: nn.Module, sampler: SamplerConfig, labels: Tensor, normal: Normal, start: Tensor, *, no_label: int
) -> Tensor:
    """Noises images to the first level and takes them through the sampler's steps.

    Args:
        labels: [batch] classes.
        normal: the noise of each image.
        start: [batch, chan, height, width] clean images, or [chan, height, width] one for all.
        no_label: the label that says so.

    Returns:
        [batch, chan, height, width], not clamped.
    """
    shape = tuple(start.shape[-3:])
    noisy = noised(sampler, start.to(labels.device), normal)
    return stepped(denoiser, sampler, noisy, labels, no_label=no_label, fresh_noise=lambda: normal(shape))


def noised(sampler: SamplerConfig, start: Tensor, normal: Normal) -> Tensor:
    """[batch, chan, height, width] clean images, or one for all, at the sampler's first level."""
    return start + normal(tuple(start.shape[-3:])) * _levels(sampler)[0].to(start.device)


def stepped(
    denoiser: nn.Module,
    sampler: SamplerConfig,
    noisy: Tensor,
    labels: Tensor,
    *,
    no_label: int,
    fresh_noise: FreshNoise | None = None,
) -> Tensor:
    """Takes noisy images through the sampler's steps.

    Args:
        noisy: [batch, chan, height, width] at the first level.
        labels: [batch] classes.
        no_label: the label that says so.
        fresh_noise: what churn adds; needed with churn.

    Returns:
        [batch, chan, height, width], not clamped.
    """
    sigmas = _levels(sampler).to(noisy.device)
    denoise = guided(denoiser, scale=sampler.guidance, no_label=no_label)
    if sampler.method == "ddim":
        return sample_ddim(denoise, noisy, sigmas, labels, churn=sampler.churn, fresh_noise=fresh_noise)
    churn = Churn(amount=sampler.churn) if sampler.churn > 0 else None
    return sample_heun(denoise, noisy, sigmas, labels, churn=churn, fresh_noise=fresh_noise)


def _levels(sampler: SamplerConfig) -> Tensor:
    return sampling_levels(sampler.steps, sigma_min=sampler.sigma_min, sigma_max=sampler.sigma_max)
