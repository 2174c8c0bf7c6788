"""Layers: what each layer of a small classifier makes of images, side by side."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpsad.networks.classifiers import CnnTrunk

LEAST_SPREAD = 0.1  # of a unit, in the mean spread of its layer: one that hardly ever answers is not blown up
AT_ONCE = 250  # images that pass the network together


class Layers(nn.Module):
    """Each layer's answers, brought to mean 0 and a spread of 1 unit by unit, and to norm 1 layer by layer.

    Args:
        trunk: of a classifier.
        means, spreads: of each unit, layer by layer.

    Attributes:
        dim: length of a feature vector.
    """

    def __init__(self, trunk: CnnTrunk, means: list[Tensor], spreads: list[Tensor]):
        super().__init__()
        self.trunk, self.means, self.spreads = trunk, nn.ParameterList(means), nn.ParameterList(spreads)
        self.dim = sum(len(mean) for mean in means)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> features [num, dim] of norm 1."""
        answers = zip(answers_of(self.trunk, images), self.means, self.spreads, strict=True)
        parts = [F.normalize((answer - mean) / spread, dim=1) for answer, mean, spread in answers]
        return torch.cat(parts, dim=1) / math.sqrt(len(parts))


def answers_of(trunk: CnnTrunk, images: Tensor) -> Iterator[Tensor]:
    """What each layer makes of images, after its non-linearity: [num, units] each."""
    for layer in trunk.layers:
        images = layer(images)
        if isinstance(layer, nn.ReLU):
            yield images.flatten(1)


@torch.no_grad()
def layers_of(trunk: CnnTrunk, images: Tensor) -> Layers:
    """Features of a trunk, in units of how its layers answer to some images.

    Args:
        images: [num, chan, height, width] public or released: what is made of them is no more private than they.
    """
    device = next(trunk.parameters()).device
    of_batches = [list(answers_of(trunk, batch.to(device))) for batch in images.split(AT_ONCE)]
    answers = [torch.cat(of_layer) for of_layer in zip(*of_batches, strict=True)]
    spreads = [of_layer.std(0) for of_layer in answers]
    spreads = [spread + LEAST_SPREAD * spread.mean() for spread in spreads]
    return Layers(trunk, [of_layer.mean(0) for of_layer in answers], spreads)
