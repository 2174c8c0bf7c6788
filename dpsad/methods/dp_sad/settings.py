"""Settings of dp-sad, and which of them fit together."""

from dataclasses import dataclass, field
from typing import ClassVar

from discriminators.choice import DiscriminatorConfig
from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.config import DataConfig
from dpsad.errors import require_choice
from dpsad.methods.dp_sad.distillation import StudentConfig
from dpsad.methods.dp_sad.guide import GuideConfig
from dpsad.methods.dp_sad.matching import MatchingConfig
from dpsad.methods.dp_sad.nominal_noise import NominalConfig
from dpsad.methods.dp_sad.prototypes import PrototypesConfig
from dpsad.methods.dp_sad.shard_teachers import ShardsConfig
from dpsad.methods.dp_sad.shorten import ShortenConfig, shortened_sampler
from dpsad.methods.dp_sad.spread import SpreadConfig
from dpsad.methods.dp_sad.teacher import TeacherConfig
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.config import PrivacyConfig
from dpsad.privacy.provenance import Provenance, require_released
from dpsad.privacy.ranges import (
    Count,
    CountOrZero,
    HalfLife,
    LearningRate,
    LogSigmaMean,
    LogSigmaStd,
    Positive,
    require_ranges,
)
from students.few_step import SamplerConfig

GUARANTEES = ("records", "shards", "nominal")


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """How records refine the student.

    steps: noisy gradient steps; 0 leaves the student as it was distilled.
    batch_size: expected records in a step; each joins independently.
    noise_multiplicity: noise draws per record, averaged inside its loss before the clip.
    clip_norm: bound on a record's gradient.
    learning_rate: of Adam, constant.
    ema_half_life_steps: of the weight average.
    sigma_mean, sigma_std: of the logarithm of noise levels.
    chunk_size: records whose rows are held at once.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {
        "draws": "noise_multiplicity", "max_norm": "clip_norm", "half_life": "ema_half_life_steps",
    }  # fmt: skip

    steps: CountOrZero = 40
    batch_size: Count = 2048
    noise_multiplicity: Count = 2
    clip_norm: Positive = 0.5
    learning_rate: LearningRate = 5e-4
    ema_half_life_steps: HalfLife = 6.0
    sigma_mean: LogSigmaMean = -0.8
    sigma_std: LogSigmaStd = 1.2
    chunk_size: Count = 32

    def __post_init__(self) -> None:
        require_ranges(self, "refine")


@dataclass(frozen=True, kw_only=True)
class DpSadSettings:
    """What dp-sad is told.

    guarantee: records, shards (disjoint shards of records answer, each as one unit), or nominal (the paper's loop,
        whose accounting is no guarantee).
    """

    guarantee: str = "records"
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    prototypes: PrototypesConfig = field(default_factory=PrototypesConfig)
    spread: SpreadConfig = field(default_factory=SpreadConfig)
    shards: ShardsConfig = field(default_factory=ShardsConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    nominal: NominalConfig = field(default_factory=NominalConfig)
    guide: GuideConfig = field(default_factory=GuideConfig)
    matching: MatchingConfig = field(default_factory=MatchingConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    shorten: ShortenConfig = field(default_factory=ShortenConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        require_choice("guarantee", self.guarantee, GUARANTEES)
        if self.data.pseudo_labels and self.guarantee != "nominal":
            raise ValueError(
                f"data.pseudo_labels={self.data.pseudo_labels} needs guarantee=nominal: clustering reads all records "
                "without protection, so each label would tell of other records; use labelled data and "
                "data.pseudo_labels=0"
            )
        has_prototypes = self.guarantee != "nominal" and self.uses_prototypes
        if self.sampler.start == "prototypes" and not (has_prototypes and self.student.use_labels):
            raise ValueError(
                "sampler.start=prototypes needs prototypes and their classes: guarantee=records or shards, "
                "teacher.data=prototypes and student.use_labels=true; use sampler.start=noise and a "
                "sampler.sigma_max of 20 or more"
            )
        if self.guide.share and self.guarantee != "records":
            raise ValueError(
                f"guide.share={self.guide.share} needs guarantee=records, whose rows train the guide; use guide.share=0"
            )
        if self.guide.share and not self.student.use_labels:
            raise ValueError(
                f"guide.share={self.guide.share} needs student.use_labels=true: it chooses images by their class; use "
                "guide.share=0"
            )
        self._require_share_left()
        if self.matching.share and not (self.guide.share and self.shorten.steps):
            raise ValueError(
                f"matching.share={self.matching.share} needs the guide's features, and a student that is shortened "
                "to be matched in them: guide.share and shorten.steps above 0; use matching.share=0"
            )
        if self.spread.share and not (has_prototypes and self.guarantee == "records"):
            raise ValueError(
                f"spread.share={self.spread.share} needs prototypes that records themselves move: guarantee=records "
                "and teacher.data=prototypes; use spread.share=0"
            )
        finest = self.prototypes.per_class[-1]
        if self.spread.share and finest % self.spread.per_class:
            raise ValueError(
                f"spread.per_class={self.spread.per_class} must divide the {finest} prototypes of a class, the last of "
                "prototypes.per_class"
            )
        if self.shorten.steps:
            self._require_shortenable()
        if self.guarantee == "nominal":
            return
        where = f"a run with guarantee={self.guarantee}"
        provenance = Provenance.PRIVATE if self.teacher.data == "private" else Provenance.RELEASED
        require_released(f"teacher.data={self.teacher.data}", provenance, where)
        if self.student.data_weight != 0:
            raise ValueError(
                f"student.data_weight={self.student.data_weight} needs guarantee=nominal: in {where} records enter "
                "through rows, see refine.steps; use student.data_weight=0"
            )
        if self.guarantee == "shards" and self.teacher.data != "prototypes":
            raise ValueError(
                f"teacher.data={self.teacher.data} leaves out the shards: in {where} the student's teacher learns from "
                "what they have released; use teacher.data=prototypes"
            )

    def _require_share_left(self) -> None:
        later = self.guide.share + self.matching.share
        before, what = (self.privacy.split, "refine.steps") if self.refine.steps else (0.0, "prototypes")
        if later + before >= 1 and later:
            named = f"guide.share={self.guide.share}"
            named += f", matching.share={self.matching.share}" if self.matching.share else ""
            named += f" and privacy.split={self.privacy.split}" if before else ""
            raise ValueError(f"{named} leave nothing of the budget for {what}; together they must be below 1")

    def _require_shortenable(self) -> None:
        if self.sampler.churn:
            raise ValueError(
                f"sampler.churn={self.sampler.churn} makes images that are no function of their first noise, and "
                "shorten.steps learns that function; use sampler.churn=0"
            )
        if not self.student.use_labels:
            raise ValueError(
                f"shorten.steps={self.shorten.steps} needs student.use_labels=true: it learns by what a classifier of "
                "the samples sees; use shorten.steps=0"
            )
        shortened_sampler(self.shorten, self.sampler)

    @property
    def uses_prototypes(self) -> bool:
        """Whether the run releases prototypes at all."""
        return self.teacher.data == "prototypes"
