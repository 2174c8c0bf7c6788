"""Whitening: features along the directions in which those of released images vary, each with the same weight."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Whitening(nn.Module):
    """Maps feature vectors to fewer numbers of equal variance, and to norm 1.

    Args:
        dim: of the features.
        num_directions: of the result.

    Attributes:
        mean: [dim] that is taken away.
        directions: [dim, num_directions].
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, dim: int, num_directions: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("directions", torch.zeros(dim, num_directions))

    @property
    def num_directions(self) -> int:
        """Length of a result."""
        return self.directions.shape[1]

    def forward(self, features: Tensor) -> Tensor:
        """[num, dim] -> [num, num_directions] of norm 1."""
        return F.normalize((features - self.mean) @ self.directions, dim=1)


def whitening_of(features: Tensor, num_directions: int, *, floor: float) -> Whitening:
    """Whitening by the leading principal directions of some features.

    Args:
        features: [num, dim] of images that are public or released: what is made of them is no more private than they.
        num_directions: at most; fewer where there are not so many images.
        floor: added to every variance, as a share of the largest, so that directions in which these images hardly
            differ, and others may, are not blown up.
    """
    mean = features.mean(0)
    centred = (features - mean).double()
    more_features = features.shape[1] > len(features)
    values, vectors = torch.linalg.eigh(centred @ centred.T if more_features else centred.T @ centred)
    kept = (values > values[-1] * 1e-9).nonzero().flatten()[-num_directions:].flip(0)
    values, vectors = values[kept], vectors[:, kept]
    if more_features:
        vectors = centred.T @ (vectors / values.sqrt())
    whitening = Whitening(features.shape[1], len(kept))
    whitening.mean.copy_(mean)
    whitening.directions.copy_(vectors / ((values + floor * values[0]) / len(features)).sqrt())
    return whitening.to(features.device)
