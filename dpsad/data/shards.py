"""Disjoint shards of the records, by a keyed hash of each record's id."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Shards:
    """Which records are in which shard.

    Attributes:
        members: [num_shards, largest] int64 positions of each shard's records, in rising order; -1 where there are
            no more.

    Formal guarantee: each record is in one shard, which depends on the key and its own id alone, so adding or removing
    a record changes one shard and moves no other record.
    """

    members: Tensor

    @property
    def num_shards(self) -> int:
        return len(self.members)

    def only(self, kept: Tensor) -> "Shards":
        """The same shards without some records.

        Args:
            kept: [num] bool, by record.
        """
        unit, place = (self.members >= 0).nonzero(as_tuple=True)
        index = self.members[unit, place]
        unit, index = unit[kept[index]], index[kept[index]]
        return Shards(_padded(unit, index, self.num_shards))

    def fingerprint(self) -> str:
        """A short name of which records are together: the same for the same shards, and no other."""
        digest = hashlib.blake2b(repr(tuple(self.members.shape)).encode(), digest_size=16)
        digest.update(self.members.contiguous().cpu().numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device) -> "Shards":
        return Shards(self.members.to(device))


def split_into_shards(ids: Sequence[str], num_shards: int, *, key: bytes) -> Shards:
    """Splits records into shards.

    Args:
        ids: of the records; stable, see `ImageSet`.
        num_shards: how many; some may stay empty.
        key: of the hash, at most 64 bytes; public.
    """
    shard = torch.tensor([shard_of(record_id, num_shards, key=key) for record_id in ids])
    order = torch.argsort(shard, stable=True)
    return Shards(_padded(shard[order], order, num_shards))


def shards_of_run(ids: Sequence[str], num_shards: int, seed: int) -> Shards:
    """The shards of a run: their key is made of its seed, and public."""
    return split_into_shards(ids, num_shards, key=f"dpsad shards {seed}".encode())


def _padded(unit: Tensor, index: Tensor, num_shards: int) -> Tensor:
    """[entries] rising shards and their records -> [num_shards, largest], -1 where there are no more."""
    counts = unit.bincount(minlength=num_shards)
    place = torch.arange(len(unit), device=unit.device) - (counts.cumsum(0) - counts)[unit]
    members = torch.full((num_shards, int(counts.max())), -1, device=unit.device)
    members[unit, place] = index
    return members


def shard_of(record_id: str, num_shards: int, *, key: bytes) -> int:
    """The shard of one record, in 0..num_shards-1.

    Source: keyed BLAKE2b, RFC 7693.
    """
    digest = hashlib.blake2b(record_id.encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big") % num_shards


def in_chunks(joined: Tensor, size: int) -> tuple[Tensor, ...]:
    """Shards that work at once, `size` at most; none where nobody takes part, where `split` gives one empty chunk."""
    return joined.split(max(1, size)) if len(joined) else ()
