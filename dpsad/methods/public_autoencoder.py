"""Public compression: an autoencoder of `public_data`, and what it makes of images; it costs no privacy."""

from dataclasses import replace
from pathlib import Path

import torch

from dpsad import build
from dpsad.commands.sketch import Subject
from dpsad.data.records import ImageSet
from dpsad.methods.method import Opened
from dpsad.methods.public_denoiser import public_images, require_public
from dpsad.networks.autoencoder import Autoencoder
from dpsad.privacy.provenance import Provenance
from dpsad.runtime.checkpoint import Checkpoint, load, save_atomic
from dpsad.runtime.config_files import flatten
from dpsad.runtime.run_folder import Log
from dpsad.training.autoencoder import compress

FILE = "autoencoder.pt"
IMAGES_AT_ONCE = 500


def compressed(opened: Opened) -> tuple[Autoencoder, tuple[int, int, int]]:
    """The autoencoder of public images that the run has, or the one beside `pretrain.path`, or a new one.

    The two lie together, so that a pretrained denoiser never meets latents of another autoencoder. Reads no record.

    Returns:
        The autoencoder, frozen, provenance public, and the shape of its images.

    Raises:
        ValueError: there is none beside `pretrain.path`, it has another shape than `autoencoder` says, or it has seen
            records.
    """
    config = opened.config
    path = Path(config.pretrain.path).with_name(FILE) if config.pretrain.path else opened.run.private / FILE
    if not path.exists():
        if config.pretrain.path:
            raise ValueError(
                f"no autoencoder at {path}, beside pretrain.path; pass private/pretrained.pt of a run with "
                "method=dp-ldm, or leave pretrain.path out to train both"
            )
        _compress(opened, path)
    saved = load(path, map_location=build.device_of(config))
    if saved["autoencoder"] != flatten(config.autoencoder):
        raise ValueError(
            f"the autoencoder at {path} was built with {saved['autoencoder']}, this run has "
            f"{flatten(config.autoencoder)}; give the run the same, or leave pretrain.path out to train another"
        )
    require_public(f"the autoencoder at {path}", Provenance(saved["provenance"]))
    chan, height, width = saved["image_shape"]
    autoencoder = build.build_autoencoder(config, (chan, height, width))
    autoencoder.load_state_dict(saved["model"])
    return autoencoder.eval().requires_grad_(False), (chan, height, width)


def _compress(opened: Opened, path: Path) -> None:
    config, run = opened.config, opened.run
    images, device = public_images(config), build.device_of(config)
    subject = Subject.of(images)
    log = Log(run, "compress", config.log)
    with log.timed(build.hardware_of(device)) as seconds:
        autoencoder = compress(
            config.compress,
            autoencoder=build.build_autoencoder(config, subject.image_shape),
            draw=build.draw_as_they_are(images, device),
            generator=build.generator_of(config, "compress", device),
            checkpoint=Checkpoint(run.private / "compress.checkpoint"),
            log=log,
            precision=config.precision,
        )
    state = {
        "model": autoencoder.state_dict(),
        "provenance": Provenance.PUBLIC.value,
        "autoencoder": flatten(config.autoencoder),
        "image_shape": list(subject.image_shape),
    }
    save_atomic(state, path)
    opened.say(f"compress: {config.compress.steps} steps on {len(images)} public images in {seconds():.0f} s")


@torch.no_grad()
def latents_of(autoencoder: Autoencoder, images: ImageSet) -> ImageSet:
    """A set with the latents of its images in their place, [num, *latent_shape]; not bounded by [-1, 1].

    Formal guarantee: a record's latents are a function of that record and public weights; they are a record's own, up
    to float32 rounding of a batch, and so fit for a row.
    """
    device = autoencoder.decoder.centre.device
    latents = [autoencoder.encode(part.to(device)).cpu() for part in images.images.split(IMAGES_AT_ONCE)]
    return replace(images, images=torch.cat(latents))
