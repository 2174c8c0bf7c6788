"""Noisy sums that are released once for a run and kept: what stages after them begin with."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.context import Context

Rows = Callable[[PrivateRandomness], Iterable[Tensor | BlockRows]]  # whose draws say who joins a release -> their rows


class _Sums:
    """What was released so far."""

    def __init__(self) -> None:
        self.sums: list[Tensor] = []

    def state_dict(self) -> dict:
        return {"sums": self.sums}

    def load_state_dict(self, state: dict) -> None:
        self.sums = list(state["sums"])


def kept_releases(
    stage: str, context: Context, plan: ReleasePlan, rows: Rows, shape: tuple[int, ...], *settings: object
) -> Tensor:
    """All noisy sums of a plan, or those that this run has released.

    Args:
        stage: names checkpoint, time and stream of noise.
        rows: makes the rows of one release, those of this rank's units, after the charge is on disk; called no more
            once all are made.
        shape: as for `Sanitizer.release`.
        settings: what rows go by, the records' fingerprint among it; releases of others are refused.

    Returns:
        [plan.num_releases, *shape] on the run's device.

    Formal guarantee: the ledger holds the plan's charge once, however often this is asked for.
    """
    randomness = context.randomness.named(stage)
    draws = context.ranks.draws(randomness)
    sanitizer, held = Sanitizer(plan, context.ledger, randomness, context.ranks), _Sums()
    checkpoint = context.checkpoint(stage, *settings, every_seconds=0, unnamed=False)
    checkpoint.track(held=held, sanitizer=sanitizer)
    sanitizer.charge()
    with context.timed(stage):
        for _ in checkpoint.remaining(plan.num_releases):
            context.ranks.new_step(draws, randomness)
            held.sums.append(sanitizer.release(rows(draws), shape))
    return torch.stack([sums.to(context.device) for sums in held.sums])
