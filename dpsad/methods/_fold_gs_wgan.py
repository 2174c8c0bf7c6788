"""GS-WGAN: a generator trained by the gradients of shards' critics at its images.

Source: Chen et al. 2020.
"""

from dataclasses import replace

from discriminators.shard_wasserstein import ShardWassersteinCritics
from discriminators.wasserstein import WassersteinCritic
from dpsad import build
from dpsad.commands.sketch import Subject
from dpsad.config import Config
from dpsad.data.records import ImageSet
from dpsad.methods.dp_sad.prototypes import NamedPlan
from dpsad.methods.gs_wgan import gs_wgan
from dpsad.methods.method import Opened
from dpsad.networks.stacked import Stacked
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.release.export import Releasable, ReleaseConfig
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.run_folder import Log

PURPOSE = "gs-wgan, gradients of shards' critics"


def plans(config: Config, num_records: int) -> list[NamedPlan]:
    """One release of sampled shards' rows a step, on the whole budget; the number of records does not matter."""
    settings = config.gs_wgan

    def plan(noise_multiplier: float) -> ReleasePlan:
        return ReleasePlan(
            unit=Unit.SHARD,
            max_norm=settings.max_norm * settings.batch_size**0.5,
            noise_multiplier=noise_multiplier,
            sampling_prob=settings.shards_per_step / settings.num_shards,
            num_releases=settings.steps,
        )

    return [(PURPOSE, build.calibrated(plan, config.privacy))]


def train(opened: Opened) -> Releasable:
    """Trains the shards' critics and a new generator."""
    config, settings = opened.config, opened.config.gs_wgan
    records, device = opened.read_records(), build.device_of(config)
    subject = Subject.of(records)
    ((purpose, plan),) = plans(config, build.num_records_of(config, records))
    log = Log(opened.run, "gs-wgan", config.log)
    with log.timed(build.hardware_of(device)) as seconds:
        generator = gs_wgan(
            settings,
            generator=build.build_generator(config, settings.generator, subject.image_shape, records.num_classes),
            critics=build_critics(config, records),
            records=replace(records, images=records.images.to(device), labels=records.labels.to(device)),
            shards=build.split_records(config, records, settings.num_shards).to(device),
            sanitizer=Sanitizer(plan, opened.ledger, purpose, opened.randomness),
            randomness=opened.randomness,
            stream=build.generator_of(config, "gs-wgan", device),
            checkpoint=Checkpoint(opened.run.private / "gs_wgan.checkpoint", every_seconds=0),
            log=log,
        )
    opened.say(
        f"gs-wgan: {settings.steps} steps of {settings.shards_per_step} among {settings.num_shards} shards, noise "
        f"multiplier {plan.noise_multiplier:.3f}, in {seconds():.0f} s; epsilon {opened.ledger.spent():.3f}"
    )
    release = ReleaseConfig(
        kind="generator",
        image_shape=subject.image_shape,
        class_names=subject.class_names,
        generator=settings.generator,
    )
    return Releasable(generator, release)


def build_critics(config: Config, records: ImageSet) -> ShardWassersteinCritics:
    """One small critic for each shard, all with the same first weights."""
    settings = config.gs_wgan
    with build.first_weights(config, "shard critics"):
        critic = WassersteinCritic(
            settings.critic_channels, image_shape=records.image_shape, num_classes=records.num_classes
        )
    stacked = Stacked([critic] * settings.num_shards).to(build.device_of(config))
    return ShardWassersteinCritics(stacked, penalty=settings.penalty, learning_rate=settings.critic_learning_rate)
