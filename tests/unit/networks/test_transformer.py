import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dpsad.api.config import Config
from dpsad.data.records import Subject
from dpsad.diffusion.denoiser import Denoiser, denoising_loss
from dpsad.methods.dp_sad.shard_teachers import new_shard_networks
from dpsad.networks import transformer
from dpsad.networks.config import CHECKS, NetworkConfig
from dpsad.networks.layers import TokenAttention, attended
from dpsad.networks.network import NETWORKS, new_network
from dpsad.networks.trainable import merge_low_rank, train_attention, train_low_rank
from dpsad.networks.transformer import Transformer, TransformerBlock, position_code
from dpsad.networks.unet import UNet
from dpsad.privacy.per_example_gradients import per_example_gradients, trainable_parameters
from dpsad.release.export import export_release, load_student
from dpsad.release.students import Releasable, ReleaseConfig
from dpsad.runtime.config_files import load_config, save_config
from dpsad.training.models import new_denoiser


def new_transformer(*, image_channels=1, use_labels=True, channels=16, **shape):
    config = NetworkConfig(kind="transformer", channels=channels, **shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same whatever tests ran before
        return new_network(config, image_channels=image_channels, num_classes=3, use_labels=use_labels)


@pytest.fixture
def make_transformer(perturbed):
    return lambda **shape: perturbed(new_transformer(**shape))


def inputs(rng, batch, chan, height, width):
    x = torch.randn(batch, chan, height, width, generator=rng)
    return x, torch.linspace(-1.5, 1.5, batch), torch.arange(batch) % 4


def apart(answers):
    """The least, over pairs of answers, of how far they are apart in the pixel where they are farthest."""
    return (answers[:, None] - answers[None]).abs().amax(dim=(2, 3, 4)).fill_diagonal_(math.inf).min()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (28, 28), (9, 7), (1, 5)])
@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("chan", [1, 3])
def test_output_has_the_image_s_shape(make_transformer, rng, height, width, patch, chan):
    answer = make_transformer(image_channels=chan, patch=patch)(*inputs(rng, 2, chan, height, width))
    assert answer.shape == (2, chan, height, width)
    assert answer.isfinite().all()


def test_a_size_that_is_no_multiple_of_the_patch_is_padded_with_its_own_edge(make_transformer, rng):
    """Compared with the whole answer to an image that was padded before, by hand."""
    network, (x, level, labels) = make_transformer(patch=4), inputs(rng, 2, 1, 9, 7)
    padded = torch.cat([x, x[..., -1:]], dim=3)
    padded = torch.cat([padded, *[padded[..., -1:, :]] * 3], dim=2)
    torch.testing.assert_close(network(x, level, labels), network(padded, level, labels)[..., :9, :7])


@pytest.mark.parametrize("patch", [1, 2])
def test_examples_do_not_see_each_other(make_transformer, rng, patch):
    """Up to rounding: torch may sum in another order for other numbers beside."""
    network = make_transformer(patch=patch, blocks=2)
    x, level, labels = inputs(rng, 4, 1, 9, 7)
    before = network(x, level, labels)
    others = torch.tensor([True, False, True, True])
    x[others], level[others], labels[others] = 50.0, 1.9, 3
    after = network(x, level, labels)
    torch.testing.assert_close(after[1], before[1], rtol=1e-4, atol=1e-5)
    assert (after[0] - before[0]).abs().max() > 0.1


def test_linear_layers_alone_hold_weights(make_transformer):
    for module in make_transformer(blocks=2).modules():
        assert isinstance(module, nn.Linear) or not list(module.parameters(recurse=False))


def test_every_parameter_and_every_input_matters(make_transformer, rng):
    """Labels, "no label", noise level and pixels; and no layer is left out of the forward pass."""
    network = make_transformer(patch=2, blocks=2)
    x, level, _ = inputs(rng, 4, 1, 8, 8)
    x, level = x[:1].expand(4, -1, -1, -1), level[:1].expand(4)
    by_label = network(x, level, torch.arange(4))
    assert apart(by_label) > 1e-3
    assert apart(network(x, torch.linspace(-2, 2, 4), torch.zeros(4).long())) > 1e-3
    by_label.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_every_pixel_matters_to_every_pixel(make_transformer, rng):
    """A U-Net of this size sees a few pixels around; attention sees all, in one block."""
    network, (x, level, labels) = make_transformer(patch=2), inputs(rng, 1, 1, 8, 6)
    by_pixel = torch.autograd.functional.jacobian(lambda x: network(x, level, labels), x).reshape(48, 48)
    assert by_pixel.all()


