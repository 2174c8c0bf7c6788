"""Matching: what class means cost, that they are right, and that images are drawn to them."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.methods.dp_sad.guide import GuideConfig
from dpsad.methods.dp_sad.matching import (
    COUNT_SHARE,
    ClassMeans,
    Matching,
    MatchingConfig,
    Seen,
    matching_of,
    matching_plan,
    mean_rows,
    release_class_means,
    seen_of,
)
from dpsad.methods.dp_sad.release_plans import plans
from dpsad.methods.dp_sad.settings import DpSadSettings, RefineConfig
from dpsad.methods.dp_sad.shorten import ShortenConfig
from dpsad.networks.features.convolutional import Convolutional
from dpsad.networks.features.layers import answers_of
from dpsad.networks.features.whitening import whitening_of
from dpsad.privacy.accounting import merge_gaussians
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.provenance import Provenance
from dpsad.runtime.ranks import ALONE
from students.guide import Guide

MATCHED = {"guide": GuideConfig(share=0.2), "shorten": ShortenConfig(steps=5)}


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train")


@pytest.fixture(scope="module")
def guide(records):
    """Of random features, whitened by test images; it has learned nothing of classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = Convolutional(records.image_shape)
    test = load_images(DataConfig(), "test")
    with torch.no_grad():
        guide = Guide([features], [whitening_of(features(test.images), 20, floor=0.01)], 10).eval()
    guide.provenance = Provenance.RELEASED
    return guide.requires_grad_(False)


@pytest.fixture(scope="module", params=["the guide alone", "its layers, too"])
def seen(request, guide):
    """Features of images, with a network's layers or without."""
    if request.param == "the guide alone":
        return Seen(guide, None)
    samples = load_images(DataConfig(), "test").images
    assert seen_of(guide, samples, layers=False).dim == 20
    seen = seen_of(guide, samples, layers=True)
    assert seen.dim == 20 + seen.layers.dim
    return seen


def test_vectors_have_norm_1_and_are_no_matter_of_their_batch(seen, records):
    with torch.no_grad():
        vectors, logits = seen(records.images[:50])
        alone = torch.cat([seen(image[None])[0] for image in records.images[:3]])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(50))
    torch.testing.assert_close(alone, vectors[:3], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits, seen.guide(records.images[:50]))


def test_layers_are_measured_by_samples(guide):
    """On the samples themselves every unit has mean 0; units that never answer stay at 0."""
    samples = load_images(DataConfig(), "test").images
    layers = seen_of(guide, samples, layers=True).layers
    for answers, mean, spread in zip(answers_of(layers.trunk, samples), layers.means, layers.spreads, strict=True):
        standard = (answers - mean) / spread
        torch.testing.assert_close(standard.mean(0), torch.zeros(len(mean)), atol=1e-4, rtol=0)
        assert standard.std(0).max() < 1


def test_a_plan_costs_exactly_mu():
    (event,) = merge_gaussians([matching_plan(0.3).event(1)])
    assert event.noise_multiplier == pytest.approx(1 / 0.3, rel=1e-9)


@pytest.mark.parametrize("steps", [0, 4])
def test_a_run_with_matching_costs_what_it_would_without(steps):
    costs = []
    for share in (0.0, 0.2):
        refine = RefineConfig(steps=steps, batch_size=100)
        settings = DpSadSettings(matching=MatchingConfig(share=share), refine=refine, **MATCHED)
        ledger = Ledger(2.0, 1e-5)
        planned = plans(settings, ledger, 1000)
        assert (planned[-1].purpose == "matching, class means of features") == (share > 0)
        costs.append(ledger.planned(planned).spent())
    assert costs[0] == pytest.approx(costs[1], rel=2e-3)
    assert max(costs) <= 2.0


def test_a_record_moves_the_sum_by_one_row_in_the_block_of_its_class(rng):
    vectors, labels = F.normalize(torch.randn(30, 7, generator=rng)), torch.arange(30) % 4
    rows = mean_rows(vectors, labels)
    torch.testing.assert_close(rows.values.norm(dim=1), torch.ones(30))
    assert torch.equal(rows.block, labels)
    means = ClassMeans(4, 7)
    means.sums.index_add_(0, rows.block, rows.values)
    torch.testing.assert_close(means.counts, torch.bincount(labels).float())


def released(seen, context, records, mu=1e5):
    return release_class_means(seen, context, records=records, plan=matching_plan(mu), learned_from="nothing")


def test_means_are_those_of_records_and_are_charged(seen, context, records):
    """With next to no noise; a class of which only five records are there has none."""
    kept = (records.labels != 3) | (torch.cumsum(records.labels == 3, 0) <= 5)
    context = replace(context, ledger=Ledger(math.inf, 1e-5))
    means = released(seen, context, records.take(kept.nonzero().flatten()))
    for label in range(10):
        wanted = seen(records.images[records.labels == label])[0].mean(0)
        torch.testing.assert_close(
            means.means()[label], torch.zeros(seen.dim) if label == 3 else wanted, atol=2e-4, rtol=0
        )
    assert [plan.purpose for plan in context.ledger.entries] == ["matching, class means of features"]


