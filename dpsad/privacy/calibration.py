"""How much noise a budget needs."""

import math
from collections.abc import Callable, Sequence

import dp_accounting

from dpsad.privacy.accounting import epsilon_of


def calibrate_noise_multiplier(
    event_of: Callable[[float], dp_accounting.DpEvent],
    *,
    epsilon: float,
    delta: float,
    spent: Sequence[dp_accounting.DpEvent] = (),
    tolerance: float = 1e-3,
) -> float:
    """Finds the smallest noise multiplier, up to `tolerance`, that keeps within the budget.

    Args:
        event_of: the event to calibrate, as a function of its noise multiplier; more noise must cost less.
        epsilon: total budget, > 0.
        delta: in (0, 1).
        spent: events that were or will be charged besides.
        tolerance: relative width of the last bracket, > 0.

    Raises:
        ValueError: the budget is not positive, or `spent` alone leaves nothing.

    Formal guarantee: the result was itself accounted and stays within (epsilon, delta) together with `spent`.
    Edge cases: an infinite budget asks for no noise, 0. A budget that even a noise multiplier of 1e4 exceeds
        counts as spent.
    """
    if not epsilon > 0:
        raise ValueError(f"privacy.epsilon={epsilon} must be positive")
    if epsilon == math.inf:
        return 0.0

    def fits(noise_multiplier: float) -> bool:
        return epsilon_of([*spent, event_of(noise_multiplier)], delta) <= epsilon

    low = high = 1.0
    while not fits(high):
        low, high = high, 2 * high
        if high > 1e4:
            raise ValueError(
                f"privacy.epsilon={epsilon}: nothing is left, {epsilon_of(spent, delta):.4g} is spent already"
            )
    while low == high or fits(low):
        low, high = low / 2, low
    while high > low * (1 + tolerance):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
