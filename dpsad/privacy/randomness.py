"""Secret randomness: privacy noise, which records take part, and draws inside rows."""

import hashlib
import math
import os

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
    """Numbers that nobody can guess: a stream from a key of 256 bits, which the operating system's generator draws.

    torch's generators will not do: on CPUs they take 32 bits of a seed, and a few hundred known outputs give away all
    later ones.

    Every draw replaces the key, by a function that nobody can turn back. A stage saves the key beside the step that it
    is about to make (`Sanitizer.state_dict`), so that a step that a crash undid is made again as it was, and is no
    second choice of who joins or of noise.

    Args:
        device: where normal numbers are wanted, and drawn.
        seed: for tests alone: repeatable numbers, which void a run's guarantee; its statement says so.
        place: where the key is kept and what its numbers are added to, in words. A copy of the key that is gone on
            with elsewhere gives other numbers: two releases never share noise, unless they are the same to the bit.

    Formal guarantee: without a seed, as unpredictable as `os.urandom`, SHAKE-256 and, on GPUs, ChaCha20. Whoever reads
    a key can work out what was drawn since it was saved, and nothing from before.
    Edge cases: a process that is forked draws the same numbers as the one that it came from.

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

    def key_for_another(self) -> bytes:
        """A secret key, drawn like any number; made for streams of other processes, see `follow`."""
        return self._key_of_a_draw()

    def follow(self, key: bytes, name: str) -> None:
        """Draws from now on what follows from a key and a name: another stream for each name."""
        self._key = hashlib.shake_256(key + name.encode()).digest(KEY_BYTES)

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
        key = self._key_of_a_draw()
        words = shake_words(key, num) if device.type == "cpu" else chacha_words(key, num, device)
        return words.bitwise_and_(2**size - 1)

    def _key_of_a_draw(self) -> bytes:
        """A key for one draw alone; replaces the key that it comes from."""
        salt = b"" if self.repeatable else self.place.encode()
        drawn = hashlib.shake_256(self._key + salt).digest(2 * KEY_BYTES)
        self._key = drawn[:KEY_BYTES]
        return drawn[KEY_BYTES:]


def shake_words(key: bytes, num: int) -> Tensor:
    """[num] int64 random words on the CPU, from SHAKE-256 of a key that makes nothing else.

    Source: NIST FIPS 202.
    """
    return torch.frombuffer(bytearray(hashlib.shake_256(key).digest(8 * max(num, 1))), dtype=torch.int64)[:num]


def chacha_words(key: bytes, num: int, device: torch.device | str = "cpu") -> Tensor:
    """[num] int64 random words, drawn on the device, from ChaCha20 with a key that makes nothing else."""
    blocks = chacha20_blocks(key, bytes(START_BYTES), -(-8 * num // BLOCK_BYTES), device)
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
