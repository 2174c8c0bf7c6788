"""EvaluationResult: what an evaluation has found, written to a run's private/evaluation.json and read from there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from dpsad.evaluation.choices import STANDARD_NAME


@dataclass(frozen=True, kw_only=True)
class DownstreamResult:
    """What one classifier, or an ensemble of its kind, trained on synthetic images, says about them.

    Attributes:
        accuracy: on all real test images, in [0, 1].
        per_class_accuracy: on the real test images of each class; None where the test set has none.
        calibration_error: expected difference of confidence and accuracy on the real test images, over 15 equal bins
            of confidence (Guo et al. 2017, equation 3).
        member_accuracies: `accuracy` of each member alone.
        synthetic_accuracy: on the held-out synthetic images, at the chosen epoch; the mean over members.
        epoch: the chosen epoch of the first member, counted from 1.
        seconds: wall time of training and testing.
    """

    accuracy: float
    per_class_accuracy: tuple[float | None, ...]
    calibration_error: float
    member_accuracies: tuple[float, ...]
    synthetic_accuracy: float
    epoch: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """What is said of one set of images.

    Attributes:
        num_images: images that the classifiers trained on, held-out ones included.
        classifiers: by kind.
        frechet: distance to the real training images.
        num_frechet_images: images that this distance and `metrics` were estimated from.
        metrics: "classifier_score" and its "_deviation" over parts; where asked for, "kernel_distance" and its
            "_deviation" over subsets, "precision", "recall", "density", "coverage".
    """

    num_images: int
    classifiers: Mapping[str, DownstreamResult]
    frechet: float
    num_frechet_images: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FeatureSpaceFacts:
    """The space that distances are in. Only where its name is "inception-v3-fid" are frechet, kernel_distance and
    classifier_score what is called FID, KID and inception score.

    Attributes:
        num_train_images: on the real side of the distances.
    """

    name: str
    fingerprint: str
    source: str = ""
    num_features: int = 0
    num_train_images: int = 0


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where an evaluation ran, and how long."""

    device: str
    cores: int | None
    threads: int
    torch: str
    seed: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """All of an evaluation. It was measured on records: private, and covered by no guarantee.

    Attributes:
        student, real, sketch: the student's samples, real images (their distance is the floor that a perfect generator
            would reach), and released prototypes alone; None where not asked for.
        protocol: how classifiers were trained, a key of `PROTOCOLS` and what was done otherwise; "" where nobody noted.
        no_classifiers: why none was trained, if so.
        num_test_images: real ones that accuracies were measured on; 0 where nobody noted.
        memorisation: what may be told of it, where asked for.
        sampling_images_per_second: of the student, on `hardware`.
        privacy: the student's privacy statement.
    """

    student: SetResult
    real: SetResult | None
    sketch: SetResult | None
    features: FeatureSpaceFacts
    environment: Environment | None = None
    protocol: str = ""
    no_classifiers: str | None = None
    num_test_images: int = 0
    memorisation: Mapping[str, Any] | None = None
    sampling_images_per_second: float | None = None
    hardware: str = ""
    privacy: Mapping[str, Any] | None = None

    @property
    def sets(self) -> dict[str, SetResult]:
        """What was measured, by name, the real first."""
        named = {"real": self.real, "sketch": self.sketch, "student": self.student}
        return {name: found for name, found in named.items() if found is not None}

    def __str__(self) -> str:
        """A table: accuracy by classifier, the worst class, distances, epsilon."""
        return _table(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "EvaluationResult":
        """Takes up what `to_dict` gave, or what versions before 0.2 wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is something else.
        """
        known = {part.name for part in fields(EvaluationResult)}
        environment = values.get("environment")
        parts = {
            "student": _set_of(values["student"]),
            "real": _set_of(values["real"]) if values.get("real") else None,
            "sketch": _set_of(values["sketch"]) if values.get("sketch") else None,
            "features": FeatureSpaceFacts(**values["features"]),
            "environment": Environment(**environment) if environment else None,
            "num_test_images": int(values.get("num_test_images") or 0),
        }
        return EvaluationResult(**{**{key: value for key, value in values.items() if key in known}, **parts})


def _set_of(values: Mapping[str, Any]) -> SetResult:
    classifiers = {str(kind): _downstream_of(outcome) for kind, outcome in values["classifiers"].items()}
    return SetResult(
        num_images=int(values["num_images"]),
        classifiers=classifiers,
        frechet=float(values["frechet"]),
        num_frechet_images=int(values["num_frechet_images"]),
        metrics={str(name): float(value) for name, value in (values.get("metrics") or {}).items()},
    )


def _downstream_of(values: Mapping[str, Any]) -> DownstreamResult:
    return DownstreamResult(
        accuracy=float(values["accuracy"]),
        per_class_accuracy=tuple(
            None if value is None else float(value) for value in values.get("per_class_accuracy") or ()
        ),
        calibration_error=float(values.get("calibration_error", 0.0)),
        member_accuracies=tuple(values.get("member_accuracies") or ()),
        synthetic_accuracy=float(values.get("synthetic_accuracy", 0.0)),
        epoch=int(values.get("epoch", 0)),
        seconds=float(values.get("seconds", 0.0)),
    )


def _table(result: EvaluationResult) -> str:
    sets, kinds = result.sets, list(result.student.classifiers)
    distance = "FID" if result.features.name == STANDARD_NAME else "Frechet"
    lines = [f"protocol {result.protocol}, {result.student.num_images:,} samples"] if result.protocol and kinds else []
    lines += ["trained on   " + "".join(f"{kind:>12}" for kind in kinds) + f"{distance:>12}"]
    for name, found in sets.items():
        figures = "".join(f"{found.classifiers[kind].accuracy:12.4f}" for kind in kinds)
        lines.append(f"{name:13}{figures}{found.frechet:12.1f}")
    for name, found in sets.items() if kinds else ():
        outcome = found.classifiers[kinds[-1]]
        lines.append(f"{name:13}{kinds[-1]}: {_worst_class(outcome)}, calibration {outcome.calibration_error:.3f}")
    lines += [f"{name:13}{_metrics_line(found.metrics)}" for name, found in sets.items()]
    if result.memorisation is not None:
        lines.append(memorisation_line(result.memorisation))
    if result.no_classifiers:
        lines.append(f"no classifier was trained: {result.no_classifiers}")
    if result.privacy is not None:
        lines.append(_privacy_line(result.privacy))
    return "\n".join(lines)


def _privacy_line(privacy: Mapping[str, Any]) -> str:
    if privacy["formal"]:
        return f"epsilon {privacy['epsilon']:.3f} at delta {privacy['delta']:g}, formal: {privacy['adjacency']}"
    if "nominal_epsilon" in privacy:
        return f"NOT a formal guarantee: nominal epsilon {privacy['nominal_epsilon']:.3f}"
    return f"NOT a formal guarantee: {'; '.join(privacy['reasons'])}"


def _worst_class(outcome: DownstreamResult) -> str:
    by_class = {label: value for label, value in enumerate(outcome.per_class_accuracy) if value is not None}
    worst = min(by_class, key=by_class.__getitem__)
    return f"worst class {worst} at {by_class[worst]:.4f}"


def _metrics_line(metrics: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items() if not name.endswith("_deviation")
    )


def memorisation_line(memorisation: Mapping[str, Any]) -> str:
    """What `memorisation` says, in a sentence."""
    answer = "closer" if memorisation["closer_to_training"] else "no closer"
    return f"{answer} to training than to held-out images (false alarms {memorisation['false_alarm_rate']:g})"
