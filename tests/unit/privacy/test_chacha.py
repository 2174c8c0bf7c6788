"""The keystream of ChaCha20, against the standard and against the slow and obvious way."""

import struct

import pytest
import torch

from dpsad.privacy.chacha import chacha20_blocks

GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
IN_TURN = bytes(range(32))
# RFC 8439, sections 2.3.2 and A.1: key, counter, nonce, block
STANDARD = [
    (
        IN_TURN, 1, "000000090000004a00000000",
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    ),
    (
        bytes(32), 0, "000000000000000000000000",
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    ),
    (
        bytes(32), 1, "000000000000000000000000",
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
    (
        bytes(31) + b"\x01", 1, "000000000000000000000000",
        "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
        "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
    ),
    (
        b"\x00\xff" + bytes(30), 2, "000000000000000000000000",
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
    ),
    (
        bytes(32), 0, "000000000000000000000002",
        "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
        "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
    ),
]  # fmt: skip
# section 2.4.2: two blocks on end, the second in part
KEYSTREAM = (
    "224f51f3401bd9e12fde276fb8631ded8c131f823d2c06e27e4fcaec9ef3cf788a3b0aa372600a92b57974cded2b9334794cba40c63e34cdea"
    "212c4cf07d41b769a6749f3f630f4122cafe28ec4dc47e26d4346d70b98c73f3e9c53ac40c5945398b6eda1a832c89c167eacd901d7e2bf363"
)


def keystream(key, counter, nonce, num, device="cpu"):
    start = counter.to_bytes(4, "little") + bytes.fromhex(nonce)
    return chacha20_blocks(key, start, num, device).cpu().numpy().tobytes()


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(("key", "counter", "nonce", "block"), STANDARD)
def test_blocks_are_those_of_the_standard(key, counter, nonce, block, device):
    assert keystream(key, counter, nonce, 1, device).hex() == block


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_the_keystream_is_that_of_the_standard(device):
    assert keystream(IN_TURN, 1, "000000000000004a00000000", 2, device)[:114].hex() == KEYSTREAM


def block_by_words(key, start):
    """Salsa's descendant, one word at a time."""
    first = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), *struct.unpack("<4I", start)]
    state = list(first)

    def mix(into, other, turned, by):
        state[into] = (state[into] + state[other]) % 2**32
        word = state[turned] ^ state[into]
        state[turned] = (word << by | word >> (32 - by)) % 2**32

    columns = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
    diagonals = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
    for a, b, c, d in (columns + diagonals) * 10:
        mix(a, b, d, 16)
        mix(c, d, b, 12)
        mix(a, b, d, 8)
        mix(c, d, b, 7)
    return struct.pack("<16I", *((word + begun) % 2**32 for word, begun in zip(state, first, strict=True)))


def test_the_counter_goes_on_beyond_32_bits():
    """No block comes twice within 2^64 of one key: the last of 32 bits, and the last of 63, are followed by others."""
    for begin in (2**32 - 2, 2**63 - 2):
        blocks = chacha20_blocks(IN_TURN, begin.to_bytes(8, "little") + bytes(8), 4)
        for index, block in enumerate(blocks):
            start = (begin + index).to_bytes(8, "little") + bytes(8)
            assert block.numpy().tobytes() == block_by_words(IN_TURN, start)


def test_keys_and_nonces_make_other_streams():
    """A bit of any word of either matters: 128 first blocks all differ from each other."""
    inputs = [(1 << bit).to_bytes(48, "little") for bit in range(0, 384, 3)]
    firsts = {chacha20_blocks(given[:32], given[32:], 1).numpy().tobytes() for given in inputs}
    assert len(firsts) == 128


@pytest.mark.parametrize("num", [0, 1, 3, 1000])
def test_blocks_do_not_depend_on_how_many_there_are(num):
    blocks = chacha20_blocks(IN_TURN, bytes(16), num)
    assert blocks.shape == (num, 16)
    assert torch.equal(blocks, chacha20_blocks(IN_TURN, bytes(16), 1001)[:num])
