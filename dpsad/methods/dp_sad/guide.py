"""The guide: a classifier of fixed features that records train through clipped and noised rows.

Far cheaper than pixels or weights of a denoiser: its gradient has a few thousand numbers, and few full-batch steps are
enough once features are whitened. Whitening, and what a network has learned to look at, come from images of the
student, which are released.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpsad.data.public_images import public_images_in, require_apart
from dpsad.data.records import ImageSet
from dpsad.errors import require_choice
from dpsad.evaluation.downstream import train_classifier
from dpsad.networks.classifiers import Cnn
from dpsad.networks.features.backbone import BACKBONES, load_backbone
from dpsad.networks.features.convolutional import Convolutional
from dpsad.networks.features.scattering import Scattering
from dpsad.networks.features.whitening import Whitening, whitening_of
from dpsad.privacy.clipping import PartedRows
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance, public_images_of, require_released, united
from dpsad.privacy.ranges import Count, Fraction, HalfLife, LearningRate, Positive, Range, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.context import Context
from dpsad.training.batches import in_full_batches
from dpsad.training.dp_sgd import Rows, dp_sgd
from students.guide import FEATURES, SHARPNESS, Features, Guide

AT_ONCE = 50  # images whose features are worked out together
CHUNK = 500  # records whose rows are held
WHITENED_BY = 4000  # samples, at most: principal directions take the cube of how many there are
MOMENTUM, LARGEST = 0.9, 100.0  # of gradient descent, and its largest learning rate


@dataclass(frozen=True, kw_only=True)
class GuideConfig:
    """How the guide is trained, and how it chooses among samples.

    share: of the whole budget (of mu^2); 0 trains none.
    features: scattering and random, a network's as it begins, which know no images; samples, of a network that learned
        to tell the student's samples apart; or the name of a public network, see `BACKBONES`.
    weights: file of that public network's weights.
    images: of the student, released as they are, which that network learns from, and which say how to whiten.
    directions: whitened features of each kind, at most.
    floor: added to the variance along each direction, as a share of the largest.
    steps: noisy full-batch steps.
    clip_norm: bound on a record's gradient, which is below sqrt(2) by itself; a low one lets records that are still
        told wrong count as much as they did, with less noise.
    learning_rate: of gradient descent with momentum, in bounds on a record's gradient, times mu of all releases
        together: noisier gradients take smaller steps, by a public number.
    ema_half_life_steps: of the weight average.
    attempts: images that are made, at most, until the guide takes one for its class; 1 leaves samples as they come.
    relabel: whether images made as of another class are taken, too, as often as the guide sees this one in them.
    """

    share: Fraction = 0.0
    features: tuple[str, ...] = ("scattering", "samples")
    weights: str | None = None
    images: Annotated[int, Range("[2, 1e9]")] = 10000
    directions: Count = 500
    floor: Fraction = 0.01
    steps: Count = 20
    clip_norm: Positive = 0.3
    learning_rate: LearningRate = 60.0
    ema_half_life_steps: HalfLife = 5.0
    attempts: Count = 4
    relabel: bool = False

    def __post_init__(self) -> None:
        require_ranges(self, "guide")
        for kind in self.features:
            require_choice("guide.features", kind, tuple(FEATURES))
        if not self.features or len(set(self.features)) < len(self.features):
            raise ValueError(f"guide.features={list(self.features)} must name at least one kind, and each once")
        public = [kind for kind in self.features if kind in BACKBONES]
        if len(public) != (self.weights is not None):
            raise ValueError(
                f"guide.features={list(self.features)} and guide.weights={self.weights} do not fit: one file holds the "
                "weights of one public network; name both or neither"
            )
        if self.share == 1:
            raise ValueError("guide.share=1 leaves nothing for the student; it must be below 1")


def guide_plan(config: GuideConfig, mu: float) -> ReleasePlan:
    """Its releases, every record in each.

    Args:
        mu: signal-to-noise ratio of all together; they cost what one Gaussian release of multiplier 1/mu does.
    """
    return ReleasePlan(
        purpose="guide, gradient rows",
        unit=Unit.RECORD,
        clip_norm=config.clip_norm,
        noise_multiplier=math.sqrt(config.steps) / mu,
        num_releases=config.steps,
    )


def train_guide(
    config: GuideConfig,
    context: Context,
    *,
    samples: ImageSet,
    records: ImageSet,
    plan: ReleasePlan,
    learned_from: str,
) -> Guide:
    """Trains the run's guide, or goes on where it stopped.

    Args:
        samples: public or released images, which features are learned from and whitened by.
        records: the private records.
        plan: as `guide_plan` gives it.
        learned_from: fingerprint of what the samples were made by.

    Raises:
        ValueError: the samples are private, or taken for public though a record is among them.

    Formal guarantee: the guide is post-processing of the samples and of the releases in `plan`, which the ledger is
    charged with.
    """
    # dp_sgd asks as much of the classifier, but only after features have been learned
    require_released("the guide's images", samples.provenance, "a classifier that clips gradients")
    require_apart("the guide's images", public_images_in(samples), records)
    device = context.device
    features = [_features(kind, config, samples, context).to(device) for kind in config.features]
    whitenings = [_whitening(of, samples.images, config, device) for of in features]
    guide = Guide(features, whitenings, records.num_classes).to(device).eval()
    context.ranks.take_from_first(guide)
    held = context.share_of(records)
    vectors = _in_batches(guide.vectors, held.images, device)
    guide.classifier.provenance = samples.provenance  # type: ignore[assignment]
    guide.classifier.public_images = united(  # type: ignore[assignment]
        public_images_in(samples), *map(public_images_of, features)
    )
    randomness = context.randomness.named("guide")
    guide.classifier = dp_sgd(
        "guide",
        model=guide.classifier,
        rows=classifier_rows(guide.classifier),
        records=replace(held, images=vectors, origin=held),
        sanitizer=Sanitizer(plan, context.ledger, randomness, context.ranks),
        expected_batch_size=context.num_records(records),
        learning_rate=step_size(config, plan),
        ema_half_life_steps=config.ema_half_life_steps,
        chunk_size=CHUNK,
        randomness=context.ranks.draws(randomness),
        checkpoint=context.checkpoint(
            "guide", config, records.fingerprint(), learned_from, every_seconds=0, unnamed=False
        ),
        log=context.log("guide"),
        new_optimizer=partial(torch.optim.SGD, momentum=MOMENTUM),
        ranks=context.ranks,
    )
    guide.provenance = Provenance.RELEASED  # type: ignore[assignment]
    guide.public_images = guide.classifier.public_images
    return guide.eval().requires_grad_(False)


def proposals_by(guide: Guide, samples: ImageSet) -> Tensor:
    """[num_classes, num_classes] what samples that the guide takes for each class were made as, as shares."""
    device = guide.classifier.weight.device
    taken_for = _in_batches(guide, samples.images, device).argmax(1)
    return proposals_of(taken_for, samples.labels, samples.num_classes).to(device)


def proposals_of(taken_for: Tensor, made_as: Tensor, num_classes: int) -> Tensor:
    """What images that were taken for each class were made as.

    Args:
        taken_for, made_as: [num] classes of images, as many of each made.

    Returns:
        [num_classes, num_classes] shares; images of a class that none was taken for are made as of that class.
    """
    counts = torch.zeros(num_classes, num_classes)
    counts.index_put_((taken_for, made_as), torch.ones(len(made_as)), accumulate=True)
    seen = counts.sum(1, keepdim=True)
    return torch.where(seen > 0, counts / seen.clamp(min=1), torch.eye(num_classes))


def step_size(config: GuideConfig, plan: ReleasePlan) -> float:
    """The learning rate: in proportion to mu of the releases, and at most `LARGEST` bounds on a record's gradient."""
    mu = math.sqrt(plan.num_releases) / plan.noise_multiplier if plan.noise_multiplier else math.inf
    return min(LARGEST, config.learning_rate * mu) / plan.clip_norm


