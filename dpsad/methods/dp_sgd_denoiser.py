"""What the baselines that are denoisers share: records train them by gradient rows, and their release says of what."""

from dpsad import build, build_rows
from dpsad.commands.sketch import Subject
from dpsad.config import Config
from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.noise_levels import Levels
from dpsad.fitting import fit_to_records
from dpsad.methods.dp_sad.prototypes import NamedPlan
from dpsad.methods.method import Opened
from dpsad.release.export import ReleaseConfig
from dpsad.training.dp_sgd import Vary, unvaried


def purpose_of(config: Config) -> str:
    """What the ledger calls a baseline's releases."""
    return f"{config.method}, gradient rows"


def plans(config: Config, num_records: int) -> list[NamedPlan]:
    """Gradient rows on the whole budget; public images cost nothing."""
    return [
        (purpose_of(config), build_rows.gradient_plan("baseline", config.baseline, config.privacy, num_records, []))
    ]


def new_denoiser(config: Config, image_shape: tuple[int, int, int], num_classes: int) -> Denoiser:
    """A denoiser that has seen nothing, of what the baseline's network predicts."""
    return build.build_denoiser(
        config, image_shape, num_classes, "baseline", parameterisation=config.baseline.parameterisation
    )


def trained_on(
    records: ImageSet, opened: Opened, denoiser: Denoiser, *, levels: Levels, vary: Vary = unvaried
) -> Denoiser:
    """The averaged denoiser, after the run's whole budget was spent on gradient rows of the records.

    Args:
        denoiser: provenance released or public; those of its parameters that require gradients train.
        levels: noise levels that records are met at.
        vary: random views of records, one a draw.
    """
    config = opened.config
    return fit_to_records(
        config,
        opened.run,
        "baseline",
        config.baseline,
        purpose=purpose_of(config),
        denoiser=denoiser,
        levels=levels,
        label_dropout=config.baseline.label_dropout,
        records=records,
        ledger=opened.ledger,
        randomness=opened.randomness,
        say=opened.say,
        vary=vary,
    )


def release_config(config: Config, subject: Subject) -> ReleaseConfig:
    """What a release says of a denoiser of the records' images."""
    return ReleaseConfig(
        image_shape=subject.image_shape,
        class_names=subject.class_names,
        parameterisation=config.baseline.parameterisation,
        network=config.network,
        sampler=config.sampler,
    )
