"""Calibration: how much noise a budget needs."""

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

from scipy.optimize import brentq

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.budget import require_budget
from dpsad.privacy.gaussian import gaussian_mu
from dpsad.privacy.plan import LEAST_MULTIPLIER, MOST_MULTIPLIER, ReleasePlan

TOLERANCE = 1e-3  # relative width of the last bracket
CLOSE = math.log2(1 + TOLERANCE)
LEAST_NOISE = 1e-2  # no epsilon up to the largest allows less, where delta does not allow none
_CUT = 3.0  # of the logarithm of epsilon, beyond which it says too little of how far to go
_SPARE = 1e4  # times the noise that would do alone; where that does not fit, others have spent the budget


def calibrated(
    plans: Sequence[ReleasePlan],
    *,
    epsilon: float,
    delta: float,
    spent: Sequence[ReleasePlan] = (),
    records_per_person: int,
) -> list[ReleasePlan]:
    """Scales the noise of plans by one factor, the smallest, up to 0.1 %, that keeps within the budget.

    Args:
        plans: their noise multipliers say how noisy they are beside each other; at least one is positive.
        epsilon: total budget, in (0, 500] or infinity.
        delta: in (0, 1).
        spent: plans that were or will be charged besides.
        records_per_person: see `ReleasePlan.event`.

    Raises:
        ValueError: no such budget, or too small for any plan's noise; `spent` alone leaves nothing; or records take
            part so seldom that delta allows to release them without any noise.

    Formal guarantee: the result was itself accounted and stays within (epsilon, delta) together with `spent`.
    Edge cases: an infinite budget asks for no noise, 0. A budget that even ten thousand times the noise that would do
        alone exceeds counts as spent.
    """
    return list(_calibrated(tuple(plans), epsilon, delta, tuple(spent), records_per_person))


@lru_cache(maxsize=64)  # a run is planned before its first charge, and again by each of its stages
def _calibrated(
    plans: tuple[ReleasePlan, ...],
    epsilon: float,
    delta: float,
    spent: tuple[ReleasePlan, ...],
    records_per_person: int,
) -> tuple[ReleasePlan, ...]:
    """As `calibrated`, which says what it does."""
    require_budget(epsilon, delta)
    if epsilon == math.inf:
        return tuple(plan.with_noise(0.0) for plan in plans)
    spent_events = [plan.event(records_per_person) for plan in spent]

    multipliers = [plan.noise_multiplier for plan in plans]

    @cache
    def excess(power: float) -> float:
        """How far 2^power times the plans' noise is over the budget: a logarithm, cut to plus or minus `_CUT`."""
        if min(multipliers) * 2.0**power < LEAST_MULTIPLIER:
            return _CUT  # less than a plan may have
        events = [plan.with_noise(2.0**power).event(records_per_person) for plan in plans]
        ratio = epsilon_of([*spent_events, *events], delta) / epsilon
        return min(max(math.log(ratio), -_CUT), _CUT) if ratio > 0 else -_CUT

    joins = -math.expm1(sum(records_per_person * plan.num_releases * _log_stays_away(plan) for plan in plans))
    if joins < delta and epsilon_of(spent_events, delta - joins) <= epsilon:
        raise ValueError(
            f"privacy.delta={delta:g} is so large beside the chance that a record takes part at all that it allows "
            "releases without noise, of the whole record now and then; use a privacy.delta well below one over the "
            "number of records, or larger batches"
        )
    # powers of two: what would do if all took part in each release, and less than any epsilon asks for
    mu = records_per_person * math.hypot(
        *(plan.num_releases**0.5 * plan.unit.reach / plan.noise_multiplier for plan in plans)
    )
    high = math.ceil(math.log2(mu / gaussian_mu(epsilon, delta)))
    highest = math.floor(math.log2(MOST_MULTIPLIER / max(multipliers)))
    if high > highest:
        raise ValueError(
            f"privacy.epsilon={epsilon:g} at privacy.delta={delta:g} asks for noise of more than {MOST_MULTIPLIER:g} "
            "times the bound on a row; raise them, or plan fewer releases"
        )
    # what many releases of few records come to (Bu et al. 2020), with a margin: mostly far less, and enough
    sampled = records_per_person * math.hypot(
        *(plan.sampling_prob * plan.num_releases**0.5 * plan.unit.reach / plan.noise_multiplier for plan in plans)
    )
    enough = math.ceil(math.log2(2 * max(1 / max(multipliers), sampled / gaussian_mu(epsilon, delta))))
    if enough < high and excess(enough) <= 0:
        high = enough
    elif excess(high) > 0:
        high = min(max(0, high) + math.ceil(math.log2(_SPARE)), highest)
        if excess(high) > 0:
            raise ValueError(
                f"privacy.epsilon={epsilon}: nothing is left, {epsilon_of(spent_events, delta):.4g} is spent already"
            )
    floor = min(high - 1, math.floor(math.log2(LEAST_NOISE / max(multipliers))))
    least = _least(excess, floor, high)
    return tuple(plan.with_noise(2.0**least) for plan in plans)


def _log_stays_away(plan: ReleasePlan) -> float:
    """Logarithm of the probability that a unit takes no part in a release."""
    return math.log1p(-plan.sampling_prob) if plan.sampling_prob < 1 else -math.inf


def _least(excess: Callable[[float], float], floor: float, high: float) -> float:
    """The least power with no excess, up to `CLOSE`; one that was itself looked at.

    Args:
        excess: falls; 0 or less at `high`.
        floor: taken to have some without a look, for so little noise may take long to account.
    """
    fits, over = [high], [floor]

    def looked_at(power: float) -> float:
        if power <= floor:
            return _CUT
        (fits if (found := excess(power)) <= 0 else over).append(power)
        return found

    root = brentq(looked_at, floor, high, xtol=0.4 * CLOSE)
    near = [root - CLOSE / 2, min(root + CLOSE / 2, high)]
    while min(fits) - max(over) > CLOSE:
        looked_at(near.pop() if near else (min(fits) + max(over)) / 2)
    return min(fits)
