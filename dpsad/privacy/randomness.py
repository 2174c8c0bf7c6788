"""Secret randomness: privacy noise, which records take part, and draws inside rows."""

import hashlib
import math
import os

import mpmath
import torch
from torch import Tensor

# bound on what float64 errs by in a standard normal number of `rounded_normal`, away from where it is steep
ERROR = 2.0**-42
KEY_BYTES = 32


class PrivateRandomness:
    """Numbers that nobody can guess: a stream from a key of 256 bits, which the operating system's generator draws.

    torch's generators will not do: on CPUs they take 32 bits of a seed, and a few hundred known outputs give away all
    later ones.

    Every draw replaces the key, by a function that nobody can turn back. A stage saves the key beside the step that it
    is about to make (`Sanitizer.state_dict`), so that a step that a crash undid is made again as it was, and is no
    second choice of who joins or of noise.

    Args:
        device: where the numbers are wanted.
        seed: for tests alone: repeatable numbers, which void a run's guarantee; its statement says so.
        place: where the key is kept and what its numbers are added to, in words. A copy of the key that is gone on
            with elsewhere gives other numbers: two releases never share noise, unless they are the same to the bit.

    Formal guarantee: without a seed, as unpredictable as `os.urandom` and SHAKE-256. Whoever reads a key can work out
    what was drawn since it was saved, and nothing from before.

    Source: NIST FIPS 202 for SHAKE-256.
    """

    def __init__(self, device: torch.device | str = "cpu", *, seed: int | str | None = None, place: str = ""):
        self.device, self.seed, self.place = torch.device(device), seed, place
        self._key = os.urandom(KEY_BYTES) if seed is None else hashlib.shake_256(f"{seed}".encode()).digest(KEY_BYTES)

    @property
    def repeatable(self) -> bool:
        """Whether a seed was given."""
        return self.seed is not None

    def named(self, name: str) -> "PrivateRandomness":
        """Another stream, for a stage of that name: with a seed a function of it and the name, else a new key's."""
        seed = f"{self.seed} {name}" if self.repeatable else None
        return PrivateRandomness(self.device, seed=seed, place=self.place)

    def state_dict(self) -> dict:
        """The key of what will be drawn next; secret."""
        return {"key": self._key.hex()}

    def load_state_dict(self, state: dict) -> None:
        """Draws next what was to be drawn next when the state was taken, in the same place or with a seed."""
        self._key = bytes.fromhex(state["key"])

    def uniform(self, num: int) -> Tensor:
        """[num] float64 in (0, 1), on the CPU."""
        return ((self._bits(num, 53).double() + 0.5) * 2.0**-53).clamp(max=1 - 2.0**-53)

    def happens(self, num: int, prob: float) -> Tensor:
        """[num] bool, on the CPU: each true with a probability of `prob`, less 2^-53 at most and never more."""
        return self._bits(num, 53) < int(prob * 2**53)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """[*shape] float32 standard normal, for draws inside rows; noise on a sum is `rounded_normal`.

        Source: Box and Muller 1958.
        """
        num = math.prod(shape)
        half = -(-num // 2)
        radius = (-2 * self.uniform(half).log()).sqrt()
        angle = 2 * torch.pi * self.uniform(half)
        pairs = torch.cat([radius * angle.cos(), radius * angle.sin()])[:num]
        return pairs.float().reshape(shape).to(self.device)

    def rounded_normal(self, shape: tuple[int, ...], scale: float) -> Tensor:
        """[*shape] float64 whole numbers on the CPU: normal numbers of deviation `scale`, each rounded to the nearest.

        Box and Muller's formula, of two uniform numbers whose first 63 bits are drawn, is worked out in float64. Where
        that leaves open to which side the normal number rounds, 63 bits more are drawn and it is worked out anew, with
        160 bits.

        Formal guarantee: the distribution is that of exactly normal real numbers, rounded; a whole run's numbers
        differ from it with a probability below 2^-50. Assumes that float64 logarithms and cosines err by at most 64
        units in the last place; libraries promise 1 to 4.
        Edge cases: scale 0 gives zeros. Above a scale of 2^40 every number is worked out anew, slowly.

        Source: Box and Muller 1958.
        """
        num = math.prod(shape)
        half = -(-num // 2)
        words = self._bits(2 * half, 63)
        first, second = ((words.double() + 0.5) * 2.0**-63).unflatten(0, (2, half))
        radius, angle = (-2 * first.log()).sqrt(), 2 * torch.pi * second
        exact = scale * torch.cat([radius * angle.cos(), radius * angle.sin()])
        rounded = exact.round()
        # where the error is not below ERROR: there the logarithm is steep, or its root is
        steep = (first < 2.0**-16) | (radius < 2.0**-8)
        near = (exact - rounded).abs_() >= 0.5 - scale * ERROR
        for pair in (steep | near[:half] | near[half:]).nonzero().flatten().tolist() if scale else ():
            u, v = (int(words[pair + start]) << 63 | int(self._bits(1, 63)) for start in (0, half))
            rounded[pair], rounded[half + pair] = _rounded_pair(u, v, scale)
        return rounded[:num].reshape(shape)

    def _bits(self, num: int, size: int) -> Tensor:
        """[num] int64 of `size` random bits, 63 at most."""
        if not num:
            return torch.empty(0, dtype=torch.int64)
        drawn = hashlib.shake_256(self._key_of_a_draw()).digest(8 * num)
        return torch.frombuffer(bytearray(drawn), dtype=torch.int64) & (2**size - 1)

    def _key_of_a_draw(self) -> bytes:
        """A key for one draw alone; replaces the key that it comes from."""
        salt = b"" if self.repeatable else self.place.encode()
        drawn = hashlib.shake_256(self._key + salt).digest(2 * KEY_BYTES)
        self._key = drawn[:KEY_BYTES]
        return drawn[KEY_BYTES:]


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