def test_it_starts_at_zero_and_its_blocks_as_the_identity(rng):
    """So that a new denoiser answers with its preconditioned input alone."""
    network = new_transformer(blocks=2)
    assert not network(torch.ones(1, 1, 8, 8), torch.zeros(1), torch.zeros(1).long()).any()
    tokens, embedding = torch.randn(2, 5, 16, generator=rng), torch.randn(2, 16, generator=rng)
    for block in network.blocks:
        assert torch.equal(block(tokens, embedding), tokens)


def test_all_of_it_learns_from_the_first_steps_on(rng):
    """What starts at zero is no dead end: after three steps of SGD every parameter has moved."""
    network, (x, level, labels) = new_transformer(patch=2, blocks=2), inputs(rng, 8, 1, 8, 8)
    before = copy.deepcopy(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (network(x, level, labels) - x).square().mean().backward()
        optimizer.step()
    for (name, one), other in zip(network.named_parameters(), before.parameters(), strict=True):
        assert not torch.equal(one, other), name


def test_a_token_goes_back_to_where_its_pixels_were(rng):
    """Blocks that start as the identity mix nothing: what changes in a patch changes that patch of the answer alone."""
    network = new_transformer(patch=2, image_channels=3)
    nn.init.normal_(network.patches_out.weight, generator=rng)
    x, level, labels = inputs(rng, 1, 3, 8, 6)
    before = network(x, level, labels)
    for row in range(4):
        for column in range(3):
            here = torch.zeros(8, 6, dtype=torch.bool)
            here[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
            change = network(x + here, level, labels) - before
            assert change[..., here].abs().min() > 1e-3
            assert change[..., ~here].abs().max() < 1e-5


def test_without_position_a_moved_patch_moves_its_answer_and_with_it_not(make_transformer, rng, monkeypatch):
    network, (x, level, labels) = make_transformer(patch=2), inputs(rng, 2, 1, 8, 8)
    moved = x.roll((2, 4), dims=(2, 3))
    difference = network(moved, level, labels) - network(x, level, labels).roll((2, 4), dims=(2, 3))
    assert difference.abs().amax(dim=(1, 2, 3)).min() > 0.05
    monkeypatch.setattr(transformer, "position_code", lambda *args: torch.zeros(()))
    torch.testing.assert_close(network(moved, level, labels), network(x, level, labels).roll((2, 4), dims=(2, 3)))


def test_a_position_s_code_is_the_published_one_of_its_row_and_its_column():
    code = position_code(3, 5, 8, torch.device("cpu"))
    assert code.shape == (15, 8)
    for row in range(3):
        for column in range(5):
            expected = [
                wave(at / 1e4 ** (k / 2)) for at in (row, column) for wave in (math.sin, math.cos) for k in (0, 1)
            ]
            torch.testing.assert_close(code[5 * row + column], torch.tensor(expected))


def test_a_block_agrees_with_its_formula_one_token_at_a_time(perturbed, rng):
    """Peebles and Xie 2023, Figure 3, written out, with two heads of 32 channels."""
    torch.manual_seed(0)
    block = perturbed(TransformerBlock(64))
    tokens, embedding = torch.randn(2, 5, 64, generator=rng), torch.randn(2, 64, generator=rng)
    answer = block(tokens, embedding)

    def normed(token):
        return (token - token.mean()) / (token.var(correction=0) + 1e-6).sqrt()

    for example in range(2):
        told = block.modulate(embedding[example]).chunk(6)
        seen = torch.stack([normed(token) * (1 + told[0]) + told[1] for token in tokens[example]])
        query, key, value = block.attend.query_key_value(seen).chunk(3, dim=1)
        for place in range(5):
            mixed = torch.empty(64)
            for head in (slice(0, 32), slice(32, 64)):
                weights = torch.stack([query[place, head] @ one[head] / 32**0.5 for one in key]).softmax(0)
                mixed[head] = weights @ value[:, head]
            middle = tokens[example, place] + told[2] * block.attend.project(mixed)
            wide = F.gelu(block.widen(normed(middle) * (1 + told[3]) + told[4]), approximate="tanh")
            expected = middle + told[5] * block.narrow(wide)
            torch.testing.assert_close(answer[example, place], expected, rtol=1e-4, atol=1e-5)


def test_attention_in_bfloat16_is_near_that_in_float32_and_so_are_its_gradients(rng):
    """Within 2 % of the norm; bfloat16 has 8 bits, and without the scale of products 30 % and more are lost."""
    rounded = [torch.randn(2, 3, 7, 5, generator=rng).bfloat16() for _ in range(3)]
    inexact, exact = ([part.to(dtype).requires_grad_() for part in rounded] for dtype in (torch.bfloat16, torch.float))
    answer, expected = attended(*inexact), attended(*exact)
    assert answer.dtype == torch.bfloat16
    direction = torch.randn(answer.shape, generator=rng)
    pairs = [(answer, expected)]
    pairs += zip(
        torch.autograd.grad(answer, inexact, direction.bfloat16()),
        torch.autograd.grad(expected, exact, direction),
        strict=True,
    )
    for one, other in pairs:
        assert (one.float() - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (32, 1), (64, 2), (96, 3), (100, 2), (148, 4)])
def test_a_width_has_as_many_heads_of_32_channels_as_divide_it(channels, heads, rng):
    attention = TokenAttention(channels)
    assert attention.num_heads == heads
    assert attention(torch.randn(1, 3, channels, generator=rng)).shape == (1, 3, channels)


def test_a_network_without_labels_takes_every_label_for_none(make_transformer, rng):
    """Same weights, same names; the answer is the one that the network with labels gives to "no label"."""
    told, untold = make_transformer(), make_transformer(use_labels=False)
    untold.load_state_dict(told.state_dict())
    x, level, labels = inputs(rng, 4, 1, 8, 8)
    answer = untold(x, level, labels)
    assert torch.equal(answer, told(x, level, torch.full_like(labels, 3)))
    assert torch.equal(answer, untold(x, level, torch.full_like(labels, -1)))
    assert not torch.allclose(answer, told(x, level, labels))


def test_label_spread_is_that_of_first_label_weights_and_of_no_others():
    """4 x 256 normal numbers: their standard deviation is off by 10 % less than once in 100,000 times."""
    plain, spread = (new_transformer(channels=256, label_spread=std) for std in (0.0, 2.0))
    assert spread.embed_label.weight.std().item() == pytest.approx(2.0, rel=0.1)
    assert plain.embed_label.weight.abs().max() < 1 / 4**0.5
    assert spread.embed_out.weight.std().item() == pytest.approx(plain.embed_out.weight.std().item(), rel=0.1)


# what a denoiser's gradients are taken of


@pytest.fixture
def batch(rng):
    """(images, sigma, noise, labels) of 4 examples in 3 views each, first one view of all."""
    images = torch.randn(4, 1, 7, 6, generator=rng).repeat(3, 1, 1, 1)
    labels = torch.tensor([0, 1, 3, 1]).repeat(3)
    return images, torch.linspace(0.1, 3, 12), torch.randn(12, 1, 7, 6, generator=rng), labels


@pytest.mark.parametrize("shape", [{"patch": 2, "blocks": 2}, {"channels": 64}])
@pytest.mark.parametrize(
    "choose",
    [lambda model: None, train_attention, lambda model: train_low_rank(model, 2)],
    ids=["all", "attend", "lora"],
)
def test_rows_agree_with_a_loop_over_examples(make_denoiser, perturbed, batch, shape, choose):
    """Within 1e-5 of each row's norm."""
    denoiser = make_denoiser(kind="transformer", **{"channels": 8, **shape})
    choose(denoiser)
    perturbed(denoiser)
    rows = torch.cat(per_example_gradients(denoiser, lambda: denoising_loss(denoiser, *batch), 4).parts, dim=1)
    for example in range(4):
        loss = denoising_loss(denoiser, *(part[example::4] for part in batch)).sum()
        expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, trainable_parameters(denoiser))])
        assert (rows[example] - expected).norm() <= 1e-5 * expected.norm()


