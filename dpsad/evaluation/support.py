"""Precision, recall, density and coverage: whether two sets of images cover each other."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dpsad.evaluation.neighbours import distances, neighbour_radii

PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5


@dataclass(frozen=True, kw_only=True)
class SupportOverlap:
    """How two sets lie in each other. A ball is a point's neighbourhood up to its k-th neighbour in its own set.

    Attributes:
        precision: share of fakes in the ball of some real image, k = 3.
        recall: share of real images in the ball of some fake, k = 3.
        density: mean number of real balls that a fake lies in, over k = 5; around 1 for equal distributions.
        coverage: share of real balls that hold a fake, k = 5.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def support_overlap(real: Tensor, fake: Tensor, *, device: torch.device | str = "cpu") -> SupportOverlap:
    """Compares two sets of features by their neighbourhoods.

    Values depend on the number of images: bring as many fakes as real ones, and compare equal numbers only.

    Args:
        real: [num_real, num_features], six or more.
        fake: [num_fake, num_features] likewise.
        device: where to compute; chunks of distances keep the memory bounded.

    Raises:
        ValueError: a set has no more images than neighbours are counted.

    Source: Kynkaanniemi et al. 2019 (precision, recall); Naeem et al. 2020, equations 3 and 4 (density, coverage).
    """
    if min(len(real), len(fake)) <= DENSITY_NEIGHBOURS:
        raise ValueError(
            f"{len(real)} real and {len(fake)} fake images are too few to count {DENSITY_NEIGHBOURS} neighbours; "
            f"pass at least {DENSITY_NEIGHBOURS + 1} of each"
        )
    real_radii, wide_real_radii = neighbour_radii(real, (PRECISION_NEIGHBOURS, DENSITY_NEIGHBOURS), device=device)
    (fake_radii,) = neighbour_radii(fake, (PRECISION_NEIGHBOURS,), device=device)
    precise, balls = 0, 0
    recalled = torch.zeros(len(real), dtype=torch.bool, device=device)
    covered = torch.zeros(len(real), dtype=torch.bool, device=device)
    done = 0
    for chunk in distances(fake, real, device=device):  # [fakes of this chunk, num_real]
        within = chunk <= wide_real_radii
        balls += int(within.sum())
        covered |= within.any(dim=0)
        precise += int((chunk <= real_radii).any(dim=1).sum())
        recalled |= (chunk <= fake_radii[done : done + len(chunk), None]).any(dim=0)
        done += len(chunk)
    return SupportOverlap(
        precision=precise / len(fake),
        recall=recalled.double().mean().item(),
        density=balls / (DENSITY_NEIGHBOURS * len(fake)),
        coverage=covered.double().mean().item(),
    )
