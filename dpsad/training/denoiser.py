"""Teacher stage: trains a diffusion model on images that it may see; baselines learn from public images by it, too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dpsad.diffusion.denoiser import Denoiser, denoising_loss, drop_labels
from dpsad.diffusion.noise_levels import Levels
from dpsad.errors import require_choice, require_positive
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.run_folder import Log
from dpsad.training.ema import ExponentialMovingAverage
from dpsad.training.precision import autocast

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]  # how many -> clean images, labels


class TrainingSettings(Protocol):
    """What `teach` goes by; see `TeacherConfig`."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def half_life(self) -> float: ...
    @property
    def label_dropout(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """How the teacher is trained.

    data: sketch (released prototypes), private (records without protection) or public (`public_data`).
    path: a teacher.pt of another run, to distil from instead of training one; what it has cost comes along.
    steps, batch_size: optimizer steps, and images in each.
    learning_rate: peak; rises over the first 100 steps and falls as a half cosine.
    half_life: of the weight average, in images.
    label_dropout: fraction of images trained without their label, for guidance.
    sigma_mean, sigma_std: of the logarithm of training noise levels.
    """

    data: str = "sketch"
    path: str | None = None
    steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 1e-3
    half_life: float = 20_000
    label_dropout: float = 0.1
    sigma_mean: float = -0.8
    sigma_std: float = 1.2

    def __post_init__(self) -> None:
        require_choice("teacher.data", self.data, ("sketch", "private", "public"))
        require_positive("teacher.steps", self.steps)
        require_positive("teacher.batch_size", self.batch_size)
        require_positive("teacher.learning_rate", self.learning_rate)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How a baseline learns from `public_data` before it meets records. It costs no privacy.

    path: a pretrained.pt of another run, to start from instead of training one.
    steps, batch_size: optimizer steps, and images in each.
    learning_rate: peak; rises over the first 100 steps and falls as a half cosine.
    half_life: of the weight average, in images.
    label_dropout: fraction of images trained without their label.
    """

    path: str | None = None
    steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 1e-3
    half_life: float = 20_000
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        for key in ("steps", "batch_size", "learning_rate", "half_life"):
            require_positive(f"pretrain.{key}", getattr(self, key))
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"pretrain.label_dropout={self.label_dropout} must be in [0, 1]")


def teach(
    stage: str,
    config: TrainingSettings,
    *,
    denoiser: Denoiser,
    num_classes: int,
    draw: Draw,
    levels: Levels,
    generator: torch.Generator,
    checkpoint: Checkpoint,
    log: Log,
    precision: str = "auto",
) -> Denoiser:
    """Trains a denoiser on drawn images.

    Args:
        stage: names the progress bar.
        denoiser: the model to train, on its device.
        num_classes: labels below it; it stands for "no label" itself.
        draw: gives a batch of clean images [num, chan, height, width] and labels [num]; decides the provenance.
        levels: which noise levels are drawn.
        generator: model randomness, on the device of the model.
        checkpoint: resumes an interrupted stage.
        log: receives the loss; under private/, since `draw` may be private.

    Returns:
        The averaged model, ready to teach.

    Source: Karras et al. 2022, Table 1.
    """
    device = generator.device
    ema = ExponentialMovingAverage(denoiser, half_life=config.half_life)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, config.steps))
    checkpoint.track(denoiser=denoiser, ema=ema, optimizer=optimizer, schedule=schedule, generator=generator)
    for step in progress(checkpoint, config.steps, stage):
        images, labels = draw(config.batch_size, generator)
        labels = drop_labels(labels, num_classes, config.label_dropout, generator)
        sigma = levels(torch.rand(len(images), generator=generator, device=device, dtype=torch.float64))
        noise = torch.randn(images.shape, generator=generator, device=device)
        with autocast(device, precision):
            loss = denoising_loss(denoiser, images, sigma, noise, labels).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        ema.update(denoiser, len(images))
        if (step + 1) % 50 == 0:
            log.private(step=step + 1, teacher_loss=loss.item())
    return ema.model


def warm_cosine(step: int, total: int, warmup: int = 100) -> float:
    """Learning-rate factor: a linear rise over `warmup` steps (a tenth of a short run), then a half cosine to zero."""
    warmup = min(warmup, total // 10 + 1)
    if step < warmup:
        return (step + 1) / warmup
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * (step - warmup) / max(1, total - warmup)))))
