"""Refinement: the student's data term, from records through per-example gradient rows."""

from dataclasses import dataclass
from functools import partial

from dpsad.checkpoint import Checkpoint
from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.parameterisations import lognormal_quantiles
from dpsad.errors import require_positive
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runs import Log
from dpsad.stages.dp_sgd import denoising_rows, dp_sgd


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
        records, sanitizer, expected_batch_size, checkpoint, log: as in `dp_sgd`.
        randomness: secret, on the device; draws who joins, and the noise inside rows.

    Returns:
        The averaged student.

    Formal guarantee: all of it is post-processing of `sanitizer`'s releases.
    """
    rows = denoising_rows(
        student,
        draws=config.draws,
        levels=partial(lognormal_quantiles, mean=config.sigma_mean, std=config.sigma_std),
        label_dropout=0.0,
        no_label=records.num_classes,
        randomness=randomness,
        precision=precision,
    )
    return dp_sgd(
        "refine",
        model=student,
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
