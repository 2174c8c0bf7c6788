"""Train and test sides, decided so that a record stays where it is when others come or go."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def held_out(record_id: str) -> bool:
    """Says whether a record of an unsplit source belongs to the test side: one in five, by a hash of its id."""
    digest = hashlib.blake2b(record_id.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 5 == 0


def joins(record_id: str, share: float) -> bool:
    """Says whether a record is among a share of its source in (0, 1], by a hash of its id that nothing else goes by."""
    digest = hashlib.blake2b(record_id.encode("utf-8", "surrogateescape"), digest_size=8, key=b"share").digest()
    return int.from_bytes(digest, "big") < share * 2**64


def require_classes_on_both(train: set[str], test: set[str], *, where: str) -> None:
    """Refuses a class with records on one side alone: such a run could be trained, and then not be evaluated.

    Args:
        train, test: names of classes with records; where a side has none at all, nothing is asked of it.
        where: the source as its user named it.

    Raises:
        ValueError: a class of one side is not on the other.
    """
    for here, there, lacking in (("train", "test", train - test), ("test", "train", test - train)):
        if lacking and train and test:
            raise ValueError(
                f"{where}: class '{min(lacking)}' of the {here} side has no records on the {there} side; add some, "
                "leave the class out, or state the classes (data.class_names), which may then be empty"
            )


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
