"""How records lie around their prototypes, released as noisy second moments of the differences.

By one row a record, twice. First all differences together, in the lowest spatial frequencies: that says in which
directions images differ at all. Then, along those directions, the records of each group of neighbouring prototypes by
themselves. A moment of thousands of records rises far above the noise, where a mean of dozens hardly does. What noise
alone would show is taken out of both, as far as random matrices tell.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpsad.methods.dp_sad.prototype_rows import nearest_outputs
from dpsad.methods.dp_sad.second_moments import (
    covariances_of,
    pairs_of,
    rising_eigenvalues,
    second_moments,
    square_roots,
    symmetric,
)
from dpsad.methods.dp_sad.wiener_filter import cosine_basis
from dpsad.privacy.clipping import BlockRows, clip_rows
from dpsad.privacy.exact import exact_products
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.ranges import Count, Fraction, Positive, Share, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.privacy.together import Together
from students.prototypes import Prototypes
from students.spread import Spread

CHUNK = 512  # records whose rows are held at once
FARTHEST = 2.0  # that pixels in [-1, 1] differ by


@dataclass(frozen=True, kw_only=True)
class SpreadConfig:
    """How the spread of prototypes is released.

    share: of the prototypes' budget (of mu^2); 0 releases none, and images vary by `augmentation` alone.
    per_class: groups of prototypes in a class that have a covariance of their own; divides the prototypes of a class.
    frequencies: of the cosine basis, the lowest, in which differences are told.
    directions: at most so many are kept of those in which all differences vary most.
    pooled_share: of its own budget, for all differences together.
    clip_rms: bound on a record's difference, as root mean square over pixels.
    relative_clip_norm: bound on what a record's difference has along the directions, over what all differences have on
        average, as the first release tells; below 1, since noise costs more than the few that are clipped.
    """

    share: Fraction = 0.0
    per_class: Count = 16
    frequencies: Count = 300
    directions: Count = 80
    pooled_share: Share = 0.2
    clip_rms: Positive = 0.4
    relative_clip_norm: Positive = 0.9

    def __post_init__(self) -> None:
        require_ranges(self, "spread")
        if self.share == 1:
            raise ValueError("spread.share=1 leaves nothing for the prototypes themselves; it must be below 1")


def spread_plans(config: SpreadConfig, mu: float) -> list[ReleasePlan]:
    """Its two releases: of all differences, and of each group's.

    Args:
        mu: signal-to-noise ratio of both together; they cost what one Gaussian release of multiplier 1/mu does.
    """
    return [
        ReleasePlan(
            purpose=purpose,
            unit=Unit.RECORD,
            clip_norm=1.0,
            noise_multiplier=1 / (mu * math.sqrt(share)),
            num_releases=1,
        )
        for purpose, share in (
            ("spread, all prototypes", config.pooled_share),
            (f"spread, {config.per_class} groups a class", 1 - config.pooled_share),
        )
    ]


def release_spread(
    config: SpreadConfig,
    prototypes: Prototypes,
    *,
    images: Tensor,
    labels: Tensor,
    plans: Sequence[ReleasePlan],
    ledger: Ledger,
    randomness: PrivateRandomness,
    together: Together | None = None,
) -> Prototypes:
    """Releases how records lie around prototypes.

    Args:
        prototypes: released, equally many of each class, class by class.
        images, labels: [num, chan, height, width] and [num], records.
        plans: as `spread_plans` gives them.
        ledger: is charged before each release.
        randomness: secret; the privacy noise.
        together: processes that release it together, `images` being each one's own records.

    Returns:
        The prototypes with their spread; without, where no direction rises above the noise.

    Formal guarantee: the result is post-processing of the prototypes and of the releases in `plans`. A record's row in
    each is the second moments of its difference from its nearest prototype, a function of that record and of what was
    released before, of norm at most 1.
    Edge cases: a group with few records has the covariance of its class; a class with few has next to none.
    """
    pooled_plan, grouped_plan = plans
    num_classes, size = int(prototypes.labels.max()) + 1, prototypes.images[0].numel()
    nearest = nearest_prototypes(images, labels, prototypes, num_classes)
    counts = prototypes.counts.double().clamp(min=0)

    basis = lowest_frequencies(tuple(prototypes.images.shape[1:]), config.frequencies).to(images)
    bound = config.clip_rms * math.sqrt(size)
    told = difference_rows(images, prototypes.images, nearest, basis, bound)
    sanitizer = Sanitizer(pooled_plan, ledger, randomness, together)
    moments = sanitizer.release(map(second_moments, told), (pairs_of(len(basis)),))
    values, vectors = rising_eigenvalues(symmetric(moments), pooled_plan.noise_scale)
    rises = values > 0
    variance = values[rises][-config.directions :] * (bound**2 / counts.sum().clamp(min=1))
    if not len(variance):
        return prototypes
    # steps along a direction are in units that take out half its deviation, so that none drowns in the joint bound
    unit = variance.double().pow(0.25).to(basis)
    directions = vectors[:, rises][:, -config.directions :].mT.to(basis) @ basis / unit[:, None]

    bound = config.relative_clip_norm * math.sqrt((variance / unit.double() ** 2).sum().item())
    told = difference_rows(images, prototypes.images, nearest, directions, bound)
    num_groups = config.per_class * num_classes
    group = nearest // (len(prototypes.images) // num_groups)
    moments = Sanitizer(grouped_plan, ledger, randomness, together).release(
        (BlockRows(second_moments(rows), own) for rows, own in zip(told, group.split(CHUNK), strict=True)),
        (num_groups, pairs_of(len(directions))),
    )
    covariances = covariances_of(
        symmetric(moments).unflatten(0, (num_classes, -1)),
        counts.reshape(num_classes, config.per_class, -1).sum(2),
        grouped_plan.noise_scale,
        prototypes.min_count,
    )
    factors = bound * square_roots(covariances).flatten(0, 1).to(basis)
    return replace(prototypes, spread=Spread(directions * unit[:, None] ** 2, factors))


def lowest_frequencies(image_shape: tuple[int, ...], num: int) -> Tensor:
    """[at most num, pixels] orthonormal cosines of images, from low to high, all channels alike."""
    chan, height, width = image_shape
    down, across = cosine_basis(height), cosine_basis(width)
    radius = (torch.arange(height)[:, None] / height) ** 2 + (torch.arange(width) / width) ** 2
    order = radius.flatten().repeat_interleave(chan).argsort(stable=True)[:num]
    place, channel = order // chan, order % chan
    waves = down[place // width][:, :, None] * across[place % width][:, None]
    return torch.einsum("kc,khw->kchw", torch.eye(chan)[channel], waves).flatten(1)


def nearest_prototypes(images: Tensor, labels: Tensor, prototypes: Prototypes, num_classes: int) -> Tensor:
    """[num] the place of each record's nearest prototype of its class."""
    own = prototypes.images.flatten(1).unflatten(0, (num_classes, -1))
    nearest = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    for label in range(num_classes):
        for index in (labels == label).nonzero().flatten().split(CHUNK):
            nearest[index] = label * own.shape[1] + nearest_outputs(images[index].flatten(1), own[label])
    return nearest


def difference_rows(
    images: Tensor, prototypes: Tensor, nearest: Tensor, directions: Tensor, bound: float
) -> Iterator[Tensor]:
    """Each record's difference from its prototype along the directions, over a bound that it is brought within.

    Returns:
        Chunks of [records, directions] of norm at most 1; each row is a function of one record, to the bit.
    """
    largest = float(directions.abs().max())
    for records, place in zip(images.split(CHUNK), nearest.split(CHUNK), strict=True):
        differences = (records - prototypes[place]).flatten(1)
        told = exact_products(differences, directions, FARTHEST, largest).float()
        yield clip_rows(told, bound) / bound
