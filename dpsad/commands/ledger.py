"""What `dpsad ledger` does: adds up what runs have released of the same records."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpsad.api.spending import Spending, Total, runs_below, spending_of, total


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
