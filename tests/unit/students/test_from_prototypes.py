import pytest
import torch
from torch import nn

from dpsad.data.augmentation import AugmentationConfig
from students.few_step import SamplerConfig
from students.from_prototypes import StartedDenoiser, prototype_student
from students.prototypes import Prototypes
from students.sampling import to_bytes
from students.seeds import image_seeds

STILL = AugmentationConfig()
VARIED = AugmentationConfig(rotation=20.0, shift=0.1, sharpness=1.0, gamma=0.3, contrast=0.2, noise=0.5)
SHORT = SamplerConfig(start="prototypes", steps=2, sigma_min=0.5, sigma_max=1.0)


class Unmoved(nn.Module):
    """Takes every image for clean already, so that samples are what they begin as."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x, sigma, labels):
        return self.gain * x


@pytest.fixture
def prototypes(rng):
    """Five grey levels; those of class 1 all have too few records, and so has the last of class 0."""
    images = (torch.arange(5) / 10)[:, None, None, None].expand(5, 1, 8, 8).clone()
    return Prototypes(images, torch.tensor([0, 0, 0, 1, 1]), torch.tensor([300.0, 100.0, 14.0, -3.0, 2.0]), 15.0)


def student_of(denoiser, prototypes, augmentation=STILL, sampler=SHORT):
    return prototype_student(StartedDenoiser(denoiser, prototypes), sampler, augmentation, (1, 8, 8), ("a", "b"))


def test_images_begin_as_prototypes_of_their_class_in_proportion_to_their_counts(prototypes):
    """Two-sided at 5 standard errors, false alarm 6e-7; noise of 0.001 tells the levels apart."""
    quiet = SamplerConfig(start="prototypes", steps=1, sigma_min=1e-4, sigma_max=1e-3)
    labels = torch.arange(4000) % 2
    images = student_of(Unmoved(), prototypes, sampler=quiet).sample(labels, image_seeds(0, 4000))
    levels = (images.mean(dim=(1, 2, 3)) * 10).round().long()
    of_class = [levels[labels == label] for label in (0, 1)]
    assert set(of_class[0].tolist()) == {0, 1}, "the third has too few records"
    assert set(of_class[1].tolist()) == {3, 4}, "without a large one, all of the class are drawn"
    assert (of_class[0] == 0).double().mean().item() == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 2000) ** 0.5)


def test_a_prototype_is_noised_to_the_first_level(prototypes, has_scale):
    """Two-sided, false alarm 5e-7."""
    student = student_of(Unmoved(), prototypes, sampler=SamplerConfig(start="prototypes", steps=1, sigma_max=0.1))
    begun = student.sample(torch.zeros(500).long(), image_seeds(0, 500))
    prototype = (begun.mean(dim=(1, 2, 3), keepdim=True) * 10).round() / 10
    assert has_scale(begun - prototype, 0.1)
    assert not has_scale(begun - prototype, 0.1 * 2 / 3)
    assert not has_scale(begun - prototype, 0.1 * 3 / 2)


def test_an_image_is_its_seed_s_and_label_s_whatever_else_is_made(make_denoiser, prototypes):
    """Within 1 of 255 levels, since matrix products round by batch size."""
    student = student_of(make_denoiser(), prototypes, VARIED)
    labels, seeds = torch.arange(11) % 2, image_seeds(0, 11)
    whole, order = student.sample(labels, seeds), [7, 2, 10]
    assert whole.abs().max() <= 1
    for images, expected in (
        (student.sample(labels, seeds, batch_size=1), whole),
        (student.sample(labels[order], [seeds[index] for index in order]), whole[order]),
    ):
        assert abs(to_bytes(images).astype(int) - to_bytes(expected).astype(int)).max() <= 1
    assert len(whole.flatten(1).unique(dim=0)) == 11


def test_each_image_is_varied_by_its_own_seed_and_without_white_noise(prototypes):
    quiet = SamplerConfig(start="prototypes", steps=1, sigma_min=1e-4, sigma_max=1e-3)
    edge = torch.zeros(2, 1, 8, 8)
    edge[..., 4:] = 0.5
    one = Prototypes(edge, torch.arange(2), torch.full((2,), 50.0), 1.0)
    images = student_of(Unmoved(), one, VARIED, quiet).sample(torch.zeros(20).long(), image_seeds(0, 20))
    assert images.std(0).max() > 0.05
    corner = images[:, 0, :2, :2]
    assert corner.flatten(1).std(dim=1).max() < 0.1, "white noise of 0.5 would show in a flat corner"
