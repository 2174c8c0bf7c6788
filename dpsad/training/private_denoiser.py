"""Moves a denoiser towards records by noisy, clipped gradient rows: plan, charge, train, and say what it has cost."""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from dpsad.data.augmentation import AugmentationConfig, variation_size, vary
from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.noise_levels import Levels
from dpsad.diffusion.parameterisations import lognormal_quantiles
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.context import Context
from dpsad.training.dp_sgd import Vary, denoising_rows, dp_sgd, unvaried


class LogNormal(Protocol):
    """Settings of noise levels whose logarithm is normal."""

    @property
    def sigma_mean(self) -> float: ...
    @property
    def sigma_std(self) -> float: ...


class GradientRowSettings(Protocol):
    """What `fit_to_records` goes by; see `RefineConfig`."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def noise_multiplicity(self) -> int: ...
    @property
    def clip_norm(self) -> float: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def ema_half_life_steps(self) -> float: ...
    @property
    def chunk_size(self) -> int: ...


def gradient_plan(section: str, method: str, settings: GradientRowSettings, num_records: int) -> ReleasePlan:
    """Releases of gradient rows, to be calibrated.

    Args:
        section: of the config, for errors.
        method: names the plan in the ledger.

    Raises:
        ValueError: a batch is larger than the records are many.
    """
    if settings.batch_size > num_records:
        raise ValueError(
            f"{section}.batch_size={settings.batch_size} is more than the {num_records} records there are; lower it"
        )
    return ReleasePlan(
        purpose=f"{method}, gradient rows",
        unit=Unit.RECORD,
        clip_norm=settings.clip_norm,
        sampling_prob=settings.batch_size / num_records,
        num_releases=settings.steps,
    )


def fit_to_records(
    section: str,
    method: str,
    settings: GradientRowSettings,
    context: Context,
    *,
    denoiser: Denoiser,
    levels: Levels,
    label_dropout: float,
    records: ImageSet,
    vary: Vary = unvaried,
    learned_from: str = "",
    reserved: Sequence[ReleasePlan] = (),
) -> Denoiser:
    """Spends what the ledger has left on gradient rows of a denoiser, or goes on where it stopped.

    Args:
        section: of the config; names log and checkpoint as well.
        method: names the releases in the ledger.
        denoiser: provenance released or public; those of its parameters that require gradients train.
        levels: which noise levels are drawn.
        label_dropout: probability that a record trains without its label.
        records: the private records.
        vary: random views of records, one a draw.
        learned_from: fingerprint of what the denoiser has learned from, where that was charged to the ledger; a stage
            that was begun with another is refused.
        reserved: what is to be released later, whose cost is left.

    Returns:
        The averaged denoiser, provenance released.

    Raises:
        ValueError: the denoiser has seen records without protection, or labels are clusters.

    Formal guarantee: all of it is post-processing of releases that the ledger is charged with.

    Source: Dockhorn et al. 2023, Algorithm 1.
    """
    num_records = context.num_records(records)
    plan = context.ledger.planned(reserved).calibrate(gradient_plan(section, method, settings, num_records))
    randomness = context.randomness.named(section)
    draws = context.ranks.draws(randomness)
    rows = denoising_rows(
        denoiser,
        noise_multiplicity=settings.noise_multiplicity,
        levels=levels,
        label_dropout=label_dropout,
        no_label=records.num_classes,
        randomness=draws,
        vary=vary,
        precision=context.precision,
    )
    sources = (settings, records.fingerprint(), *([learned_from] if learned_from else []))
    log = context.log(section)
    with context.timed(section) as seconds:
        fitted = dp_sgd(
            section,
            model=denoiser,
            rows=rows,
            records=context.share_of(records),
            sanitizer=Sanitizer(plan, context.ledger, randomness, context.ranks),
            expected_batch_size=plan.sampling_prob * num_records,
            learning_rate=settings.learning_rate,
            ema_half_life_steps=settings.ema_half_life_steps,
            chunk_size=settings.chunk_size,
            randomness=draws,
            checkpoint=context.checkpoint(section, *sources, every_seconds=0, unnamed=not learned_from),
            log=log,
            ranks=context.ranks,
        )
    context.say(
        f"{section}: {plan.num_releases} steps of {settings.batch_size} records, noise multiplier "
        f"{plan.noise_multiplier:.3f}, in {seconds():.0f} s; epsilon {context.ledger.spent():.3f}"
    )
    return fitted


def lognormal_of(settings: LogNormal) -> Levels:
    """Noise levels whose logarithm is normal, as a section says."""
    return partial(lognormal_quantiles, mean=settings.sigma_mean, std=settings.sigma_std)


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
