"""What `dpsad sample` does."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from dpsad.errors import require_memory
from dpsad.release.export import load_student
from dpsad.runtime.device import device_named
from students.sample_files import check_destination, check_split, write_samples
from students.sampling import generate, labels_to_sample


@dataclass(frozen=True, kw_only=True)
class Made:
    """What was made: so many images, of so many classes, none where the student heeds no label; and where they are."""

    num: int
    num_classes: int | None
    out: str

    def __str__(self) -> str:
        classes = "without labels" if self.num_classes is None else f"of {self.num_classes} classes"
        return f"{self.num} images {classes} in {self.out}"


def run_sample(
    folder: Path,
    *,
    num: int,
    out: Path,
    seed: int,
    label: int | None,
    test_share: float | None = None,
    batch_size: int,
    device: str,
) -> Made:
    """Makes images with a released student and writes them.

    Args:
        folder: a run folder, or a release folder.
        num: how many images, evenly over the classes.
        out: a new folder, or a file ending in .npz.
        seed: image i depends on this seed and i alone.
        label: makes one class only.
        test_share: splits each class into train and test, see `write_samples`.

    Returns:
        What was made.

    Raises:
        ValueError: there is no release, no such class, too few images to split, or `out` exists already.
    """
    check_destination(out)
    student = load_student(folder, device=device_named(device))
    num_classes = len(student.class_names)
    shape = "x".join(map(str, student.image_shape))
    num_bytes = 8 * num + 5 * num * math.prod(student.image_shape)  # floats, then bytes
    require_memory(num_bytes, f"--num {num}: so many images of {shape}", "lower --num")
    if label is not None and not student.use_labels:
        raise ValueError(f"--label {label}: this student was trained without labels and makes any class; leave it out")
    if label is not None and label >= num_classes:
        raise ValueError(f"--label {label} is outside 0..{num_classes - 1}")
    labels = labels_to_sample(student, num) if label is None else torch.full((num,), label)
    if test_share is not None:
        check_split(labels, test_share)
    with tqdm(total=num, desc="sample", unit="image") as bar:
        images = generate(student, labels, seed=seed, batch_size=batch_size, progress=bar.update)
    write_samples(images, labels, out, test_share=test_share, class_names=student.class_names)
    made_of = None if not student.use_labels else num_classes if label is None else 1
    return Made(num=num, num_classes=made_of, out=str(out))
