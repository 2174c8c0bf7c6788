"""EvaluationResult: what an evaluation has found, written to a run's private/evaluation.json and read from there."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


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
        no_classifiers: why none was trained, if so.
        memorisation: what may be told of it, where asked for.
        sampling_images_per_second: of the student, on `hardware`.
        privacy: the student's privacy statement.
    """

    student: SetResult
    real: SetResult | None
    sketch: SetResult | None
    features: FeatureSpaceFacts
    environment: Environment | None = None
    no_classifiers: str | None = None
    memorisation: Mapping[str, Any] | None = None
    sampling_images_per_second: float | None = None
    hardware: str = ""
    privacy: Mapping[str, Any] | None = None

    @property
    def sets(self) -> dict[str, SetResult]:
        """What was measured, by name, the real first."""
        named = {"real": self.real, "sketch": self.sketch, "student": self.student}
        return {name: found for name, found in named.items() if found is not None}

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
        per_class_accuracy=tuple(values.get("per_class_accuracy") or ()),
        calibration_error=float(values.get("calibration_error", 0.0)),
        member_accuracies=tuple(values.get("member_accuracies") or ()),
        synthetic_accuracy=float(values.get("synthetic_accuracy", 0.0)),
        epoch=int(values.get("epoch", 0)),
        seconds=float(values.get("seconds", 0.0)),
    )
