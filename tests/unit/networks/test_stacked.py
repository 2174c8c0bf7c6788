import pytest
import torch

from dpsad.diffusion.denoiser import Denoiser
from dpsad.networks.stacked import Stacked

KINDS = [{"kind": "unet"}, {"kind": "transformer", "patch": 2}]


@pytest.mark.parametrize("shape", KINDS)
def test_each_network_answers_for_its_own_part_alone(make_denoiser, perturbed, rng, shape):
    networks = [perturbed(make_denoiser(**shape), 0.1 * index) for index in range(3)]
    batch = torch.randn(6, 1, 6, 6, generator=rng), torch.rand(6, generator=rng), torch.arange(6) % 3
    together = Stacked(networks)(*batch)
    alone = [network(*(part[2 * k : 2 * k + 2] for part in batch)) for k, network in enumerate(networks)]
    torch.testing.assert_close(together, torch.cat(alone))
    some = Stacked(networks)(*(part[:4] for part in batch), chosen=torch.tensor([2, 0]))
    expected = [networks[2](*(part[:2] for part in batch)), networks[0](*(part[2:4] for part in batch))]
    torch.testing.assert_close(some, torch.cat(expected))


@pytest.mark.parametrize("shape", KINDS)
def test_training_one_part_moves_one_network(make_denoiser, rng, shape):
    denoiser = Denoiser(Stacked([make_denoiser(**shape).network for _ in range(3)]))
    x = torch.randn(6, 1, 6, 6, generator=rng)
    denoiser(x, torch.full((6,), 0.5), torch.zeros(6, dtype=torch.int64))[2:4].square().sum().backward()
    for parameter in denoiser.parameters():
        assert not parameter.grad[0].any()
        assert not parameter.grad[2].any()
    assert all(parameter.grad[1].any() for parameter in denoiser.parameters())


def test_weights_can_be_saved_and_read_back(make_denoiser, perturbed):
    first, second = Stacked([make_denoiser()] * 2), Stacked([perturbed(make_denoiser())] * 2)
    second.load_state_dict(first.state_dict())
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
