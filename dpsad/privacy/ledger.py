"""Ledger: what was released, charged before it leaves."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from dpsad.privacy.accounting import ACCOUNTANT, ADJACENCY, SELECTION_ACCOUNTANT, epsilon_of
from dpsad.privacy.budget import require_budget
from dpsad.privacy.calibration import calibrated
from dpsad.privacy.config import PrivacyConfig, RecordsPerPerson
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.ranges import require_within
from dpsad.privacy.selection import Selection


class ChargeRefused(ValueError):
    """Charges that this ledger cannot take."""


class BudgetExceeded(ChargeRefused):
    """A charge that would spend more than the budget; nothing was released."""


@dataclass
class Ledger:
    """Append-only list of charged release plans, under one budget and one adjacency.

    Attributes:
        epsilon: budget, in (0, 500], or infinity.
        delta: in (0, 1).
        entries: plans in the order they were charged.
        fixed_noise: whether any of them was released with seeded noise, which voids the guarantee.
        records_per_person: how many records one person has at most, >= 1; every entry is accounted for all of them
            together, whoever planned it.
        read_off: what was taken from all records together before any release, a text each; no charge covers it.
        selection: where the entries are of one repetition among several, of which the best alone is released: how many
            there are. Epsilon is that of the selection. None where all that is charged is released.
    """

    epsilon: float
    delta: float
    entries: list[ReleasePlan] = field(default_factory=list)
    fixed_noise: bool = False
    records_per_person: int = 1
    read_off: tuple[str, ...] = ()
    selection: Selection | None = None

    def __post_init__(self) -> None:
        require_budget(self.epsilon, self.delta)
        require_within("privacy.records_per_person", self.records_per_person, RecordsPerPerson)

    @staticmethod
    def of(privacy: PrivacyConfig) -> "Ledger":
        """The ledger of a run, with nothing charged."""
        return Ledger(privacy.epsilon, privacy.delta, records_per_person=privacy.records_per_person)

    @property
    def adjacency(self) -> str:
        """Which sets of records are neighbours, in words for the statement."""
        if self.records_per_person == 1:
            return ADJACENCY
        return f"add-or-remove-one-person-with-up-to-{self.records_per_person}-records"

    def charge(self, plan: ReleasePlan, *, fixed_noise: bool = False) -> None:
        """Enters a plan as spent, whole, before its first release.

        Args:
            plan: what will be released.
            fixed_noise: whether its noise can be repeated by whoever knows a seed.

        Raises:
            BudgetExceeded: the plan does not fit; the ledger is unchanged.

        The entry has a new random `charge_id`, whatever the plan's own: by it the same releases are known again in
        another run's ledger, and no two series are taken for one.

        Formal guarantee: what was charged never exceeds (epsilon, delta), whether or not every release is made.
        """
        self._enter(_named(plan), fixed_noise)

    def _enter(self, plan: ReleasePlan, fixed_noise: bool) -> None:
        after = self.planned([plan])
        total = after.spent()
        if total > self.epsilon:
            raise BudgetExceeded(
                f"{plan.purpose} would bring epsilon to {total:.4g}, over the budget of {self.epsilon:g} "
                f"({self.spent():.4g} is spent); raise privacy.epsilon or plan fewer or noisier releases"
            )
        self.entries = after.entries
        self.fixed_noise |= fixed_noise

    def note(self, read_off: Sequence[str]) -> None:
        """Enters what was taken from all records together; what was once entered stays."""
        self.read_off += tuple(fact for fact in read_off if fact not in self.read_off)

    def renew(self, plan: ReleasePlan) -> None:
        """Gives the last charge of a plan another name: what will be released is not what a copy of the run releases.

        Whoever goes on with half-made releases calls it, since nobody knows who else does.
        """
        place = max(index for index, entry in enumerate(self.entries) if entry == plan)
        self.entries = [*self.entries[:place], _named(plan), *self.entries[place + 1 :]]

    def calibrate(self, plan: ReleasePlan) -> ReleasePlan:
        """The plan with the least noise that the rest of the budget allows; charges nothing.

        Raises:
            ValueError: nothing is left.
        """
        (least,) = self.calibrate_together([plan], self.epsilon)
        return least

    def calibrate_together(self, plans: Sequence[ReleasePlan], epsilon: float) -> list[ReleasePlan]:
        """The plans, all noises scaled by one factor, so that with the entries they cost `epsilon`; charges nothing.

        Raises:
            ValueError: nothing is left.
        """
        assert self.selection is None, (
            "the ledger of a selection only adds up; each repetition has its own to plan with"
        )
        return calibrated(
            plans,
            epsilon=epsilon,
            delta=self.delta,
            spent=self.entries,
            records_per_person=self.records_per_person,
        )

    def planned(self, plans: Sequence[ReleasePlan]) -> "Ledger":
        """A ledger as it would be after these plans, to plan what follows; this one is left as it is."""
        return replace(self, entries=[*self.entries, *plans])

    def take_over(self, state: dict) -> None:
        """Charges what another run's ledger was charged with, whose releases this run goes on from.

        Args:
            state: `state_dict` of that ledger; its charges keep their names.

        Raises:
            BudgetExceeded: it has cost more than this budget.
            ChargeRefused: it is of one repetition among several, whose entries alone are not what it has cost.
        """
        if state.get("selection"):
            raise ChargeRefused(
                "what `dpsad tune` keeps of a run that it repeats cannot be gone on from; go on from an ordinary run"
            )
        for plan in _entries(state):
            self._enter(plan, state["fixed_noise"])
        self.note(state.get("read_off", ()))

    def spent(self) -> float:
        """Epsilon of everything charged so far, at the ledger's delta."""
        events = [plan.event(self.records_per_person) for plan in self.entries]
        return epsilon_of([self.selection.event(events)] if self.selection and events else events, self.delta)

    def statement(self) -> dict:
        """What was spent, as plain data for privacy.json; no bound at all is None, since JSON knows no infinity."""
        spent = self.spent()
        return {
            "epsilon": spent if spent < math.inf else None,
            "delta": self.delta,
            "adjacency": self.adjacency,
            **self._unit(),
            "accountant": SELECTION_ACCOUNTANT if self.selection else ACCOUNTANT,
            "events": [plan.to_dict() for plan in self.entries],
            **self._selection(),
            "budget": {"epsilon": self.epsilon if self.epsilon < math.inf else None, "delta": self.delta},
        }

    def _unit(self) -> dict:
        """Who is protected: records or shards' records by themselves, or a person's together."""
        if self.records_per_person == 1:
            return {"unit": sorted({plan.unit.value for plan in self.entries})}
        return {
            "unit": [f"up to {self.records_per_person} records of one person"],
            "records_per_person": self.records_per_person,
        }

    def _selection(self) -> dict:
        return {"selection": asdict(self.selection)} if self.selection else {}

    def state_dict(self) -> dict:
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "entries": [plan.to_dict() for plan in self.entries],
            "fixed_noise": self.fixed_noise,
            "records_per_person": self.records_per_person,
            "read_off": list(self.read_off),
            **self._selection(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes up what was charged, and the budget it was charged to.

        Raises:
            ValueError: something that is charged here is not among it; the ledger is unchanged.

        Formal guarantee: no charge is dropped, nor that noise was fixed.
        """
        loaded = _entries(state)
        dropped = _left_out(self.entries, loaded)
        if dropped:
            raise ValueError(
                f"{', '.join(plan.purpose for plan in dropped)} was charged here, and is not among what was charged "
                "before: what is gone on with was made of other releases"
            )
        self.epsilon, self.delta, self.entries = state["epsilon"], state["delta"], loaded
        self.fixed_noise |= state["fixed_noise"]
        self.records_per_person = state.get("records_per_person", 1)  # before it was counted, one record was protected
        self.note(state.get("read_off", ()))  # versions before 0.2 did not note it
        self.selection = Selection(**state["selection"]) if state.get("selection") else None


def _named(plan: ReleasePlan) -> ReleasePlan:
    """A plan whose releases are no other's."""
    return replace(plan, charge_id=secrets.token_hex(8))


def _left_out(charged: Sequence[ReleasePlan], loaded: Sequence[ReleasePlan]) -> list[ReleasePlan]:
    """Charges that are not among those loaded: by their names, and by value where old files gave none."""
    names = {plan.charge_id for plan in charged if plan.charge_id}
    found = {plan.charge_id for plan in loaded}
    others = [plan for plan in loaded if plan.charge_id not in names]
    left_out = []
    for plan in charged:
        if not plan.charge_id and plan in others:
            others.remove(plan)
        elif not plan.charge_id or plan.charge_id not in found:
            left_out.append(plan)
    return left_out


def _entries(state: dict) -> list[ReleasePlan]:
    """The plans of a saved ledger; versions before 0.2 kept each beside its purpose."""
    plans = [entry if isinstance(entry, dict) else {"purpose": entry[0], **entry[1]} for entry in state["entries"]]
    return [ReleasePlan.from_dict(plan) for plan in plans]
