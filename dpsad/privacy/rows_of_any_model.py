"""Per-example gradient rows of any model, in the fastest way that is right for it.

Four ways, from fast to slow, which give the same rows: the rules of `per_example_gradients`, Opacus's hooks,
torch.func, and a loop. The first two watch layers, so they must see every use of every trainable parameter, and each
layer's first axis must be the batch's: both are tried out on one example and on two before a way is taken. The last two
give the model one example at a time, so they are right whatever the model does.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.func import functional_call, grad, vmap

from dpsad.privacy.clipping import PartedRows
from dpsad.privacy.no_mixing import require_no_mixing
from dpsad.privacy.per_example_gradients import has_rule, no_rows, per_example_gradients, trainable_parameters

Losses = Callable[..., Tensor]  # tensors of a batch, [views * examples, ...] -> its losses, by one run of the model
Way = Callable[[nn.Module, Losses, Sequence[Tensor], int], PartedRows]


def gradient_rows(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor | Sequence[Tensor],
    targets: Tensor,
    *,
    num_examples: int | None = None,
) -> PartedRows:
    """Gradient of each example's loss in the trainable parameters, for any model.

    Args:
        model: is called with `inputs`; may share parameters and use a layer more than once.
        loss: outputs, targets -> [views * examples, ...] losses, not their mean.
        inputs: [views * examples, ...] what the model takes, or several such tensors.
        targets: [views * examples, ...].
        num_examples: privacy units in the batch, where it holds several views of each: first one view of all examples,
            then the next. Their gradients are summed. None is one view of each.

    Returns:
        Rows [num_examples, num_parameters], a part for each of `trainable_parameters(model)`; not clipped.

    Raises:
        ValueError: a layer mixes examples, or `loss` averages over them.

    Formal guarantee: row i is a function of example i, the weights and the model's own draws, such as dropout's. By
        torch.func and by the loop this holds whatever the model does; by the two others, provided that the model's own
        code mixes no examples, as it would by centring them on their mean.
    Edge cases: no examples give no rows; a parameter that the loss does not reach has zeros. Draws inside the model
        come from torch's generator, which is not secret. Kernels round by the size of a batch; where that is private,
        fill batches up to one size and drop the rows of the filling.
    """
    num = len(targets) if num_examples is None else num_examples
    batch = [targets, *([inputs] if isinstance(inputs, Tensor) else inputs)]

    def losses(targets: Tensor, *inputs: Tensor) -> Tensor:
        by_example = loss(model(*inputs), targets)
        if by_example.shape[:1] != targets.shape[:1]:
            raise ValueError(
                f"loss gave shape {tuple(by_example.shape)} for {len(targets)} examples; "
                "return a loss for each, e.g. with reduction='none'"
            )
        return by_example

    require_no_mixing(model)
    return fastest_way(model, losses, batch, num)(model, losses, batch, num)


def fastest_way(model: nn.Module, losses: Losses, batch: Sequence[Tensor], num_examples: int) -> Way:
    """The first of `by_rules`, `by_opacus`, `by_torch_func` and `by_loop` that is right for a model.

    A loop over batches takes its way once; each way is called as this function is.

    Args:
        model: as it will be when rows are made: frozen where it is, in training mode or not.
        losses: runs the model once on tensors like those of `batch`, and returns losses whose sum is over examples.
        batch: tensors [views * examples, ...]; two examples of them are tried.
        num_examples: privacy units in the batch.

    Formal guarantee: which way is taken depends on the shapes of the examples, not on their contents, as far as the
        model runs the same code on all.
    Edge cases: an empty batch has nothing to try and gets `by_loop`, which is right for all.
    """
    if num_examples == 0:
        return by_loop
    layers = _trainable_layers(model)
    if all(type(layer) in (nn.Linear, nn.Conv2d) and has_rule(layer) for layer in layers):
        hooks: Way | None = by_rules
    else:
        hooks = by_opacus if _opacus_knows(model) else None
    # a tensor that is not the batch's can have the length of one try, not of both
    tries = [
        [part.unflatten(0, (-1, num_examples))[:, which].flatten(0, 1) for part in batch] for which in ([0], [0, -1])
    ]
    if hooks and all(_hooks_see_all(model, losses, some) for some in tries):
        return hooks
    try:
        by_torch_func(model, losses, tries[1], 2)
    except RuntimeError:  # such as .item(), or an operator that vmap does not know
        return by_loop
    return by_torch_func


def by_rules(model: nn.Module, losses: Losses, batch: Sequence[Tensor], num_examples: int) -> PartedRows:
    """Rows by `per_example_gradients`: Linear and Conv2d layers alone."""
    return per_example_gradients(model, lambda: losses(*batch), num_examples)


def by_opacus(model: nn.Module, losses: Losses, batch: Sequence[Tensor], num_examples: int) -> PartedRows:
    """Rows by Opacus's hooks, which know more layers; a view counts as an example there, and views are summed here.

    Raises:
        ValueError: a parameter that Opacus saw no use of.

    Source: Yousefpour et al. 2021.
    """
    from opacus.grad_sample import GradSampleModule  # takes a second or more to import

    if num_examples == 0:
        return no_rows(model)
    parameters = trainable_parameters(model)
    before = [parameter.grad for parameter in parameters]
    hooked = GradSampleModule(model, loss_reduction="sum")
    try:
        for parameter in parameters:
            parameter.grad = None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            losses(*batch).sum().backward()
        rows = [parameter.grad_sample for parameter in parameters]  # type: ignore[attr-defined]
    finally:
        hooked.to_standard_module()
        for layer in model.modules():
            for left in {"activations", "max_batch_len"} & vars(layer).keys():
                delattr(layer, left)
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
    if any(row is None for row in rows):
        raise ValueError("Opacus saw no use of a parameter; take by_torch_func")
    return PartedRows([row.unflatten(0, (-1, num_examples)).sum(0).flatten(1) for row in rows])


def by_torch_func(model: nn.Module, losses: Losses, batch: Sequence[Tensor], num_examples: int) -> PartedRows:
    """Rows by a vectorised gradient of the loss of one example, for all code that torch can vectorise.

    Source: torch.func, per-sample gradients.
    """
    if num_examples == 0:
        return no_rows(model)
    losses_of = _Losses(model, losses)
    trained = {name: value.detach() for name, value in losses_of.named_parameters() if value.requires_grad}

    def loss_of_one(parameters: dict[str, Tensor], *views: Tensor) -> Tensor:
        return functional_call(losses_of, parameters, views).sum()

    by_view = [part.unflatten(0, (-1, num_examples)) for part in batch]
    rows = vmap(grad(loss_of_one), in_dims=(None, *[1] * len(batch)), randomness="different")(trained, *by_view)
    return PartedRows([rows[name].flatten(1) for name in trained])


def by_loop(model: nn.Module, losses: Losses, batch: Sequence[Tensor], num_examples: int) -> PartedRows:
    """Rows by a backward pass for each example."""
    if num_examples == 0:
        return no_rows(model)
    parameters = trainable_parameters(model)
    rows = [
        torch.autograd.grad(
            losses(*(part[example::num_examples] for part in batch)).sum(), parameters, materialize_grads=True
        )
        for example in range(num_examples)
    ]
    return PartedRows([torch.stack(parts).flatten(1) for parts in zip(*rows, strict=True)])


class _Losses(nn.Module):
    """Losses as a module, so that `functional_call` swaps the parameters wherever `losses` uses the model."""

    def __init__(self, model: nn.Module, losses: Losses):
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, *batch: Tensor) -> Tensor:
        return self.losses(*batch)


def _trainable_layers(model: nn.Module) -> list[nn.Module]:
    """The modules that have a trainable parameter of their own."""
    return [layer for layer in model.modules() if any(p.requires_grad for p in layer.parameters(recurse=False))]


def _opacus_knows(model: nn.Module) -> bool:
    """Whether Opacus has a right rule for each trainable layer, as it is set up and in the mode that it is in."""
    from opacus.grad_sample import GradSampleModule

    def has_exact_rule(layer: nn.Module) -> bool:
        # all that Opacus's rules leave out
        other_padding = getattr(layer, "padding_mode", "zeros") != "zeros"
        other_lookup = isinstance(layer, nn.EmbeddingBag) or getattr(layer, "padding_idx", None) is not None
        no_bias = isinstance(layer, nn.LayerNorm) and layer.bias is None
        known = layer.training and type(layer) in GradSampleModule.GRAD_SAMPLERS
        return known and not (other_padding or other_lookup or no_bias)

    # its hooks forbid activations in place
    in_place = any(getattr(layer, "inplace", False) for layer in model.modules())
    return not in_place and all(has_exact_rule(layer) for layer in _trainable_layers(model))


@dataclass(frozen=True)
class _Call:
    """One run of a layer.

    Attributes:
        layer: what ran.
        length: of its input's first axis; None where it has none.
        before: where its input stands in the graph; None outside it.
        after: where its output stands.
    """

    layer: nn.Module
    length: int | None
    before: Node | None
    after: Node


def _hooks_see_all(model: nn.Module, losses: Losses, batch: Sequence[Tensor]) -> bool:
    """Whether hooks on layers see each use of each trainable parameter, with the batch as the first axis."""
    with _watched(model) as calls:
        total = losses(*batch).sum()
    whole_batch = all(call.length == len(batch[0]) for call in calls)
    all_called = {call.layer for call in calls} == set(_trainable_layers(model))
    return whole_batch and all_called and _reaches_only_through(total, calls, set(trainable_parameters(model)))


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[_Call]]:
    """Lists the calls of trainable layers inside the block."""
    calls: list[_Call] = []

    def record(layer: nn.Module, args: tuple, out: Tensor) -> None:
        x = args[0] if args and isinstance(args[0], Tensor) and args[0].ndim else None
        before = get_gradient_edge(x).node if x is not None and x.requires_grad else None
        calls.append(_Call(layer, None if x is None else len(x), before, get_gradient_edge(out).node))

    hooks = [layer.register_forward_hook(record) for layer in _trainable_layers(model)]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _reaches_only_through(total: Tensor, calls: list[_Call], parameters: set[nn.Parameter]) -> bool:
    """Whether `total` depends on every call, and on no parameter except through calls: a walk through its graph."""
    inputs = {call.after: call.before for call in calls}
    seen: set[Node] = set()
    ahead = [total.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in inputs:
            ahead.append(inputs[node])
        elif getattr(node, "variable", None) in parameters:
            return False
        else:
            ahead += [following for following, _ in node.next_functions]
    return inputs.keys() <= seen
