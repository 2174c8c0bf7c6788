"""Ranks: who has what, whose draws are whose, and that training together is training alone."""

import copy
import math
import threading
from contextlib import nullcontext, suppress
from itertools import chain
from types import SimpleNamespace

import pytest
import torch

from discriminators.choice import DiscriminatorConfig, new_discriminator
from dpsad.data.records import ImageSet
from dpsad.data.shards import split_into_shards
from dpsad.methods.dp_sad import prototype_release
from dpsad.methods.dp_sad.distillation import StudentConfig, distill
from dpsad.methods.dp_sad.prototype_release import rows_of_records, rows_of_shards
from dpsad.methods.dp_sad.prototypes import PrototypesConfig, prototype_plans, release_prototypes
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.dp_sad.shard_teachers import ShardsConfig
from dpsad.networks.autoencoder import Autoencoder, AutoencoderConfig
from dpsad.privacy.clipping import PartedRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime import checkpoint
from dpsad.runtime.checkpoint import Checkpoint, load
from dpsad.runtime.log import Log
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.runtime.run_folder import open_run
from dpsad.runtime.seeds import first_weights, rng_named
from dpsad.runtime.torchrun import KEYS, Place, place_here
from dpsad.training.autoencoder import CompressConfig, train_autoencoder
from dpsad.training.batches import Batches
from dpsad.training.denoiser import train_denoiser
from dpsad.training.dp_sgd import dp_sgd
from teachers.denoiser import DenoiserTeacher


@pytest.mark.parametrize(("num", "size"), [(0, 2), (1, 3), (7, 2), (100, 8)])
def test_every_unit_is_one_ranks_and_no_two(num, size):
    places = torch.cat([Ranks(rank, size).own(num) for rank in range(size)])
    assert sorted(places.tolist()) == list(range(num))


def test_parts_of_a_batch_make_up_the_batch():
    batch = torch.arange(24).reshape(6, 4)
    assert torch.equal(torch.cat([Ranks(rank, 3).part(batch) for rank in range(3)]), batch)
    assert torch.equal(torch.cat([Ranks(rank, 2).part(batch, dim=1) for rank in range(2)], dim=1), batch)
    with pytest.raises(ValueError, match=r"a batch of 6 images cannot be shared evenly by 4 processes; give"):
        Ranks(0, 4).part(batch)


def test_gradients_become_their_mean_over_ranks(side_by_side):
    def work(ranks):
        model = torch.nn.Linear(2, 3)
        model.weight.grad = torch.full((3, 2), float(ranks.rank))  # the bias has none
        ranks.average_gradients(model)
        return model.weight.grad.unique().tolist(), model.bias.grad

    assert side_by_side(4, work) == [([1.5], None)] * 4


def test_alone_nothing_is_moved_drawn_or_asked():
    randomness, tensor = PrivateRandomness(), torch.ones(3)
    before = randomness.state_dict()
    assert ALONE.draws(randomness) is randomness
    ALONE.new_step(randomness, randomness)
    assert randomness.state_dict() == before
    ALONE.add_up(tensor)
    assert torch.equal(ALONE.part(tensor), torch.ones(3))
    assert (ALONE.any(True), ALONE.gathered(3), ALONE.from_first(lambda: 4)) == (True, [3], 4)


def test_a_rank_with_other_settings_is_refused_in_all_of_them(side_by_side):
    def work(ranks):
        with pytest.raises(ValueError, match="the records of rank 2 are not those of rank 0"):
            ranks.require_same("the records", "b" if ranks.rank == 2 else "a")
        ranks.require_same("the settings", "a")

    side_by_side(3, work)


def drawn_by(side_by_side, size, state, *, seed=None, place="here", steps=2):
    """[steps, ranks] first numbers that each draws, and rank 0's state afterwards."""

    def work(ranks):
        randomness = PrivateRandomness(seed=seed, place=place)
        if ranks.leads:
            randomness.load_state_dict(state)
        draws, numbers = ranks.draws(randomness), []
        for _ in range(steps):
            ranks.new_step(draws, randomness)
            numbers.append(draws.uniform(2).tolist())
        return numbers, randomness.state_dict()

    done = side_by_side(size, work)
    return [list(step) for step in zip(*(numbers for numbers, _ in done), strict=True)], done[0][1]


@pytest.mark.parametrize("seed", [None, 3])
def test_no_two_ranks_and_no_two_steps_draw_the_same(side_by_side, seed):
    state = PrivateRandomness(seed=seed).state_dict()
    steps, _ = drawn_by(side_by_side, 3, state, seed=seed)
    numbers = {tuple(drawn) for step in steps for drawn in step}
    assert len(numbers) == 6


