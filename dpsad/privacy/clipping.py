"""Rows, what one privacy unit contributes to a vector that is about to leave the private side, and their clipping."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsad.privacy.exact import folded_sum, whole_numbers

MARGIN = 2.0**-18  # of the bound, for the rounding of norms and factors in float32: 64 roundings
SLICE = 64  # numbers whose squares are summed in whatever order is fastest
ROWS, COLUMNS = 64, 4096  # that are worked on at once, so that they stay in cache


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

    Formal guarantee: norms are within the bound up to a factor 1 + 3e-6; each row's result is a function of that row
    alone, to the bit. What leaves is clipped by `sum_clipped`, which holds the bound exactly.
    Edge cases: zero rows stay zero; a row with a NaN or an infinity becomes zero, and so contributes nothing.

    Source: Abadi et al. 2016, Algorithm 1.
    """
    scale = clip_scale(row_norms([rows.flatten(1)]), clip_norm)
    broadcast = scale.reshape(-1, *[1] * (rows.ndim - 1))
    return torch.where(broadcast > 0, rows * broadcast, 0)


def clip_scale(norm: Tensor, clip_norm: float) -> Tensor:
    """The factor in [0, 1] that brings a row of L2 norm `norm`, [units], within `clip_norm`; 0 if it is not finite.

    A norm that overflows float32 counts as not finite.
    """
    return torch.where(norm.isfinite(), (clip_norm / norm).clamp(max=1), 0)


def row_norms(parts: Sequence[Tensor]) -> Tensor:
    """[units] float32 norms of rows that lie in parts, [units, size] each.

    Formal guarantee: too small by at most 47 roundings of float32 for rows of up to 2^30 numbers, and a function of
    the row alone, to the bit.
    """
    # numbers of one row must be neighbours in memory: torch sums others by their place among the rows
    lying = [part if part.stride(1) == 1 else part.contiguous() for part in parts]
    return folded_sum(torch.cat([_slice_norms(part.float()) for part in lying], dim=1).square_()).sqrt()


def _slice_norms(part: Tensor) -> Tensor:
    """[units, size] -> [units, slices] norms of up to `SLICE` neighbours, by the same instructions for every unit."""
    whole = part.shape[1] // SLICE * SLICE
    norms = torch.linalg.vector_norm(part[:, :whole].unflatten(1, (whole // SLICE, SLICE)), dim=2)
    if whole == part.shape[1]:
        return norms
    return torch.cat([norms, torch.linalg.vector_norm(part[:, whole:], dim=1, keepdim=True)], dim=1)


def steps_for(noise_multiplier: float) -> int:
    """Steps in a row's bound on the grid that sums and their noise are rounded to, a power of two from public numbers.

    2^24, but no more than leave noise a deviation of 2^28 steps, which keeps it fast to draw exactly.
    """
    return 2 ** max(0, min(24, 28 - math.ceil(math.log2(max(1.0, noise_multiplier)))))


def sum_clipped(rows: Tensor | BlockRows | PartedRows, clip_norm: float, total: Tensor, steps: int) -> None:
    """Adds the clipped rows to `total` in place, exactly, on a grid of `steps` steps in `clip_norm`.

    Args:
        rows: [units, ...] dense rows, also in parts, or block rows.
        clip_norm: bound on each row's L2 norm, in 1e-9..1e9.
        total: [...] for dense rows, [num_blocks, block_dim] for block rows; float64 whole numbers of steps.
        steps: 1..2^24.

    Formal guarantee: what a row adds is a function of that row alone, a vector of whole numbers of L2 norm at most
    `steps`: with or without a row, in any order and in any chunks, the rest of the sum is the same to the bit.
    Elements are cut towards zero, which lengthens no row; the bound is first lessened by `MARGIN` for the rounding
    before that, see docs/privacy.md. For up to 2^29 rows.
    Edge cases: as `clip_rows`.
    """
    if isinstance(rows, BlockRows):
        _sum_blocks(rows, clip_norm, total, steps)
        return
    parts = [part.flatten(1) for part in (rows.parts if isinstance(rows, PartedRows) else [rows])]
    totals = total.view(-1).split([part.shape[1] for part in parts])
    for some in zip(*(part.split(ROWS) for part in parts), strict=True):
        factor = _steps_of(row_norms(some), clip_norm, steps)
        for part, into in zip(_without_broken(some, factor), totals, strict=True):
            for piece, piece_into in zip(part.split(COLUMNS, dim=1), into.split(COLUMNS), strict=True):
                # cut towards zero by the conversion; 64 rows of up to 2^24 steps each fit int32
                piece_into += (piece.float() * factor).int().sum(0, dtype=torch.int32)


def _steps_of(norm: Tensor, clip_norm: float, steps: int) -> Tensor:
    """[units, 1] what turns rows of these norms into steps within the bound; 0 for rows that are not finite."""
    return (clip_scale(norm, clip_norm * (1 - MARGIN)) * (steps / clip_norm))[:, None]


def _without_broken(parts: Sequence[Tensor], factor: Tensor) -> Sequence[Tensor]:
    """Rows in parts, with zeros for those that are not finite, since 0 times NaN would be NaN."""
    return parts if factor.all() else [torch.where(factor > 0, part, 0) for part in parts]


def _sum_blocks(rows: BlockRows, clip_norm: float, total: Tensor, steps: int) -> None:
    entries = rows if rows.unit is None else _one_entry_a_block(rows, len(total), clip_norm)
    norm = torch.cat([row_norms([values]) for values in entries.values.split(ROWS)])
    if entries.unit is not None:
        squares = torch.zeros(int(entries.unit.max()) + 1 if len(norm) else 0, len(total), device=norm.device)
        squares[entries.unit, entries.block] = norm.square()
        norm = folded_sum(squares).sqrt()[entries.unit]
    factor = _steps_of(norm, clip_norm, steps)
    (values,) = _without_broken([entries.values], factor)
    for some, block, own in zip(values.split(ROWS), entries.block.split(ROWS), factor.split(ROWS), strict=True):
        total.index_add_(0, block, (some.float() * own).trunc_().double())


def _one_entry_a_block(rows: BlockRows, num_blocks: int, clip_norm: float) -> BlockRows:
    """Sums a unit's entries for the same block, so that squared norms of entries add up to that of the row.

    In whole numbers, so that no order changes the sums; entries beyond 2^16 bounds are brought to that.
    """
    assert rows.unit is not None
    keys, entry = torch.unique(rows.unit * num_blocks + rows.block, return_inverse=True)
    sums = torch.zeros(len(keys), rows.values.shape[1], dtype=torch.float64, device=rows.values.device)
    bound = 2.0**16 * clip_norm
    sums.index_add_(0, entry, whole_numbers(rows.values, bound, 40))
    values = (sums * (bound * 2.0**-40)).float()
    values[entry[~rows.values.isfinite().all(1)]] = torch.nan
    return BlockRows(values, keys % num_blocks, keys // num_blocks)
