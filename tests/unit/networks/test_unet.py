import pytest
import torch
from torch import nn

from dpsad.networks.config import NetworkConfig
from dpsad.networks.layers import Attention
from dpsad.networks.unet import UNet


@pytest.fixture
def make_unet(perturbed):
    def make(*, image_channels=1, **shape):
        return perturbed(UNet(NetworkConfig(channels=8, **shape), image_channels=image_channels, num_classes=3))

    return make


TOKENS = {"attention_levels": (0, 1), "label_tokens": 3}


def inputs(rng, batch, chan, height, width):
    x = torch.randn(batch, chan, height, width, generator=rng)
    return x, torch.linspace(-1.5, 1.5, batch), torch.arange(batch) % 4


@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 28), (32, 32), (64, 64), (9, 7), (1, 5)])
@pytest.mark.parametrize(
    "shape",
    [{}, {"patch": 2}, {"multipliers": (1, 2, 2), "attention": True}, {"blocks": 2}, {"blocks": 2, **TOKENS}],
)
@pytest.mark.parametrize("chan", [1, 3])
def test_output_has_the_image_s_shape(make_unet, rng, height, width, shape, chan):
    answer = make_unet(image_channels=chan, **shape)(*inputs(rng, 2, chan, height, width))
    assert answer.shape == (2, chan, height, width)
    assert answer.isfinite().all()


@pytest.mark.parametrize("shape", [{}, {"patch": 2, "attention": True}, TOKENS])
def test_examples_do_not_see_each_other(make_unet, rng, shape):
    unet = make_unet(**shape)
    x, level, labels = inputs(rng, 4, 1, 9, 7)
    before = unet(x, level, labels)
    others = torch.tensor([True, False, True, True])
    x[others], level[others], labels[others] = 50.0, 1.9, 3
    after = unet(x, level, labels)
    torch.testing.assert_close(after[1], before[1], rtol=1e-4, atol=1e-5)
    assert (after[0] - before[0]).abs().max() > 0.1


def test_nothing_in_it_mixes_a_batch(make_unet):
    mixing = nn.modules.batchnorm._NormBase
    assert not any(isinstance(module, mixing) for module in make_unet(attention=True).modules())


@pytest.mark.parametrize("shape", [{"patch": 2, "attention": True}, {"attention": True, **TOKENS}])
def test_every_parameter_and_every_input_matters(make_unet, rng, shape):
    """Labels, "no label", noise level and pixels; and no layer is left out of the forward pass."""
    unet = make_unet(**shape)
    x, level, _ = inputs(rng, 4, 1, 8, 8)
    x, level = x[:1].expand(4, -1, -1, -1), level[:1].expand(4)
    by_label = unet(x, level, torch.arange(4))
    by_level = unet(x, torch.linspace(-2, 2, 4), torch.zeros(4).long())
    for answers in (by_label, by_level):
        assert (answers[:, None] - answers[None]).abs().amax(dim=(2, 3, 4)).add(torch.eye(4)).min() > 1e-3
    by_label.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in unet.parameters())


