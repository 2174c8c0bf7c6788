"""GS-WGAN's rows: how far one record reaches, with real shards, critics and records; and what is accounted."""

import math
from dataclasses import replace

import dp_accounting
import pytest
import torch

from discriminators.shard_wasserstein import ShardWassersteinCritics
from discriminators.wasserstein import WassersteinCritic
from dpsad.api.config import Config
from dpsad.api.plan import budget_plan
from dpsad.data.config import DataConfig
from dpsad.data.shards import shard_of, split_into_shards
from dpsad.data.sources import load_images
from dpsad.methods import gs_wgan as stage
from dpsad.methods.gs_wgan import GsWganConfig, gs_wgan, shard_rows, train_critics
from dpsad.networks.stacked import Stacked
from dpsad.privacy.accounting import ReplacedRowEvent
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.config_files import load_config
from dpsad.runtime.log import Log
from dpsad.runtime.run_folder import open_run
from students.generator import Generator, GeneratorConfig

K, MAX_NORM, NUM = 12, 0.3, 150
LABELS = torch.arange(8) % 10


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(NUM))


@pytest.fixture
def images(rng):
    """(fakes [10, 5, ...], outputs [8, ...]) of an untrained generator."""
    return (
        torch.rand(10, 5, 1, 8, 8, generator=rng) * 2 - 1,
        torch.rand(8, 1, 8, 8, generator=rng) * 2 - 1,
    )


def make_critics():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critic = WassersteinCritic(4, image_shape=(1, 8, 8), num_classes=10)
    return ShardWassersteinCritics(Stacked([critic] * K))


def answers(records, images, joined, visits=2):
    """Rows of some shards, [units, ...], after their critics were trained on these records; draws are the same."""
    fakes, outputs = images
    critics, randomness = make_critics(), PrivateRandomness(seed=3)
    shards = split_into_shards(records.ids, K, key=b"test")
    for _ in range(visits):
        train_critics(
            critics, joined, fakes, records=records, shards=shards, steps=2, batch_size=6, randomness=randomness
        )
    return list(shard_rows(critics, joined, outputs, LABELS))


def test_one_record_changes_its_own_shard_s_row_and_the_sum_by_at_most_twice_the_bound(records, images):
    plan = ReleasePlan(purpose="test", unit=Unit.SHARD, clip_norm=MAX_NORM, noise_multiplier=1.0)

    def released(rows):
        sanitizer = Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0))
        return sanitizer.release(rows, tuple(rows[0].shape[1:]))

    after = answers(records, images, torch.arange(K))
    for index in (0, 7, NUM - 1):
        before = answers(records.take(torch.arange(NUM) != index), images, torch.arange(K))
        own = shard_of(records.ids[index], K, key=b"test")
        distance = (torch.cat(after) - torch.cat(before)).flatten(1).norm(dim=1)
        assert distance[own] > 1e-3
        assert distance[torch.arange(K) != own].max() == 0
        moved = (released(after) - released(before)).norm().item()
        assert 1e-4 < moved <= plan.sensitivity() * (1 + 1e-5) == 2 * MAX_NORM * (1 + 1e-5)


def test_a_row_is_one_for_the_whole_batch(records, images):
    """The joint norm of all images is clipped: a shard's whole answer has norm `clip_norm`, not each image's part."""
    (rows,) = answers(records, images, torch.tensor([4]))
    assert rows.shape == (1, 8, 1, 8, 8)
    plan = ReleasePlan(purpose="test", unit=Unit.SHARD, clip_norm=0.01, noise_multiplier=0.0)
    sanitizer = Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0))
    assert sanitizer.release([rows], tuple(rows.shape[1:])).norm().item() == pytest.approx(0.01, rel=1e-4)


def test_shards_that_do_not_take_part_have_no_row_and_learn_nothing(records, images, monkeypatch):
    monkeypatch.setattr(stage, "CHUNK", 2)
    joined = torch.tensor([1, 5, 9])
    assert [len(rows) for rows in answers(records, images, joined)] == [2, 1]
    assert answers(records, images, joined[:0]) == []
    fakes, _ = images
    critics, shards = make_critics(), split_into_shards(records.ids, K, key=b"test")
    before = {name: weight.clone() for name, weight in critics.critics.weights().items()}
    train_critics(
        critics, joined, fakes,
        records=records, shards=shards, steps=1, batch_size=4, randomness=PrivateRandomness(seed=3),
    )  # fmt: skip
    changed = [(weight != before[name]).flatten(1).any(1) for name, weight in critics.critics.weights().items()]
    assert torch.stack(changed).any(0).nonzero().flatten().tolist() == joined.tolist()


def test_a_shard_without_records_sees_nobody_else_s(records, images, monkeypatch):
    """Its critic meets the generator's images on both sides, whatever the other shards hold."""
    ids = [record_id for record_id in records.ids if shard_of(record_id, K, key=b"test") != 4]
    others = records.take(torch.tensor([record_id in ids for record_id in records.ids]))
    black = replace(others, images=torch.full_like(others.images, -1.0))
    seen = []
    monkeypatch.setattr(
        ShardWassersteinCritics, "train", lambda self, part, real, fake, *rest: seen.append(real - fake)
    )
    for set_of_records in (others, black):
        answers(set_of_records, images, torch.tensor([4, 5]), visits=1)
    assert not seen[0][:, 0].any()
    assert not seen[1][:, 0].any()
    assert seen[0][:, 1].any()


