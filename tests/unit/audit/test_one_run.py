"""One-run audits: the bound against a sum, randomised response, and the figure that its paper names."""

import math

import numpy as np
import pytest

from dpsad.audit.one_run import Guesses, best_guess, epsilon_of_guesses, guess, p_value


def slow_p_value(canaries, guesses, correct, epsilon, delta):
    """Steinke et al. 2023, Theorem 5.2, term by term with exact binomials."""
    prob = 1 / (1 + math.exp(-epsilon))

    def mass(k):
        return math.comb(guesses, k) * prob**k * (1 - prob) ** (guesses - k) if 0 <= k <= guesses else 0.0

    tail = sum(mass(k) for k in range(correct, guesses + 1))
    worst = max(sum(mass(k) for k in range(correct - i, correct)) / i for i in range(1, canaries + 1))
    return min(1.0, tail + 2 * canaries * delta * worst)


@pytest.mark.parametrize(("canaries", "guesses", "correct"), [(40, 30, 25), (12, 12, 12), (20, 10, 0), (50, 9, 5)])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 2.5])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
def test_the_bound_is_the_theorems(canaries, guesses, correct, epsilon, delta):
    found = p_value(Guesses(num_canaries=canaries, num_guesses=guesses, num_correct=correct), epsilon, delta)
    assert found == pytest.approx(slow_p_value(canaries, guesses, correct, epsilon, delta), rel=1e-9)


def test_all_right_without_delta_has_a_closed_form():
    """v = r: P[all right] = (e^eps / (1 + e^eps))^r = 1 - confidence."""
    found = epsilon_of_guesses(Guesses(num_canaries=100, num_guesses=100, num_correct=100), 0.0, 0.95)
    prob = 0.05 ** (1 / 100)
    assert found == pytest.approx(math.log(prob / (1 - prob)), abs=2e-4)


def test_delta_lowers_the_bound_and_coins_bound_nothing():
    right = Guesses(num_canaries=1000, num_guesses=100, num_correct=95)
    bounds = [epsilon_of_guesses(right, delta, 0.95) for delta in (0.0, 1e-5, 1e-3)]
    assert bounds[0] > bounds[1] > bounds[2]
    assert epsilon_of_guesses(Guesses(num_canaries=100, num_guesses=100, num_correct=52), 1e-5, 0.95) == 0.0


def test_guesses_are_about_both_ends_of_the_scores():
    scores = np.array([5.0, 0.0, 4.0, 1.0, 3.0, 2.0])
    included = np.array([True, False, False, True, True, False])
    assert guess(scores, included, 2) == Guesses(num_canaries=6, num_guesses=4, num_correct=2)
    assert guess(scores, included, 1) == Guesses(num_canaries=6, num_guesses=2, num_correct=2)


def test_randomised_response_is_never_bounded_above_its_epsilon_and_nearly_attained():
    """A hundred audits at confidence 1 - 1e-6 each: false alarm 1e-4 at most; seeded besides."""
    draws, found = np.random.default_rng(0), []
    for _ in range(100):
        included = draws.random(2000) < 0.5
        honest = draws.random(2000) < 1 / (1 + math.exp(-1.0))
        scores = np.where(honest, included, ~included) + 1e-3 * draws.random(2000)
        found.append(best_guess(scores, included, delta=0.0, confidence=1 - 1e-6)[1])
    assert max(found) <= 1.0
    assert np.median(found) > 0.6


def test_scores_that_tell_everything_refute_any_small_epsilon():
    included = np.arange(400) % 2 == 0
    guesses, epsilon = best_guess(included.astype(float), included, delta=1e-5, confidence=0.999)
    assert (guesses.num_guesses, guesses.num_correct) == (400, 400)
    assert epsilon > 2
