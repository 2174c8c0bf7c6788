"""DP-SAD's published noise: what the paper adds to output gradients, and what it accounts for it.

This is no mechanism with a guarantee, see `REASONS`; it is here so that people can compare with it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dpsad.errors import require_positive
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.rows import clip_rows

REASONS = (
    "the noise has scale sigma*C/(B*T) beside a mean over B rows taken at one random timestep, so the multiplier "
    "against the sensitivity is sigma/T, T times smaller than the one that is accounted",
    "teacher and discriminator saw every record without protection, so one record changes every row, and neither the "
    "sensitivity C/B nor amplification by subsampling follows",
    "the student's input is a noised private image, so the Jacobian behind the noise depends on the record, and "
    "post-processing does not apply",
)


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """The paper's settings.

    num_levels: T, timesteps of the diffusion chain; one random one per image.
    max_norm: C, the bound on each image's gradient at the student's output.
    """

    num_levels: int = 500
    max_norm: float = 100.0

    def __post_init__(self) -> None:
        for key in ("num_levels", "max_norm"):
            require_positive(f"published.{key}", getattr(self, key))


def nominal_plan(noise_multiplier: float, max_norm: float, sampling_prob: float, steps: int) -> ReleasePlan:
    """The event that DP-SAD accounts: a subsampled Gaussian with the stated sigma a step. Not what happens."""
    return ReleasePlan(
        unit=Unit.RECORD,
        max_norm=max_norm,
        noise_multiplier=noise_multiplier,
        sampling_prob=sampling_prob,
        num_releases=steps,
    )


def published_noise(
    config: PublishedConfig, noise_multiplier: float, randomness: PrivateRandomness
) -> Callable[[Tensor], Tensor]:
    """Clips each image's gradient to C, and adds noise of scale sigma*C/T to it.

    The loop divides by the batch size B, so that the noise on the mean has the published scale sigma*C/(B*T).

    Args:
        noise_multiplier: sigma.
        randomness: of the noise, on the device of the gradients.

    Returns:
        [batch, ...] -> [batch, ...].

    Formal guarantee: none.

    Source: DP-SAD, Algorithm 1.
    """

    def sanitize(gradient: Tensor) -> Tensor:
        noise = randomness.normal(tuple(gradient.shape))
        scale = noise_multiplier * config.max_norm / config.num_levels
        return clip_rows(gradient, config.max_norm).add_(noise, alpha=scale)

    return sanitize
