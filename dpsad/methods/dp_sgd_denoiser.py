"""DP-SGD on a denoiser, as the baselines that are denoisers share it: settings, plan, training, release."""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from dpsad.data.records import ImageSet, Subject
from dpsad.diffusion import noise_levels
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.noise_levels import Levels
from dpsad.diffusion.parameterisations import PARAMETERISATIONS
from dpsad.errors import require_choice
from dpsad.methods.method import Rehearsal, Stage, rows_held
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.ranges import (
    Count,
    Fraction,
    HalfLife,
    LearningRate,
    LogSigmaMean,
    LogSigmaStd,
    Positive,
    Range,
    require_ranges,
)
from dpsad.release.students import Releasable, ReleaseConfig, new_model
from dpsad.runtime.context import Context
from dpsad.training.dp_sgd import Vary, unvaried
from dpsad.training.models import new_denoiser
from dpsad.training.private_denoiser import fit_to_records, gradient_plan, lognormal_of
from students.few_step import SamplerConfig


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """How a baseline that is a denoiser is trained on records.

    steps: noisy gradient steps.
    batch_size: expected records in a step; each joins independently.
    noise_multiplicity: draws of each record, each with its own noise (dp-diffusion: and its own view:
        augmentation multiplicity), averaged inside the record's loss before the clip.
    clip_norm: bound on a record's gradient.
    learning_rate: of Adam, constant.
    ema_half_life_steps: of the weight average; 693 is a decay of 0.999.
    label_dropout: fraction of records trained without their label, for guidance.
    parameterisation: what the network predicts: edm, v, vp or ve, each with its own noise levels and loss weight.
    sigma_mean, sigma_std: of the logarithm of noise levels; edm only.
    timesteps, timestep_weights: records meet timesteps of a DDPM chain, drawn from adjoining ranges: [0, 30, 600, 1000]
        and [0.1, 0.8, 0.1] are three, of those probabilities, in a chain of 1,000 with the linear schedule. Empty, the
        noise levels are the parameterisation's.
    chunk_size: records whose rows are held at once; times noise_multiplicity, the images that pass the network at once.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {
        "draws": "noise_multiplicity", "max_norm": "clip_norm", "half_life": "ema_half_life_steps",
    }  # fmt: skip

    steps: Count = 300
    batch_size: Count = 1024
    noise_multiplicity: Count = 4
    clip_norm: Positive = 1.0
    learning_rate: LearningRate = 3e-4
    ema_half_life_steps: HalfLife = 693.0
    label_dropout: Annotated[float, Range("[0, 1)")] = 0.1
    parameterisation: str = "edm"
    sigma_mean: LogSigmaMean = -1.2
    sigma_std: LogSigmaStd = 1.2
    timesteps: tuple[Annotated[float, Range("[0, 1e9]")], ...] = ()
    timestep_weights: tuple[Fraction, ...] = ()
    chunk_size: Count = 16

    def __post_init__(self) -> None:
        require_ranges(self, "baseline")
        require_choice("baseline.parameterisation", self.parameterisation, tuple(PARAMETERISATIONS))
        self._check_timesteps()

    def _check_timesteps(self) -> None:
        bounds, weights = list(self.timesteps), list(self.timestep_weights)
        if (bounds or weights) and len(weights) != len(bounds) - 1:
            raise ValueError(
                f"baseline.timesteps={bounds} are the bounds of {max(0, len(bounds) - 1)} ranges, "
                f"baseline.timestep_weights={weights} has {len(weights)}; give one weight a range"
            )
        if any(low >= high for low, high in itertools.pairwise(bounds)):
            raise ValueError(f"baseline.timesteps={bounds} must rise")
        if weights and not math.isclose(sum(weights), 1, abs_tol=1e-6):
            raise ValueError(f"baseline.timestep_weights={weights} must sum to 1")


class DenoiserSettings(Protocol):
    """The sections that every such baseline goes by."""

    @property
    def network(self) -> NetworkConfig: ...
    @property
    def baseline(self) -> BaselineConfig: ...
    @property
    def sampler(self) -> SamplerConfig: ...


def plans_of(method: str, settings: DenoiserSettings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """Gradient rows on the whole budget; public images cost nothing."""
    return [budget.calibrate(gradient_plan("baseline", method, settings.baseline, num_records))]


def of_records(*more: str) -> Stage:
    """The stage that trains a denoiser on records, by these sections and `more`."""
    keys = ("data", "privacy", "network", "baseline", *more)
    return Stage(name="baseline", files=("baseline.checkpoint",), keys=keys)


def untrained(settings: DenoiserSettings, subject: Subject, context: Context) -> Denoiser:
    """A denoiser that has seen nothing, of what the baseline's network predicts."""
    parameterisation = settings.baseline.parameterisation
    return new_denoiser(settings.network, subject, context, "baseline", parameterisation=parameterisation)


def trained_on(
    records: ImageSet,
    method: str,
    settings: DenoiserSettings,
    context: Context,
    denoiser: Denoiser,
    *,
    levels: Levels,
    vary: Vary = unvaried,
) -> Denoiser:
    """The averaged denoiser, after the run's whole budget was spent on gradient rows of the records.

    Args:
        denoiser: provenance released or public; those of its parameters that require gradients train.
        levels: noise levels that records are met at.
        vary: random views of records, one a draw.
    """
    return fit_to_records(
        "baseline",
        method,
        settings.baseline,
        context,
        denoiser=denoiser,
        levels=levels,
        label_dropout=settings.baseline.label_dropout,
        records=records,
        vary=vary,
    )


def baseline_levels(settings: BaselineConfig) -> Levels:
    """The noise levels of a baseline's parameterisation, which edm lets one move."""
    if settings.parameterisation == "edm":
        return lognormal_of(settings)
    return PARAMETERISATIONS[settings.parameterisation].levels


def timestep_levels(settings: BaselineConfig) -> Levels:
    """Which noise levels a baseline meets records at: those of `timesteps`, else its parameterisation's."""
    bounds, weights = settings.timesteps, settings.timestep_weights
    if not bounds:
        return baseline_levels(settings)
    fractions = [bound / bounds[-1] for bound in bounds]
    # in time, VP is the limit of Ho et al.'s linear schedule
    levels = PARAMETERISATIONS["vp"].levels
    return lambda uniform: levels(noise_levels.mixture_quantiles(uniform, fractions, weights))


def release_config(settings: DenoiserSettings, subject: Subject) -> ReleaseConfig:
    """What a release says of a denoiser of the records' images."""
    return ReleaseConfig(
        image_shape=subject.image_shape,
        class_names=subject.class_names,
        parameterisation=settings.baseline.parameterisation,
        network=settings.network,
        sampler=settings.sampler,
    )


def rehearse(settings: DenoiserSettings, subject: Subject, num_records: int) -> Rehearsal:
    """An untrained denoiser, and the rows of a chunk of records."""
    release, baseline = release_config(settings, subject), settings.baseline
    model = new_model(release)
    gradient_plan("baseline", "", baseline, num_records)
    num_parameters = sum(weight.numel() for weight in model.parameters())
    num_rows = min(baseline.chunk_size, baseline.batch_size)
    return Rehearsal(made=Releasable(model, release), held=(rows_held("baseline", num_rows, num_parameters),))
