"""Trains an autoencoder on public images, for a diffusion model that works in its latents."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from dpsad.networks.autoencoder import Autoencoder
from dpsad.privacy.ranges import Count, HalfLife, LearningRate, Weight, require_ranges
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.finite import require_finite
from dpsad.runtime.log import Log
from dpsad.runtime.precision import autocast
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.training.batches import Batches
from dpsad.training.ema import ExponentialMovingAverage
from dpsad.training.schedules import warm_cosine

SCALE_IMAGES = 2048  # images by which latents are scaled


@dataclass(frozen=True, kw_only=True)
class CompressConfig:
    """How the autoencoder is trained. With `pretrain.path`, the one that lies there is taken instead.

    steps, batch_size: optimizer steps, and images in each.
    learning_rate: peak; rises over the first 100 steps and falls as a half cosine.
    ema_half_life_images: of the weight average.
    kl_weight: weight of the latents' divergence from standard normal ones beside the squared error, both summed over
        an image. Small: a diffusion model needs latents without holes, not normal ones.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"half_life": "ema_half_life_images"}

    steps: Count = 2000
    batch_size: Count = 64
    learning_rate: LearningRate = 2e-3
    ema_half_life_images: HalfLife = 10_000
    kl_weight: Weight = 1e-3

    def __post_init__(self) -> None:
        require_ranges(self, "compress")


def train_autoencoder(
    config: CompressConfig,
    *,
    autoencoder: Autoencoder,
    batches: Batches,
    rng: torch.Generator,
    checkpoint: Checkpoint,
    log: Log,
    precision: str = "auto",
    ranks: Ranks = ALONE,
) -> Autoencoder:
    """Trains an autoencoder on drawn images.

    Args:
        autoencoder: the model to train, on its device.
        batches: images in [-1, 1], and labels, which are left aside; decide what its decoder says it has seen.
        rng: model randomness, on the device of the model.
        checkpoint: resumes an interrupted stage.
        log: receives the mean squared error a pixel, and the divergence an image.
        ranks: those that share each batch: all draw the whole of it, and each learns from its part.

    Returns:
        The averaged autoencoder, its latents scaled by such images.

    Raises:
        ValueError: weights became NaN or infinite, or a batch cannot be shared evenly.

    Source: Kingma and Welling 2014, equation 10.
    """
    ema = ExponentialMovingAverage(autoencoder, half_life=config.ema_half_life_images)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, config.steps))
    checkpoint.track(autoencoder=autoencoder, ema=ema, optimizer=optimizer, schedule=schedule, generator=rng)
    checkpoint.hold(log)
    checkpoint.guard("compress.learning_rate", autoencoder=autoencoder, ema=ema, optimizer=optimizer)
    for step in progress(checkpoint, config.steps, "compress"):
        images, _ = batches.draw(config.batch_size, rng)
        images = ranks.part(images)
        with autocast(images.device, precision):
            mean, log_variance = autoencoder.encoder(images)
            noise = torch.randn((config.batch_size, *mean.shape[1:]), generator=rng, device=images.device)
            noise = ranks.part(noise)
            decoded = autoencoder.decoder(mean + (log_variance / 2).exp() * noise)
        error = (decoded - images).square().flatten(1)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1) / 2
        loss = (error.sum(1) + config.kl_weight * divergence).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        ranks.average_gradients(autoencoder)
        optimizer.step()
        schedule.step()
        ema.update(autoencoder, config.batch_size)
        if (step + 1) % 50 == 0:
            values = {"squared_error": error.mean().item(), "divergence": divergence.mean().item()}
            log.public(step=step + 1, **values)
    ema.model.standardise(batches.draw(SCALE_IMAGES, rng)[0])
    require_finite("the autoencoder, with the scale of its latents,", ema.model, "lower compress.learning_rate")
    ema.model.decoder.provenance, ema.model.decoder.public_images = batches.provenance, batches.public_images
    return ema.model
