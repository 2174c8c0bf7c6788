"""Which models may meet which rows, over every combination that a config can say."""

from itertools import product

import pytest

from dpsad.api.config import Config
from dpsad.api.plan import budget_plan
from dpsad.privacy.ledger import Ledger
from dpsad.runtime.config_files import load_config

CHOICES = {
    "guarantee": ("records", "shards", "nominal"),
    "teacher.data": ("prototypes", "private", "public"),
    "student.data_weight": (0.0, 1.0),
    "refine.steps": (0, 5),
    "shards.teacher": ("none", "closed_form", "denoisers"),
}
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in product(*CHOICES.values())]


def accepted(combination):
    try:
        return load_config(Config, base=None, overrides=[f"{key}={value}" for key, value in combination.items()])
    except ValueError:
        return None


def test_no_config_puts_a_private_model_next_to_a_record_row():
    """A private teacher is refused by the settings; one that comes in by its path, by the distillation."""
    formal = [combination for combination in COMBINATIONS if combination["guarantee"] != "nominal"]
    configs = {tuple(combination.values()): accepted(combination) for combination in formal}
    assert 0 < sum(config is not None for config in configs.values()) < len(configs)
    for config in filter(None, configs.values()):
        assert config.teacher.data != "private"
        assert config.student.data_weight == 0, "the record itself beside the student, without a row"


def test_whatever_is_refused_says_why():
    for combination in COMBINATIONS:
        if accepted(combination) is None:
            with pytest.raises(ValueError, match=r"teacher\.data|student\.data_weight"):
                load_config(Config, base=None, overrides=[f"{key}={value}" for key, value in combination.items()])


def test_private_teachers_are_at_home_where_nothing_is_promised():
    assert accepted({"guarantee": "nominal", "teacher.data": "private", "student.data_weight": 1.0}) is not None


@pytest.mark.parametrize("sampling_prob", [1.0, 0.3])
@pytest.mark.parametrize("refine_steps", [0, 4])
def test_sketch_answers_and_refinement_of_shards_fit_one_budget(sampling_prob, refine_steps):
    """Nothing is refused half way, after a part was spent; and hardly anything is left over."""
    config = load_config(
        Config, base=None, overrides=[
            "guarantee=shards", "privacy.num_records=1000", "refine.batch_size=100", f"refine.steps={refine_steps}",
            f"shards.sampling_prob={sampling_prob}", "shards.num_shards=50", "privacy.epsilon=3",
        ],
    )  # fmt: skip
    ledger = Ledger(3.0, 1e-5)
    for plan in budget_plan(config, 1000):
        ledger.charge(plan)
    assert len(ledger.entries) == 5 + (refine_steps > 0)
    assert 2.95 < ledger.spent() <= 3
