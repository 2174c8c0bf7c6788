"""What `dpsad ledger` does: adds up what runs have released of the same records."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpsad.errors import reading
from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.budget import MAX_EPSILON
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


@dataclass(frozen=True, kw_only=True)
class RecordSet:
    """Runs of one set of records, called so, and what they have cost together."""

    named: str
    runs: tuple[Spending, ...]
    total: Total

    def __str__(self) -> str:
        return "\n".join([f"records: {self.named}", *_lines(self.runs), self.total.said])

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        kept = ("method", "guarantee", "formal", "epsilon", "delta")
        runs = [{"run": str(run.path), **{key: (run.statement or {}).get(key) for key in kept}} for run in self.runs]
        return {"records": self.named, "runs": runs, "together": asdict(self.total)}


def record_sets(paths: Sequence[Path], *, delta: float | None, same_records: bool) -> list[RecordSet]:
    """The runs for each set of records, and one epsilon for all that they have released of it.

    Args:
        paths: run folders, or folders that hold some at any depth; a release folder is a run of unknown records.
        delta: of the totals; None takes the smallest of the runs'.
        same_records: adds all runs up, whatever their records' fingerprints.

    Raises:
        ValueError: no run is there, a file is damaged, or delta is no probability.

    Formal guarantee: the total bounds what all that is listed, together, tells about one record that is in the set,
        or one person's, as many as any of the runs allows; charges of one name are the same releases and count once.
    Edge cases: a run without a formal guarantee leaves no bound, and sampled shards none for several records of one
        person. A run that noted no records, since it only goes on
        from what another released, is of that one's; where that is not given, it stands alone.
    """
    if delta is not None and not 0 < delta < 1:
        raise ValueError(f"--delta={delta} must be between 0 and 1")
    found = [spending_of(run) for run in dict.fromkeys(run for path in paths for run in runs_below(path))]
    known = {
        charge.charge_id: run.records for run in found if run.records for charge in run.charges if charge.charge_id
    }
    sets: dict[str, list[Spending]] = {}
    for run in found:
        shared = next((known[charge.charge_id] for charge in run.charges if charge.charge_id in known), "")
        key = "all" if same_records else run.records or shared or f"unknown to {run.path}"
        sets.setdefault(key, []).append(run)
    found_sets = []
    for number, runs in enumerate(sets.values(), start=1):
        known_records = any(run.records for run in runs)
        named = "all given, as one set" if same_records else f"set {number}" if known_records else "not noted"
        found_sets.append(RecordSet(named=named, runs=tuple(runs), total=total(runs, delta)))
    return found_sets


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


def _lines(runs: Sequence[Spending]) -> Iterator[str]:
    """A table with a line for each run."""
    rows = [("run", "method", "guarantee", "formal", "epsilon", "delta")]
    for run in runs:
        said = run.statement
        if said is None:
            rows.append((str(run.path), "no release yet", "", "", "", ""))
            continue
        epsilon = f"{said['epsilon']:.4g}" if said["epsilon"] is not None else "none"
        formal = "yes" if said["formal"] else "no"
        rows.append((str(run.path), said["method"], said["guarantee"], formal, epsilon, f"{said['delta']:g}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


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
