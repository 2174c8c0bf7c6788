"""DP-Diffusion: a denoiser of public images, fine-tuned on records by DP-SGD.

Source: Ghalebikesabi et al. 2023.
"""

from dpsad import build
from dpsad.baselines.method import Opened
from dpsad.baselines.pretraining import pretrained, with_new_classes
from dpsad.config import Config
from dpsad.fitting import fit_to_records
from dpsad.release import Releasable, ReleaseConfig
from dpsad.sketching import Subject
from dpsad.stages.sketch import NamedPlan

PURPOSE = "dp-diffusion, gradient rows"


def plans(config: Config, num_records: int) -> list[NamedPlan]:
    """Gradient rows on the whole budget; public images cost nothing."""
    return [(PURPOSE, build.gradient_plan("baseline", config.baseline, config.privacy, num_records, []))]


def train(opened: Opened) -> Releasable:
    """Learns from public images, unless that was done before, then from the records."""
    config, settings = opened.config, opened.config.baseline
    vary = build.record_views(config.augmentation)
    start, public = pretrained(opened)
    records = opened.read_records()
    subject = Subject.of(records)
    if public.image_shape[0] != subject.image_shape[0]:
        raise ValueError(
            f"the pretrained model makes images of shape {list(public.image_shape)}, the records are of shape "
            f"{list(subject.image_shape)}; see public_data.grey and public_data.image_size"
        )
    new = build.build_denoiser(
        config, subject.image_shape, len(subject.class_names), "baseline", parameterisation=settings.parameterisation
    )
    denoiser = fit_to_records(
        config,
        opened.run,
        "baseline",
        settings,
        purpose=PURPOSE,
        denoiser=with_new_classes(start, new),
        levels=build.timestep_levels(settings),
        label_dropout=settings.label_dropout,
        records=records,
        ledger=opened.ledger,
        randomness=opened.randomness,
        say=opened.say,
        vary=vary,
    )
    release = ReleaseConfig(
        image_shape=subject.image_shape,
        class_names=subject.class_names,
        parameterisation=settings.parameterisation,
        network=config.network,
        sampler=config.sampler,
    )
    return Releasable(denoiser, release)
