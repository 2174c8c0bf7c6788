import pytest
import torch
from torch import nn

from dpsad.networks.autoencoder import LATENT_SCALE, Autoencoder, AutoencoderConfig


def make(image_shape, **shape):
    torch.manual_seed(0)
    return Autoencoder(AutoencoderConfig(channels=8, **shape), image_shape)


@pytest.mark.parametrize(
    ("image_shape", "shape", "latent_shape"),
    [
        ((1, 28, 28), {}, (4, 7, 7)),
        ((3, 32, 32), {}, (4, 8, 8)),
        ((1, 8, 8), {"patch": 1}, (4, 4, 4)),
        ((3, 9, 7), {"latent_channels": 3}, (3, 3, 2)),
        ((1, 32, 32), {"multipliers": (1, 2, 2)}, (4, 4, 4)),
        ((1, 28, 28), {"patch": 1, "multipliers": (1,)}, (4, 28, 28)),
    ],
)
def test_images_become_latents_of_the_announced_shape_and_images_again(rng, image_shape, shape, latent_shape):
    autoencoder = make(image_shape, **shape)
    images = torch.rand(2, *image_shape, generator=rng) * 2 - 1
    latents = autoencoder.encode(images)
    assert latents.shape == (2, *latent_shape) == (2, *autoencoder.decoder.latent_shape)
    assert autoencoder.decode(latents).shape == images.shape


def test_an_image_s_latents_are_its_own(rng):
    """Others in the batch change nothing, and nothing in it mixes a batch."""
    autoencoder = make((1, 12, 12))
    images = torch.rand(3, 1, 12, 12, generator=rng) * 2 - 1
    before = autoencoder.encode(images)
    images[[0, 2]] = -1
    torch.testing.assert_close(autoencoder.encode(images)[1], before[1], rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase) for module in autoencoder.modules())


def test_standardised_latents_have_the_denoiser_s_spread_and_decode_the_same(rng):
    autoencoder = make((1, 12, 12))
    images = torch.rand(50, 1, 12, 12, generator=rng) * 2 - 1
    before = autoencoder.decode(autoencoder.encode(images))
    autoencoder.standardise(images)
    latents = autoencoder.encode(images)
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.full((4,), LATENT_SCALE), rtol=1e-4, atol=0)
    torch.testing.assert_close(autoencoder.decode(latents), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "key"), [({"channels": 0}, "channels"), ({"patch": 0}, "patch"), ({"multipliers": ()}, "multipliers")]
)
def test_a_shape_that_cannot_be_built_is_refused_by_key(wrong, key):
    with pytest.raises(ValueError, match=rf"autoencoder\.{key}"):
        AutoencoderConfig(**wrong)
