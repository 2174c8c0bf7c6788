"""Measures a run's samples against real images; the result is private."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dpsad.api.config import Config
from dpsad.api.judging import noted, timed_samples, why_no_classifiers
from dpsad.data.clusters import Clusters, majority_classes
from dpsad.data.records import ImageSet
from dpsad.data.sources import load_images
from dpsad.errors import reading, require_file
from dpsad.evaluation.choices import DEFAULT_KINDS, METRICS, Judgement, Kind
from dpsad.evaluation.downstream import build_classifier, epochs_of
from dpsad.evaluation.evaluate import MAX_FRECHET_IMAGES, LabelledImages, evaluate_samples
from dpsad.evaluation.feature_space import FeatureSpace, embed
from dpsad.evaluation.features import ReferenceFeatures, load_reference, train_reference
from dpsad.evaluation.inception import FILE_NAMES, InceptionFeatures, cached_weights
from dpsad.evaluation.memorisation import Closeness, closeness, details, verdict
from dpsad.evaluation.result import EvaluationResult, memorisation_line
from dpsad.release.export import load_student, read_release
from dpsad.runtime.checkpoint import load
from dpsad.runtime.device import device_named, hardware_of
from dpsad.runtime.json_files import read_json
from dpsad.runtime.log import Say
from dpsad.runtime.run_folder import STATEMENT, Run
from dpsad.runtime.whole_files import PRIVATE, temporary_of, write_whole
from students.prototypes import Prototypes

REFERENCE_BATCHES = 1000  # a classifier for features takes so many, and at least three epochs


def evaluate_run(
    config: Config,
    *,
    seed: int,
    say: Say,
    protocol: str = "quick",
    num: int | None = None,
    classifiers: Sequence[Kind] = DEFAULT_KINDS,
    compare: bool = True,
    members: int = 1,
    metrics: Sequence[Judgement] = (),
    inception: str | None = None,
) -> EvaluationResult:
    """Samples the released student, measures, and writes private/evaluation.json (and private/memorisation.json).

    Args:
        config: of a run that has been distilled.
        seed: of samples, classifiers and draws.
        say: receives a line after each measurement.
        protocol: a key of `PROTOCOLS`: how classifiers are trained.
        num: synthetic images to train them on; None takes as many as the protocol says, fewer beside few records.
        classifiers: kinds to train.
        compare: whether to measure real images and the sketch by the same rule, which takes three times as long.
        members: classifiers of each kind, which answer together.
        metrics: what to measure beyond the cheap; see `evaluate_samples` and `closeness`.
        inception: file of Inception's weights, to measure distances in its space; "cache" for torch's own cache, or
            the reference classifier's space where there are none. None takes the latter.

    Returns:
        What was found.

    Raises:
        ValueError: there is no release, no such data, or no such weights.
    """
    run, device = Run(Path(config.run)), device_named(config.device)
    student, privacy = read_release(
        run.path, lambda release: (load_student(release, device=device), read_json(release / STATEMENT))
    )
    train, test = load_images(config.data, "train"), load_images(config.data, "test")
    if run.begun_with not in ("", train.fingerprint()):
        say(
            "warning: the training records are not those that the run was begun with, so what is held out now may have "
            "been trained on"
        )
    no_classifiers = why_no_classifiers(student, train)
    space: FeatureSpace | None = _inception_space(inception, device, say)
    (samples, labels), images_per_second = timed_samples(student, num, seed, protocol, len(train))
    sketch = _sketch_images(config, labels, seed) if compare else None
    if config.data.pseudo_labels:
        train, labels = _clusters_as_classes(run, train, labels)
    num_classes = train.num_classes
    space = space or _reference_space(run, train, device)
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
        protocol=protocol,
        members=members,
        metrics=[name for name in METRICS if name in metrics],
        space=space,
        log=say,
    )
    memorisation = None
    if "memorisation" in metrics:
        memorisation = _memorisation(run, (samples, labels), train, test, space, seed, device)
        say(f"student: {memorisation_line(memorisation)}")
    result = replace(
        result,
        memorisation=memorisation,
        no_classifiers=no_classifiers,
        sampling_images_per_second=images_per_second,
        hardware=hardware_of(device),
        privacy=privacy,
    )
    return noted(result, run)


def require_measurable(config: Config, classifiers: Sequence[Kind] = DEFAULT_KINDS) -> None:
    """Refuses a run that could be trained and released, and then not be evaluated.

    Raises:
        ValueError: there are no records to test on, or images are too small for a classifier.
    """
    test = load_images(config.data, "test")
    try:
        for kind in ("cnn", *classifiers):  # the first has the features of distances
            build_classifier(kind, test.image_shape, test.num_classes)
    except ValueError as error:
        raise ValueError(f"{error}; pass data.image_size=... to enlarge them") from None


def _inception_space(inception: str | None, device: torch.device, say: Say) -> InceptionFeatures | None:
    """Inception's, where it is asked for and at hand."""
    if inception is None:
        return None
    weights = cached_weights() if inception == "cache" else Path(os.path.expanduser(inception))
    if weights is None:
        say(
            f"no Inception weights ({' or '.join(FILE_NAMES)}) in torch's cache; pass --inception PATH. Distances are "
            f"in the space of {ReferenceFeatures.name} instead, and are not FID"
        )
        return None
    if weights.exists():
        require_file(weights)
    return InceptionFeatures(weights).to(device)


