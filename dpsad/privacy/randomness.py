"""Secret randomness: privacy noise, which records take part, and draws inside rows."""

import math
import os
import ssl

import mpmath
import torch
from torch import Tensor

from dpsad.privacy.chacha import BLOCK_BYTES, KEY_BYTES, START_BYTES, chacha20_blocks

CPU = torch.device("cpu")
# numbers that are worked on at once: as many as stay in a CPU's cache, or keep a GPU busy
AT_ONCE = {"cpu": 2**16, "cuda": 2**22}
# bound on what float64 errs by in a standard normal number of `rounded_normal`, away from where it is steep
ERROR = 2.0**-42


class PrivateRandomness:
    """Numbers that nobody can guess or repeat, from cryptographic generators that the operating system seeds.

    torch's generators will not do: on CPUs they take 32 bits of a seed, and a few hundred known outputs give away all
    later ones.

    Args:
        device: where normal numbers are wanted, and drawn.
        seed: for tests alone: repeatable numbers, which void a run's guarantee; its statement says so.

    Formal guarantee: without a seed, as unpredictable as `aes_words` on the CPU and `chacha_words` elsewhere. There is
    no state to save, so noise that was added cannot be recomputed and taken away.
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
        return ((self._bits(num, 53).double() + 0.5) * 2.0**-53).clamp(max=1 - 2.0**-53)

    def happens(self, num: int, prob: float) -> Tensor:
        """[num] bool, on the CPU: each true with a probability of `prob`, less 2^-53 at most and never more."""
        happened, limit = torch.empty(num, dtype=torch.bool), int(prob * 2**53)
        for part in happened.split(AT_ONCE["cpu"]):
            torch.lt(self._bits(len(part), 53), limit, out=part)
        return happened

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """[*shape] float32 standard normal, for draws inside rows; noise on a sum is `rounded_normal`.

        None is beyond 6.7, where one in 4e10 would be.

        Source: Box and Muller 1958.
        """
        normals = torch.empty(math.prod(shape), device=self.device)
        for part in normals.split(AT_ONCE[self.device.type]):
            half = -(-len(part) // 2)
            words = self._bits(half, 63, self.device).view(torch.int32).bitwise_and_(2**31 - 1)
            first, second = words.float().unflatten(0, (2, half))
            radius = first.add_(0.5).mul_(2.0**-31).log_().mul_(-2).sqrt_()
            angle = second.mul_(2 * torch.pi * 2.0**-31)
            pairs = torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)])
            part.copy_(pairs[: len(part)])
        return normals.reshape(shape)

    def rounded_normal(self, shape: tuple[int, ...], scale: float) -> Tensor:
        """[*shape] float64 whole numbers: normal numbers of deviation `scale`, each rounded to the nearest.

        Box and Muller's formula, of two uniform numbers whose first 63 bits are drawn, is worked out in float64. Where
        that leaves open to which side the normal number rounds, 63 bits more are drawn and it is worked out anew, with
        160 bits.

        Formal guarantee: the distribution is that of exactly normal real numbers, rounded; a whole run's numbers
        differ from it with a probability below 2^-50. Assumes that float64 logarithms and cosines err by at most 64
        units in the last place; libraries promise 1 to 4.
        Edge cases: scale 0 gives zeros. Above a scale of 2^40 every number is worked out anew, slowly.

        Source: Box and Muller 1958.
        """
        numbers = torch.zeros(math.prod(shape), dtype=torch.float64, device=self.device)
        for part in numbers.split(AT_ONCE[self.device.type]) if scale else ():
            half = -(-len(part) // 2)
            words = self._bits(2 * half, 63, self.device).unflatten(0, (2, half))
            first, second = words.double().add_(0.5).mul_(2.0**-63)
            radius, angle = first.log().mul_(-2).sqrt_(), second.mul_(2 * torch.pi)
            exact = torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)]).mul_(scale)
            rounded = exact.round()
            # where the error is not below ERROR: there the logarithm is steep, or its root is
            steep = (first < 2.0**-16) | (radius < 2.0**-8)
            near = exact.sub_(rounded).abs_() >= 0.5 - scale * ERROR
            for pair in (steep | near[:half] | near[half:]).nonzero().flatten().tolist():
                u, v = (word << 63 | int(self._bits(1, 63)) for word in words[:, pair].tolist())
                rounded[pair], rounded[half + pair] = _rounded_pair(u, v, scale)
            part.copy_(rounded[: len(part)])
        return numbers.reshape(shape)

    def _bits(self, num: int, size: int, device: torch.device = CPU) -> Tensor:
        """[num] int64 of `size` random bits, 63 at most."""
        if self._seeded is not None:
            words = torch.empty(num, dtype=torch.int64).random_(generator=self._seeded).to(device)
        else:
            words = aes_words(num) if device.type == "cpu" else chacha_words(num, device)
        return words.bitwise_and_(2**size - 1)


def aes_words(num: int) -> Tensor:
    """[num] int64 random words on the CPU, from OpenSSL's generator, four times as fast as `os.urandom`.

    Formal guarantee: as unpredictable as `os.urandom` and AES-256 in counter mode (NIST SP 800-90A, CTR_DRBG): the
    operating system seeds it, anew now and then and after a fork.
    """
    return torch.frombuffer(bytearray(ssl.RAND_bytes(8 * max(num, 1))), dtype=torch.int64)[:num]


def chacha_words(num: int, device: torch.device | str = "cpu") -> Tensor:
    """[num] int64 random words, drawn on the device.

    Formal guarantee: as unpredictable as `os.urandom` and ChaCha20. The key of 256 bits is drawn for this call and
    forgotten with it, so no block is made twice, whoever copies or forks what.
    """
    num_blocks = -(-8 * num // BLOCK_BYTES)
    blocks = chacha20_blocks(os.urandom(KEY_BYTES), bytes(START_BYTES), num_blocks, device)
    return blocks.flatten().view(torch.int64)[:num]


def _rounded_pair(first: int, second: int, scale: float) -> tuple[int, int]:
    """`scale` times two normal numbers, rounded, from two uniform numbers' first 126 bits."""
    with mpmath.workprec(160):
        u, v = ((mpmath.mpf(bits) + 0.5) / 2**126 for bits in (first, second))
        radius = scale * mpmath.sqrt(-2 * mpmath.log(u))
        return int(mpmath.nint(radius * mpmath.cospi(2 * v))), int(mpmath.nint(radius * mpmath.sinpi(2 * v)))


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
    return randomness.happens(num_records, sampling_prob).nonzero().flatten()
