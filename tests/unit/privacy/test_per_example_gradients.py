import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from dpsad.diffusion.denoiser import denoising_loss
from dpsad.networks.trainable import train_attention, train_low_rank
from dpsad.privacy.per_example_gradients import per_example_gradients, set_gradients, trainable_parameters


class Twice(nn.Module):
    """Uses one convolution and one linear layer twice, one of them strided, padded and dilated elsewhere."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.down = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(4, 4, 3, padding=2, dilation=2, bias=False)
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        h = self.conv(self.conv(x).tanh())
        h = self.wide(self.down(h).tanh()).mean(dim=(2, 3))
        return self.linear(self.linear(h).tanh())


def loop(model, loss_of, num):
    """Row i by an own backward pass for example i."""
    rows = []
    for index in range(num):
        gradients = torch.autograd.grad(loss_of(index), trainable_parameters(model), allow_unused=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


def assert_same(rows, expected):
    """Within 1e-5 of each row's norm."""
    joined = torch.cat(rows.parts, dim=1)
    assert joined.shape == expected.shape
    assert ((joined - expected).norm(dim=1) <= 1e-5 * expected.norm(dim=1)).all()


@pytest.fixture
def batch(rng):
    """(images, sigma, noise, labels) of 4 examples in 3 views each, first one view of all."""
    images = torch.randn(4, 1, 7, 6, generator=rng).repeat(3, 1, 1, 1)
    labels = torch.tensor([0, 1, 2, 1]).repeat(3)
    return images, torch.linspace(0.1, 3, 12), torch.randn(12, 1, 7, 6, generator=rng), labels


def unet_rows(denoiser, batch, num=4):
    return per_example_gradients(denoiser, lambda: denoising_loss(denoiser, *batch), num)


SHAPES = [{"attention": True}, {"patch": 2, "blocks": 2}, {"attention_levels": (0, 1), "label_tokens": 3}]


@pytest.mark.parametrize("shape", SHAPES)
def test_unet_rows_agree_with_a_loop_over_examples(make_denoiser, batch, shape):
    denoiser = make_denoiser(**shape)
    expected = loop(denoiser, lambda i: denoising_loss(denoiser, *(part[i::4] for part in batch)).sum(), 4)
    assert_same(unet_rows(denoiser, batch), expected)


class Functional(nn.Module):
    """Puts a denoiser's loss where `functional_call` wants it."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, *batch):
        return denoising_loss(self.denoiser, *batch).mean()


SHAPES = [{"attention": True}, {"patch": 2, "blocks": 2}, {"attention_levels": (0, 1), "label_tokens": 3}]


@pytest.mark.parametrize("shape", SHAPES)
def test_unet_rows_agree_with_vmapped_gradients(make_denoiser, batch, shape, monkeypatch):
    """Golden: torch.func, on the mean over the three views of each example."""
    # torch's own asks for the largest label, which vmap cannot answer
    monkeypatch.setattr(torch.nn.functional, "one_hot", lambda labels, num: (labels[:, None] == torch.arange(num)) * 1)
    denoiser = make_denoiser(**shape)
    model = Functional(denoiser)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters, *views):
        return functional_call(model, parameters, views)

    by_example = [part.unflatten(0, (3, 4)).transpose(0, 1) for part in batch]
    gradients = vmap(grad(loss), in_dims=(None, 0, 0, 0, 0))(parameters, *by_example)
    rows = per_example_gradients(denoiser, lambda: denoising_loss(denoiser, *batch) / 3, 4)
    assert_same(rows, torch.cat([gradients[name].flatten(1) for name in parameters], dim=1))


def test_rows_in_bfloat16_are_near_those_in_float32(make_denoiser, batch):
    """Within 10 % of each row's norm, where a wrong view order or a lost layer is off by more than half of it."""
    denoiser = make_denoiser(patch=2)

    def in_bfloat16():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return denoising_loss(denoiser, *batch)

    exact = torch.cat(unet_rows(denoiser, batch).parts, dim=1)
    rows = torch.cat([part.float() for part in per_example_gradients(denoiser, in_bfloat16, 4).parts], dim=1)
    assert ((rows - exact).norm(dim=1) < 0.1 * exact.norm(dim=1)).all()
    assert ((rows.roll(1, 0) - exact).norm(dim=1) > 0.5 * exact.norm(dim=1)).all()


def test_layers_used_twice_strided_and_dilated_agree_with_a_loop(rng):
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(5, 2, 9, 8, generator=rng)
    expected = loop(model, lambda i: model(x[i : i + 1]).square().sum(), 5)
    assert_same(per_example_gradients(model, lambda: model(x).square(), 5), expected)


