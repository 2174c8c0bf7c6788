"""Public autoencoder: learned from public images, at no cost, and what it makes of others."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch

from dpsad.data.records import ImageSet, Subject
from dpsad.errors import reading
from dpsad.methods.method import Stage
from dpsad.methods.public_denoiser import PretrainConfig, require_public
from dpsad.networks.autoencoder import Autoencoder, AutoencoderConfig
from dpsad.privacy.provenance import Provenance, combined
from dpsad.runtime.checkpoint import load, save_atomic
from dpsad.runtime.config_files import flatten
from dpsad.runtime.context import Context
from dpsad.runtime.finite import require_finite
from dpsad.training.autoencoder import CompressConfig, train_autoencoder
from dpsad.training.batches import batches_as_they_are, in_full_batches
from dpsad.training.denoiser_files import public_images_in_file
from dpsad.training.models import new_autoencoder

IMAGES_AT_ONCE = 500
COMPRESS = Stage(
    name="compress",
    files=("compress.checkpoint", "autoencoder.pt"),
    keys=("public_data", "autoencoder", "compress"),
)


class CompressionSettings(Protocol):
    """The sections that decide which autoencoder a run has."""

    @property
    def autoencoder(self) -> AutoencoderConfig: ...
    @property
    def compress(self) -> CompressConfig: ...
    @property
    def pretrain(self) -> PretrainConfig: ...


def public_autoencoder(settings: CompressionSettings, context: Context) -> tuple[Autoencoder, tuple[int, int, int]]:
    """The autoencoder of public images that the run has, or the one beside `pretrain.path`, or a new one.

    The two lie together, so that a pretrained denoiser never meets latents of another autoencoder. Records
    are read to compare them with public images, and for nothing else.

    Returns:
        The autoencoder, frozen, provenance public, and the shape of its images.

    Raises:
        ValueError: there is none beside `pretrain.path`, it has another shape than `autoencoder` says, it has seen
            records, or some public images are records.
    """
    own, beside = context.run.public_autoencoder, settings.pretrain.path
    path = Path(beside).with_name(own.name) if beside else own
    if not path.exists():
        if beside:
            raise ValueError(
                f"no autoencoder at {path}, beside pretrain.path; pass private/pretrained.pt of a run with "
                "method=dp-ldm, or leave pretrain.path out to train both"
            )
        _compress(settings, context, path)
    saved = load(path, map_location=context.device)
    with reading(path):
        if saved["autoencoder"] != flatten(settings.autoencoder):
            raise ValueError(
                f"the autoencoder at {path} was built with {saved['autoencoder']}, this run has "
                f"{flatten(settings.autoencoder)}; give the run the same, or leave pretrain.path out to train another"
            )
        chan, height, width = saved["image_shape"]
        autoencoder = new_autoencoder(settings.autoencoder, (chan, height, width), context)
        autoencoder.load_state_dict(saved["model"])
        require_finite(f"the autoencoder at {path}", autoencoder, "train another with a lower compress.learning_rate")
        decoder = autoencoder.decoder
        decoder.provenance, decoder.public_images = Provenance(saved["provenance"]), public_images_in_file(saved)
    require_public(f"the autoencoder at {path}", decoder.provenance)
    context.require_apart(f"the autoencoder at {path}", decoder.public_images)
    return autoencoder.eval().requires_grad_(False), (chan, height, width)


def _compress(settings: CompressionSettings, context: Context, path: Path) -> None:
    images = context.read_public()
    subject = Subject.of(images)
    with context.timed("compress") as seconds:
        autoencoder = train_autoencoder(
            settings.compress,
            autoencoder=new_autoencoder(settings.autoencoder, subject.image_shape, context),
            batches=batches_as_they_are(images, context.device),
            rng=context.rng("compress"),
            checkpoint=context.checkpoint("compress", settings.compress, settings.autoencoder, images.fingerprint()),
            log=context.log("compress"),
            precision=context.precision,
            ranks=context.ranks,
        )
    state = {
        "model": autoencoder.state_dict(),
        "provenance": autoencoder.decoder.provenance.value,
        "public_images": [noted.state_dict() for noted in autoencoder.decoder.public_images],
        "autoencoder": flatten(settings.autoencoder),
        "image_shape": list(subject.image_shape),
    }
    save_atomic(state, path)
    context.say(f"compress: {settings.compress.steps} steps on {len(images)} public images in {seconds():.0f} s")


@torch.no_grad()
def latents_of(autoencoder: Autoencoder, images: ImageSet) -> ImageSet:
    """A set with the latents of its images in their place, [num, *latent_shape]; not bounded by [-1, 1].

    Formal guarantee: a record's latents are a function of that record and public weights; they are a record's own, and
    so fit for a row. All batches are of one size, since rounding depends on it.
    """
    device, seen = autoencoder.decoder.centre.device, combined(images.provenance, autoencoder.decoder.provenance)
    batches = in_full_batches(IMAGES_AT_ONCE, images.images)
    latents = [autoencoder.encode(batch.to(device))[:num].cpu() for num, (batch,) in batches]
    return replace(images, images=torch.cat(latents), provenance=seen, origin=images)
