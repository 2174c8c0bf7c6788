"""Secret randomness: privacy noise, which records take part, and draws inside rows."""

import math
import os

import torch
from torch import Tensor


class PrivateRandomness:
    """Numbers that nobody can guess or repeat, straight from the operating system's generator.

    torch's generators will not do: on CPUs they take 32 bits of a seed, and a few hundred known outputs give away all
    later ones.

    Args:
        device: where the numbers are wanted.
        seed: for tests alone: repeatable numbers, which void a run's guarantee; its statement says so.

    Formal guarantee: without a seed, as unpredictable as `os.urandom`. There is no state to save, so noise that was
    added cannot be recomputed and taken away.
    """

    def __init__(self, device: torch.device | str = "cpu", *, seed: int | None = None):
        self.device = torch.device(device)
        self._seeded = None if seed is None else torch.Generator().manual_seed(seed)

    @property
    def repeatable(self) -> bool:
        """Whether a seed was given."""
        return self._seeded is not None

    def uniform(self, num: int) -> Tensor:
        """[num] float64 in (0, 1), on the CPU."""
        if self._seeded is not None:
            return torch.rand(num, dtype=torch.float64, generator=self._seeded).clamp(min=2.0**-54)
        words = torch.frombuffer(bytearray(os.urandom(8 * max(num, 1))), dtype=torch.int64)[:num]
        return ((words & (2**53 - 1)).double() + 0.5) * 2.0**-53

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """[*shape] float32 standard normal.

        Source: Box and Muller 1958.
        """
        num = math.prod(shape)
        half = -(-num // 2)
        radius = (-2 * self.uniform(half).log()).sqrt()
        angle = 2 * torch.pi * self.uniform(half)
        pairs = torch.cat([radius * angle.cos(), radius * angle.sin()])[:num]
        return pairs.float().reshape(shape).to(self.device)


def poisson_sample(num_records: int, sampling_prob: float, randomness: PrivateRandomness) -> Tensor:
    """Indices of a batch that every record joins independently.

    Args:
        num_records: records there are.
        sampling_prob: in (0, 1].
        randomness: secret; the amplification by sampling is lost on whoever knows it.

    Returns:
        [size] int64 on the CPU, rising; the size is random, may be 0, and is private.

    Source: Abadi et al. 2016, section 3.1; Mironov et al. 2019.
    """
    return (randomness.uniform(num_records) < sampling_prob).nonzero().flatten()