@pytest.mark.parametrize("dims", [(), (5,), (2, 3)])
def test_linear_layers_on_tokens_agree_with_a_loop(rng, dims):
    """[batch, dim], [batch, tokens, dim] and [batch, rows, columns, dim], in two views of 4 examples."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(8, *dims, 3, generator=rng)
    expected = loop(model, lambda i: model(x[i::4]).square().sum(), 4)
    assert_same(per_example_gradients(model, lambda: model(x).square(), 4), expected)


def test_attention_s_rows_agree_with_a_loop_when_all_else_is_frozen(make_denoiser, batch):
    denoiser = make_denoiser(attention=True, attention_levels=(0, 1), label_tokens=3)
    train_attention(denoiser)
    assert 0 < len(trainable_parameters(denoiser)) < len(list(denoiser.parameters()))
    expected = loop(denoiser, lambda i: denoising_loss(denoiser, *(part[i::4] for part in batch)).sum(), 4)
    assert_same(unet_rows(denoiser, batch), expected)


def test_low_rank_rows_agree_with_a_loop(make_denoiser, batch, perturbed):
    denoiser = make_denoiser(attention=True, attention_levels=(0, 1), label_tokens=3)
    train_low_rank(denoiser, 2)
    perturbed(denoiser)
    expected = loop(denoiser, lambda i: denoising_loss(denoiser, *(part[i::4] for part in batch)).sum(), 4)
    assert_same(unet_rows(denoiser, batch), expected)


def test_frozen_parameters_have_no_part(make_denoiser, batch):
    denoiser = make_denoiser(attention=True)
    for name, parameter in denoiser.named_parameters():
        parameter.requires_grad_("up" in name or name.endswith("conv_in.bias"))
    assert 0 < len(trainable_parameters(denoiser)) < len(list(denoiser.parameters()))
    expected = loop(denoiser, lambda i: denoising_loss(denoiser, *(part[i::4] for part in batch)).sum(), 4)
    assert_same(unet_rows(denoiser, batch), expected)


def test_a_row_does_not_depend_on_other_examples(make_denoiser, batch):
    denoiser = make_denoiser(attention=True)
    before = torch.cat(unet_rows(denoiser, batch).parts, dim=1)
    images, *rest = batch
    images = images.clone()
    images[1::4] = 1e3
    after = torch.cat(unet_rows(denoiser, (images, *rest)).parts, dim=1)
    assert (after[1] - before[1]).norm() > before[1].norm()
    torch.testing.assert_close(after[[0, 2, 3]], before[[0, 2, 3]])


def test_a_layer_without_a_rule_is_refused_by_name():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(ValueError, match=r"layer '1' \(BatchNorm2d\) has no per-example gradient; freeze it"):
        per_example_gradients(model, lambda: model(torch.zeros(2, 1, 4, 4)).mean(dim=(1, 2, 3)), 2)


@pytest.mark.parametrize("settings", [{"groups": 2}, {"padding": 1, "padding_mode": "circular"}, {"padding": "same"}])
def test_a_convolution_without_a_rule_is_refused(settings):
    model = nn.Conv2d(2, 2, 3, **settings)
    with pytest.raises(ValueError, match=r"\(Conv2d\) has no per-example gradient"):
        per_example_gradients(model, lambda: model(torch.zeros(2, 2, 4, 4)).mean(dim=(1, 2, 3)), 2)


def test_activations_in_place_do_not_reach_the_layer_before_them(rng):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 2), nn.ELU(1.0, True))
    x = torch.randn(5, 2, 4, 4, generator=rng)
    expected = loop(model, lambda i: model(x[i : i + 1]).square().sum(), 5)
    assert_same(per_example_gradients(model, lambda: model(x).square(), 5), expected)


def test_an_empty_batch_has_no_rows():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    rows = per_example_gradients(model, lambda: model(torch.zeros(0, 1, 2, 2)), 0)
    assert [part.shape for part in rows.parts] == [(0, 12), (0, 3)]


def test_rows_leave_the_model_as_it_was(make_denoiser, batch):
    """No hook stays behind, and no gradient but the released one reaches the optimizer."""
    denoiser = make_denoiser()
    unet_rows(denoiser, batch)
    assert all(parameter.grad is None for parameter in denoiser.parameters())
    assert not any(module._forward_hooks for module in denoiser.modules())


def test_the_summed_rows_are_the_batch_gradient_when_set(make_denoiser, batch):
    denoiser = make_denoiser(attention=True)
    set_gradients(denoiser, torch.cat(unet_rows(denoiser, batch).parts, dim=1).sum(0))
    set_to = [parameter.grad.flatten() for parameter in denoiser.parameters()]
    expected = torch.autograd.grad(denoising_loss(denoiser, *batch).sum(), list(denoiser.parameters()))
    whole = torch.cat([gradient.flatten() for gradient in expected])
    assert (torch.cat(set_to) - whole).norm() < 1e-5 * whole.norm()
