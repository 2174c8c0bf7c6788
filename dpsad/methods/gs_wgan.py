"""GS-WGAN: a generator trained by the clipped and noised gradients that shards' critics send to its images."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from discriminators.shard_wasserstein import ShardWassersteinCritics
from dpsad.data.records import ImageSet
from dpsad.data.shards import Shards, in_chunks
from dpsad.errors import require_positive
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.run_folder import Log
from dpsad.training.ema import ExponentialMovingAverage
from students.generator import Generator, GeneratorConfig

CHUNK = 32  # shards whose critics work at once


@dataclass(frozen=True, kw_only=True)
class GsWganConfig:
    """How the generator and the shards' critics are trained.

    num_shards: K, how many disjoint shards, a critic each.
    shards_per_step: how many are expected to take part in a step; each joins independently.
    steps: of the generator, one release each.
    batch_size: images of the generator that a shard is asked about, in one row.
    max_norm: bound on a shard's row, in units of the root of `batch_size`: critics of slope 1 have about that.
    learning_rate: of Adam for the generator.
    half_life: of the weight average, in steps.
    warm_steps: of all critics against the untrained generator, before the first release.
    critic_steps: of a critic whenever its shard takes part.
    critic_batch_size: records, and images of the generator, in each.
    critic_learning_rate, penalty: of these steps.
    critic_channels: width of the critics.
    generator: its shape.
    """

    num_shards: int = 1000
    shards_per_step: int = 40
    steps: int = 200
    batch_size: int = 16
    max_norm: float = 0.5
    learning_rate: float = 3e-3
    half_life: float = 20.0
    warm_steps: int = 8
    critic_steps: int = 8
    critic_batch_size: int = 16
    critic_learning_rate: float = 2e-3
    penalty: float = 10.0
    critic_channels: int = 8
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if key not in ("generator", "warm_steps"):
                require_positive(f"gs_wgan.{key}", value)
        if self.warm_steps < 0:
            raise ValueError(f"gs_wgan.warm_steps={self.warm_steps} must not be negative")
        if self.shards_per_step > self.num_shards:
            raise ValueError(
                f"gs_wgan.shards_per_step={self.shards_per_step} is more than gs_wgan.num_shards={self.num_shards}"
            )


def generated(generator: Generator, labels: Tensor, stream: torch.Generator) -> Tensor:
    """One image of each label, [num, chan, height, width], from public noise; with the graph into the weights."""
    noise = torch.randn(len(labels), generator.noise_dim, generator=stream, device=stream.device)
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
    stream: torch.Generator,
    checkpoint: Checkpoint,
    log: Log,
) -> Generator:
    """Trains a generator by what shards' critics say about its images.

    Args:
        generator: provenance public; is trained in place, on the device of `stream`.
        critics: one for each shard, provenance private.
        records, shards: the private records and which shard each is in, on the device.
        sanitizer: holds the plan: one row a shard that takes part.
        randomness: secret; which shards take part, and draws inside their rows.
        stream: public; noise and labels of the generator. As many numbers are drawn from it in every step, whoever
            takes part.
        checkpoint: tracks ledger, generator, critics and optimizer in one file.
        log: the norm of the released gradient is public.

    Returns:
        The averaged generator.

    Formal guarantee: all of it is post-processing of `sanitizer`'s releases. The images' noise and labels are public,
    so the Jacobian that a released gradient passes depends on releases alone.

    Source: Chen et al. 2020, Algorithm 1, with another row and another accounting; see docs/decisions.md.
    """
    device, num_classes = stream.device, records.num_classes
    ema = ExponentialMovingAverage(generator, half_life=config.half_life, warmup=1.0)
    optimizer = torch.optim.Adam(generator.parameters(), lr=config.learning_rate, betas=(0.5, 0.9))
    checkpoint.track(
        generator=generator, ema=ema, optimizer=optimizer, stream=stream, critics=critics.critics, sanitizer=sanitizer
    )
    sanitizer.charge()
    each_class = torch.arange(num_classes, device=device).repeat_interleave(config.critic_batch_size)

    def teach_critics(joined: Tensor, steps: int) -> None:
        with torch.no_grad():
            fakes = generated(generator, each_class, stream).unflatten(0, (num_classes, -1))
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

    if checkpoint.step == 0 and config.warm_steps:
        teach_critics(torch.arange(shards.num_shards), config.warm_steps)
    for step in progress(checkpoint, config.steps, "gs-wgan"):
        joined = poisson_sample(shards.num_shards, sanitizer.plan.sampling_prob, randomness).to(device)
        teach_critics(joined, config.critic_steps)
        labels = torch.randint(num_classes, (config.batch_size,), generator=stream, device=device)
        outputs = generated(generator, labels, stream)
        released = sanitizer.release(shard_rows(critics, joined, outputs, labels), tuple(outputs.shape))
        optimizer.zero_grad(set_to_none=True)
        outputs.backward(released / config.shards_per_step)
        optimizer.step()
        ema.update(generator, 1)
        log.public(step=step + 1, released_norm=released.norm().item() / config.shards_per_step)
    return ema.model
