"""Images that are no numbers are neither handed out nor written."""

import math

import pytest
import torch

from students.base import Student
from students.sample_files import write_samples
from students.sampling import to_bytes


def a_student(value):
    """Makes images of zeros, each third of them with one pixel of that value."""

    def make(labels, normal):
        images = torch.zeros(len(labels), 1, 4, 4)
        images[::3, 0, 1, 2] = value
        return images

    return Student(torch.nn.Linear(1, 1), make, (1, 4, 4), ("a", "b"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_student_that_makes_no_images_says_how_many(value):
    with pytest.raises(ValueError, match="2 of 4 images have NaN or infinite pixels; train with a lower learning rate"):
        a_student(value).sample(torch.tensor([0, 1, 0, 1]), range(4))


def test_large_values_are_clamped_as_ever():
    assert a_student(3e38).sample(torch.tensor([0]), [0]).max() == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["samples.npz", "samples"])
def test_no_byte_stands_for_nan(tmp_path, value, name):
    images = torch.zeros(3, 1, 4, 4)
    images[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match="1 of 3 images"):
        write_samples(images, torch.zeros(3, dtype=torch.int64), tmp_path / name)
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match="1 of 3 images"):
        to_bytes(images)
