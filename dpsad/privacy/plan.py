"""ReleasePlan: what will be released, as public data, accounted before a record is read."""

import math
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Annotated

import dp_accounting
from dp_accounting.dp_event import MixtureOfGaussiansDpEvent

from dpsad.privacy.accounting import ReplacedRowEvent
from dpsad.privacy.ranges import Count, Range, ShareOrAll, require_ranges

LEAST_MULTIPLIER, MOST_MULTIPLIER = 1e-6, 1e12  # beyond, neither accounting nor whole numbers in float64 are sure
NOISE_MULTIPLIERS = Range(f"[{LEAST_MULTIPLIER:g}, {MOST_MULTIPLIER:g}]", also=0.0)
_RARE = 1e-30  # so many of a person's records hardly ever join; far below the mass that the accountant cuts off


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
        noise_multiplier: noise standard deviation divided by `clip_norm`, in 1e-6..1e12; 0 bounds nothing: its epsilon
            is infinite. Until a ledger has calibrated the plan, it is relative to that of other plans.
        sampling_prob: probability that a unit takes part in a release, independently of all others; 1 is always.
        num_releases: how many noisy sums, >= 1.
        charge_id: random name of the releases themselves, public; a ledger gives it with the charge. Plans with one
            name are the same releases, seen again; it makes no plan another one.

    Formal guarantee: `event(k)` bounds what all releases together tell about one person, whose records, k at most, are
    added or removed together; `event(1)` is about one record. A record adds one row of norm at most `clip_norm`. A
    record in a shard replaces that shard's row by any other, which moves the sum by at most twice `clip_norm`; where
    shards are sampled, this is a `ReplacedRowEvent`.
    """

    purpose: str
    unit: Unit
    clip_norm: Annotated[float, Range("[1e-9, 1e9]")]  # where norms in float32 are known well enough
    noise_multiplier: Annotated[float, NOISE_MULTIPLIERS] = 1.0
    sampling_prob: ShareOrAll = 1.0
    num_releases: Count = 1
    charge_id: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        require_ranges(self)

    def sensitivity(self) -> float:
        """How far one record can move the sum, in L2 norm."""
        return self.clip_norm * self.unit.reach

    def event(self, records_per_person: int) -> dp_accounting.DpEvent:
        """All releases of the plan, as the accountant knows them.

        Args:
            records_per_person: how many records one person has at most, >= 1; they are protected together. Nothing is
                taken for granted here: a ledger knows it.

        Raises:
            ValueError: several records of a person in shards that are sampled.

        Formal guarantee: see the class. Of records that all take part, k move the sum k times as far as one, and lie
        in k shards at most. Where records are sampled, each joins on its own, so that the sum moves by at most j
        bounds, j being binomial; this is a mixture of Gaussians, one for each j.
        Edge cases: a person with fewer records is covered, since a record that gives nothing is a row of zeros.

        Source: Ganesh 2024, "Tight Group-Level DP Guarantees for DP-SGD with Sampling via Mixture of Gaussians
        Mechanisms".
        """
        event: dp_accounting.DpEvent
        if self.sampling_prob == 1:
            reach = records_per_person * self.sensitivity()
            event = dp_accounting.GaussianDpEvent(self.noise_multiplier * self.clip_norm / reach)
        elif records_per_person > 1:
            if self.unit is Unit.SHARD:
                raise ValueError(
                    f"privacy.records_per_person={records_per_person}, and {self.purpose} samples shards with "
                    f"probability {self.sampling_prob:g}: what several shards of one person tell is accounted only "
                    "where all take part; set shards.sampling_prob=1, or gs_wgan.shards_per_step to gs_wgan.num_shards"
                )
            event = MixtureOfGaussiansDpEvent(self.noise_multiplier, *_joined(records_per_person, self.sampling_prob))
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
        named = {**asdict(self), "unit": self.unit.value}
        return named if self.charge_id else {key: value for key, value in named.items() if key != "charge_id"}

    @staticmethod
    def from_dict(values: dict) -> "ReleasePlan":
        """Takes up what `to_dict` gave, or what versions before 0.2 did, which called the bound max_norm."""
        kept = {("clip_norm" if key == "max_norm" else key): value for key, value in values.items()}
        return ReleasePlan(**{**kept, "unit": Unit(values["unit"])})


def _joined(records_per_person: int, sampling_prob: float) -> tuple[list[float], list[float]]:
    """How many of a person's records join, and how likely each number is; rare ones count as the next larger here."""
    # in logarithms, since binomial coefficients of thousands overflow
    log_yes, log_no, log_all = math.log(sampling_prob), math.log1p(-sampling_prob), math.lgamma(records_per_person + 1)
    probs = [
        math.exp(log_all - math.lgamma(yes + 1) - math.lgamma(no + 1) + yes * log_yes + no * log_no)
        for yes, no in ((number, records_per_person - number) for number in range(records_per_person + 1))
    ]
    likely = [number for number, prob in enumerate(probs) if prob > _RARE]
    first, last = (min(number, records_per_person - 1) for number in (likely[0], likely[-1]))
    kept = [sum(probs[: first + 1]), *probs[first + 1 : last + 1], sum(probs[last + 1 :])]
    return [*range(first, last + 1), records_per_person], kept