def classifier_rows(classifier: nn.Linear) -> Rows:
    """Rows for `dp_sgd`: the gradient of each record's cross entropy in the weights of a guide's classifier.

    Returns:
        vectors [records, directions] of norm 1, labels [records] -> [records, classes * directions], not clipped, over
        `SHARPNESS`; each row has the norm of its error, at most sqrt(2).
    """

    def rows(vectors: Tensor, labels: Tensor) -> PartedRows:
        with torch.no_grad():
            errors = (SHARPNESS * classifier(vectors)).softmax(1) - F.one_hot(labels, classifier.out_features)
        return PartedRows([(errors[:, :, None] * vectors[:, None]).flatten(1)])

    return rows


def _features(kind: str, config: GuideConfig, samples: ImageSet, context: Context) -> Features:
    """Features of a kind; those that are learned, learned from the samples."""
    if kind in BACKBONES:
        assert config.weights is not None  # the config refuses that
        return load_backbone(samples.image_shape, kind, Path(config.weights))
    if kind == "scattering":
        return Scattering(samples.image_shape)
    if kind == "random":
        with context.first_weights("guide"):
            return Convolutional(samples.image_shape)
    network = train_classifier(
        "cnn",
        samples.images,
        samples.labels,
        num_classes=samples.num_classes,
        seed=context.seed,
        device=context.device,
        precision=context.precision,
    )
    assert isinstance(network, Cnn)
    return Convolutional(samples.image_shape, network.trunk)


def _whitening(features: nn.Module, images: Tensor, config: GuideConfig, device: torch.device) -> Whitening:
    vectors = _in_batches(features, images[:WHITENED_BY], device)
    return whitening_of(vectors.to(device), config.directions, floor=config.floor)


@torch.no_grad()
def _in_batches(network: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Tensor:
    """[num, ...] -> [num, ...] on the CPU, in batches of one size, since rounding depends on it."""
    batches = in_full_batches(AT_ONCE, images)
    return torch.cat([network(batch.to(device))[:num].cpu() for num, (batch,) in batches])
