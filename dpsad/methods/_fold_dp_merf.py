"""DP-MERF: a generator that has the records' mean random-feature embedding, which is released once.

Source: Harder et al. 2021.
"""

import torch

from dpsad import build
from dpsad.commands.sketch import Subject
from dpsad.config import Config
from dpsad.methods.dp_merf import dp_merf, features_of
from dpsad.methods.dp_sad.prototypes import NamedPlan
from dpsad.methods.method import Opened
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.release.export import Releasable, ReleaseConfig
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.run_folder import Log

PURPOSE = "dp-merf, mean embedding"
CPU = torch.device("cpu")


def plans(config: Config, num_records: int) -> list[NamedPlan]:
    """One release of all records' rows, of norm 1, on the whole budget; the number of records does not matter."""

    def plan(noise_multiplier: float) -> ReleasePlan:
        return ReleasePlan(unit=Unit.RECORD, max_norm=1.0, noise_multiplier=noise_multiplier)

    return [(PURPOSE, build.calibrated(plan, config.privacy))]


def train(opened: Opened) -> Releasable:
    """Releases the embedding, and trains a new generator on it."""
    config, settings = opened.config, opened.config.dp_merf
    records, device = opened.read_records(), build.device_of(config)
    subject = Subject.of(records)
    ((purpose, plan),) = plans(config, build.num_records_of(config, records))
    log = Log(opened.run, "dp-merf", config.log)
    with log.timed(build.hardware_of(device)) as seconds:
        generator = dp_merf(
            settings,
            generator=build.build_generator(config, settings.generator, subject.image_shape, records.num_classes),
            features=features_of(
                settings, subject.image_shape, build.generator_of(config, "random features", CPU), device
            ),
            records=records,
            sanitizer=Sanitizer(plan, opened.ledger, purpose, opened.randomness),
            stream=build.generator_of(config, "dp-merf", device),
            checkpoint=Checkpoint(opened.run.private / "dp_merf.checkpoint"),
            log=log,
            precision=config.precision,
        )
    opened.say(
        f"dp-merf: {settings.num_features} features, noise multiplier {plan.noise_multiplier:.3f}, {settings.steps} "
        f"steps of {settings.batch_size} images, in {seconds():.0f} s; epsilon {opened.ledger.spent():.3f}"
    )
    release = ReleaseConfig(
        kind="generator",
        image_shape=subject.image_shape,
        class_names=subject.class_names,
        generator=settings.generator,
    )
    return Releasable(generator, release)
