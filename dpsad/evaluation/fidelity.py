"""How far two sets of images lie apart, and how clear one is, from features that a named network has given them.

With features and logits of the standard Inception weights these are FID, KID and the inception score; in any other
space they are not, and must not be called so. torchmetrics takes seconds to load, so it is loaded when it is asked.
"""

import warnings

import torch
from torch import Tensor, nn

SUBSET_SIZE = 1000


class _Given(nn.Identity):
    """Passes on features that are there already, in the place where torchmetrics puts a network."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Frechet distance between Gaussians fitted to two sets of features.

    d^2 = |m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)), means and covariances in float64.

    The estimate is biased upwards, the more the fewer images there are: compare distances of equal numbers of images
    in the same feature space only.

    Args:
        real: [num_real, num_features], two or more.
        fake: [num_fake, num_features] likewise.

    Returns:
        The distance, >= 0, in squared units of the features.

    Raises:
        ValueError: a set has fewer than two images.

    Source: Heusel et al. 2017, equation 6.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _require_two(real, fake)
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]), normalize=True)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    # The trace of the root is computed from eigenvalues, whose rounding can pass below zero for equal sets.
    return max(0.0, metric.compute().item())


def kernel_distance(real: Tensor, fake: Tensor, *, seed: int) -> tuple[float, float]:
    """Squared maximum mean discrepancy of two sets of features under the cubic kernel (a.b / num_features + 1)^3.

    Unbiased, so that equal distributions scatter around 0, on both sides of it: mean over 100 random subsets of 1,000
    images, or of as many as the smaller set has.

    Args:
        real: [num_real, num_features], two or more.
        fake: [num_fake, num_features] likewise.
        seed: of the subsets; torch's global generator is left as it was.

    Returns:
        Mean and standard deviation over the subsets.

    Raises:
        ValueError: a set has fewer than two images.

    Source: Binkowski et al. 2018, section 4.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    _require_two(real, fake)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # that features are kept, which they are anyway
        torch.manual_seed(seed)
        subset_size = min(SUBSET_SIZE, len(real), len(fake))
        metric = KernelInceptionDistance(feature=_Given(real.shape[1]), subset_size=subset_size)
        metric.update(real, real=True)
        metric.update(fake, real=False)
        mean, deviation = metric.compute()
    return mean.item(), deviation.item()


def classifier_score(logits: Tensor, *, seed: int) -> tuple[float, float]:
    """exp of the mean divergence of single images' class distributions from their average: clear and varied is high.

    Args:
        logits: [num, classes], two images or more; split into ten parts at random.
        seed: of the split; torch's global generator is left as it was.

    Returns:
        Mean and standard deviation over the parts; the mean is between 1 and the number of classes.

    Raises:
        ValueError: fewer than two images.

    Source: Salimans et al. 2016, section 4.
    """
    from torchmetrics.image.inception import InceptionScore

    _require_two(logits, logits)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)
        torch.manual_seed(seed)
        metric = InceptionScore(feature=_Given(logits.shape[1]))
        # A probability that underflows to 0 would make NaN of the score: below 1e-304 all count as that.
        metric.update(logits.double().log_softmax(dim=1).clamp(min=-700))
        mean, deviation = metric.compute()
    return mean.item(), deviation.item()


def _require_two(real: Tensor, fake: Tensor) -> None:
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"{len(real)} real and {len(fake)} fake images are too few; pass at least 2 of each")
