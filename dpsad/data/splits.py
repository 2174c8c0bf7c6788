"""Train and test sides, decided so that a record stays where it is when others come or go."""

from __future__ import annotations

import hashlib
import re

import torch
from torch import Tensor

_SIDES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SIDES |= dict.fromkeys(("val", "valid", "validation", "dev"), "other")


def held_out(record_id: str) -> bool:
    """Says whether a record of an unsplit source belongs to the test side: one in five, by a hash of its id."""
    digest = hashlib.blake2b(record_id.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 5 == 0


def named_side(name: str) -> str:
    """The side that the words of a name tell, such as train-00001-of-00002 or shards/test: train, test, or other for a
    validation side; "" where none does. The last word that tells one counts.
    """
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SIDES[word] for word in reversed(words) if word in _SIDES), "")


def joins(record_id: str, share: float) -> bool:
    """Says whether a record is among a share of its source in (0, 1], by a hash of its id that nothing else goes by."""
    digest = hashlib.blake2b(record_id.encode("utf-8", "surrogateescape"), digest_size=8, key=b"share").digest()
    return int.from_bytes(digest, "big") < share * 2**64


def rank_in_class(labels: Tensor) -> Tensor:
    """Counts, for each record, the earlier records of its class: [num] labels >= 0 -> [num] int64."""
    by_class = labels.argsort(stable=True)
    counts = labels.bincount()
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.empty_like(by_class)
    rank[by_class] = torch.arange(len(labels)) - first
    return rank


def first_in_turn(labels: Tensor, limit: int) -> Tensor:
    """Positions of the first `limit` records when the classes take turns, in source order.

    Args:
        labels: [num] int64, >= 0.
        limit: 0 picks all.

    Returns:
        [min(limit, num)] int64, ascending.

    Raises:
        ValueError: a limit too small for one record of every class.
    """
    if not limit or limit >= len(labels):
        return torch.arange(len(labels))
    num_classes = len(labels.unique())
    if limit < num_classes:
        raise ValueError(f"data.limit={limit} leaves classes without records; pass {num_classes} or more, or 0 for all")
    return rank_in_class(labels).argsort(stable=True)[:limit].sort().values
