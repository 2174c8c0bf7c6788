"""How long dp-sad trains, about, from public numbers alone."""

import math

from dpsad.data.stated import Form
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.networks.config import NetworkConfig

# an image, forward and backward, through the U-Net of 32 channels on 14x14 positions, with one CPU thread
SECONDS_AN_IMAGE = 1.1e-3
CHANNELS, POSITIONS = 32, 14**2
GPU = 200.0  # times as fast; a guess, since no GPU was measured
STUDENT, ROW = 3.0, 1.3  # times as long: with teacher and discriminator, and with a gradient of its own
SMALLEST = 0.4  # of that size; smaller networks are no faster


def seconds_an_image(network: NetworkConfig, form: Form, *, on_gpu: bool) -> float:
    """Of training, forward and backward."""
    positions = math.prod(math.ceil(side / network.patch) for side in form.image_shape[1:])
    size = positions / POSITIONS * (network.channels / CHANNELS) ** 2 * network.blocks
    return SECONDS_AN_IMAGE * max(SMALLEST, size) / (GPU if on_gpu else 1.0)


def minutes_of(settings: DpSadSettings, form: Form, *, on_gpu: bool) -> float:
    """Of teacher, student, refinement and shortening together."""
    teacher, student, refine, shorten = settings.teacher, settings.student, settings.refine, settings.shorten
    images = teacher.steps * teacher.batch_size + STUDENT * student.steps * student.batch_size
    images += ROW * refine.steps * refine.batch_size * refine.noise_multiplicity
    images += shorten.steps * shorten.batch_size * shorten.evaluations
    return images * seconds_an_image(settings.network, form, on_gpu=on_gpu) / 60
