import pytest
import torch

from dpsad import build
from dpsad.checkpoint import save_atomic
from dpsad.config import Config
from dpsad.denoiser_files import denoiser_state, read_denoiser
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.provenance import Provenance
from dpsad.sketching import Subject

SUBJECT = Subject((1, 8, 8), ("a", "b"))


def test_a_denoiser_comes_back_also_from_before_its_shape_had_all_its_keys(tmp_path):
    config = Config(device="cpu", network=NetworkConfig(channels=8, multipliers=(1,)))
    denoiser = build.build_denoiser(config, (1, 8, 8), 2, "test")
    state = denoiser_state(denoiser, config, Provenance.PUBLIC, SUBJECT)
    for key in ("kind", "attention_levels", "label_tokens"):
        del state["network"][key]
    del state["parameterisation"]
    save_atomic(state, tmp_path / "denoiser.pt")
    found, provenance, subject, _ = read_denoiser(tmp_path / "denoiser.pt", config)
    assert (provenance, subject) == (Provenance.PUBLIC, SUBJECT)
    assert all(torch.equal(weight, found.state_dict()[name]) for name, weight in denoiser.state_dict().items())
    for shape in ({"multipliers": (1,), "attention_levels": (0,)}, {"kind": "transformer"}):
        other = Config(device="cpu", network=NetworkConfig(channels=8, **shape))
        with pytest.raises(ValueError, match="was built with network="):
            read_denoiser(tmp_path / "denoiser.pt", other)


def test_a_transformer_comes_back_and_is_not_taken_for_a_u_net(tmp_path):
    config = Config(device="cpu", network=NetworkConfig(kind="transformer", channels=8))
    denoiser = build.build_denoiser(config, (1, 8, 8), 2, "test")
    save_atomic(denoiser_state(denoiser, config, Provenance.PUBLIC, SUBJECT), tmp_path / "denoiser.pt")
    found, *_ = read_denoiser(tmp_path / "denoiser.pt", config)
    assert all(torch.equal(weight, found.state_dict()[name]) for name, weight in denoiser.state_dict().items())
    with pytest.raises(ValueError, match=r"was built with network=.*transformer"):
        read_denoiser(tmp_path / "denoiser.pt", Config(device="cpu", network=NetworkConfig(channels=8)))
