"""Trained denoisers on disk, with what it takes to use them in another run."""

from pathlib import Path

from dpsad import build
from dpsad.checkpoint import load
from dpsad.config import Config
from dpsad.config_files import flatten
from dpsad.diffusion.denoiser import Denoiser
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.provenance import Provenance
from dpsad.sketching import Subject


def denoiser_state(
    denoiser: Denoiser, config: Config, provenance: Provenance, subject: Subject, *, parameterisation: str = "edm"
) -> dict:
    """A denoiser as plain data, to be saved under private/."""
    return {
        "model": denoiser.state_dict(),
        "provenance": provenance.value,
        "network": flatten(config.network),
        "parameterisation": parameterisation,
        "subject": subject.state_dict(),
    }


def read_denoiser(
    path: Path, config: Config, *, parameterisation: str = "edm"
) -> tuple[Denoiser, Provenance, Subject, dict]:
    """Loads a denoiser on the run's device.

    Returns:
        The denoiser, what it has seen, what its images are of, and all that the file holds.

    Raises:
        ValueError: it has another shape than `network` says, or predicts something else.
    """
    saved = load(path, map_location=build.device_of(config))
    # files from before there were these keys
    saved = {"parameterisation": "edm", **saved, "network": {**flatten(NetworkConfig()), **saved["network"]}}
    for key, here in (("network", flatten(config.network)), ("parameterisation", parameterisation)):
        if saved[key] != here:
            raise ValueError(
                f"the denoiser at {path} was built with {key}={saved[key]}, this run has {here}; give the run the "
                "same, or train another"
            )
    subject = Subject.from_dict(saved["subject"])
    num_classes = len(subject.class_names)
    denoiser = build.build_denoiser(
        config, subject.image_shape, num_classes, "teach", parameterisation=parameterisation
    )
    denoiser.load_state_dict(saved["model"])
    return denoiser, Provenance(saved["provenance"]), subject, saved