def test_it_starts_at_zero():
    """So that a new denoiser answers with its preconditioned input alone."""
    unet = UNet(NetworkConfig(channels=8, attention=True), image_channels=1, num_classes=3)
    assert not unet(torch.ones(1, 1, 8, 8), torch.zeros(1), torch.zeros(1).long()).any()


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"channels": 0}, "channels"),
        ({"blocks": 0}, "blocks"),
        ({"patch": 0}, "patch"),
        ({"multipliers": ()}, "mult"),
        ({"attention_levels": (2,)}, "attention_levels"),
        ({"attention_levels": (-1,)}, "attention_levels"),
        ({"label_tokens": -1}, "label_tokens"),
        ({"label_spread": -1.0}, r"label_spread=-1\.0 must be in"),
        ({"label_tokens": 2}, "label_tokens=2 needs attention"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused_by_key(wrong, key):
    with pytest.raises(ValueError, match=rf"network\.{key}"):
        NetworkConfig(**wrong)


def test_a_network_without_labels_takes_every_label_for_none(rng):
    """Same weights, same names; the answer is the one that the network with labels gives to "no label"."""
    config = NetworkConfig(channels=8)
    told, untold = (UNet(config, image_channels=1, num_classes=3, use_labels=use) for use in (True, False))
    weights = {name: torch.randn(w.shape, generator=rng) * 0.1 for name, w in told.state_dict().items()}
    told.load_state_dict(weights)
    untold.load_state_dict(weights)
    x, level, labels = inputs(rng, 4, 1, 8, 8)
    answer = untold(x, level, labels)
    assert torch.equal(answer, told(x, level, torch.full_like(labels, 3)))
    assert torch.equal(answer, untold(x, level, torch.full_like(labels, -1)))
    assert not torch.allclose(answer, told(x, level, labels))


def test_attention_weighs_a_label_s_tokens_beside_all_positions(perturbed, rng):
    """Compared with a softmax written out, one position, head and example at a time."""
    layer = perturbed(Attention(6, token_dim=5, head_channels=3), scale=0.5)
    x, tokens = torch.randn(2, 6, 2, 3, generator=rng), torch.randn(2, 4, 5, generator=rng)
    answer = layer(x, tokens)
    for example in range(2):
        places = layer.norm(x)[example].flatten(1).T  # [place, chan]
        query, key, value = (places @ layer.query_key_value.weight.flatten(1).T + layer.query_key_value.bias).chunk(
            3, 1
        )
        token_key, token_value = layer.token_key_value(tokens[example]).chunk(2, dim=1)
        keys, values = torch.cat([key, token_key]), torch.cat([value, token_value])
        mixed = torch.empty(6, 6)
        for place in range(6):
            for head in (slice(0, 3), slice(3, 6)):
                weights = torch.stack([query[place, head] @ one[head] / 3**0.5 for one in keys]).softmax(0)
                mixed[place, head] = weights @ values[:, head]
        expected = (mixed @ layer.project.weight.flatten(1).T + layer.project.bias).T.reshape(6, 2, 3)
        torch.testing.assert_close(answer[example], x[example] + expected, rtol=1e-5, atol=1e-5)


def test_a_label_reaches_attention_through_its_tokens(make_unet, rng):
    """With the label's other way in cut off, the answer still depends on it, and only by the tokens."""
    unet = make_unet(**TOKENS)
    x, level, _ = inputs(rng, 4, 1, 8, 8)
    x, level = x[:1].expand(4, -1, -1, -1), level[:1].expand(4)
    with torch.no_grad():
        unet.embed_label.weight.zero_()
    by_label = unet(x, level, torch.arange(4))
    assert (by_label[:, None] - by_label[None]).abs().amax(dim=(2, 3, 4)).add(torch.eye(4)).min() > 1e-3
    with torch.no_grad():
        unet.embed_tokens.weight.zero_()
    assert torch.allclose(*unet(x, level, torch.arange(4))[:2])


def test_label_spread_is_that_of_first_label_weights_and_of_no_others():
    """11 x 64 and 11 x 96 normal numbers: their standard deviations are off by 12 % less than once in 10,000 times."""
    shape = {"channels": 32, "attention_levels": (0,), "label_tokens": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = UNet(NetworkConfig(**shape), image_channels=1, num_classes=10)
        torch.manual_seed(0)
        spread = UNet(NetworkConfig(**shape, label_spread=2.0), image_channels=1, num_classes=10)
    told = (spread.embed_label.weight, spread.embed_tokens.weight)
    assert [weight.std().item() for weight in told] == pytest.approx([2.0, 2.0], rel=0.12)
    assert plain.embed_label.weight.abs().max() < 1 / 11**0.5
    assert spread.embed_out.weight.std().item() == pytest.approx(plain.embed_out.weight.std().item(), rel=0.1)
