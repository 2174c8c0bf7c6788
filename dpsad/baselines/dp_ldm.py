"""DP-LDM: a latent diffusion model of public images, of which records fine-tune the attention by DP-SGD.

Source: Liu et al. 2023.
"""

from functools import partial

from dpsad import build
from dpsad.baselines.compression import compressed, latents_of
from dpsad.baselines.method import Opened
from dpsad.baselines.pretraining import pretrained, with_new_classes
from dpsad.config import Config
from dpsad.fitting import fit_to_records
from dpsad.networks.trainable import merge_low_rank, trainable_fraction
from dpsad.privacy.per_example import trainable_parameters
from dpsad.release import Releasable, ReleaseConfig
from dpsad.runs import Log
from dpsad.sketching import Subject
from dpsad.stages.sketch import NamedPlan
from students.latent import LatentModel

PURPOSE = "dp-ldm, gradient rows"


def plans(config: Config, num_records: int) -> list[NamedPlan]:
    """Gradient rows on the whole budget; public images cost nothing."""
    return [(PURPOSE, build.gradient_plan("baseline", config.baseline, config.privacy, num_records, []))]


def train(opened: Opened) -> Releasable:
    """Learns latents and a model of them from public images, unless that was done before, then from the records."""
    config, settings = opened.config, opened.config.baseline
    autoencoder, image_shape = compressed(opened)
    start, _ = pretrained(opened, partial(latents_of, autoencoder))
    records = opened.read_records()
    subject = Subject.of(records)
    if image_shape != subject.image_shape:
        raise ValueError(
            f"the autoencoder makes images of shape {list(image_shape)}, the records are of shape "
            f"{list(subject.image_shape)}; see public_data.grey and public_data.image_size"
        )
    new = build.build_denoiser(
        config,
        autoencoder.decoder.latent_shape,
        len(subject.class_names),
        "baseline",
        parameterisation=settings.parameterisation,
    )
    denoiser = build.choose_trainable(config, with_new_classes(start, new))
    trained, fraction = sum(part.numel() for part in trainable_parameters(denoiser)), trainable_fraction(denoiser)
    Log(opened.run, "baseline", config.log).public(trained_parameters=trained, trained_fraction=fraction)
    opened.say(f"dp-ldm: records fine-tune {fraction:.1%} of the denoiser, {trained} parameters")
    denoiser = fit_to_records(
        config,
        opened.run,
        "baseline",
        settings,
        purpose=PURPOSE,
        denoiser=denoiser,
        levels=build.baseline_levels(settings),
        label_dropout=settings.label_dropout,
        records=latents_of(autoencoder, records),
        ledger=opened.ledger,
        randomness=opened.randomness,
        say=opened.say,
    )
    merge_low_rank(denoiser)
    model = LatentModel(denoiser, autoencoder.decoder)
    release = ReleaseConfig(
        kind="latent",
        image_shape=image_shape,
        class_names=subject.class_names,
        parameterisation=settings.parameterisation,
        network=config.network,
        sampler=config.sampler,
        fine_tuned=fraction,
        autoencoder=config.autoencoder,
    )
    return Releasable(model, release)
