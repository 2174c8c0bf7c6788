"""What the last bits of a release tell of records."""

import math

import pytest
import torch

from dpsad.privacy.gaussian import gaussian_mu
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer

DIM, EPSILON, TRIES = 784, 0.1, 1000
PLAN = ReleasePlan(
    purpose="test",
    unit=Unit.RECORD,
    clip_norm=1.0,
    noise_multiplier=1 / gaussian_mu(EPSILON, 1e-5),
    num_releases=2 * TRIES,
)


@pytest.fixture(scope="module")
def worlds():
    """Releases [TRIES, DIM] without any record, and with one."""
    sanitizer = Sanitizer(PLAN, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0))
    row = torch.full((1, DIM), DIM**-0.5)
    return [torch.stack([sanitizer.release(rows, (DIM,)) for _ in range(TRIES)]) for rows in ([], [row])]


def is_product(releases):
    """Whether each number is some float32 times the noise's scale, rounded to float32."""
    scale = torch.tensor(PLAN.noise_scale, dtype=torch.float32)
    guess = releases / scale
    up = torch.full_like(guess, math.inf)
    near = [guess, guess.nextafter(up), guess.nextafter(-up)]
    return torch.stack([factor * scale == releases for factor in near]).any(0)


def test_which_numbers_can_be_reached_tells_nothing_of_a_record(worlds):
    """Guesses "no record" where more numbers than usual are products that noise alone can be.

    Epsilon 0.1 lets anyone be right 1,050 times in 2,000; five deviations more are 1,162, which chance passes with
    probability 3e-7 a side. Where noise is drawn and added in float32, the guess is right 2,000 times.
    """
    without, with_one = (is_product(releases).double().mean(1) for releases in worlds)
    threshold = torch.cat([without, with_one]).mean()
    right = int((without > threshold).sum() + (with_one <= threshold).sum())
    assert 838 <= right <= 1162


def test_the_attack_on_float32_noise_succeeds():
    """The noise that is told apart above: 2,000 of 2,000, at least 1,900."""
    rng, scale = torch.Generator().manual_seed(0), PLAN.noise_scale
    without, with_one = (
        torch.stack([torch.full((DIM,), row).add_(torch.randn(DIM, generator=rng), alpha=scale) for _ in range(TRIES)])
        for row in (0.0, DIM**-0.5)
    )
    right = is_product(without).all(1).sum() + (~is_product(with_one).all(1)).sum()
    assert right >= 1900


def test_releases_are_on_the_grid_in_either_world(worlds):
    """Whole steps of 2^-23 of the bound, as far as float32 holds them, of either parity in both worlds. Two-sided at
    5 deviations of the count of odd ones; false alarm 6e-7 each."""
    for releases in worlds:
        small = releases[releases.abs() < 0.5].double() * 2**23
        assert torch.equal(small, small.round())
        odd = (small.long() % 2 != 0).double().mean().item()
        assert abs(odd - 0.5) < 5 * 0.5 / len(small) ** 0.5
