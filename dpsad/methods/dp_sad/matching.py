"""Matching: the student's images are drawn to where records lie in features that they are seen by.

The discriminator that sees records, formally. One that is linear in fixed features compares class means alone; those of
the records are released once, with noise, and then serve any number of steps.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpsad.data.records import ImageSet
from dpsad.methods.kept_releases import kept_releases
from dpsad.networks.features.convolutional import Convolutional
from dpsad.networks.features.layers import Layers, layers_of
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.ranges import Fraction, Weight, require_ranges
from dpsad.runtime.context import Context
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.training.batches import in_full_batches
from students.guide import Guide

AT_ONCE = 50  # images whose features are worked out together
COUNT_SHARE = 0.1  # of a row's squared norm for a number that counts it
LEAST_COUNT = 15.0  # of records: a class of fewer has no mean that is worth anything
MEASURED_BY = 2000  # samples whose layers' answers are measured
REMEMBERED = 300.0  # images of each class of late whose mean is compared


@dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """What the guide and features ask of a student that is shortened.

    share: of the whole budget (of mu^2), for class means of the records' features; 0 releases none.
    weight: of the distance between these means and those of the student's images.
    class_weight: of the guide's doubt about an image's class, which costs no budget.
    layers: whether each layer of the guide's network is compared, beside what the guide sees: some ten times as many
        numbers, worth their noise where epsilon is large.
    """

    share: Fraction = 0.0
    weight: Weight = 20.0
    class_weight: Weight = 0.0
    layers: bool = True

    def __post_init__(self) -> None:
        require_ranges(self, "matching")


def matching_plan(mu: float) -> ReleasePlan:
    """Its one release, every record in it.

    Args:
        mu: signal-to-noise ratio.
    """
    return ReleasePlan(
        purpose="matching, class means of features", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=1 / mu
    )


class ClassMeans(nn.Module):
    """Sums of feature vectors by class, and how many there were.

    Attributes:
        sums: [classes, directions + 1] of vectors, and of ones, as `mean_rows` has them.
        noise: deviation of the noise on each sum.
    """

    sums: Tensor

    def __init__(self, num_classes: int, num_directions: int, noise: float = 0.0):
        super().__init__()
        self.noise = noise
        self.register_buffer("sums", torch.zeros(num_classes, num_directions + 1))

    @property
    def counts(self) -> Tensor:
        """[classes] how many images or records were summed; noisy where the sums are."""
        return self.sums[:, -1] / math.sqrt(COUNT_SHARE)

    def means(self) -> Tensor:
        """[classes, directions]; zero for a class with hardly a record, which then pulls at nothing."""
        return torch.where(self.counts[:, None] < LEAST_COUNT, 0.0, self.sums[:, :-1] * self._scale())

    def variances(self) -> Tensor:
        """[classes, 1] of the noise on each number of a mean."""
        return (self.noise * self._scale()).square()

    def _scale(self) -> Tensor:
        return 1 / (math.sqrt(1 - COUNT_SHARE) * self.counts.clamp(min=LEAST_COUNT)[:, None])

    def follow(self, vectors: Tensor, labels: Tensor, ranks: Ranks = ALONE) -> None:
        """Adds vectors [num, directions] of images of late, those of all ranks, and forgets earlier ones of a class."""
        rows = mean_rows(vectors, labels)
        new = torch.zeros_like(self.sums).index_add_(0, rows.block, rows.values)
        ranks.add_up(new)
        kept = 1 - new[:, -1:] / math.sqrt(COUNT_SHARE) / REMEMBERED
        self.sums.mul_(kept.clamp(min=0)).add_(new)


def mean_rows(vectors: Tensor, labels: Tensor) -> BlockRows:
    """Each record's row: [sqrt(1 - a) * vector, sqrt(a)] in the block of its class, of norm 1.

    Args:
        vectors: [num, directions] of norm 1.
        labels: [num] classes.
    """
    ones = torch.full((len(vectors), 1), math.sqrt(COUNT_SHARE), device=vectors.device)
    return BlockRows(torch.cat([vectors * math.sqrt(1 - COUNT_SHARE), ones], dim=1), labels)


class Seen(nn.Module):
    """What images are compared by: the guide's features, and those of each layer of its network, where it has one.

    Args:
        guide: released.
        layers: of the network that learned to tell the student's samples apart.

    Attributes:
        parts: how many of a vector's numbers are of each kind of feature.
    """

    def __init__(self, guide: Guide, layers: Layers | None):
        super().__init__()
        self.guide, self.layers = guide, layers
        of_layers = () if layers is None else [len(mean) for mean in layers.means]
        self.parts = (*guide.num_directions, *of_layers)

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return sum(self.parts)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[num, chan, height, width] in [-1, 1] -> vectors [num, dim] of norm 1, and the guide's logits."""
        vectors = self.guide.vectors(images)
        logits = self.guide.logits(vectors)
        if self.layers is None:
            return vectors, logits
        # a layer says as much as all of the guide's features
        share = 1 / (1 + len(self.layers.means))
        return torch.cat([share**0.5 * vectors, (1 - share) ** 0.5 * self.layers(images)], dim=1), logits


