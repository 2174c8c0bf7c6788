"""Per-example gradients in one backward pass, for the layers that the networks here are made of.

Autograd is asked for the gradients at the layers' outputs only. With a layer's input and its output gradient at hand,
the gradient of each example's weights is one batched matrix product, so nothing is computed twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def per_example_gradients(model: nn.Module, losses: Callable[[], Tensor], num_examples: int) -> Tensor:
    """Gradient of each example's loss in the trainable parameters.

    Args:
        model: made of Linear, Conv2d and GroupNorm layers as far as parameters go; no layer mixes examples.
        losses: runs the model once and returns [num_examples] losses; loss i may depend on the i-th equal slice of
            the model's batch only, which may hold several views or noise draws of one example.
        num_examples: privacy units in the batch.

    Returns:
        [num_examples, num_parameters] rows, parameters in the order of `trainable_parameters(model)`; the dtype is
        the one the layers computed in.

    Raises:
        ValueError: a trainable parameter belongs to a layer that this file does not know.

    Formal guarantee: row i is a function of example i and the weights alone.

    Source: Goodfellow 2015 for linear layers; Rochette et al. 2019 for convolutions.
    """
    parameters = trainable_parameters(model)
    with _recorded(model) as calls:
        loss = losses()
        gradients = torch.autograd.grad(loss.sum(), [output for _, _, output in calls])
    rows: dict[int, Tensor] = {}
    for (layer, x, _), gradient in zip(calls, gradients, strict=True):
        for parameter, row in _layer_rows(layer, x.detach(), gradient, num_examples):
            key = id(parameter)
            rows[key] = rows[key] + row if key in rows else row
    return torch.cat([rows[id(parameter)].flatten(1) for parameter in parameters], dim=1)


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that rows are about, in a fixed order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def set_gradients(model: nn.Module, gradient: Tensor) -> None:
    """Puts a released vector, [num_parameters], where an optimizer looks for gradients."""
    parameters = trainable_parameters(model)
    for parameter, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.reshape(parameter.shape).clone()


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """Lists (layer, input, output) of every trainable layer that runs inside the block."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    hooks = []
    for name, layer in model.named_modules():
        if any(parameter.requires_grad for parameter in layer.parameters(recurse=False)):
            if not isinstance(layer, nn.Linear | nn.Conv2d | nn.GroupNorm):
                raise ValueError(f"layer '{name}' ({type(layer).__name__}) has no per-example gradient; freeze it")
            hooks.append(layer.register_forward_hook(lambda layer, args, out: calls.append((layer, args[0], out))))
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _layer_rows(
    layer: nn.Module, x: Tensor, gradient: Tensor, num_examples: int
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Yields (parameter, [num_examples, *parameter.shape]) for one call of a layer."""
    gradient = gradient.contiguous()
    if isinstance(layer, nn.GroupNorm):
        with torch.autocast(x.device.type, enabled=False):
            normed = F.group_norm(x.to(gradient.dtype), layer.num_groups, eps=layer.eps)
        per_channel = [(normed * gradient).flatten(2).sum(2), gradient.flatten(2).sum(2)]
        sums = [total.reshape(num_examples, -1, x.shape[1]).sum(1) for total in per_channel]
        found = list(zip((layer.weight, layer.bias), sums, strict=True))
    elif isinstance(layer, nn.Linear):
        flat_x = x.reshape(num_examples, -1, layer.in_features).to(gradient.dtype)
        flat_gradient = gradient.reshape(num_examples, -1, layer.out_features)
        found = [(layer.weight, flat_gradient.transpose(1, 2) @ flat_x), (layer.bias, flat_gradient.sum(1))]
    else:
        assert isinstance(layer, nn.Conv2d)
        found = [(layer.weight, _conv_weight_rows(layer, x.to(gradient.dtype), gradient, num_examples))]
        found.append((layer.bias, gradient.flatten(2).sum(2).reshape(num_examples, -1, layer.out_channels).sum(1)))
    return ((parameter, row) for parameter, row in found if parameter is not None and parameter.requires_grad)


def _conv_weight_rows(layer: nn.Conv2d, x: Tensor, gradient: Tensor, num_examples: int) -> Tensor:
    """[num_examples, out, in, height, width]: sums over views and positions of gradient times input patch."""
    patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # [batch, in*kh*kw, positions]
    patches = patches.unflatten(0, (num_examples, -1))
    gradient = gradient.flatten(2).unflatten(0, (num_examples, -1))
    weight = torch.einsum("evol,evkl->eok", gradient, patches)
    return weight.reshape(num_examples, *layer.weight.shape)
