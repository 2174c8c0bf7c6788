"""PrivacyConfig: what a run is told of its budget."""

from dataclasses import dataclass
from typing import Annotated

from dpsad.privacy.budget import Epsilon
from dpsad.privacy.ranges import CountOrZero, Range, Seed, Share, ShareOrAll, require_ranges

RecordsPerPerson = Annotated[int, Range("[1, 10000]")]  # no budget protects more together and leaves any to learn


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """The budget of a run.

    epsilon, delta: of everything that the run releases, for one person's records added or removed. Epsilon is at most
        500, or inf: no noise and no guarantee.
    records_per_person: how many records one person has at most; they are protected together, at so many times the noise
        where all records take part in a release. That nobody has more is for you to see to.
    split: the prototypes' share of the budget (of mu^2) with dp-sad; the rest refines the student.
    num_records: the number of records as public knowledge; sampling probabilities and divisors come from it. 0 takes
        the size of the data set, which then counts as public, and the statement says so.
    noise_seed: fixes privacy noise and batch sampling for tests; voids the guarantee, and the statement says so.
    """

    epsilon: Epsilon = 10.0
    delta: Share = 1e-5
    split: ShareOrAll = 0.4
    num_records: CountOrZero = 0
    records_per_person: RecordsPerPerson = 1
    noise_seed: Seed | None = None

    def __post_init__(self) -> None:
        require_ranges(self, "privacy")
