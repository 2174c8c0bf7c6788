"""privacy.records_per_person holds for every method: what it plans fits the budget of a person's records together."""

import json
import math

import pytest

from dpsad.api.config import Config
from dpsad.api.plan import budget_plan, budget_table
from dpsad.methods.registry import METHODS
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.statement import formal_statement, nominal_statement
from dpsad.release.model_card import model_card
from dpsad.release.students import ReleaseConfig
from dpsad.runtime.config_files import load_config

CENTRAL = ["dp_feta.sampling_prob=1", "dp_feta.noise_multiplier=50"]  # quickly accounted
RUNS = {
    "records": ["refine.steps=4"],
    "prototypes alone": ["refine.steps=0"],
    "shards and teachers": ["guarantee=shards", "shards.num_shards=50", "refine.steps=4"],
    "dpdm": ["method=dpdm", "baseline.steps=4"],
    "dpdm, sampled": ["method=dpdm", "baseline.steps=1", "baseline.batch_size=100"],  # takes longer to account
    "dp-diffusion": ["method=dp-diffusion", "baseline.steps=4"],
    "dp-ldm": ["method=dp-ldm", "baseline.steps=4"],
    "dp-merf": ["method=dp-merf"],
    "dp-kernel": ["method=dp-kernel"],
    "gs-wgan": ["method=gs-wgan", "guarantee=shards", "gs_wgan.num_shards=10", "gs_wgan.shards_per_step=10"],
    "privimage": ["method=privimage", "baseline.steps=4"],
    "dp-feta": ["method=dp-feta", "baseline.steps=4", *CENTRAL],
    "feta-pro": ["method=feta-pro", "baseline.steps=4", *CENTRAL],
    "private-evolution": ["method=private-evolution"],
    "class-means": ["method=class-means"],
}


def config_of(*words, records_per_person=3):
    common = ["privacy.num_records=1000", "refine.batch_size=1000", "baseline.batch_size=1000", "privacy.epsilon=3"]
    return load_config(
        Config, base=None, overrides=[*common, f"privacy.records_per_person={records_per_person}", *words]
    )


def test_every_method_is_here():
    methods = {config_of(*words).method for words in RUNS.values()}
    assert methods == set(METHODS)


@pytest.mark.parametrize("name", RUNS)
def test_a_persons_records_together_fit_the_budget_and_use_it(name):
    config = config_of(*RUNS[name])
    ledger = Ledger.of(config.privacy)
    for plan in budget_plan(config, 1000):
        ledger.charge(plan)
    assert 2.7 <= ledger.spent() <= 3
    alone = Ledger(3.0, ledger.delta, ledger.entries)
    assert alone.spent() < 1.5, "one record of three is protected better"


def plan_of(noise):
    return ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=noise)


def test_a_ledger_accounts_for_all_records_whoever_planned_the_release():
    ledger = Ledger(3.0, 1e-5, records_per_person=3)
    enough_for_one = Ledger(3.0, 1e-5).calibrate(plan_of(1.0))
    with pytest.raises(BudgetExceeded):
        ledger.charge(enough_for_one)
    with pytest.raises(BudgetExceeded):  # what was released to protect records alone costs a person more
        ledger.take_over({"entries": [enough_for_one.to_dict()], "fixed_noise": False})
    assert ledger.calibrate(plan_of(1.0)).noise_multiplier == pytest.approx(3 * enough_for_one.noise_multiplier, 3e-3)
    assert ledger.planned([plan_of(9.0)]).records_per_person == 3


def test_the_state_keeps_the_number_and_older_states_protect_one_record():
    ledger = Ledger(3.0, 1e-5, records_per_person=3)
    state = json.loads(json.dumps(ledger.state_dict()))
    other = Ledger(9.0, 1e-3)
    other.load_state_dict(state)
    assert other == ledger
    del state["records_per_person"]
    other.load_state_dict(state)
    assert other == Ledger(3.0, 1e-5)


def test_the_statement_and_its_card_say_who_is_protected():
    ledger = Ledger(3.0, 1e-5, [plan_of(9.0)], records_per_person=3)
    statement = formal_statement(ledger, guarantee="records", size_is_public=False)
    assert statement["adjacency"] == "add-or-remove-one-person-with-up-to-3-records"
    assert statement["unit"] == ["up to 3 records of one person"]
    assert statement["records_per_person"] == 3
    assert statement["not_covered"][-1] == "that no person has more than 3 records, which the code cannot see"
    assert statement["epsilon"] == Ledger(3.0, 1e-5, [plan_of(3.0)]).spent()
    config = ReleaseConfig(kind="images", class_names=("a",), image_shape=(1, 8, 8))
    card = model_card(config, {**statement, "method": "dp-merf"})
    assert "for all records of one person, up to 3, added or removed" in card
    nominal = nominal_statement(plan_of(9.0), ledger, [])
    assert (nominal["nominal_epsilon"], nominal["adjacency"]) == (statement["epsilon"], statement["adjacency"])


def test_one_record_is_stated_as_before():
    statement = formal_statement(Ledger(3.0, 1e-5, [plan_of(9.0)]), guarantee="records", size_is_public=False)
    assert (statement["adjacency"], statement["unit"]) == ("add-or-remove-one-record", ["record"])
    assert "records_per_person" not in statement
    assert not any("person" in item for item in statement["not_covered"])


def test_account_prints_who_is_protected_and_what_opacus_cannot_say():
    table = str(budget_table(config_of("method=class-means")))
    assert "budget epsilon 3 at delta 1e-05, add-or-remove-one-person-with-up-to-3-records" in table
    assert "it knows one record that is added or removed, not all of one person" in table


@pytest.mark.parametrize("number", [0, -1, 2.5, 10_001, math.nan])
def test_a_number_that_no_person_has_is_refused(number):
    with pytest.raises(ValueError, match=rf"privacy\.records_per_person={number} must be .*in \[1, 10000\]"):
        Ledger(1.0, 1e-5, records_per_person=number)


def test_the_config_refuses_it_likewise():
    with pytest.raises(ValueError, match=r"privacy\.records_per_person=0 must be"):
        config_of(records_per_person=0)
