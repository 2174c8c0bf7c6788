"""PrivacyConfig: what a run is told of its budget."""

from dataclasses import dataclass

MOST_RECORDS = 10_000  # of one person; no budget protects more together and leaves anything to learn


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """The budget of a run.

    epsilon, delta: of everything that the run releases, for one person's records added or removed.
    records_per_person: how many records one person has at most, 1 to 10,000; they are protected together, at so many
        times the noise where all records take part in a release. That nobody has more is for you to see to.
    split: the prototypes' share of the budget (of mu^2) with dp-sad; the rest refines the student.
    num_records: the number of records as public knowledge; sampling probabilities and divisors come from it. 0 takes
        the size of the data set, which then counts as public, and the statement says so.
    noise_seed: fixes privacy noise and batch sampling for tests; voids the guarantee, and the statement says so.
    """

    epsilon: float = 10.0
    delta: float = 1e-5
    split: float = 0.4
    num_records: int = 0
    records_per_person: int = 1
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"privacy.epsilon={self.epsilon} must be positive")
        if not 0 < self.delta < 1:
            raise ValueError(f"privacy.delta={self.delta} must be between 0 and 1")
        if not 0 < self.split <= 1:
            raise ValueError(f"privacy.split={self.split} must be in (0, 1]; it is the prototypes' share of the budget")
        if self.num_records < 0:
            raise ValueError(f"privacy.num_records={self.num_records} must not be negative")
        require_records_per_person(self.records_per_person)


def require_records_per_person(number: int) -> None:
    """Refuses a number that one person's records cannot have here.

    Raises:
        ValueError: such as "privacy.records_per_person=0 must be a whole number from 1 to 10000"
    """
    if number not in range(1, MOST_RECORDS + 1):
        raise ValueError(f"privacy.records_per_person={number} must be a whole number from 1 to {MOST_RECORDS}")
