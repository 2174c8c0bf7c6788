"""A release that several processes make: every row once, the noise once, one charge."""

import math

import pytest
import torch

from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer

DIM = 20_000


def plan(**told):
    return ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=0.5, **told)


def released_by(side_by_side, size, rows, *, seed=None, **told):
    """What each of so many ranks has of one release of these rows, [units, dim]."""

    def work(ranks):
        randomness = PrivateRandomness(seed=seed if ranks.leads else None)
        sanitizer = Sanitizer(plan(**told), Ledger(math.inf, 1e-5), randomness, ranks)
        return sanitizer.release(rows[ranks.own(len(rows))].split(30), (rows.shape[1],))

    return side_by_side(size, work)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_a_sum_without_noise_is_that_of_one_process_to_the_bit_in_every_rank(side_by_side, rng, size):
    rows = torch.randn(50, 300, generator=rng) * torch.logspace(-3, 2, 50)[:, None]
    (alone,) = released_by(side_by_side, 1, rows, noise_multiplier=0.0)
    for released in released_by(side_by_side, size, rows, noise_multiplier=0.0):
        assert torch.equal(released, alone)


def test_a_sum_with_the_same_noise_is_that_of_one_process_to_the_bit(side_by_side, rng):
    """And so the noise is in it once, wherever rows lie; a rank that has none is no exception."""
    rows = torch.randn(3, 300, generator=rng)
    (alone,) = released_by(side_by_side, 1, rows, noise_multiplier=2.0, seed=7)
    for size in (2, 5):
        for released in released_by(side_by_side, size, rows, noise_multiplier=2.0, seed=7):
            assert torch.equal(released, alone)


def test_noise_of_several_ranks_has_the_planned_scale(side_by_side, has_scale):
    """That of one noise of 0.5 * 1.5, in both directions; a right scale is rejected with probability 5e-7."""
    first, second = released_by(side_by_side, 2, torch.zeros(10, DIM), noise_multiplier=1.5)
    assert torch.equal(first, second)
    assert has_scale(first, 0.75)
    assert not has_scale(first, 0.75 * math.sqrt(2)), "two noises would be seen"


def test_each_rank_has_the_whole_plan_in_its_ledger_once(side_by_side):
    """The one that is kept is rank 0's; that of others says what may still be planned, as rank 0's does."""

    def work(ranks):
        ledger = Ledger(500.0, 1e-5)
        sanitizer = Sanitizer(plan(num_releases=2), ledger, PrivateRandomness(), ranks)
        for _ in range(2):
            sanitizer.release([], (3,))
        return ledger

    (alone,) = side_by_side(1, work)
    for ledger in side_by_side(3, work):
        assert ledger.entries == alone.entries == [plan(num_releases=2)]
        assert ledger.spent() == alone.spent()


def test_a_stream_that_follows_a_key_is_another_for_every_name_and_key():
    def drawn(key, name):
        stream = PrivateRandomness()
        stream.follow(key, name)
        return tuple(stream.uniform(3).tolist())

    secret = PrivateRandomness()
    one, other = secret.key_for_another(), secret.key_for_another()
    assert drawn(one, "a") == drawn(one, "a")
    assert len({drawn(one, "a"), drawn(one, "b"), drawn(other, "a"), tuple(secret.uniform(3).tolist())}) == 4
