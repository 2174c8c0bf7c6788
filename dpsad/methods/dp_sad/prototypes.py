"""Sketch stage: the private side pulls class-conditional prototypes into place, one clipped and noised row a unit.

The student's first form is images that it holds directly. In every round it proposes them all, and each privacy unit
answers with its pulls on them, see `dpsad.stages.pulls` for whose and how. Rounds of one resolution repeat, as in
Lloyd's algorithm, and the noise of each is shrunk away where the released power does not rise above it, so that many
cheap rounds beat one dear one. Then every prototype splits and finer rounds follow.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsad.data.augmentation import smooth_fields
from dpsad.errors import require_positive
from dpsad.methods.dp_sad.wiener_filter import wiener_shrink
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from students.base import Proposal
from students.prototypes import Prototypes

# what is proposed, bound on one pull -> chunks of rows, each [units, proposed images, pixels + 1] or block rows
Pulls = Callable[[Proposal, float], Iterable[Tensor | BlockRows]]
NamedPlan = tuple[str, ReleasePlan]


@dataclass(frozen=True, kw_only=True)
class SketchConfig:
    """How prototypes are released.

    prototypes: per class, at each resolution; each a multiple of the one before. The first is the class mean.
    rounds: at each resolution.
    shares: of the sketch's budget (of mu^2), spent in all rounds of each resolution.
    max_pull: bound on one pull, as root mean square over pixels; the class mean's rounds take 1.
    count_share: share of a pull's squared norm that counts whoever pulls.
    spread: of a prototype's children around it, as root mean square over pixels.
    min_count: prototypes with a released count below this are not drawn.
    """

    prototypes: tuple[int, ...] = (1, 4, 16, 64)
    rounds: tuple[int, ...] = (1, 2, 3, 4)
    shares: tuple[float, ...] = (0.03, 0.1, 0.25, 0.62)
    max_pull: float = 0.36
    count_share: float = 0.1
    spread: float = 0.07
    min_count: float = 15.0

    def __post_init__(self) -> None:
        if not len(self.prototypes) == len(self.rounds) == len(self.shares) > 0:
            raise ValueError("sketch.prototypes, sketch.rounds and sketch.shares must be lists of one length")
        previous = 1
        for number in self.prototypes:
            if number < 1 or number % previous:
                raise ValueError(
                    f"sketch.prototypes={list(self.prototypes)}: each must be a multiple of the one before"
                )
            previous = number
        if abs(sum(self.shares) - 1) > 1e-6 or min(self.shares) <= 0:
            raise ValueError(f"sketch.shares={list(self.shares)} must be positive and sum to 1")
        if min(self.rounds) < 1:
            raise ValueError(f"sketch.rounds={list(self.rounds)} must be at least 1")
        require_positive("sketch.max_pull", self.max_pull)
        if not 0 < self.count_share < 1:
            raise ValueError(f"sketch.count_share={self.count_share} must be between 0 and 1")


def sketch_plans(
    config: SketchConfig, mu: float, *, unit: Unit = Unit.RECORD, max_norm: float = 1.0
) -> list[NamedPlan]:
    """The releases of a sketch, one plan per resolution, with the name that the ledger gives it.

    Args:
        mu: signal-to-noise ratio of all releases together; they cost what one Gaussian release of multiplier 1/mu does.
        unit: whose rows they are.
        max_norm: bound on a row's norm; one pull has a norm of at most 1.
    """
    return [
        (
            f"sketch, {number} prototypes a class",
            ReleasePlan(
                unit=unit,
                max_norm=max_norm,
                noise_multiplier=unit.reach * math.sqrt(rounds / share) / mu,
                num_releases=rounds,
            ),
        )
        for number, rounds, share in zip(config.prototypes, config.rounds, config.shares, strict=True)
    ]


def sketch(
    config: SketchConfig,
    *,
    pulls: Pulls,
    plans: Sequence[NamedPlan],
    num_classes: int,
    image_shape: tuple[int, int, int],
    ledger: Ledger,
    randomness: PrivateRandomness,
    generator: torch.Generator,
) -> Prototypes:
    """Releases prototypes of each class.

    Args:
        pulls: the private side; gives each unit's row for what is proposed.
        plans: one per resolution, see `sketch_plans`.
        ledger: is charged before each resolution's first release.
        randomness: secret; the privacy noise.
        generator: public; how prototypes split.

    Returns:
        prototypes[-1] images per class.

    Formal guarantee: the result is post-processing of the releases in `plans`, provided that `pulls` gives each unit
    one row of its own.
    Edge cases: a class with few records gives prototypes near its parents', with small counts.
    """
    device, size = generator.device, math.prod(image_shape)
    centres = torch.zeros(num_classes, 1, *image_shape, device=device)
    counts = torch.full((num_classes, 1), math.inf, device=device)
    for number, (purpose, plan) in zip(config.prototypes, plans, strict=True):
        bound = (1.0 if number == 1 else config.max_pull) * math.sqrt(size)
        centres = split(centres, number // centres.shape[1], config.spread, generator)
        sanitizer = Sanitizer(plan, ledger, purpose, randomness)
        for _ in range(plan.num_releases):
            proposal = propose_prototypes(centres)
            released = sanitizer.release(pulls(proposal, bound), (num_classes * number, size + 1))
            noise = plan.noise_multiplier * plan.max_norm
            moved_to, released_counts = moved(
                proposal.outputs, released, noise, bound, config.count_share, config.min_count
            )
            centres, counts = moved_to.reshape(centres.shape), released_counts.reshape(centres.shape[:2])
    labels = torch.arange(num_classes, device=device).repeat_interleave(centres.shape[1])
    return Prototypes(centres.flatten(0, 1), labels, counts.flatten(), config.min_count)


def propose_prototypes(centres: Tensor) -> Proposal:
    """Prototypes, [classes, number, chan, height, width], as what the student proposes, without noise."""
    outputs = centres.flatten(0, 1)
    labels = torch.arange(len(centres), device=centres.device).repeat_interleave(centres.shape[1])
    return Proposal(outputs, torch.zeros(len(outputs), device=outputs.device), labels, outputs)


def moved(
    outputs: Tensor, released: Tensor, noise: float, bound: float, count_share: float, min_count: float
) -> tuple[Tensor, Tensor]:
    """Moves proposed images by the released mean pull on each, less what is likely noise.

    Args:
        outputs: [num, chan, height, width].
        released: [num, pixels + 1] noisy sums of rows.
        noise: standard deviation of the noise on these sums.
        bound, count_share: of the pulls in the rows.
        min_count: sums of fewer than this are divided by this, since their counts are mostly noise.

    Returns:
        Images likewise, in [-1, 1], and released counts [num].
    """
    counts = released[:, -1] / math.sqrt(count_share)
    divisor = counts.clamp(min=min_count)
    unit = bound / math.sqrt(1 - count_share)
    pulls = released[:, :-1] * (unit / divisor[:, None])
    noise_variance = (noise * unit / divisor) ** 2
    return (outputs + wiener_shrink(pulls.reshape(outputs.shape), noise_variance)).clamp(-1, 1), counts


def split(centres: Tensor, children: int, spread: float, generator: torch.Generator) -> Tensor:
    """Replaces every prototype by `children` smoothly varied copies."""
    if children == 1:
        return centres
    copies = centres.repeat_interleave(children, dim=1)
    classes, number, channels, height, width = copies.shape
    fields = smooth_fields(classes * number * channels, height, width, 1 / 7, device=copies.device, generator=generator)
    variation = fields[..., 0].reshape(copies.shape) * spread
    return (copies + variation).clamp(-1, 1)
