"""Second moments: how long rows of them are, and what noise alone shows in them."""

import math

import pytest
import torch

from dpsad.methods.dp_sad.second_moments import rising_eigenvalues, second_moments, symmetric


def test_second_moments_are_as_long_as_the_square_of_what_they_are_of(rng):
    rows = torch.randn(5, 7, generator=rng, dtype=torch.float64)
    moments = second_moments(rows)
    torch.testing.assert_close(moments.norm(dim=1), rows.square().sum(1))
    torch.testing.assert_close(symmetric(moments), rows[:, :, None] * rows[:, None])


def test_noise_alone_shows_next_to_nothing_and_what_is_under_noise_is_found(rng):
    """Noise of 300 dimensions passes its edge by chance alone, by a hair; a direction twice as strong comes back."""
    dim, noise = 300, 0.7
    flat = torch.randn(dim * (dim + 1) // 2, generator=rng, dtype=torch.float64) * noise
    values, _ = rising_eigenvalues(symmetric(flat), noise)
    edge = noise * math.sqrt(2 * dim)
    assert (values != 0).sum() <= 2
    direction = torch.randn(dim, generator=rng, dtype=torch.float64)
    direction /= direction.norm()
    values, vectors = rising_eigenvalues(symmetric(flat) + 2 * edge * torch.outer(direction, direction), noise)
    assert values[-1].item() == pytest.approx(2 * edge, rel=0.1)
    assert abs(vectors[:, -1] @ direction) > 0.9
