"""An ablation as a table and a plot. Both are private: they hold numbers that were measured on records."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from matplotlib.figure import Figure

PRIVATE = "Measured on private records, which no guarantee covers: keep it in private/."
CHOICE = (
    "An epsilon covers its own row's release alone: choosing a setting by this table, or sharing several cells, tells "
    "more of the records than one row says."
)
NOMINAL = "Rows marked **no** have NO formal guarantee; their epsilon is nominal, if there is one at all."
PANELS = {"accuracy": "CNN accuracy (higher is better)", "frechet": "Frechet distance (lower is better)"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one cell of an ablation came to; None where it could not be had, and `note` says why.

    Attributes:
        setting: the cell's name.
        accuracy: of the CNN that was trained on samples alone.
        frechet: distance of samples to real training images.
        epsilon, delta: of the release; nominal where it is not formal.
        formal: whether that is a guarantee.
        seconds: that the cell's own training took.
        note: what is missing, and why.
    """

    setting: str
    accuracy: float | None = None
    frechet: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    formal: bool | None = None
    seconds: float | None = None
    note: str = ""


def to_csv(rows: Sequence[Row]) -> str:
    """All figures in full, one row a line; what is missing is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def to_markdown(name: str, shows: str, axis: str, rows: Sequence[Row]) -> str:
    """A page with the table, and what to know before reading it."""
    lines = [
        f"| {axis} | CNN accuracy | Frechet | epsilon | formal | training | note |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        formal = "" if row.formal is None else "yes" if row.formal else "**no**"
        figures = [_shown(row.accuracy, ".4f"), _shown(row.frechet, ".4g"), _shown(row.epsilon, ".4g"), formal]
        note = " ".join(row.note.split()).replace("|", "\\|")
        lines.append(f"| {' | '.join([row.setting, *figures, _shown(row.seconds, '.0f', ' s'), note])} |")
    notes = [PRIVATE, CHOICE, *([NOMINAL] if any(row.formal is False for row in rows) else [])]
    return "\n".join(
        [f"# Ablation: {name}", "", f"Shows {shows}.", "", *lines, "", *(f"- {note}" for note in notes), ""]
    )


def _shown(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def plot(name: str, axis: str, rows: Sequence[Row], path: Path) -> None:
    """Accuracy and Frechet distance over the settings, evenly spaced; hollow where there is no formal guarantee."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    settings = [row.setting.replace(", ", ",\n") for row in rows]
    for axes, (key, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        values = [math.nan if (value := getattr(row, key)) is None else value for row in rows]
        axes.plot(range(len(rows)), values, color="0.7", zorder=1)
        for place, (row, value) in enumerate(zip(rows, values, strict=True)):
            axes.scatter(place, value, s=50, edgecolors="C0", facecolors="C0" if row.formal else "white", zorder=2)
        axes.set_xticks(range(len(rows)), settings)
        axes.set(xlabel=axis, title=title, xlim=(-0.5, len(rows) - 0.5))
        axes.grid(axis="y", alpha=0.3)
    hollow = "; hollow: NOT a formal guarantee" if any(row.formal is False for row in rows) else ""
    figure.suptitle(f"Ablation: {name}{hollow}")
    figure.savefig(path, dpi=150, format="png")
