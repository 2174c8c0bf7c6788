"""Comparison table as text, Markdown, CSV and JSON."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dpsad.report.groups import Group, epsilon_of
from dpsad.report.reading import Evaluation, Result
from dpsad.runtime.markdown import in_markdown

PRIVATE = (
    "Accuracy, distances and audits were measured on private records and are not covered by the guarantee: "
    "this comparison is private, do not share it."
)
Value = float | str | None


@dataclass(frozen=True)
class Column:
    """One column of the table.

    value: what it is sorted by; None where there is none.
    show: what is written where there is a value.
    """

    title: str
    value: Callable[[Result], Value]
    show: Callable[[Result], str]

    def text(self, result: Result) -> str:
        return "" if self.value(result) is None else self.show(result)


def columns(group: Group) -> list[Column]:
    """The columns of a group's table; its data set is said above it."""

    def measured(title: str, get: Callable[[Evaluation], float | None], form: str) -> Column:
        def value(result: Result) -> float | None:
            return get(result.evaluation) if result.evaluation else None

        return Column(title, value, lambda result: format(value(result), form))

    def accuracy_of(kind: str) -> Column:
        return measured(f"accuracy, {kind}", lambda evaluation: evaluation.accuracy.get(kind), ".4f")

    def metric_of(name: str) -> Column:
        return measured(name.replace("_", " "), lambda evaluation: evaluation.metrics.get(name), ".4g")

    spaces = ", ".join(sorted({evaluation.feature_space[0] for evaluation in group.evaluations}))
    return [
        Column("run", lambda result: result.name, lambda result: result.name),
        Column("method, guarantee", lambda result: result.title, lambda result: result.title),
        Column("formal", claim, claim),
        Column("epsilon", epsilon_of, epsilon_text),
        Column("delta", lambda result: result.delta, lambda result: f"{result.delta:g}"),
        *([AUDITED] if any(result.audited_epsilon is not None for result in group.results) else []),
        *(accuracy_of(kind) for kind in group.kinds),
        measured(f"Frechet distance ({spaces or 'not measured'})", lambda evaluation: evaluation.frechet, ".4g"),
        *(metric_of(name) for name in group.metrics),
        Column(
            "images per second",
            lambda result: result.images_per_second,
            lambda result: f"{result.images_per_second:.4g}",
        ),
        Column(
            "training minutes", lambda result: result.training_minutes, lambda result: f"{result.training_minutes:.1f}"
        ),
        Column("hardware", lambda result: result.hardware or None, lambda result: result.hardware),
        Column("adjacency", lambda result: result.adjacency, lambda result: result.adjacency),
    ]


def audited_text(result: Result) -> str:
    """Such as ">= 7.383", and whether that refutes what is claimed."""
    return f">= {result.audited_epsilon:.3f}" + (", REFUTES the epsilon" if result.refuted else "")


AUDITED = Column("audited epsilon", lambda result: result.audited_epsilon, audited_text)


def claim(result: Result) -> str:
    """Whether the epsilon of a run holds, in words that cannot be overlooked."""
    return "yes" if result.formal else "NOT formal"


def epsilon_text(result: Result) -> str:
    """Such as "9.994", or "nominal 9.998" where it is no guarantee."""
    epsilon = epsilon_of(result)
    number = "missing" if epsilon is None else f"{epsilon:.3f}"
    return number if result.formal else f"nominal {number}"


def to_text(groups: Sequence[Group], left_out: Sequence[str]) -> str:
    """Aligned columns for a terminal, group by group, and what a reader must know."""
    lines: list[str] = []
    for group in groups:
        shown = [[column.title for column in columns(group)], *_cells(group)]
        widths = [max(map(len, cells)) for cells in zip(*shown, strict=True)]
        lines.append(f"data: {group.data}")
        for row in shown:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(padded).rstrip())
        lines += [f"  caution: {sentence}" for sentence in group.differences]
        lines += [f"  {line}" for line in remarks(group)]
        lines.append("")
    lines += [f"left out: {line}" for line in left_out]
    return "\n".join([*lines, PRIVATE])


def to_markdown(groups: Sequence[Group], left_out: Sequence[str]) -> str:
    """One Markdown table a group."""
    lines = ["# Comparison", "", PRIVATE, ""]
    for group in groups:
        titles = [column.title for column in columns(group)]
        lines += [f"## {in_markdown(group.data)}", ""]
        lines += ["| " + " | ".join(map(in_markdown, cells)) + " |" for cells in (titles, *_cells(group))]
        lines.insert(-len(group.results), "|" + "---|" * len(titles))
        cautions = [f"- caution: {in_markdown(sentence)}" for sentence in group.differences]
        lines += ["", *cautions, *(f"- {in_markdown(line)}" for line in remarks(group)), ""]
    return "\n".join([*lines, *(f"- left out: {in_markdown(line)}" for line in left_out)]).rstrip() + "\n"


def to_csv(groups: Sequence[Group]) -> str:
    """One line a run; all groups share the header."""
    rows = [_flat(result) for group in groups for result in group.results]
    header = dict.fromkeys(key for row in rows for key in row)
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(header), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def to_json(groups: Sequence[Group], left_out: Sequence[str]) -> dict[str, Any]:
    """JSON-serialisable: groups with their runs, differences and remarks. A number that is not finite is null."""
    return {
        "private": PRIVATE,
        "groups": [
            {
                "data": group.data,
                "differences": list(group.differences),
                "runs": [
                    {
                        key: None if isinstance(value, float) and not math.isfinite(value) else value
                        for key, value in row
                    }
                    | {"stage_seconds": dict(result.stage_seconds), "reasons": list(result.reasons)}
                    | {"notes": list(result.notes)}
                    for result, row in ((result, _flat(result).items()) for result in group.results)
                ],
            }
            for group in groups
        ],
        "left_out": list(left_out),
    }


def remarks(group: Group) -> list[str]:
    """What is missing of each run, and why one is not formal."""
    lines = [f"{result.name}: {note}" for result in group.results for note in result.notes]
    reasons = dict.fromkeys(reason for result in group.results for reason in result.reasons)
    for reason in reasons:
        names = ", ".join(result.name for result in group.results if reason in result.reasons)
        lines.append(f"NOT formal ({names}): {reason}")
    return lines


def _cells(group: Group) -> list[list[str]]:
    return [[column.text(result) for column in columns(group)] for result in group.results]


def _flat(result: Result) -> dict[str, Any]:
    """A run by stable keys. `epsilon` is of a formal guarantee alone, so that no script takes a nominal one for it."""
    evaluation = result.evaluation
    return {
        "run": result.name,
        "data": result.data,
        "method": result.method,
        "guarantee": result.guarantee,
        "formal": result.formal,
        "epsilon": result.epsilon,
        "nominal_epsilon": result.nominal_epsilon,
        "delta": result.delta,
        "audited_epsilon": result.audited_epsilon,
        "adjacency": result.adjacency,
        **{f"accuracy_{kind}": accuracy for kind, accuracy in (evaluation.accuracy if evaluation else {}).items()},
        "frechet": evaluation.frechet if evaluation else None,
        **(evaluation.metrics if evaluation else {}),
        "feature_space": evaluation.feature_space[0] if evaluation else None,
        "images_per_second": result.images_per_second,
        "training_minutes": result.training_minutes,
        "hardware": result.hardware or None,
    }
