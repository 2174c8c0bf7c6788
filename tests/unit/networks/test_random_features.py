import math

import pytest
import torch

from dpsad.networks.random_features import RandomFourierFeatures

NUM, DIM, LENGTH_SCALE = 20_000, 30, 2.5


@pytest.fixture
def vectors(rng):
    """Pairs from near to far: kernel values from 1 to nearly 0."""
    return torch.randn(12, DIM, generator=rng) * torch.linspace(0.02, 2, 12)[:, None]


def test_inner_products_are_the_gaussian_kernel(vectors, rng):
    """Two-sided, for 66 pairs: each estimate is a mean of NUM / 2 cosines, so off by more than 6 / sqrt(NUM / 2) with
    probability below 2 exp(-18) (Hoeffding), 1e-6 for all."""
    features = RandomFourierFeatures(NUM, DIM, length_scale=LENGTH_SCALE, rng=rng)
    embedded = features(vectors)
    kernel = torch.exp(-torch.cdist(vectors, vectors).square() / (2 * LENGTH_SCALE**2))
    assert kernel.min() < 0.1
    assert (embedded @ embedded.T - kernel).abs().max() < 6 / math.sqrt(NUM / 2)
    wrong = torch.exp(-torch.cdist(vectors, vectors).square() / LENGTH_SCALE**2)
    assert (embedded @ embedded.T - wrong).abs().max() > 6 / math.sqrt(NUM / 2), "the test tells length scales apart"


def test_every_feature_vector_has_norm_one_also_on_chosen_frequencies(vectors, rng):
    features = RandomFourierFeatures(200, DIM, length_scale=LENGTH_SCALE, rng=rng)
    torch.testing.assert_close(features(1e3 * vectors).norm(dim=1), torch.ones(12))
    chosen = torch.tensor([5, 0, 99])
    some = features(vectors, chosen)
    torch.testing.assert_close(some.norm(dim=1), torch.ones(12))
    whole = features(vectors)[:, torch.cat([chosen, 100 + chosen])]
    torch.testing.assert_close(some, whole * math.sqrt(100 / 3))
