"""Worst-case neighbours of DP-SGD: a record whose gradient is one coordinate, far beyond the bound, in the real loop.

Every coordinate is a game of its own. The same canaries in one run, each by the toss of a coin, are an audit with one
run.
"""

import torch
from torch import Tensor, nn

from dpsad.attacks.release_plans import BEYOND, uncharged
from dpsad.attacks.scratch import scratch
from dpsad.audit.error_rates import Scores
from dpsad.audit.game import Game, in_parts
from dpsad.audit.likelihood import log_likelihood_ratio, watched_releases
from dpsad.data.records import ImageSet
from dpsad.privacy.calibration import calibrated
from dpsad.privacy.clipping import PartedRows
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.training.dp_sgd import dp_sgd

SIDE_BY_SIDE = 500  # canaries that share a run
_BYSTANDERS = 3


def dp_sgd_plan(epsilon: float, delta: float, *, sampling_prob: float = 0.25, steps: int = 10) -> ReleasePlan:
    """Gradient rows that cost `epsilon`."""
    plan = ReleasePlan(
        purpose="gradient rows", unit=Unit.RECORD, clip_norm=0.5, sampling_prob=sampling_prob, num_releases=steps
    )
    return calibrated([plan], epsilon=epsilon, delta=delta, records_per_person=1)[0]


def dp_sgd_game(plan: ReleasePlan) -> Game:
    """The real loop of DP-SGD."""

    def play(there: bool, num: int) -> Scores:
        return canary_scores(plan, torch.full((num,), there))

    return Game("DP-SGD, gradient rows", [plan], in_parts(play, SIDE_BY_SIDE))


def canary_scores(plan: ReleasePlan, included: Tensor) -> Scores:
    """One run with many canaries, each along a coordinate of its own.

    Args:
        included: [canaries] bool, which of them are records.

    Returns:
        [canaries] log-likelihood ratios, by all that the loop releases.
    """
    num = len(included)
    # any function of one record may be a row; here the image is its own gradient
    images = BEYOND * plan.clip_norm * torch.eye(num + _BYSTANDERS)
    kept = torch.cat([included, torch.ones(_BYSTANDERS, dtype=torch.bool)])
    everyone = ImageSet(
        images=images[:, None, None],
        labels=torch.zeros(len(images), dtype=torch.int64),
        ids=tuple(map(str, range(len(images)))),
        class_names=("any",),
    )

    def rows(chunk: Tensor, labels: Tensor) -> PartedRows:
        return PartedRows([chunk.flatten(1)])

    sanitizer = uncharged(plan)
    with scratch() as (checkpoint, log), watched_releases() as seen:
        dp_sgd(
            "audit",
            model=nn.Linear(len(images), 1, bias=False),
            rows=rows,
            records=everyone.take(kept),
            sanitizer=sanitizer,
            expected_batch_size=1.0,
            learning_rate=1e-3,
            ema_half_life_steps=1.0,
            chunk_size=512,
            randomness=sanitizer.randomness,
            checkpoint=checkpoint,
            log=log,
        )
    shown = torch.stack([one.released[:num] for one in seen]) / plan.clip_norm
    return log_likelihood_ratio(plan, shown).sum(0)
