"""DP-FETA: central images of each class are released first, a denoiser warms up on them, and DP-SGD goes on from there.

From easy to hard: a few noisy means, each of its own sample of the records and at a lower resolution, show what a class
looks like for a small part of the budget. Gradients of a denoiser that knows that much point the same way, and noise
hides less of them.

Source: Li et al. 2025, "From easy to hard: Building a shortcut for differentially private image synthesis" (IEEE S&P).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.records import ImageSet, Subject, require_own_labels
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods import dp_sgd_denoiser
from dpsad.methods.class_means import image_rows, means_of
from dpsad.methods.dp_sgd_denoiser import (
    BaselineConfig,
    DenoiserSettings,
    baseline_levels,
    of_records,
    release_config,
    timestep_levels,
    untrained,
)
from dpsad.methods.kept_releases import kept_releases
from dpsad.methods.method import Method, Rehearsal, Stage, Trained, formally
from dpsad.methods.public_denoiser import with_weights_of
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.ranges import (
    Count,
    Fraction,
    HalfLife,
    LearningRate,
    Positive,
    Range,
    Share,
    ShareOrAll,
    require_ranges,
)
from dpsad.release.students import Releasable
from dpsad.runtime.context import Context
from dpsad.runtime.state_fingerprint import fingerprint_of_state
from dpsad.training.batches import Batches, batches_of_prototypes
from dpsad.training.denoiser import TrainingSettings, train_denoiser
from dpsad.training.private_denoiser import fit_to_records, gradient_plan
from students.few_step import SamplerConfig
from students.prototypes import Prototypes

NAME = "dp-feta"
CENTRAL = "central_images"


@dataclass(frozen=True, kw_only=True)
class DpFetaConfig:
    """How central images are released, and how a denoiser warms up on them.

    central_images: releases of the mean image of each class.
    sampling_prob: probability that a record takes part in a release.
    noise_multiplier: of each release; the rest of the budget is for gradients.
    pool: pixels along each side that become one before the release: fewer numbers bear less noise.
    count_share: share of a row's squared norm that counts its class; the rest is for its image.
    steps, batch_size: optimizer steps of the warm-up, and varied central images in each.
    learning_rate: peak; rises over the first 100 steps and falls as a half cosine.
    ema_half_life_images: of the weight average.
    label_dropout: fraction of images trained without their label.
    """

    central_images: Count = 5
    sampling_prob: ShareOrAll = 0.1
    noise_multiplier: Positive = 5.0
    pool: Annotated[int, Range("[1, 64]")] = 2
    count_share: Share = 0.1
    steps: Count = 1000
    batch_size: Count = 64
    learning_rate: LearningRate = 1e-3
    ema_half_life_images: HalfLife = 5000
    label_dropout: Fraction = 0.1

    def __post_init__(self) -> None:
        require_ranges(self, "dp_feta")


class CentralSettings(DenoiserSettings, Protocol):
    """The sections that decide what the first warm-up sees."""

    @property
    def dp_feta(self) -> DpFetaConfig: ...
    @property
    def augmentation(self) -> AugmentationConfig: ...


@dataclass(frozen=True, kw_only=True)
class DpFetaSettings:
    """What DP-FETA is told."""

    dp_feta: DpFetaConfig = field(default_factory=DpFetaConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)


def central_plan(config: DpFetaConfig, method: str) -> ReleasePlan:
    """The releases of central images, with the noise that they are told."""
    return ReleasePlan(
        purpose=f"{method}, central images",
        unit=Unit.RECORD,
        clip_norm=1.0,
        noise_multiplier=config.noise_multiplier,
        sampling_prob=config.sampling_prob,
        num_releases=config.central_images,
    )


def pooled(images: Tensor, pool: int) -> Tensor:
    """[num, chan, height, width] -> means of squares of `pool` pixels a side, each image by itself.

    The last square of a side may be smaller.
    """
    return F.avg_pool2d(images, pool, ceil_mode=True, count_include_pad=False)


def central_images(config: DpFetaConfig, context: Context, records: ImageSet, method: str) -> Prototypes:
    """The run's noisy mean images of each class, of samples of the records, at the records' size.

    Divided by the counts that are released beside them; the published code divides by the private ones, see
    docs/accounting-differences.md.
    """
    require_own_labels(records)
    plan = central_plan(config, method)
    small = replace(records, images=pooled(records.images, config.pool), origin=None).to(context.device)
    chan, height, width = small.image_shape
    num_classes = records.num_classes

    def rows(randomness: PrivateRandomness) -> Iterator[BlockRows]:
        return image_rows(small.take(poisson_sample(len(small), plan.sampling_prob, randomness)), config.count_share)

    shape = (num_classes, chan * height * width + 1)
    sums = kept_releases(CENTRAL, context, plan, rows, shape, plan.to_dict(), config.pool, config.count_share,
                         records.fingerprint())  # fmt: skip
    means = torch.cat([means_of(some, config.count_share, plan.noise_scale)[0] for some in sums])
    images = F.interpolate(means.reshape(-1, chan, height, width), size=records.image_shape[1:], mode="bilinear")
    labels = torch.arange(num_classes, device=images.device).repeat(len(sums))
    context.say(
        f"{method}: {config.central_images} central images a class, noise multiplier {plan.noise_multiplier:.3f}; "
        f"epsilon {context.ledger.spent():.3f}"
    )
    return Prototypes(images, labels, torch.ones(len(labels), device=images.device), 0.0)


def warmed_up(
    stage: str,
    section: str,
    config: TrainingSettings,
    settings: DenoiserSettings,
    context: Context,
    *,
    denoiser: Denoiser,
    batches: Batches,
    subject: Subject,
    learned_from: str,
) -> Denoiser:
    """A denoiser that has learned from released images, all of it ready to train on.

    Args:
        stage: names log and checkpoint.
        section: of the config, for errors.
        learned_from: fingerprint of what the batches are made of, and of the denoiser.
    """
    with context.timed(stage) as seconds:
        trained = train_denoiser(
            stage,
            config,
            denoiser=denoiser,
            num_classes=subject.num_classes,
            batches=batches,
            levels=baseline_levels(settings.baseline),
            rng=context.rng(stage),
            checkpoint=context.checkpoint(stage, config, settings.network, learned_from, unnamed=False),
            log=context.log(stage),
            learning_rate_key=f"{section}.learning_rate",
            precision=context.precision,
        )
    context.say(f"{stage}: {config.steps} steps of {config.batch_size} images in {seconds():.0f} s")
    return with_weights_of(trained, untrained(settings, subject, context))


def warmed_up_on_central_images(
    settings: CentralSettings, context: Context, records: ImageSet, method: str
) -> Denoiser:
    """A denoiser of varied central images."""
    central = central_images(settings.dp_feta, context, records, method)
    subject = Subject.of(records)
    return warmed_up(
        "warm_up",
        "dp_feta",
        settings.dp_feta,
        settings,
        context,
        denoiser=untrained(settings, subject, context),
        batches=batches_of_prototypes(central, settings.augmentation, subject.num_classes),
        subject=subject,
        learned_from=fingerprint_of_state({"images": central.images.cpu()}),
    )


def fitted(settings: DenoiserSettings, context: Context, records: ImageSet, method: str, denoiser: Denoiser) -> Trained:
    """The student: a warmed-up denoiser, after the rest of the budget was spent on gradient rows of records."""
    denoiser = fit_to_records(
        "baseline",
        method,
        settings.baseline,
        context,
        denoiser=denoiser,
        levels=timestep_levels(settings.baseline),
        label_dropout=settings.baseline.label_dropout,
        records=records,
        learned_from=fingerprint_of_state(denoiser.state_dict()),
    )
    return formally(Releasable(denoiser, release_config(settings, Subject.of(records))), context, "records")


def plans(settings: DpFetaSettings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """Central images with the noise that they are told, then gradient rows on the rest of the budget."""
    central = central_plan(settings.dp_feta, NAME)
    return [
        central,
        budget.planned([central]).calibrate(gradient_plan("baseline", NAME, settings.baseline, num_records)),
    ]


def rehearse(settings: CentralSettings, subject: Subject, num_records: int) -> Rehearsal:
    """An untrained denoiser, and the rows of a chunk of records.

    Raises:
        ValueError: more pixels are to become one than an image has along a side.
    """
    pool, smallest = settings.dp_feta.pool, min(subject.image_shape[1:])
    if pool > smallest:
        raise ValueError(f"dp_feta.pool={pool} is more than the {smallest} pixels of a side; lower it")
    return dp_sgd_denoiser.rehearse(settings, subject, num_records)


def train(settings: DpFetaSettings, context: Context) -> Trained:
    """Releases central images, warms up on them, and learns from the records."""
    records = context.read_records()
    plans(settings, context.ledger, context.num_records(records))  # refused before the first charge
    denoiser = warmed_up_on_central_images(settings, context, records, NAME)
    return fitted(settings, context, records, NAME, denoiser)


CENTRAL_STAGES = (
    Stage(
        name="central images",
        files=(f"{CENTRAL}.checkpoint",),
        keys=(
            "data", "privacy", "dp_feta.central_images", "dp_feta.sampling_prob", "dp_feta.noise_multiplier",
            "dp_feta.pool", "dp_feta.count_share",
        ),
    ),
    Stage(
        name="warm-up",
        files=("warm_up.checkpoint",),
        keys=(
            "dp_feta", "augmentation", "network", "baseline.parameterisation", "baseline.sigma_mean",
            "baseline.sigma_std",
        ),
    ),
)  # fmt: skip

METHOD = Method(
    name=NAME,
    about="DP-FETA (Li et al. 2025): noisy mean images of samples of the records, on which a diffusion model warms up; "
    "DP-SGD goes on with the rest of the budget. Needs no public images. Costs dp_feta.steps x batch_size passes of "
    "the network, then those of dpdm; see the preset mnist-dp-feta.",
    settings=DpFetaSettings,
    guarantees=("records",),
    stages=lambda settings: (*CENTRAL_STAGES, of_records()),
    plans=plans,
    rehearse=rehearse,
    train=train,
)
