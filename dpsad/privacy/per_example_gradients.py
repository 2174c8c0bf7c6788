"""Per-example gradients in one backward pass, for the layers that the networks here are made of.

Autograd is asked for the gradients at the layers' outputs only. With a layer's input and its output gradient at hand,
the gradient of each example's weights is one batched matrix product, so nothing is computed twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.grad import conv2d_weight

from dpsad.privacy.clipping import PartedRows


def per_example_gradients(model: nn.Module, losses: Callable[[], Tensor], num_examples: int) -> PartedRows:
    """Gradient of each example's loss in the trainable parameters.

    Args:
        model: made of Linear and Conv2d layers as far as parameters go; no layer mixes examples.
        losses: runs the model once and returns losses, of any shape, whose sum is over examples. The model's batch may
            hold several views (noise draws) of each example: first one view of all examples, then the next.
        num_examples: privacy units in the batch.

    Returns:
        Rows [num_examples, num_parameters], a part for each of `trainable_parameters(model)`; the dtype is the one
        that the layers computed in.

    Raises:
        ValueError: a trainable parameter belongs to a layer that this file does not know.

    Formal guarantee: row i is a function of example i and the weights alone, where the model mixes no examples and
        every trainable layer's first axis is the batch's; `gradient_rows` is for models of which this is not known.
    Edge cases: no examples give no rows.

    Source: Goodfellow 2015 for linear layers; Rochette et al. 2019 for convolutions.
    """
    if num_examples == 0:
        return no_rows(model)
    with _recorded(model) as calls:
        total = losses().sum()
    gradients = torch.autograd.grad(total, [output for _, _, output in calls])
    rows: dict[Tensor, Tensor] = {}
    for (layer, x, _), gradient in zip(calls, gradients, strict=True):
        for parameter, row in _layer_rows(layer, x.detach().to(gradient.dtype), gradient, num_examples):
            rows[parameter] = rows[parameter] + row if parameter in rows else row
    return PartedRows([rows[parameter].flatten(1) for parameter in trainable_parameters(model)])


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that rows are about, in a fixed order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def has_rule(layer: nn.Module) -> bool:
    """Whether the layer's rows are known here: Linear, and Conv2d without groups or padding other than by zeros."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def no_rows(model: nn.Module) -> PartedRows:
    """The rows of an empty batch."""
    return PartedRows([parameter.new_zeros(0, parameter.numel()) for parameter in trainable_parameters(model)])


def set_gradients(model: nn.Module, gradient: Tensor) -> None:
    """Puts a released vector, [num_parameters], where an optimizer looks for gradients."""
    parameters = trainable_parameters(model)
    for parameter, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.reshape(parameter.shape).clone()


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[tuple[nn.Linear | nn.Conv2d, Tensor, GradientEdge]]]:
    """Lists (layer, input, output's place in the graph) of every trainable layer that runs inside the block."""
    calls: list[tuple[nn.Linear | nn.Conv2d, Tensor, GradientEdge]] = []
    hooks = []

    def record(layer: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        # the place, since an activation in place makes the output another tensor
        calls.append((cast("nn.Linear | nn.Conv2d", layer), args[0], get_gradient_edge(out)))

    for name, layer in model.named_modules():
        if any(parameter.requires_grad for parameter in layer.parameters(recurse=False)):
            if not has_rule(layer):
                raise ValueError(f"layer '{name}' ({type(layer).__name__}) has no per-example gradient; freeze it")
            hooks.append(layer.register_forward_hook(record))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _layer_rows(
    layer: nn.Linear | nn.Conv2d, x: Tensor, gradient: Tensor, num_examples: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields (parameter, [num_examples, *parameter.shape]) for one call of a layer."""
    if layer.weight.requires_grad:
        if isinstance(layer, nn.Conv2d):
            yield layer.weight, _conv_weight_rows(layer, x, gradient, num_examples)
        else:
            yield layer.weight, _linear_weight_rows(x, gradient, num_examples)
    if layer.bias is not None and layer.bias.requires_grad:
        # channels last, as Linear layers have them
        by_place = gradient.movedim(1, -1) if isinstance(layer, nn.Conv2d) else gradient
        yield layer.bias, _by_place(by_place, num_examples).sum(dim=(0, 2))


def _by_place(tensor: Tensor, num_examples: int) -> Tensor:
    """[views * examples, ..., features] -> [views, examples, places, features]; without an axis, one place."""
    return tensor.reshape(len(tensor) // num_examples, num_examples, -1, tensor.shape[-1])


def _linear_weight_rows(x: Tensor, gradient: Tensor, num_examples: int) -> Tensor:
    """[num_examples, out, in]: outer products of gradients and inputs, summed over views and places (tokens)."""
    return torch.einsum("vepo,vepi->eoi", _by_place(gradient, num_examples), _by_place(x, num_examples))


def _conv_weight_rows(layer: nn.Conv2d, x: Tensor, gradient: Tensor, num_examples: int) -> Tensor:
    """[num_examples, out, in, height, width]: one weight gradient per example.

    With the examples as groups of channels and their views as the batch, it is one grouped weight gradient.

    Source: Rochette et al. 2019.
    """

    def grouped(images: Tensor) -> Tensor:
        return images.unflatten(0, (-1, num_examples)).flatten(1, 2)

    out_channels, *rest = layer.weight.shape
    weight = conv2d_weight(
        grouped(x),
        (num_examples * out_channels, *rest),
        grouped(gradient),
        layer.stride,
        layer.padding,
        layer.dilation,
        groups=num_examples,
    )
    return weight.unflatten(0, (num_examples, out_channels))
