"""ChaCha20, a cryptographic generator that counts, in whole-number operations of torch, on any of its devices."""

import torch
from torch import Tensor

KEY_BYTES, START_BYTES, BLOCK_BYTES = 32, 16, 64
_CONSTANT = b"expand 32-byte k"


def chacha20_blocks(key: bytes, start: bytes, num: int, device: torch.device | str = "cpu") -> Tensor:
    """[num, 16] int32 blocks of the keystream in order, 64 bytes each, little-endian.

    Args:
        key: 32 bytes, secret.
        start: 16 bytes: where the 64-bit counter begins, little-endian, and a nonce of 64 bits. RFC 8439 reads the
            counter's upper half as part of the nonce, which is the same until 2^32 blocks are made.
        num: >= 0.

    Formal guarantee: none of its own. As far as anyone knows, the keystream of a secret key cannot be told from random
    bits, if no block is made twice with one key.

    Source: Bernstein 2008, "ChaCha, a variant of Salsa20"; RFC 8439, section 2.3.
    """
    constant, upper_key, lower_key, rest = (
        _words(part).to(device)[:, None].repeat(1, num) for part in (_CONSTANT, key[:16], key[16:], start)
    )
    counter = torch.arange(num, device=device) + int.from_bytes(start[:8], "little", signed=True)
    rest[:2] = counter.view(torch.int32).view(num, 2).T
    # four rows of four words each, so that one operation works on four quarter rounds of all blocks
    a, b, c, d = constant.clone(), upper_key.clone(), lower_key.clone(), rest.clone()
    spare = torch.empty_like(a)
    for _ in range(10):
        _quarter_rounds(a, b, c, d, spare)
        b, c, d = b.roll(-1, 0), c.roll(-2, 0), d.roll(-3, 0)  # from columns to diagonals
        _quarter_rounds(a, b, c, d, spare)
        b, c, d = b.roll(1, 0), c.roll(2, 0), d.roll(3, 0)
    return torch.cat([a.add_(constant), b.add_(upper_key), c.add_(lower_key), d.add_(rest)]).T.contiguous()


def _quarter_rounds(a: Tensor, b: Tensor, c: Tensor, d: Tensor, spare: Tensor) -> None:
    for first, second in ((16, 12), (8, 7)):
        a += b
        d ^= a
        _rotate(d, first, spare)
        c += d
        b ^= c
        _rotate(b, second, spare)


def _rotate(words: Tensor, by: int, spare: Tensor) -> None:
    """Rotates 32-bit words to the left in place; torch shifts the sign in from the left, which is masked away."""
    torch.bitwise_right_shift(words, 32 - by, out=spare).bitwise_and_(2**by - 1)
    words.bitwise_left_shift_(by).bitwise_or_(spare)


def _words(text: bytes) -> Tensor:
    """[len / 4] int32 little-endian words, on the CPU."""
    return torch.frombuffer(bytearray(text), dtype=torch.int32)
