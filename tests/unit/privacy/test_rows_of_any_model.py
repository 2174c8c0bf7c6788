"""Rows of any model: each way against a loop over examples, on models that only it and slower ways support."""

import pytest
import torch
from opacus.layers import DPLSTM
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from dpsad.privacy.per_example_gradients import trainable_parameters
from dpsad.privacy.rows_of_any_model import by_loop, by_opacus, by_rules, by_torch_func, fastest_way, gradient_rows

TOKENS = 4


class Pictures(nn.Module):
    """Images and classes; every layer but the convolutions and the linear one needs more than the fast rules."""

    def __init__(self, norm, last):
        super().__init__()
        self.conv, self.again = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.norm, self.classes, self.last = norm, nn.Embedding(5, 4), last

    def forward(self, x, labels):
        h = self.norm(self.conv(x)).tanh()
        h = self.norm(self.again(h)) + self.again(h)  # a convolution twice and a norm twice
        return self.last(h.mean(dim=(2, 3)) * self.classes(labels))


class Scale(nn.Module):
    """A raw parameter, beside a layer."""

    def __init__(self):
        super().__init__()
        self.scale, self.linear = nn.Parameter(torch.tensor([0.5, 2.0, -1.0, 1.5])), nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(self.scale * x)


def pictures(norm=None, last=None):
    return Pictures(norm or nn.GroupNorm(2, 4), last or nn.Linear(4, 3))


def with_frozen_layers():
    model = pictures()
    model.conv.requires_grad_(False)
    model.norm.bias.requires_grad_(False)
    return model


def with_an_idle_layer():
    model = pictures()
    model.idle = nn.Linear(2, 2)
    return model


class Words(nn.Module):
    """Sequences of words in 6; `body` works on [batch, tokens, 4], `head` gives scores of the next word."""

    def __init__(self, body, head=None):
        super().__init__()
        self.words, self.body, self.head = nn.Embedding(6, 4), body, head or nn.Linear(4, 6)

    def forward(self, words):
        return self.head(self.body(self.words(words)))


class Tied(Words):
    """The scores' weight is the embedding's, used without a layer."""

    def forward(self, words):
        return F.linear(self.body(self.words(words)), self.words.weight)


def with_shared_weights():
    model = Words(nn.LayerNorm(4))
    model.head.weight = model.words.weight
    return model


class Places(nn.Module):
    """Adds a learned vector to each token; the layer's first axis is tokens, even where it is as long as the batch."""

    def __init__(self):
        super().__init__()
        self.places = nn.Embedding(TOKENS, 4)

    def forward(self, x):
        return x + self.places(torch.arange(x.shape[1]))


class Folded(nn.Module):
    """Its linear layer has examples and tokens in one axis."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x.flatten(0, 1)).unflatten(0, x.shape[:2]).tanh()


class TokensFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x.transpose(0, 1)).transpose(0, 1).tanh()


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


class Asking(nn.Module):
    """Asks for a number, which vmap cannot give."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.weight * (2.0 if x.sum().item() > 0 else 1.0)


def picture_batch(num, rng):
    return torch.randn(num, 2, 5, 5, generator=rng), torch.arange(num) % 5


def number_batch(*shape):
    return lambda num, rng: (torch.randn(num, *shape, generator=rng),)


def word_batch(num, rng):
    return (torch.randint(6, (num, TOKENS), generator=rng),)


