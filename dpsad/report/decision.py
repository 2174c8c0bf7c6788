"""What a comparison comes to: verdicts in words, and small tables of what they rest on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dpsad.evaluation.result import SetResult
from dpsad.report.groups import Group, epsilon_of, epsilon_text
from dpsad.report.reading import Result
from dpsad.report.settings import Figure, Setting, keys_that_differ

MOST_CLASSES = 20


@dataclass(frozen=True)
class Grid:
    """A small table: the first column names its rows."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def verdicts(group: Group) -> list[str]:
    """A sentence for each setting: how near to real data, at what epsilon, and what speaks against it."""
    return [f"{setting.name}: {'; '.join(_clauses(setting, group.settings))}." for setting in group.settings]


def at_a_glance(group: Group) -> Grid:
    """Epsilon, accuracy and distance of real images, of each setting, and of the prototypes that it began with."""
    kind = group.kinds[-1] if group.kinds else None
    heads = ("trained on", "epsilon", *([f"accuracy, {kind}"] if kind else []), "Frechet distance")
    everything = Setting(group.results)

    def row(name: str, epsilon: str, setting: Setting, of: str) -> tuple[str, ...]:
        accuracy = [_text(setting.accuracy(kind, of), ".3f")] if kind else []
        return (name, epsilon, *accuracy, _text(setting.frechet(of), ".3g"))

    rows = [row("real images", "", everything, "real")] if _has(everything, "real") else []
    for setting in group.settings:
        name = setting.name if setting.first.formal else f"{setting.name}, NOT formal"
        rows.append(row(name, epsilon_text(setting.first), setting, "student"))
        if _has(setting, "sketch"):
            rows.append(row("its prototypes alone", "", setting, "sketch"))
    return Grid("At a glance", heads, tuple(rows))


def what_differs(group: Group) -> Grid:
    """Config keys, side by side, that two settings state differently."""
    names = tuple(setting.name for setting in group.settings)
    rows = tuple((key, *values) for key, values in keys_that_differ(group.settings).items())
    return Grid("What the runs were told differently", ("key", *names), rows)


def by_class(group: Group) -> Grid:
    """Accuracy on each class, of the last kind of classifier; of many classes, those that do worst.

    Settings with other classes than the first have no column.
    """
    kind = group.kinds[-1] if group.kinds else ""
    names = group.results[0].class_names
    alike = [setting for setting in group.settings if setting.first.class_names == names]
    real = Setting(tuple(result for setting in alike for result in setting.results))
    measured = [*((setting.name, setting, "student") for setting in alike), ("real images", real, "real")]
    columns = {name: values for name, setting, of in measured if any(values := _class_accuracies(setting, kind, of))}

    def lowest(label: int) -> float:
        return min((value.mean for values in columns.values() if (value := values[label])), default=1.0)

    worst_first = sorted(range(len(names)), key=lowest)
    shown = sorted(worst_first[:MOST_CLASSES]) if columns else []
    title = f"Accuracy by class, {kind}" + (
        f": the {len(shown)} lowest of {len(names)}" if len(shown) < len(names) else ""
    )
    rows = tuple((names[label], *(_text(values[label], ".2f") for values in columns.values())) for label in shown)
    return Grid(title, ("class", *columns), rows)


def grids(group: Group) -> list[Grid]:
    """All of them that say something, beyond what is seen at a glance."""
    return [grid for grid in (what_differs(group), by_class(group)) if grid.rows]


def _class_accuracies(setting: Setting, kind: str, of: str) -> list[Figure | None]:
    def get(found: SetResult, label: int) -> float | None:
        shares = found.classifiers[kind].per_class_accuracy if kind in found.classifiers else ()
        return shares[label] if label < len(shares) else None

    labels = range(len(setting.first.class_names))
    return [setting.figure(lambda found, label=label: get(found, label), of) for label in labels]  # type: ignore[misc]