def test_a_step_that_is_made_again_draws_the_same_by_as_many_ranks_in_the_same_place_and_else_others(side_by_side):
    state = PrivateRandomness().state_dict()
    steps, later = drawn_by(side_by_side, 3, state)
    assert drawn_by(side_by_side, 3, state)[0] == steps
    (first, then), _ = steps, later
    assert drawn_by(side_by_side, 3, drawn_by(side_by_side, 3, state, steps=1)[1], steps=1)[0] == [then]
    others = [
        drawn_by(side_by_side, 2, state)[0][0],
        drawn_by(side_by_side, 4, state)[0][0],
        drawn_by(side_by_side, 3, state, place="elsewhere")[0][0],
    ]
    assert not {tuple(drawn) for drawn in first} & {tuple(drawn) for step in others for drawn in step}


class Loop:
    """`dp_sgd` by several ranks: 40 records, the row of each a one in its own place.

    Attributes:
        before_row: is called with the rank when rows are made.
    """

    def __init__(self, folder, **told):
        images = torch.eye(40).reshape(40, 1, 1, 40)
        self.records = ImageSet(
            images=images, labels=torch.zeros(40).long(), ids=tuple(map(str, range(40))), class_names=("a",)
        )
        self.plan = ReleasePlan(**{"purpose": "test", "unit": Unit.RECORD, "clip_norm": 1.0, **told})
        self.folder, self.path, self.before_row = folder, folder / "checkpoint", lambda ranks: None

    def work(self, ranks):
        """Weights, ledger and what was released."""
        model, released = torch.nn.Linear(40, 1, bias=False), []
        torch.nn.init.zeros_(model.weight)
        randomness = PrivateRandomness(place=f"{ranks.size} ranks")
        sanitizer = Sanitizer(self.plan, Ledger(math.inf, 1e-5), randomness, ranks)
        release = sanitizer.release
        sanitizer.release = lambda *args: released.append(release(*args)) or released[-1]

        def rows(chunk, labels):
            self.before_row(ranks)
            return PartedRows([chunk.flatten(1)])

        dp_sgd(
            "test",
            model=model,
            rows=rows,
            records=self.records.take(ranks.own(40)),
            sanitizer=sanitizer,
            expected_batch_size=40 * self.plan.sampling_prob,
            learning_rate=0.1,
            ema_half_life_steps=1.0,
            chunk_size=100,
            randomness=ranks.draws(randomness),
            checkpoint=Checkpoint(self.path, every_seconds=0, ranks=ranks),
            log=Log(open_run(self.folder / f"rank{ranks.rank}", StudentConfig()), "test"),
            ranks=ranks,
        )
        return model.weight.detach().clone(), sanitizer.ledger, released


def test_where_all_records_join_without_noise_several_ranks_train_what_one_does(side_by_side, tmp_path):
    told = {"num_releases": 3, "noise_multiplier": 0.0}
    ((alone, _, _),) = side_by_side(1, Loop(tmp_path / "one", **told).work)
    for weights, ledger, released in side_by_side(3, Loop(tmp_path / "three", **told).work):
        assert torch.equal(weights, alone)
        assert len(ledger.entries) == 1
        assert (released[0] > 0.5).all(), "every record, in whichever rank it is"


def test_records_join_by_draws_of_their_own_with_the_planned_probability_in_every_rank(side_by_side, tmp_path):
    """1,200 chances of 0.3, two-sided at five standard errors: false alarm 6e-7. And ranks do not join in step."""
    loop = Loop(tmp_path, num_releases=30, noise_multiplier=0.0, sampling_prob=0.3)
    _, _, released = side_by_side(2, loop.work)[0]
    joined = torch.stack(released) > 0.5
    assert joined.double().mean().item() == pytest.approx(0.3, abs=5 * math.sqrt(0.3 * 0.7 / 1200))
    assert not torch.equal(joined[:, 0::2], joined[:, 1::2]), "a draw for each record, not for each place in a rank"
    assert len({tuple(step.tolist()) for step in joined}) == 30