def test_each_critic_meets_its_own_records_beside_images_of_their_class(records, images, monkeypatch):
    fakes, _ = images
    shards = split_into_shards(records.ids, K, key=b"test")

    def check(self, part, real, fake, labels, mixing):
        for place, shard in enumerate(part.tolist()):
            members = [index for index in shards.members[shard].tolist() if index >= 0]
            for image, other, label in zip(real[:, place].flatten(0, 1), fake[:, place].flatten(0, 1),
                                           labels[:, place].flatten(), strict=True):  # fmt: skip
                own = [index for index in members if torch.equal(records.images[index], image)]
                assert own
                assert records.labels[own[0]] == label
                assert any(torch.equal(other, candidate) for candidate in fakes[label])
        assert ((mixing > 0) & (mixing < 1)).all()
        checked.append(len(part))

    checked = []
    monkeypatch.setattr(ShardWassersteinCritics, "train", check)
    train_critics(
        make_critics(), torch.arange(K), fakes,
        records=records, shards=shards, steps=3, batch_size=5, randomness=PrivateRandomness(seed=1),
    )  # fmt: skip
    assert sum(checked) == K


def tiny_config(*overrides):
    return load_config(
        Config, base=None, overrides=["method=gs-wgan", "guarantee=shards", "gs_wgan.num_shards=50",
                                      "gs_wgan.shards_per_step=5", "gs_wgan.steps=20", *overrides],
    )  # fmt: skip


def test_sampled_shards_are_accounted_under_replace_one():
    (plan,) = budget_plan(tiny_config(), 1000)
    assert plan.unit is Unit.SHARD
    assert plan.sensitivity() == 2 * plan.clip_norm
    event = plan.event(1)
    assert (event.count, event.event.event.sampling_probability) == (20, 0.1)
    assert isinstance(event.event, ReplacedRowEvent)
    ledger = Ledger(10.0, 1e-5)
    ledger.charge(plan)
    assert 9.9 < ledger.spent() <= 10
    added = dp_accounting.pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    added.compose(event.event.event, event.count)
    assert added.get_epsilon(1e-5) < 9.3, "as if a shard were added or removed it would look cheaper"


def test_all_shards_every_time_cost_twice_the_bound():
    (plan,) = budget_plan(tiny_config("gs_wgan.shards_per_step=50"), 1000)
    assert plan.event(1).event == dp_accounting.GaussianDpEvent(plan.noise_multiplier / 2)


def trained(records, tmp_path, *, sampling_prob, num_releases=3, seed=2):
    """The public stream after so many steps."""
    config = GsWganConfig(num_shards=K, shards_per_step=6, steps=num_releases, batch_size=4, warm_steps=1,
                          critic_steps=1, critic_batch_size=2, generator=GeneratorConfig(channels=4, hidden=16),
                          )  # fmt: skip
    plan = ReleasePlan(
        purpose="test", unit=Unit.SHARD, clip_norm=1.0, noise_multiplier=0.0, sampling_prob=sampling_prob,
        num_releases=num_releases,
    )  # fmt: skip
    stream = torch.Generator().manual_seed(0)
    gs_wgan(
        config,
        generator=Generator(config.generator, image_shape=(1, 8, 8), num_classes=10),
        critics=make_critics(),
        records=records,
        shards=split_into_shards(records.ids, K, key=b"test"),
        sanitizer=Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0)),
        randomness=PrivateRandomness(seed=seed),
        rng=stream,
        checkpoint=Checkpoint(tmp_path / f"{sampling_prob}.checkpoint"),
        log=Log(open_run(tmp_path / f"{sampling_prob}", config), "gs-wgan"),
    )
    return stream


def test_the_public_stream_does_not_know_who_took_part(records, tmp_path):
    """As many public numbers are drawn whoever joins; else a later image would tell how many shards did."""
    states = [trained(records, tmp_path, sampling_prob=prob).get_state() for prob in (1e-9, 0.05, 0.9)]
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_every_shard_joins_a_step_by_a_secret_draw_of_its_own_with_the_planned_probability(
    records, tmp_path, monkeypatch
):
    """The draws are those of `poisson_sample`, whose distribution has tests of its own."""
    drawn, joined = [], []
    sample, rows = stage.poisson_sample, stage.shard_rows

    def noted(num, sampling_prob, randomness):
        assert randomness.repeatable
        drawn.append((num, sampling_prob, sample(num, sampling_prob, randomness)))
        return drawn[-1][2]

    monkeypatch.setattr(stage, "poisson_sample", noted)
    monkeypatch.setattr(
        stage, "shard_rows", lambda critics, own, *args: (joined.append(own), rows(critics, own, *args))[1]
    )
    trained(records, tmp_path, sampling_prob=0.3, num_releases=4)
    assert [(num, prob) for num, prob, _ in drawn] == [(K, 0.3)] * 4
    assert len({len(own) for own in joined}) > 1, "of no fixed size"
    for (*_, expected), own in zip(drawn, joined, strict=True):
        assert torch.equal(expected, own)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shards_per_step": 2000}, r"gs_wgan\.shards_per_step=2000 is more than gs_wgan\.num_shards=1000"),
        ({"warm_steps": -1}, r"gs_wgan\.warm_steps=-1 must be in"),
        ({"penalty": 0.0}, r"gs_wgan\.penalty=0\.0 must be in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        GsWganConfig(**wrong)