def test_noise_is_as_planned(seen, context, records):
    """Noise of multiplier 50 in 210 sums and more, two-sided; false alarms below 1e-4 together."""
    context = replace(context, ledger=Ledger(math.inf, 1e-5))
    exact = released(seen, context, records).sums
    context.run.checkpoint("matching").unlink()
    noise = (released(seen, context, records, mu=0.02).sums - exact) / 50
    num = noise.numel()
    assert abs(noise.mean().item()) < 4.1 / num**0.5
    assert abs(noise.square().mean().item() - 1) < 4.1 * (2 / num) ** 0.5


def test_nothing_is_released_that_the_budget_does_not_hold(seen, context, records):
    context = replace(context, ledger=Ledger(0.1, 1e-5))
    with pytest.raises(BudgetExceeded):
        released(seen, context, records, mu=1.0)
    assert not context.run.checkpoint("matching").exists()


def test_what_is_released_is_kept_and_not_made_again(seen, context, records):
    context = replace(context, ledger=Ledger(math.inf, 1e-5))
    first = released(seen, context, records, mu=0.5)
    again = released(seen, replace(context, ledger=Ledger(math.inf, 1e-5)), records, mu=0.5)
    assert torch.equal(first.sums, again.sums)


def test_a_gap_of_noise_alone_pulls_at_nothing(seen):
    """Of noise in place of records' means next to nothing is left; without noise all of it is, however small."""
    left = []
    for noise in (0.0, 30.0):
        wanted, late = ClassMeans(10, seen.dim, noise), ClassMeans(10, seen.dim)
        normal = torch.randn(wanted.sums.shape, generator=torch.Generator().manual_seed(0))
        wanted.sums.copy_(30 * normal)
        for means in (wanted, late):
            means.sums[:, -1] = 1000 * COUNT_SHARE**0.5
        gap = Matching(MatchingConfig(), seen, wanted, late)._gap(wanted)
        left.append((gap.norm() / wanted.means().norm()).item())
    assert left[0] == pytest.approx(1)
    assert left[1] < 0.3


def test_images_of_late_are_remembered_and_earlier_ones_forgotten(rng):
    late = ClassMeans(2, 5)
    first, second = (F.normalize(torch.randn(1, 5, generator=rng)) for _ in range(2))
    for vector, times in ((first, 100), (second, 300)):
        for _ in range(times):
            late.follow(vector.expand(20, 5), torch.tensor([0] * 20))
    assert late.counts[0].item() == pytest.approx(300, rel=1e-4)
    assert late.counts[1] == 0
    assert torch.equal(late.means()[1], torch.zeros(5))
    torch.testing.assert_close(late.means()[0], second[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "config", [MatchingConfig(share=0.1), MatchingConfig(class_weight=1.0), MatchingConfig(share=0.1, class_weight=0.2)]
)
def test_images_are_drawn_to_what_is_asked_of_them(seen, records, config):
    """Gradient descent on images of noise: the means of their features come nearer, the guide's doubt falls."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen.guide.classifier.weight.copy_(torch.randn(10, 20))
    labels = torch.arange(200) % 10
    images = (torch.rand(200, *records.image_shape, generator=torch.Generator().manual_seed(1)) - 0.5).requires_grad_()
    wanted = None
    if config.share:
        wanted = ClassMeans(10, seen.dim)
        rows = mean_rows(seen(records.images)[0], records.labels)
        wanted.sums.index_add_(0, rows.block, rows.values)
    matching = matching_of(config, seen, wanted, ALONE, images.detach(), labels)

    def measured():
        vectors, logits = seen(images.detach())
        means = torch.stack([vectors[labels == label].mean(0) for label in range(10)])
        gap = 0.0 if wanted is None else (means - wanted.means()).norm().item()
        return gap, F.cross_entropy(logits, labels).item()

    before = measured()
    optimizer = torch.optim.Adam([images], lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        matching.loss(images, labels).backward()
        optimizer.step()
    gap, doubt = measured()
    assert wanted is None or gap < 0.8 * before[0]
    assert not config.class_weight or doubt < 0.9 * before[1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"guide": GuideConfig()}, r"matching\.share=0\.2 needs the guide's features"),
        ({"shorten": ShortenConfig()}, r"matching\.share=0\.2 needs the guide's features"),
        ({"guide": GuideConfig(share=0.4)}, r"guide\.share=0\.4, matching\.share=0\.2 and privacy\.split=0\.4 leave"),
        (
            {"guide": GuideConfig(share=0.8), "refine": RefineConfig(steps=0)},
            r"guide\.share=0\.8, matching\.share=0\.2 leave nothing of the budget for prototypes",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, why):
    settings = {"privacy": SimpleNamespace(split=0.4), **MATCHED, "matching": MatchingConfig(share=0.2), **changes}
    with pytest.raises(ValueError, match=why):
        DpSadSettings(**settings)
