"""DP-MERF: the mean random-feature embedding of each class is released once, and a generator learns to have it.

Source: Harder et al. 2021.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from dpsad.data.records import ImageSet, Subject, require_own_labels
from dpsad.methods.method import Held, Method, Rehearsal, Stage, Trained, formally
from dpsad.networks.random_features import RandomFourierFeatures
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.ranges import Count, CountOrZero, HalfLife, LearningRate, Positive, Share, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.release.students import releasable_generator
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.context import Context
from dpsad.runtime.log import Log
from dpsad.runtime.precision import autocast
from dpsad.training.ema import ExponentialMovingAverage
from dpsad.training.models import new_generator
from dpsad.training.schedules import warm_cosine
from students.generator import Generator, GeneratorConfig

CHUNK = 2048  # records whose features are held at once


@dataclass(frozen=True, kw_only=True)
class DpMerfConfig:
    """How the embedding is made, and the generator that learns from it.

    num_features: random Fourier features of an image, half cosines, half sines.
    length_scale: of the Gaussian kernel, as a multiple of the root of the number of values in an image: a public rule,
        where the paper looks at distances between records.
    count_share: share of a row's squared norm that counts its class; the rest is its features.
    steps, batch_size: of the generator, and images in each; the classes take equal parts.
    step_features: features that a step looks at, drawn anew; 0 takes all.
    learning_rate: of Adam, peak; falls as a half cosine.
    ema_half_life_steps: of the weight average.
    generator: its shape.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"half_life": "ema_half_life_steps"}

    num_features: Count = 5000
    length_scale: Positive = 0.5
    count_share: Share = 0.01
    steps: Count = 1000
    batch_size: Count = 200
    step_features: CountOrZero = 2000
    learning_rate: LearningRate = 1e-2
    ema_half_life_steps: HalfLife = 50.0
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        require_ranges(self, "dp_merf")
        for key in ("num_features", "step_features"):
            if getattr(self, key) % 2:
                raise ValueError(f"dp_merf.{key}={getattr(self, key)} must be even: half are cosines, half sines")
        if self.step_features > self.num_features:
            raise ValueError(
                f"dp_merf.step_features={self.step_features} must be between 0, which takes all, and "
                f"dp_merf.num_features={self.num_features}"
            )


def features_of(
    config: DpMerfConfig,
    image_shape: tuple[int, int, int],
    rng: torch.Generator,
    device: torch.device | str = "cpu",
) -> RandomFourierFeatures:
    """The public features of a run, from a public stream of numbers on the CPU."""
    dim = math.prod(image_shape)
    length_scale = config.length_scale * math.sqrt(dim)
    return RandomFourierFeatures(config.num_features, dim, length_scale=length_scale, rng=rng, device=device)


def embedding_rows(features: RandomFourierFeatures, records: ImageSet, count_share: float) -> Iterator[BlockRows]:
    """Each record's row: [sqrt(1 - a) * features; sqrt(a)] in the block of its class, a the share of the count.

    Returns:
        Chunks of block rows, [records, num_features + 1]; each row has norm 1 and is a function of one record, to the
        bit.

    Source: Harder et al. 2021, equation 6: features times the one-hot label; the count beside them is ours.
    """
    for images, labels in zip(records.images.split(CHUNK), records.labels.split(CHUNK), strict=True):
        device = features.frequencies.device
        embedded = features.of_each(images.to(device), bound=1.0) * math.sqrt(1 - count_share)
        counts = torch.full((len(images), 1), math.sqrt(count_share), device=device)
        yield BlockRows(torch.cat([embedded, counts], dim=1), labels.to(device))


class MeanEmbedding:
    """The released mean embedding of each class, and how common the class is.

    Attributes:
        sums: [num_classes, num_features + 1] noisy sum of rows; None until it is released.
    """

    def __init__(self) -> None:
        self.sums: Tensor | None = None

    def means(self, count_share: float, noise: float) -> Tensor:
        """[num_classes, num_features] mean feature vectors.

        Args:
            count_share: as for `embedding_rows`.
            noise: standard deviation of the noise on `sums`; a class counts as at least one and as what noise alone
                would show (two deviations), so that an empty class is not blown up.
        """
        assert self.sums is not None
        counts = self.sums[:, -1] / math.sqrt(count_share)
        least = max(1.0, 2 * noise / math.sqrt(count_share))
        return self.sums[:, :-1] / math.sqrt(1 - count_share) / counts.clamp(min=least)[:, None]

    def state_dict(self) -> dict:
        return {"sums": self.sums}

    def load_state_dict(self, state: dict) -> None:
        self.sums = state["sums"]


def squared_distance(embedded: Tensor, means: Tensor) -> Tensor:
    """||mean embedding of a generator - released mean||^2, averaged over classes.

    Args:
        embedded: [num_classes, num, num_features] of generated images.
        means: [num_classes, num_features] released.

    Source: Harder et al. 2021, equation 6.
    """
    return (embedded.mean(1) - means).square().sum(1).mean()


