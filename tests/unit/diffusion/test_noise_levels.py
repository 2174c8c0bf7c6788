import math

import pytest
import torch

from dpsad.diffusion.noise_levels import (
    every_level,
    linear_schedule_levels,
    lognormal_levels,
    mixture_quantiles,
    one_random_level,
    sampling_levels,
)


def test_training_levels_are_lognormal(rng, has_scale):
    """Rejects 2/3 and 3/2 of the spread; false alarm below 1e-6, as for the mean at 5 standard errors."""
    logs = lognormal_levels(20_000, mean=-0.8, std=1.2, rng=rng).log()
    assert logs.mean().item() == pytest.approx(-0.8, abs=5 * 1.2 / 20_000**0.5)
    assert has_scale(logs + 0.8, 1.2)
    assert not has_scale(logs + 0.8, 0.8)
    assert not has_scale(logs + 0.8, 1.8)


@pytest.mark.parametrize("steps", [1, 2, 6, 18])
def test_sampling_levels_fall_from_first_to_last_to_zero(steps):
    levels = sampling_levels(steps, sigma_min=0.05, sigma_max=20.0)
    assert levels.shape == (steps + 1,)
    assert levels[0].item() == pytest.approx(20.0, rel=1e-5)
    assert levels[-1] == 0
    assert (levels.diff() < 0).all()
    if steps > 1:
        assert levels[-2].item() == pytest.approx(0.05, rel=1e-4)


def test_sampling_levels_are_those_of_equation_5():
    levels = sampling_levels(5, sigma_min=0.002, sigma_max=80.0, rho=7.0).tolist()
    expected = [(80 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(5)]
    assert levels[:-1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("num", [10, 500, 1000])
def test_chain_levels_are_those_of_the_chain_multiplied_out(num):
    """A loop over Ho et al.'s betas."""
    kept, expected = 1.0, []
    for step in range(num):
        beta = (1e-4 + (0.02 - 1e-4) * step / (num - 1)) * 1000 / num
        kept *= 1 - min(beta, 0.999)
        expected.append(math.sqrt((1 - kept) / kept))
    levels = linear_schedule_levels(num)
    assert levels.tolist() == pytest.approx(expected, rel=1e-4)
    assert (levels.diff() > 0).all()
    assert levels.isfinite().all()


def test_one_random_level_is_drawn_evenly(rng):
    """Two-sided at 5 standard errors for each of 4 levels; false alarm below 3e-6."""
    picked = one_random_level(4, 10_000, rng)
    assert picked.shape == (1, 10_000)
    shares = picked.flatten().bincount(minlength=4) / 10_000
    assert (shares - 0.25).abs().max() < 5 * (0.25 * 0.75 / 10_000) ** 0.5


def test_every_image_meets_every_level_once_in_an_order_of_its_own(rng):
    picked = every_level(20, 50, rng)
    assert torch.equal(picked.sort(dim=0).values, torch.arange(20)[:, None].expand(20, 50))
    assert len({tuple(column) for column in picked.T.tolist()}) == 50
    assert picked.float().mean(dim=1).std() < 3, "a row holds low and high levels alike"


@pytest.mark.parametrize(
    ("bounds", "weights"),
    [([0.0, 30, 600, 1000], [0.1, 0.8, 0.1]), ([2.0, 3.0], [1.0]), ([0.0, 1, 5, 6], [0.5, 0.0, 0.5])],
)
def test_mixture_quantiles_invert_the_mixtures_distribution_function(bounds, weights):
    """Its distribution function in closed form: each range's share of what lies below, times its weight."""
    uniform = torch.linspace(0, 1, 1003, dtype=torch.float64)[1:-1]
    drawn = mixture_quantiles(uniform, bounds, weights)
    below = sum(
        weight * ((drawn - low) / (high - low)).clamp(0, 1)
        for weight, low, high in zip(weights, bounds[:-1], bounds[1:], strict=True)
    )
    torch.testing.assert_close(below, uniform)
    assert drawn.diff().min() >= 0
    assert bounds[0] < drawn.min() <= drawn.max() < bounds[-1]
    for weight, low, high in zip(weights, bounds[:-1], bounds[1:], strict=True):
        inside = ((drawn > low) & (drawn < high)).double().mean().item()
        assert inside == pytest.approx(weight, abs=2e-3), "a range without weight is never drawn"
