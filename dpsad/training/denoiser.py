"""Trains a denoiser on images that it may see: the teacher, a shard's teachers, what baselines learn in public."""

from typing import Protocol

import torch

from dpsad.diffusion.denoiser import Denoiser, denoising_loss, drop_labels
from dpsad.diffusion.noise_levels import Levels
from dpsad.privacy.provenance import combined, united
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.log import Log
from dpsad.runtime.precision import autocast
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.training.batches import Batches
from dpsad.training.ema import ExponentialMovingAverage
from dpsad.training.schedules import warm_cosine


class TrainingSettings(Protocol):
    """What `train_denoiser` goes by; see `TeacherConfig`."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def ema_half_life_images(self) -> float: ...
    @property
    def label_dropout(self) -> float: ...


def train_denoiser(
    stage: str,
    config: TrainingSettings,
    *,
    denoiser: Denoiser,
    num_classes: int,
    batches: Batches,
    levels: Levels,
    rng: torch.Generator,
    checkpoint: Checkpoint,
    log: Log,
    precision: str = "auto",
    learning_rate_key: str | None = "learning_rate",
    ranks: Ranks = ALONE,
) -> Denoiser:
    """Trains a denoiser on drawn images.

    Args:
        stage: names the progress bar.
        denoiser: the model to train, on its device.
        num_classes: labels below it; it stands for "no label" itself.
        batches: clean images and labels; decide the provenance, and which public images it has seen.
        levels: which noise levels are drawn.
        rng: model randomness, on the device of the model.
        checkpoint: resumes an interrupted stage.
        log: receives the loss; under private/, since images may be private.
        learning_rate_key: its key, named where training stops because weights are not finite. None never stops: for
            private models under a formal guarantee, see `Checkpoint.guard`.
        ranks: those that share each batch: all draw the whole of it, and each learns from its part.

    Returns:
        The averaged model, ready to teach.

    Raises:
        ValueError: weights became NaN or infinite, or a batch cannot be shared evenly.

    Source: Karras et al. 2022, Table 1.
    """
    device = rng.device
    ema = ExponentialMovingAverage(denoiser, half_life=config.ema_half_life_images)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, config.steps))
    checkpoint.track(denoiser=denoiser, ema=ema, optimizer=optimizer, schedule=schedule, generator=rng)
    checkpoint.hold(log)
    if learning_rate_key is not None:
        checkpoint.guard(learning_rate_key, denoiser=denoiser, ema=ema, optimizer=optimizer)
    for step in progress(checkpoint, config.steps, stage):
        images, labels = batches.draw(config.batch_size, rng)
        labels = drop_labels(labels, num_classes, config.label_dropout, rng)
        sigma = levels(torch.rand(len(images), generator=rng, device=device, dtype=torch.float64))
        noise = torch.randn(images.shape, generator=rng, device=device)
        images, labels, sigma, noise = map(ranks.part, (images, labels, sigma, noise))
        with autocast(device, precision):
            loss = denoising_loss(denoiser, images, sigma, noise, labels).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average_gradients(denoiser)
        optimizer.step()
        schedule.step()
        ema.update(denoiser, config.batch_size)
        if (step + 1) % 50 == 0:
            log.private(step=step + 1, teacher_loss=loss.item())
    ema.model.provenance = combined(denoiser.provenance, batches.provenance)
    ema.model.public_images = united(denoiser.public_images, batches.public_images)
    return ema.model
