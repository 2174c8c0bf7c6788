"""Worst-case neighbours of the prototype release: records far from every prototype, so that their rows reach the bound.

Every class is a game of its own: its record shows in its class's blocks alone.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from dpsad.audit.error_rates import Scores
from dpsad.audit.game import Game, in_parts
from dpsad.audit.likelihood import log_likelihood_ratio, watched_releases
from dpsad.data.records import ImageSet
from dpsad.data.shards import Shards
from dpsad.methods.dp_sad.prototype_release import rows_of_records, rows_of_shards
from dpsad.methods.dp_sad.prototypes import PrototypesConfig, Rows, prototype_plans, release_prototypes
from dpsad.methods.dp_sad.queries import Proposal
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.dp_sad.shard_teachers import ShardsConfig
from dpsad.privacy.calibration import calibrated
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.gaussian import gaussian_mu
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness

SHAPE = (1, 8, 8)
SIDE_BY_SIDE = 1000  # games that share a run, a class each
BYSTANDERS = (-0.3, 0.2)  # grey values of a class's other records
ROUNDS = PrototypesConfig(per_class=(1, 2), rounds=(1, 2), shares=(0.4, 0.6))
# few pixels' worth of a count, so that a record can turn its shard's row round
SHARD_ROUNDS = PrototypesConfig(per_class=(1,), rounds=(3,), shares=(1.0,), count_share=1e-4)
SHARD_CLIP_NORM = 0.4


def prototypes_game(epsilon: float, delta: float) -> Game:
    """The real release of prototypes with record rows; a white record joins grey ones."""
    settings = DpSadSettings(prototypes=ROUNDS)
    plans = prototype_plans(ROUNDS, gaussian_mu(epsilon, delta))

    def play(there: bool, num: int) -> Scores:
        records = grey_records(num, (*BYSTANDERS, 1.0))
        others, own = records.take(torch.arange(2 * num)), records.take(torch.arange(2 * num, 3 * num))
        of_all, of_others, of_own = (
            rows_of_records(settings, part) for part in (records if there else others, others, own)
        )
        proposed, seen = _released(ROUNDS, of_all, plans, num)
        scores = np.zeros(num)
        for (proposal, bound), one in zip(proposed, seen, strict=True):
            rest = one.released - _sum_of(of_others(proposal, bound), one.released)
            rows, blocks = _joined(of_own(proposal, bound))
            shown = (rest[blocks] * rows).sum(1) / rows.norm(dim=1) / one.plan.clip_norm
            scores += log_likelihood_ratio(one.plan, shown)
        return scores

    return Game("prototypes, record rows", plans, in_parts(play, SIDE_BY_SIDE))


def shards_game(epsilon: float, delta: float, *, sampling_prob: float = 1.0) -> Game:
    """The real release of prototypes with shard rows; a white record joins a shard of a dark one."""
    settings = DpSadSettings(
        guarantee="shards", prototypes=SHARD_ROUNDS, shards=ShardsConfig(sampling_prob=sampling_prob, teacher="none")
    )
    (plan,) = prototype_plans(SHARD_ROUNDS, gaussian_mu(epsilon, delta), unit=Unit.SHARD, clip_norm=SHARD_CLIP_NORM)
    if sampling_prob < 1:
        (plan,) = calibrated(
            [replace(plan, sampling_prob=sampling_prob)], epsilon=epsilon, delta=delta, records_per_person=1
        )
    white = torch.cat([torch.ones(math.prod(SHAPE)), torch.zeros(1)])

    def play(there: bool, num: int) -> Scores:
        records = grey_records(num, (-SHARD_CLIP_NORM, 1.0))
        members = torch.arange(2 * num).reshape(2, num).T
        shards = Shards(members if there else members[:, :1])
        of_run = replace(settings, shards=replace(settings.shards, num_shards=num))
        rows = rows_of_shards(of_run, records, shards, PrivateRandomness())
        _, seen = _released(SHARD_ROUNDS, rows, [plan], num)
        shown = [(one.released @ (white / white.norm())) / plan.clip_norm for one in seen]
        return np.sum([log_likelihood_ratio(plan, part) for part in shown], axis=0)

    sampled = "" if sampling_prob == 1 else ", sampled"
    return Game(f"prototypes, shard rows{sampled}", [plan], in_parts(play, SIDE_BY_SIDE))


def grey_records(num_classes: int, greys: tuple[float, ...]) -> ImageSet:
    """An even image of each grey in every class, grey by grey."""
    labels = torch.arange(num_classes).repeat(len(greys))
    images = torch.tensor(greys).repeat_interleave(num_classes)[:, None, None, None].expand(-1, *SHAPE)
    names = tuple(map(str, range(num_classes)))
    return ImageSet(images=images.clone(), labels=labels, ids=tuple(map(str, range(len(labels)))), class_names=names)


def _released(
    config: PrototypesConfig, rows: Rows, plans: list[ReleasePlan], num_classes: int
) -> tuple[list[tuple[Proposal, float]], list]:
    """Runs the release; what was proposed in each round, and what was released."""
    proposed: list[tuple[Proposal, float]] = []

    def noted(proposal: Proposal, bound: float) -> Iterable[Tensor | BlockRows]:
        proposed.append((proposal, bound))
        return rows(proposal, bound)

    with watched_releases() as seen:
        release_prototypes(
            config,
            rows=noted,
            plans=plans,
            num_classes=num_classes,
            image_shape=SHAPE,
            ledger=Ledger(math.inf, 1e-5),  # the records are made up
            randomness=PrivateRandomness(),
            rng=torch.Generator().manual_seed(0),
        )
    return proposed, seen


def _joined(chunks: Iterable[Tensor | BlockRows]) -> tuple[Tensor, Tensor]:
    rows = [chunk for chunk in chunks if isinstance(chunk, BlockRows)]
    return torch.cat([part.values for part in rows]), torch.cat([part.block for part in rows])


def _sum_of(chunks: Iterable[Tensor | BlockRows], like: Tensor) -> Tensor:
    values, blocks = _joined(chunks)
    return torch.zeros_like(like).index_add_(0, blocks, values)
