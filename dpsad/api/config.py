"""Config: everything a run can be told; each section is defined in the room that it configures."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from discriminators.choice import DiscriminatorConfig
from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.config import DataConfig
from dpsad.errors import require_choice
from dpsad.methods.class_means import ClassMeansConfig
from dpsad.methods.dp_feta import DpFetaConfig
from dpsad.methods.dp_kernel import DpKernelConfig
from dpsad.methods.dp_merf import DpMerfConfig
from dpsad.methods.dp_sad.distillation import StudentConfig
from dpsad.methods.dp_sad.guide import GuideConfig
from dpsad.methods.dp_sad.matching import MatchingConfig
from dpsad.methods.dp_sad.nominal_noise import NominalConfig
from dpsad.methods.dp_sad.prototypes import PrototypesConfig
from dpsad.methods.dp_sad.settings import GUARANTEES, RefineConfig
from dpsad.methods.dp_sad.shard_teachers import ShardsConfig
from dpsad.methods.dp_sad.shorten import ShortenConfig
from dpsad.methods.dp_sad.spread import SpreadConfig
from dpsad.methods.dp_sad.teacher import TeacherConfig
from dpsad.methods.dp_sgd_denoiser import BaselineConfig
from dpsad.methods.feta_pro import FetaProConfig
from dpsad.methods.gs_wgan import GsWganConfig
from dpsad.methods.method import Method
from dpsad.methods.private_evolution import PrivateEvolutionConfig
from dpsad.methods.privimage import PrivImageConfig
from dpsad.methods.public_denoiser import PretrainConfig
from dpsad.methods.registry import DP_SAD, METHODS
from dpsad.networks.autoencoder import AutoencoderConfig
from dpsad.networks.config import NetworkConfig
from dpsad.networks.trainable import FineTuneConfig
from dpsad.privacy.config import PrivacyConfig
from dpsad.privacy.ranges import Seed, require_ranges
from dpsad.runtime.log import LogConfig
from dpsad.runtime.precision import PRECISIONS
from dpsad.training.autoencoder import CompressConfig
from students.few_step import SamplerConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run.

    run: its folder.
    device: auto (CUDA where there is one), cpu, cuda, cuda:1, ...
    precision: auto, float32 or bfloat16, for training.
    seed: of everything but privacy noise and batch sampling.
    guarantee: records, shards (disjoint shards of records answer, each as one unit), or nominal (the paper's loop,
        whose accounting is no guarantee).
    method: dp-sad (sketch, teach, distill), or a baseline to compare with (baseline).
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"sketch": "prototypes", "published": "nominal"}
    RENAMED_VALUES: ClassVar[dict[str, dict[str, str]]] = {
        "guarantee": {"published": "nominal"},
        "method": {"distillation": "dp-sad"},
    }

    PATH_KEYS: ClassVar[tuple[str, ...]] = (
        "run", "data.root", "data.path", "public_data.root", "public_data.path", "teacher.path", "pretrain.path",
        "guide.weights",
    )  # fmt: skip

    run: str = "runs/default"
    device: str = "auto"
    precision: str = "auto"
    seed: Seed = 0
    guarantee: str = "records"
    method: str = DP_SAD.name
    data: DataConfig = field(default_factory=DataConfig)
    public_data: DataConfig = field(default_factory=DataConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
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
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    compress: CompressConfig = field(default_factory=CompressConfig)
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    dp_merf: DpMerfConfig = field(default_factory=DpMerfConfig)
    dp_feta: DpFetaConfig = field(default_factory=DpFetaConfig)
    feta_pro: FetaProConfig = field(default_factory=FetaProConfig)
    dp_kernel: DpKernelConfig = field(default_factory=DpKernelConfig)
    gs_wgan: GsWganConfig = field(default_factory=GsWganConfig)
    private_evolution: PrivateEvolutionConfig = field(default_factory=PrivateEvolutionConfig)
    privimage: PrivImageConfig = field(default_factory=PrivImageConfig)
    class_means: ClassMeansConfig = field(default_factory=ClassMeansConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        require_ranges(self)
        require_choice("guarantee", self.guarantee, GUARANTEES)
        require_choice("precision", self.precision, PRECISIONS)
        require_choice("method", self.method, tuple(METHODS))
        allowed = METHODS[self.method].guarantees
        if self.guarantee not in allowed:
            raise ValueError(
                f"method={self.method} needs guarantee={' or '.join(allowed)}, not guarantee={self.guarantee}"
            )
        if self.data.pseudo_labels and self.method != DP_SAD.name:
            raise ValueError(
                f"data.pseudo_labels={self.data.pseudo_labels} needs method={DP_SAD.name} and guarantee=nominal: "
                "clustering reads all records without protection; use labelled data and data.pseudo_labels=0"
            )
        if self.public_data.pseudo_labels:
            raise ValueError(
                f"public_data.pseudo_labels={self.public_data.pseudo_labels}: clusters are found among records only; "
                "use labelled public images and public_data.pseudo_labels=0"
            )
        if self.sampler.start == "prototypes" and self.method != DP_SAD.name:
            raise ValueError(
                f"sampler.start=prototypes needs prototypes, and method={self.method} has none; use "
                "sampler.start=noise and a sampler.sigma_max of 20 or more"
            )
        self.settings()  # what does not fit together is refused here

    def trained_by(self) -> Method[Any]:
        """The method that trains this run."""
        return METHODS[self.method]

    def settings(self) -> Any:
        """The sections that the run's method goes by, in its own settings."""
        wanted = self.trained_by().settings
        return wanted(**{section.name: getattr(self, section.name) for section in fields(wanted)})
