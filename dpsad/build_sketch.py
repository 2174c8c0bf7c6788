"""From a config to the sketch's private side: whose rows pull prototypes into place, and how noisy their sums are."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from dp_accounting import ComposedDpEvent
from torch import Tensor

from discriminators.convolutional import ConvolutionalCritic, CriticConfig
from discriminators.shard_critics import ShardCritics
from dpsad import build
from dpsad.config import Config
from dpsad.data.records import ImageSet
from dpsad.data.shards import Shards, split_into_shards
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
from teachers.closed_form import ClosedFormTeachers
from teachers.shard_denoisers import ShardDenoisers


def sketch_mu(config: Config) -> float:
    """The sketch's budget; all of it where nothing is left to refine."""
    share = config.privacy.split if config.refine.steps else 1.0
    # a hair below the exact budget, so that the accountant's rounding does not refuse it
    return gaussian_mu(config.privacy.epsilon * (1 - 1e-4), config.privacy.delta) * share**0.5


def plans_of_sketch(config: Config, num_records: int, num_classes: int) -> list[NamedPlan]:
    """The sketch's releases, with the noise that its share of the budget asks for."""
    if config.guarantee != "shards":
        return sketch_plans(config.sketch, sketch_mu(config))
    shards = config.shards
    # how many pulls a row is made of, by public numbers: a shard's records, or all proposed images
    sizes = [
        num_classes * number if has_teacher else max(1.0, num_records / shards.num_shards)
        for number, has_teacher in zip(config.sketch.prototypes, answered_by_teachers(config), strict=True)
    ]
    max_norms = [shards.max_norm * size**0.5 for size in sizes]
    plans = sketch_plans(config.sketch, sketch_mu(config), unit=Unit.SHARD, max_norms=max_norms)
    return plans if shards.sampling_prob == 1 else _sampled(config, plans)


def answered_by_teachers(config: Config) -> list[bool]:
    """Whether shards' teachers answer, by resolution."""
    shards = config.shards
    return [shards.answer != "records" and number >= shards.answer_from for number in config.sketch.prototypes]


def levels_of_sketch(config: Config) -> list[float]:
    """The noise level at which prototypes are proposed, by resolution; 0 where no teacher answers."""
    if config.guarantee != "shards":
        return [0.0] * len(config.sketch.prototypes)
    answered = zip(config.shards.levels, answered_by_teachers(config), strict=True)
    return [level if by_teachers else 0.0 for level, by_teachers in answered]


def _sampled(config: Config, plans: list[NamedPlan]) -> list[NamedPlan]:
    """The same releases by sampled shards, all noises scaled so that they cost what the plans do."""

    def scaled(plan: ReleasePlan, factor: float) -> ReleasePlan:
        return replace(plan, noise_multiplier=plan.noise_multiplier * factor, sampling_prob=config.shards.sampling_prob)

    factor = calibrate_noise_multiplier(
        lambda factor: ComposedDpEvent([scaled(plan, factor).event() for _, plan in plans]),
        epsilon=gaussian_epsilon(sketch_mu(config), config.privacy.delta),
        delta=config.privacy.delta,
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


def pulls_of_shards(
    config: Config, records: ImageSet, shards: Shards, teachers: Teacher | None, randomness: PrivateRandomness
) -> Pulls:
    """Shard rows, for guarantee=shards.

    Args:
        records, shards: on the device to work on.
        teachers: one for each shard; None where records answer.
        randomness: secret; which shards take part.
    """
    critics = build_shard_critics(config, records) if config.shards.adversarial_weight > 0 else None
    by_teachers = dict(zip(config.sketch.prototypes, answered_by_teachers(config), strict=True))
    count_share, num_shards = config.sketch.count_share, config.shards.num_shards

    def pulls(proposal: Proposal, bound: float) -> Iterable[Tensor | BlockRows]:
        joined = poisson_sample(num_shards, config.shards.sampling_prob, randomness).to(records.images.device)
        if by_teachers[len(proposal.labels) // records.num_classes]:
            assert teachers is not None
            return teacher_pulls(teachers, critics, joined, proposal, bound, count_share)
        return shard_pulls(records.images, records.labels, shards, joined, proposal, bound, count_share)

    return pulls


def split_records(config: Config, records: ImageSet) -> Shards:
    """The run's shards; their key is the run's seed, and public."""
    return split_into_shards(records.ids, config.shards.num_shards, key=f"dpsad shards {config.seed}".encode())


def build_shard_networks(config: Config, image_shape: tuple[int, int, int], num_classes: int) -> Stacked:
    """One small network for each shard, all with the same first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(build.generator_of(config, "shards", torch.device("cpu")).initial_seed())
        network = UNet(config.shards.network, image_channels=image_shape[0], num_classes=num_classes)
    return Stacked([network] * config.shards.num_shards).to(build.device_of(config))


def build_shard_critics(config: Config, records: ImageSet) -> ShardCritics:
    """One small critic for each shard, all with the same first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(build.generator_of(config, "shard critics", torch.device("cpu")).initial_seed())
        critic = ConvolutionalCritic(
            CriticConfig(channels=config.shards.critic_channels),
            image_channels=records.image_shape[0],
            num_classes=records.num_classes,
        )
    stacked = Stacked([critic] * config.shards.num_shards).to(build.device_of(config))
    return ShardCritics(stacked, weight=config.shards.adversarial_weight)


def build_shard_teachers(records: ImageSet, shards: Shards, networks: Stacked | None) -> Teacher:
    """The shards' teachers: their trained networks, or without any the closed form."""
    if networks is not None:
        return ShardDenoisers(networks)
    return ClosedFormTeachers(records.images, records.labels, shards)
