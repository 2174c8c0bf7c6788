"""Sketch stage: records pull class-conditional prototypes into place, one clipped and noised row each.

In every round each record finds the nearest prototype of its own class. Its row is its pull on that prototype, beside
a one that counts it; it is zero elsewhere. Rounds of one resolution repeat, as in Lloyd's algorithm, and the noise of
each is shrunk away where the released power does not rise above it, so that many cheap rounds beat one dear one. Then
every prototype splits and finer rounds follow.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsad.data.augmentation import smooth_fields
from dpsad.data.records import ImageSet
from dpsad.errors import require_positive
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.rows import BlockRows, clip_rows
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.stages.shrinkage import wiener_shrink
from students.prototypes import Prototypes

CHUNK = 4096  # records whose rows are held at once


@dataclass(frozen=True, kw_only=True)
class SketchConfig:
    """How the sketch is released.

    prototypes: per class, at each resolution; each a multiple of the one before. The first is the class mean.
    rounds: at each resolution.
    shares: of the sketch's budget (of mu^2), spent in all rounds of each resolution.
    max_pull: bound on a record's pull, as root mean square over pixels; the class mean's rounds take 1.
    count_share: share of a row's squared norm that counts the record.
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


def sketch_plans(config: SketchConfig, mu: float) -> list[ReleasePlan]:
    """The releases of a sketch, one plan per resolution.

    Args:
        mu: signal-to-noise ratio of all releases together; they cost what one Gaussian release of multiplier 1/mu does.
    """
    return [
        ReleasePlan(
            unit=Unit.RECORD, max_norm=1.0, noise_multiplier=math.sqrt(rounds / share) / mu, num_releases=rounds
        )
        for rounds, share in zip(config.rounds, config.shares, strict=True)
    ]


def sketch_purpose(number: int) -> str:
    """How the ledger names the releases of a resolution."""
    return f"sketch, {number} prototypes a class"


def sketch(
    config: SketchConfig,
    *,
    records: ImageSet,
    device: torch.device,
    mu: float,
    ledger: Ledger,
    randomness: PrivateRandomness,
    generator: torch.Generator,
) -> Prototypes:
    """Releases prototypes of each class.

    Args:
        records: the private records.
        device: where to work; as the randomness and the generator.
        mu: the sketch's budget, see `sketch_plans`.
        ledger: is charged before each resolution's first release.
        randomness: secret; the privacy noise.
        generator: public; how prototypes split.

    Returns:
        prototypes[-1] images per class.

    Formal guarantee: the result is post-processing of the releases in `sketch_plans`; each record contributes one row
    of norm at most 1 to each.
    Edge cases: a class with few records gives prototypes near its parents', with small counts.
    """
    images, labels = records.images.to(device), records.labels.to(device)
    size = images[0].numel()
    centres = torch.zeros(records.num_classes, 1, *records.image_shape, device=device)
    counts = torch.full((records.num_classes, 1), math.inf, device=device)
    by_class = [(labels == label).nonzero().flatten() for label in range(records.num_classes)]
    for number, plan in zip(config.prototypes, sketch_plans(config, mu), strict=True):
        bound = (1.0 if number == 1 else config.max_pull) * math.sqrt(size)
        centres = split(centres, number // centres.shape[1], config.spread, generator)
        sanitizer = Sanitizer(plan, ledger, sketch_purpose(number), randomness)
        for _ in range(plan.num_releases):
            rows = pull_rows(images, by_class, centres, bound, config.count_share)
            released = sanitizer.release(rows, (records.num_classes * number, size + 1))
            centres, counts = moved(centres, released, plan.noise_multiplier, bound, config)
    return Prototypes(
        centres.flatten(0, 1),
        torch.arange(records.num_classes, device=device).repeat_interleave(centres.shape[1]),
        counts.flatten(),
        config.min_count,
    )


def pull_rows(
    images: Tensor, by_class: list[Tensor], centres: Tensor, bound: float, count_share: float
) -> Iterator[BlockRows]:
    """Each record's row: [sqrt(1 - a) * clip(image - centre) / bound, sqrt(a)] in the block of its nearest centre.

    Args:
        images: [num, chan, height, width] records.
        by_class: the records of each class.
        centres: [classes, number, chan, height, width] prototypes.
        bound: on the norm of a pull.
        count_share: a.

    Returns:
        Chunks of block rows, each row of norm at most 1 and a function of one record and the centres.
    """
    number = centres.shape[1]
    for label, members in enumerate(by_class):
        own = centres[label].flatten(1)
        for index in members.split(CHUNK):
            flat = images[index].flatten(1)
            nearest = torch.cdist(flat, own).argmin(1)
            pulls = clip_rows(flat - own[nearest], bound) * (math.sqrt(1 - count_share) / bound)
            ones = torch.full((len(flat), 1), math.sqrt(count_share), device=flat.device)
            yield BlockRows(torch.cat([pulls, ones], dim=1), label * number + nearest)


def moved(
    centres: Tensor, released: Tensor, noise_multiplier: float, bound: float, config: SketchConfig
) -> tuple[Tensor, Tensor]:
    """Moves prototypes by their records' released mean pull, less what is likely noise.

    Args:
        centres: [classes, number, chan, height, width].
        released: [classes * number, pixels + 1] noisy sums of `pull_rows`.
        noise_multiplier: of these sums.

    Returns:
        Centres likewise, in [-1, 1], and released counts [classes, number].
    """
    counts = released[:, -1] / math.sqrt(config.count_share)
    divisor = counts.clamp(min=config.min_count)
    unit = bound / math.sqrt(1 - config.count_share)
    pulls = released[:, :-1] * (unit / divisor[:, None])
    noise_variance = (noise_multiplier * unit / divisor) ** 2
    shrunk = wiener_shrink(pulls.reshape(-1, *centres.shape[2:]), noise_variance).reshape(centres.shape)
    return (centres + shrunk).clamp(-1, 1), counts.reshape(centres.shape[:2])


def split(centres: Tensor, children: int, spread: float, generator: torch.Generator) -> Tensor:
    """Replaces every prototype by `children` smoothly varied copies."""
    if children == 1:
        return centres
    copies = centres.repeat_interleave(children, dim=1)
    classes, number, channels, height, width = copies.shape
    fields = smooth_fields(classes * number * channels, height, width, 1 / 7, device=copies.device, generator=generator)
    variation = fields[..., 0].reshape(copies.shape) * spread
    return (copies + variation).clamp(-1, 1)
