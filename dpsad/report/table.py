"""Comparison table as text, Markdown, CSV and JSON."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dpsad.evaluation.result import DownstreamResult, SetResult
from dpsad.report.decision import at_a_glance, grids, verdicts
from dpsad.report.groups import Group, epsilon_of, epsilon_text
from dpsad.report.reading import Result
from dpsad.report.settings import keys_that_differ
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

    def measured(title: str, get: Callable[[SetResult], float | None], form: str) -> Column:
        def value(result: Result) -> float | None:
            return get(result.evaluation.student) if result.evaluation else None

        return Column(title, value, lambda result: format(value(result), form))

    def of_kind(title: str, kind: str, get: Callable[[DownstreamResult], float | None], form: str) -> Column:
        return measured(
            f"{title}, {kind}",
            lambda found: get(found.classifiers[kind]) if kind in found.classifiers else None,
            form,
        )

    def metric_of(name: str) -> Column:
        return measured(name.replace("_", " "), lambda found: found.metrics.get(name), ".4g")

    spaces = ", ".join(sorted({evaluation.features.name for evaluation in group.evaluations}))
    strictest = group.kinds[-1:]
    return [
        Column("run", lambda result: result.name, lambda result: result.name),
        Column("epsilon", epsilon_of, epsilon_text),
        *(of_kind("accuracy", kind, lambda outcome: outcome.accuracy, ".4f") for kind in reversed(group.kinds)),
        Column("formal", claim, claim),
        Column("method, guarantee", lambda result: result.title, lambda result: result.title),
        Column("delta", lambda result: result.delta, lambda result: f"{result.delta:g}"),
        *([AUDITED] if any(result.audited_epsilon is not None for result in group.results) else []),
        measured(f"Frechet distance ({spaces or 'not measured'})", lambda found: found.frechet, ".4g"),
        *(of_kind("worst class", kind, worst_class, ".4f") for kind in strictest),
        *(of_kind("calibration error", kind, lambda outcome: outcome.calibration_error, ".3f") for kind in strictest),
        *(metric_of(name) for name in group.metrics),
        *([MEMORISATION] if any(result.closer_to_training is not None for result in group.results) else []),
        measured("synthetic images", lambda found: float(found.num_images), ",.0f"),
        *([TEST_IMAGES] if any(evaluation.num_test_images for evaluation in group.evaluations) else []),
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


def worst_class(outcome: DownstreamResult) -> float | None:
    """Accuracy on the class that does worst; None where nobody noted."""
    return min((share for share in outcome.per_class_accuracy if share is not None), default=None)


def audited_text(result: Result) -> str:
    """Such as ">= 7.383", and whether that refutes what is claimed."""
    return f">= {result.audited_epsilon:.3f}" + (", REFUTES the epsilon" if result.refuted else "")


TEST_IMAGES = Column(
    "test images",
    lambda result: float(result.evaluation.num_test_images) or None if result.evaluation else None,
    lambda result: f"{result.evaluation.num_test_images:,}" if result.evaluation else "",
)
MEMORISATION = Column(
    "closer to training images",
    lambda result: None if result.closer_to_training is None else str(result.closer_to_training),
    lambda result: "YES" if result.closer_to_training else "no",
)
AUDITED = Column("audited epsilon", lambda result: result.audited_epsilon, audited_text)


def claim(result: Result) -> str:
    """Whether the epsilon of a run holds, in words that cannot be overlooked."""
    return "yes" if result.formal else "NOT formal"


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
        lines += [f"  verdict: {sentence}" for sentence in verdicts(group)]
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
        lines += [
            "",
            *(f"- verdict: {in_markdown(sentence)}" for sentence in verdicts(group)),
            *cautions,
            *(f"- {in_markdown(line)}" for line in remarks(group)),
            "",
        ]
        for grid in (at_a_glance(group), *grids(group)):
            lines += [f"### {in_markdown(grid.title)}", ""]
            lines += ["| " + " | ".join(map(in_markdown, cells)) + " |" for cells in (grid.heads, *grid.rows)]
            lines.insert(-len(grid.rows) or len(lines), "|" + "---|" * len(grid.heads))
            lines.append("")
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
                "verdicts": verdicts(group),
                "settings": [[result.name for result in setting.results] for setting in group.settings],
                "keys_that_differ": keys_that_differ(group.settings),
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
    student = evaluation.student if evaluation else None
    classifiers = {name: found.classifiers for name, found in evaluation.sets.items()} if evaluation else {}
    own = classifiers.get("student", {})
    return {
        "run": result.name,
        "data": result.data,
        "method": result.method,
        "guarantee": result.guarantee,
        "seed": result.settings.get("seed"),
        "formal": result.formal,
        "epsilon": result.epsilon,
        "nominal_epsilon": result.nominal_epsilon,
        "delta": result.delta,
        "audited_epsilon": result.audited_epsilon,
        "adjacency": result.adjacency,
        **{f"accuracy_{kind}": outcome.accuracy for kind, outcome in own.items()},
        **{f"worst_class_{kind}": worst_class(outcome) for kind, outcome in own.items()},
        **{f"calibration_error_{kind}": outcome.calibration_error for kind, outcome in own.items()},
        **{
            f"{of}_accuracy_{kind}": outcome.accuracy
            for of in ("real", "sketch")
            for kind, outcome in classifiers.get(of, {}).items()
        },
        "frechet": student.frechet if student else None,
        **{
            name: value
            for name, value in (student.metrics if student else {}).items()
            if not name.endswith("_deviation")
        },
        "feature_space": evaluation.features.name if evaluation else None,
        "num_images": student.num_images if student else None,
        "num_test_images": (evaluation.num_test_images or None) if evaluation else None,
        "closer_to_training": result.closer_to_training,
        "images_per_second": result.images_per_second,
        "training_minutes": result.training_minutes,
        "hardware": result.hardware or None,
    }
