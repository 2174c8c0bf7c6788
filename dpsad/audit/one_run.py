"""Auditing with one training run: many canaries, each in it by the toss of a coin, and guesses about which were."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

_PRECISION = 1e-4
_CHOICES = 6  # numbers of guesses that are tried, each half of the one before


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """What an auditor of one run has to show.

    num_canaries: m, each included with probability one half, independently.
    num_guesses: r, about canaries of the auditor's choice; it abstains from the others.
    num_correct: v of them.
    """

    num_canaries: int
    num_guesses: int
    num_correct: int


def p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Bound on the chance of that many correct guesses, were the run (epsilon, delta)-private for each canary.

    With W ~ Binomial(r, e^eps / (1 + e^eps)),
        P[correct >= v] <= P[W >= v] + 2 m delta max over i = 1..m of P[v - i <= W < v] / i

    Source: Steinke et al. 2023, Theorem 5.2.
    """
    num, correct = guesses.num_guesses, guesses.num_correct
    prob = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(correct - 1, num, prob))
    if delta == 0 or correct == 0:
        return min(tail, 1.0)
    # the probability of v - i .. v - 1 sums up as i grows, and from i = v on it grows no more
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), num, prob))
    worst = float((below / np.arange(1, correct + 1)).max())
    return min(tail + 2 * guesses.num_canaries * delta * worst, 1.0)


def epsilon_of_guesses(guesses: Guesses, delta: float, confidence: float) -> float:
    """Largest epsilon, up to 1e-4, that so many correct guesses refute; 0 where they refute none.

    Formal guarantee: exceeds the true epsilon with probability 1 - confidence at most.
    """

    def refutes(epsilon: float) -> bool:
        return p_value(guesses, epsilon, delta) <= 1 - confidence

    if not refutes(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refutes(high):
        low, high = high, 2 * high
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if refutes(middle) else (low, middle)
    return low


def guess(scores: np.ndarray, included: np.ndarray, num_each: int) -> Guesses:
    """Takes the `num_each` highest scores for canaries that were included, and as many of the lowest for others.

    Args:
        scores: [canaries]; the higher, the more it looks as if the canary was in the run.
        included: [canaries] bool.
        num_each: at most half of the canaries.
    """
    order = np.argsort(scores, kind="stable")
    correct = int(included[order[len(order) - num_each :]].sum()) + int((~included[order[:num_each]]).sum())
    return Guesses(num_canaries=len(scores), num_guesses=2 * num_each, num_correct=correct)


def best_guess(scores: np.ndarray, included: np.ndarray, *, delta: float, confidence: float) -> tuple[Guesses, float]:
    """Guesses about half, a quarter, an eighth, ... of the canaries on either side, and the largest bound of them.

    Formal guarantee: as `epsilon_of_guesses`; the chance of an error is shared among all numbers that are tried.
    """
    numbers = sorted({max(1, len(scores) // 2**power) for power in range(1, _CHOICES + 1)}, reverse=True)
    each = 1 - (1 - confidence) / len(numbers)
    tried = [guess(scores, included, number) for number in numbers]
    bounds = [epsilon_of_guesses(guesses, delta, each) for guesses in tried]
    best = int(np.argmax(bounds))
    return tried[best], bounds[best]
