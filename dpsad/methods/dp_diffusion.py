"""DP-Diffusion: a denoiser of public images, fine-tuned on records by DP-SGD.

Source: Ghalebikesabi et al. 2023.
"""

from dataclasses import dataclass, field
from functools import partial

from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.records import Subject
from dpsad.methods.dp_sgd_denoiser import (
    BaselineConfig,
    of_records,
    plans_of,
    rehearse,
    release_config,
    timestep_levels,
    trained_on,
    untrained,
)
from dpsad.methods.method import Method, Trained, formally
from dpsad.methods.public_denoiser import PRETRAIN, PretrainConfig, public_denoiser, with_new_classes
from dpsad.networks.config import NetworkConfig
from dpsad.release.students import Releasable
from dpsad.runtime.context import Context
from dpsad.training.private_denoiser import record_views
from students.few_step import SamplerConfig

NAME = "dp-diffusion"


@dataclass(frozen=True, kw_only=True)
class DpDiffusionSettings:
    """What DP-Diffusion is told."""

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)


def train(settings: DpDiffusionSettings, context: Context) -> Trained:
    """Learns from public images, unless that was done before, then from the records."""
    vary = record_views(settings.augmentation)
    start, public = public_denoiser(settings, context)
    records = context.read_records()
    subject = Subject.of(records)
    if public.image_shape[0] != subject.image_shape[0]:
        raise ValueError(
            f"the pretrained model makes images of shape {list(public.image_shape)}, the records are of shape "
            f"{list(subject.image_shape)}; see public_data.grey and public_data.image_size"
        )
    denoiser = trained_on(
        records,
        NAME,
        settings,
        context,
        with_new_classes(start, untrained(settings, subject, context)),
        levels=timestep_levels(settings.baseline),
        vary=vary,
    )
    return formally(Releasable(denoiser, release_config(settings, subject)), context, "records")


METHOD = Method(
    name=NAME,
    about="DP-Diffusion (Ghalebikesabi et al. 2023): a diffusion model of public_data, fine-tuned by DP-SGD on several "
    "views and noise draws of each record, at chosen timesteps. Public images cost no privacy. Takes pretrain.steps x "
    "batch_size passes of the network (none with pretrain.path), then those of dpdm: about 20 minutes on two CPU cores "
    "with the preset mnist-dp-diffusion.",
    settings=DpDiffusionSettings,
    guarantees=("records",),
    stages=lambda settings: (PRETRAIN, of_records("augmentation", "pretrain")),
    plans=partial(plans_of, NAME),
    rehearse=rehearse,
    train=train,
    shared=("records",),
)
