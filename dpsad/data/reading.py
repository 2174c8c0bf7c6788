"""ReadReport: what a reader came across and did not read, and how it took what it read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

HIDDEN = "hidden: the name begins with a dot"
NEITHER_SIDE = "on a side that is neither train nor test"
NO_LABEL = "without a label"
OTHER_CLASS = "of a class that data.class_names does not name"


@dataclass(frozen=True)
class ReadReport:
    """Counts and remarks beside the records, as private as they are: for their owner's eyes.

    skipped: (reason, how many files or entries were not read for it), in alphabetical order.
    notes: how what was read was taken, where a user might not expect it; a sentence each.
    """

    skipped: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()

    @staticmethod
    def of(skipped: Mapping[str, int], notes: Iterable[str] = ()) -> ReadReport:
        return ReadReport(tuple(sorted((reason, num) for reason, num in skipped.items() if num)), tuple(notes))


def other_kind(name: str) -> str:
    """Why a file is not read that no reader knows by its name."""
    suffix = "." + name.rpartition(".")[2].lower() if "." in name else "none"
    return f"no image by its extension ({suffix})"


def told(skipped: Mapping[str, int]) -> str:
    """What was not read, for the end of an error; empty where nothing was skipped."""
    counts = "; ".join(f"{num} {reason}" for reason, num in ReadReport.of(skipped).skipped)
    return f" (not read: {counts})" if counts else ""
