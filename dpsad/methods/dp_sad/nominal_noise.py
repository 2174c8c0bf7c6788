"""DP-SAD's published noise: what the paper adds to output gradients, and what it accounts for it.

This is no mechanism with a guarantee, see `reasons`; it is here so that people can compare with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from dpsad.errors import require_choice
from dpsad.privacy.clipping import clip_rows
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.ranges import Count, Positive, require_ranges

NOISE_REASONS = {
    "one": "the noise has scale sigma*C/(B*T) beside a mean over B rows taken at one random timestep, so the "
    "multiplier against the sensitivity is sigma/T, T times smaller than the one that is accounted",
    "all": "the noise has scale sigma*C/(B*T) beside a mean over B*T rows, T of which are one image's and are clipped "
    "to C each, so the multiplier against the sensitivity is sigma/sqrt(T), sqrt(T) times smaller than the one that is "
    "accounted",
}
MODEL_REASONS = (
    "teacher and discriminator saw every record without protection, so one record changes every row, and neither the "
    "sensitivity C/B nor amplification by subsampling follows",
    "the student's input is a noised private image, so the Jacobian behind the noise depends on the record, and "
    "post-processing does not apply",
)
SAMPLING_REASON = (
    "batches have a fixed size and are drawn, with repetition, from a public stream of 32 bits that follow from the "
    "run's seed, so they are no Poisson sample, and whoever knows the seed, or tries all, knows who took part"
)
COPY_REASON = (
    "the student starts with the weights of the teacher, which was trained on records without protection "
    "(student.start=teacher), so what it holds before its first noisy step has met no noise at all"
)
CLUSTER_REASON = (
    "pseudo-labels are clusters whose centres were found among all records without protection (data.pseudo_labels), so "
    "every label tells of other records"
)


@dataclass(frozen=True, kw_only=True)
class NominalConfig:
    """The paper's settings.

    num_levels: T, timesteps of the diffusion chain.
    timesteps: one (a random one per image and step) or all (every image's loss is its mean over all T; a step takes T
        times as long).
    clip_norm: C, the bound on the gradient at each of the student's outputs.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"max_norm": "clip_norm"}

    num_levels: Count = 500
    timesteps: str = "one"
    clip_norm: Positive = 100.0

    def __post_init__(self) -> None:
        require_ranges(self, "nominal")
        require_choice("nominal.timesteps", self.timesteps, ("one", "all"))

    @property
    def levels_per_image(self) -> int:
        """Timesteps that an image meets in a step: 1 or T."""
        return self.num_levels if self.timesteps == "all" else 1


def nominal_plan(clip_norm: float, sampling_prob: float, steps: int) -> ReleasePlan:
    """The event that DP-SAD accounts: a subsampled Gaussian a step, to be calibrated. Not what happens."""
    return ReleasePlan(
        purpose="as accounted by DP-SAD",
        unit=Unit.RECORD,
        clip_norm=clip_norm,
        sampling_prob=sampling_prob,
        num_releases=steps,
    )


def actual_multiplier(config: NominalConfig, noise_multiplier: float) -> float:
    """Noise of `nominal_noise` beside the joint norm of an image's clipped rows: sigma/T, or sigma/sqrt(T) for all T.

    It would be the multiplier to account, were the rows functions of one image alone.
    """
    return noise_multiplier * math.sqrt(config.levels_per_image) / config.num_levels


def reasons(config: NominalConfig, *, copies_teacher: bool, clustered: bool) -> tuple[str, ...]:
    """Why the nominal epsilon is no guarantee.

    Args:
        copies_teacher: whether the student starts as a teacher that saw records without protection.
        clustered: whether labels are clusters of the records.
    """
    found = [NOISE_REASONS[config.timesteps], *MODEL_REASONS, SAMPLING_REASON]
    return (*found, *([COPY_REASON] if copies_teacher else []), *([CLUSTER_REASON] if clustered else []))


def nominal_noise(
    config: NominalConfig, noise_multiplier: float, randomness: PrivateRandomness
) -> Callable[[Tensor], Tensor]:
    """Clips each row to C, and adds noise of scale sigma*C*n/T to it, n being the timesteps that an image meets.

    A row is the gradient at the student's output for one image at one timestep. A step has B*n of them, n = 1 or
    n = T, and the loop takes their mean. Divided by B*n, the noise of a row has the published scale sigma*C/(B*T) in
    that mean, whichever n is: rows of all T timesteps get sigma*C each, the noise that the paper puts beside a sum of
    B*T clipped rows; a row that alone stands for its image's T gets sigma*C/T.

    Args:
        noise_multiplier: sigma.
        randomness: of the noise, on the device of the gradients.

    Returns:
        [rows, ...] -> [rows, ...].

    Formal guarantee: none.

    Source: DP-SAD, Algorithm 1.
    """

    def sanitize(gradient: Tensor) -> Tensor:
        noise = randomness.normal(tuple(gradient.shape))
        scale = noise_multiplier * config.clip_norm * config.levels_per_image / config.num_levels
        return clip_rows(gradient, config.clip_norm).add_(noise, alpha=scale)

    return sanitize