MODELS = {
    "linear": (
        lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)),
        number_batch(4),
        by_rules,
    ),
    "tokens": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), number_batch(3, 4), by_rules),
    "pictures": (pictures, picture_batch, by_opacus),
    "frozen": (with_frozen_layers, picture_batch, by_opacus),
    "instance norm": (lambda: pictures(nn.InstanceNorm2d(4, affine=True)), picture_batch, by_opacus),
    "grouped": (lambda: pictures(nn.Conv2d(4, 4, 3, groups=2, padding="same")), picture_batch, by_opacus),
    "conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1, stride=2, dilation=2), number_batch(2, 9), by_opacus),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2, stride=(1, 2, 1)), number_batch(1, 3, 4, 3), by_opacus),
    "layer norm": (lambda: Words(nn.LayerNorm(4)), word_batch, by_opacus),
    "rms norm": (lambda: Words(nn.RMSNorm(4)), word_batch, by_opacus),
    "shared": (with_shared_weights, word_batch, by_opacus),
    "raw parameter": (lambda: pictures(last=Scale()), picture_batch, by_torch_func),
    "evaluation mode": (lambda: pictures().eval(), picture_batch, by_torch_func),
    "idle": (with_an_idle_layer, picture_batch, by_torch_func),
    "in place": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(inplace=True)),
        number_batch(4),
        by_torch_func,
    ),
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2), number_batch(2, 5, 5), by_torch_func),
    "circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), number_batch(2, 5, 5), by_torch_func),
    "padded words": (lambda: nn.Embedding(6, 4, padding_idx=2), word_batch, by_torch_func),
    "norm without bias": (lambda: Words(nn.LayerNorm(4, bias=False)), word_batch, by_torch_func),
    "weight norm": (lambda: weight_norm(nn.Linear(4, 3)), number_batch(4), by_torch_func),
    "tied": (lambda: Tied(nn.Linear(4, 4), nn.Identity()), word_batch, by_torch_func),
    "places": (lambda: Words(Places()), word_batch, by_torch_func),
    "folded": (lambda: nn.Sequential(Folded(), nn.Linear(4, 3)), number_batch(TOKENS, 4), by_torch_func),
    "tokens first": (lambda: nn.Sequential(TokensFirst()), number_batch(TOKENS, 4), by_torch_func),
    "attention": (lambda: Words(SelfAttention()), word_batch, by_torch_func),
    # its first layer takes tokens first
    "opacus lstm": (lambda: Words(Recurrent(DPLSTM(4, 4, batch_first=True))), word_batch, by_torch_func),
    "gru": (lambda: Words(Recurrent(nn.GRU(4, 4, batch_first=True))), word_batch, by_loop),
    "asking": (lambda: nn.Sequential(Asking(), nn.LayerNorm(4)), number_batch(4), by_loop),
}


def made(name, num, rng):
    """(model, inputs, targets) of `num` examples."""
    make, batch_of, _ = MODELS[name]
    torch.manual_seed(0)
    model = make()
    inputs = batch_of(num, rng)
    outputs = model(*inputs)
    return model, inputs, torch.randn(outputs.shape, generator=rng)


def squares(outputs, targets):
    return (outputs - targets).square()


def loop(model, inputs, targets, num):
    """Row i by an own backward pass for all views of example i; an idle parameter's part is zero."""
    rows = []
    for index in range(num):
        total = squares(model(*(part[index::num] for part in inputs)), targets[index::num]).sum()
        parameters = trainable_parameters(model)
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        filled = [
            torch.zeros_like(parameter) if gradient is None else gradient
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]
        rows.append(torch.cat([gradient.flatten() for gradient in filled]))
    return torch.stack(rows)


def assert_same(rows, expected):
    """Within 1e-5 of each row's norm."""
    joined = torch.cat(rows.parts, dim=1)
    assert joined.shape == expected.shape
    assert ((joined - expected).norm(dim=1) <= 1e-5 * expected.norm(dim=1)).all()


def way_of(model, inputs, targets, num):
    return fastest_way(model, lambda targets, *inputs: squares(model(*inputs), targets), [targets, *inputs], num)


