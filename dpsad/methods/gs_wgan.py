"""GS-WGAN: a generator trained by the clipped and noised gradients that shards' critics send to its images.

Source: Chen et al. 2020.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from discriminators.shard_wasserstein import ShardWassersteinCritics
from discriminators.wasserstein import WassersteinCritic
from dpsad.data.records import ImageSet, Subject, require_own_labels
from dpsad.data.shards import Shards, in_chunks, shards_of_run
from dpsad.methods.method import Held, Method, Rehearsal, Stage, Trained, formally, require_records_for
from dpsad.networks.stacked import Stacked
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.ranges import Count, CountOrZero, HalfLife, LearningRate, Positive, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.release.students import releasable_generator
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.context import Context
from dpsad.runtime.log import Log
from dpsad.training.ema import ExponentialMovingAverage
from dpsad.training.models import new_generator
from students.generator import Generator, GeneratorConfig

CHUNK = 32  # shards whose critics work at once


@dataclass(frozen=True, kw_only=True)
class GsWganConfig:
    """How the generator and the shards' critics are trained.

    num_shards: K, how many disjoint shards, a critic each.
    shards_per_step: how many are expected to take part in a step; each joins independently.
    steps: of the generator, one release each.
    batch_size: images of the generator that a shard is asked about, in one row.
    relative_clip_norm: bound on a shard's row, in units of the root of `batch_size`: critics of slope 1 have about
        that.
    learning_rate: of Adam for the generator.
    ema_half_life_steps: of the weight average.
    warm_steps: of all critics against the untrained generator, before the first release.
    critic_steps: of a critic whenever its shard takes part.
    critic_batch_size: records, and images of the generator, in each.
    critic_learning_rate, penalty: of these steps.
    critic_channels: width of the critics.
    generator: its shape.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"max_norm": "relative_clip_norm", "half_life": "ema_half_life_steps"}

    num_shards: Count = 1000
    shards_per_step: Count = 40
    steps: Count = 200
    batch_size: Count = 16
    relative_clip_norm: Positive = 0.5
    learning_rate: LearningRate = 3e-3
    ema_half_life_steps: HalfLife = 20.0
    warm_steps: CountOrZero = 8
    critic_steps: Count = 8
    critic_batch_size: Count = 16
    critic_learning_rate: LearningRate = 2e-3
    penalty: Positive = 10.0
    critic_channels: Count = 8
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        require_ranges(self, "gs_wgan")
        if self.shards_per_step > self.num_shards:
            raise ValueError(
                f"gs_wgan.shards_per_step={self.shards_per_step} is more than gs_wgan.num_shards={self.num_shards}"
            )


def generated(generator: Generator, labels: Tensor, rng: torch.Generator) -> Tensor:
    """One image of each label, [num, chan, height, width], from public noise; with the graph into the weights."""
    noise = torch.randn(len(labels), generator.noise_dim, generator=rng, device=rng.device)
    return generator(noise, labels)


def train_critics(
    critics: ShardWassersteinCritics,
    joined: Tensor,
    fakes: Tensor,
    *,
    records: ImageSet,
    shards: Shards,
    steps: int,
    batch_size: int,
    randomness: PrivateRandomness,
) -> None:
    """Trains the critics of some shards on their own records against images of the generator.

    Args:
        joined: [units] which shards.
        fakes: [num_classes, num, chan, height, width] released images of each class; a record meets one of its own.
        records, shards: on the device of the critics.
        randomness: secret; which records and images meet. The more shards in `joined`, the more draws, so they must not
            come from a stream that somebody knows.

    Formal guarantee: each critic becomes a function of its weights before, its own shard, `fakes` and secret draws. A
    shard without records sees `fakes` on both sides.
    """
    counts = (shards.members >= 0).sum(1)
    for part in in_chunks(joined, CHUNK):

        def uniform(num: int = len(part)) -> Tensor:
            drawn = randomness.uniform(steps * num * batch_size).float()
            return drawn.reshape(steps, num, batch_size).to(fakes.device)

        own = counts[part][None, :, None]
        place = (uniform() * own).long().minimum(own - 1).clamp(min=0)  # rounding may reach the end
        index = shards.members[part].expand(steps, -1, -1).gather(2, place)
        known = index >= 0
        labels = torch.where(known, records.labels[index], 0)
        choice = (uniform() * fakes.shape[1]).long().clamp(max=fakes.shape[1] - 1)
        fake = fakes[labels, choice]
        real = torch.where(known[..., None, None, None], records.images[index], fake)
        critics.train(part, real, fake, labels, uniform())