def test_a_step_that_a_failed_rank_undid_is_made_again_as_it_was_by_as_many(side_by_side, tmp_path):
    loop = Loop(tmp_path, num_releases=3, noise_multiplier=1.0, sampling_prob=0.5)
    seen, fails = [], [True]

    def note(ranks):
        if load(loop.path)["step"] == 1:
            seen.append(ranks.rank)
            if ranks.rank == 1 and fails:
                fails.clear()
                raise MemoryError

    loop.before_row = note
    with pytest.raises(MemoryError):
        side_by_side(2, loop.work)
    saved = load(loop.path)
    assert saved["step"] == 1
    again = [side_by_side(2, loop.work)[0]]
    assert len(again[0][2]) == 2, "the first release was kept"
    state = load(loop.path)["parts"]["sanitizer"]
    assert len(state["ledger"]["entries"]) == 1
    assert state["num_made"] == 3
    # from the same file, once more: the same numbers; by one process, or three: others
    for size, same in ((2, True), (1, False), (3, False)):
        torch.save(saved, loop.path)
        _, ledger, released = side_by_side(size, loop.work)[0]
        assert torch.equal(released[0], again[0][2][0]) is same
        assert (len(ledger.entries), len(released)) == (1, 2)


def test_a_signal_to_one_rank_stops_all_of_them_after_the_same_step(side_by_side, tmp_path, monkeypatch):
    asked = iter([False, True])

    def second_thread_is_asked():
        return threading.current_thread().name.endswith("_1") and next(asked)

    monkeypatch.setattr(checkpoint, "_interrupts_deferred", lambda: nullcontext(second_thread_is_asked))
    steps = {0: [], 1: []}

    def work(ranks):
        with suppress(KeyboardInterrupt):
            for step in Checkpoint(tmp_path / "a", every_seconds=1e9, ranks=ranks).remaining(10):
                steps[ranks.rank].append(step)
            return "finished"
        return "interrupted"

    assert side_by_side(2, work) == ["interrupted", "interrupted"]
    assert steps == {0: [0], 1: [0]}
    assert load(tmp_path / "a")["step"] == 1


def test_only_rank_0_writes_a_checkpoint_and_all_take_up_what_it_has(side_by_side, tmp_path):
    def work(ranks):
        model = torch.nn.Linear(2, 1)
        torch.nn.init.constant_(model.weight, ranks.rank + 1.0)
        path = tmp_path / f"{ranks.rank}"
        first = Checkpoint(path, ranks=ranks)
        first.track(model=model)
        list(first.remaining(1))
        again = Checkpoint(path, ranks=ranks)
        again.track(model=model)
        return path.exists(), again.step, model.weight.tolist()

    assert side_by_side(2, work) == [(True, 1, [[1.0, 1.0]]), (False, 1, [[1.0, 1.0]])]


BATCHES = Batches(
    Provenance.PUBLIC,
    lambda num, rng: (torch.rand(num, 1, 8, 8, generator=rng) * 2 - 1, torch.randint(3, (num,), generator=rng)),
)


def levels(uniform):
    return (0.1 + 2 * uniform).float()


class Trainings:
    """Public training of each kind, by ranks: weights after a few steps."""

    def __init__(self, make_denoiser, folder):
        self.folder = folder
        with first_weights(0, "test"):
            self.discriminator = new_discriminator(DiscriminatorConfig(channels=4), image_channels=1, num_classes=3)
            self.autoencoder = Autoencoder(AutoencoderConfig(channels=4), (1, 8, 8))
        self.denoisers = [make_denoiser(channels=4, multipliers=(1,)) for _ in range(2)]

    def told(self, ranks):
        run = open_run(self.folder / f"rank{ranks.rank}of{ranks.size}", StudentConfig())
        return {
            "rng": rng_named(0, "test"),
            "checkpoint": Checkpoint(run.checkpoint("test"), ranks=ranks),
            "log": Log(run, "test"),
            "precision": "float32",
            "batches": BATCHES,
            "ranks": ranks,
        }

    def denoiser(self, ranks):
        settings = SimpleNamespace(
            steps=2, batch_size=8, learning_rate=1e-3, ema_half_life_images=20.0, label_dropout=0.2
        )
        return train_denoiser(
            "teach",
            settings,
            denoiser=copy.deepcopy(self.denoisers[0]),
            num_classes=3,
            levels=levels,
            **self.told(ranks),
        )

    def student(self, ranks):
        student, teacher, discriminator = copy.deepcopy([*self.denoisers, self.discriminator])
        return distill(
            StudentConfig(steps=2, batch_size=8, adversarial_weight=3.0),
            student=student,
            teacher=DenoiserTeacher(teacher),
            discriminator=discriminator,
            levels=lambda num, rng: levels(torch.rand(2, num, generator=rng)),
            sanitize=None,
            penalty_weight=2.0,
            feature_weight=1.0,
            **self.told(ranks),
        )

    def compressor(self, ranks):
        config = CompressConfig(steps=2, batch_size=8)
        return train_autoencoder(config, autoencoder=copy.deepcopy(self.autoencoder), **self.told(ranks))


