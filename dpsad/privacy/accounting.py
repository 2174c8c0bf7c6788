"""Accounting: from events to (epsilon, delta), for one record added or removed."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import attr
import dp_accounting
import numpy as np
from dp_accounting import pld, rdp
from dp_accounting.pld.privacy_loss_distribution import (
    PrivacyLossDistribution,
    from_gaussian_mechanism,
    identity,
)
from scipy.special import log_ndtr, ndtr

ACCOUNTANT = "dp_accounting.pld.PLDAccountant"
ADJACENCY = "add-or-remove-one-record"
MAX_EPSILON = 500.0
_RELATION = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
_REPLACED = dp_accounting.NeighboringRelation.REPLACE_ONE
# privacy losses are rounded up to this grid: ten times the library's default, ten times faster, and epsilon grows by
# less than 1e-4 for the plans here
_GRID = 1e-3
_RDP_ORDERS = [1 + x / 10 for x in range(1, 100)] + list(range(11, 64)) + [128, 256, 512, 1024]


@attr.frozen
class ReplacedRowEvent(dp_accounting.DpEvent):
    """A mechanism in which a record that is added or removed replaces a row by any other of the same bound.

    Attributes:
        event: the mechanism, its noise multiplier against the bound on one row, accounted under replace-one on rows.

    This is how a record in a shard acts where shards are sampled: its shard takes part, or does not, in either world.
    """

    event: dp_accounting.PoissonSampledDpEvent


def epsilon_of(events: Sequence[dp_accounting.DpEvent], delta: float) -> float:
    """Smallest epsilon such that all events together are (epsilon, delta)-differentially private.

    Args:
        events: mechanisms that saw the same records, in any order; none is epsilon 0.
        delta: in (0, 1).

    Raises:
        ValueError: an event that neither the PLD nor the RDP accountant knows.

    Formal guarantee: an upper bound under adding or removing one record; privacy loss distributions are rounded
    pessimistically (RDP where PLD does not know the event). Events of different relations compose as privacy loss
    distributions, each of which bounds what one record added or removed does to its event.
    Edge cases: no events give 0; an event without noise gives infinity. Gaussian events on all records alone are
    accounted exactly, in closed form.

    Source: Koskela et al. 2020; Doroshenko et al. 2022, through dp_accounting.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta} must be between 0 and 1")
    if not events:
        return 0.0
    merged = merge_gaussians([single for event in events for single in _parts(event)])
    if len(merged) == 1 and isinstance(merged[0], dp_accounting.GaussianDpEvent) and merged[0].noise_multiplier > 0:
        return gaussian_epsilon(1 / merged[0].noise_multiplier, delta)
    if any(isinstance(_single(event)[0], ReplacedRowEvent) for event in merged):
        return _epsilon_of_mixed(merged, delta)
    composed = dp_accounting.ComposedDpEvent(merged)
    for accountant in (pld.PLDAccountant(_RELATION, _GRID), rdp.RdpAccountant(_RDP_ORDERS, _RELATION)):
        if accountant.supports(composed):
            return float(accountant.compose(composed).get_epsilon(delta))
    raise ValueError(f"no accountant for {composed}; use Gaussian events")


def merge_gaussians(events: Sequence[dp_accounting.DpEvent]) -> list[dp_accounting.DpEvent]:
    """Replaces all Gaussian events on all records by the one that costs the same, exactly; others stay.

    Releases of multipliers s_i on the same records cost what one of (sum 1 / s_i^2)^(-1/2) does. Accounting one event
    is faster than composing many.

    Source: Dong et al. 2022, Corollary 3.3.
    """
    others, precision = [], 0.0
    for event in events:
        single, count = _single(event)
        if isinstance(single, dp_accounting.GaussianDpEvent) and single.noise_multiplier > 0:
            precision += count / single.noise_multiplier**2
        else:
            others.append(event)
    return [*others, dp_accounting.GaussianDpEvent(precision**-0.5)] if precision else others


def _parts(event: dp_accounting.DpEvent) -> list[dp_accounting.DpEvent]:
    """The events that an event composes."""
    return list(event.events) if isinstance(event, dp_accounting.ComposedDpEvent) else [event]


def _single(event: dp_accounting.DpEvent) -> tuple[dp_accounting.DpEvent, int]:
    """An event, and how often it is repeated."""
    return (event.event, event.count) if isinstance(event, dp_accounting.SelfComposedDpEvent) else (event, 1)


