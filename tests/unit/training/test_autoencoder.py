import json
from functools import partial

import pytest
import torch

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.networks.autoencoder import LATENT_SCALE, Autoencoder, AutoencoderConfig
from dpsad.privacy.provenance import Provenance
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.log import Log
from dpsad.runtime.run_folder import open_run
from dpsad.training.autoencoder import CompressConfig, train_autoencoder
from dpsad.training.batches import Batches


def draw_from(images, num, rng):
    index = torch.randint(len(images), (num,), generator=rng)
    return images[index], torch.zeros(num).long()


@pytest.fixture(scope="module")
def digits():
    return load_images(DataConfig(limit=300), "train").images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compress")


@pytest.fixture(scope="module")
def trained(folder, digits):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = Autoencoder(AutoencoderConfig(channels=8, patch=1), (1, 8, 8))
    return train_autoencoder(
        CompressConfig(steps=150, batch_size=32, ema_half_life_images=500),
        autoencoder=autoencoder,
        batches=Batches(Provenance.PUBLIC, partial(draw_from, digits)),
        rng=torch.Generator().manual_seed(0),
        checkpoint=Checkpoint(folder / "checkpoint"),
        log=Log(open_run(folder / "run", CompressConfig()), "compress"),
        precision="float32",
    )


def test_it_learns_to_bring_images_back(trained, digits, folder):
    """The error falls from step to step, and to a third of what the mean image leaves."""
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    errors = [json.loads(line)["squared_error"] for line in lines]
    assert errors[0] > errors[1] > errors[2]
    with torch.no_grad():
        left = (trained.decode(trained.encode(digits)) - digits).square().mean().item()
    assert left < digits.var(dim=0).mean().item() / 3


def test_its_latents_have_the_denoiser_s_spread(trained, digits):
    with torch.no_grad():
        latents = trained.encode(digits)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.full((4,), LATENT_SCALE), rtol=0.1, atol=0)
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 0.1


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0}, {"kl_weight": -1}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=f"compress.{next(iter(wrong))}"):
        CompressConfig(**wrong)