def shard_rows(critics: ShardWassersteinCritics, joined: Tensor, outputs: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """Each shard's row: the gradient of its critic's loss at all images of the generator together.

    Args:
        joined: [units] shards that take part; the others have no row.
        outputs: [batch, chan, height, width] of the generator, from public noise.
        labels: [batch] public.

    Returns:
        Chunks of dense rows [units, batch, chan, height, width], not clipped; one joint norm each.
    """
    for part in in_chunks(joined, CHUNK):
        yield critics.directions(part, outputs, labels)


def gs_wgan(
    config: GsWganConfig,
    *,
    generator: Generator,
    critics: ShardWassersteinCritics,
    records: ImageSet,
    shards: Shards,
    sanitizer: Sanitizer,
    randomness: PrivateRandomness,
    rng: torch.Generator,
    checkpoint: Checkpoint,
    log: Log,
) -> Generator:
    """Trains a generator by what shards' critics say about its images.

    Args:
        generator: provenance public; is trained in place, on the device of `rng`.
        critics: one for each shard, provenance private.
        records, shards: the private records and which shard each is in, on the device.
        sanitizer: holds the plan: one row a shard that takes part.
        randomness: secret, the sanitizer's own; which shards take part, and draws inside their rows.
        rng: public; noise and labels of the generator. As many numbers are drawn from it in every step, whoever
            takes part.
        checkpoint: tracks ledger, generator, critics and optimizer in one file.
        log: the norm of the released gradient is public.

    Returns:
        The averaged generator.

    Formal guarantee: all of it is post-processing of `sanitizer`'s releases. The images' noise and labels are public,
    so the Jacobian that a released gradient passes depends on releases alone.

    Source: Chen et al. 2020, Algorithm 1, with another row and another accounting; see docs/decisions.md.
    """
    require_own_labels(records)
    device, num_classes = rng.device, records.num_classes
    ema = ExponentialMovingAverage(generator, half_life=config.ema_half_life_steps, warmup=1.0)
    optimizer = torch.optim.Adam(generator.parameters(), lr=config.learning_rate, betas=(0.5, 0.9))
    checkpoint.track(
        generator=generator, ema=ema, optimizer=optimizer, stream=rng, critics=critics.critics, sanitizer=sanitizer
    )
    checkpoint.hold(log)
    # not the critics: one that fails gives no row, and nobody may see that it did
    checkpoint.guard("gs_wgan.learning_rate", generator=generator, ema=ema, optimizer=optimizer)
    sanitizer.charge()
    each_class = torch.arange(num_classes, device=device).repeat_interleave(config.critic_batch_size)

    def teach_critics(joined: Tensor, steps: int) -> None:
        with torch.no_grad():
            fakes = generated(generator, each_class, rng).unflatten(0, (num_classes, -1))
        train_critics(
            critics,
            joined.to(device),
            fakes,
            records=records,
            shards=shards,
            steps=steps,
            batch_size=config.critic_batch_size,
            randomness=randomness,
        )

    if config.warm_steps and not checkpoint.begun:
        teach_critics(torch.arange(shards.num_shards), config.warm_steps)
    for step in progress(checkpoint, config.steps, "gs-wgan"):
        joined = poisson_sample(shards.num_shards, sanitizer.plan.sampling_prob, randomness).to(device)
        teach_critics(joined, config.critic_steps)
        labels = torch.randint(num_classes, (config.batch_size,), generator=rng, device=device)
        outputs = generated(generator, labels, rng)
        released = sanitizer.release(shard_rows(critics, joined, outputs, labels), tuple(outputs.shape))
        optimizer.zero_grad(set_to_none=True)
        outputs.backward(released / config.shards_per_step)
        optimizer.step()
        ema.update(generator, 1)
        released_norm = released.norm().item() / config.shards_per_step
        log.public(step=step + 1, released_norm=released_norm)
    ema.model.provenance = Provenance.RELEASED
    return ema.model


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What GS-WGAN is told."""

    gs_wgan: GsWganConfig = field(default_factory=GsWganConfig)


def plans(settings: Settings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """One release of sampled shards' rows a step, on the whole budget; the number of records does not matter."""
    config = settings.gs_wgan
    plan = ReleasePlan(
        purpose="gs-wgan, gradients of shards' critics",
        unit=Unit.SHARD,
        clip_norm=config.relative_clip_norm * config.batch_size**0.5,
        sampling_prob=config.shards_per_step / config.num_shards,
        num_releases=config.steps,
    )
    return [budget.calibrate(plan)]


def rehearse(settings: Settings, subject: Subject, num_records: int) -> Rehearsal:
    """An untrained generator, and critics of all shards."""
    config, shape = settings.gs_wgan, subject.image_shape
    require_records_for("gs_wgan.num_shards", config.num_shards, num_records)
    generator = Generator(config.generator, image_shape=shape, num_classes=subject.num_classes)
    critic = WassersteinCritic(config.critic_channels, image_shape=shape, num_classes=subject.num_classes)
    num_weights = config.num_shards * sum(weight.numel() for weight in critic.parameters())
    critics = Held(
        num_bytes=12.0 * num_weights,
        what=f"gs_wgan.num_shards={config.num_shards}: critics of gs_wgan.critic_channels={config.critic_channels}",
        mend="lower one of these",
    )
    made = releasable_generator(generator, config.generator, shape, subject.class_names)
    return Rehearsal(made=made, held=(critics,), kept=2 * critics.num_bytes)


def train(settings: Settings, context: Context) -> Trained:
    """Trains the shards' critics and a new generator."""
    config, records = settings.gs_wgan, context.read_records()
    subject, shards = Subject.of(records), shards_of_run(records.ids, config.num_shards, context.seed)
    (plan,) = plans(settings, context.ledger, context.num_records(records))
    randomness = context.randomness.named("gs-wgan")
    with context.timed("gs-wgan") as seconds:
        generator = gs_wgan(
            config,
            generator=new_generator(config.generator, subject, context),
            critics=new_critics(config, subject, context),
            records=records.to(context.device),
            shards=shards.to(context.device),
            sanitizer=Sanitizer(plan, context.ledger, randomness),
            randomness=randomness,
            rng=context.rng("gs-wgan"),
            checkpoint=context.checkpoint(
                "gs_wgan", config, records.fingerprint(), shards.fingerprint(), every_seconds=0, unnamed=False
            ),
            log=context.log("gs-wgan"),
        )
    context.say(
        f"gs-wgan: {config.steps} steps of {config.shards_per_step} among {config.num_shards} shards, noise "
        f"multiplier {plan.noise_multiplier:.3f}, in {seconds():.0f} s; epsilon {context.ledger.spent():.3f}"
    )
    made = releasable_generator(generator, config.generator, subject.image_shape, subject.class_names)
    return formally(made, context, "shards")


def new_critics(config: GsWganConfig, subject: Subject, context: Context) -> ShardWassersteinCritics:
    """One small critic for each shard, all with the same first weights."""
    with context.first_weights("shard critics"):
        critic = WassersteinCritic(
            config.critic_channels, image_shape=subject.image_shape, num_classes=subject.num_classes
        )
    stacked = Stacked([critic] * config.num_shards).to(context.device)
    return ShardWassersteinCritics(stacked, penalty=config.penalty, learning_rate=config.critic_learning_rate)


METHOD = Method(
    name="gs-wgan",
    about="GS-WGAN (Chen et al. 2020): a generator trained by the clipped and noised gradients that critics, one "
    "for each of many disjoint shards, send to its images; needs guarantee=shards, since a row is a shard's. Costs "
    "gs_wgan.steps x shards_per_step x critic_steps x critic_batch_size passes of a small critic, 0.2 ms each on a CPU "
    "core: some minutes with the preset mnist-gs-wgan.",
    settings=Settings,
    guarantees=("shards",),
    stages=lambda settings: (
        Stage(name="gs-wgan", files=("gs_wgan.checkpoint",), keys=("data", "privacy", "gs_wgan")),
    ),
    plans=plans,
    rehearse=rehearse,
    train=train,
)
