"""Rows, what one privacy unit contributes to a vector that is about to leave the private side, and their clipping."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockRows:
    """Rows that are zero outside few blocks, stored without the zeros.

    Attributes:
        values: [entries, block_dim] the blocks that are not zero.
        block: [entries] int64, which block of its row each is, in 0..num_blocks-1.
        unit: [entries] int64, whose row it is part of, from 0 on within this chunk; None where each entry is a unit of
            its own. A unit may have several entries for one block; they are summed.
    """

    values: Tensor
    block: Tensor
    unit: Tensor | None = None


@dataclass(frozen=True)
class PartedRows:
    """Dense rows in pieces, [units, size] each, that are not joined, to save the copy."""

    parts: list[Tensor]


def clip_rows(rows: Tensor, clip_norm: float) -> Tensor:
    """Scales each row to an L2 norm of at most `clip_norm`.

    Args:
        rows: [units, ...] one contribution per privacy unit; all trailing axes form one vector.
        clip_norm: bound on the norm, > 0, in the units of `rows`.

    Returns:
        [units, ...] rows in their own direction; rows within the bound are returned unchanged.

    Formal guarantee: adding or removing one unit changes the sum over units by at most `clip_norm` in L2 norm, in
    float32 up to a factor 1 + 1e-6 and the rounding of the sum.
    Edge cases: zero rows stay zero; a row with a NaN or an infinity becomes zero, and so contributes nothing.

    Source: Abadi et al. 2016, Algorithm 1.
    """
    norm = rows.flatten(1).float().norm(dim=1)
    scale = clip_scale(norm, clip_norm)
    broadcast = scale.reshape(-1, *[1] * (rows.ndim - 1))
    return torch.where(broadcast > 0, rows * broadcast, 0)


def clip_scale(norm: Tensor, clip_norm: float) -> Tensor:
    """The factor in [0, 1] that brings a row of L2 norm `norm`, [units], within `clip_norm`; 0 if it is not finite.

    A norm that overflows float32 counts as not finite.
    """
    return torch.where(norm.isfinite(), (clip_norm / norm).clamp(max=1), 0)


def sum_clipped(rows: Tensor | BlockRows | PartedRows, clip_norm: float, total: Tensor) -> None:
    """Adds the clipped rows to `total` in place, without a clipped copy of them.

    Args:
        rows: [units, ...] dense rows, also in parts, or block rows.
        clip_norm: bound on each row's L2 norm, > 0.
        total: [...] for dense rows, [num_blocks, block_dim] for block rows; float32.

    Formal guarantee, edge cases: as `clip_rows`; sums are float32 whatever the rows are.
    """
    if isinstance(rows, BlockRows):
        entries = rows if rows.unit is None else _one_entry_a_block(rows, len(total))
        total.index_add_(0, entries.block, _clip_entries(entries, clip_norm))
        return
    parts = [part.flatten(1) for part in (rows.parts if isinstance(rows, PartedRows) else [rows])]
    norms = [torch.linalg.vector_norm(part, dim=1, dtype=torch.float32) for part in parts]
    scale = clip_scale(torch.stack(norms).norm(dim=0), clip_norm)
    all_finite = bool(scale.all())
    for part, into in zip(parts, total.view(-1).split([part.shape[1] for part in parts]), strict=True):
        # 0 times NaN would be NaN
        with torch.autocast(total.device.type, enabled=False):
            into += scale @ (part if all_finite else part.nan_to_num(0, 0, 0)).float()


def _one_entry_a_block(rows: BlockRows, num_blocks: int) -> BlockRows:
    """Sums a unit's entries for the same block, so that squared norms of entries add up to that of the row."""
    assert rows.unit is not None
    keys, entry = torch.unique(rows.unit * num_blocks + rows.block, return_inverse=True)
    values = torch.zeros(len(keys), rows.values.shape[1], device=rows.values.device)
    values.index_add_(0, entry, rows.values.float())
    return BlockRows(values, keys % num_blocks, keys // num_blocks)


def _clip_entries(rows: BlockRows, clip_norm: float) -> Tensor:
    """The entries of block rows, scaled by the factor that clips the whole row of their unit."""
    if rows.unit is None:
        return clip_rows(rows.values, clip_norm)
    squares = rows.values.square().sum(1)
    num_units = int(rows.unit.max()) + 1 if len(rows.unit) else 0
    norm = torch.zeros(num_units, device=squares.device).index_add_(0, rows.unit, squares).sqrt()
    scale = clip_scale(norm, clip_norm)[rows.unit, None]
    return torch.where(scale > 0, rows.values * scale, 0)