@pytest.mark.parametrize("views", [1, TOKENS // 2, TOKENS])
@pytest.mark.parametrize("name", MODELS)
def test_rows_agree_with_a_loop_in_the_fastest_way_that_is_right(rng, name, views):
    """As many examples, or views, as tokens, or half as many: a wrong axis would not be noticed by its length."""
    model, inputs, targets = made(name, 4 * views, rng)
    assert way_of(model, inputs, targets, 4) is MODELS[name][2]
    assert_same(gradient_rows(model, squares, inputs, targets, num_examples=4), loop(model, inputs, targets, 4))


@pytest.mark.parametrize("num", [1, 2])
@pytest.mark.parametrize("name", ["pictures", "places", "tokens first", "folded"])
def test_few_examples_do_not_take_another_way(rng, name, num):
    model, inputs, targets = made(name, num, rng)
    assert way_of(model, inputs, targets, num) is MODELS[name][2]
    assert_same(gradient_rows(model, squares, inputs, targets), loop(model, inputs, targets, num))


WAYS = {by_rules: "linear", by_opacus: "pictures", by_torch_func: "raw parameter", by_loop: "asking"}


@pytest.mark.parametrize("way", WAYS)
def test_a_slower_way_gives_what_a_faster_one_does(rng, way):
    model, inputs, targets = made("linear", 6, rng)
    model[1] = nn.Tanh()  # nothing in place, for Opacus

    def losses(targets, *inputs):
        return squares(model(*inputs), targets)

    assert_same(way(model, losses, [targets, *inputs], 3), loop(model, inputs, targets, 3))


@pytest.mark.parametrize("name", WAYS.values())
def test_a_row_does_not_depend_on_other_examples(rng, name):
    model, inputs, targets = made(name, 4, rng)
    before = torch.cat(gradient_rows(model, squares, inputs, targets).parts, dim=1)
    targets = targets.clone()
    targets[1] = 1e3
    after = torch.cat(gradient_rows(model, squares, inputs, targets).parts, dim=1)
    assert (after[1] - before[1]).norm() > before[1].norm()
    torch.testing.assert_close(after[[0, 2, 3]], before[[0, 2, 3]])


@pytest.mark.parametrize("way", [*WAYS, fastest_way])
def test_an_empty_batch_has_no_rows(rng, way):
    model, inputs, targets = made(WAYS.get(way, "pictures"), 4, rng)
    none = [part[:0] for part in inputs]
    rows = (
        gradient_rows(model, squares, none, targets[:0])
        if way is fastest_way
        else way(model, lambda targets, *inputs: squares(model(*inputs), targets), [targets[:0], *none], 0)
    )
    assert [part.shape for part in rows.parts] == [(0, p.numel()) for p in trainable_parameters(model)]


@pytest.mark.parametrize("name", WAYS.values())
def test_rows_leave_the_model_as_it_was(rng, name):
    model, inputs, targets = made(name, 4, rng)
    for parameter in trainable_parameters(model):
        parameter.grad = torch.ones_like(parameter)
    before = {id(part): set(vars(part)) for part in [*model.modules(), *model.parameters()]}
    gradient_rows(model, squares, inputs, targets)
    assert {id(part): set(vars(part)) for part in [*model.modules(), *model.parameters()]} == before
    assert all((parameter.grad == 1).all() for parameter in trainable_parameters(model))
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in model.modules())


def test_dropout_draws_for_each_example_on_its_own(rng):
    """Equal examples have different rows, in the way by hooks and in that by torch.func."""
    for last in (nn.Linear(4, 3), Scale()):
        model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), last)
        x = torch.ones(8, 4)
        rows = torch.cat(gradient_rows(model, squares, x, torch.ones(8, 3)).parts, dim=1)
        assert len(rows.unique(dim=0)) > 2


def test_a_loss_that_averages_is_refused(rng):
    model, inputs, targets = made("linear", 4, rng)
    with pytest.raises(ValueError, match=r"loss gave shape \(\) for .* examples; return a loss for each"):
        gradient_rows(model, F.mse_loss, inputs, targets)


def test_a_model_that_mixes_examples_is_refused(rng):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match=r"layer '1' \(BatchNorm1d\) mixes the examples of a batch"):
        gradient_rows(model, squares, torch.zeros(4, 4), torch.zeros(4, 3))


def test_opacus_s_way_refuses_a_parameter_that_it_did_not_see(rng):
    model, inputs, targets = made("idle", 4, rng)
    with pytest.raises(ValueError, match=r"Opacus saw no use of a parameter; take by_torch_func"):
        by_opacus(model, lambda targets, *inputs: squares(model(*inputs), targets), [targets, *inputs], 4)
