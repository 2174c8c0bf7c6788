"""Public random streams by name, functions of the run's seed."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def rng_named(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """The stream of that name: a function of the run's seed and the name."""
    # hashed to 32 bits, which is all of a seed that torch takes on CPUs
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:4], "big"))


@contextmanager
def first_weights(seed: int, name: str) -> Iterator[None]:
    """Networks that are made inside have the same first weights for the same seed and name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng_named(seed, name).initial_seed())
        yield
