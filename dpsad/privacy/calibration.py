"""Calibration: how much noise a budget needs."""

import math
from collections.abc import Sequence

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.plan import ReleasePlan

TOLERANCE = 1e-3  # relative width of the last bracket


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
        epsilon: total budget, > 0.
        delta: in (0, 1).
        spent: plans that were or will be charged besides.
        records_per_person: see `ReleasePlan.event`.

    Raises:
        ValueError: the budget is not positive, or `spent` alone leaves nothing.

    Formal guarantee: the result was itself accounted and stays within (epsilon, delta) together with `spent`.
    Edge cases: an infinite budget asks for no noise, 0. A budget that even ten thousand times the noise, for each
        record of a person, exceeds counts as spent.
    """
    if not epsilon > 0:
        raise ValueError(f"privacy.epsilon={epsilon} must be positive")
    if epsilon == math.inf:
        return [plan.with_noise(0.0) for plan in plans]
    spent_events = [plan.event(records_per_person) for plan in spent]

    def fits(factor: float) -> bool:
        events = [plan.with_noise(factor).event(records_per_person) for plan in plans]
        return epsilon_of([*spent_events, *events], delta) <= epsilon

    low = high = float(records_per_person)  # far less noise takes long to account
    while not fits(high):
        low, high = high, 2 * high
        if high > 1e4 * records_per_person:
            raise ValueError(
                f"privacy.epsilon={epsilon}: nothing is left, {epsilon_of(spent_events, delta):.4g} is spent already"
            )
    while low == high or fits(low):
        low, high = low / 2, low
    while high > low * (1 + TOLERANCE):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return [plan.with_noise(high) for plan in plans]
