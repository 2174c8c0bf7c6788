import math
from dataclasses import replace

import pytest
import torch

from dpsad.data.records import ImageSet
from dpsad.methods.dp_sad.prototype_rows import record_rows
from dpsad.methods.dp_sad.prototypes import PrototypesConfig, prototype_plans, release_prototypes, split
from dpsad.privacy.accounting import merge_gaussians
from dpsad.privacy.gaussian import gaussian_mu
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.randomness import PrivateRandomness

CONFIG = PrototypesConfig(per_class=(1, 2), rounds=(1, 6), shares=(0.3, 0.7), clip_rms=2.0, spread=0.2)
SIZES = [[50, 30], [20, 60], [45, 45]]  # records of each class in each of its two clusters


class FreeLedger(Ledger):
    """Enters every charge, so that noise may be too small to account."""

    def charge(self, plan, *, fixed_noise=False):
        self.entries = [*self.entries, plan]


@pytest.fixture
def clusters(rng):
    """([classes, 2, 1, 6, 5] centres, records close around them)."""
    centres = torch.rand(3, 2, 1, 6, 5, generator=rng) * 1.6 - 0.8
    which = torch.tensor([label * 2 + k for label in range(3) for k in range(2) for _ in range(SIZES[label][k])])
    images = centres.flatten(0, 1)[which]
    images = (images + 0.02 * torch.randn(images.shape, generator=rng)).clamp(-1, 1)
    order = torch.randperm(len(which), generator=rng)
    ids = tuple(map(str, range(len(which))))
    return centres, ImageSet(images=images[order], labels=which[order] // 2, ids=ids, class_names=("a", "b", "c"))


def released(records, *, config=CONFIG, mu=1e4, ledger=None, noise_seed=0):
    by_class = [(records.labels == label).nonzero().flatten() for label in range(records.num_classes)]
    return release_prototypes(
        config,
        rows=lambda proposal, bound: record_rows(records.images, by_class, proposal, bound, config.count_share),
        plans=prototype_plans(config, mu),
        num_classes=records.num_classes,
        image_shape=records.image_shape,
        ledger=ledger or FreeLedger(1.0, 1e-5),
        randomness=PrivateRandomness(seed=noise_seed),
        rng=torch.Generator().manual_seed(0),
    )


def test_with_next_to_no_noise_it_finds_the_clusters_and_counts_them(clusters):
    """Several prototypes may share a cluster, and one that no record is near has none."""
    centres, records = clusters
    config = replace(CONFIG, per_class=(1, 8), rounds=(1, 10), spread=0.5)
    prototypes = released(records, config=config)
    assert prototypes.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert prototypes.min_count == config.min_count
    for label in range(3):
        own, counts = prototypes.images.unflatten(0, (3, 8))[label], prototypes.counts.unflatten(0, (3, 8))[label]
        own, counts = own[counts > 0.5], counts[counts > 0.5]
        distance = (own[:, None] - centres[label]).square().mean(dim=(2, 3, 4)).sqrt()
        assert distance.min(1).values.max() < 0.04
        found = torch.zeros(2).index_add_(0, distance.argmin(1), counts)
        torch.testing.assert_close(found, torch.tensor(SIZES[label]).float(), rtol=0, atol=0.5)


def test_counts_sum_to_the_class_sizes_whatever_the_assignment(clusters):
    _, records = clusters
    config = PrototypesConfig(per_class=(2, 8), rounds=(2, 1), shares=(0.5, 0.5))
    counts = released(records, config=config).counts.reshape(3, 8)
    torch.testing.assert_close(counts.sum(1), torch.tensor(SIZES).sum(1).float(), rtol=0, atol=0.5)


def test_it_charges_its_plans_before_it_releases_and_stops_where_the_budget_ends(clusters):
    _, records = clusters
    mu = gaussian_mu(2.0, 1e-5)
    ledger = Ledger(2.01, 1e-5)
    prototypes = released(records, mu=mu, ledger=ledger)
    assert ledger.entries == prototype_plans(CONFIG, mu)
    assert ledger.spent() == pytest.approx(2.0, abs=5e-3)
    assert prototypes.images.abs().max() <= 1
    with pytest.raises(BudgetExceeded, match="prototypes, 2 a class"):
        released(records, mu=mu, ledger=Ledger(1.5, 1e-5))


@pytest.mark.parametrize("mu", [0.1, 2.5])
@pytest.mark.parametrize("config", [CONFIG, PrototypesConfig()])
def test_plans_cost_exactly_mu(config, mu):
    plans = prototype_plans(config, mu)
    (event,) = merge_gaussians([plan.event(1) for plan in plans])
    assert event.noise_multiplier == pytest.approx(1 / mu, rel=1e-9)
    for plan, rounds, share in zip(plans, config.rounds, config.shares, strict=True):
        assert (plan.clip_norm, plan.sampling_prob, plan.num_releases) == (1.0, 1.0, rounds)
        assert rounds / plan.noise_multiplier**2 == pytest.approx(share * mu**2)


def test_children_are_next_to_their_parent(rng):
    centres = torch.rand(2, 3, 1, 8, 8, generator=rng) - 0.5
    children = split(centres, 4, 0.05, rng)
    assert children.shape == (2, 12, 1, 8, 8)
    away = (children.reshape(2, 3, 4, 64) - centres.reshape(2, 3, 1, 64)).square().mean(3).sqrt()
    assert away.max() < 4 * 0.05
    assert math.isclose(away.square().mean().item(), 0.05**2, rel_tol=0.6)


def test_children_of_one_parent_differ(rng):
    """Equal children would never part, since a record pulls the first of them alone."""
    children = split(torch.zeros(1, 2, 1, 8, 8), 4, 0.05, rng).reshape(8, 64)
    assert torch.pdist(children).min() > 0.05


def test_splitting_into_one_changes_nothing(rng):
    centres = torch.rand(2, 3, 1, 8, 8, generator=rng)
    assert split(centres, 1, 0.05, rng) is centres


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rounds": (1, 2)}, "lists of one length"),
        ({"per_class": (1, 4, 6, 64)}, "multiple of the one before"),
        ({"shares": (0.5, 0.5, 0.5, 0.5)}, "must sum to 1"),
        ({"rounds": (1, 0, 1, 1)}, r"prototypes\.rounds=\[1, 0, 1, 1\] must be a list, each in"),
        ({"clip_rms": 0.0}, r"prototypes\.clip_rms=0\.0 must be in"),
        ({"count_share": 1.0}, r"prototypes\.count_share=1\.0 must be in"),
    ],
)
def test_a_section_that_cannot_be_made_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PrototypesConfig(**wrong)
