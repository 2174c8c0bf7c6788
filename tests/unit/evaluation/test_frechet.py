import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from dpsad.evaluation.frechet import frechet_distance


class Identity(nn.Module):
    """Pixels as features; remembers what it was given."""

    def __init__(self, num_features):
        super().__init__()
        self.num_features = num_features
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return images.flatten(1)


def gaussian(mean, root, *, num=2000, seed=0):
    """Images [num, len(mean), 1, 1] whose sample mean and covariance are exactly `mean` and root @ root.T."""
    noise = torch.randn(num, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    noise = noise - noise.mean(dim=0)
    white = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T @ noise / (num - 1))).T
    return (white @ root.T + mean)[:, :, None, None]


def test_diagonal_gaussians_have_the_closed_form():
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    scales, other_scales = torch.tensor([[1.0, 2.0, 0.3], [0.5, 2.0, 1.3]], dtype=torch.float64)
    real = gaussian(mean, torch.diag(scales))
    fake = gaussian(torch.zeros_like(mean), torch.diag(other_scales), seed=1)
    expected = mean.square().sum() + (scales - other_scales).square().sum()
    assert frechet_distance(real, fake, Identity(3)) == pytest.approx(expected.item(), rel=1e-6)


def test_any_gaussians_have_the_formula_of_the_source():
    """Against scipy's matrix square root; the same whichever set is called real."""
    generator = torch.Generator().manual_seed(2)
    root, other_root = torch.randn(2, 5, 5, dtype=torch.float64, generator=generator)
    mean, other_mean = torch.randn(2, 5, dtype=torch.float64, generator=generator)
    real, fake = gaussian(mean, root), gaussian(other_mean, other_root, num=1500, seed=3)
    cov, other_cov = root @ root.T, other_root @ other_root.T
    cross = torch.tensor(sqrtm((cov @ other_cov).numpy()).real)
    expected = (mean - other_mean).square().sum() + (cov + other_cov - 2 * cross).trace()
    assert frechet_distance(real, fake, Identity(5)) == pytest.approx(expected.item(), rel=1e-6)
    assert frechet_distance(fake, real, Identity(5)) == pytest.approx(expected.item(), rel=1e-6)


def test_equal_sets_are_at_no_distance(digits):
    """Including features that never vary, whose covariance is singular."""
    images = digits[1][0]
    total_variance = images.flatten(1).var(dim=0).sum().item()
    assert 0 <= frechet_distance(images, images.flip(0), Identity(64)) < 1e-3 * total_variance


def test_images_reach_the_features_unchanged(digits):
    images, features = digits[1][0], Identity(64)
    frechet_distance(images, images, features, batch_size=100)
    assert [len(batch) for batch in features.seen] == [100, 100, 100, 60] * 2
    assert torch.equal(torch.cat(features.seen[:4]), images)
    assert not features.training


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="pass at least 2 of each"):
        frechet_distance(torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8), Identity(64))