def _clauses(setting: Setting, rivals: Sequence[Setting]) -> list[str]:
    first = setting.first
    if first.evaluation is None:
        return [f"not evaluated, {_at(setting)}"]
    kinds = list(first.evaluation.student.classifiers)
    clauses = _utility(setting, kinds[-1]) if kinds else _distance(setting)
    if kinds and (rival := _better(setting, rivals, kinds[-1])):
        clauses.append(f"{rival.name} is more accurate at no larger epsilon")
    clauses += dict.fromkeys(_copies(result) for result in setting.results if result.memorisation)
    audited = [result.audited_epsilon for result in setting.results if result.audited_epsilon is not None]
    if any(result.refuted for result in setting.results):
        clauses.append("an audit REFUTES its epsilon")
    elif audited:
        clauses.append(f"an audit finds epsilon {max(audited):.3g} or more, which contradicts nothing")
    return clauses


def _utility(setting: Setting, kind: str) -> list[str]:
    own, real, sketch = (setting.accuracy(kind, of) for of in ("student", "real", "sketch"))
    assert own is not None
    if real is None:
        clauses = [f"accuracy {own.mean:.1%} by {kind}, {_at(setting)}; real data was not measured"]
    else:
        clauses = [f"{_nearness(real.mean - own.mean)} {_at(setting)} ({own.mean:.1%} against {real.mean:.1%}, {kind})"]
    if sketch is not None:
        gain = own.mean - sketch.mean
        if abs(gain) > 2 * math.hypot(own.error, sketch.error):
            clauses.append(f"{100 * abs(gain):.1f} points {'above' if gain > 0 else 'below'} its prototypes alone")
        else:
            clauses.append("not surely better or worse than its prototypes alone")
    return clauses


def _nearness(gap: float) -> str:
    """How far accuracy lies below that of real data, such as "within 3 points of real data"."""
    points = 100 * gap
    if points <= 0:
        return "no worse than real data"
    if points > 10:
        return f"{points:.0f} points below real data"
    whole = math.ceil(points - 1e-9)
    return f"within {whole} point{'' if whole == 1 else 's'} of real data"


def _distance(setting: Setting) -> list[str]:
    own, real = setting.frechet(), setting.frechet("real")
    beside = f", real images have {real.mean:.3g}" if real else ""
    return [f"Frechet distance {own.mean:.3g} {_at(setting)}{beside}" if own else f"measured {_at(setting)}"]


def _at(setting: Setting) -> str:
    epsilon = epsilon_of(setting.first)
    if setting.first.formal:
        return f"at epsilon {epsilon:.3g}"
    return "without any epsilon" if epsilon is None else f"at a nominal epsilon of {epsilon:.3g}, which is NO guarantee"


def _better(setting: Setting, rivals: Sequence[Setting], kind: str) -> Setting | None:
    """The most accurate of the formal settings that are surely more accurate at no larger epsilon."""
    own, epsilon = setting.accuracy(kind), setting.first.epsilon
    if own is None or epsilon is None:
        return None
    surely = {}
    for rival in rivals:
        other, cost = rival.accuracy(kind), rival.first.epsilon
        if rival is setting or other is None or cost is None or _terms(rival) != _terms(setting):
            continue
        if cost <= 1.001 * epsilon and other.mean - own.mean > 2 * math.hypot(own.error, other.error):
            surely[other.mean] = rival
    return surely[max(surely)] if surely else None


def _terms(setting: Setting) -> tuple[object, ...]:
    """What must be equal for epsilons, and accuracies, to compare."""
    first = setting.first
    measured = (first.evaluation.protocol, first.evaluation.student.num_images) if first.evaluation else ()
    return (first.delta, first.adjacency, first.unit, *measured)


def _has(setting: Setting, of: str) -> bool:
    return any(result.evaluation and of in result.evaluation.sets for result in setting.results)


def _copies(result: Result) -> str:
    return f"{'ALARM: ' if result.closer_to_training else ''}its samples are {result.memorisation}"


def _text(figure: Figure | None, form: str) -> str:
    return "" if figure is None else figure.text(form)
