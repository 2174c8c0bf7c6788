"""Devices by name, how they compute, and models on them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
        raise ValueError(f"device={name!r}: torch sees no CUDA device here, only cpu; use device=auto or cpu")
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


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Sets how CUDA multiplies and adds while the block runs; what was set before comes back. CPUs are left alone.

    TF32, float32 products of 10 bits, is off where `precision` is float32 and on otherwise, where networks compute in
    bfloat16 anyway. Kernels add in a fixed order and are not chosen by the clock, so that a run that goes on computes
    what it would have computed in one go, and a row does not depend on how threads finished; torch warns of the few
    operations that have no such kernel.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the device is first used
    matmul, cudnn, uninitialised = torch.backends.cuda.matmul, torch.backends.cudnn, torch.utils.deterministic
    wanted = [
        (matmul, "allow_tf32", precision != "float32"),
        (cudnn, "allow_tf32", precision != "float32"),
        (cudnn, "deterministic", True),
        (cudnn, "benchmark", False),
        (uninitialised, "fill_uninitialized_memory", False),  # to find mistakes; slow
    ]
    before = [(holder, name, getattr(holder, name)) for holder, name, _ in wanted]
    strict = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        for holder, name, value in wanted:
            setattr(holder, name, value)
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=only_warned)
        for holder, name, value in before:
            setattr(holder, name, value)


def on_device(model: Model, device: torch.device) -> Model:
    """Moves a model; on CUDA also to channels-last, which tensor cores want. CPUs normalise faster without it."""
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    return model.to(device, memory_format=layout)  # type: ignore[call-overload]
