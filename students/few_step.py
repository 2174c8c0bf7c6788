"""The student that is handed out: a denoiser and the few steps in which it makes images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dpsad.diffusion.noise_levels import sampling_levels
from dpsad.diffusion.samplers import Churn, guided, sample_ddim, sample_heun
from dpsad.errors import require_choice, require_positive


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How images are made.

    method: heun (two evaluations of the network a step, the last one) or ddim (one).
    steps: denoising steps; students take 1 to 8.
    sigma_min, sigma_max: last and first noise level.
    churn: fresh noise during sampling; 0 makes an image a function of its first noise.
    guidance: how far predictions are pushed towards the label; needs teacher.label_dropout > 0.
    """

    method: str = "heun"
    steps: int = 6
    sigma_min: float = 0.05
    sigma_max: float = 20.0
    churn: float = 0.0
    guidance: float = 0.0

    def __post_init__(self) -> None:
        require_choice("sampler.method", self.method, ("heun", "ddim"))
        for key in ("steps", "sigma_min"):
            require_positive(f"sampler.{key}", getattr(self, key))
        if not self.sigma_max > self.sigma_min:
            raise ValueError(f"sampler.sigma_max={self.sigma_max} must be above sampler.sigma_min={self.sigma_min}")


class FewStepStudent:
    """Makes images of a class from seeds.

    Args:
        denoiser: a `Denoiser`, on its device.
        sampler: how many steps, and of which kind.
        image_shape: (chan, height, width).
        class_names: by label.
        use_labels: whether the denoiser heeds labels; without, it makes images of any class, and labels say nothing.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        sampler: SamplerConfig,
        image_shape: tuple[int, int, int],
        class_names: Sequence[str],
        *,
        use_labels: bool = True,
    ):
        self.denoiser, self.sampler = denoiser.eval().requires_grad_(False), sampler
        self.image_shape, self.class_names, self.use_labels = image_shape, tuple(class_names), use_labels

    @torch.no_grad()
    def sample(
        self,
        labels: Tensor,
        seeds: Sequence[int],
        *,
        batch_size: int = 250,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Makes one image for each label and seed.

        Args:
            labels: [num] classes; any number where the student heeds none.
            seeds: one per image, in [0, 2^128). The same seed and label give the same image, up to rounding, whatever
                else is in the batch.
            batch_size: images at a time.
            progress: called with the number of images of each finished batch.

        Returns:
            [num, chan, height, width] in [-1, 1], float32, on the CPU.
        """
        device = next(self.denoiser.parameters()).device
        images = torch.empty(len(labels), *self.image_shape)
        for start in range(0, len(labels), batch_size):
            index = slice(start, start + batch_size)
            images[index] = self._batch(labels[index].to(device), seeds[index]).clamp(-1, 1).cpu()
            if progress is not None:
                progress(len(labels[index]))
        return images

    def _batch(self, labels: Tensor, seeds: Sequence[int]) -> Tensor:
        config = self.sampler
        sigmas = sampling_levels(config.steps, sigma_min=config.sigma_min, sigma_max=config.sigma_max).to(labels.device)
        denoise = guided(self.denoiser, scale=config.guidance, no_label=len(self.class_names))
        # keyed by the whole seed; torch takes 32 bits of one on CPUs
        generators = [np.random.Generator(np.random.Philox(key=seed)) for seed in seeds]

        def fresh_noise() -> Tensor:
            drawn = [generator.standard_normal(self.image_shape, dtype=np.float32) for generator in generators]
            return torch.from_numpy(np.stack(drawn)).to(labels.device)

        x = fresh_noise() * sigmas[0]
        if config.method == "ddim":
            return sample_ddim(denoise, x, sigmas, labels, churn=config.churn, fresh_noise=fresh_noise)
        churn = Churn(amount=config.churn) if config.churn > 0 else None
        return sample_heun(denoise, x, sigmas, labels, churn=churn, fresh_noise=fresh_noise)


def image_seeds(seed: int, num: int, *, first: int = 0) -> list[int]:
    """One seed per image, apart for every base seed: image i of base seed s has s * 2^64 + i."""
    return [(seed << 64) + index for index in range(first, first + num)]
