"""Accounting: from events to (epsilon, delta), for one record added or removed."""

import math
from collections.abc import Callable, Sequence

import attr
import dp_accounting
import numpy as np
from dp_accounting import pld, rdp
from dp_accounting.dp_event import MixtureOfGaussiansDpEvent, RepeatAndSelectDpEvent
from dp_accounting.pld.privacy_loss_distribution import (
    PrivacyLossDistribution,
    from_gaussian_mechanism,
    from_mixture_gaussian_mechanism,
    identity,
)

from dpsad.privacy.budget import MAX_EPSILON
from dpsad.privacy.gaussian import gaussian_delta, gaussian_epsilon
from dpsad.privacy.renyi import renyi_epsilon

ACCOUNTANT = "dp_accounting.pld.PLDAccountant"
SELECTION_ACCOUNTANT = "dpsad.privacy.renyi"  # of the best of several repetitions
ADJACENCY = "add-or-remove-one-record"
_RELATION = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
_REPLACED = dp_accounting.NeighboringRelation.REPLACE_ONE
# privacy losses are rounded up to this grid: ten times the library's default, ten times faster, and epsilon grows by
# less than 1e-4 for the plans here; see `_grid` for others
_GRID = 1e-3
# what a transform's rounding may take from delta a composed release: 25 times the most that was seen up to a million
_ROUNDING = 1e-16
_RARE = 1e-15  # so rarely joined by so many records of a person that their losses need no points
_MANY, _FEW, _POINTS = 5000, 16, 1000  # repetitions, and points of a distribution that are few
_RDP_ORDERS = [1 + x / 10 for x in range(1, 100)] + list(range(11, 64)) + [128, 256, 512, 1024]


@attr.frozen
class ReplacedRowEvent(dp_accounting.DpEvent):
    """A mechanism in which a record that is added or removed replaces a row by any other of the same bound.

    Attributes:
        event: the mechanism, its noise multiplier against the bound on one row, accounted under replace-one on rows.

    This is how a record in a shard acts where shards are sampled: its shard takes part, or does not, in either world.
    """

    event: dp_accounting.PoissonSampledDpEvent


# what `_loss_distribution` knows, where it is sampled a Gaussian
_NORMAL = (dp_accounting.GaussianDpEvent, dp_accounting.PoissonSampledDpEvent, MixtureOfGaussiansDpEvent)