def test_attention_and_the_label_s_embedding_move_and_nothing_else(make_denoiser, batch):
    denoiser = make_denoiser(kind="transformer", blocks=2)
    train_attention(denoiser)
    before = {name: parameter.detach().clone() for name, parameter in denoiser.named_parameters()}
    denoising_loss(denoiser, *batch).sum().backward()
    torch.optim.SGD(denoiser.parameters(), lr=0.1).step()
    moved = {name for name, parameter in denoiser.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {name for name in before if ".attend." in name or "embed_label" in name}
    assert len(moved) == 1 + 2 * 4, "an embedding; two attentions of two layers, each a weight and a bias"


def test_low_rank_changes_start_at_nothing_and_merge_into_the_ordinary_network(make_denoiser, batch, perturbed):
    plain = make_denoiser(kind="transformer", blocks=2)
    denoiser = copy.deepcopy(plain)
    train_low_rank(denoiser, 2)
    torch.testing.assert_close(denoising_loss(denoiser, *batch), denoising_loss(plain, *batch))
    unmerged = denoising_loss(perturbed(denoiser), *batch)
    assert (unmerged - denoising_loss(plain, *batch)).abs().min() > 1e-3
    merge_low_rank(denoiser)
    plain.load_state_dict(denoiser.state_dict())
    torch.testing.assert_close(denoising_loss(plain, *batch), unmerged)


# its config


def test_a_kind_s_name_makes_that_network():
    assert NETWORKS.keys() == CHECKS.keys()
    assert type(new_network(NetworkConfig(), image_channels=1, num_classes=3)) is UNet
    assert type(new_transformer()) is Transformer


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "transfomer"}, r"network\.kind='transfomer' must be one of .*; did you mean 'transformer'"),
        ({"channels": 30}, r"network\.channels=30 must be a multiple of 4"),
        ({"blocks": 0}, r"network\.blocks=0 must be in"),
        ({"multipliers": (1, 2, 2)}, r"network\.multipliers=\[1,2,2\] .*; .* pass network\.multipliers=\[1,2\]"),
        ({"attention": True}, r"network\.attention=true .* pass network\.attention=false"),
        ({"attention_levels": (0,)}, r"network\.attention_levels=\[0\] .* pass network\.attention_levels=\[\]"),
        ({"label_tokens": 2}, r"network\.label_tokens=2 .* pass network\.label_tokens=0"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused_by_key(wrong, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**{"kind": "transformer", **wrong})


def test_the_command_line_chooses_it_and_files_without_a_kind_mean_a_u_net(tmp_path):
    (tmp_path / "old.yaml").write_text("network: {channels: 24, multipliers: [1, 2, 2]}", encoding="utf-8")
    old = load_config(Config, base=tmp_path / "old.yaml", overrides=())
    assert old.network == NetworkConfig(kind="unet", channels=24, multipliers=(1, 2, 2))
    chosen = ("network.kind=transformer", "network.multipliers=[1,2]")
    new = load_config(Config, base=tmp_path / "old.yaml", overrides=chosen)
    assert new.network == NetworkConfig(kind="transformer", channels=24)
    save_config(new, tmp_path / "new.yaml")
    assert load_config(Config, base=tmp_path / "new.yaml", overrides=()) == new


def test_runs_and_their_shards_build_it(context):
    chosen = ("network.kind=transformer", "shards.network.kind=transformer", "shards.num_shards=2")
    config, subject = load_config(Config, base=None, overrides=chosen), Subject((1, 8, 8), ("a", "b", "c"))
    assert type(new_denoiser(config.network, subject, context, "test").network) is Transformer
    stacked, alone = new_shard_networks(config.shards, subject, context), new_transformer(patch=2)
    assert stacked.weights().keys() == {name for name, _ in (*alone.named_parameters(), *alone.named_buffers())}


def test_a_released_one_comes_back(tmp_path, make_denoiser):
    shape = {"kind": "transformer", "channels": 8, "patch": 2}
    config = ReleaseConfig(image_shape=(1, 6, 6), class_names=("a", "b", "c"), network=NetworkConfig(**shape))
    made = Releasable(Denoiser(make_denoiser(**shape).network), config)
    statement = {
        "formal": True,
        "epsilon": 1.0,
        "delta": 1e-5,
        "not_covered": [],
        "method": "m",
        "guarantee": "records",
        "events": [],
        "reasons": [],
    }
    export_release(tmp_path / "release", made, statement)
    labels, seeds = torch.tensor([0, 2]), [1, 2]
    assert torch.equal(load_student(tmp_path).sample(labels, seeds), made.student().sample(labels, seeds))
