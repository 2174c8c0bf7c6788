"""Measures a run's samples against real images; the result is private."""

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from dpsad import build
from dpsad.checkpoint import load
from dpsad.config import Config
from dpsad.data.sources import load_images
from dpsad.evaluation.classifiers import KINDS, Kind
from dpsad.evaluation.downstream import BATCH_SIZE
from dpsad.evaluation.evaluate import evaluate_samples
from dpsad.evaluation.features import load_reference, train_reference
from dpsad.release import load_student
from dpsad.stages.generate import even_labels, generate
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
        What `evaluate_samples` returns, the student's speed under "sampling_images_per_second" and "hardware", and the
        privacy statement under "privacy".
    """
    run, device = Path(config.run), build.device_of(config)
    student = load_student(run, device=device)
    num_classes = len(student.class_names)
    train, test = load_images(config.data, "train"), load_images(config.data, "test")
    labels = even_labels(num, num_classes)
    start = time.perf_counter()
    samples = generate(student, labels, seed=seed)
    images_per_second = num / (time.perf_counter() - start)
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
        sketch=_sketch_images(config, labels, seed) if compare else None,
        real=compare,
        classifiers=classifiers,
        num_classes=num_classes,
        seed=seed,
        device=device,
        reference=load_reference(reference_path, device=device),
        log=say,
    )
    result["sampling_images_per_second"] = images_per_second
    result["hardware"] = build.hardware_of(device)
    result["privacy"] = json.loads((run / "release" / "privacy.json").read_text(encoding="utf-8"))
    (run / "private" / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def _sketch_images(config: Config, labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """As many varied prototypes as there are samples, where the run has a sketch."""
    path = Path(config.run) / "private" / "sketch.pt"
    if not path.exists():
        return None
    prototypes = Prototypes(**load(path)["prototypes"])
    generator = torch.Generator().manual_seed(seed)
    drawn = [prototypes.draw(part, config.augmentation, generator) for part in labels.split(1000)]
    return torch.cat(drawn), labels


def summary(result: dict) -> str:
    """The closing lines of an evaluation: accuracy by classifier, Frechet distance, epsilon."""
    names = [name for name in ("real", "sketch", "student") if result[name] is not None]
    kinds = list(result["student"]["classifiers"])
    lines = ["trained on   " + "".join(f"{kind:>10}" for kind in kinds) + f"{'Frechet':>10}"]
    for name in names:
        accuracies = [result[name]["classifiers"][kind]["accuracy"] for kind in kinds]
        figures = "".join(f"{accuracy:10.4f}" for accuracy in accuracies)
        lines.append(f"{name:13}{figures}{result[name]['frechet']:10.1f}")
    privacy = result["privacy"]
    if privacy["formal"]:
        lines.append(f"epsilon {privacy['epsilon']:.3f} at delta {privacy['delta']:g}, formal: {privacy['adjacency']}")
    elif privacy["guarantee"] == "published":
        lines.append(f"NOT a formal guarantee: nominal epsilon {privacy['nominal_epsilon']:.3f}")
    else:
        lines.append(f"NOT a formal guarantee: {'; '.join(privacy['reasons'])}")
    return "\n".join(lines)
