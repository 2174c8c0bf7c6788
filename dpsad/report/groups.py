"""Groups of runs that compare: one for each data set, and what differs within it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpsad.evaluation.result import EvaluationResult
from dpsad.report.reading import Result
from dpsad.report.settings import Setting, settings_of


@dataclass(frozen=True)
class Group:
    """Runs of one data set, formal ones first, then by method and epsilon.

    differences: sentences on what keeps these runs from being compared as they stand.
    """

    data: str
    results: tuple[Result, ...]
    differences: tuple[str, ...]

    @property
    def formal(self) -> list[Result]:
        return [result for result in self.results if result.formal]

    @property
    def not_formal(self) -> list[Result]:
        return [result for result in self.results if not result.formal]

    @property
    def kinds(self) -> list[str]:
        """Classifiers that any of the runs was measured with, in the order in which they come up."""
        return list(dict.fromkeys(kind for evaluation in self.evaluations for kind in evaluation.student.classifiers))

    @property
    def metrics(self) -> list[str]:
        """What any of the runs was measured with beyond accuracy and Frechet distance."""
        names = dict.fromkeys(name for evaluation in self.evaluations for name in evaluation.student.metrics)
        return [name for name in names if not name.endswith("_deviation")]

    @property
    def evaluations(self) -> list[EvaluationResult]:
        return [result.evaluation for result in self.results if result.evaluation]

    @property
    def settings(self) -> list[Setting]:
        """Runs that differ in their seed alone, taken together."""
        return settings_of(self.results)


def epsilon_of(result: Result) -> float | None:
    """The epsilon that a run has, be it formal or nominal."""
    return result.epsilon if result.formal else result.nominal_epsilon


def epsilon_text(result: Result) -> str:
    """Such as "9.994", or "nominal 9.998" where it is no guarantee."""
    epsilon = epsilon_of(result)
    number = "missing" if epsilon is None else f"{epsilon:.3f}"
    return number if result.formal else f"nominal {number}"


def group_by_data(results: Sequence[Result]) -> list[Group]:
    """Groups runs that learned from the same images and are tested on the same images."""

    def place(result: Result) -> tuple[bool, str, float]:
        return (not result.formal, result.title, epsilon_of(result) or 0.0)

    groups = []
    for data in dict.fromkeys(result.data for result in results):
        members = tuple(sorted((result for result in results if result.data == data), key=place))
        groups.append(Group(data, members, tuple(differences(members))))
    return groups


def differences(results: Sequence[Result]) -> list[str]:
    """One sentence for each thing that must be equal for runs to compare, and is not."""

    def of_evaluation(get: Callable[[EvaluationResult], object]) -> Callable[[Result], object]:
        return lambda result: get(result.evaluation) if result.evaluation else None

    checks: list[tuple[str, Callable[[Result], object], str]] = [
        ("delta", lambda result: f"{result.delta:g}", "epsilons at different delta do not compare"),
        ("adjacency", lambda result: result.adjacency, "epsilons of different relations do not compare"),
        (
            "unit of privacy",
            lambda result: ", ".join(result.unit) or None,
            "epsilons of different units do not compare",
        ),
        ("image shape", lambda result: "x".join(map(str, result.image_shape)), "these are not the same images"),
        ("classes", lambda result: ", ".join(result.class_names), "these are not the same labels"),
        (
            "number of synthetic images that classifiers trained on",
            of_evaluation(lambda evaluation: evaluation.student.num_images),
            "more of them make accuracy higher",
        ),
        (
            "number of images that Frechet distances come from",
            of_evaluation(lambda evaluation: evaluation.student.num_frechet_images),
            "fewer make the distance larger",
        ),
        (
            "feature space",
            of_evaluation(lambda evaluation: f"{evaluation.features.name} {evaluation.features.fingerprint[:8]}"),
            "distances in different spaces do not compare",
        ),
        ("hardware", lambda result: result.hardware or None, "minutes and images per second do not compare"),
    ]
    sentences = []
    for what, get, consequence in checks:
        names: dict[object, list[str]] = {}
        for result in results:
            if get(result) is not None:
                names.setdefault(get(result), []).append(result.name)
        if len(names) > 1:
            sentences.append(f"{what} differs: {_by_value(names)}. So {consequence}.")
    return sentences


def _by_value(names: dict[object, list[str]]) -> str:
    """Such as "1e-06 (a); 1e-05 (the other 9)"."""
    *fewer, (common, most) = sorted(names.items(), key=lambda item: len(item[1]))
    said = [f"{value} ({', '.join(holders)})" for value, holders in fewer]
    return "; ".join([*said, f"{common} ({', '.join(most) if len(most) < 4 else f'the other {len(most)}'})"])
