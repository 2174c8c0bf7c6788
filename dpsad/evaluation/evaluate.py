"""One table of how good samples are: downstream accuracy and Frechet distance, beside the same for real images."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import Tensor

from dpsad.evaluation.classifiers import KINDS, Kind
from dpsad.evaluation.downstream import downstream_accuracy
from dpsad.evaluation.features import ReferenceFeatures, train_reference
from dpsad.evaluation.frechet import frechet_distance

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
    classifiers: Sequence[Kind] = KINDS,
    epochs: int | None = None,
    reference: ReferenceFeatures | None = None,
    log: Callable[[str], None] | None = None,
) -> dict:
    """Measures a student's samples, and by the same rule real images and, where given, the sketch's.

    Everything here but the samples reads private records: the result is a private diagnostic.

    Each set trains every classifier and is tested on `test`. Real training images are drawn without replacement, as
    many as there are samples (all of them where there are fewer), so that the comparison is of equal numbers.
    Distances are to the real training images, at most 10,000 drawn at random. All sets bring the same number of images
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
        classifiers: any of "logistic", "mlp" and "cnn".
        epochs: as for `train_classifier`.
        reference: feature space of the Frechet distance; None trains one on `train`.
        log: called with a line of text after each measurement.

    Returns:
        JSON-serialisable dict:
        "student", "real", "sketch" (None where not asked for), each
            "num_images": images that the classifiers trained on, held-out ones included;
            "classifiers": kind -> the fields of `DownstreamResult`;
            "frechet": distance to the real training images;
            "num_frechet_images": images that this distance was estimated from.
        "features": "name", "fingerprint", "num_features", "num_train_images" (real side of the distances).
        "environment": "device", "cores", "threads", "torch", "seed", "seconds".

    Raises:
        ValueError: as for `train_classifier` and `frechet_distance`.
    """
    start = time.perf_counter()
    log = log or (lambda line: None)
    generator = torch.Generator().manual_seed(seed)
    if reference is None:
        reference = train_reference(*train, num_classes=num_classes, seed=seed, epochs=epochs, device=device)
        log(f"trained {reference.name} on {len(train[0])} real images")

    num_frechet = min(MAX_FRECHET_IMAGES, len(samples[0]), len(test[0]))
    anchor, _ = _draw(train, MAX_FRECHET_IMAGES, generator)
    own = _draw(train, len(samples[0]), generator) if real else None

    result: dict = {}
    for name, judged, compared in (("student", samples, samples), ("real", own, test), ("sketch", sketch, sketch)):
        if judged is None or compared is None:
            result[name] = None
            continue
        by_kind = {}
        for kind in classifiers:
            outcome = downstream_accuracy(
                kind, *judged, *test, num_classes=num_classes, seed=seed, epochs=epochs, device=device
            )
            by_kind[kind] = asdict(outcome) | {"per_class_accuracy": list(outcome.per_class_accuracy)}
            log(f"{name}: {kind} accuracy {outcome.accuracy:.4f} in {outcome.seconds:.1f} s")
        fakes, _ = _draw(compared, num_frechet, generator)
        distance = frechet_distance(anchor, fakes, reference, device=device)
        log(f"{name}: Frechet distance {distance:.4g} ({reference.name})")
        result[name] = {
            "num_images": len(judged[0]),
            "classifiers": by_kind,
            "frechet": distance,
            "num_frechet_images": len(fakes),
        }

    result["features"] = {
        "name": reference.name,
        "fingerprint": reference.fingerprint(),
        "num_features": reference.num_features,
        "num_train_images": len(anchor),
    }
    result["environment"] = {
        "device": str(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }
    return result


def _draw(images_and_labels: LabelledImages, num: int, generator: torch.Generator) -> LabelledImages:
    images, labels = images_and_labels
    drawn = torch.randperm(len(images), generator=generator)[:num]
    return images[drawn], labels[drawn]
