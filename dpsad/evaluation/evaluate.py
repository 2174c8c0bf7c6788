"""Evaluation of samples: downstream accuracy and distances, beside the same for real images."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor
from tqdm import tqdm

from dpsad.evaluation.choices import DEFAULT_KINDS, PROTOCOLS, Kind, Metric
from dpsad.evaluation.downstream import downstream_accuracy
from dpsad.evaluation.feature_space import FeatureSpace, embed
from dpsad.evaluation.features import train_reference
from dpsad.evaluation.fidelity import classifier_score, frechet_distance, kernel_distance
from dpsad.evaluation.result import DownstreamResult, Environment, EvaluationResult, FeatureSpaceFacts, SetResult
from dpsad.evaluation.support import support_overlap

LabelledImages = tuple[Tensor, Tensor]
MAX_FRECHET_IMAGES = 10_000


def evaluate_samples(
    samples: LabelledImages,
    *,
    train: LabelledImages,
    test: LabelledImages,
    sketch: LabelledImages | None = None,
    real: bool = True,
    num_classes: int,
    seed: int,
    device: torch.device | str = "cpu",
    classifiers: Sequence[Kind] = DEFAULT_KINDS,
    protocol: str = "quick",
    epochs: int | None = None,
    members: int = 1,
    metrics: Sequence[Metric] = (),
    space: FeatureSpace | None = None,
    log: Callable[[str], object] | None = None,
) -> EvaluationResult:
    """Measures a student's samples, and by the same rule real images and, where given, the sketch's.

    Everything here but the samples reads private records: the result is a private diagnostic.

    Each set trains every classifier and is tested on `test`. Real training images are drawn without replacement, as
    many as there are samples (all of them where there are fewer), so that the comparison is of equal numbers.
    Distances are to the real training images, at most 10,000 drawn at random ("neighbours" takes as many of them as a
    set brings, because it compares equal numbers). All sets bring the same number of images
    to it, the least of 10,000, the samples and the test images (a smaller sketch brings what it has), because the bias
    of the estimate depends on that number. What "real" brings are test images: its distance is the floor that a
    perfect generator would reach.

    Args:
        samples: the student's images [num, chan, height, width] in [-1, 1] and labels [num] in [0, num_classes).
        train: the real training set, likewise.
        test: the real test set, likewise; it is never chosen on.
        sketch: images made from the sketch alone, likewise.
        real: whether real images are measured too.
        num_classes: number of classes.
        seed: fixes the draws and the training of classifiers and reference.
        device: where to train and measure.
        classifiers: any of `KINDS`.
        protocol: a key of `PROTOCOLS`: how classifiers are trained, but for the number of samples.
        epochs: for trying out, instead of the protocol's; of the reference classifier, too.
        members: classifiers of each kind, which answer together.
        metrics: what else to measure, a few seconds each: "kernel" distance, and "neighbours" for precision, recall,
            density and coverage.
        space: feature space of all distances, on `device`; None trains the reference classifier on `train`.
        log: called with a line of text after each measurement.

    Returns:
        What was found, but for what only a run knows.

    Raises:
        ValueError: as for `train_classifier`, `frechet_distance` and `support_overlap`.
    """
    start = time.perf_counter()
    log = log or (lambda line: None)
    trained = PROTOCOLS[protocol] if epochs is None else replace(PROTOCOLS[protocol], epochs=epochs)
    rng = torch.Generator().manual_seed(seed)
    if space is None:
        space = train_reference(*train, num_classes=num_classes, seed=seed, epochs=epochs, device=device)
        log(f"trained {space.name} on {len(train[0])} real images")

    num_frechet = min(MAX_FRECHET_IMAGES, len(samples[0]), len(test[0]))
    anchors = embed(space, _draw(train, MAX_FRECHET_IMAGES, rng)[0], device=device)
    own = _draw(train, len(samples[0]), rng) if real else None

    def measured(name: str, judged: LabelledImages | None, compared: LabelledImages | None) -> SetResult | None:
        if judged is None or compared is None:
            return None
        by_kind: dict[str, DownstreamResult] = {}
        for kind in tqdm(classifiers, desc=f"evaluate, {name}", unit="classifier"):
            by_kind[kind] = downstream_accuracy(
                kind,
                *judged,
                *test,
                num_classes=num_classes,
                seed=seed,
                epochs=trained.epochs,
                learning_rate=trained.learning_rate,
                members=members,
                device=device,
            )
            log(f"{name}: {kind} accuracy {by_kind[kind].accuracy:.4f} in {by_kind[kind].seconds:.1f} s")
        fakes = embed(space, _draw(compared, num_frechet, rng)[0], device=device)
        distance = frechet_distance(anchors, fakes)
        log(f"{name}: Frechet distance {distance:.4g} ({space.name})")
        return SetResult(
            num_images=len(judged[0]),
            classifiers=by_kind,
            frechet=distance,
            num_frechet_images=len(fakes),
            metrics=_measure(metrics, space, anchors, fakes, seed, device),
        )

    student = measured("student", samples, samples)
    assert student is not None
    return EvaluationResult(
        student=student,
        protocol=protocol if epochs is None else f"{protocol}, but {epochs} epochs",
        num_test_images=len(test[0]),
        real=measured("real", own, test),
        sketch=measured("sketch", sketch, sketch),
        features=FeatureSpaceFacts(
            name=space.name,
            source=space.source,
            fingerprint=space.fingerprint(),
            num_features=space.num_features,
            num_train_images=len(anchors),
        ),
        environment=Environment(
            device=str(device),
            cores=os.cpu_count(),
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
            seed=seed,
            seconds=time.perf_counter() - start,
        ),
    )


def _measure(
    metrics: Sequence[Metric],
    space: FeatureSpace,
    anchors: Tensor,
    fakes: Tensor,
    seed: int,
    device: torch.device | str,
) -> dict[str, float]:
    logits = space.classify(fakes.to(device)).cpu()
    measured = _with_deviation("classifier_score", classifier_score(logits, seed=seed))
    if "kernel" in metrics:
        measured |= _with_deviation("kernel_distance", kernel_distance(anchors, fakes, seed=seed))
    if "neighbours" in metrics:
        num = min(len(anchors), len(fakes))
        measured |= asdict(support_overlap(anchors[:num], fakes[:num], device=device))
    return measured


def _with_deviation(name: str, figures: tuple[float, float]) -> dict[str, float]:
    return {name: figures[0], f"{name}_deviation": figures[1]}


def _draw(images_and_labels: LabelledImages, num: int, rng: torch.Generator) -> LabelledImages:
    images, labels = images_and_labels
    drawn = torch.randperm(len(images), generator=rng)[:num]
    return images[drawn], labels[drawn]
