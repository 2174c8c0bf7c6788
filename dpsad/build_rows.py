"""From a config to what gradient rows of a denoiser need: their plan, noise levels, views and trained parameters."""

from dpsad import build
from dpsad.config import Config, PrivacyConfig
from dpsad.data.augmentation import AugmentationConfig, variation_size, vary
from dpsad.diffusion import noise_levels
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.parameterisations import PARAMETERISATIONS
from dpsad.methods.dp_sad.prototypes import NamedPlan
from dpsad.networks.trainable import train_all, train_attention, train_low_rank
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.training.dp_sgd import Vary, unvaried
from dpsad.training.private_denoiser import BaselineConfig, RefineConfig


def gradient_plan(
    section: str,
    settings: RefineConfig | BaselineConfig,
    privacy: PrivacyConfig,
    num_records: int,
    spent: list[NamedPlan],
) -> ReleasePlan:
    """Releases of gradient rows, with the noise that the rest of the budget asks for."""
    if settings.batch_size > num_records:
        raise ValueError(
            f"{section}.batch_size={settings.batch_size} is more than the {num_records} records there are; lower it"
        )

    def plan(noise_multiplier: float) -> ReleasePlan:
        return ReleasePlan(
            unit=Unit.RECORD,
            max_norm=settings.max_norm,
            noise_multiplier=noise_multiplier,
            sampling_prob=settings.batch_size / num_records,
            num_releases=settings.steps,
        )

    return build.calibrated(plan, privacy, spent)


def baseline_levels(settings: BaselineConfig) -> noise_levels.Levels:
    """The noise levels of a baseline's parameterisation, which edm lets one move."""
    if settings.parameterisation == "edm":
        return build.lognormal_of(settings)
    return PARAMETERISATIONS[settings.parameterisation].levels


def timestep_levels(settings: BaselineConfig) -> noise_levels.Levels:
    """Which noise levels a baseline meets records at: those of `timesteps`, else its parameterisation's."""
    bounds, weights = settings.timesteps, settings.timestep_weights
    if not bounds:
        return baseline_levels(settings)
    fractions = [bound / bounds[-1] for bound in bounds]
    # in time, VP is the limit of Ho et al.'s linear schedule
    levels = PARAMETERISATIONS["vp"].levels
    return lambda uniform: levels(noise_levels.mixture_quantiles(uniform, fractions, weights))


def record_views(augmentation: AugmentationConfig) -> Vary:
    """Random views of records, by geometry alone: flips, shifts, turns and bends that keep the class.

    Raises:
        ValueError: pixel values are to vary, too.
    """
    if augmentation.sharpness or augmentation.gamma or augmentation.contrast or augmentation.noise:
        raise ValueError(
            "records are viewed through geometry alone; set augmentation.sharpness, gamma, contrast and noise to 0"
        )
    if not (augmentation.moves or augmentation.flip):
        return unvaried
    return lambda images, randomness: vary(
        images, augmentation, randomness.normal((len(images), variation_size(images, augmentation)))
    )


def choose_trainable(config: Config, denoiser: Denoiser) -> Denoiser:
    """Freezes what records shall not train; `merge_low_rank` makes an ordinary denoiser of it again."""
    if config.fine_tune.parameters == "attention":
        train_attention(denoiser)
    elif config.fine_tune.parameters == "lora":
        with build.first_weights(config, "low rank"):
            train_low_rank(denoiser, config.fine_tune.rank)
    else:
        train_all(denoiser)
    return build.on_device(denoiser, build.device_of(config))
