"""What up to k records of one person cost together, against integrals of densities, closed forms and group privacy."""

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.dp_event import MixtureOfGaussiansDpEvent
from scipy.stats import binom, norm

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.plan import ReleasePlan, Unit

DELTA = 1e-5


def plan(noise, *, sampling_prob=1.0, num_releases=1, unit=Unit.RECORD):
    return ReleasePlan(
        purpose="test", unit=unit, clip_norm=0.3, noise_multiplier=noise, sampling_prob=sampling_prob,
        num_releases=num_releases,
    )  # fmt: skip


def deltas(records_per_person, sampling_prob, noise, epsilon):
    """Integrals of max(0, p - e^epsilon q), either way round, where j rows of +1 join with binomial probability."""
    x = np.linspace(-40 * noise, 40 * noise + records_per_person, 50_001)
    number = range(records_per_person + 1)
    joined = sum(binom.pmf(j, records_per_person, sampling_prob) * norm.pdf(x, j, noise) for j in number)
    without = norm.pdf(x, 0, noise)
    return [
        np.trapezoid(np.maximum(0, p - math.exp(epsilon) * q), x) for p, q in [(joined, without), (without, joined)]
    ]


@pytest.mark.parametrize(
    ("records_per_person", "sampling_prob", "noise"), [(2, 0.1, 1.0), (3, 0.5, 2.0), (7, 0.05, 1.5)]
)
def test_one_sampled_release_is_the_integral_of_its_densities(records_per_person, sampling_prob, noise):
    """Independent of dp_accounting and of how its event is made; from both sides."""
    epsilon = epsilon_of([plan(noise, sampling_prob=sampling_prob).event(records_per_person)], DELTA)
    grid = 1e-5  # relative error of the sums over x
    assert max(deltas(records_per_person, sampling_prob, noise, epsilon)) <= DELTA * (1 + grid)
    assert max(deltas(records_per_person, sampling_prob, noise, epsilon - 0.01)) > DELTA


def test_records_that_all_take_part_move_a_sum_so_many_times_as_far():
    assert plan(6.0).event(3) == GaussianDpEvent(2.0)
    assert plan(6.0, num_releases=7).event(3) == SelfComposedDpEvent(GaussianDpEvent(2.0), 7)
    assert plan(12.0, unit=Unit.SHARD).event(3) == GaussianDpEvent(2.0)  # at most three shards, each by twice its bound


def test_a_mixture_for_one_record_costs_what_the_sampled_gaussian_does():
    """Golden: dp_accounting's event for Poisson sampling, which takes another way through it."""
    mixture = MixtureOfGaussiansDpEvent(1.5, [0, 1], [0.9, 0.1])
    usual = plan(1.5, sampling_prob=0.1, num_releases=20).event(1)
    assert usual == SelfComposedDpEvent(PoissonSampledDpEvent(0.1, GaussianDpEvent(1.5)), 20)
    epsilon = epsilon_of([SelfComposedDpEvent(mixture, 20)], DELTA)
    assert epsilon == pytest.approx(epsilon_of([usual], DELTA), abs=1e-3)


@pytest.mark.parametrize("records_per_person", [2, 3])
def test_many_sampled_releases_are_within_group_privacy_and_above_one_record(records_per_person):
    """Golden: (e, d) for one record is (k e, d (exp(k e) - 1) / (exp(e) - 1)) for k, Vadhan 2017, Lemma 2.2."""
    of = plan(4.0, sampling_prob=0.05, num_releases=20)
    for_one = epsilon_of([of.event(1)], 1e-9)
    delta = 1e-9 * math.expm1(records_per_person * for_one) / math.expm1(for_one)
    together = epsilon_of([of.event(records_per_person)], delta)
    assert epsilon_of([of.event(1)], delta) < together < records_per_person * for_one


@pytest.mark.parametrize("sampling_prob", [1e-6, 0.05, 0.7, 1 - 1e-6])
@pytest.mark.parametrize("records_per_person", [2, 300, 10_000])
def test_rare_numbers_of_joined_records_are_rounded_up(records_per_person, sampling_prob):
    """Golden: scipy's binomial; at least so many join is never less likely than it is, and the whole is one."""
    event = plan(5.0, sampling_prob=sampling_prob).event(records_per_person)
    numbers, probs = np.array(event.sensitivities), np.array(event.sampling_probs)
    assert probs.sum() == pytest.approx(1, abs=1e-9)
    assert numbers[-1] == records_per_person
    at_least = probs[::-1].cumsum()[::-1]
    exact = binom.sf(numbers - 1, records_per_person, sampling_prob)
    assert (at_least >= exact * (1 - 1e-9)).all()
    assert at_least == pytest.approx(exact, rel=1e-8, abs=1e-25)


def test_no_noise_bounds_nothing_and_sampled_shards_are_refused_with_a_mend():
    assert epsilon_of([plan(0.0, sampling_prob=0.1).event(3)], DELTA) == math.inf
    with pytest.raises(ValueError, match=r"privacy\.records_per_person=3, and test samples .*set shards\.sampling_p"):
        plan(2.0, sampling_prob=0.1, unit=Unit.SHARD).event(3)
