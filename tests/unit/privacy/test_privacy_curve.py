"""Delta as a function of epsilon: the closed form, and the inverse of what the ledger says."""

import numpy as np
import pytest

from dpsad.privacy.accounting import epsilon_of, gaussian_delta, privacy_curve
from dpsad.privacy.plan import ReleasePlan, Unit


def plan(**values):
    return ReleasePlan(**{"purpose": "test", "unit": Unit.RECORD, "clip_norm": 1.0, **values})


def test_full_releases_have_the_closed_form():
    """mu^2 = sum of T (reach / sigma)^2."""
    plans = [plan(noise_multiplier=2.0), plan(unit=Unit.SHARD, clip_norm=3.0, noise_multiplier=3.0, num_releases=4)]
    mu = (1 / 4 + 4 * 4 / 9) ** 0.5
    epsilons = np.array([0.0, 0.5, 4.0, 12.0])
    curve = privacy_curve([one.event(1) for one in plans])(epsilons)
    assert curve.tolist() == pytest.approx([gaussian_delta(mu, epsilon) for epsilon in epsilons.tolist()])


@pytest.mark.parametrize(
    "plans",
    [
        [plan(noise_multiplier=0.8, sampling_prob=0.1, num_releases=20)],
        [plan(noise_multiplier=3.0), plan(noise_multiplier=1.0, sampling_prob=0.3)],
        [plan(noise_multiplier=3.0), plan(unit=Unit.SHARD, noise_multiplier=2.0, sampling_prob=0.3, num_releases=3)],
    ],
)
@pytest.mark.parametrize("delta", [1e-5, 1e-2])
def test_it_is_the_inverse_of_the_ledgers_epsilon(plans, delta):
    events = [one.event(1) for one in plans]
    assert privacy_curve(events)(np.array([epsilon_of(events, delta)]))[0] == pytest.approx(delta, rel=1e-2)


def test_without_noise_nothing_is_bounded():
    assert privacy_curve([plan(noise_multiplier=0.0).event(1)])(np.array([0.0, 9.0])).tolist() == [1.0, 1.0]
