"""Which budgets there are."""

import math

MAX_EPSILON = 500.0  # beyond it a bound says nothing, and e^epsilon soon is no number


def require_budget(epsilon: float, delta: float) -> None:
    """Refuses what is no budget.

    Args:
        epsilon: in (0, 500], or infinity: no noise, and no bound.
        delta: in (0, 1).

    Raises:
        ValueError: such as "privacy.epsilon=1000 must be in (0, 500], or inf for no noise and no guarantee"
    """
    if not epsilon > 0:
        raise ValueError(f"privacy.epsilon={epsilon} must be positive")
    if MAX_EPSILON < epsilon < math.inf:
        raise ValueError(
            f"privacy.epsilon={epsilon:g} must be in (0, {MAX_EPSILON:g}], or inf for no noise and no guarantee"
        )
    if not 0 < delta < 1:
        raise ValueError(f"privacy.delta={delta} must be between 0 and 1")
