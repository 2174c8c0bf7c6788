"""DP-LDM: a latent diffusion model of public images, of which records fine-tune the attention by DP-SGD.

Source: Liu et al. 2023.
"""

from dataclasses import dataclass, field, replace
from functools import partial

from dpsad.data.records import Subject
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods import dp_sgd_denoiser
from dpsad.methods.dp_sgd_denoiser import (
    BaselineConfig,
    baseline_levels,
    of_records,
    plans_of,
    release_config,
    trained_on,
    untrained,
)
from dpsad.methods.method import Method, Rehearsal, Trained, formally
from dpsad.methods.public_autoencoder import COMPRESS, latents_of, public_autoencoder
from dpsad.methods.public_denoiser import PRETRAIN, PretrainConfig, public_denoiser, with_new_classes
from dpsad.networks.autoencoder import AutoencoderConfig
from dpsad.networks.config import NetworkConfig
from dpsad.networks.trainable import (
    FineTuneConfig,
    merge_low_rank,
    train_all,
    train_attention,
    train_low_rank,
    trainable_fraction,
)
from dpsad.privacy.per_example_gradients import trainable_parameters
from dpsad.release.students import Releasable, new_model
from dpsad.runtime.context import Context
from dpsad.runtime.device import on_device
from dpsad.training.autoencoder import CompressConfig
from students.few_step import SamplerConfig
from students.latent import LatentModel

NAME = "dp-ldm"


@dataclass(frozen=True, kw_only=True)
class DpLdmSettings:
    """What DP-LDM is told."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    compress: CompressConfig = field(default_factory=CompressConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)


def train(settings: DpLdmSettings, context: Context) -> Trained:
    """Learns latents and a model of them from public images, unless that was done before, then from the records."""
    autoencoder, image_shape = public_autoencoder(settings, context)
    start, _ = public_denoiser(settings, context, partial(latents_of, autoencoder))
    records = context.read_records()
    subject = Subject.of(records)
    if image_shape != subject.image_shape:
        raise ValueError(
            f"the autoencoder makes images of shape {list(image_shape)}, the records are of shape "
            f"{list(subject.image_shape)}; see public_data.grey and public_data.image_size"
        )
    latents = replace(subject, image_shape=autoencoder.decoder.latent_shape)
    denoiser = with_new_classes(start, untrained(settings, latents, context))
    denoiser = on_device(choose_trainable(settings.fine_tune, denoiser, context), context.device)
    trained, fraction = sum(part.numel() for part in trainable_parameters(denoiser)), trainable_fraction(denoiser)
    context.log("baseline").once(public=True, trained_parameters=trained, trained_fraction=fraction)
    context.say(f"dp-ldm: records fine-tune {fraction:.1%} of the denoiser, {trained} parameters")
    levels = baseline_levels(settings.baseline)
    denoiser = trained_on(latents_of(autoencoder, records), NAME, settings, context, denoiser, levels=levels)
    merge_low_rank(denoiser)
    release = replace(
        release_config(settings, subject), kind="latent", fine_tuned=fraction, autoencoder=settings.autoencoder
    )
    return formally(Releasable(LatentModel(denoiser, autoencoder.decoder), release), context, "records")


def choose_trainable(config: FineTuneConfig, denoiser: Denoiser, context: Context) -> Denoiser:
    """Freezes what records shall not train; `merge_low_rank` makes an ordinary denoiser of it again."""
    if config.parameters == "attention":
        train_attention(denoiser)
    elif config.parameters == "lora":
        with context.first_weights("low rank"):
            train_low_rank(denoiser, config.rank)
    else:
        train_all(denoiser)
    return denoiser


def rehearse(settings: DpLdmSettings, subject: Subject, num_records: int) -> Rehearsal:
    """An untrained denoiser in the latents of an untrained decoder; at most all of it has rows."""
    release = replace(release_config(settings, subject), kind="latent", autoencoder=settings.autoencoder)
    of_images = dp_sgd_denoiser.rehearse(settings, subject, num_records)
    held = of_images.held if settings.fine_tune.parameters == "all" else ()
    return Rehearsal(made=Releasable(new_model(release), release), held=held)


METHOD = Method(
    name=NAME,
    about="DP-LDM (Liu et al. 2023): an autoencoder and a diffusion model in its latents, both of public_data, of "
    "which DP-SGD fine-tunes the attention and what embeds the label, on several noise draws of each record. Public "
    "images cost no privacy. Takes compress.steps x batch_size passes of the autoencoder and pretrain.steps x "
    "batch_size of the denoiser (none with pretrain.path), then baseline.steps x batch_size x noise_multiplicity of "
    "it, 1 ms each on a CPU core: less than 20 minutes on two with the preset mnist-dp-ldm.",
    settings=DpLdmSettings,
    guarantees=("records",),
    stages=lambda settings: (
        COMPRESS,
        PRETRAIN,
        of_records("autoencoder", "pretrain", "fine_tune"),
    ),
    plans=partial(plans_of, NAME),
    rehearse=rehearse,
    train=train,
    shared=("records",),
)
