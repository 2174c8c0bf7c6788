"""Rows: what one privacy unit contributes to a vector that is about to leave the private side."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockRows:
    """Rows that are zero outside one block each, stored without the zeros.

    Attributes:
        values: [units, block_dim] each unit's block.
        block: [units] int64, which block it is, in 0..num_blocks-1.
    """

    values: Tensor
    block: Tensor


def clip_rows(rows: Tensor, max_norm: float) -> Tensor:
    """Scales each row to an L2 norm of at most `max_norm`.

    Args:
        rows: [units, ...] one contribution per privacy unit; all trailing axes form one vector.
        max_norm: bound on the norm, > 0, in the units of `rows`.

    Returns:
        [units, ...] rows in their own direction; rows within the bound are returned unchanged.

    Formal guarantee: adding or removing one unit changes the sum over units by at most `max_norm` in L2 norm, in
    float32 up to a factor 1 + 1e-6.
    Edge cases: zero rows stay zero; a row with a NaN or an infinity becomes zero, and so contributes nothing.

    Source: Abadi et al. 2016, Algorithm 1.
    """
    scale = clip_scale(rows, max_norm)
    broadcast = scale.reshape(-1, *[1] * (rows.ndim - 1))
    return torch.where(broadcast > 0, rows * broadcast, 0)


def clip_scale(rows: Tensor, max_norm: float) -> Tensor:
    """The factor per row, [units] in [0, 1], that `clip_rows` multiplies by; 0 for rows that are not finite.

    A norm that overflows float32 counts as not finite.
    """
    norm = torch.linalg.vector_norm(rows.flatten(1), dim=1, dtype=torch.float32)
    scale = (max_norm / norm).clamp(max=1)
    return torch.where(norm.isfinite(), scale, 0)


def sum_clipped(rows: Tensor | BlockRows, max_norm: float, total: Tensor) -> None:
    """Adds the clipped rows to `total` in place, without a clipped copy of them.

    Args:
        rows: [units, ...] dense rows, or block rows.
        max_norm: bound on each row's L2 norm, > 0.
        total: [...] for dense rows, [num_blocks, block_dim] for block rows.

    Formal guarantee, edge cases: as `clip_rows`.
    """
    if isinstance(rows, BlockRows):
        total.index_add_(0, rows.block, clip_rows(rows.values, max_norm))
    else:
        scale = clip_scale(rows, max_norm)
        finite = rows if bool((scale > 0).all()) else rows.nan_to_num(0, 0, 0)
        total += torch.einsum("u,ud->d", scale, finite.flatten(1)).reshape(total.shape)
