"""DPDM: a denoiser trained on records by DP-SGD alone, with no teacher and no sketch.

Source: Dockhorn et al. 2023, Algorithm 1.
"""

from dpsad import build_rows
from dpsad.commands.sketch import Subject
from dpsad.methods.dp_sgd_denoiser import new_denoiser, release_config, trained_on
from dpsad.methods.method import Opened
from dpsad.release.export import Releasable


def train(opened: Opened) -> Releasable:
    """Trains a new denoiser on the records."""
    config = opened.config
    records = opened.read_records()
    subject = Subject.of(records)
    denoiser = trained_on(
        records,
        opened,
        new_denoiser(config, subject.image_shape, len(subject.class_names)),
        levels=build_rows.timestep_levels(config.baseline),
    )
    return Releasable(denoiser, release_config(config, subject))
