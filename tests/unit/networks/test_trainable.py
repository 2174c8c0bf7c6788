import copy

import pytest
import torch

from dpsad.diffusion.denoiser import denoising_loss
from dpsad.networks.config import NetworkConfig
from dpsad.networks.trainable import (
    FineTuneConfig,
    merge_low_rank,
    train_all,
    train_attention,
    train_low_rank,
    trainable_fraction,
)
from dpsad.networks.unet import UNet

SHAPE = {"attention": True, "attention_levels": (0, 1), "label_tokens": 3}
PRESET = NetworkConfig(channels=48, multipliers=(1, 2), attention_levels=(0, 1), label_tokens=4)


@pytest.fixture
def loss_of(rng):
    x, noise = torch.randn(4, 1, 6, 6, generator=rng), torch.randn(4, 1, 6, 6, generator=rng)
    labels, sigma = torch.tensor([0, 1, 2, 3]), torch.linspace(0.2, 2, 4)
    return lambda denoiser: denoising_loss(denoiser, x, sigma, noise, labels).sum()


def stepped(denoiser, loss_of):
    """Names of the parameters that a step of SGD moves; frozen ones are left alone."""
    before = {name: parameter.detach().clone() for name, parameter in denoiser.named_parameters()}
    loss_of(denoiser).backward()
    torch.optim.SGD(denoiser.parameters(), lr=0.1).step()
    return {name for name, parameter in denoiser.named_parameters() if not torch.equal(parameter, before[name])}


def test_attention_and_the_label_s_embeddings_move_and_nothing_else(make_denoiser, loss_of):
    denoiser = make_denoiser(**SHAPE)
    train_attention(denoiser)
    moved = stepped(denoiser, loss_of)
    names = {name for name, _ in denoiser.named_parameters()}
    assert moved == {name for name in names if "attend." in name or "embed_label" in name or "embed_tokens" in name}
    assert len(moved) == 2 + 5 * 6, "two embeddings; five attentions of three layers, each a weight and a bias"


def test_all_trains_all(make_denoiser, loss_of):
    denoiser = make_denoiser(**SHAPE)
    train_attention(denoiser)
    train_all(denoiser)
    assert stepped(denoiser, loss_of) == {name for name, _ in denoiser.named_parameters()}
    assert trainable_fraction(denoiser) == 1


@pytest.mark.parametrize(
    ("choose", "low", "high"), [(train_attention, 0.05, 0.15), (lambda m: train_low_rank(m, 4), 0.005, 0.05)]
)
def test_a_small_part_of_the_preset_s_network_trains(choose, low, high):
    network = UNet(PRESET, image_channels=4, num_classes=10)
    choose(network)
    trains = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert trainable_fraction(network) == trains / sum(parameter.numel() for parameter in network.parameters())
    assert low < trainable_fraction(network) <= high


def test_low_rank_changes_start_at_nothing_and_merge_into_the_ordinary_network(make_denoiser, loss_of, perturbed):
    plain = make_denoiser(**SHAPE)
    denoiser = copy.deepcopy(plain)
    train_low_rank(denoiser, 2)
    assert loss_of(denoiser).item() == pytest.approx(loss_of(plain).item(), rel=1e-6)
    frozen = {name for name, parameter in denoiser.named_parameters() if not parameter.requires_grad}
    assert not stepped(denoiser, loss_of) & frozen
    perturbed(denoiser)
    unmerged = loss_of(denoiser).item()
    assert abs(unmerged - loss_of(plain).item()) > 1e-3
    merge_low_rank(denoiser)
    assert loss_of(denoiser).item() == pytest.approx(unmerged, rel=1e-5)
    plain.load_state_dict(denoiser.state_dict())
    assert loss_of(plain).item() == pytest.approx(unmerged, rel=1e-5)


def test_a_low_rank_change_has_that_rank(make_denoiser, perturbed):
    denoiser = make_denoiser(**SHAPE)
    before = denoiser.network.attend.query_key_value.weight.detach().clone()
    train_low_rank(denoiser, 2)
    change = perturbed(denoiser).network.attend.query_key_value.change()
    assert torch.linalg.matrix_rank(change.flatten(1)) == 2
    frozen = denoiser.network.attend.query_key_value.layer.weight.detach().clone()
    merge_low_rank(denoiser)
    torch.testing.assert_close(denoiser.network.attend.query_key_value.weight, frozen + change)
    assert before.shape == change.shape


@pytest.mark.parametrize("choose", [train_attention, lambda model: train_low_rank(model, 2)])
def test_a_network_without_attention_is_refused(make_denoiser, choose):
    with pytest.raises(ValueError, match=r"no attention to fine-tune; pass network\.attention=true"):
        choose(make_denoiser())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"parameters": "atention"}, "did you mean 'attention'"), ({"rank": 0}, "rank=0 must be in")],
)
def test_settings_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        FineTuneConfig(**wrong)
