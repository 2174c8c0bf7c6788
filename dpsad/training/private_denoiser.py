"""Fits a denoiser to records by DP-SGD: the refinement of a student, and every baseline that is a denoiser."""

import itertools
import math
from dataclasses import dataclass

from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.noise_levels import Levels
from dpsad.diffusion.parameterisations import PARAMETERISATIONS
from dpsad.errors import require_choice, require_positive
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.run_folder import Log
from dpsad.training.dp_sgd import Vary, denoising_rows, dp_sgd, unvaried

_POSITIVE = ("batch_size", "draws", "max_norm", "learning_rate", "half_life", "sigma_std", "chunk_size")


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
        for key in _POSITIVE:
            require_positive(f"refine.{key}", getattr(self, key))


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """How a baseline that is a denoiser is trained on records.

    steps: noisy gradient steps.
    batch_size: expected records in a step; each joins independently.
    draws: of each record, each with its own noise (dp-diffusion: and its own view), averaged inside the record's loss
        before the clip (noise and augmentation multiplicity).
    max_norm: bound on a record's gradient.
    learning_rate: of Adam, constant.
    half_life: of the weight average, in steps; 693 is a decay of 0.999.
    label_dropout: fraction of records trained without their label, for guidance.
    parameterisation: what the network predicts: edm, v, vp or ve, each with its own noise levels and loss weight.
    sigma_mean, sigma_std: of the logarithm of noise levels; edm only.
    timesteps, timestep_weights: records meet timesteps of a DDPM chain, drawn from adjoining ranges: [0, 30, 600, 1000]
        and [0.1, 0.8, 0.1] are three, of those probabilities, in a chain of 1,000 with the linear schedule. Empty, the
        noise levels are the parameterisation's.
    chunk_size: records whose rows are held at once; times draws, the images that pass the network together.
    """

    steps: int = 300
    batch_size: int = 1024
    draws: int = 4
    max_norm: float = 1.0
    learning_rate: float = 3e-4
    half_life: float = 693.0
    label_dropout: float = 0.1
    parameterisation: str = "edm"
    sigma_mean: float = -1.2
    sigma_std: float = 1.2
    timesteps: tuple[float, ...] = ()
    timestep_weights: tuple[float, ...] = ()
    chunk_size: int = 16

    def __post_init__(self) -> None:
        for key in ("steps", *_POSITIVE):
            require_positive(f"baseline.{key}", getattr(self, key))
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"baseline.label_dropout={self.label_dropout} must be in [0, 1)")
        require_choice("baseline.parameterisation", self.parameterisation, tuple(PARAMETERISATIONS))
        self._check_timesteps()

    def _check_timesteps(self) -> None:
        bounds, weights = list(self.timesteps), list(self.timestep_weights)
        if (bounds or weights) and len(weights) != len(bounds) - 1:
            raise ValueError(
                f"baseline.timesteps={bounds} are the bounds of {max(0, len(bounds) - 1)} ranges, "
                f"baseline.timestep_weights={weights} has {len(weights)}; give one weight a range"
            )
        if bounds and (bounds[0] < 0 or any(low >= high for low, high in itertools.pairwise(bounds))):
            raise ValueError(f"baseline.timesteps={bounds} must rise, from 0 or more")
        if weights and (min(weights) < 0 or not math.isclose(sum(weights), 1, abs_tol=1e-6)):
            raise ValueError(f"baseline.timestep_weights={weights} must be 0 or more each, and sum to 1")


def fit_denoiser(
    stage: str,
    config: RefineConfig | BaselineConfig,
    *,
    denoiser: Denoiser,
    levels: Levels,
    label_dropout: float,
    records: ImageSet,
    sanitizer: Sanitizer,
    expected_batch_size: float,
    randomness: PrivateRandomness,
    checkpoint: Checkpoint,
    log: Log,
    vary: Vary = unvaried,
    precision: str = "auto",
) -> Denoiser:
    """Moves a denoiser towards records by noisy, clipped gradients of its denoising loss.

    Args:
        stage: names the progress bar.
        denoiser: provenance released or public; is trained in place.
        levels: which noise levels are drawn.
        label_dropout: probability that a record trains without its label.
        records, sanitizer, expected_batch_size, checkpoint, log: as in `dp_sgd`.
        randomness: secret, on the device; draws who joins, and views, noise and dropped labels inside rows.
        vary: random views of records, one a draw.

    Returns:
        The averaged denoiser.

    Formal guarantee: all of it is post-processing of `sanitizer`'s releases.

    Source: Dockhorn et al. 2023, Algorithm 1.
    """
    rows = denoising_rows(
        denoiser,
        draws=config.draws,
        levels=levels,
        label_dropout=label_dropout,
        no_label=records.num_classes,
        randomness=randomness,
        vary=vary,
        precision=precision,
    )
    return dp_sgd(
        stage,
        model=denoiser,
        rows=rows,
        records=records,
        sanitizer=sanitizer,
        expected_batch_size=expected_batch_size,
        learning_rate=config.learning_rate,
        half_life=config.half_life,
        chunk_size=config.chunk_size,
        randomness=randomness,
        checkpoint=checkpoint,
        log=log,
    )
