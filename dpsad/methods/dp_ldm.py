"""DP-LDM: a latent diffusion model of public images, of which records fine-tune the attention by DP-SGD.

Source: Liu et al. 2023.
"""

from dataclasses import replace
from functools import partial

from dpsad import build_rows
from dpsad.commands.sketch import Subject
from dpsad.methods.dp_sgd_denoiser import new_denoiser, release_config, trained_on
from dpsad.methods.method import Opened
from dpsad.methods.public_autoencoder import compressed, latents_of
from dpsad.methods.public_denoiser import pretrained, with_new_classes
from dpsad.networks.trainable import merge_low_rank, trainable_fraction
from dpsad.privacy.per_example_gradients import trainable_parameters
from dpsad.release.export import Releasable
from dpsad.runtime.run_folder import Log
from students.latent import LatentModel


def train(opened: Opened) -> Releasable:
    """Learns latents and a model of them from public images, unless that was done before, then from the records."""
    config = opened.config
    autoencoder, image_shape = compressed(opened)
    start, _ = pretrained(opened, partial(latents_of, autoencoder))
    records = opened.read_records()
    subject = Subject.of(records)
    if image_shape != subject.image_shape:
        raise ValueError(
            f"the autoencoder makes images of shape {list(image_shape)}, the records are of shape "
            f"{list(subject.image_shape)}; see public_data.grey and public_data.image_size"
        )
    new = new_denoiser(config, autoencoder.decoder.latent_shape, len(subject.class_names))
    denoiser = build_rows.choose_trainable(config, with_new_classes(start, new))
    trained, fraction = sum(part.numel() for part in trainable_parameters(denoiser)), trainable_fraction(denoiser)
    Log(opened.run, "baseline", config.log).public(trained_parameters=trained, trained_fraction=fraction)
    opened.say(f"dp-ldm: records fine-tune {fraction:.1%} of the denoiser, {trained} parameters")
    denoiser = trained_on(
        latents_of(autoencoder, records), opened, denoiser, levels=build_rows.baseline_levels(config.baseline)
    )
    merge_low_rank(denoiser)
    latent = replace(
        release_config(config, subject), kind="latent", fine_tuned=fraction, autoencoder=config.autoencoder
    )
    return Releasable(LatentModel(denoiser, autoencoder.decoder), latent)
