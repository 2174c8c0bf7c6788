"""Worst-case neighbours of any release plans, through the real sanitizer."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpsad.audit.error_rates import Scores
from dpsad.audit.game import Game, in_parts
from dpsad.audit.likelihood import log_likelihood_ratio
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.sanitizer import Sanitizer

DIM = 4  # of a game's block: the record's direction, and others for bystanders
SIDE_BY_SIDE = 10_000  # games that share a release
BEYOND = 10.0  # norm of rows, in bounds on them: a clip that fails is seen as well


def plans_game(plans: Sequence[ReleasePlan]) -> Game:
    """Every planned release is made of rows in other directions, and of the record's own row where it is there.

    The auditor knows every row and sees every release. In a shard, the record turns the shard's row round. Games are
    played side by side, each in a block of its own.

    Args:
        plans: as a ledger was charged with them.
    """

    def play(there: bool, num: int) -> Scores:
        scores = np.zeros(num)
        for plan in plans:
            sanitizer = uncharged(plan)
            rows = unit_rows(plan, there)
            values, block = rows.repeat(num, 1), torch.arange(num).repeat_interleave(len(rows))
            for _ in range(plan.num_releases):
                joined = poisson_sample(len(values), plan.sampling_prob, sanitizer.randomness)
                released = sanitizer.release([BlockRows(values[joined], block[joined])], (num, DIM))
                scores += log_likelihood_ratio(plan, released[:, 0] / plan.clip_norm)
        return scores

    return Game("release plan, through the sanitizer", plans, in_parts(play, SIDE_BY_SIDE))


def unit_rows(plan: ReleasePlan, there: bool) -> Tensor:
    """[units, DIM] rows, all beyond the bound: bystanders', and along the first axis the record's or its shard's."""
    axes = torch.eye(DIM)
    own = axes[:1] if there else -axes[:1] if plan.unit is Unit.SHARD else axes[:0]
    return BEYOND * plan.clip_norm * torch.cat([axes[1:], own])


def uncharged(plan: ReleasePlan) -> Sanitizer:
    """A sanitizer for records that are made up: there is nothing to charge."""
    sanitizer = Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness())
    sanitizer.charged = True
    return sanitizer
