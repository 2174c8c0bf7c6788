"""ReleasePlan: what will be released, as public data, accounted before a record is read."""

import math
from dataclasses import asdict, dataclass, replace
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
        purpose: what is released, in a few words; names the plan in the ledger and the statement.
        unit: whose contribution one row is.
        clip_norm: L2 bound that every row is clipped to, in 1e-9..1e9.
        noise_multiplier: noise standard deviation divided by `clip_norm`; 0 bounds nothing: its epsilon is infinite.
            Until a ledger has calibrated the plan, it is relative to that of other plans.
        sampling_prob: probability that a unit takes part in a release, independently of all others; 1 is always.
        num_releases: how many noisy sums, >= 1.

    Formal guarantee: `event()` bounds what all releases together tell about one record that is added or removed. A
    record adds one row of norm at most `clip_norm`. A record in a shard replaces that shard's row by any other, which
    moves the sum by at most twice `clip_norm`; where shards are sampled, this is a `ReplacedRowEvent`.
    """

    purpose: str
    unit: Unit
    clip_norm: float
    noise_multiplier: float = 1.0
    sampling_prob: float = 1.0
    num_releases: int = 1

    def __post_init__(self) -> None:
        if not self.clip_norm > 0:
            raise ValueError(f"clip_norm={self.clip_norm} must be positive")
        if not 1e-9 <= self.clip_norm <= 1e9:  # where norms in float32 are known well enough
            raise ValueError(f"clip_norm={self.clip_norm} must be between 1e-9 and 1e9; rescale the rows")
        if not 0 <= self.noise_multiplier < math.inf:
            raise ValueError(f"noise_multiplier={self.noise_multiplier} must be finite and not negative")
        if not 0 < self.sampling_prob <= 1:
            raise ValueError(f"sampling_prob={self.sampling_prob} must be in (0, 1]")
        if self.num_releases < 1:
            raise ValueError(f"num_releases={self.num_releases} must be at least 1")

    def sensitivity(self) -> float:
        """How far one record can move the sum, in L2 norm."""
        return self.clip_norm * self.unit.reach

    def event(self) -> dp_accounting.DpEvent:
        """All releases of the plan, as the accountant knows them."""
        event: dp_accounting.DpEvent
        if self.sampling_prob == 1:
            event = dp_accounting.GaussianDpEvent(self.noise_multiplier * self.clip_norm / self.sensitivity())
        else:
            event = dp_accounting.PoissonSampledDpEvent(
                self.sampling_prob, dp_accounting.GaussianDpEvent(self.noise_multiplier)
            )
            if self.unit is Unit.SHARD:
                event = ReplacedRowEvent(event)
        return event if self.num_releases == 1 else dp_accounting.SelfComposedDpEvent(event, self.num_releases)

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise on a sum of rows."""
        return self.noise_multiplier * self.clip_norm

    def with_noise(self, factor: float) -> "ReleasePlan":
        """The same releases with `factor` times the noise."""
        return replace(self, noise_multiplier=self.noise_multiplier * factor)

    def to_dict(self) -> dict:
        return {**asdict(self), "unit": self.unit.value}

    @staticmethod
    def from_dict(values: dict) -> "ReleasePlan":
        """Takes up what `to_dict` gave, or what versions before 0.2 did, which called the bound max_norm."""
        kept = {("clip_norm" if key == "max_norm" else key): value for key, value in values.items()}
        return ReleasePlan(**{**kept, "unit": Unit(values["unit"])})
