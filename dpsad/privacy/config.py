"""PrivacyConfig: what a run is told of its budget."""

from dataclasses import dataclass

from dpsad.privacy.budget import require_budget


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig:
    """The budget of a run.

    epsilon, delta: of everything that the run releases, for one record added or removed. Epsilon is at most 500, or
        inf: no noise and no guarantee.
    split: the prototypes' share of the budget (of mu^2) with dp-sad; the rest refines the student.
    num_records: the number of records as public knowledge; sampling probabilities and divisors come from it. 0 takes
        the size of the data set, which then counts as public, and the statement says so.
    noise_seed: fixes privacy noise and batch sampling for tests; voids the guarantee, and the statement says so.
    """

    epsilon: float = 10.0
    delta: float = 1e-5
    split: float = 0.4
    num_records: int = 0
    noise_seed: int | None = None

    def __post_init__(self) -> None:
        require_budget(self.epsilon, self.delta)
        if not 0 < self.split <= 1:
            raise ValueError(f"privacy.split={self.split} must be in (0, 1]; it is the prototypes' share of the budget")
        if self.num_records < 0:
            raise ValueError(f"privacy.num_records={self.num_records} must not be negative")
