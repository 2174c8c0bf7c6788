"""Measures a run's samples against real images; the result is private."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from dpsad import build
from dpsad.checkpoint import load
from dpsad.config import Config
from dpsad.data.clusters import Clusters, majority_classes
from dpsad.data.records import ImageSet
from dpsad.data.sources import load_images
from dpsad.evaluation.classifiers import KINDS, Kind
from dpsad.evaluation.downstream import BATCH_SIZE
from dpsad.evaluation.evaluate import evaluate_samples
from dpsad.evaluation.features import load_reference, train_reference
from dpsad.release import load_student
from dpsad.stages.generate import even_labels, generate
from students.few_step import FewStepStudent
from students.prototypes import Prototypes

REFERENCE_BATCHES = 1000  # the reference classifier takes at least this many, and three epochs


def evaluate_run(
    config: Config,
    *,
    num: int,
    seed: int,
    say: Callable[[str], None],
    classifiers: Sequence[Kind] = KINDS,
    compare: bool = True,
) -> dict:
    """Samples the released student, measures, and writes private/evaluation.json.

    Args:
        config: of a run that has been distilled.
        num: synthetic images to train classifiers on.
        seed: of samples, classifiers and draws.
        say: receives a line after each measurement.
        classifiers: kinds to train.
        compare: whether to measure real images and the sketch by the same rule, which takes three times as long.

    Returns:
        What `evaluate_samples` returns, the privacy statement under "privacy", and under "no_classifiers" why none was
        trained, or None.
    """
    run, device = Path(config.run), build.device_of(config)
    student = load_student(run, device=device)
    train, test = load_images(config.data, "train"), load_images(config.data, "test")
    no_classifiers = why_no_classifiers(student, train)
    labels = even_labels(num, len(student.class_names))
    samples = generate(student, labels, seed=seed)
    sketch = _sketch_images(config, labels, seed) if compare else None
    if config.data.pseudo_labels:
        train, labels = _clusters_as_classes(run, train, labels)
    num_classes = train.num_classes
    reference_path = run / "private" / "reference.safetensors"
    if not reference_path.exists():
        epochs = max(3, math.ceil(REFERENCE_BATCHES * BATCH_SIZE / len(train)))
        train_reference(train.images, train.labels, num_classes=num_classes, seed=0, epochs=epochs, device=device).save(
            reference_path
        )
    result = evaluate_samples(
        (samples, labels),
        train=(train.images, train.labels),
        test=(test.images, test.labels),
        sketch=None if sketch is None else (sketch, labels),
        real=compare,
        classifiers=() if no_classifiers else classifiers,
        num_classes=num_classes,
        seed=seed,
        device=device,
        reference=load_reference(reference_path, device=device),
        log=say,
    )
    result["no_classifiers"] = no_classifiers
    result["privacy"] = json.loads((run / "release" / "privacy.json").read_text(encoding="utf-8"))
    (run / "private" / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def why_no_classifiers(student: FewStepStudent, train: ImageSet) -> str | None:
    """Why no classifier can learn from the student's samples, or be tested; None where it can."""
    if not student.use_labels:
        return "the student was trained without labels (student.use_labels=false), so its samples have none"
    if train.num_classes == 1:
        return "the records have no labels of their own, or one class alone"
    return None


def _clusters_as_classes(run: Path, train: ImageSet, labels: torch.Tensor) -> tuple[ImageSet, torch.Tensor]:
    """Records and labels of samples to measure by, where the student was taught by clusters.

    A sample counts as what most training records of its cluster are. Where records have no labels, clusters stand in.

    Args:
        labels: [num] clusters of the samples.

    Returns:
        The training records, and [num] labels of the samples, both in the same classes.
    """
    clustered = Clusters(**load(run / "private" / "clusters.pt")).label(train)
    if train.num_classes == 1:
        return clustered, labels
    majority = majority_classes(clustered.labels, train.labels, clustered.num_classes, train.num_classes)
    return train, majority[labels]


def _sketch_images(config: Config, labels: torch.Tensor, seed: int) -> torch.Tensor | None:
    """As many varied prototypes as there are samples, where the run has a sketch."""
    path = Path(config.run) / "private" / "sketch.pt"
    if not path.exists():
        return None
    prototypes = Prototypes(**load(path)["prototypes"])
    generator = torch.Generator().manual_seed(seed)
    drawn = [prototypes.draw(part, config.augmentation, generator) for part in labels.split(1000)]
    return torch.cat(drawn)


def summary(result: dict) -> str:
    """The closing lines of an evaluation: accuracy by classifier, Frechet distance, epsilon."""
    names = [name for name in ("real", "sketch", "student") if result[name] is not None]
    kinds = list(result["student"]["classifiers"])
    lines = ["trained on   " + "".join(f"{kind:>10}" for kind in kinds) + f"{'Frechet':>10}"]
    for name in names:
        accuracies = [result[name]["classifiers"][kind]["accuracy"] for kind in kinds]
        figures = "".join(f"{accuracy:10.4f}" for accuracy in accuracies)
        lines.append(f"{name:13}{figures}{result[name]['frechet']:10.1f}")
    if result["no_classifiers"]:
        lines.append(f"no classifier was trained: {result['no_classifiers']}")
    privacy = result["privacy"]
    if privacy["formal"]:
        lines.append(f"epsilon {privacy['epsilon']:.3f} at delta {privacy['delta']:g}, formal: {privacy['adjacency']}")
    elif privacy["guarantee"] == "published":
        lines.append(f"NOT a formal guarantee: nominal epsilon {privacy['nominal_epsilon']:.3f}")
    else:
        lines.append(f"NOT a formal guarantee: {'; '.join(privacy['reasons'])}")
    return "\n".join(lines)
