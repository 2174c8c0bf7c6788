"""DPDM: a denoiser trained on records by DP-SGD alone, with no teacher and no sketch.

Source: Dockhorn et al. 2023, Algorithm 1.
"""

from dpsad import build
from dpsad.baselines.method import Opened
from dpsad.config import Config
from dpsad.fitting import fit_to_records
from dpsad.release import Releasable, ReleaseConfig
from dpsad.sketching import Subject
from dpsad.stages.sketch import NamedPlan

PURPOSE = "dpdm, gradient rows"


def plans(config: Config, num_records: int) -> list[NamedPlan]:
    """Gradient rows on the whole budget."""
    return [(PURPOSE, build.gradient_plan("baseline", config.baseline, config.privacy, num_records, []))]


def train(opened: Opened) -> Releasable:
    """Trains a new denoiser on the records."""
    config, settings = opened.config, opened.config.baseline
    records = opened.read_records()
    subject = Subject.of(records)
    denoiser = fit_to_records(
        config,
        opened.run,
        "baseline",
        settings,
        purpose=PURPOSE,
        denoiser=build.build_denoiser(
            config,
            subject.image_shape,
            len(subject.class_names),
            "baseline",
            parameterisation=settings.parameterisation,
        ),
        levels=build.timestep_levels(settings),
        label_dropout=settings.label_dropout,
        records=records,
        ledger=opened.ledger,
        randomness=opened.randomness,
        say=opened.say,
    )
    release = ReleaseConfig(
        image_shape=subject.image_shape,
        class_names=subject.class_names,
        parameterisation=settings.parameterisation,
        network=config.network,
        sampler=config.sampler,
    )
    return Releasable(denoiser, release)
