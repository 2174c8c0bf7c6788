"""DP-MERF: the mean random-feature embedding of each class is released once, and a generator learns to have it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dpsad.data.records import ImageSet
from dpsad.errors import require_positive
from dpsad.networks.random_features import RandomFourierFeatures
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.run_folder import Log
from dpsad.training.denoiser import warm_cosine
from dpsad.training.ema import ExponentialMovingAverage
from dpsad.training.precision import autocast
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
    half_life: of the weight average, in steps.
    generator: its shape.
    """

    num_features: int = 5000
    length_scale: float = 0.5
    count_share: float = 0.01
    steps: int = 1000
    batch_size: int = 200
    step_features: int = 2000
    learning_rate: float = 1e-2
    half_life: float = 50.0
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        for key in ("num_features", "length_scale", "steps", "batch_size", "learning_rate", "half_life"):
            require_positive(f"dp_merf.{key}", getattr(self, key))
        for key in ("num_features", "step_features"):
            if getattr(self, key) % 2:
                raise ValueError(f"dp_merf.{key}={getattr(self, key)} must be even: half are cosines, half sines")
        if not 0 <= self.step_features <= self.num_features:
            raise ValueError(
                f"dp_merf.step_features={self.step_features} must be between 0, which takes all, and "
                f"dp_merf.num_features={self.num_features}"
            )
        if not 0 < self.count_share < 1:
            raise ValueError(f"dp_merf.count_share={self.count_share} must be between 0 and 1")


def features_of(
    config: DpMerfConfig,
    image_shape: tuple[int, int, int],
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> RandomFourierFeatures:
    """The public features of a run, from a public stream of numbers on the CPU."""
    dim = math.prod(image_shape)
    length_scale = config.length_scale * math.sqrt(dim)
    return RandomFourierFeatures(
        config.num_features, dim, length_scale=length_scale, generator=generator, device=device
    )


def embedding_rows(features: RandomFourierFeatures, records: ImageSet, count_share: float) -> Iterator[BlockRows]:
    """Each record's row: [sqrt(1 - a) * features; sqrt(a)] in the block of its class, a the share of the count.

    Returns:
        Chunks of block rows, [records, num_features + 1]; each row has norm 1 and is a function of one record.

    Source: Harder et al. 2021, equation 6: features times the one-hot label; the count beside them is ours.
    """
    for images, labels in zip(records.images.split(CHUNK), records.labels.split(CHUNK), strict=True):
        device = features.frequencies.device
        embedded = features(images.to(device)) * math.sqrt(1 - count_share)
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
    stream: torch.Generator,
    checkpoint: Checkpoint,
    log: Log,
    precision: str = "auto",
) -> Generator:
    """Releases the records' mean embedding, once, and trains a generator to have the same.

    Args:
        generator: provenance public; is trained in place, on the device of `stream`.
        features: public.
        records: the private records.
        sanitizer: holds a plan of one release on all records, rows bounded by 1.
        stream: public; draws the generator's noise and each step's features.
        checkpoint: tracks ledger, embedding, generator and optimizer in one file.
        log: the distance is public.

    Returns:
        The averaged generator.

    Formal guarantee: all of it is post-processing of `sanitizer`'s one release.

    Source: Harder et al. 2021, Algorithm 1.
    """
    embedding = MeanEmbedding()
    ema = ExponentialMovingAverage(generator, half_life=config.half_life, warmup=1.0)
    optimizer = torch.optim.Adam(generator.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, config.steps))
    checkpoint.track(
        generator=generator, ema=ema, optimizer=optimizer, schedule=schedule, stream=stream,
        sanitizer=sanitizer, embedding=embedding,
    )  # fmt: skip
    num_classes = records.num_classes
    if embedding.sums is None:
        rows = embedding_rows(features, records, config.count_share)
        embedding.sums = sanitizer.release(rows, (num_classes, config.num_features + 1))
    noise_scale = sanitizer.plan.noise_multiplier * sanitizer.plan.max_norm
    means = embedding.means(config.count_share, noise_scale).to(stream.device)
    num = -(-config.batch_size // num_classes)
    labels = torch.arange(num_classes, device=stream.device).repeat_interleave(num)
    half = config.num_features // 2
    for step in progress(checkpoint, config.steps, "dp-merf"):
        noise = torch.randn(len(labels), generator.noise_dim, generator=stream, device=stream.device)
        with autocast(stream.device, precision):
            images = generator(noise, labels).float()
        chosen = torch.randperm(half, generator=stream, device=stream.device)[: (config.step_features or 2 * half) // 2]
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
    return ema.model
