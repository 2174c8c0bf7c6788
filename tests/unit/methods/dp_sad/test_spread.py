"""How records lie around prototypes: what is released, what it costs, and what noise alone would show."""

import math
from dataclasses import replace

import pytest
import torch

from dpsad.data.augmentation import AugmentationConfig
from dpsad.methods.dp_sad.prototypes import PrototypesConfig
from dpsad.methods.dp_sad.release_plans import plans
from dpsad.methods.dp_sad.settings import DpSadSettings, RefineConfig
from dpsad.methods.dp_sad.spread import (
    SpreadConfig,
    lowest_frequencies,
    release_spread,
    spread_plans,
)
from dpsad.privacy.accounting import merge_gaussians
from dpsad.privacy.gaussian import gaussian_mu
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.randomness import PrivateRandomness
from students.prototypes import Prototypes

CONFIG = SpreadConfig(share=0.5, per_class=2, frequencies=20, directions=6, clip_rms=1.0, relative_clip_norm=5.0)


class FreeLedger(Ledger):
    """Enters every charge, so that noise may be too small to account."""

    def charge(self, plan, *, fixed_noise=False):
        self.entries = [*self.entries, plan]


@pytest.fixture
def prototypes(rng):
    """Two classes of four prototypes, all of them far from the pixels' limits."""
    images = torch.rand(8, 1, 6, 5, generator=rng) * 0.2 - 0.1
    return Prototypes(images, torch.arange(8) // 4, torch.full((8,), 200.0), 15.0)


@pytest.fixture
def around(prototypes, rng):
    """800 records of each class, which lie along a cosine around a class's first two prototypes, and along another
    around the two others."""
    waves = lowest_frequencies((1, 6, 5), 6)[[1, 2, 3, 4]]
    place = torch.arange(1600) // 200
    along = waves[place // 4 * 2 + place // 2 % 2].reshape(-1, 1, 6, 5)
    return prototypes.images[place] + 0.05 * torch.randn(1600, 1, 1, 1, generator=rng) * along, place // 4, waves


def released(prototypes, images, labels, *, mu=1e5, config=CONFIG, ledger=None, seed=0):
    return release_spread(
        config,
        prototypes,
        images=images,
        labels=labels,
        plans=spread_plans(config, mu),
        ledger=ledger or FreeLedger(1.0, 1e-5),
        randomness=PrivateRandomness(seed=seed),
    )


def test_with_next_to_no_noise_draws_lie_as_the_records_do(prototypes, around):
    """Along its own wave a group of prototypes varies as its records, by 0.05, and along the others not at all.

    Deviations of 4,000 draws and of 400 records: within 5 standard errors of each, false alarms below 1e-5."""
    images, labels, waves = around
    spread = released(prototypes, images, labels)
    assert len(spread.spread.factors) == 4
    for group in range(4):
        chosen = torch.full((4000,), 2 * group)
        normals = torch.randn(4000, spread.spread_dim, generator=torch.Generator().manual_seed(group))
        drawn = (spread.spread_out(chosen, normals) - prototypes.images[2 * group]).flatten(1) @ waves.T
        deviation = drawn.square().mean(0).sqrt()
        assert deviation[group].item() == pytest.approx(0.05, abs=5 * 0.05 * (1 / 8000 + 1 / 800) ** 0.5)
        others = [other for other in range(4) if other != group]
        assert deviation[others].max() < 0.005


def test_without_spread_prototypes_are_drawn_as_they_are(prototypes):
    labels = torch.arange(2)
    drawn = prototypes.draw(labels, AugmentationConfig(), torch.Generator().manual_seed(0))
    assert all((prototypes.images == image).flatten(1).all(1).any() for image in drawn)
    assert prototypes.spread_dim == 0


def test_where_nothing_rises_above_the_noise_nothing_is_spread_out(prototypes, around):
    images, labels, _ = around
    noisy = released(prototypes, images, labels, mu=1e-3, seed=1)
    normals = torch.randn(8, noisy.spread_dim, generator=torch.Generator().manual_seed(0))
    assert (noisy.spread_out(torch.arange(8), normals) - prototypes.images).abs().max() < 0.01


def test_both_releases_are_charged_before_they_are_made(prototypes, around):
    """With a bound as small as the differences, so that directions rise whatever the noise."""
    images, labels, _ = around
    tight, mu = replace(CONFIG, clip_rms=0.02), gaussian_mu(8.0, 1e-5)
    ledger = Ledger(8.01, 1e-5)
    released(prototypes, images, labels, mu=mu, config=tight, ledger=ledger)
    assert ledger.entries == spread_plans(tight, mu)
    assert ledger.spent() == pytest.approx(8.0, abs=0.01)
    with pytest.raises(BudgetExceeded, match="spread, 2 groups a class"):
        released(prototypes, images, labels, mu=mu, config=tight, ledger=Ledger(7.2, 1e-5))


@pytest.mark.parametrize("mu", [0.1, 2.5])
def test_plans_cost_exactly_mu(mu):
    (event,) = merge_gaussians([plan.event(1) for plan in spread_plans(CONFIG, mu)])
    assert event.noise_multiplier == pytest.approx(1 / mu, rel=1e-9)


@pytest.mark.parametrize("refine_steps", [0, 4])
def test_a_run_with_a_spread_costs_what_it_would_without(refine_steps):
    settings = {
        "refine": RefineConfig(steps=refine_steps, batch_size=100),
        "prototypes": PrototypesConfig(per_class=(1, 4), rounds=(1, 1), shares=(0.5, 0.5)),
    }
    costs = []
    for spread in (SpreadConfig(), SpreadConfig(share=0.3, per_class=2)):
        ledger = Ledger(2.0, 1e-5)
        costs.append(ledger.planned(plans(DpSadSettings(**settings, spread=spread), ledger, 1000)).spent())
    assert costs[0] == pytest.approx(costs[1], rel=2e-3)
    assert max(costs) <= 2.0


@pytest.mark.parametrize("image_shape", [(1, 6, 5), (3, 8, 8)])
def test_frequencies_are_orthonormal_and_low_ones_come_first(image_shape):
    size = math.prod(image_shape)
    basis = lowest_frequencies(image_shape, 10 * size)
    torch.testing.assert_close(basis @ basis.T, torch.eye(size), atol=1e-5, rtol=0)
    few = lowest_frequencies(image_shape, image_shape[0])
    assert len(few) == image_shape[0]
    images = few.reshape(-1, *image_shape)
    assert (images - images.mean(dim=(2, 3), keepdim=True)).abs().max() < 1e-6  # flat, a channel each
    assert torch.equal(basis[: len(few)], few)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"guarantee": "shards", "spread": SpreadConfig(share=0.2)}, "spread.share=0.2 needs prototypes"),
        ({"spread": SpreadConfig(share=0.2, per_class=7)}, "spread.per_class=7 must divide the 64 prototypes"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes, why):
    with pytest.raises(ValueError, match=why):
        DpSadSettings(**changes)
    with pytest.raises(ValueError, match=r"spread\.share=1 leaves nothing"):
        SpreadConfig(share=1.0)
