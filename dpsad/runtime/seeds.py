"""Public random streams by name, functions of the run's seed."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_STATE_BYTES = (16, 5056)  # of generators on GPUs and CPUs


def rng_named(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """The stream of that name: a function of the run's seed and the name."""
    # hashed to 32 bits, which is all of a seed that torch takes on CPUs
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:4], "big"))


def go_on(rng: torch.Generator, state: torch.Tensor) -> None:
    """Takes up a stream where it was saved; on another kind of device, one that follows from what was saved.

    Generators of CPUs and GPUs draw other numbers, so that no stream can move from one to the other as it is.

    Raises:
        RuntimeError: it is no state of a generator.
    """
    if len(state) != len(rng.get_state()) and len(state) in _STATE_BYTES:
        digest = hashlib.sha256(state.numpy().tobytes()).digest()
        rng.manual_seed(int.from_bytes(digest[:4], "big"))
    else:
        rng.set_state(state)


@contextmanager
def first_weights(seed: int, name: str) -> Iterator[None]:
    """Networks that are made inside have the same first weights for the same seed and name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng_named(seed, name).initial_seed())
        yield
