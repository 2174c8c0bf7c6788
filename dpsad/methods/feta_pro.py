"""FETA-Pro: DP-FETA with a second warm-up, on images of a generator that learned noisy random features of the records.

Central images show where strokes are, random Fourier features what frequencies images have: DP-MERF's one release, and
its generator, are the second step from easy to hard.

Source: the authors' code beside DP-FETA (Li et al. 2025), as DPImageBench runs it: time, then frequency, then DP-SGD.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.records import ImageSet, Subject
from dpsad.methods import dp_feta, dp_merf
from dpsad.methods.dp_feta import (
    CENTRAL_STAGES,
    DpFetaConfig,
    central_plan,
    fitted,
    warmed_up,
    warmed_up_on_central_images,
)
from dpsad.methods.dp_merf import DpMerfConfig, features_of
from dpsad.methods.dp_sgd_denoiser import BaselineConfig, of_records
from dpsad.methods.method import Method, Rehearsal, Stage, Trained
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.ranges import Count, Fraction, HalfLife, LearningRate, Positive, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.context import Context
from dpsad.runtime.state_fingerprint import fingerprint_of_state
from dpsad.training.batches import Batches
from dpsad.training.models import new_generator
from dpsad.training.private_denoiser import gradient_plan
from students.few_step import SamplerConfig
from students.generator import Generator

NAME = "feta-pro"


@dataclass(frozen=True, kw_only=True)
class FetaProConfig:
    """How random features are released, and the second warm-up.

    noise_multiplier: of the one release of random features; their number and the generator are those of `dp_merf`.
    steps, batch_size, learning_rate, ema_half_life_images, label_dropout: of the warm-up on the generator's images, as
        in `dp_feta`.
    """

    noise_multiplier: Positive = 7.4
    steps: Count = 1000
    batch_size: Count = 64
    learning_rate: LearningRate = 1e-3
    ema_half_life_images: HalfLife = 5000
    label_dropout: Fraction = 0.1

    def __post_init__(self) -> None:
        require_ranges(self, "feta_pro")


@dataclass(frozen=True, kw_only=True)
class FetaProSettings:
    """What FETA-Pro is told."""

    dp_feta: DpFetaConfig = field(default_factory=DpFetaConfig)
    dp_merf: DpMerfConfig = field(default_factory=DpMerfConfig)
    feta_pro: FetaProConfig = field(default_factory=FetaProConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)


def frequency_plan(config: FetaProConfig) -> ReleasePlan:
    """The release of random features, with the noise that it is told."""
    return ReleasePlan(
        purpose=f"{NAME}, random features",
        unit=Unit.RECORD,
        clip_norm=1.0,
        noise_multiplier=config.noise_multiplier,
    )


def plans(settings: FetaProSettings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """Central images and random features with the noise that they are told, then gradient rows on the rest."""
    first = [central_plan(settings.dp_feta, NAME), frequency_plan(settings.feta_pro)]
    return [
        *first,
        budget.planned(first).calibrate(gradient_plan("baseline", NAME, settings.baseline, num_records)),
    ]


def images_of(generator: Generator, num_classes: int) -> Batches:
    """Images of a released generator, of classes drawn evenly."""

    @torch.no_grad()
    def draw(num: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        labels = torch.randint(num_classes, (num,), generator=rng, device=rng.device)
        return generator(torch.randn(num, generator.noise_dim, generator=rng, device=rng.device), labels), labels

    return Batches(generator.provenance, draw)


def train(settings: FetaProSettings, context: Context) -> Trained:
    """Releases central images and random features, warms up on both in turn, and learns from the records."""
    records = context.read_records()
    plans(settings, context.ledger, context.num_records(records))  # refused before the first charge
    subject = Subject.of(records)
    denoiser = warmed_up_on_central_images(settings, context, records, NAME)
    generator = _auxiliary(settings, context, records)
    assert generator.provenance is Provenance.RELEASED
    denoiser = warmed_up(
        "warm_up_2",
        "feta_pro",
        settings.feta_pro,
        settings,
        context,
        denoiser=denoiser,
        batches=images_of(generator, subject.num_classes),
        subject=subject,
        learned_from=fingerprint_of_state([denoiser.state_dict(), generator.state_dict()]),
    )
    return fitted(settings, context, records, NAME, denoiser)


def _auxiliary(settings: FetaProSettings, context: Context, records: ImageSet) -> Generator:
    """The generator that has the records' mean random features, as far as noise lets them be known."""
    config, subject, plan = settings.dp_merf, Subject.of(records), frequency_plan(settings.feta_pro)
    with context.timed("dp-merf") as seconds:
        generator = dp_merf.dp_merf(
            config,
            generator=new_generator(config.generator, subject, context),
            features=features_of(
                config, subject.image_shape, context.rng("random features", torch.device("cpu")), context.device
            ),
            records=records,
            sanitizer=Sanitizer(plan, context.ledger, context.randomness.named("dp-merf")),
            rng=context.rng("dp-merf"),
            checkpoint=context.checkpoint("dp_merf", config, plan.to_dict(), records.fingerprint(), unnamed=False),
            log=context.log("dp-merf"),
            precision=context.precision,
        )
    context.say(
        f"{NAME}: {config.num_features} random features, noise multiplier {plan.noise_multiplier:.3f}, {config.steps} "
        f"steps of {config.batch_size} images, in {seconds():.0f} s; epsilon {context.ledger.spent():.3f}"
    )
    return generator


def rehearse(settings: FetaProSettings, subject: Subject, num_records: int) -> Rehearsal:
    """An untrained denoiser, and what the generator holds on the way."""
    made = dp_feta.rehearse(settings, subject, num_records)
    of_generator = dp_merf.rehearse(dp_merf.Settings(dp_merf=settings.dp_merf), subject, num_records)
    return Rehearsal(made=made.made, held=(*made.held, *of_generator.held), kept=made.kept + of_generator.kept)


METHOD = Method(
    name=NAME,
    about="FETA-Pro: DP-FETA, and then a second warm-up on images of a generator that learned one noisy release of "
    "random features, as in dp-merf; DP-SGD goes on with the rest of the budget. Costs what dp-feta and dp-merf do, "
    "and feta_pro.steps x batch_size passes of the network; see the preset mnist-feta-pro.",
    settings=FetaProSettings,
    guarantees=("records",),
    stages=lambda settings: (
        *CENTRAL_STAGES,
        Stage(name="random features", files=("dp_merf.checkpoint",), keys=("dp_merf", "feta_pro.noise_multiplier")),
        Stage(name="second warm-up", files=("warm_up_2.checkpoint",), keys=("feta_pro",)),
        of_records(),
    ),
    plans=plans,
    rehearse=rehearse,
    train=train,
)