def epsilon_of(events: Sequence[dp_accounting.DpEvent], delta: float) -> float:
    """Smallest epsilon such that all events together are (epsilon, delta)-differentially private.

    Args:
        events: mechanisms that saw the same records, in any order; none is epsilon 0.
        delta: in (0, 1).

    Raises:
        ValueError: an event that neither the PLD nor the RDP accountant knows.

    Formal guarantee: an upper bound under adding or removing one record, by privacy loss distributions rounded
    pessimistically (RDP where PLD does not know the event, `renyi_epsilon` where the best of several runs is selected).
    Events of different relations compose as privacy loss distributions, each of which bounds what one record added or
    removed does to its event. Where delta is too small for the rounding of these (1e-15, or 1e-16 a release), sampled
    releases cost what they would unsampled.
    Edge cases: no events give 0; an event without noise gives infinity, and so does all above 500 that is Gaussian.
    Gaussian events on all records alone are accounted exactly, in closed form.

    Source: Koskela et al. 2020; Doroshenko et al. 2022, through dp_accounting.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta={delta} must be between 0 and 1")
    if not events:
        return 0.0
    merged = merge_gaussians([single for event in events for single in _parts(event)])
    if len(merged) == 1 and isinstance(merged[0], dp_accounting.GaussianDpEvent) and merged[0].noise_multiplier > 0:
        return gaussian_epsilon(1 / merged[0].noise_multiplier, delta)
    if any(isinstance(event, RepeatAndSelectDpEvent) for event in merged):
        return renyi_epsilon(merged, delta)
    grid, above_rounding = _grid(merged, delta), delta - _ROUNDING * sum(_single(event)[1] for event in merged)
    singles = [_single(event)[0] for event in merged]
    if all(isinstance(single, _NORMAL) for single in singles) or any(
        isinstance(single, ReplacedRowEvent) for single in singles
    ):
        return min(_epsilon_unsampled(merged, delta), _epsilon_by_losses(merged, above_rounding, grid))
    composed = dp_accounting.ComposedDpEvent(merged)
    by_losses, by_rdp = pld.PLDAccountant(_RELATION, grid), rdp.RdpAccountant(_RDP_ORDERS, _RELATION)
    if by_losses.supports(composed):
        return float(by_losses.compose(composed).get_epsilon(above_rounding)) if above_rounding > 0 else math.inf
    if by_rdp.supports(composed):
        return float(by_rdp.compose(composed).get_epsilon(delta))
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


def _gaussian(event: dp_accounting.DpEvent) -> tuple[float, float, int]:
    """Signal-to-noise ratio and sampling probability of a Gaussian event, and how often it is repeated.

    A row that may become any other moves a sum as far as one of half the noise. Several records of a person move it as
    far as all of them at most. The ratio of others is infinite.
    """
    single, count = _single(event)
    if isinstance(single, MixtureOfGaussiansDpEvent) and single.standard_deviation > 0:
        return max(single.sensitivities) / single.standard_deviation, 1.0, count
    replaced = isinstance(single, ReplacedRowEvent)
    sampled = single.event if replaced else single
    is_sampled = isinstance(sampled, dp_accounting.PoissonSampledDpEvent)
    gaussian, sampling_prob = (sampled.event, sampled.sampling_probability) if is_sampled else (sampled, 1.0)
    if not isinstance(gaussian, dp_accounting.GaussianDpEvent) or gaussian.noise_multiplier == 0:
        return math.inf, sampling_prob, count
    return (2 if replaced else 1) / gaussian.noise_multiplier, sampling_prob, count


def _epsilon_unsampled(events: Sequence[dp_accounting.DpEvent], delta: float) -> float:
    """What Gaussian events would cost if all took part in each: at least what they do cost; infinity for others."""
    mu = math.hypot(*(count**0.5 * ratio for ratio, _, count in map(_gaussian, events)))
    return gaussian_epsilon(mu, delta) if mu < math.inf else math.inf


def _grid(events: Sequence[dp_accounting.DpEvent], delta: float) -> float:
    """How finely to round privacy losses up: `_GRID` for most; any grid gives a bound.

    Coarser where epsilon is beyond 30 or so, for as few points as there; finer where so many events say so little each
    that their rounding would add a percent or more; and never finer than a grid of 50,000 points an event, 5,000 where
    several records of a person join.
    """
    normal = [event for event in events if _gaussian(event)[0] < math.inf]
    if not normal:
        return _GRID
    # the central limit of many sampled events (Bu et al. 2020), or all of them unsampled
    mu = math.hypot(*(_single(event)[1] ** 0.5 * min(_gaussian(event)[0], _deviation(event)) for event in normal))
    epsilon = min(max(gaussian_epsilon(mu, delta), 1e-3), MAX_EPSILON)
    count = sum(_single(event)[1] for event in normal)
    # how large the largest loss of an event is, roughly
    losses = [
        math.log(max(prob, 1e-300)) + ratio**2 / 2 + 10 * ratio
        for event in normal
        for ratio, prob in zip(*_shifts(event), strict=True)
    ]
    points = 5_000 if any(len(_shifts(event)[0]) > 1 for event in normal) else 50_000
    wanted = min(_GRID * max(1.0, epsilon / 30), 0.08 * epsilon / count**0.5)
    return min(1.0, max(wanted, float(np.logaddexp(0.0, max(losses))) / points))


def _shifts(event: dp_accounting.DpEvent) -> tuple[Sequence[float], Sequence[float]]:
    """By how much an event's mean may move, in deviations of its noise, and how likely each is; not 0, nor the rare."""
    single, _ = _single(event)
    if not isinstance(single, MixtureOfGaussiansDpEvent):
        ratio, prob, _ = _gaussian(event)
        return [ratio], [prob]
    known = [(shift, prob) for shift, prob in zip(single.sensitivities, single.sampling_probs, strict=True) if shift]
    some = [(shift, prob) for shift, prob in known if prob > _RARE] or known[:1]
    return [shift / single.standard_deviation for shift, _ in some], [prob for _, prob in some]


