import torch

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.methods.public_autoencoder import latents_of
from dpsad.networks.autoencoder import Autoencoder, AutoencoderConfig


def test_a_record_s_latents_do_not_depend_on_the_other_records():
    """They take its image's place in a row; a scale or a centre of all of them would let others in."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = Autoencoder(AutoencoderConfig(channels=4, patch=1), (1, 8, 8))
    records = load_images(DataConfig(), "train").take(torch.arange(20))
    together, few = latents_of(autoencoder, records), latents_of(autoencoder, records.take(torch.arange(3)))
    assert (together.ids, together.provenance) == (records.ids, records.provenance)
    torch.testing.assert_close(together.images[:3], few.images, rtol=1e-4, atol=1e-5)
