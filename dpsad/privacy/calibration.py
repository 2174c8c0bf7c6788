"""Calibration: how much noise a budget needs."""

import math
from collections.abc import Sequence
from functools import lru_cache

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.budget import require_budget
from dpsad.privacy.gaussian import gaussian_mu
from dpsad.privacy.plan import LEAST_MULTIPLIER, MOST_MULTIPLIER, ReleasePlan

TOLERANCE = 1e-3  # relative width of the last bracket
LEAST_NOISE = 1e-2  # no epsilon up to the largest allows less, unless delta does
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

    def fits(factor: float) -> bool:
        if min(multipliers) * factor < LEAST_MULTIPLIER:
            return False  # less than a plan may have
        events = [plan.with_noise(factor).event(records_per_person) for plan in plans]
        return epsilon_of([*spent_events, *events], delta) <= epsilon

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
    if not fits(2.0**high):
        high = min(max(0, high) + math.ceil(math.log2(_SPARE)), highest)
        if not fits(2.0**high):
            raise ValueError(
                f"privacy.epsilon={epsilon}: nothing is left, {epsilon_of(spent_events, delta):.4g} is spent already"
            )
    low = floor = min(high - 1, math.floor(math.log2(LEAST_NOISE / max(multipliers))))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(2.0**middle) else (middle, high)
    if low == floor and fits(2.0**low):
        raise ValueError(
            f"privacy.delta={delta:g} is so large beside the chance that a record takes part at all that it allows "
            "releases without noise, of the whole record now and then; use a privacy.delta well below one over the "
            "number of records, or larger batches"
        )
    least, most = 2.0**low, 2.0**high
    while most > least * (1 + TOLERANCE):
        middle_factor = (least * most) ** 0.5
        least, most = (least, middle_factor) if fits(middle_factor) else (middle_factor, most)
    return tuple(plan.with_noise(most) for plan in plans)
