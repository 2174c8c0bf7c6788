import pytest
import torch

from dpsad.data.augmentation import AugmentationConfig
from dpsad.privacy.provenance import Provenance
from students.prototypes import Prototypes
from students.seeds import image_seeds
from students.varied_prototypes import HeldPrototypes, varied_student

STILL = AugmentationConfig()


@pytest.fixture
def prototypes(rng):
    """Two images of class 0, the first for three of four records, and one of class 1."""
    images = torch.rand(3, 1, 8, 8, generator=rng) * 2 - 1
    return Prototypes(images, torch.tensor([0, 0, 1]), torch.tensor([300.0, 100.0, 50.0]), 15.0)


def student_of(prototypes, augmentation=STILL):
    return varied_student(HeldPrototypes(prototypes), augmentation, (1, 8, 8), ("a", "b"))


def test_without_variation_images_are_prototypes_of_their_class_in_proportion_to_their_counts(prototypes):
    """Two-sided at 5 standard errors, false alarm 6e-7."""
    images = student_of(prototypes).sample(torch.arange(4000) % 2, image_seeds(0, 4000))
    assert (images[1::2] == prototypes.images[2]).all()
    is_first, is_second = ((images[::2] == image).flatten(1).all(1) for image in prototypes.images[:2])
    assert (is_first ^ is_second).all()
    assert is_first.double().mean().item() == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 2000) ** 0.5)


def test_an_image_is_its_seed_s_and_label_s_whatever_else_is_made(prototypes):
    student = student_of(prototypes, AugmentationConfig(rotation=20.0, shift=0.1))
    labels, seeds, order = torch.arange(11) % 2, image_seeds(0, 11), [7, 2, 10]
    whole = student.sample(labels, seeds)
    assert len(whole.flatten(1).unique(dim=0)) == 11
    torch.testing.assert_close(student.sample(labels, seeds, batch_size=1), whole)
    torch.testing.assert_close(student.sample(labels[order], [seeds[i] for i in order]), whole[order])


def test_it_has_seen_what_its_prototypes_have(prototypes):
    assert HeldPrototypes(prototypes).provenance is Provenance.RELEASED
    state = {**prototypes.state_dict(), "provenance": "private"}
    assert HeldPrototypes(Prototypes.from_dict(state)).prototypes().provenance is Provenance.PRIVATE