def seen_of(guide: Guide, samples: Tensor, *, layers: bool) -> Seen:
    """What a guide sees, and the layers of the network among its features, if it has one.

    Args:
        layers: whether these are asked for.
        samples: [num, chan, height, width] of the student, released.
    """
    learned = [features.trunk for features in guide.features if layers and isinstance(features, Convolutional)]
    return Seen(guide, layers_of(learned[0], samples[:MEASURED_BY]) if learned else None).eval()


def release_class_means(
    seen: Seen, context: Context, *, records: ImageSet, plan: ReleasePlan, learned_from: str
) -> ClassMeans:
    """Where the records of each class lie in features, on average.

    Args:
        seen: of a released guide and samples.
        records: the private records.
        plan: as `matching_plan` gives it.
        learned_from: fingerprint of what the features come from.

    Formal guarantee: one release of `plan`, which the ledger is charged with before. Each row is a function of one
    record and the released features.
    Edge cases: means are divided by released counts, so that the number of records of a class stays protected.
    """
    means = ClassMeans(records.num_classes, seen.dim, plan.noise_scale).to(context.device)
    held = context.share_of(records)

    @torch.no_grad()
    def rows(_: PrivateRandomness) -> Iterator[BlockRows]:
        for num, (images, labels) in in_full_batches(AT_ONCE, held.images, held.labels):
            vectors = seen(images.to(context.device))[0]
            yield mean_rows(vectors[:num], labels[:num].to(context.device))

    (sums,) = kept_releases(
        "matching", context, plan, rows, tuple(means.sums.shape), records.fingerprint(), learned_from
    )
    means.sums.copy_(sums)
    return means


@dataclass(frozen=True)
class Matching:
    """What a student in training is compared with.

    config: weights.
    seen: released features; frozen.
    released: of the records; None compares no means.
    late: of the student's own images of late.
    ranks: those that train the student together, each on its part of a batch.
    """

    config: MatchingConfig
    seen: Seen
    released: ClassMeans | None
    late: ClassMeans
    ranks: Ranks = ALONE

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """How far images are from what is asked of them, to be made small.

        The means of a batch are known badly, so that the gap is that of images of late; a batch is drawn along it.

        Args:
            images: [num, chan, height, width] of the student in training.
            labels: [num] their classes.
        """
        total = torch.zeros((), device=images.device)
        vectors, logits = self.seen(images)
        if self.released is not None:
            self.late.follow(vectors.detach(), labels, self.ranks)
            gap = self._gap(self.released)
            total = total + self.config.weight * (vectors * gap[labels]).sum(1).mean()
        if self.config.class_weight:
            total = total + self.config.class_weight * F.cross_entropy(logits, labels)
        return total

    def _gap(self, released: ClassMeans) -> Tensor:
        """[classes, dim] between means, each kind of feature shrunk by what of its gap is noise.

        Source: James and Stein 1961, with the positive part.
        """
        gaps = (self.late.means() - released.means()).split(self.seen.parts, dim=1)
        variances = released.variances()
        kept = [1 - gap.shape[1] * variances / gap.square().sum(1, keepdim=True).clamp(min=1e-12) for gap in gaps]
        return torch.cat([gap * share.clamp(min=0) for gap, share in zip(gaps, kept, strict=True)], dim=1)


def matching_of(
    config: MatchingConfig, seen: Seen, released: ClassMeans | None, ranks: Ranks, images: Tensor, labels: Tensor
) -> Matching:
    """A student's matching, its images of late being those that it is shortened by.

    Args:
        ranks: those that train the student together; each has all of these images.
        images: [num, chan, height, width] of the student before.
        labels: [num] their classes.
    """
    late = ClassMeans(seen.guide.classifier.out_features, seen.dim).to(images.device)
    if released is not None:
        with torch.no_grad():
            for num, (batch, of_batch) in in_full_batches(AT_ONCE, images, labels):
                late.follow(seen(batch)[0][:num], of_batch[:num])
    return Matching(config, seen, released, late, ranks)