def _epsilon_of_mixed(events: Sequence[dp_accounting.DpEvent], delta: float) -> float:
    """`epsilon_of` by composing one privacy loss distribution an event."""
    distributions = [_loss_distribution(event) for event in events]
    if any(distribution is None for distribution in distributions):
        return math.inf
    total = identity(value_discretization_interval=_GRID)
    for distribution in distributions:
        total = total.compose(distribution)
    return float(total.get_epsilon_for_delta(delta))


def _loss_distribution(event: dp_accounting.DpEvent) -> PrivacyLossDistribution | None:
    """What one record added or removed does to a Gaussian event, sampled or not; None where it has no noise."""
    single, count = _single(event)
    relation = _REPLACED if isinstance(single, ReplacedRowEvent) else _RELATION
    sampled = single.event if isinstance(single, ReplacedRowEvent) else single
    is_sampled = isinstance(sampled, dp_accounting.PoissonSampledDpEvent)
    gaussian, sampling_prob = (sampled.event, sampled.sampling_probability) if is_sampled else (sampled, 1.0)
    if not isinstance(gaussian, dp_accounting.GaussianDpEvent):
        raise ValueError(f"no accountant for {event} beside sampled shards; use Gaussian events")
    if gaussian.noise_multiplier == 0:
        return None
    return from_gaussian_mechanism(
        gaussian.noise_multiplier,
        value_discretization_interval=_GRID,
        sampling_prob=sampling_prob,
        neighboring_relation=relation,
    ).self_compose(count)


def privacy_curve(events: Sequence[dp_accounting.DpEvent]) -> Callable[[np.ndarray], np.ndarray]:
    """Delta as a function of epsilon for all events together, as `epsilon_of` knows them: the whole trade-off.

    Args:
        events: Gaussian events, sampled or not, of records or shards; at least one.

    Returns:
        [num] epsilons >= 0 -> [num] deltas.

    Formal guarantee: an upper bound under adding or removing one record; rounded pessimistically.
    Edge cases: an event without noise gives 1 everywhere.
    """
    merged = merge_gaussians([single for event in events for single in _parts(event)])
    if len(merged) == 1 and isinstance(merged[0], dp_accounting.GaussianDpEvent) and merged[0].noise_multiplier > 0:
        mu = 1 / merged[0].noise_multiplier
        return lambda epsilons: ndtr(mu / 2 - epsilons / mu) - np.exp(epsilons + log_ndtr(-mu / 2 - epsilons / mu))
    total = identity(value_discretization_interval=_GRID)
    for event in merged:
        distribution = _loss_distribution(event)
        if distribution is None:
            return lambda epsilons: np.ones(len(epsilons))
        total = total.compose(distribution)
    return lambda epsilons: np.asarray(total.get_delta_for_epsilon(epsilons.tolist()))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The exact delta of Gaussian mechanisms whose total signal-to-noise ratio is `mu`, at `epsilon`.

    T releases of noise multiplier s on all records have mu = sqrt(T) / s.

    Source: Balle and Wang 2018, Theorem 8; Dong et al. 2022, Corollary 2.13.
    """
    phi = NormalDist().cdf
    return phi(-epsilon / mu + mu / 2) - math.exp(epsilon) * phi(-epsilon / mu - mu / 2)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Smallest epsilon of Gaussian mechanisms whose total signal-to-noise ratio is `mu`, at `delta`.

    Formal guarantee: rounded up; `gaussian_delta(mu, result) <= delta`.
    Edge cases: infinity above 500, where the formula overflows and no bound means anything.
    """
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, MAX_EPSILON
    if gaussian_delta(mu, high) > delta:
        return math.inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(mu, middle) <= delta else (middle, high)
    return high


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Largest `mu` such that Gaussian mechanisms of that total signal-to-noise ratio are (epsilon, delta)-private.

    Formal guarantee: the returned value satisfies `gaussian_delta(mu, epsilon) <= delta`.
    Edge cases: an infinite epsilon allows an infinite `mu`: no noise, and no bound.
    """
    if epsilon == math.inf:
        return math.inf
    low, high = 0.0, 1.0
    while gaussian_delta(high, epsilon) <= delta:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(middle, epsilon) <= delta else (low, middle)
    return low
