"""Teacher of dp-sad: a diffusion model of released prototypes, public images or, where nothing is formal, records."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dpsad.data.records import Subject
from dpsad.errors import reading, require_choice
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.ranges import Count, Fraction, HalfLife, LearningRate, LogSigmaMean, LogSigmaStd, require_ranges
from dpsad.runtime.checkpoint import save_atomic
from dpsad.runtime.context import Context
from dpsad.runtime.state_fingerprint import fingerprint_of_state
from dpsad.training.batches import Batches
from dpsad.training.denoiser import train_denoiser
from dpsad.training.denoiser_files import denoiser_state, read_denoiser
from dpsad.training.models import new_denoiser
from dpsad.training.private_denoiser import lognormal_of
from teachers.denoiser import DenoiserTeacher


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """How the teacher is trained.

    data: prototypes (released), private (records without protection) or public (`public_data`).
    path: a teacher.pt of another run, to distil from instead of training one; what it has cost comes along.
    steps, batch_size: optimizer steps, and images in each.
    learning_rate: peak; rises over the first 100 steps and falls as a half cosine.
    ema_half_life_images: of the weight average.
    label_dropout: fraction of images trained without their label, for guidance.
    sigma_mean, sigma_std: of the logarithm of training noise levels.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"half_life": "ema_half_life_images"}
    RENAMED_VALUES: ClassVar[dict[str, dict[str, str]]] = {"data": {"sketch": "prototypes"}}

    data: str = "prototypes"
    path: str | None = None
    steps: Count = 2000
    batch_size: Count = 128
    learning_rate: LearningRate = 1e-3
    ema_half_life_images: HalfLife = 20_000
    label_dropout: Fraction = 0.1
    sigma_mean: LogSigmaMean = -0.8
    sigma_std: LogSigmaStd = 1.2

    def __post_init__(self) -> None:
        require_ranges(self, "teacher")
        require_choice("teacher.data", self.data, ("prototypes", "private", "public"))


def train_teacher(
    config: TeacherConfig,
    network: NetworkConfig,
    context: Context,
    *,
    subject: Subject,
    batches: Batches,
    source: str,
    prototypes: dict | None,
) -> None:
    """Trains the run's teacher, or goes on where it stopped, and keeps it with what it has learned from.

    Args:
        subject: what the images are of.
        batches: clean images and labels; decide the provenance.
        source: fingerprint of what they are drawn from.
        prototypes: state of the released prototypes, where it learns from them: what they have cost comes along.
    """
    with context.timed("teach") as seconds:
        denoiser = train_denoiser(
            "teach",
            config,
            denoiser=new_denoiser(network, subject, context, "teach"),
            num_classes=subject.num_classes,
            batches=batches,
            levels=lognormal_of(config),
            rng=context.rng("teach"),
            # files of version 0.1 do not say which prototypes they have seen, and so what those have cost
            checkpoint=context.checkpoint("teach", config, network, source, unnamed=prototypes is None),
            log=context.log("teach"),
            learning_rate_key="teacher.learning_rate",
            precision=context.precision,
            ranks=context.ranks,
        )
    # "sketch" is what files call prototypes since version 0.1
    save_atomic({**denoiser_state(denoiser, network, subject), "sketch": prototypes}, context.run.teacher)
    context.say(f"teach: {config.steps} steps in {seconds():.0f} s, provenance {denoiser.provenance.value}")


def read_teacher(
    config: TeacherConfig, network: NetworkConfig, context: Context
) -> tuple[DenoiserTeacher, Subject, dict | None]:
    """Loads the run's teacher, or the one at `teacher.path`.

    Returns:
        The teacher, what its images are of, and the state of the prototypes it learned from, if any.

    Raises:
        ValueError: there is none, or it has another shape than `network` says.
    """
    path = Path(config.path or context.run.teacher)
    if not path.exists():
        raise ValueError(
            f"no teacher at {path}; run `dpsad teach run={context.run.path}` first, or pass teacher.path=..."
        )
    denoiser, subject, saved = read_denoiser(path, network, context)
    with reading(path):  # a denoiser that is no teacher says nothing of prototypes
        return DenoiserTeacher(denoiser), subject, saved["sketch"]


def teacher_fingerprint(teacher: DenoiserTeacher, prototypes: dict | None) -> str:
    """A short name of a teacher's weights, of the prototypes it learned from, and of what those were charged.

    A student that is half distilled from one teacher holds what that one has cost, and is not gone on with by another.

    Args:
        prototypes: their state, as `read_teacher` gave it.
    """
    return fingerprint_of_state({"model": teacher.denoiser.state_dict(), "prototypes": prototypes})
