"""What runs have charged, and what those on the same records have cost together."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpsad.errors import reading
from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.budget import MAX_EPSILON
from dpsad.privacy.config import PrivacyConfig
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.selection import Selection
from dpsad.privacy.statement import LIMITED
from dpsad.release.statement_file import UNNOTED, read_statement
from dpsad.runtime.checkpoint import load
from dpsad.runtime.run_folder import CONFIG, STATEMENT, Run


@dataclass(frozen=True)
class Spending:
    """What one run has charged.

    records: fingerprint of the records it read, private; empty where none is noted.
    charges: every plan it was charged with.
    bounded: whether these bound all that it has released.
    records_per_person: how many records of one person it protects together.
    selection: how many repetitions the charges are of, where only the best was released; None where there was one.
    statement: its privacy.json; None where it has released no student yet.
    """

    path: Path
    records: str
    charges: tuple[ReleasePlan, ...]
    bounded: bool
    records_per_person: int
    selection: Selection | None
    statement: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Total:
    """What runs on one set of records have cost together.

    epsilon: None where there is no bound.
    said: in a line, with why there is none, if so.
    """

    epsilon: float | None
    delta: float | None
    said: str


def runs_below(path: Path) -> list[Path]:
    """The run folders at a path, or the release folder that it is. What a run keeps in its private/ is a part of it.

    Raises:
        ValueError: there is none.
    """
    found = sorted(
        {
            config.parent
            for config in path.rglob(CONFIG)
            if Run(config.parent).private.is_dir() and "private" not in config.relative_to(path).parts
        }
    )
    if not found and (path / STATEMENT).is_file():
        found = [path]
    if not found:
        raise ValueError(f"{path} holds no run: no folder there has a {CONFIG} beside a private/; pass run folders")
    return found


def spending_of(path: Path) -> Spending:
    """Reads what a run has charged: from its statement, or where it has none yet, from what its stages keep.

    Raises:
        ValueError: a file is damaged.
    """
    run = Run(path)
    records = run.begun_with
    file = run.statement if run.statement.exists() else path / STATEMENT
    if not file.exists():
        return Spending(path, records, *_united(_kept_ledgers(run)), None)
    statement = {**UNNOTED, **read_statement(file)}
    with reading(file):
        Ledger(math.inf, statement["delta"], records_per_person=statement["records_per_person"])  # refuses what is none
        charges = tuple(map(ReleasePlan.from_dict, statement["events"]))
        drawn = statement.get("selection")
        selection = Selection(repetitions=drawn["repetitions"], mean=drawn["mean"]) if drawn else None
    bounded, per_person = statement["formal"], statement["records_per_person"]
    return Spending(path, records, charges, bounded, per_person, selection, statement)


def once_each(charges: Iterable[ReleasePlan]) -> list[ReleasePlan]:
    """Charges without those whose name came before: these are the same releases. All without a name stay."""
    kept: dict[object, ReleasePlan] = {}
    for place, charge in enumerate(charges):
        kept.setdefault(charge.charge_id or place, charge)
    return list(kept.values())


def total(runs: Sequence[Spending], delta: float | None) -> Total:
    """What all runs on one set of records have cost together.

    The charges of a selection are accounted as one mechanism: none of them counts as another's, and copies of a run
    count once.
    """
    unbounded = [run.path.name for run in runs if not run.bounded]
    if unbounded:
        said = f"together: no bound, for lack of a formal guarantee ({', '.join(unbounded)})"
        return Total(epsilon=None, delta=None, said=said)
    plain = once_each(charge for run in runs if run.selection is None for charge in run.charges)
    selected = {tuple(charge.charge_id for charge in run.charges): run for run in runs if run.selection and run.charges}
    deltas = [run.statement["delta"] for run in runs if run.statement]
    at = delta or min(deltas, default=1e-5)
    per_person = max(run.records_per_person for run in runs)
    try:
        events = [charge.event(per_person) for charge in plain]
        for run in selected.values():
            assert run.selection is not None
            events.append(run.selection.event([charge.event(per_person) for charge in run.charges]))
    except ValueError:
        said = f"together: no bound for up to {per_person} records of one person, for some runs sample shards"
        return Total(epsilon=None, delta=None, said=said)
    epsilon = epsilon_of(events, at)
    num_charges = len(plain) + sum(len(run.charges) for run in selected.values())
    shared = sum(len(run.charges) for run in runs) - num_charges
    counted = f"; {shared} that several runs share, counted once" if shared else ""
    said = f"epsilon {epsilon:.4g}" if epsilon < math.inf else f"no bound up to epsilon {MAX_EPSILON:g}"
    protected = f" for up to {per_person} records of one person" if per_person > 1 else ""
    said = f"together: {said} at delta {at:g}{protected} ({num_charges} charges{counted})"
    return Total(epsilon=epsilon if epsilon < math.inf else None, delta=at, said=said)


def _kept_ledgers(run: Run) -> Iterator[dict]:
    """States of the ledgers that a run's stages have kept."""
    if run.prototypes.exists():
        with reading(run.prototypes):
            yield load(run.prototypes)["ledger"]
    begun = run.checkpoint("sketch")  # what it promises to charge is charged with the prototypes
    for file in sorted(run.private.glob("*.checkpoint")):
        if file == begun and run.prototypes.exists():
            continue
        with reading(file):
            for part in load(file)["parts"].values():
                if isinstance(part, dict) and ("ledger" in part or "entries" in part):
                    yield part.get("ledger", part)


def _united(states: Iterable[dict]) -> tuple[tuple[ReleasePlan, ...], bool, int, Selection | None]:
    """The charges of saved ledgers, each once, whether they bound what was released, for how many records of one
    person, and of how many repetitions, which bounds charges that were made once, too."""
    charges: list[ReleasePlan] = []
    bounded, per_person, selection = True, 1, None
    for state in states:
        ledger = Ledger(state["epsilon"], state["delta"])
        ledger.load_state_dict(state)
        charges += ledger.entries
        bounded &= not ledger.fixed_noise and LIMITED not in ledger.read_off
        per_person = max(per_person, ledger.records_per_person)
        selection = ledger.selection or selection
    return tuple(once_each(charges)), bounded, per_person, selection


def runs_beside(run: Run, fingerprint: str) -> list[Spending]:
    """Runs in the same folder as this one that have charged something for the same records.

    Looks and changes nothing; what cannot be read is passed over.
    """
    found = []
    try:
        folders = sorted(run.path.absolute().parent.iterdir())
    except OSError:
        return []
    for folder in folders:
        try:
            if folder != run.path.absolute() and Run(folder).begun_with == fingerprint:
                found.append(spending_of(folder))
        except (OSError, ValueError):
            continue
    return [other for other in found if other.charges or not other.bounded]


def cost_beside(others: Sequence[Spending], planned: Sequence[ReleasePlan] | None, privacy: PrivacyConfig) -> str:
    """What other runs on the same records and this one will have cost together, in a line.

    Args:
        others: at least one.
        planned: every release that this run will make, none where it has no guarantee; None where it goes on from
            releases that may be the others', so that nobody knows yet what comes on top.
    """
    where = f"see dpsad ledger {others[0].path.parent}"
    names = ", ".join(other.path.name for other in others)
    if planned is None:
        return f"note: {names} released of the same records, and what this run releases comes on top; {where}"
    delta = min([privacy.delta, *(other.statement["delta"] for other in others if other.statement)])
    this = Spending(Path("this run"), "", tuple(planned), bool(planned), privacy.records_per_person, None, None)
    said = total([*others, this], delta).said
    return f"note: {names} released of the same records; with what this run will release, {said}; {where}"
