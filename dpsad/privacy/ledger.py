"""Ledger: what was released, charged before it leaves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dpsad.privacy.accounting import ACCOUNTANT, ADJACENCY, epsilon_of
from dpsad.privacy.calibration import calibrated
from dpsad.privacy.plan import ReleasePlan


class BudgetExceeded(ValueError):
    """A charge that would spend more than the budget; nothing was released."""


@dataclass
class Ledger:
    """Append-only list of charged release plans, under one budget and one adjacency.

    Attributes:
        epsilon: budget, > 0.
        delta: in (0, 1).
        entries: plans in the order they were charged.
        fixed_noise: whether any of them was released with seeded noise, which voids the guarantee.
        read_off: what was taken from all records together before any release, a text each; no charge covers it.
    """

    epsilon: float
    delta: float
    entries: list[ReleasePlan] = field(default_factory=list)
    fixed_noise: bool = False
    read_off: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"privacy.epsilon={self.epsilon} must be positive")
        if not 0 < self.delta < 1:
            raise ValueError(f"privacy.delta={self.delta} must be between 0 and 1")

    def charge(self, plan: ReleasePlan, *, fixed_noise: bool = False) -> None:
        """Enters a plan as spent, whole, before its first release.

        Args:
            plan: what will be released.
            fixed_noise: whether its noise can be repeated by whoever knows a seed.

        Raises:
            BudgetExceeded: the plan does not fit; the ledger is unchanged.

        Formal guarantee: what was charged never exceeds (epsilon, delta), whether or not every release is made.
        """
        entries = [*self.entries, plan]
        total = epsilon_of([entry.event() for entry in entries], self.delta)
        if total > self.epsilon:
            raise BudgetExceeded(
                f"{plan.purpose} would bring epsilon to {total:.4g}, over the budget of {self.epsilon:g} "
                f"({self.spent():.4g} is spent); raise privacy.epsilon or plan fewer or noisier releases"
            )
        self.entries = entries
        self.fixed_noise |= fixed_noise

    def note(self, read_off: Sequence[str]) -> None:
        """Enters what was taken from all records together; what was once entered stays."""
        self.read_off += tuple(fact for fact in read_off if fact not in self.read_off)

    def calibrate(self, plan: ReleasePlan) -> ReleasePlan:
        """The plan with the least noise that the rest of the budget allows; charges nothing.

        Raises:
            ValueError: nothing is left.
        """
        (least,) = calibrated([plan], epsilon=self.epsilon, delta=self.delta, spent=self.entries)
        return least

    def planned(self, plans: Sequence[ReleasePlan]) -> "Ledger":
        """A ledger as it would be after these plans, to plan what follows; this one is left as it is."""
        return replace(self, entries=[*self.entries, *plans])

    def take_over(self, state: dict) -> None:
        """Charges what another run's ledger was charged with, whose releases this run goes on from.

        Args:
            state: `state_dict` of that ledger.

        Raises:
            BudgetExceeded: it has cost more than this budget.
        """
        for plan in _entries(state):
            self.charge(plan, fixed_noise=state["fixed_noise"])
        self.note(state.get("read_off", ()))

    def spent(self) -> float:
        """Epsilon of everything charged so far, at the ledger's delta."""
        return epsilon_of([plan.event() for plan in self.entries], self.delta)

    def statement(self) -> dict:
        """What was spent, as plain data for privacy.json; no bound at all is None, since JSON knows no infinity."""
        spent = self.spent()
        return {
            "epsilon": spent if spent < math.inf else None,
            "delta": self.delta,
            "adjacency": ADJACENCY,
            "unit": sorted({plan.unit.value for plan in self.entries}),
            "accountant": ACCOUNTANT,
            "events": [plan.to_dict() for plan in self.entries],
            "budget": {"epsilon": self.epsilon if self.epsilon < math.inf else None, "delta": self.delta},
        }

    def state_dict(self) -> dict:
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "entries": [plan.to_dict() for plan in self.entries],
            "fixed_noise": self.fixed_noise,
            "read_off": list(self.read_off),
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes up what was charged, and the budget it was charged to."""
        self.epsilon, self.delta = state["epsilon"], state["delta"]
        self.entries = _entries(state)
        self.fixed_noise = state["fixed_noise"]
        self.note(state.get("read_off", ()))  # versions before 0.2 did not note it


def _entries(state: dict) -> list[ReleasePlan]:
    """The plans of a saved ledger; versions before 0.2 kept each beside its purpose."""
    plans = [entry if isinstance(entry, dict) else {"purpose": entry[0], **entry[1]} for entry in state["entries"]]
    return [ReleasePlan.from_dict(plan) for plan in plans]
