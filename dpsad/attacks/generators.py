"""Worst-case neighbours of the baselines that train generators: DP-MERF's embedding, and GS-WGAN's shards."""

from typing import cast

import torch
from torch import Tensor, nn

from discriminators.shard_wasserstein import ShardWassersteinCritics
from dpsad.attacks.prototypes import SHAPE, SIDE_BY_SIDE, grey_records
from dpsad.attacks.release_plans import BEYOND, uncharged
from dpsad.attacks.scratch import scratch
from dpsad.audit.error_rates import Scores
from dpsad.audit.game import Game, in_parts
from dpsad.audit.likelihood import log_likelihood_ratio, watched_releases
from dpsad.data.shards import Shards
from dpsad.methods.dp_merf import DpMerfConfig, dp_merf, embedding_rows, features_of
from dpsad.methods.gs_wgan import GsWganConfig, gs_wgan
from dpsad.privacy.calibration import calibrated
from dpsad.privacy.plan import ReleasePlan, Unit
from students.generator import Generator, GeneratorConfig

_SMALL = GeneratorConfig(noise_dim=2, channels=4)
_MERF = DpMerfConfig(num_features=20, steps=1, step_features=0, batch_size=1, generator=_SMALL)
_WGAN_STEPS, _WGAN_BATCH = 5, 16
_WGAN_GAMES = _WGAN_BATCH * SHAPE[1] * SHAPE[2]  # coordinates of a row


def dp_merf_game(epsilon: float, delta: float) -> Game:
    """The real embedding, released once. Every class is a game of its own."""
    plan = ReleasePlan(purpose="dp-merf, mean embedding", unit=Unit.RECORD, clip_norm=1.0)
    (plan,) = calibrated([plan], epsilon=epsilon, delta=delta, records_per_person=1)

    def play(there: bool, num: int) -> Scores:
        rng = torch.Generator().manual_seed(0)
        records, features = grey_records(num, (-0.3, 1.0)), features_of(_MERF, SHAPE, rng)
        others, own = (
            torch.cat([part.values for part in embedding_rows(features, half, _MERF.count_share)])
            for half in (records.take(torch.arange(num)), records.take(torch.arange(num, 2 * num)))
        )
        with watched_releases() as seen, scratch() as (checkpoint, log):
            dp_merf(
                _MERF,
                generator=Generator(_SMALL, image_shape=SHAPE, num_classes=num),
                features=features,
                records=records if there else records.take(torch.arange(num)),
                sanitizer=uncharged(plan),
                rng=rng,
                checkpoint=checkpoint,
                log=log,
            )
        shown = ((seen[0].released - others) * own).sum(1) / own.norm(dim=1)
        return log_likelihood_ratio(plan, shown)

    return Game("DP-MERF, mean embedding", [plan], in_parts(play, SIDE_BY_SIDE))


class _TurnedCritics:
    """Critics whose rows lie along a coordinate each, and are turned round where their shard has a record more."""

    def __init__(self, size: float):
        self.critics, self.size = nn.Linear(1, 1), size

    def train(self, *batches: Tensor) -> None:
        """A critic may be anything that its shard makes of it."""

    def directions(self, part: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
        rows = torch.zeros(len(part), outputs.numel())
        rows[torch.arange(len(part)), part] = self.size
        return rows.unflatten(1, outputs.shape)


def gs_wgan_game(epsilon: float, delta: float, *, sampling_prob: float = 0.5) -> Game:
    """The real loop of GS-WGAN with the worst critics. Every shard is a game of its own."""
    plan = ReleasePlan(
        purpose="gs-wgan, gradients of critics",
        unit=Unit.SHARD,
        clip_norm=2.0,
        sampling_prob=sampling_prob,
        num_releases=_WGAN_STEPS,
    )
    (plan,) = calibrated([plan], epsilon=epsilon, delta=delta, records_per_person=1)

    def play(there: bool, num: int) -> Scores:
        critics = _TurnedCritics((1 if there else -1) * BEYOND * plan.clip_norm)
        config = GsWganConfig(
            num_shards=num, shards_per_step=1, steps=_WGAN_STEPS, batch_size=_WGAN_BATCH, warm_steps=0,
            critic_steps=1, critic_batch_size=1, generator=_SMALL,
        )  # fmt: skip
        with watched_releases() as seen, scratch() as (checkpoint, log):
            sanitizer = uncharged(plan)
            gs_wgan(
                config,
                generator=Generator(_SMALL, image_shape=SHAPE, num_classes=1),
                critics=cast(ShardWassersteinCritics, critics),
                records=grey_records(1, (0.0,) * num),
                shards=Shards(torch.arange(num)[:, None]),
                sanitizer=sanitizer,
                randomness=sanitizer.randomness,
                rng=torch.Generator().manual_seed(0),
                checkpoint=checkpoint,
                log=log,
            )
        shown = torch.stack([one.released.flatten()[:num] for one in seen]) / plan.clip_norm
        return log_likelihood_ratio(plan, shown).sum(0)

    return Game("GS-WGAN, gradients of critics", [plan], in_parts(play, _WGAN_GAMES))
