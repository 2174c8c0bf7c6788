"""What the first stage hands on: prototypes with what they have cost, made of the shards that were drawn."""

import pytest
import torch

from dpsad.api.config import Config
from dpsad.data.config import DataConfig
from dpsad.data.records import Subject
from dpsad.data.shards import split_into_shards
from dpsad.data.sources import load_images
from dpsad.methods.dp_sad import prototype_release as stage
from dpsad.methods.dp_sad.prototype_release import Released, rows_of_shards, rows_of_teachers
from dpsad.methods.dp_sad.prototypes import propose_prototypes
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.runtime.config_files import load_config
from students.prototypes import Prototypes
from teachers.closed_form import ClosedFormTeachers

PLAN = ReleasePlan(purpose="prototypes", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=2.0, num_releases=3)


def test_whoever_takes_prototypes_up_is_charged_what_they_have_cost():
    paid = Ledger(10.0, 1e-5)
    paid.charge(PLAN)
    prototypes = Prototypes(torch.zeros(2, 1, 4, 4), torch.arange(2), torch.ones(2), 1.0)
    state = Released(prototypes, None, Subject((1, 4, 4), ("a", "b")), paid.state_dict()).state_dict()
    own = Ledger(10.0, 1e-5)
    Released.of(state, torch.device("cpu"), own)
    assert own.entries == [PLAN]
    with pytest.raises(BudgetExceeded):
        Released.of(state, torch.device("cpu"), Ledger(paid.spent() - 0.1, 1e-5))


@pytest.mark.parametrize("who", ["records", "teachers"])
def test_shards_answer_a_question_by_secret_draws_with_the_planned_probability(who, monkeypatch):
    """The draws are those of `poisson_sample`, whose distribution has tests of its own."""
    records = load_images(DataConfig(), "train").take(torch.arange(150))
    settings = load_config(
        Config, base=None, overrides=["guarantee=shards", "shards.num_shards=12", "shards.sampling_prob=0.4"]
    ).settings()
    shards, secret = split_into_shards(records.ids, 12, key=b"test"), PrivateRandomness(seed=4)
    if who == "records":
        rows, kind, place = rows_of_shards(settings, records, shards, secret), "shard_rows", 3
    else:
        teachers = ClosedFormTeachers(records.images, records.labels, shards)
        rows, kind, place = rows_of_teachers(settings, teachers, None, secret), "teacher_rows", 2
    joined = []
    monkeypatch.setattr(stage, kind, lambda *args: joined.append(args[place].tolist()))
    for _ in range(5):
        rows(propose_prototypes(torch.zeros(10, 2, 1, 8, 8)), 1.0)
    same = PrivateRandomness(seed=4)
    assert joined == [poisson_sample(12, 0.4, same).tolist() for _ in range(5)]
    assert len(set(map(len, joined))) > 1, "of no fixed size"
