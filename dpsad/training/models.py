"""New models on the run's device: the same first weights for the same seed and name."""

from dpsad.data.records import Subject
from dpsad.diffusion.denoiser import Denoiser
from dpsad.networks.autoencoder import Autoencoder, AutoencoderConfig
from dpsad.networks.config import NetworkConfig
from dpsad.networks.network import new_network
from dpsad.runtime.context import Context
from dpsad.runtime.device import on_device
from students.generator import Generator, GeneratorConfig


def new_denoiser(
    config: NetworkConfig,
    subject: Subject,
    context: Context,
    name: str,
    *,
    use_labels: bool = True,
    parameterisation: str = "edm",
) -> Denoiser:
    """A denoiser that has seen nothing."""
    with context.first_weights(name):
        network = new_network(
            config, image_channels=subject.image_shape[0], num_classes=subject.num_classes, use_labels=use_labels
        )
    return on_device(Denoiser(network, parameterisation=parameterisation), context.device)


def new_autoencoder(config: AutoencoderConfig, image_shape: tuple[int, int, int], context: Context) -> Autoencoder:
    """An autoencoder that has seen nothing."""
    with context.first_weights("compress"):
        autoencoder = Autoencoder(config, image_shape)
    return on_device(autoencoder, context.device)


def new_generator(config: GeneratorConfig, subject: Subject, context: Context) -> Generator:
    """A one-pass generator that has seen nothing."""
    with context.first_weights("generator"):
        generator = Generator(config, image_shape=subject.image_shape, num_classes=subject.num_classes)
    return on_device(generator, context.device)
