"""Privacy-utility curves: what samples are worth against what they cost, as SVG for light and dark pages."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dpsad.report.groups import Group, epsilon_of
from dpsad.report.settings import Figure as Measured
from dpsad.report.settings import Setting

# Okabe and Ito 2008; these five are apart for colour-blind eyes and stand out from white as from near black
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8649a", "#8a7a00")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#010203"  # stands for the colour of the page's text until the SVG is written
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "dpsad",  # the same picture has the same bytes
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


Measure = Callable[[Setting, str], Measured | None]  # of "student" or "real"
Point = tuple[float, float, float]  # epsilon, mean, error


@dataclass(frozen=True)
class Curve:
    """One picture: a measurement against epsilon.

    title: names the measurement, and which direction is good.
    alt: all points in words, for who cannot see them.
    svg: the picture.
    """

    title: str
    alt: str
    svg: str


def curves(group: Group) -> list[Curve]:
    """A curve for each classifier's accuracy and one for the Frechet distance; none that has no two epsilons."""

    def accuracy_of(kind: str) -> Measure:
        return lambda setting, of: setting.accuracy(kind, of)

    spaces = {(evaluation.features.name, evaluation.features.fingerprint) for evaluation in group.evaluations}
    names = ", ".join(sorted({name for name, _ in spaces}))
    drawn = [
        _curve(f"Accuracy of {kind}, higher is better", _series(group), accuracy_of(kind)) for kind in group.kinds
    ] + [
        _curve(
            f"Frechet distance in {names}, lower is better",
            _series(group, apart_by_space=len(spaces) > 1),
            lambda setting, of: setting.frechet(of),
        )
    ]
    return [curve for curve in drawn if curve]


def _series(group: Group, *, apart_by_space: bool = False) -> dict[str, list[Setting]]:
    """Settings that one line may join, by its name: one method, all formal or none, at one delta and adjacency."""
    several_deltas = len({result.delta for result in group.results}) > 1
    several_adjacencies = len({result.adjacency for result in group.results}) > 1

    def name(setting: Setting) -> str:
        result = setting.first
        parts = [
            result.title,
            f"delta {result.delta:g}" if several_deltas else "",
            result.adjacency if several_adjacencies else "",
            f"space {result.evaluation.features.fingerprint[:8]}" if apart_by_space and result.evaluation else "",
            "" if result.formal else "NOT formal (nominal epsilon)",
        ]
        return ", ".join(part for part in parts if part)

    series: dict[str, list[Setting]] = {}
    for setting in group.settings:
        series.setdefault(name(setting), []).append(setting)
    return series


def _curve(title: str, series: Mapping[str, Sequence[Setting]], measure: Measure) -> Curve | None:
    """One line a series, with dashes and hollow marks where it is not formal; a thin line for real images.

    Bars are what `Setting` knows of a point's error. Points that stand alone are shown beside a line, and not without.
    Runs without a positive, finite epsilon have no place on a logarithmic axis and are left out.
    """
    lines = {name: _points(settings, measure) for name, settings in series.items()}
    lines = {name: points for name, points in lines.items() if points}
    if all(len({epsilon for epsilon, _, _ in points}) < 2 for points in lines.values()):
        return None
    measured = [measure(setting, "real") for settings in series.values() for setting in settings]
    reals = [real.mean for real in measured if real is not None]
    with rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.6 + 0.21 * len(lines)), layout="constrained")
        axes = figure.add_subplot()
        handles = []
        for number, (name, settings) in enumerate(series.items()):
            if name not in lines:
                continue  # a series has one colour in all pictures
            colour, formal = COLOURS[number % len(COLOURS)], settings[0].first.formal
            epsilons, values, errors = zip(*lines[name], strict=True)
            handles += axes.plot(
                epsilons,
                values,
                color=colour,
                marker=MARKERS[number % len(MARKERS)],
                linestyle="-" if formal else (0, (4, 3)),
                markerfacecolor=colour if formal else "none",
                markersize=7,
            )
            if any(errors):
                axes.errorbar(epsilons, values, errors, fmt="none", ecolor=colour, elinewidth=1.2)
        if reals:
            handles.append(axes.axhline(sum(reals) / len(reals), color=INK, linewidth=0.8, linestyle=":"))
        _label(axes, [epsilon for points in lines.values() for epsilon, _, _ in points])
        _name(figure, handles, [*lines, *(["real images"] if reals else [])])
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    said = (
        f"{name}: " + ", ".join(f"{value:.4g} at epsilon {epsilon:.3g}" for epsilon, value, _ in points)
        for name, points in lines.items()
    )
    return Curve(title, f"{title}. {'; '.join(said)}.", inked(file.getvalue()))


def _points(settings: Sequence[Setting], measure: Measure) -> list[Point]:
    points = []
    for setting in settings:
        epsilon, value = epsilon_of(setting.first), measure(setting, "student")
        if epsilon is not None and 0 < epsilon < math.inf and value is not None and math.isfinite(value.mean):
            points.append((epsilon, value.mean, value.error))
    return sorted(points)


def _label(axes: Axes, epsilons: Sequence[float]) -> None:
    axes.set_xscale("log")
    low, high = min(epsilons) / 1.3, max(epsilons) * 1.3
    axes.set_xlim(low, high)

    def marks(units: Sequence[float]) -> list[float]:
        return [mark for power in range(-6, 7) for unit in units if low <= (mark := unit * 10.0**power) <= high]

    coarse = marks((1, 2, 5))
    inside = coarse if len(coarse) > 2 else marks((1, 1.5, 2, 3, 4, 5, 7))
    axes.set_xticks(inside, [f"{mark:g}" for mark in inside])
    axes.minorticks_off()
    axes.set_xlabel("epsilon (logarithmic)")
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)


def _name(figure: Figure, handles: list[Line2D], names: list[str]) -> None:
    """A legend above the axes. A name that begins with an underscore would be left out of it, so a blank goes first."""
    figure.legend(
        handles, [f" {name}" for name in names], loc="outside upper left", frameon=False, ncols=1, handlelength=3
    )


def inked(svg: str) -> str:
    """The SVG with its ink in the colour that suits the reader's scheme, and without the XML prologue."""
    scheme = ":root{color:#1b1f24}@media(prefers-color-scheme:dark){:root{color:#e6e8eb}}"
    return svg[svg.index("<svg") :].replace("</style>", f"{scheme}</style>", 1).replace(INK, "currentColor")
