"""Finite numbers: weights that became NaN or infinite are found before they are saved, released or used."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def all_finite(state: Any) -> bool:
    """Whether every tensor of a state is finite, in mappings and lists however deep; waits for the device once."""
    finite = [tensor.isfinite().all() for tensor in _tensors(state) if tensor.is_floating_point()]
    devices = {tensor.device for tensor in finite}
    return all(torch.stack([tensor for tensor in finite if tensor.device == device]).all() for device in devices)


def require_finite(what: str, model: nn.Module, mend: str) -> None:
    """Refuses a model with weights that are not finite.

    Raises:
        ValueError: such as "the teacher has weights that are NaN or infinite; train another with ..."
    """
    if not all_finite(model.state_dict()):
        raise ValueError(f"{what} has weights that are NaN or infinite; {mend}")


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        for value in state.values():
            yield from _tensors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _tensors(value)
