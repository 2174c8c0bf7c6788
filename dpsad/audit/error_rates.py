"""Lower bounds on epsilon from how often a test tells two worlds apart: with one record, and without it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import beta

from dpsad.privacy.accounting import epsilon_of, privacy_curve
from dpsad.privacy.plan import ReleasePlan

Scores = np.ndarray  # [games] float64; the higher, the more it looks as if the record was there
MAX_EPSILON = 50.0  # bounds are not searched for beyond it
_THRESHOLDS = 200  # candidates from either end of the scores
_ROUNDING = 1e-9  # errors contradict a curve only where they are below it by more
_PRECISION = 5e-3  # relative width of the last bracket on a factor of noise


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """Upper bounds on the errors of one test, which hold together with the confidence that was asked for.

    false_positive: chance to say that the record was there when it was not.
    false_negative: chance to miss it.
    """

    false_positive: float
    false_negative: float

    @property
    def swapped(self) -> "ErrorRates":
        """Of the test that takes the record's absence for what is to be found."""
        return ErrorRates(false_positive=self.false_negative, false_negative=self.false_positive)


def clopper_pearson_upper(count: np.ndarray | int, num: int, error: float) -> np.ndarray:
    """Upper confidence bound on a probability, exact: it fails with probability `error` at most.

    Args:
        count: events that were seen, 0..num.
        num: independent trials, >= 1.
        error: in (0, 1).

    Source: Clopper and Pearson 1934.
    """
    count = np.asarray(count)
    return np.where(count < num, beta.ppf(1 - error, count + 1, np.maximum(num - count, 1)), 1.0)


def error_rates(without: Scores, with_record: Scores, thresholds: np.ndarray, error: float) -> list[ErrorRates]:
    """Bounds on the errors of the tests "the score is above a threshold", each wrong with probability `error`."""
    above = len(without) - np.searchsorted(np.sort(without), thresholds, side="right")
    missed = np.searchsorted(np.sort(with_record), thresholds, side="right")
    false_positive = clopper_pearson_upper(above, len(without), error / 2)
    false_negative = clopper_pearson_upper(missed, len(with_record), error / 2)
    return [
        ErrorRates(false_positive=positive, false_negative=negative)
        for positive, negative in zip(false_positive.tolist(), false_negative.tolist(), strict=True)
    ]


def epsilon_of_rates(rates: ErrorRates, delta: float) -> float:
    """Smallest epsilon at which a mechanism may have errors this small; 0 where any may.

    Formal guarantee: whoever is (epsilon, delta)-private has false_negative + exp(epsilon) false_positive >= 1 - delta,
    and the same with the two swapped. The result is at most the true epsilon wherever the rates are upper bounds.

    Source: Kairouz et al. 2015, Theorem 2.1.
    """
    return max(_one_way(rates, delta), _one_way(rates.swapped, delta))


def _one_way(rates: ErrorRates, delta: float) -> float:
    hit = 1 - delta - rates.false_negative
    return max(0.0, math.log(hit / rates.false_positive)) if hit > 0 else 0.0


def separation(rates: ErrorRates) -> float:
    """The signal-to-noise ratio mu of a Gaussian release with just these errors.

    Source: Dong et al. 2022, equation 6.
    """
    return -float(ndtri(rates.false_positive) + ndtri(rates.false_negative))


def contradicts(rates: ErrorRates, plans: Sequence[ReleasePlan]) -> bool:
    """Whether errors are smaller than what plans allow anybody who sees all their releases, at any epsilon and delta.

    Formal guarantee: needs no assumption but that the rates are upper bounds; the privacy curve is rounded upwards.
    """
    curve = privacy_curve([plan.event(1) for plan in plans])
    epsilons = np.arange(0, 40, 0.05)
    allowed = 1 - curve(epsilons) - _ROUNDING
    least = [one.false_negative + np.exp(epsilons) * one.false_positive for one in (rates, rates.swapped)]
    return any(bool((errors < allowed).any()) for errors in least)


def epsilon_of_plans(rates: ErrorRates, plans: Sequence[ReleasePlan], delta: float) -> float:
    """Epsilon of the same plans with the most noise that errors this small allow.

    Args:
        rates: upper bounds.
        plans: what was released; only how noisy it really was is in question. Some noise in every plan.
        delta: of the result.

    Returns:
        A lower bound on epsilon for mechanisms that are the planned ones up to a factor on the noise. It exceeds the
        plans' own epsilon only where `contradicts` says so, which assumes nothing. At most `MAX_EPSILON`, or what lies
        one halving of the noise beyond it.

    Source: Nasr et al. 2023, section 4, for Gaussian and sampled Gaussian releases.
    """

    def planned(factor: float) -> list[ReleasePlan]:
        return [plan.with_noise(factor) for plan in plans]

    def epsilon(factor: float) -> float:
        return epsilon_of([plan.event(1) for plan in planned(factor)], delta)

    if separation(rates) <= 0:
        return 0.0
    low = high = 1.0  # noise that errors allow, and noise that they contradict
    while not contradicts(rates, planned(high)):
        low, high = high, 2 * high
        if high > 1e3:
            return 0.0
    while low == high:
        if epsilon(high) > MAX_EPSILON:
            return epsilon(high)
        if contradicts(rates, planned(high / 2)):
            low = high = high / 2
        else:
            low = high / 2
    while high > low * (1 + _PRECISION):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if contradicts(rates, planned(middle)) else (middle, high)
    return epsilon(high)


def candidates(without: Scores, with_record: Scores) -> np.ndarray:
    """Thresholds between neighbouring scores: dense at both ends, where few errors tell most."""
    pooled = np.unique(np.concatenate([without, with_record]))
    if len(pooled) == 1:
        return pooled
    between = (pooled[1:] + pooled[:-1]) / 2
    ranks = np.unique(np.geomspace(1, len(between), _THRESHOLDS).astype(int)) - 1
    return np.unique(np.concatenate([between[ranks], between[::-1][ranks]]))