def _deviation(event: dp_accounting.DpEvent) -> float:
    """Standard deviation of the likelihood ratio with and without a record, whose logarithm is the privacy loss."""
    ratios, probs = map(np.array, _shifts(event))
    return float(probs @ np.expm1(np.minimum(np.outer(ratios, ratios), 400.0)) @ probs) ** 0.5


def _epsilon_by_losses(events: Sequence[dp_accounting.DpEvent], delta: float, grid: float) -> float:
    """`epsilon_of` by composing one privacy loss distribution an event, on one grid; infinity where delta <= 0."""
    try:
        distributions = [_loss_distribution(event, grid) for event in events]
    except RecursionError:  # the library halves what it cannot tell apart: the losses of many records that hardly join
        return _epsilon_by_losses(events, delta, _GRID) if grid < _GRID else math.inf
    if delta <= 0 or any(distribution is None for distribution in distributions):
        return math.inf
    total = identity(value_discretization_interval=grid)
    for distribution in distributions:
        total = total.compose(distribution)
    with np.errstate(over="ignore"):  # a quotient that is no number any more stands for an infinite epsilon
        return float(total.get_epsilon_for_delta(delta))


def _loss_distribution(event: dp_accounting.DpEvent, grid: float) -> PrivacyLossDistribution | None:
    """What one record added or removed does to a Gaussian event, sampled or not; None where it has no noise."""
    single, count = _single(event)
    if isinstance(single, MixtureOfGaussiansDpEvent):
        if single.standard_deviation == 0:
            return None
        mixture = from_mixture_gaussian_mechanism(
            single.standard_deviation,
            single.sensitivities,
            single.sampling_probs,
            value_discretization_interval=grid,
        )
        return _repeated(mixture, count)
    relation = _REPLACED if isinstance(single, ReplacedRowEvent) else _RELATION
    sampled = single.event if isinstance(single, ReplacedRowEvent) else single
    is_sampled = isinstance(sampled, dp_accounting.PoissonSampledDpEvent)
    gaussian, sampling_prob = (sampled.event, sampled.sampling_probability) if is_sampled else (sampled, 1.0)
    if not isinstance(gaussian, dp_accounting.GaussianDpEvent):
        raise ValueError(f"no accountant for {event} beside sampled shards; use Gaussian events")
    if gaussian.noise_multiplier == 0:
        return None
    distribution = from_gaussian_mechanism(
        gaussian.noise_multiplier,
        value_discretization_interval=grid,
        sampling_prob=sampling_prob,
        neighboring_relation=relation,
    )
    return _repeated(distribution, count)


def _repeated(distribution: PrivacyLossDistribution, count: int) -> PrivacyLossDistribution:
    """`distribution.self_compose(count)`; many of few points by way of `_FEW`, without which the library takes seconds.

    It raises the number of points to the power of `count`, digit by digit, and bounds the result by exponents that are
    too coarse for so few. `_FEW` are composed without cutting anything off.
    """
    if count < _MANY or distribution._pmf_remove.size > _POINTS:
        return distribution.self_compose(count)
    whole = distribution.self_compose(_FEW, tail_mass_truncation=0).self_compose(count // _FEW)
    return whole.compose(distribution.self_compose(count % _FEW)) if count % _FEW else whole


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
        return lambda epsilons: np.array([gaussian_delta(mu, epsilon) for epsilon in epsilons.tolist()])
    total = identity(value_discretization_interval=_GRID)
    for event in merged:
        distribution = _loss_distribution(event, _GRID)
        if distribution is None:
            return lambda epsilons: np.ones(len(epsilons))
        total = total.compose(distribution)
    return lambda epsilons: np.asarray(total.get_delta_for_epsilon(epsilons.tolist()))
