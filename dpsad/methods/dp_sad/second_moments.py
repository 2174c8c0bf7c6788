"""Second moments that were released with noise: as rows, as matrices, and what rises above the noise in them."""

import math

import torch
from torch import Tensor


def pairs_of(dim: int) -> int:
    """How many second moments so many numbers have."""
    return dim * (dim + 1) // 2


def second_moments(rows: Tensor) -> Tensor:
    """[num, dim] -> [num, dim * (dim + 1) / 2] products of pairs, whose norm is the square of a row's norm."""
    first, second = torch.triu_indices(rows.shape[1], rows.shape[1], device=rows.device)
    weight = torch.where(first == second, 1.0, math.sqrt(2))
    return rows[:, first] * rows[:, second] * weight


def symmetric(moments: Tensor) -> Tensor:
    """[..., dim * (dim + 1) / 2] moments -> [..., dim, dim] float64; noise off the diagonal is less by sqrt(2)."""
    dim = (math.isqrt(8 * moments.shape[-1] + 1) - 1) // 2
    first, second = torch.triu_indices(dim, dim, device=moments.device)
    values = moments.double() / torch.where(first == second, 1.0, math.sqrt(2))
    matrices = torch.zeros(*moments.shape[:-1], dim, dim, dtype=torch.float64, device=moments.device)
    matrices[..., first, second] = values
    matrices[..., second, first] = values
    return matrices


def rising_eigenvalues(matrices: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Eigenvalues of what is under the noise, as far as they rise above it, and eigenvectors.

    Args:
        matrices: [..., dim, dim] float64, symmetric: a signal of few directions, and normal noise.
        noise: deviation of the noise on the diagonal; off it, it is less by sqrt(2).

    Returns:
        [..., dim] values in rising order of the noisy ones, 0 where noise alone would show as much; [..., dim, dim].

    Source: Benaych-Georges and Nadakuditi 2011, Theorem 2.1, solved for the signal.
    """
    values, vectors = torch.linalg.eigh(matrices)
    edge = noise * math.sqrt(2 * matrices.shape[-1])
    rising = values.sign() * (values.abs() + (values.square() - edge**2).clamp(min=0).sqrt()) / 2
    return torch.where(values.abs() > edge, rising, 0), vectors


def covariances_of(moments: Tensor, counts: Tensor, noise: float, min_count: float) -> Tensor:
    """Each group's covariance: its class's, and how it rises above that.

    Args:
        moments: [classes, groups, dim, dim] noisy sums of second moments.
        counts: [classes, groups] released counts, >= 0.

    Returns:
        [classes, groups, dim, dim] float64; may have negative eigenvalues.
    """
    of_class = counts.sum(1).clamp(min=min_count)[:, None, None]
    pooled = from_eigen(*rising_eigenvalues(moments.sum(1), noise * math.sqrt(moments.shape[1]))) / of_class
    own = counts.clamp(min=min_count)[..., None, None]
    beyond = from_eigen(*rising_eigenvalues(moments - own * pooled[:, None], noise)) / own
    return pooled[:, None] + beyond


def from_eigen(values: Tensor, vectors: Tensor) -> Tensor:
    return vectors * values[..., None, :] @ vectors.mT


def square_roots(covariances: Tensor) -> Tensor:
    """Symmetric roots of the part of each matrix that is not negative."""
    values, vectors = torch.linalg.eigh(covariances)
    return from_eigen(values.clamp(min=0).sqrt(), vectors)
