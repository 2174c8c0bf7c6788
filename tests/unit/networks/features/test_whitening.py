import pytest
import torch

from dpsad.networks.features.whitening import whitening_of


@pytest.fixture
def features(rng):
    """200 vectors of 40 numbers that vary along five directions, less and less."""
    directions = torch.linalg.qr(torch.randn(40, 5, generator=rng)).Q
    spread = torch.tensor([1.0, 0.5, 0.2, 0.1, 0.05])
    return 3 + torch.randn(200, 5, generator=rng) * spread @ directions.T


def test_directions_in_which_features_vary_get_the_same_variance(features):
    whitening = whitening_of(features, 5, floor=0.0)
    white = (features - whitening.mean) @ whitening.directions
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(5), atol=1e-3, rtol=0)
    assert torch.allclose(whitening(features).norm(dim=1), torch.ones(200))


def test_a_floor_keeps_down_what_hardly_varies(features):
    whitening = whitening_of(features, 5, floor=0.25)
    deviation = ((features - whitening.mean) @ whitening.directions).std(0)
    expected = [spread / (spread**2 + 0.25) ** 0.5 for spread in (1.0, 0.5, 0.2, 0.1, 0.05)]
    assert deviation.tolist() == pytest.approx(expected, rel=0.25)


def test_no_more_directions_than_features_vary_in(features):
    assert whitening_of(features, 30, floor=0.0).directions.shape == (40, 5)
