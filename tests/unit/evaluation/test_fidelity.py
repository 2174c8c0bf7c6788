import math

import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from dpsad.evaluation.feature_space import embed
from dpsad.evaluation.fidelity import classifier_score, frechet_distance, kernel_distance


def gaussian(mean, root, *, num=2000, seed=0):
    """Vectors [num, len(mean)] whose sample mean and covariance are exactly `mean` and root @ root.T."""
    noise = torch.randn(num, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    noise = noise - noise.mean(dim=0)
    white = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T @ noise / (num - 1))).T
    return white @ root.T + mean


def normal(num, dim, seed, *, mean=0.0):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)) + mean


def test_diagonal_gaussians_have_the_closed_form():
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    scales, other_scales = torch.tensor([[1.0, 2.0, 0.3], [0.5, 2.0, 1.3]], dtype=torch.float64)
    real = gaussian(mean, torch.diag(scales))
    fake = gaussian(torch.zeros_like(mean), torch.diag(other_scales), seed=1)
    expected = mean.square().sum() + (scales - other_scales).square().sum()
    assert frechet_distance(real, fake) == pytest.approx(expected.item(), rel=1e-6)


def test_any_gaussians_have_the_formula_of_the_source():
    """Against scipy's matrix square root; the same whichever set is called real."""
    rng = torch.Generator().manual_seed(2)
    root, other_root = torch.randn(2, 5, 5, dtype=torch.float64, generator=rng)
    mean, other_mean = torch.randn(2, 5, dtype=torch.float64, generator=rng)
    real, fake = gaussian(mean, root), gaussian(other_mean, other_root, num=1500, seed=3)
    cov, other_cov = root @ root.T, other_root @ other_root.T
    cross = torch.tensor(sqrtm((cov @ other_cov).numpy()).real)
    expected = (mean - other_mean).square().sum() + (cov + other_cov - 2 * cross).trace()
    assert frechet_distance(real, fake) == pytest.approx(expected.item(), rel=1e-6)
    assert frechet_distance(fake, real) == pytest.approx(expected.item(), rel=1e-6)


def test_equal_sets_are_at_no_distance(digits):
    """Including features that never vary, whose covariance is singular."""
    pixels = digits[1][0].flatten(1)
    total_variance = pixels.var(dim=0).sum().item()
    assert 0 <= frechet_distance(pixels, pixels.flip(0)) < 1e-5 * total_variance


class Projection(nn.Module):
    """Ten random linear features of 8x8 images."""

    name, source, num_features = "projection", "a test", 10

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", normal(64, 10, 0))

    def forward(self, images):
        return images.flatten(1) @ self.weight


def test_features_of_batches_give_what_torchmetrics_makes_of_the_network_itself(digits):
    real, fake = digits[0][0][:500], digits[1][0]
    space = Projection()
    metric = FrechetInceptionDistance(feature=space, normalize=True)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    features = embed(space, real, batch_size=90), embed(space, fake, batch_size=90)
    torch.testing.assert_close(features[0], space(real))
    assert frechet_distance(*features) == pytest.approx(metric.compute().item(), rel=1e-4)


def test_kernel_distance_is_the_double_sum_of_the_source():
    """Sets of one subset each, so that all subsets are the sets themselves."""
    real, fake = normal(30, 4, 0).double(), normal(30, 4, 1, mean=0.5).double()

    def kernel(a, b):
        return (a.dot(b).item() / 4 + 1) ** 3

    within = sum(kernel(x[i], x[j]) for x in (real, fake) for i in range(30) for j in range(30) if i != j)
    across = sum(kernel(a, b) for a in real for b in fake)
    expected = within / (30 * 29) - 2 * across / 30**2
    mean, deviation = kernel_distance(real, fake, seed=0)
    assert mean == pytest.approx(expected, rel=1e-9)
    assert deviation < 1e-9


def test_kernel_distance_scatters_around_zero_for_equal_distributions():
    """Twenty independent pairs; mean within 6 standard errors of 0 on both sides, false alarm below 1e-5 (t, 19)."""
    values = torch.tensor([kernel_distance(normal(60, 3, s), normal(60, 3, 100 + s), seed=0)[0] for s in range(20)])
    error = (values.std() / math.sqrt(20)).item()
    assert abs(values.mean().item()) < 6 * error
    far = kernel_distance(normal(60, 3, 0), normal(60, 3, 1, mean=1.0), seed=0)[0]
    assert far > 20 * error


def test_random_scores_are_a_function_of_their_seed_and_leave_the_global_generator():
    real, fake = normal(1200, 5, 0), normal(1200, 5, 1)
    before = torch.get_rng_state()
    assert kernel_distance(real, fake, seed=3) == kernel_distance(real, fake, seed=3)
    assert kernel_distance(real, fake, seed=3) != kernel_distance(real, fake, seed=4)
    assert classifier_score(real, seed=3) == classifier_score(real, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_classifier_score_is_between_one_and_the_number_of_classes():
    undecided = torch.zeros(100, 7)
    certain = torch.eye(4).repeat(5000, 1) * 2000  # probabilities that underflow
    assert classifier_score(undecided, seed=0) == pytest.approx((1, 0))
    assert classifier_score(certain, seed=0)[0] == pytest.approx(4, rel=1e-2)
    assert classifier_score(certain[:1].repeat(50, 1), seed=0)[0] == pytest.approx(1)


def test_classifier_score_of_pairs_is_the_formula_of_the_source():
    """Two kinds of image only, in equal numbers in nearly every part of the split."""
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.1, 0.3, 0.6])
    mean = (p + q) / 2
    expected = math.exp((p * (p / mean).log() + q * (q / mean).log()).sum().item() / 2)
    logits = torch.stack([p, q]).log().repeat(20_000, 1)
    assert classifier_score(logits, seed=0)[0] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    "measure", [frechet_distance, lambda *sets: kernel_distance(*sets, seed=0)], ids=["frechet", "kernel"]
)
def test_one_image_is_no_distribution(measure):
    with pytest.raises(ValueError, match="pass at least 2 of each"):
        measure(torch.zeros(2, 3), torch.zeros(1, 3))
