"""Prototypes: records move class-conditional images into place, by one clipped and noised row a unit.

The student's first form is images that it holds directly. In every round it proposes them all, and each privacy unit
answers with its difference from them, see `prototype_rows` for whose and how. Rounds of one resolution repeat, as in
Lloyd's algorithm, and the noise of each is shrunk away where the released power does not rise above it, so that many
cheap rounds beat one dear one. Then every prototype splits and finer rounds follow.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dpsad.data.augmentation import smooth_fields
from dpsad.methods.dp_sad.queries import Proposal
from dpsad.methods.dp_sad.wiener_filter import wiener_shrink
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.ranges import Count, Positive, Share, ShareOrAll, Weight, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.privacy.together import Together
from students.prototypes import Prototypes

# what is proposed, bound on one difference -> chunks of rows, [units, proposed images, pixels + 1] each or block rows
Rows = Callable[[Proposal, float], Iterable[Tensor | BlockRows]]


@dataclass(frozen=True, kw_only=True)
class PrototypesConfig:
    """How prototypes are released.

    per_class: prototypes of a class, at each resolution; each a multiple of the one before. The first is its mean.
    rounds: at each resolution.
    shares: of the prototypes' budget (of mu^2), spent in all rounds of each resolution.
    clip_rms: bound on a record's difference from its prototype, as root mean square over pixels; the class mean's
        rounds take 1.
    count_share: share of a row's squared norm that counts whoever it is from.
    spread: of a prototype's children around it, as root mean square over pixels.
    min_count: prototypes with a released count below this are not drawn.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"prototypes": "per_class", "max_pull": "clip_rms"}

    per_class: tuple[Count, ...] = (1, 4, 16, 64)
    rounds: tuple[Count, ...] = (1, 2, 3, 4)
    shares: tuple[ShareOrAll, ...] = (0.03, 0.1, 0.25, 0.62)
    clip_rms: Positive = 0.36
    count_share: Share = 0.1
    spread: Weight = 0.07
    min_count: Positive = 15.0

    def __post_init__(self) -> None:
        require_ranges(self, "prototypes")
        if not len(self.per_class) == len(self.rounds) == len(self.shares) > 0:
            raise ValueError(
                "prototypes.per_class, prototypes.rounds and prototypes.shares must be lists of one length"
            )
        previous = 1
        for number in self.per_class:
            if number % previous:
                raise ValueError(
                    f"prototypes.per_class={list(self.per_class)}: each must be a multiple of the one before"
                )
            previous = number
        if abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"prototypes.shares={list(self.shares)} must sum to 1")


def prototype_plans(
    config: PrototypesConfig, mu: float, *, unit: Unit = Unit.RECORD, clip_norm: float = 1.0
) -> list[ReleasePlan]:
    """The releases of prototypes, one plan per resolution.

    Args:
        mu: signal-to-noise ratio of all releases together; they cost what one Gaussian release of multiplier 1/mu does.
        unit: whose rows they are.
        clip_norm: bound on a row's norm; what one record gives has a norm of at most 1.
    """
    return [
        ReleasePlan(
            purpose=f"prototypes, {number} a class",
            unit=unit,
            clip_norm=clip_norm,
            noise_multiplier=unit.reach * math.sqrt(rounds / share) / mu,
            num_releases=rounds,
        )
        for number, rounds, share in zip(config.per_class, config.rounds, config.shares, strict=True)
    ]


def release_prototypes(
    config: PrototypesConfig,
    *,
    rows: Rows,
    plans: Sequence[ReleasePlan],
    num_classes: int,
    image_shape: tuple[int, int, int],
    ledger: Ledger,
    randomness: PrivateRandomness,
    rng: torch.Generator,
    together: Together | None = None,
) -> Prototypes:
    """Releases prototypes of each class.

    Args:
        rows: the private side; gives each unit's row for what is proposed.
        plans: one per resolution, see `prototype_plans`.
        ledger: is charged before each resolution's first release.
        randomness: secret; the privacy noise.
        rng: public; how prototypes split.
        together: processes that release them together, `rows` being those of each one's own units.

    Returns:
        per_class[-1] images of each class.

    Formal guarantee: the result is post-processing of the releases in `plans`, provided that `rows` gives each unit
    one row of its own.
    Edge cases: a class with few records gives prototypes near its parents', with small counts.
    """
    device, size = rng.device, math.prod(image_shape)
    centres = torch.zeros(num_classes, 1, *image_shape, device=device)
    counts = torch.full((num_classes, 1), math.inf, device=device)
    for number, plan in zip(config.per_class, plans, strict=True):
        bound = difference_bound(config, number, size)
        centres = split(centres, number // centres.shape[1], config.spread, rng)
        sanitizer = Sanitizer(plan, ledger, randomness, together)
        for _ in range(plan.num_releases):
            proposal = propose_prototypes(centres)
            released = sanitizer.release(rows(proposal, bound), (num_classes * number, size + 1))
            moved_to, released_counts = moved(
                proposal.outputs, released, plan.noise_scale, bound, config.count_share, config.min_count
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
    """Moves proposed images by the released mean difference from each, less what is likely noise.

    Args:
        outputs: [num, chan, height, width].
        released: [num, pixels + 1] noisy sums of rows.
        noise: standard deviation of the noise on these sums.
        bound, count_share: of what records give in the rows.
        min_count: sums of fewer than this are divided by this, since their counts are mostly noise.

    Returns:
        Images likewise, in [-1, 1], and released counts [num].
    """
    counts = released[:, -1] / math.sqrt(count_share)
    divisor = counts.clamp(min=min_count)
    unit = pixels_of_rows(bound, count_share)
    differences = released[:, :-1] * (unit / divisor[:, None])
    noise_variance = (noise * unit / divisor) ** 2
    return (outputs + wiener_shrink(differences.reshape(outputs.shape), noise_variance)).clamp(-1, 1), counts


def difference_bound(config: PrototypesConfig, number: int, size: int) -> float:
    """Bound on the norm of a record's difference from its prototype, where a class has `number` of `size` pixels."""
    return (1.0 if number == 1 else config.clip_rms) * math.sqrt(size)


def pixels_of_rows(bound: float, count_share: float) -> float:
    """What a number of 1 in a row's differences is in pixels.

    Args:
        bound, count_share: of what records give in the rows.
    """
    return bound / math.sqrt(1 - count_share)


def split(centres: Tensor, children: int, spread: float, rng: torch.Generator) -> Tensor:
    """Replaces every prototype by `children` smoothly varied copies."""
    if children == 1:
        return centres
    copies = centres.repeat_interleave(children, dim=1)
    classes, number, channels, height, width = copies.shape
    fields = smooth_fields(classes * number * channels, height, width, 1 / 7, device=copies.device, rng=rng)
    variation = fields[..., 0].reshape(copies.shape) * spread
    return (copies + variation).clamp(-1, 1)
