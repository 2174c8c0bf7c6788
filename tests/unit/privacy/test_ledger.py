import json

import pytest

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.statement import LIMITED, formal_statement


def plan(noise_multiplier=2.0, num_releases=1, unit=Unit.RECORD, purpose="test"):
    return ReleasePlan(
        purpose=purpose, unit=unit, clip_norm=0.5, noise_multiplier=noise_multiplier, num_releases=num_releases
    )


def test_an_empty_ledger_has_spent_nothing():
    assert Ledger(1.0, 1e-5).spent() == 0


def test_charges_add_up_as_one_mechanism_and_not_epsilon_by_epsilon():
    ledger = Ledger(10.0, 1e-5)
    ledger.charge(plan(2.0, 3, purpose="first"))
    ledger.charge(plan(5.0, 7, purpose="second"))
    assert ledger.spent() == epsilon_of([plan(2.0, 3).event(), plan(5.0, 7).event()], 1e-5)
    assert ledger.spent() < epsilon_of([plan(2.0, 3).event()], 1e-5) + epsilon_of([plan(5.0, 7).event()], 1e-5)


def test_a_charge_just_over_the_budget_is_refused_and_leaves_the_ledger_as_it_was():
    total = epsilon_of([plan().event(), plan(3.0).event()], 1e-5)
    tight, enough = Ledger(total * 0.999, 1e-5), Ledger(total, 1e-5)
    for ledger in (tight, enough):
        ledger.charge(plan(purpose="first"))
    enough.charge(plan(3.0, purpose="second"))
    before = tight.state_dict()
    with pytest.raises(BudgetExceeded, match=r"second would bring epsilon to .*raise privacy\.epsilon"):
        tight.charge(plan(3.0, purpose="second"))
    assert tight.state_dict() == before
    assert len(enough.entries) == 2
    tight.charge(plan(1e3, purpose="smaller"))


@pytest.mark.parametrize("epsilon", [0, -1, float("nan")])
def test_a_budget_that_is_not_positive_is_refused(epsilon):
    with pytest.raises(ValueError, match=rf"privacy\.epsilon={epsilon} must be positive"):
        Ledger(epsilon, 1e-5)


@pytest.mark.parametrize("delta", [0, 1, -1e-5, float("nan")])
def test_a_delta_that_is_no_probability_is_refused(delta):
    with pytest.raises(ValueError, match=rf"privacy\.delta={delta} must be between 0 and 1"):
        Ledger(1.0, delta)


def test_the_statement_says_what_was_spent_in_plain_data():
    ledger = Ledger(8.0, 1e-5)
    ledger.charge(plan(4.0, 2, purpose="sketch"))
    ledger.charge(plan(3.0, purpose="refine"))
    statement = json.loads(json.dumps(ledger.statement()))
    assert statement == {
        "epsilon": ledger.spent(),
        "delta": 1e-5,
        "adjacency": "add-or-remove-one-record",
        "unit": ["record"],
        "accountant": "dp_accounting.pld.PLDAccountant",
        "events": [
            {
                "purpose": purpose,
                "unit": "record",
                "clip_norm": 0.5,
                "noise_multiplier": noise,
                "sampling_prob": 1.0,
                "num_releases": releases,
            }
            for purpose, noise, releases in [("sketch", 4.0, 2), ("refine", 3.0, 1)]
        ],
        "budget": {"epsilon": 8.0, "delta": 1e-5},
    }


def test_state_survives_json_and_goes_on_where_it_was():
    ledger = Ledger(3.0, 1e-5)
    ledger.charge(plan(purpose="sketch"))
    taken_up = Ledger(1.0, 1e-3)
    taken_up.load_state_dict(json.loads(json.dumps(ledger.state_dict())))
    assert taken_up == ledger
    with pytest.raises(BudgetExceeded):
        taken_up.charge(plan(1.5, purpose="again"))
    assert taken_up == ledger


def test_a_shard_costs_what_a_record_costs_at_half_the_noise():
    shards, records = Ledger(50.0, 1e-5), Ledger(50.0, 1e-5)
    shards.charge(plan(3.0, unit=Unit.SHARD, purpose="rows"))
    records.charge(plan(1.5, purpose="rows"))
    assert shards.spent() == records.spent()


def test_what_was_read_off_the_records_stays_and_travels_with_the_charges():
    """A student that is made of another run's releases inherits what those rested on."""
    first, second = Ledger(10.0, 1e-5), Ledger(10.0, 1e-5)
    first.note(["the classes", "the size"])
    first.note(["the size", "the range"])
    first.charge(plan())
    second.note(["the colour"])
    second.take_over(first.state_dict())
    assert second.read_off == ("the colour", "the classes", "the size", "the range")
    assert second.planned([plan()]).read_off == second.read_off
    resumed = Ledger(10.0, 1e-5)
    resumed.note(["the colour"])
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert resumed.read_off == second.read_off
    old = {key: value for key, value in first.state_dict().items() if key != "read_off"}
    resumed.load_state_dict(old)
    assert resumed.read_off == second.read_off


def test_the_statement_lists_what_was_read_off_and_a_limit_voids_it():
    ledger = Ledger(10.0, 1e-5)
    ledger.charge(plan())
    ledger.note(["the range, which was read off"])
    statement = formal_statement(ledger, guarantee="records", size_is_public=False)
    assert (statement["formal"], statement["reasons"]) == (True, [])
    assert statement["not_covered"][-1] == "the range, which was read off"
    ledger.note([LIMITED])
    statement = formal_statement(ledger, guarantee="records", size_is_public=False)
    assert (statement["formal"], statement["reasons"]) == (False, [LIMITED])
    assert statement["not_covered"][-1] == "the range, which was read off"
