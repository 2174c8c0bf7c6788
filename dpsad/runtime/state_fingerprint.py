"""Fingerprint of a saved state: whether a stage that goes on builds on the very model that it was begun with."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def fingerprint_of_state(state: Any) -> str:
    """A short name of tensors and plain values in mappings and lists, however deep: the same for the same ones.

    Edge cases: devices play no part, nor whether a list is a tuple, which files do not tell apart everywhere.

    Source: BLAKE2b, RFC 7693.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in _parts(state):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Tensor):
        yield f"tensor {value.dtype} {tuple(value.shape)}".encode()
        yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    elif isinstance(value, Mapping):
        yield f"mapping of {len(value)}".encode()
        for key, inner in value.items():
            yield repr(key).encode()
            yield from _parts(inner)
    elif isinstance(value, list | tuple):
        yield f"list of {len(value)}".encode()
        for inner in value:
            yield from _parts(inner)
    else:
        yield repr(value).encode()