def _reference_space(run: Run, train: ImageSet, device: torch.device) -> ReferenceFeatures:
    """The run's reference classifier, trained where it lacks."""
    path = run.reference_classifier
    if not path.exists():
        _trained_features((train.images, train.labels), train.num_classes, 0, device).save(temporary_of(path))
        os.replace(temporary_of(path), path)
    require_file(path)
    with reading(path):
        return load_reference(path, device=device)


def _trained_features(images: LabelledImages, num_classes: int, seed: int, device: torch.device) -> ReferenceFeatures:
    epochs = epochs_of(len(images[0]), least=3, batches=REFERENCE_BATCHES)
    return train_reference(*images, num_classes=num_classes, seed=seed, epochs=epochs, device=device)


def _memorisation(
    run: Run,
    samples: LabelledImages,
    train: ImageSet,
    test: ImageSet,
    space: FeatureSpace,
    seed: int,
    device: torch.device,
) -> dict:
    """Writes private/memorisation.json and returns its verdict."""
    images = samples[0][:MAX_FRECHET_IMAGES]
    name = space.name
    if isinstance(space, ReferenceFeatures):
        # The reference classifier knows its training images from others. One that saw samples alone cannot.
        space, name = _trained_features(samples, train.num_classes, seed, device), "cnn trained on the samples"

    def measure(vectors: Callable[[Tensor], Tensor]) -> Closeness:
        return closeness(vectors(images), vectors(train.images), vectors(test.images), seed=seed, device=device)

    measured = {
        "pixels": measure(lambda pixels: pixels.flatten(1)),
        name: measure(lambda pixels: embed(space, pixels, device=device)),
    }
    write_whole(run.memorisation, json.dumps(details(measured)) + "\n", PRIVATE)
    return verdict(measured)


def _clusters_as_classes(run: Run, train: ImageSet, labels: Tensor) -> tuple[ImageSet, Tensor]:
    """Records and labels of samples to measure by, where the student was taught by clusters.

    A sample counts as what most training records of its cluster are. Where records have no labels, clusters stand in.

    Args:
        labels: [num] clusters of the samples.

    Returns:
        The training records, and [num] labels of the samples, both in the same classes.
    """
    with reading(run.clusters):
        clustered = Clusters(**load(run.clusters)).label(train)
    if train.num_classes == 1:
        return clustered, labels
    majority = majority_classes(clustered.labels, train.labels, clustered.num_classes, train.num_classes)
    return train, majority[labels]


def _sketch_images(config: Config, labels: Tensor, seed: int) -> Tensor | None:
    """As many varied prototypes as there are samples, where the run has a sketch."""
    path = Run(Path(config.run)).prototypes
    if not path.exists():
        return None
    with reading(path):
        prototypes = Prototypes.from_dict(load(path)["prototypes"])
    generator = torch.Generator().manual_seed(seed)
    drawn = [prototypes.draw(part, config.augmentation, generator) for part in labels.split(1000)]
    return torch.cat(drawn)
