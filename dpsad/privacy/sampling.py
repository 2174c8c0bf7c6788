"""Secret randomness: privacy noise, and which records take part."""

import secrets

import torch
from torch import Tensor


def secret_generator(device: torch.device | str = "cpu", *, seed: int | None = None) -> torch.Generator:
    """A generator for privacy noise or batch sampling, seeded by the operating system.

    A fixed `seed` makes a run repeatable for tests and voids its guarantee; its statement says so.
    """
    return torch.Generator(device).manual_seed(secrets.randbits(63) if seed is None else seed)


def poisson_sample(num_records: int, sampling_prob: float, generator: torch.Generator) -> Tensor:
    """Indices of a batch that every record joins independently.

    Args:
        num_records: records there are.
        sampling_prob: in (0, 1].
        generator: secret; the amplification by sampling is lost on whoever knows it.

    Returns:
        [size] int64, rising; the size is random, may be 0, and is private.

    Source: Abadi et al. 2016, section 3.1; Mironov et al. 2019.
    """
    drawn = torch.rand(num_records, generator=generator, device=generator.device) < sampling_prob
    return drawn.nonzero().flatten()
