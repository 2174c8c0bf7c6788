import pytest
import torch

from dpsad.data.records import Subject
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.provenance import Provenance
from dpsad.runtime.checkpoint import save_atomic
from dpsad.training.denoiser_files import denoiser_state, read_denoiser
from dpsad.training.models import new_denoiser

SUBJECT = Subject((1, 8, 8), ("a", "b"))


def test_a_denoiser_comes_back_also_from_before_its_shape_had_all_its_keys(tmp_path, context):
    network = NetworkConfig(channels=8, multipliers=(1,))
    denoiser = new_denoiser(network, SUBJECT, context, "test")
    denoiser.provenance = Provenance.RELEASED
    state = denoiser_state(denoiser, network, SUBJECT)
    for key in ("kind", "attention_levels", "label_tokens"):
        del state["network"][key]
    del state["parameterisation"]
    save_atomic(state, tmp_path / "denoiser.pt")
    found, subject, _ = read_denoiser(tmp_path / "denoiser.pt", network, context)
    assert (found.provenance, subject) == (Provenance.RELEASED, SUBJECT)
    assert all(torch.equal(weight, found.state_dict()[name]) for name, weight in denoiser.state_dict().items())
    for shape in ({"multipliers": (1,), "attention_levels": (0,)}, {"kind": "transformer"}):
        with pytest.raises(ValueError, match="was built with network="):
            read_denoiser(tmp_path / "denoiser.pt", NetworkConfig(channels=8, **shape), context)


def test_a_transformer_comes_back_and_is_not_taken_for_a_u_net(tmp_path, context):
    network = NetworkConfig(kind="transformer", channels=8)
    denoiser = new_denoiser(network, SUBJECT, context, "test")
    save_atomic(denoiser_state(denoiser, network, SUBJECT), tmp_path / "denoiser.pt")
    found, *_ = read_denoiser(tmp_path / "denoiser.pt", network, context)
    assert all(torch.equal(weight, found.state_dict()[name]) for name, weight in denoiser.state_dict().items())
    with pytest.raises(ValueError, match=r"was built with network=.*transformer"):
        read_denoiser(tmp_path / "denoiser.pt", NetworkConfig(channels=8), context)
