"""Files of trained denoisers, with what it takes to use them in another run."""

from pathlib import Path

from dpsad.data.records import Subject
from dpsad.diffusion.denoiser import Denoiser
from dpsad.errors import reading
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.provenance import UNNOTED, Provenance, PublicImages
from dpsad.runtime.checkpoint import load
from dpsad.runtime.config_files import flatten
from dpsad.runtime.context import Context
from dpsad.runtime.finite import require_finite
from dpsad.training.models import new_denoiser


def denoiser_state(
    denoiser: Denoiser, network: NetworkConfig, subject: Subject, *, parameterisation: str = "edm"
) -> dict:
    """A denoiser, its provenance and its public images as plain data, to be saved under private/."""
    return {
        "model": denoiser.state_dict(),
        "provenance": denoiser.provenance.value,
        "public_images": [images.state_dict() for images in denoiser.public_images],
        "network": flatten(network),
        "parameterisation": parameterisation,
        "subject": subject.state_dict(),
    }


def read_denoiser(
    path: Path, network: NetworkConfig, context: Context, *, parameterisation: str = "edm"
) -> tuple[Denoiser, Subject, dict]:
    """Loads a denoiser on the run's device.

    Returns:
        The denoiser, with its provenance and its public images, what its images are of, and all that the file holds.

    Raises:
        ValueError: it holds something else, has another shape than `network` says, predicts something else, or has
            weights that are not finite.
    """
    saved = load(path, map_location=context.device)
    with reading(path):
        # files from before there were these keys
        saved = {"parameterisation": "edm", **saved, "network": {**flatten(NetworkConfig()), **saved["network"]}}
        for key, here in (("network", flatten(network)), ("parameterisation", parameterisation)):
            if saved[key] != here:
                raise ValueError(
                    f"the denoiser at {path} was built with {key}={saved[key]}, this run has {here}; give the run the "
                    "same, or train another"
                )
        subject = Subject.from_dict(saved["subject"])
        denoiser = new_denoiser(network, subject, context, "teach", parameterisation=parameterisation)
        denoiser.load_state_dict(saved["model"])
        require_finite(f"the denoiser at {path}", denoiser, "train another with a lower learning rate")
        denoiser.provenance, denoiser.public_images = Provenance(saved["provenance"]), public_images_in_file(saved)
    return denoiser, subject, saved


def public_images_in_file(saved: dict) -> tuple[PublicImages, ...]:
    """The public images that the model of a file has learned from; older files of public models do not say which."""
    if "public_images" not in saved:
        return (UNNOTED,) if Provenance(saved["provenance"]) is Provenance.PUBLIC else ()
    return tuple(map(PublicImages.from_dict, saved["public_images"]))
