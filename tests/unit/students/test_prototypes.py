from dataclasses import replace

import pytest
import torch

from dpsad.data.augmentation import AugmentationConfig
from dpsad.privacy.provenance import Provenance
from students.prototypes import Prototypes

STILL = AugmentationConfig()


@pytest.fixture
def prototypes():
    """Five images whose pixels tell which they are; those of class 1 all have too few records."""
    images = (torch.arange(5) / 10)[:, None, None, None].expand(5, 1, 4, 4).clone()
    counts = torch.tensor([300.0, 100.0, 14.0, -3.0, 2.0])
    return Prototypes(images, torch.tensor([0, 0, 0, 1, 1]), counts, 15.0)


def shares(images):
    return [(images[:, 0, 0, 0] * 10).round().eq(index).double().mean().item() for index in range(5)]


def test_prototypes_are_drawn_in_proportion_to_their_counts(prototypes, rng):
    """Two-sided at 5 standard errors; false alarm 6e-7. Those with few records are never drawn."""
    drawn = shares(prototypes.draw(torch.zeros(10_000).long(), STILL, rng))
    assert drawn[0] == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 10_000) ** 0.5)
    assert drawn[2:] == [0, 0, 0]
    assert drawn[0] + drawn[1] == pytest.approx(1)


def test_a_class_without_a_large_prototype_draws_all_of_its_own(prototypes, rng):
    drawn = shares(prototypes.draw(torch.ones(10_000).long(), STILL, rng))
    assert drawn[:3] == [0, 0, 0]
    assert drawn[3] == pytest.approx(0.5, abs=5 * (0.25 / 10_000) ** 0.5)


def test_every_label_gets_an_image_of_its_class(prototypes, rng):
    labels = torch.tensor([1, 0, 0, 1, 0])
    images = prototypes.draw(labels, STILL, rng)
    assert torch.equal(images[:, 0, 0, 0] > 0.25, labels == 1)


def test_augmented_draws_vary_and_stay_in_range(rng):
    images = torch.rand(1, 1, 8, 8, generator=rng) * 2 - 1
    prototypes = Prototypes(images, torch.tensor([0]), torch.tensor([50.0]), 15.0)
    drawn = prototypes.draw(torch.zeros(20).long(), AugmentationConfig(rotation=20.0, shift=0.1), rng)
    assert drawn.std(0).max() > 0.05
    assert drawn.abs().max() <= 1


def test_state_makes_the_same_prototypes(prototypes):
    again = Prototypes(**prototypes.state_dict())
    assert torch.equal(again.images, prototypes.images)
    assert torch.equal(again.counts, prototypes.counts)
    assert again.min_count == prototypes.min_count


@pytest.mark.parametrize("provenance", Provenance)
def test_what_they_have_seen_goes_wherever_they_go(prototypes, provenance):
    """To another device, into a file and back."""
    prototypes = replace(prototypes, provenance=provenance)
    assert prototypes.to(torch.device("cpu")).provenance is provenance
    assert Prototypes.from_dict(prototypes.state_dict()).provenance is provenance
