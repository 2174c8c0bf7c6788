"""DPDM: a denoiser trained on records by DP-SGD alone, with no teacher and no prototypes.

Source: Dockhorn et al. 2023, Algorithm 1.
"""

from dataclasses import dataclass, field
from functools import partial

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
from dpsad.networks.config import NetworkConfig
from dpsad.release.students import Releasable
from dpsad.runtime.context import Context
from students.few_step import SamplerConfig

NAME = "dpdm"


@dataclass(frozen=True, kw_only=True)
class DpdmSettings:
    """What DPDM is told."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)


def train(settings: DpdmSettings, context: Context) -> Trained:
    """Trains a new denoiser on the records."""
    records = context.read_records()
    subject = Subject.of(records)
    start = untrained(settings, subject, context)
    levels = timestep_levels(settings.baseline)
    denoiser = trained_on(records, NAME, settings, context, start, levels=levels)
    return formally(Releasable(denoiser, release_config(settings, subject)), context, "records")


METHOD = Method(
    name=NAME,
    about="DPDM (Dockhorn et al. 2023): a diffusion model trained from scratch by DP-SGD on several noise draws of "
    "each record. Costs baseline.steps x batch_size x noise_multiplicity passes of the network, 2 to 3 ms each on a "
    "CPU core with the small one: about 20 minutes with the preset mnist-dpdm; days on GPUs with the published 4,500 x "
    "4,000 x 32.",
    settings=DpdmSettings,
    guarantees=("records",),
    stages=lambda settings: (of_records(),),
    plans=partial(plans_of, NAME),
    rehearse=rehearse,
    train=train,
    shared=("records",),
)
