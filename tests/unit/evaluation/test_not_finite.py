"""Images and features that are no numbers are refused, not measured."""

import math

import pytest
import torch

from dpsad.evaluation.downstream import train_classifier
from dpsad.evaluation.feature_space import embed


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_classifier_learns_from_numbers(value):
    images = torch.zeros(12, 1, 8, 8)
    images[5, 0, 2, 2] = value
    with pytest.raises(ValueError, match="12 images to learn from have NaN or infinite pixels"):
        train_classifier("mlp", images, torch.arange(12) % 2, num_classes=2, seed=0, epochs=1)


def test_a_classifier_whose_loss_is_no_number_is_not_returned():
    images = torch.full((12, 1, 8, 8), 3e38)
    with pytest.raises(ValueError, match="classifier mlp has a loss of nan"):
        train_classifier("mlp", images, torch.arange(12) % 2, num_classes=2, seed=0, epochs=1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_are_numbers(value):
    class Space:
        name = "broken"

        def __call__(self, images):
            return images.flatten(1) * value

    with pytest.raises(ValueError, match=r"\(broken\) are NaN or infinite"):
        embed(Space(), torch.ones(4, 1, 2, 2))
