"""Which budgets there are."""

import math
from typing import Annotated

from dpsad.privacy.ranges import Range, Share, require_within

MAX_EPSILON = 500.0  # beyond it a bound says nothing, and e^epsilon soon is no number
Epsilon = Annotated[float, Range(f"(0, {MAX_EPSILON:g}]", also=math.inf)]  # infinity: no noise, and no bound


def require_budget(epsilon: float, delta: float) -> None:
    """Refuses what is no budget.

    Raises:
        ValueError: such as "privacy.epsilon=1000 must be in (0, 500], or inf"
    """
    require_within("privacy.epsilon", epsilon, Epsilon)
    require_within("privacy.delta", delta, Share)
