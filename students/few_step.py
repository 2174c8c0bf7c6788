"""The student that is handed out: a denoiser and the few steps in which it makes images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dpsad.diffusion.noise_levels import sampling_levels
from dpsad.diffusion.samplers import Churn, guided, sample_ddim, sample_heun
from dpsad.errors import require_choice, require_positive
from students.seeds import Normal, images_of_seeds


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How images are made.

    start: noise, or prototypes: varied prototypes of the sketch, noised to sigma_max, which may then be about 1.
    method: heun (two evaluations of the network a step, the last one) or ddim (one).
    steps: denoising steps; students take 1 to 8.
    sigma_min, sigma_max: last and first noise level.
    churn: fresh noise during sampling; 0 makes an image a function of its first noise.
    guidance: how far predictions are pushed towards the label; needs teacher.label_dropout > 0.
    """

    start: str = "noise"
    method: str = "heun"
    steps: int = 6
    sigma_min: float = 0.05
    sigma_max: float = 20.0
    churn: float = 0.0
    guidance: float = 0.0

    def __post_init__(self) -> None:
        require_choice("sampler.start", self.start, ("noise", "prototypes"))
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

    def sample(
        self,
        labels: Tensor,
        seeds: Sequence[int],
        *,
        batch_size: int = 250,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Makes one image for each label and seed; as `images_of_seeds`. Any label where the student heeds none."""
        device = next(self.denoiser.parameters()).device
        return images_of_seeds(
            self.make,
            labels,
            seeds,
            image_shape=self.image_shape,
            device=device,
            batch_size=batch_size,
            progress=progress,
        )

    def make(self, labels: Tensor, normal: Normal, start: Tensor | None = None) -> Tensor:
        """A batch of labels and their noise -> [batch, *image_shape], not clamped.

        Args:
            start: [batch, *image_shape] clean images to begin with, under noise; None begins with noise alone.
        """
        config = self.sampler
        sigmas = sampling_levels(config.steps, sigma_min=config.sigma_min, sigma_max=config.sigma_max).to(labels.device)
        denoise = guided(self.denoiser, scale=config.guidance, no_label=len(self.class_names))

        def fresh_noise() -> Tensor:
            return normal(self.image_shape)

        x = fresh_noise() * sigmas[0] + (0 if start is None else start)
        if config.method == "ddim":
            return sample_ddim(denoise, x, sigmas, labels, churn=config.churn, fresh_noise=fresh_noise)
        churn = Churn(amount=config.churn) if config.churn > 0 else None
        return sample_heun(denoise, x, sigmas, labels, churn=churn, fresh_noise=fresh_noise)
