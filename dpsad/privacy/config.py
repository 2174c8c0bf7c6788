"""PrivacyConfig: what a run is told of its budget."""

from dataclasses import dataclass
from typing import Annotated

from dpsad.privacy.ranges import CountOrZero, Range, Seed, Share, ShareOrAll, require_ranges

EPSILON = Range("(0, inf]")  # inf asks for no noise, and no bound


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """The budget of a run.

    epsilon, delta: of everything that the run releases, for one record added or removed.
    split: the prototypes' share of the budget (of mu^2) with dp-sad; the rest refines the student.
    num_records: the number of records as public knowledge; sampling probabilities and divisors come from it. 0 takes
        the size of the data set, which then counts as public, and the statement says so.
    noise_seed: fixes privacy noise and batch sampling for tests; voids the guarantee, and the statement says so.
    """

    epsilon: Annotated[float, EPSILON] = 10.0
    delta: Share = 1e-5
    split: ShareOrAll = 0.4
    num_records: CountOrZero = 0
    noise_seed: Seed | None = None

    def __post_init__(self) -> None:
        require_ranges(self, "privacy")
