"""Refinement: the student's data term, from records through per-example gradient rows (DP-SGD)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsad.checkpoint import Checkpoint, progress
from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import Denoiser, denoising_loss
from dpsad.diffusion.ema import ExponentialMovingAverage
from dpsad.errors import require_positive
from dpsad.networks.precision import autocast
from dpsad.privacy.per_example import per_example_gradients, set_gradients, trainable_parameters
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.rows import PartedRows
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runs import Log


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """How records refine the student.

    steps: noisy gradient steps; 0 leaves the student as it was distilled.
    batch_size: expected records in a step; each joins independently.
    draws: noise draws per record, averaged inside its loss before the clip.
    max_norm: bound on a record's gradient.
    learning_rate: of Adam, constant.
    half_life: of the weight average, in steps.
    sigma_mean, sigma_std: of the logarithm of noise levels.
    chunk_size: records whose rows are held at once.
    """

    steps: int = 40
    batch_size: int = 2048
    draws: int = 2
    max_norm: float = 0.5
    learning_rate: float = 5e-4
    half_life: float = 6.0
    sigma_mean: float = -0.8
    sigma_std: float = 1.2
    chunk_size: int = 32

    def __post_init__(self) -> None:
        for key in ("batch_size", "draws", "max_norm", "learning_rate", "half_life", "chunk_size"):
            require_positive(f"refine.{key}", getattr(self, key))


def refine(
    config: RefineConfig,
    *,
    student: Denoiser,
    records: ImageSet,
    sanitizer: Sanitizer,
    expected_batch_size: float,
    randomness: PrivateRandomness,
    checkpoint: Checkpoint,
    log: Log,
    precision: str = "auto",
) -> Denoiser:
    """Moves the student towards the records by noisy, clipped gradients.

    Args:
        student: provenance released or public; is trained in place.
        records: the private records.
        sanitizer: holds the plan: one row per record that joins a step.
        expected_batch_size: public number that the noisy sum is divided by.
        randomness: secret, on the device; draws who joins, and the noise inside rows. Were those draws known, one
            record more would shift the draws of others, and so their rows.
        checkpoint: tracks ledger, student and optimizer in one file.
        log: the norm of the released gradient is public.

    Returns:
        The averaged student.

    Formal guarantee: all of it is post-processing of `sanitizer`'s releases.
    Edge cases: an empty batch is released as noise.

    Source: Abadi et al. 2016, Algorithm 1; Dockhorn et al. 2023, equation 6 for several draws.
    """
    device = randomness.device
    ema = ExponentialMovingAverage(student, half_life=config.half_life, warmup=1.0)
    optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate)
    checkpoint.track(student=student, ema=ema, optimizer=optimizer, sanitizer=sanitizer)
    sanitizer.charge()
    size = sum(parameter.numel() for parameter in trainable_parameters(student))

    def rows(images: Tensor, labels: Tensor) -> Iterator[PartedRows]:
        for chunk, chunk_labels in zip(images.split(config.chunk_size), labels.split(config.chunk_size), strict=True):
            yield record_rows(config, student, chunk.to(device), chunk_labels.to(device), randomness, precision)

    for step in progress(checkpoint, config.steps, "refine"):
        joined = poisson_sample(len(records), sanitizer.plan.sampling_prob, randomness)
        released = sanitizer.release(rows(records.images[joined], records.labels[joined]), (size,))
        set_gradients(student, released / expected_batch_size)
        optimizer.step()
        ema.update(student, 1)
        log.public(step=step + 1, released_norm=released.norm().item() / expected_batch_size)
    return ema.model


def record_rows(
    config: RefineConfig,
    student: Denoiser,
    images: Tensor,
    labels: Tensor,
    randomness: PrivateRandomness,
    precision: str = "auto",
) -> PartedRows:
    """Gradient of each record's own denoising loss, averaged over noise draws.

    Args:
        images: [records, chan, height, width].
        labels: [records].

    Returns:
        [records, num_parameters] rows, not clipped; each is a function of one record, its own draws and the student.
    """
    num, draws = len(images), config.draws
    images, labels = images.repeat(draws, 1, 1, 1), labels.repeat(draws)
    sigma = (config.sigma_mean + config.sigma_std * randomness.normal((num * draws,))).exp()
    noise = randomness.normal(tuple(images.shape))

    def losses() -> Tensor:
        with autocast(images.device, precision):
            return denoising_loss(student, images, sigma, noise, labels) / draws

    return per_example_gradients(student, losses, num)
