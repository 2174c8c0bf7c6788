"""PrivImage: a noisy histogram says which public classes records resemble; these are learned first, and records then.

A classifier of public images tells which public classes each record looks most like. How often, class by class, is
released once with noise; each of the records' classes gets the public classes that it resembles most. A denoiser learns
from their images, under the names of the records' classes, and DP-SGD goes on from there with the rest of the budget.

Source: Li et al. 2024, "PrivImage: Differentially private synthetic image generation using diffusion models with
semantic-aware pretraining" (USENIX Security), Algorithms 1 and 2.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch import Tensor, nn

from dpsad.data.public_images import public_images_in
from dpsad.data.records import ImageSet, Subject, require_own_labels
from dpsad.diffusion.denoiser import Denoiser
from dpsad.evaluation.downstream import train_classifier
from dpsad.methods.dp_sgd_denoiser import (
    BaselineConfig,
    baseline_levels,
    of_records,
    rehearse,
    release_config,
    timestep_levels,
    untrained,
)
from dpsad.methods.kept_releases import kept_releases
from dpsad.methods.method import Method, Stage, Trained, formally
from dpsad.methods.public_denoiser import PretrainConfig, with_weights_of
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.ranges import Count, Positive, require_ranges
from dpsad.release.students import Releasable
from dpsad.runtime.context import Context
from dpsad.runtime.state_fingerprint import fingerprint_of_state
from dpsad.training.batches import Batches, batches_as_they_are, in_full_batches
from dpsad.training.denoiser import train_denoiser
from dpsad.training.private_denoiser import fit_to_records, gradient_plan
from students.few_step import SamplerConfig

NAME, QUERY = "privimage", "semantic_query"
AT_ONCE = 250  # records that pass the classifier together

Classify = Callable[[Tensor], Tensor]  # images [num, chan, height, width] -> logits [num, public classes]


@dataclass(frozen=True, kw_only=True)
class PrivImageConfig:
    """How public classes are chosen.

    selected: public classes for each class of the records; none serves two.
    words: public classes that a record votes for, those that it looks most like.
    noise_multiplier: of the one histogram; the rest of the budget is for gradients.
    classifier_epochs: passes over the public images of the network that tells their classes apart.
    """

    selected: Count = 1
    words: Count = 1
    noise_multiplier: Positive = 50.0
    classifier_epochs: Count = 2

    def __post_init__(self) -> None:
        require_ranges(self, NAME)


@dataclass(frozen=True, kw_only=True)
class PrivImageSettings:
    """What PrivImage is told."""

    privimage: PrivImageConfig = field(default_factory=PrivImageConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        if self.pretrain.path is not None:
            raise ValueError(
                f"pretrain.path={self.pretrain.path}: method={NAME} pretrains on the public classes that its own "
                "records vote for; leave pretrain.path out, or use method=dp-diffusion"
            )


def semantic_rows(records: ImageSet, classify: Classify, words: int, device: torch.device) -> Iterator[BlockRows]:
    """Each record's row: 1 / sqrt(words) for each public class that it looks most like, in the block of its class.

    Args:
        classify: public; works image by image.

    Returns:
        Chunks of block rows, [records, public classes] of norm 1; each is a function of one record.
    """
    for num, (images, labels) in in_full_batches(AT_ONCE, records.images, records.labels):
        logits = classify(images.to(device))[:num]
        values = torch.zeros_like(logits).scatter_(1, logits.topk(words, dim=1).indices, 1 / math.sqrt(words))
        yield BlockRows(values, labels[:num].to(device))


def chosen_classes(histogram: Tensor, selected: int) -> Tensor:
    """[public classes] which of the records' classes each public class was chosen for; -1 for none.

    The most common pair first; a public class serves one class, and each class has `selected` in the end.

    Args:
        histogram: [num_classes, public classes] released.
    """
    num_classes, num_public = histogram.shape
    chosen, room = [-1] * num_public, [selected] * num_classes
    for place in histogram.flatten().argsort(descending=True).tolist():
        label, word = divmod(place, num_public)
        if chosen[word] < 0 < room[label]:
            chosen[word], room[label] = label, room[label] - 1
    return torch.tensor(chosen)


def selected_images(public: ImageSet, chosen: Tensor, class_names: tuple[str, ...]) -> ImageSet:
    """The images of chosen public classes, under the names of the records' classes.

    Which they are was told by a release; the images themselves are public.
    """
    own = chosen.to(public.labels.device)[public.labels]
    kept = public.take(own >= 0)
    return replace(kept, labels=own[own >= 0], class_names=class_names)


def query_plan(config: PrivImageConfig) -> ReleasePlan:
    """The histogram's release."""
    return ReleasePlan(
        purpose="privimage, histogram of public classes",
        unit=Unit.RECORD,
        clip_norm=1.0,
        noise_multiplier=config.noise_multiplier,
    )


