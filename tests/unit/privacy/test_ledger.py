import json

import pytest
import torch

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
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
    assert ledger.spent() == epsilon_of([plan(2.0, 3).event(1), plan(5.0, 7).event(1)], 1e-5)
    assert ledger.spent() < epsilon_of([plan(2.0, 3).event(1)], 1e-5) + epsilon_of([plan(5.0, 7).event(1)], 1e-5)


def test_a_charge_just_over_the_budget_is_refused_and_leaves_the_ledger_as_it_was():
    total = epsilon_of([plan().event(1), plan(3.0).event(1)], 1e-5)
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
    with pytest.raises(ValueError, match=rf"privacy\.epsilon={epsilon} must be in"):
        Ledger(epsilon, 1e-5)


@pytest.mark.parametrize("delta", [0, 1, -1e-5, float("nan")])
def test_a_delta_that_is_no_probability_is_refused(delta):
    with pytest.raises(ValueError, match=rf"privacy\.delta={delta} must be in"):
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
                "charge_id": entry.charge_id,
            }
            for entry, (purpose, noise, releases) in zip(
                ledger.entries, [("sketch", 4.0, 2), ("refine", 3.0, 1)], strict=True
            )
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


def test_every_charge_has_a_name_of_its_own_that_a_take_over_keeps():
    ledger = Ledger(10.0, 1e-5)
    for _ in range(2):
        ledger.charge(plan(5.0))
    first, second = (entry.charge_id for entry in ledger.entries)
    assert first != second
    assert len(first) == 16
    later = Ledger(10.0, 1e-5)
    later.take_over(json.loads(json.dumps(ledger.state_dict())))
    assert [entry.charge_id for entry in later.entries] == [first, second]
    assert [event["charge_id"] for event in later.statement()["events"]] == [first, second]


def test_a_plan_that_was_charged_elsewhere_gets_another_name():
    """Else two series of releases would be counted as one."""
    first, second = Ledger(10.0, 1e-5), Ledger(10.0, 1e-5)
    first.charge(plan(5.0))
    second.charge(first.entries[0])
    Sanitizer(first.entries[0], second, PrivateRandomness(seed=0)).charge()
    assert len({entry.charge_id for entry in [*first.entries, *second.entries]}) == 3


def test_charges_of_old_files_stay_without_a_name_when_they_are_taken_over():
    """So that a ledger that is taken up later holds the same ones."""
    old = {"entries": [plan(5.0).to_dict()], "fixed_noise": False}
    ledger, resumed = Ledger(10.0, 1e-5), Ledger(10.0, 1e-5)
    for each in (ledger, resumed):
        each.take_over(old)
        assert [entry.charge_id for entry in each.entries] == [""]
    ledger.charge(plan(6.0))
    resumed.load_state_dict(json.loads(json.dumps(ledger.state_dict())))
    assert resumed == ledger


def charged(*plans):
    ledger = Ledger(20.0, 1e-5)
    for each in plans:
        ledger.charge(each)
    return ledger


def unnamed(ledger):
    state = ledger.state_dict()
    return {**state, "entries": [{k: v for k, v in entry.items() if k != "charge_id"} for entry in state["entries"]]}


def test_a_ledger_that_is_taken_up_drops_no_charge():
    """Neither by name, where the plans are equal, nor by value, where old files have no names."""
    own, other, twice = charged(plan(5.0)), charged(plan(5.0)), charged(plan(5.0), plan(5.0))
    nameless = Ledger(20.0, 1e-5)
    nameless.take_over(unnamed(twice))
    for ledger, state in [
        (own, other.state_dict()),
        (own, unnamed(own)),
        (own, Ledger(20.0, 1e-5).state_dict()),
        (twice, {**twice.state_dict(), "entries": twice.state_dict()["entries"][1:]}),
        (nameless, unnamed(other)),
        (nameless, charged(plan(5.0), plan(6.0)).state_dict()),
    ]:
        before = ledger.state_dict()
        with pytest.raises(ValueError, match="test was charged here, and is not among what was charged before"):
            ledger.load_state_dict(json.loads(json.dumps(state)))
        assert ledger.state_dict() == before
    state = twice.state_dict()
    nameless.load_state_dict(state)
    first = Ledger(20.0, 1e-5)
    first.take_over({**state, "entries": state["entries"][:1]})
    first.load_state_dict(state)
    assert nameless.entries == first.entries == twice.entries
    assert [entry.charge_id for entry in first.entries] == [entry.charge_id for entry in twice.entries]


def test_a_sanitizer_is_not_gone_on_with_where_that_drops_a_charge():
    begun, randomness = Sanitizer(plan(5.0, 2), charged(plan(9.0)), PrivateRandomness(seed=0)), PrivateRandomness()
    begun.charge()
    again = Sanitizer(plan(5.0, 2), charged(plan(9.0, purpose="of another teacher")), randomness)
    with pytest.raises(ValueError, match="of another teacher was charged here"):
        again.load_state_dict(begun.state_dict())
    assert not again.charged
    assert [entry.purpose for entry in again.ledger.entries] == ["of another teacher"]


@pytest.mark.parametrize("fixed", [(True, False), (False, True), (False, False)])
def test_noise_that_was_fixed_stays_fixed_when_a_ledger_is_taken_up(fixed):
    ledger, saved = Ledger(20.0, 1e-5), Ledger(20.0, 1e-5)
    ledger.charge(plan(5.0), fixed_noise=fixed[0])
    saved.take_over({**ledger.state_dict(), "fixed_noise": fixed[1]})
    ledger.load_state_dict(saved.state_dict())
    assert ledger.fixed_noise == any(fixed)


@pytest.mark.parametrize(("made", "same"), [(0, False), (1, False), (2, True)])
def test_half_made_releases_that_are_gone_on_with_get_another_name(made, same):
    """A copy of the checkpoint may be gone on with as well; only releases that are all made are the same."""
    planned, randomness = plan(5.0, num_releases=2), PrivateRandomness(seed=0)
    begun = Sanitizer(planned, Ledger(10.0, 1e-5), randomness)
    begun.charge()
    for _ in range(made):
        begun.release([torch.ones(1, 3)], (3,))
    names = {begun.ledger.entries[0].charge_id}
    for _ in range(2):
        again = Sanitizer(planned, Ledger(10.0, 1e-5), randomness)
        again.load_state_dict(json.loads(json.dumps(begun.state_dict())))
        assert again.ledger.entries == begun.ledger.entries
        names.add(again.ledger.entries[0].charge_id)
    assert len(names) == (1 if same else 3)


@pytest.mark.parametrize(("num_records", "said"), [(99_999, ""), (100_000, "100000"), (10**6, "1000000")])
def test_a_delta_that_is_too_large_for_the_records_is_in_the_statement(num_records, said):
    ledger = Ledger(8.0, 1e-5)
    statement = formal_statement(ledger, guarantee="records", size_is_public=True, num_records=num_records)
    found = [item for item in statement["not_covered"] if "published whole now and then" in item]
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_where_the_number_of_records_is_private_the_statement_says_for_how_many_delta_is_too_large():
    statement = formal_statement(Ledger(8.0, 1e-5), guarantee="records", size_is_public=False)
    assert any("whole now and then, should there be 1e+05 records or more" in item for item in statement["not_covered"])


def test_the_statement_says_that_releases_of_other_runs_add_up():
    statement = formal_statement(Ledger(8.0, 1e-5), guarantee="records", size_is_public=False)
    assert any("dpsad ledger" in item for item in statement["not_covered"])


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
