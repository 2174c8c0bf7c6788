"""Samples that a guide chooses: as it takes them, and each a function of its own seed and label."""

import pytest
import torch
from torch import nn

from dpsad.data.augmentation import AugmentationConfig
from students.base import Student
from students.guide import chosen_by
from students.prototypes import Prototypes
from students.seeds import image_seeds
from students.varied_prototypes import HeldPrototypes, varied_student


class BySign(nn.Module):
    """Takes images for class 1 as far as they are bright."""

    def __init__(self, proposals=((1.0, 0.0), (0.0, 1.0))):
        super().__init__()
        self.register_buffer("proposals", torch.tensor(proposals))

    def forward(self, images):
        brightness = images.mean(dim=(1, 2, 3))
        return torch.stack([-brightness, brightness], dim=1)


@pytest.fixture
def student():
    """Half of its images of either class are bright."""
    images = torch.tensor([-0.5, 0.5, -0.5, 0.5]).view(4, 1, 1, 1).expand(4, 1, 8, 8).clone()
    prototypes = Prototypes(images, torch.arange(4) // 2, torch.full((4,), 50.0), 1.0)
    return varied_student(HeldPrototypes(prototypes), AugmentationConfig(), (1, 8, 8), ("dark", "bright"))


def guided(student, attempts):
    chosen = chosen_by(BySign(), student.make, attempts)
    return Student(student.model, student.make, student.image_shape, student.class_names, chosen=chosen)


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_images_are_made_until_the_guide_takes_them_for_their_class(student, attempts):
    """Two-sided at 5 standard errors, false alarm 6e-7."""
    labels, right = torch.arange(4000) % 2, 1 - 0.5**attempts
    images = guided(student, attempts).sample(labels, image_seeds(0, 4000))
    taken = (BySign()(images).argmax(1) == labels).double().mean().item()
    assert taken == pytest.approx(right, abs=5 * (right * (1 - right) / 4000) ** 0.5)


def test_images_are_made_as_of_the_classes_that_the_guide_proposes():
    """Wanted as class 1, made as class 0 three times of four. Two-sided at 5 standard errors, false alarm 6e-7."""
    made_as = []

    def make(labels, normal):
        made_as.append(labels.clone())
        return torch.full((len(labels), 1, 2, 2), 0.5)

    guide, noise = BySign(((1.0, 0.0), (0.75, 0.25))), torch.Generator().manual_seed(1)
    images = chosen_by(guide, make, 2)(torch.arange(8000) % 2, lambda shape: torch.randn(8000, *shape, generator=noise))
    first, again = made_as
    assert first[0::2].sum() == 0
    assert first[1::2].double().mean().item() == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 4000) ** 0.5)
    assert len(again) == 4000  # those that were wanted dark
    assert again.sum() == 0
    assert images.shape == (8000, 1, 2, 2)


def test_an_image_is_its_seed_s_and_label_s_whatever_else_is_made(student):
    one, labels, order = guided(student, 4), torch.arange(40) % 2, [7, 20, 31, 2]
    whole = one.sample(labels, image_seeds(0, 40))
    assert torch.equal(one.sample(labels, image_seeds(0, 40), batch_size=3), whole)
    seeds = [image_seeds(0, 40)[place] for place in order]
    assert torch.equal(one.sample(labels[order], seeds), whole[order])


def test_without_its_guide_a_student_makes_what_it_made_before(student):
    labels, seeds = torch.arange(40) % 2, image_seeds(0, 40)
    assert torch.equal(guided(student, 4).sample(labels, seeds, guide=False), student.sample(labels, seeds))
    assert torch.equal(student.sample(labels, seeds, guide=True), student.sample(labels, seeds))


def test_where_no_attempt_is_right_the_most_certain_is_kept():
    """Images grow brighter with each attempt, and all are dark."""
    made = []

    def make(labels, normal):
        made.append(len(labels))
        return torch.full((len(labels), 1, 2, 2), -1 + 0.1 * len(made))

    images = chosen_by(BySign(), make, 3)(torch.tensor([1, 0]), lambda shape: torch.zeros(2, *shape))
    assert made == [2, 1, 1]
    assert images[:, 0, 0, 0].tolist() == pytest.approx([-0.7, -0.9])
