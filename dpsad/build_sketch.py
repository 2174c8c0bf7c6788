"""From a config to the sketch's private side: whose rows pull prototypes into place, and how noisy their sums are."""

from collections.abc import Iterable
from dataclasses import replace

from dp_accounting import ComposedDpEvent
from torch import Tensor

from discriminators.convolutional import ConvolutionalDiscriminator
from discriminators.shard_discriminators import ShardDiscriminators
from dpsad import build
from dpsad.config import Config
from dpsad.data.records import ImageSet
from dpsad.data.shards import Shards
from dpsad.networks.stacked import Stacked
from dpsad.networks.unet import UNet
from dpsad.privacy.accounting import gaussian_epsilon, gaussian_mu
from dpsad.privacy.calibration import calibrate_noise_multiplier
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.rows import BlockRows
from dpsad.stages.pulls import record_pulls, shard_pulls, teacher_pulls
from dpsad.stages.sketch import NamedPlan, Pulls, sketch_plans
from students.base import Proposal
from teachers.base import Teacher


def sketch_mu(config: Config) -> float:
    """The sketch's budget; all of it where nothing is left to refine."""
    share = config.privacy.split if config.refine.steps else 1.0
    # a hair below the exact budget, so that the accountant's rounding does not refuse it
    return gaussian_mu(config.privacy.epsilon * (1 - 1e-4), config.privacy.delta) * share**0.5


def plans_of_sketch(config: Config, num_records: int) -> list[NamedPlan]:
    """The sketch's releases, with the noise that its share of the budget asks for."""
    if config.guarantee != "shards":
        return sketch_plans(config.sketch, sketch_mu(config))
    shards = config.shards
    mu = sketch_mu(config) * (1.0 if shards.teacher == "none" else (1 - shards.teacher_share) ** 0.5)
    # a row is made of as many pulls as a shard has records, by public numbers
    max_norm = shards.max_norm * max(1.0, num_records / shards.num_shards) ** 0.5
    return _sampled(config, sketch_plans(config.sketch, mu, unit=Unit.SHARD, max_norm=max_norm), mu, [])


def plan_of_consulting(config: Config, num_classes: int, spent: list[NamedPlan]) -> NamedPlan:
    """The release of the answers of shards' teachers, one at each level.

    Args:
        spent: the sketch's plans, which share the budget.
    """
    shards = config.shards
    mu = sketch_mu(config) * shards.teacher_share**0.5
    plan = ReleasePlan(
        unit=Unit.SHARD,
        # a row is made of one pull on every question
        max_norm=shards.max_norm * (num_classes * shards.queries) ** 0.5,
        noise_multiplier=Unit.SHARD.reach * len(shards.levels) ** 0.5 / mu,
        num_releases=len(shards.levels),
    )
    return _sampled(config, [("answers of the shards' teachers", plan)], sketch_mu(config), spent)[0]


def _sampled(config: Config, plans: list[NamedPlan], mu: float, spent: list[NamedPlan]) -> list[NamedPlan]:
    """The same releases by sampled shards, all noises scaled so that, with `spent`, they cost what `mu` does."""
    if config.shards.sampling_prob == 1:
        return plans

    def scaled(plan: ReleasePlan, factor: float) -> ReleasePlan:
        return replace(plan, noise_multiplier=plan.noise_multiplier * factor, sampling_prob=config.shards.sampling_prob)

    factor = calibrate_noise_multiplier(
        lambda factor: ComposedDpEvent([scaled(plan, factor).event() for _, plan in plans]),
        epsilon=gaussian_epsilon(mu, config.privacy.delta),
        delta=config.privacy.delta,
        spent=[plan.event() for _, plan in spent],
    )
    return [(purpose, scaled(plan, factor)) for purpose, plan in plans]


def pulls_of_records(config: Config, records: ImageSet) -> Pulls:
    """Record rows, for guarantee=records.

    Args:
        records: on the device to work on.
    """
    by_class = [(records.labels == label).nonzero().flatten() for label in range(records.num_classes)]

    def pulls(proposal: Proposal, bound: float) -> Iterable[BlockRows]:
        return record_pulls(records.images, by_class, proposal, bound, config.sketch.count_share)

    return pulls


def pulls_of_shards(config: Config, records: ImageSet, shards: Shards, randomness: PrivateRandomness) -> Pulls:
    """Shard rows of the records themselves, for the sketch.

    Args:
        records, shards: on the device to work on.
        randomness: secret; which shards take part.
    """

    def pulls(proposal: Proposal, bound: float) -> Iterable[BlockRows]:
        joined = _joined(config, randomness)
        return shard_pulls(records.images, records.labels, shards, joined, proposal, bound, config.sketch.count_share)

    return pulls


def pulls_of_teachers(config: Config, records: ImageSet, teachers: Teacher, randomness: PrivateRandomness) -> Pulls:
    """Shard rows of the shards' teachers, and of their discriminators where there are any.

    Args:
        teachers: one for each shard.
        randomness: secret; which shards take part.
    """
    discriminators = build_shard_discriminators(config, records) if config.shards.adversarial_weight > 0 else None

    def pulls(proposal: Proposal, bound: float) -> Iterable[Tensor]:
        joined = _joined(config, randomness)
        return teacher_pulls(teachers, discriminators, joined, proposal, bound, config.sketch.count_share)

    return pulls


def _joined(config: Config, randomness: PrivateRandomness) -> Tensor:
    return poisson_sample(config.shards.num_shards, config.shards.sampling_prob, randomness).to(randomness.device)


def build_shard_networks(config: Config, image_shape: tuple[int, int, int], num_classes: int) -> Stacked:
    """One small network for each shard, all with the same first weights."""
    with build.first_weights(config, "shards"):
        network = UNet(config.shards.network, image_channels=image_shape[0], num_classes=num_classes)
    return Stacked([network] * config.shards.num_shards).to(build.device_of(config))


def build_shard_discriminators(config: Config, records: ImageSet) -> ShardDiscriminators:
    """One small discriminator for each shard, all with the same first weights."""
    with build.first_weights(config, "shard critics"):  # the name is part of the seed
        discriminator = ConvolutionalDiscriminator(
            config.shards.critic_channels,
            image_channels=records.image_shape[0],
            num_classes=records.num_classes,
        )
    stacked = Stacked([discriminator] * config.shards.num_shards).to(build.device_of(config))
    return ShardDiscriminators(stacked, weight=config.shards.adversarial_weight)
