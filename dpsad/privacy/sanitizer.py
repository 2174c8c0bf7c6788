"""Sanitizer, the one door out of the private side: charge, clip, sum, noise."""

from collections.abc import Iterable

import torch
from torch import Tensor

from dpsad.privacy.clipping import BlockRows, PartedRows, steps_for, sum_clipped
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.together import Alone, Together


class Sanitizer:
    """Makes the noisy sums of one plan, and no more of them than the plan says.

    Args:
        plan: what is released.
        ledger: is charged with the whole plan before the first release.
        randomness: source of the privacy noise, on the device of the rows; the same that draws who takes part and what
            is drawn inside rows, so that it is saved and restored with the releases that are still to be made.
        together: the processes that hold the units between them; each has a sanitizer of this plan and releases as
            often, the one that leads draws the noise, and its ledger is the run's.
    """

    def __init__(
        self, plan: ReleasePlan, ledger: Ledger, randomness: PrivateRandomness, together: Together | None = None
    ):
        self.plan, self.ledger, self.randomness = plan, ledger, randomness
        self.together = Alone() if together is None else together
        self.charged, self.num_made = False, 0

    def charge(self) -> None:
        """Charges the plan, once. A resumable stage calls it before its first save, so that the charge is on disk.

        Raises:
            BudgetExceeded: the plan does not fit the ledger; nothing was released.
        """
        if not self.charged:
            self.ledger.charge(self.plan, fixed_noise=self.randomness.repeatable)
            self.charged = True

    def release(self, chunks: Iterable[Tensor | BlockRows | PartedRows], shape: tuple[int, ...]) -> Tensor:
        """Sums clipped rows and adds noise.

        Args:
            chunks: rows in any number of pieces, each [units, *shape], whole or parted, or block rows with
                shape = (num_blocks, block_dim); one at a time is held. No chunk at all is an empty batch, which is
                released like any other.
            shape: shape of one row, public.

        Returns:
            [*shape] sum over units of clip(row, clip_norm) plus normal noise of noise_multiplier * clip_norm, rounded
            to whole steps, `steps_for` of them in `clip_norm`; float32. Of the units of all processes, in each.

        Raises:
            BudgetExceeded: the plan does not fit the ledger; no row was looked at.
            ValueError: the plan has no release left.

        Formal guarantee: all releases together satisfy `plan.event(k)` for persons with k records, provided that
        each unit gives at most one row a release, made of its own records, public numbers and released state, and that
        units were drawn with `plan.sampling_prob`.
        That holds of the numbers that are computed: the sum is exact, and with its noise it is the rounding of the
        sum with exactly normal noise, which is post-processing; see docs/privacy.md. Several processes add up whole
        numbers, which is exact for up to 2^29 rows in all of them, and the noise is in one of their parts.
        Edge cases: rows that are not finite count as zero.
        """
        self.charge()
        if self.num_made >= self.plan.num_releases:
            raise ValueError(f"{self.plan.purpose}: all {self.plan.num_releases} planned releases are made")
        self.num_made += 1
        steps, device = steps_for(self.plan.noise_multiplier), self.randomness.device
        total = torch.zeros(shape, dtype=torch.float64, device=device)
        for rows in chunks:
            sum_clipped(rows, self.plan.clip_norm, total, steps)
            del rows  # before the next chunk is made
        if self.together.leads:
            total += self.randomness.rounded_normal(shape, self.plan.noise_multiplier * steps)
        self.together.add_up(total)
        return total.mul_(self.plan.clip_norm / steps).float()

    def state_dict(self) -> dict:
        """What a checkpoint must hold beside the weights: the ledger, how far this plan is made, and what the next
        release will draw. The latter is secret, and left out once there is no next one."""
        unfinished = self.num_made < self.plan.num_releases
        return {
            "ledger": self.ledger.state_dict(),
            "plan": self.plan.to_dict(),
            "charged": self.charged,
            "num_made": self.num_made,
            "randomness": self.randomness.state_dict() if unfinished else None,
        }

    def load_state_dict(self, state: dict) -> None:
        """Goes on with a plan that was charged before; the same plan is not charged twice.

        The next release is the one that was to be made when the state was taken: the same batch, the same noise. One
        that a crash kept from being saved is so made again, and no other is drawn in its place.

        Raises:
            ValueError: the state is of another plan, or of a ledger without what is charged here.
        """
        begun = {"purpose": self.plan.purpose, **state["plan"]}  # before version 0.2 a plan did not know its purpose
        if ReleasePlan.from_dict(begun) != self.plan:
            raise ValueError(f"{self.plan.purpose} was begun as {begun}, and is now planned as {self.plan.to_dict()}")
        self.ledger.load_state_dict(state["ledger"])
        self.charged, self.num_made = state["charged"], state["num_made"]
        if state.get("randomness"):  # versions before 0.2 drew anew
            self.randomness.load_state_dict(state["randomness"])
        if self.charged and self.num_made < self.plan.num_releases:
            self.ledger.renew(self.plan)  # a copy of the run may go on from here as well, and draws other noise