@pytest.mark.parametrize("kind", ["denoiser", "student", "compressor"])
def test_ranks_that_share_batches_train_what_one_does(side_by_side, make_denoiser, tmp_path, kind):
    """Up to rounding, which Adam makes a step of where a gradient is nothing else, as before a normalisation."""
    trainings = Trainings(make_denoiser, tmp_path)
    train, start = getattr(trainings, kind), trainings.autoencoder if kind == "compressor" else trainings.denoisers[0]
    (alone,) = side_by_side(1, train)
    first, second = side_by_side(2, train)
    weights = zip(start.parameters(), alone.parameters(), first.parameters(), strict=True)
    apart = [((ours - theirs).norm() / (ours - before).norm()).item() for before, ours, theirs in weights]
    assert sorted(apart)[len(apart) // 2] < 1e-3, "of half of them, how far they are apart over how far they moved"
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("guarantee", ["records", "shards"])
def test_ranks_release_the_prototypes_of_one_process_to_the_bit(side_by_side, rng, guarantee):
    """With the same noise: sums are of whole numbers, whoever adds them up. All shards take part."""
    labels = torch.arange(90) % 3
    records = ImageSet(
        images=torch.rand(90, 1, 4, 4, generator=rng) * 2 - 1,
        labels=labels,
        ids=tuple(map(str, range(90))),
        class_names=("a", "b", "c"),
    )
    config = PrototypesConfig(per_class=(1, 2), rounds=(1, 2), shares=(0.3, 0.7))
    settings = DpSadSettings(prototypes=config, shards=ShardsConfig(num_shards=9))
    shards = split_into_shards(records.ids, 9, key=b"test")
    unit = Unit.SHARD if guarantee == "shards" else Unit.RECORD

    def work(ranks):
        randomness = PrivateRandomness(seed=2)
        if guarantee == "records":
            rows = rows_of_records(settings, records.take(ranks.own(90)))
        else:
            rows = rows_of_shards(settings, records, shards, randomness, ranks)
        return release_prototypes(
            config,
            rows=rows,
            plans=prototype_plans(config, 5.0, unit=unit),
            num_classes=3,
            image_shape=(1, 4, 4),
            ledger=Ledger(500.0, 1e-5),
            randomness=randomness,
            rng=rng_named(0, "test"),
            together=ranks,
        )

    (alone,) = side_by_side(1, work)
    for prototypes in side_by_side(3, work):
        assert torch.equal(prototypes.images, alone.images)
        assert torch.equal(prototypes.counts, alone.counts)


def test_shards_are_asked_by_one_rank_each_with_the_planned_probability(side_by_side, monkeypatch):
    """600 chances of 0.4, two-sided at five standard errors: false alarm 6e-7."""
    settings = DpSadSettings(shards=ShardsConfig(num_shards=20, sampling_prob=0.4))
    monkeypatch.setattr(prototype_release, "teacher_rows", lambda *args: args[2].tolist())

    def work(ranks):
        rows = prototype_release.rows_of_teachers(settings, None, None, PrivateRandomness(), ranks)
        return [rows(None, 1.0) for _ in range(30)]

    asked = [list(chain(*parts)) for parts in zip(*side_by_side(3, work), strict=True)]
    assert all(len(set(shards)) == len(shards) for shards in asked), "no shard twice"
    assert sum(map(len, asked)) / 600 == pytest.approx(0.4, abs=5 * math.sqrt(0.4 * 0.6 / 600))
    assert set().union(*asked) == set(range(20))


def test_a_place_is_what_torchrun_says(monkeypatch):
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    assert place_here() == Place(0, 1, 0)
    told = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    monkeypatch.setenv("RANK", "5")
    assert place_here() == Place(0, 1, 0), "some launcher's word for something else"
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    assert place_here() == Place(5, 8, 1)
    for key, value in (("RANK", "8"), ("WORLD_SIZE", "many"), ("LOCAL_RANK", "-1")):
        monkeypatch.setenv(key, value)
        with pytest.raises(ValueError, match=rf"{key}='{value}'.* is no place"):
            place_here()
        monkeypatch.setenv(key, told[key])


@pytest.mark.parametrize(("name", "says"), [("cuda:1", "is one GPU, and 2 processes"), ("cuda", "torch sees 0 GPUs")])
def test_a_gpu_that_is_not_there_for_every_process_is_refused(monkeypatch, name, says):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ValueError, match=says):
        Ranks(1, 2, 1).device(torch.device(name))
    assert Ranks(1, 2, 1).device(torch.device("cpu")) == torch.device("cpu")
