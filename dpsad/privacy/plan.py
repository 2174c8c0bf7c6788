"""What will be released, as public data: printed, compared, saved and accounted before a record is read."""

import math
from dataclasses import asdict, dataclass
from enum import Enum

import dp_accounting

from dpsad.privacy.accounting import ReplacedRowEvent


class Unit(str, Enum):
    """Whose contribution one row is."""

    RECORD = "record"
    SHARD = "shard"

    @property
    def reach(self) -> int:
        """How far one record can move a sum of rows, in bounds on one row: it adds a row, or replaces its shard's."""
        return 2 if self is Unit.SHARD else 1


@dataclass(frozen=True, kw_only=True)
class ReleasePlan:
    """Everything public about a series of noisy sums. Holds no tensor and no private number.

    Attributes:
        unit: whose contribution one row is.
        max_norm: L2 bound that every row is clipped to, > 0.
        noise_multiplier: noise standard deviation divided by `max_norm`; 0 bounds nothing, and its epsilon is infinite.
        sampling_prob: probability that a unit takes part in a release, independently of all others; 1 is always.
        num_releases: how many noisy sums, >= 1.

    Formal guarantee: `event()` bounds what all releases together tell about one record that is added or removed. A
    record adds one row of norm at most `max_norm`. A record in a shard replaces that shard's row by any other, which
    moves the sum by at most twice `max_norm`; where shards are sampled, this is a `ReplacedRowEvent`.
    """

    unit: Unit
    max_norm: float
    noise_multiplier: float
    sampling_prob: float = 1.0
    num_releases: int = 1

    def __post_init__(self) -> None:
        if not self.max_norm > 0:
            raise ValueError(f"max_norm={self.max_norm} must be positive")
        if not 0 <= self.noise_multiplier < math.inf:
            raise ValueError(f"noise_multiplier={self.noise_multiplier} must be finite and not negative")
        if not 0 < self.sampling_prob <= 1:
            raise ValueError(f"sampling_prob={self.sampling_prob} must be in (0, 1]")
        if self.num_releases < 1:
            raise ValueError(f"num_releases={self.num_releases} must be at least 1")

    def sensitivity(self) -> float:
        """How far one record can move the sum, in L2 norm."""
        return self.max_norm * self.unit.reach

    def event(self) -> dp_accounting.DpEvent:
        """All releases of the plan, as the accountant knows them."""
        event: dp_accounting.DpEvent
        if self.sampling_prob == 1:
            event = dp_accounting.GaussianDpEvent(self.noise_multiplier * self.max_norm / self.sensitivity())
        else:
            event = dp_accounting.PoissonSampledDpEvent(
                self.sampling_prob, dp_accounting.GaussianDpEvent(self.noise_multiplier)
            )
            if self.unit is Unit.SHARD:
                event = ReplacedRowEvent(event)
        return event if self.num_releases == 1 else dp_accounting.SelfComposedDpEvent(event, self.num_releases)

    def to_dict(self) -> dict:
        return {**asdict(self), "unit": self.unit.value}

    @staticmethod
    def from_dict(values: dict) -> "ReleasePlan":
        return ReleasePlan(**{**values, "unit": Unit(values["unit"])})
