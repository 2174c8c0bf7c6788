"""Bounds from error rates: against closed forms, a simulation, and plans whose epsilon is known."""

import math
import time

import numpy as np
import pytest
from scipy.stats import binom, norm

from dpsad.audit.error_rates import (
    ErrorRates,
    candidates,
    clopper_pearson_upper,
    contradicts,
    epsilon_of_plans,
    epsilon_of_rates,
    error_rates,
    separation,
)
from dpsad.audit.game import Game, audit, judged
from dpsad.privacy.gaussian import gaussian_epsilon, gaussian_mu
from dpsad.privacy.plan import ReleasePlan, Unit

PLAN = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0)


def rates(false_positive, false_negative):
    return ErrorRates(false_positive=false_positive, false_negative=false_negative)


def errors_of(mu, threshold):
    """Of the test "x > threshold" between Normal(0, 1) and Normal(mu, 1)."""
    return rates(float(norm.sf(threshold)), float(norm.cdf(threshold - mu)))


@pytest.mark.parametrize(("count", "num"), [(0, 50), (3, 50), (49, 50), (120, 1000)])
@pytest.mark.parametrize("error", [0.05, 5e-4])
def test_the_upper_bound_is_where_so_few_events_have_that_chance(count, num, error):
    """The definition: under the bound, `count` events or fewer come with probability `error`, by scipy's binomial."""
    bound = float(clopper_pearson_upper(count, num, error))
    assert binom.cdf(count, num, bound) == pytest.approx(error, rel=1e-6)


def test_events_without_exception_bound_nothing():
    assert clopper_pearson_upper(50, 50, 0.01) == 1.0


def test_errors_are_counted_on_their_own_side():
    (found,) = error_rates(np.array([0.0, 1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0, 5.0]), np.array([2.5]), 0.1)
    assert found.false_positive == pytest.approx(float(clopper_pearson_upper(1, 4, 0.05)))
    assert found.false_negative == pytest.approx(float(clopper_pearson_upper(1, 4, 0.05)))


def test_randomised_response_is_bounded_by_its_epsilon_exactly():
    lie = 1 / (1 + math.exp(1.7))
    assert epsilon_of_rates(rates(lie, lie), 0.0) == pytest.approx(1.7)
    assert epsilon_of_rates(rates(lie, lie), 0.01) < 1.7


def test_both_directions_count_and_guessing_shows_nothing():
    assert epsilon_of_rates(rates(0.01, 0.6), 1e-5) == pytest.approx(math.log((0.4 - 1e-5) / 0.01))
    assert epsilon_of_rates(rates(0.6, 0.01), 1e-5) == pytest.approx(math.log((0.4 - 1e-5) / 0.01))
    assert epsilon_of_rates(rates(0.5, 0.5), 0.0) == 0.0
    assert epsilon_of_rates(rates(1.0, 1.0), 1e-5) == 0.0


@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("threshold", [-0.5, 0.5, 2.0])
def test_errors_of_a_gaussian_release_give_its_own_epsilon_back(mu, threshold):
    """The closed forms of Dong et al. 2022; never above the true epsilon."""
    found = errors_of(mu, threshold)
    assert separation(found) == pytest.approx(mu)
    plan = PLAN.with_noise(1 / mu)
    assert not contradicts(found, [plan])
    assert contradicts(found, [plan.with_noise(1.02)])
    true = gaussian_epsilon(mu, 1e-5)
    assert 0.97 * true < epsilon_of_plans(found, [PLAN.with_noise(2.0)], 1e-5) <= true


def test_errors_beyond_the_plan_are_a_contradiction_whatever_the_true_noise_is():
    found = errors_of(3.0, 1.5)
    plan = PLAN.with_noise(1.0)
    assert contradicts(found, [plan])
    assert epsilon_of_plans(found, [plan], 1e-5) > gaussian_epsilon(1.0, 1e-5)


def test_a_sampled_plan_is_judged_by_its_own_curve():
    """The best test of one sampled release, by its density; more noise than planned is contradicted."""
    plan = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=0.6, sampling_prob=0.2)
    threshold = 1.2
    missed = 0.8 * norm.cdf(threshold / 0.6) + 0.2 * norm.cdf((threshold - 1) / 0.6)
    found = rates(float(norm.sf(threshold / 0.6)), float(missed))
    assert not contradicts(found, [plan])
    assert contradicts(found, [plan.with_noise(1.1)])


def test_what_has_no_noise_is_contradicted_by_nothing():
    assert not contradicts(rates(1e-9, 1e-9), [PLAN.with_noise(0.0)])


def test_thresholds_lie_between_scores_of_both_worlds():
    found = candidates(np.array([0.0, 1.0]), np.array([5.0, 6.0]))
    assert found.tolist() == [0.5, 3.0, 5.5]
    assert candidates(np.array([1.0, 1.0]), np.array([1.0])).tolist() == [1.0]


def gaussian_game(mu, claimed_mu, seed):
    draws = np.random.default_rng(seed)
    return Game("test", [PLAN.with_noise(1 / claimed_mu)], lambda there, num: draws.normal(mu if there else 0, 1, num))


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_a_hundred_audits_stay_below_the_truth_and_come_near_it(epsilon):
    """At confidence 1 - 1e-6 an audit, 100 audits exceed the truth with probability 1e-4 at most; seeded besides."""
    mu = gaussian_mu(epsilon, 1e-5)
    found = [
        audit(gaussian_game(mu, mu, seed), repetitions=20_000, delta=1e-5, confidence=1 - 1e-6) for seed in range(100)
    ]
    assert not any(one.refuted for one in found)
    assert max(one.audited_epsilon for one in found) <= epsilon
    assert np.median([one.epsilon_of_plans for one in found]) > 0.4 * epsilon


def test_too_little_noise_is_found_out():
    found = audit(gaussian_game(2.0, 1.0, 0), repetitions=2_000, delta=1e-5, confidence=1 - 1e-6)
    assert found.refuted
    assert found.epsilon_of_plans > found.claimed_epsilon
    assert found.claimed_epsilon == pytest.approx(gaussian_epsilon(1.0, 1e-5))


def test_a_threshold_is_judged_on_games_that_did_not_choose_it():
    """Scores that say nothing: chosen and judged on the same games, some threshold would look good."""
    scores = np.random.default_rng(0).normal(size=(2, 40))
    scores[1, :20] += 100
    found = judged(gaussian_game(0, 1, 0), scores[0], scores[1], delta=1e-5, confidence=0.9, start=time.perf_counter())
    assert found.epsilon == 0


@pytest.mark.parametrize(("num", "message"), [(3, "--repetitions 3 is too few")])
def test_too_few_games_are_refused(num, message):
    with pytest.raises(ValueError, match=message):
        audit(gaussian_game(1, 1, 0), repetitions=num, delta=1e-5)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="a score is not finite"):
        audit(Game("test", [PLAN], lambda there, num: np.full(num, math.nan)), repetitions=8, delta=1e-5)