def plans(settings: PrivImageSettings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """The histogram with the noise it is told, then gradient rows on the rest of the budget."""
    query = query_plan(settings.privimage)
    return [query, budget.planned([query]).calibrate(gradient_plan("baseline", NAME, settings.baseline, num_records))]


def train(settings: PrivImageSettings, context: Context) -> Trained:
    """Chooses public classes, learns from their images, then from the records."""
    public, records = context.read_public(), context.read_records()
    require_own_labels(records)
    subject = Subject.of(records)
    _require_fit(settings.privimage, public, subject)
    plans(settings, context.ledger, context.num_records(records))  # refused before the histogram is charged
    start = _pretrained(settings, context, public, _chosen(settings.privimage, context, public, records), subject)
    denoiser = fit_to_records(
        "baseline",
        NAME,
        settings.baseline,
        context,
        denoiser=start,
        levels=timestep_levels(settings.baseline),
        label_dropout=settings.baseline.label_dropout,
        records=records,
        learned_from=fingerprint_of_state(start.state_dict()),
    )
    return formally(Releasable(denoiser, release_config(settings, subject)), context, "records")


def _require_fit(config: PrivImageConfig, public: ImageSet, subject: Subject) -> None:
    if public.image_shape != subject.image_shape:
        raise ValueError(
            f"public images are of shape {list(public.image_shape)}, the records are of shape "
            f"{list(subject.image_shape)}; see public_data.grey and public_data.image_size"
        )
    needed = max(config.selected * subject.num_classes, config.words)
    if needed > public.num_classes:
        raise ValueError(
            f"privimage.selected={config.selected} for each of {subject.num_classes} classes, and "
            f"privimage.words={config.words}, need {needed} public classes, of which there are {public.num_classes}; "
            "lower them, or pass other public_data"
        )


def _chosen(config: PrivImageConfig, context: Context, public: ImageSet, records: ImageSet) -> Tensor:
    """Which class each public class was chosen for, by the run's histogram."""

    @cache
    def classifier() -> nn.Module:
        return train_classifier(
            "cnn",
            public.images,
            public.labels,
            num_classes=public.num_classes,
            seed=context.seed,
            epochs=config.classifier_epochs,
            device=context.device,
        ).requires_grad_(False)

    def rows(_: PrivateRandomness) -> Iterator[BlockRows]:
        return semantic_rows(records, classifier(), config.words, context.device)

    if not context.run.checkpoint(QUERY).exists():
        classifier()  # what it may refuse is refused before the charge
    (sums,) = kept_releases(
        QUERY,
        context,
        query_plan(config),
        rows,
        (records.num_classes, public.num_classes),
        config,
        records.fingerprint(),
        public.fingerprint(),
    )
    chosen = chosen_classes(sums, config.selected)
    named = ", ".join(
        f"{name}: {' '.join(public.class_names[word] for word in (chosen == label).nonzero().flatten())}"
        for label, name in enumerate(records.class_names)
    )
    context.say(f"privimage: public classes chosen for {named}; epsilon {context.ledger.spent():.3f}")
    return chosen


def _pretrained(
    settings: PrivImageSettings, context: Context, public: ImageSet, chosen: Tensor, subject: Subject
) -> Denoiser:
    """A denoiser of the chosen public images, provenance released: a release told which they are."""
    images = selected_images(public, chosen, subject.class_names)
    drawn = batches_as_they_are(images, context.device)
    with context.timed("pretrain") as seconds:
        denoiser = train_denoiser(
            "pretrain",
            settings.pretrain,
            denoiser=untrained(settings, subject, context),
            num_classes=subject.num_classes,
            batches=Batches(Provenance.RELEASED, drawn.draw, public_images_in(public)),
            levels=baseline_levels(settings.baseline),
            rng=context.rng("pretrain"),
            checkpoint=context.checkpoint(
                "pretrain", settings.pretrain, settings.network, images.fingerprint(), unnamed=False
            ),
            log=context.log("pretrain"),
            learning_rate_key="pretrain.learning_rate",
            precision=context.precision,
        )
    context.say(f"pretrain: {settings.pretrain.steps} steps on {len(images)} public images in {seconds():.0f} s")
    return with_weights_of(denoiser, untrained(settings, subject, context))


METHOD = Method(
    name=NAME,
    about="PrivImage (Li et al. 2024): a noisy histogram of the public classes that records look like chooses images "
    "of public_data, which a diffusion model learns first; DP-SGD then fine-tunes it. Public images cost no privacy. "
    "Takes privimage.classifier_epochs passes of a small classifier over them, pretrain.steps x batch_size of the "
    "network, then those of dpdm; see the preset mnist-privimage.",
    settings=PrivImageSettings,
    guarantees=("records",),
    stages=lambda settings: (
        Stage(
            name="semantic query",
            files=(f"{QUERY}.checkpoint",),
            keys=("data", "public_data", "privacy", NAME),
        ),
        Stage(
            name="pretrain",
            files=("pretrain.checkpoint",),
            keys=(
                "network", "pretrain", "baseline.parameterisation", "baseline.sigma_mean", "baseline.sigma_std",
            ),
        ),
        of_records("pretrain"),
    ),
    plans=plans,
    rehearse=rehearse,
    train=train,
)  # fmt: skip
