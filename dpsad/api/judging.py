"""dpsad.evaluate and dpsad.compare: measuring and comparing from Python."""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from dpsad.api.student import Student
from dpsad.data.arrays import records_of
from dpsad.data.records import ImageSet
from dpsad.data.splits import held_out
from dpsad.errors import require_choice
from dpsad.evaluation.choices import DEFAULT_KINDS, PROTOCOLS, Kind, Metric
from dpsad.evaluation.evaluate import LabelledImages, evaluate_samples
from dpsad.evaluation.result import EvaluationResult
from dpsad.report.reading import Result, read_runs
from dpsad.runtime.device import hardware_of
from dpsad.runtime.run_folder import Run
from dpsad.runtime.whole_files import PRIVATE, write_whole
from students.base import Student as ImageMaker
from students.sampling import even_labels, generate


def evaluate(
    student: Student,
    images: ArrayLike | Tensor | ImageSet,
    labels: ArrayLike | Tensor | None = None,
    *,
    test_images: ArrayLike | Tensor | ImageSet | None = None,
    test_labels: ArrayLike | Tensor | None = None,
    protocol: str = "quick",
    num: int | None = None,
    classifiers: Sequence[Kind] = DEFAULT_KINDS,
    metrics: Sequence[Metric] = (),
    compare_with_real: bool = True,
    epochs: int | None = None,
    seed: int = 0,
) -> EvaluationResult:
    """Measures a student's samples against real images, and notes it in the student's run folder, if it has one.

    Args:
        student: what `dpsad.train` returned, or `Student.from_pretrained`.
        images, labels: the real training images, as for `dpsad.train`.
        test_images, test_labels: real images that nobody trained on. None holds out one in five of `images`, which the
            student may have been trained on: say so beside the figures.
        protocol: how classifiers are trained: quick, or dpdm for published tables (60,000 samples, 50 epochs).
        num: synthetic images to train them on; None takes as many as the protocol says.
        classifiers, metrics: as for `dpsad evaluate`.
        compare_with_real: whether classifiers are trained on real images, too.
        epochs: for trying out, instead of the protocol's: of every classifier, the one whose features distances are in
            among them.
        seed: of samples, classifiers and draws.

    Returns:
        What was found. It was measured on records, and no guarantee covers it.

    Raises:
        ValueError: the images are of another shape or other classes than the student's, or nobody knows the protocol.
    """
    require_choice("protocol", protocol, tuple(PROTOCOLS))
    train, test = _sides(images, labels, test_images, test_labels)
    for side in (train, test):
        if side.image_shape != student.image_shape or side.num_classes != len(student.class_names):
            raise ValueError(
                f"the student makes images of shape {list(student.image_shape)} in {len(student.class_names)} classes, "
                f"these are of shape {list(side.image_shape)} in {side.num_classes}"
            )
    no_classifiers = why_no_classifiers(student, train)
    samples, images_per_second = timed_samples(student.maker, num, seed, protocol, len(train))
    result = evaluate_samples(
        samples,
        train=(train.images, train.labels),
        test=(test.images, test.labels),
        real=compare_with_real,
        classifiers=() if no_classifiers else classifiers,
        num_classes=train.num_classes,
        seed=seed,
        device=student.maker.device,
        protocol=protocol,
        epochs=epochs,
        metrics=metrics,
    )
    result = replace(
        result,
        no_classifiers=no_classifiers,
        sampling_images_per_second=images_per_second,
        hardware=hardware_of(student.maker.device),
        privacy=student.privacy.details,
    )
    return result if student.run is None else noted(result, Run(student.run))


def timed_samples(
    maker: ImageMaker, num: int | None, seed: int, protocol: str, num_real: int
) -> tuple[LabelledImages, float]:
    """Samples of all classes in turn, with their labels, and how many were made in a second.

    Args:
        num: how many; None takes as many as the protocol says beside `num_real` training images.
    """
    num = PROTOCOLS[protocol].num_for(num_real) if num is None else num
    labels = even_labels(num, len(maker.class_names))
    start = time.perf_counter()
    with tqdm(total=num, desc="sample", unit="image") as bar:
        images = generate(maker, labels, seed=seed, progress=bar.update)
    return (images, labels), num / (time.perf_counter() - start)


def noted(result: EvaluationResult, run: Run) -> EvaluationResult:
    """The same result, written to the run's private folder."""
    write_whole(run.evaluation, json.dumps(result.to_dict(), indent=2) + "\n", PRIVATE)
    return result


def _sides(
    images: ArrayLike | Tensor | ImageSet,
    labels: ArrayLike | Tensor | None,
    test_images: ArrayLike | Tensor | ImageSet | None,
    test_labels: ArrayLike | Tensor | None,
) -> tuple[ImageSet, ImageSet]:
    """Training and test side."""
    train = records_of(images, labels)
    if test_images is not None:
        return train, records_of(test_images, test_labels)
    out = torch.tensor([held_out(name) for name in train.ids])
    return train.take(~out), train.take(out)


def why_no_classifiers(student: Student | ImageMaker, train: ImageSet) -> str | None:
    """Why no classifier can learn from the student's samples, or be tested; None where it can."""
    if not student.use_labels:
        return "the student was trained without labels (student.use_labels=false), so its samples have none"
    if train.num_classes == 1:
        return "the records have no labels of their own, or one class alone"
    return None


@dataclass(frozen=True)
class Comparison:
    """Finished runs side by side; printing it shows the table.

    runs: what each has recorded about itself.
    page: report.html, private as its numbers are.
    """

    runs: tuple[Result, ...]
    table: str
    page: Path

    def __str__(self) -> str:
        return self.table


def compare(runs: Sequence[Student | str | Path], *, out: str | Path | None = None) -> Comparison:
    """Puts finished runs side by side: table, privacy-utility curves and samples, on one page.

    Args:
        runs: run folders, or students that have one.
        out: a folder for report.html and the tables; None takes a new temporary one.

    Raises:
        ValueError: a student without a run folder, or not one run can be read.
    """
    folders = []
    for run in runs:
        folder = run.run if isinstance(run, Student) else Path(run)
        if folder is None:
            raise ValueError(f"{run} has a release alone and no run folder to compare; pass run=... when it is trained")
        folders.append(folder)
    target = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="dpsad-comparison-"))
    from dpsad.report.comparison import write_comparison  # plots take a second to load

    table = write_comparison(folders, target)
    return Comparison(tuple(read_runs(folders)[0]), table, target / "report.html")
