import math

import pytest
import torch

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.privacy.statement import FIXED_NOISE, NO_NOISE, PUBLIC_SIZE, formal_statement, nominal_statement

PLAN = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=0.5, noise_multiplier=4.0)


def after_a_release(plan=PLAN, *, epsilon=8.0, seed=None):
    """The ledger after one release of a plan; without a seed, by secret noise."""
    ledger = Ledger(epsilon, 1e-5)
    Sanitizer(plan, ledger, PrivateRandomness(seed=seed)).release([torch.ones(3, 4)], (4,))
    return ledger


def stated(ledger, *, size_is_public=False):
    return formal_statement(ledger, guarantee="records", size_is_public=size_is_public)


def test_it_states_what_was_spent_and_not_what_was_asked_for():
    statement = stated(after_a_release())
    assert (statement["formal"], statement["reasons"]) == (True, [])
    assert statement["epsilon"] == epsilon_of([PLAN.event(1)], 1e-5) < 2
    assert statement["budget"] == {"epsilon": 8.0, "delta": 1e-5}
    (event,) = statement["events"]
    assert event.items() >= PLAN.to_dict().items()


def test_noise_that_can_be_repeated_voids_it_wherever_it_was_added():
    """In this run, before it was stopped and went on, or in another run whose releases it goes on from."""
    fixed = after_a_release(seed=3)
    resumed, other = Ledger(8.0, 1e-5), Ledger(8.0, 1e-5)
    resumed.load_state_dict(fixed.state_dict())
    other.take_over(fixed.state_dict())
    for ledger in (fixed, resumed, other):
        ledger.charge(PLAN)  # by secret noise: what was fixed stays fixed
        statement = stated(ledger)
        assert (statement["formal"], statement["reasons"]) == (False, [FIXED_NOISE])


def test_without_noise_nothing_is_claimed():
    statement = stated(after_a_release(PLAN.with_noise(0.0), epsilon=math.inf))
    assert (statement["formal"], statement["epsilon"], statement["reasons"]) == (False, None, [NO_NOISE])


@pytest.mark.parametrize("size_is_public", [True, False])
def test_a_size_that_was_taken_from_the_data_is_not_covered_and_said_to_be(size_is_public):
    assert (PUBLIC_SIZE in stated(after_a_release(), size_is_public=size_is_public)["not_covered"]) == size_is_public


def test_a_nominal_epsilon_is_never_called_epsilon():
    statement = nominal_statement(PLAN, Ledger(10.0, 1e-5), ["why not"])
    assert (statement["formal"], statement["epsilon"], statement["events"]) == (False, None, [])
    assert statement["nominal_epsilon"] == epsilon_of([PLAN.event(1)], 1e-5)
    assert statement["reasons"] == ["why not"]
