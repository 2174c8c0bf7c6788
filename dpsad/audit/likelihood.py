"""Who looks at releases: log-likelihood ratios of what passed the sanitizer, with a record and without it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.sanitizer import Sanitizer


@dataclass(frozen=True)
class Seen:
    """One release, as whoever it is handed to sees it."""

    plan: ReleasePlan
    released: Tensor


@contextmanager
def watched_releases() -> Iterator[list[Seen]]:
    """Everything that any sanitizer releases inside: methods make their own, and this is the one door."""
    seen: list[Seen] = []
    release = Sanitizer.release

    def noted(self: Sanitizer, *args, **named) -> Tensor:
        released = release(self, *args, **named)
        seen.append(Seen(self.plan, released.detach().clone()))
        return released

    Sanitizer.release = noted  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        Sanitizer.release = release  # type: ignore[method-assign]


def log_likelihood_ratio(plan: ReleasePlan, shown: Tensor | np.ndarray) -> np.ndarray:
    """Of releases with a record to releases without it, where the record shows along one direction.

    Args:
        plan: what was claimed: noise and sampling.
        shown: [...] the released sum, less what all others gave, along the record's row, in units of clip_norm. A
            record adds 1, where it takes part. A record in a shard turns that shard's row round, from -1 to 1.

    Returns:
        [...] float64; over several releases they add up. No test tells the two worlds apart better (Neyman and
        Pearson), as long as the noise is the planned one.
    """
    x = np.asarray(shown, dtype=np.float64)
    variance, present = plan.noise_multiplier**2, plan.sampling_prob

    def density(mean: float) -> np.ndarray:
        """Logarithm, up to what all means share."""
        exponent = (x * mean - mean**2 / 2) / variance
        if present == 1:
            return exponent
        return np.logaddexp(math.log1p(-present), math.log(present) + exponent)

    return density(1.0) - (density(-1.0) if plan.unit is Unit.SHARD else 0.0)
