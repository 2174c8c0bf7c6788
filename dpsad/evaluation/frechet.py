"""Frechet distance between two sets of images, in a feature space that the caller brings."""

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance


def frechet_distance(
    real: Tensor, fake: Tensor, features: nn.Module, *, device: torch.device | str = "cpu", batch_size: int = 1000
) -> float:
    """Squared Frechet distance between Gaussians fitted to the features of two sets of images.

    d^2 = |m_r - m_f|^2 + tr(S_r + S_f - 2 (S_r S_f)^(1/2)), means and covariances in float64. It is called FID only
    where the features are Inception's; here no network but `features` is built, and none is downloaded.

    The estimate is biased upwards, the more the fewer images there are: compare distances of equal numbers of images
    in the same feature space only.

    Args:
        real: [num_real, chan, height, width] in the range that `features` reads, two images or more; passed unchanged.
        fake: [num_fake, chan, height, width] likewise.
        features: module with an integer attribute `num_features`, images to [num, num_features]; it is put into
            evaluation mode and moved to `device`.
        device: where the features and the distance are computed.
        batch_size: images to pass through `features` at once.

    Returns:
        The distance, >= 0, in squared units of the features.

    Raises:
        ValueError: a set has fewer than two images.

    Source: Heusel et al. 2017, equation 6.
    """
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"{len(real)} real and {len(fake)} fake images are too few; pass at least 2 of each")
    # A module of one's own gets the images as they are, whatever `normalize` says; True is what float images mean.
    metric = FrechetInceptionDistance(feature=features.eval(), normalize=True).to(device)
    for images, is_real in ((real, True), (fake, False)):
        for batch in images.split(batch_size):
            metric.update(batch.to(device), real=is_real)
    # The trace of the root is computed from eigenvalues, whose rounding can pass below zero for equal sets.
    return max(0.0, metric.compute().item())