def dp_merf(
    config: DpMerfConfig,
    *,
    generator: Generator,
    features: RandomFourierFeatures,
    records: ImageSet,
    sanitizer: Sanitizer,
    rng: torch.Generator,
    checkpoint: Checkpoint,
    log: Log,
    precision: str = "auto",
) -> Generator:
    """Releases the records' mean embedding, once, and trains a generator to have the same.

    Args:
        generator: provenance public; is trained in place, on the device of `rng`.
        features: public.
        records: the private records.
        sanitizer: holds a plan of one release on all records, rows bounded by 1.
        rng: public; draws the generator's noise and each step's features.
        checkpoint: tracks ledger, embedding, generator and optimizer in one file.
        log: the distance is public.

    Returns:
        The averaged generator.

    Formal guarantee: all of it is post-processing of `sanitizer`'s one release.

    Source: Harder et al. 2021, Algorithm 1.
    """
    require_own_labels(records)
    embedding = MeanEmbedding()
    ema = ExponentialMovingAverage(generator, half_life=config.ema_half_life_steps, warmup=1.0)
    optimizer = torch.optim.Adam(generator.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, config.steps))
    checkpoint.track(
        generator=generator, ema=ema, optimizer=optimizer, schedule=schedule, stream=rng,
        sanitizer=sanitizer, embedding=embedding,
    )  # fmt: skip
    checkpoint.hold(log)
    checkpoint.guard("dp_merf.learning_rate", generator=generator, ema=ema, optimizer=optimizer)
    num_classes = records.num_classes
    if embedding.sums is None:
        sanitizer.charge()
        checkpoint.save()
        rows = embedding_rows(features, records, config.count_share)
        embedding.sums = sanitizer.release(rows, (num_classes, config.num_features + 1))
    means = embedding.means(config.count_share, sanitizer.plan.noise_scale).to(rng.device)
    num = -(-config.batch_size // num_classes)
    labels = torch.arange(num_classes, device=rng.device).repeat_interleave(num)
    half = config.num_features // 2
    for step in progress(checkpoint, config.steps, "dp-merf"):
        noise = torch.randn(len(labels), generator.noise_dim, generator=rng, device=rng.device)
        with autocast(rng.device, precision):
            images = generator(noise, labels).float()
        chosen = torch.randperm(half, generator=rng, device=rng.device)[: (config.step_features or 2 * half) // 2]
        scale = math.sqrt(half / len(chosen))
        embedded = features(images, chosen).unflatten(0, (num_classes, num))
        loss = squared_distance(embedded, scale * means[:, torch.cat([chosen, half + chosen])])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        ema.update(generator, 1)
        if (step + 1) % 50 == 0:
            log.public(step=step + 1, squared_distance=loss.item())
    ema.model.provenance = Provenance.RELEASED
    return ema.model


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What DP-MERF is told."""

    dp_merf: DpMerfConfig = field(default_factory=DpMerfConfig)


def plans(settings: Settings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """One release of all records' rows, of norm 1, on the whole budget; the number of records does not matter."""
    return [budget.calibrate(ReleasePlan(purpose="dp-merf, mean embedding", unit=Unit.RECORD, clip_norm=1.0))]


def rehearse(settings: Settings, subject: Subject, num_records: int) -> Rehearsal:
    """An untrained generator."""
    config = settings.dp_merf
    generator = Generator(config.generator, image_shape=subject.image_shape, num_classes=subject.num_classes)
    features = Held(
        num_bytes=4.0 * config.num_features * (math.prod(subject.image_shape) + CHUNK + 2 * subject.num_classes),
        what=f"dp_merf.num_features={config.num_features}: features of so many records",
        mend="lower dp_merf.num_features",
    )
    made = releasable_generator(generator, config.generator, subject.image_shape, subject.class_names)
    return Rehearsal(made=made, held=(features,), kept=4.0 * subject.num_classes * config.num_features)


def train(settings: Settings, context: Context) -> Trained:
    """Releases the embedding, and trains a new generator on it."""
    config, records = settings.dp_merf, context.read_records()
    subject = Subject.of(records)
    (plan,) = plans(settings, context.ledger, context.num_records(records))
    cpu = torch.device("cpu")
    with context.timed("dp-merf") as seconds:
        generator = dp_merf(
            config,
            generator=new_generator(config.generator, subject, context),
            features=features_of(config, subject.image_shape, context.rng("random features", cpu), context.device),
            records=records,
            sanitizer=Sanitizer(plan, context.ledger, context.randomness.named("dp-merf")),
            rng=context.rng("dp-merf"),
            checkpoint=context.checkpoint("dp_merf", config, records.fingerprint()),
            log=context.log("dp-merf"),
            precision=context.precision,
        )
    context.say(
        f"dp-merf: {config.num_features} features, noise multiplier {plan.noise_multiplier:.3f}, {config.steps} "
        f"steps of {config.batch_size} images, in {seconds():.0f} s; epsilon {context.ledger.spent():.3f}"
    )
    made = releasable_generator(generator, config.generator, subject.image_shape, subject.class_names)
    return formally(made, context, "records")


METHOD = Method(
    name="dp-merf",
    about="DP-MERF (Harder et al. 2021): the mean random-feature embedding of each class, released once, and a "
    "generator that learns to have the same. Costs one pass over the records, seconds on a CPU core, and "
    "dp_merf.steps x batch_size passes of a small generator: a minute or two with the preset mnist-dp-merf.",
    settings=Settings,
    guarantees=("records",),
    stages=lambda settings: (
        Stage(name="dp-merf", files=("dp_merf.checkpoint",), keys=("data", "privacy", "dp_merf")),
    ),
    plans=plans,
    rehearse=rehearse,
    train=train,
)
