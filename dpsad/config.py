"""Everything a run can be told, in one dataclass; each section is defined in the room that it configures."""

from dataclasses import dataclass, field

from discriminators.choice import DiscriminatorConfig
from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.config import DataConfig
from dpsad.errors import require_choice, require_positive
from dpsad.networks.autoencoder import AutoencoderConfig
from dpsad.networks.precision import PRECISIONS
from dpsad.networks.trainable import FineTuneConfig
from dpsad.networks.unet import NetworkConfig
from dpsad.privacy.provenance import Provenance, require_released
from dpsad.runs import LogConfig
from dpsad.stages.compress import CompressConfig
from dpsad.stages.distill import StudentConfig
from dpsad.stages.dp_merf import DpMerfConfig
from dpsad.stages.fit import BaselineConfig, RefineConfig
from dpsad.stages.gs_wgan import GsWganConfig
from dpsad.stages.nominal import PublishedConfig
from dpsad.stages.shards import ShardsConfig
from dpsad.stages.sketch import SketchConfig
from dpsad.stages.teach import PretrainConfig, TeacherConfig
from students.few_step import SamplerConfig

GUARANTEES = ("records", "shards", "published")
DISTILLATION = "distillation"
# what `dpsad baseline --help` says of each
BASELINES = {
    "dpdm": "DPDM (Dockhorn et al. 2023): a diffusion model trained from scratch by DP-SGD on several noise draws of "
    "each record. Costs baseline.steps x batch_size x draws passes of the network, 2 to 3 ms each on a CPU core with "
    "the small one: about 20 minutes with the preset mnist-dpdm; days on GPUs with the published 4,500 x 4,000 x 32.",
    "dp-merf": "DP-MERF (Harder et al. 2021): the mean random-feature embedding of each class, released once, and a "
    "generator that learns to have the same. Costs one pass over the records, seconds on a CPU core, and "
    "dp_merf.steps x batch_size passes of a small generator: a minute or two with the preset mnist-dp-merf.",
    "gs-wgan": "GS-WGAN (Chen et al. 2020): a generator trained by the clipped and noised gradients that critics, one "
    "for each of many disjoint shards, send to its images; needs guarantee=shards, since a row is a shard's. Costs "
    "gs_wgan.steps x shards_per_step x critic_steps x critic_batch_size passes of a small critic, 0.2 ms each on a CPU "
    "core: some minutes with the preset mnist-gs-wgan.",
    "dp-diffusion": "DP-Diffusion (Ghalebikesabi et al. 2023): a diffusion model of public_data, fine-tuned by DP-SGD "
    "on several views and noise draws of each record, at chosen timesteps. Public images cost no privacy. Takes "
    "pretrain.steps x batch_size passes of the network (none with pretrain.path), then those of dpdm: about 20 minutes "
    "on two CPU cores with the preset mnist-dp-diffusion.",
    "dp-ldm": "DP-LDM (Liu et al. 2023): an autoencoder and a diffusion model in its latents, both of public_data, of "
    "which DP-SGD fine-tunes the attention and what embeds the label, on several noise draws of each record. Public "
    "images cost no privacy. Takes compress.steps x batch_size passes of the autoencoder and pretrain.steps x "
    "batch_size of the denoiser (none with pretrain.path), then baseline.steps x batch_size x draws of it, 1 ms each "
    "on a CPU core: less than 20 minutes on two with the preset mnist-dp-ldm.",
}
SHARD_BASELINES = ("gs-wgan",)  # whose rows are shards'; those of the others are records'
METHODS = (DISTILLATION, *BASELINES)
# what a run folder stands for: changing any of it makes another run
FIXED = (
    "guarantee", "method", "data", "public_data", "privacy", "network", "sketch", "shards", "teacher", "augmentation",
    "pretrain", "autoencoder", "compress", "fine_tune",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """The budget of a run.

    epsilon, delta: of everything that the run releases, for one record added or removed.
    split: the sketch's share of the budget (of mu^2); the rest refines the student.
    num_records: the number of records as public knowledge; sampling probabilities and divisors come from it. 0 takes
        the size of the data set, which then counts as public, and the statement says so.
    noise_seed: fixes privacy noise and batch sampling for tests; voids the guarantee, and the statement says so.
    """

    epsilon: float = 10.0
    delta: float = 1e-5
    split: float = 0.4
    num_records: int = 0
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        require_positive("privacy.epsilon", self.epsilon)
        if not 0 < self.delta < 1:
            raise ValueError(f"privacy.delta={self.delta} must be between 0 and 1")
        if not 0 < self.split <= 1:
            raise ValueError(f"privacy.split={self.split} must be in (0, 1]; it is the sketch's share of the budget")
        if self.num_records < 0:
            raise ValueError(f"privacy.num_records={self.num_records} must not be negative")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run.

    run: its folder.
    device: auto (CUDA where there is one), cpu, cuda, cuda:1, ...
    precision: auto, float32 or bfloat16, for training.
    seed: of everything but privacy noise and batch sampling.
    guarantee: records, shards (disjoint shards of records answer, each as one unit), or published (the paper's loop,
        whose accounting is nominal).
    method: distillation (sketch, teach, distill), or a baseline to compare with (baseline).
    """

    run: str = "runs/default"
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    guarantee: str = "records"
    method: str = DISTILLATION
    data: DataConfig = field(default_factory=DataConfig)
    public_data: DataConfig = field(default_factory=DataConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    sketch: SketchConfig = field(default_factory=SketchConfig)
    shards: ShardsConfig = field(default_factory=ShardsConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    published: PublishedConfig = field(default_factory=PublishedConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    compress: CompressConfig = field(default_factory=CompressConfig)
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    dp_merf: DpMerfConfig = field(default_factory=DpMerfConfig)
    gs_wgan: GsWganConfig = field(default_factory=GsWganConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        require_choice("guarantee", self.guarantee, GUARANTEES)
        require_choice("precision", self.precision, PRECISIONS)
        require_choice("method", self.method, METHODS)
        needed = "shards" if self.method in SHARD_BASELINES else "records"
        if self.method != DISTILLATION and self.guarantee != needed:
            raise ValueError(f"method={self.method} needs guarantee={needed}, not guarantee={self.guarantee}")
        if self.data.pseudo_labels and self.guarantee != "published":
            raise ValueError(
                f"data.pseudo_labels={self.data.pseudo_labels} needs guarantee=published: clustering reads all records "
                "without protection, so each label would tell of other records; use labelled data and "
                "data.pseudo_labels=0"
            )
        if self.public_data.pseudo_labels:
            raise ValueError(
                f"public_data.pseudo_labels={self.public_data.pseudo_labels}: clusters are found among records only; "
                "use labelled public images and public_data.pseudo_labels=0"
            )
        if self.sampler.start == "prototypes":
            sketched = self.method == DISTILLATION and self.guarantee != "published" and self.teacher.data == "sketch"
            if not (sketched and self.student.use_labels):
                raise ValueError(
                    "sampler.start=prototypes needs a sketch and its classes: method=distillation, guarantee=records "
                    "or shards, teacher.data=sketch and student.use_labels=true; use sampler.start=noise and a "
                    "sampler.sigma_max of 20 or more"
                )
        if self.guarantee == "published":
            return
        where = f"a run with guarantee={self.guarantee}"
        provenance = Provenance.PRIVATE if self.teacher.data == "private" else Provenance.RELEASED
        require_released(f"teacher.data={self.teacher.data}", provenance, where)
        if self.student.data_weight != 0:
            raise ValueError(
                f"student.data_weight={self.student.data_weight} needs guarantee=published: in {where} records enter "
                "through rows, see refine.steps; use student.data_weight=0"
            )
        if self.guarantee == "shards" and self.teacher.data != "sketch":
            raise ValueError(
                f"teacher.data={self.teacher.data} leaves out the shards: in {where} the student's teacher learns from "
                "what they have released; use teacher.data=sketch"
            )
