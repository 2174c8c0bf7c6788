"""Opacus's accountants against this project's, on the same plans."""

import math

import pytest

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.cross_check import PRV_ERROR, cross_check
from dpsad.privacy.plan import ReleasePlan, Unit

DELTA = 1e-5


def records(noise_multiplier, sampling_prob=1.0, num_releases=1):
    return ReleasePlan(
        purpose="test",
        unit=Unit.RECORD,
        clip_norm=0.7,
        noise_multiplier=noise_multiplier,
        sampling_prob=sampling_prob,
        num_releases=num_releases,
    )


SHARDS = ReleasePlan(purpose="test", unit=Unit.SHARD, clip_norm=1.0, noise_multiplier=4.0)


@pytest.mark.parametrize(
    "plans",
    [
        [records(4.0)],
        [records(20.0, num_releases=50)],
        [records(1.0, 0.01, 500)],
        [records(0.63, 0.05, 48)],
        [records(1.58, num_releases=2), records(1.83, num_releases=4), records(1.31, 0.49, 10)],
        [records(6.0), records(1.0, 0.01, 100), records(0.8, 0.02, 50), records(6.0)],
        [records(1.0, 0.9, 3)],
    ],
)
def test_three_accountants_agree(plans):
    """PRV from both sides: not below by more than our grid, and not above by more than twice its own error.

    RDP is above both, by at most a half.
    """
    ours = epsilon_of([plan.event(1) for plan in plans], DELTA)
    by_rdp, by_prv = cross_check(plans, DELTA, 1)
    assert (by_rdp.accountant, by_prv.accountant) == ("opacus RDP", "opacus PRV")
    assert (by_rdp.reason, by_prv.reason) == ("", "")
    assert ours - 1e-3 <= by_prv.epsilon <= ours + 2 * PRV_ERROR
    assert ours <= by_rdp.epsilon <= 1.5 * ours


@pytest.mark.parametrize("plans", [[SHARDS], [records(3.0), SHARDS]])
def test_shards_are_not_applicable(plans):
    for check in cross_check(plans, DELTA, 1):
        assert check.epsilon is None
        assert "not shards" in check.reason


def test_what_cannot_be_said_has_a_reason():
    assert [check.reason for check in cross_check([records(3.0), records(0.0)], DELTA, 1)] == 2 * [
        "a plan adds no noise"
    ]
    by_rdp, by_prv = cross_check([records(0.05, 0.1, 100)], DELTA, 1)  # PRV's grid would not fit into memory
    assert by_rdp.epsilon > 1000
    assert by_prv.epsilon is None
    assert "too fine" in by_prv.reason


def test_nothing_released_costs_nothing():
    assert [check.epsilon for check in cross_check([], DELTA, 1)] == [0, 0]
    assert math.isclose(epsilon_of([], DELTA), 0)
