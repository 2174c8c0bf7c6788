"""The one door out of the private side: charge, clip, sum, noise."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.rows import BlockRows, sum_clipped


class Sanitizer:
    """Makes the noisy sums of one plan, and no more of them than the plan says.

    Args:
        plan: what is released.
        ledger: is charged with the whole plan before the first release.
        purpose: names the plan in the ledger.
        generator: source of the privacy noise, on the device of the rows; used for nothing else.
        num_made: releases already made and charged, when a run goes on.
    """

    def __init__(
        self, plan: ReleasePlan, ledger: Ledger, purpose: str, generator: torch.Generator, *, num_made: int | None = None
    ):
        self.plan, self.ledger, self.purpose, self.generator = plan, ledger, purpose, generator
        self.num_made = num_made  # None until the plan is charged

    def release(self, chunks: Iterable[Tensor | BlockRows], shape: tuple[int, ...]) -> Tensor:
        """Sums clipped rows and adds noise.

        Args:
            chunks: rows in any number of pieces, each [units, *shape], or block rows with shape = (num_blocks,
                block_dim); one at a time is held. No chunk at all is an empty batch, which is released like any other.
            shape: shape of one row, public.

        Returns:
            [*shape] sum over units of clip(row, max_norm) plus normal noise of noise_multiplier * max_norm, float32.

        Raises:
            BudgetExceeded: the plan does not fit the ledger; no row was looked at.
            ValueError: the plan has no release left.

        Formal guarantee: all releases together satisfy `plan.event()`, provided that each unit gives at most one row
        a release, made of its own records, public numbers and released state, and that units were drawn with
        `plan.sampling_prob`.
        Edge cases: rows that are not finite count as zero. Noise is drawn in float32, whose rounding is not accounted.
        """
        if self.num_made is None:
            self.ledger.charge(self.purpose, self.plan)
            self.num_made = 0
        if self.num_made >= self.plan.num_releases:
            raise ValueError(f"{self.purpose}: all {self.plan.num_releases} planned releases are made")
        self.num_made += 1
        device = self.generator.device
        total = torch.zeros(shape, device=device)
        for rows in chunks:
            sum_clipped(rows, self.plan.max_norm, total)
        noise = torch.randn(shape, generator=self.generator, device=device)
        return total.add_(noise, alpha=self.plan.noise_multiplier * self.plan.max_norm)
