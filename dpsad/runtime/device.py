"""Devices by name, and models on them."""

from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def device_named(name: str) -> torch.device:
    """The device that `device=name` means here; auto is CUDA where there is one.

    Raises:
        ValueError: it is neither cpu nor cuda, or there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name!r} is no device; use auto, cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device={name!r} is not supported, for released sums need float64; use auto, cpu, cuda or cuda:1"
        )
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r}: torch sees no CUDA device here; use device=auto or cpu")
    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if device.type == "cuda" and name not in ("cuda", *there):  # by name: torch takes cuda:256 for cuda:0
        raise ValueError(f"device={name!r} is not here; torch sees {', '.join(there)}; use one of them, auto or cpu")
    return device


def is_gpu(name: str) -> bool:
    """Whether `device=name` means a GPU; for a plan, which may be made where there is none."""
    return torch.cuda.is_available() if name == "auto" else name.startswith("cuda")


def memory_of(device: torch.device) -> int | None:
    """Bytes of a GPU's own memory; None of a CPU, which has the machine's."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def hardware_of(device: torch.device) -> str:
    """What a device is called beside a time: a GPU's name, or "2 CPU threads", those that torch works with."""
    threads = torch.get_num_threads()
    cpu = f"{threads} CPU thread{'s' if threads > 1 else ''}"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu


def on_device(model: Model, device: torch.device) -> Model:
    """Moves a model; on CUDA also to channels-last, which tensor cores want. CPUs normalise faster without it."""
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    return model.to(device, memory_format=layout)  # type: ignore[call-overload]
