"""Noisy class means: the bound on a record's row, and what is made of the released sum."""

import math
from dataclasses import replace

import pytest
import torch

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.methods import class_means as method
from dpsad.methods.class_means import ClassMeansConfig, image_rows, means_of
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer

SHARE = 0.1
SHAPE = (10, 65)


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(150))


def released(records, noise_multiplier=0.0):
    plan = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=noise_multiplier)
    sanitizer = Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0))
    return sanitizer.release(image_rows(records, SHARE), SHAPE)


def test_adding_a_record_moves_the_sum_by_at_most_the_bound(records):
    """By its own row, in the block of its class; the whitest image there can be reaches the bound, so it is tight."""
    white = replace(records, images=records.images.clone())
    white.images[3] = 1.0
    for noise_multiplier in (0.0, 0.7):
        whole = released(white, noise_multiplier)
        for index in (0, 3, 149):
            moved = whole - released(white.take(torch.arange(150) != index), noise_multiplier)
            assert moved.norm(dim=1).count_nonzero() == 1
            assert moved[white.labels[index]].norm() <= 1 + 1e-4
            if index == 3:
                assert moved.norm().item() == pytest.approx(1, rel=1e-4)


def test_rows_need_no_clipping(records):
    """The whitest image has norm 1, and no other more, so that clipping to 1 biases nothing."""
    images = torch.cat([records.images, torch.ones(1, 1, 8, 8), -torch.ones(1, 1, 8, 8)])
    extreme = replace(records, images=images, labels=torch.zeros(152, dtype=torch.int64), ids=(*records.ids, "a", "b"))
    norms = torch.cat([chunk.values for chunk in image_rows(extreme, SHARE)]).norm(dim=1)
    assert norms.max().item() == pytest.approx(1, rel=1e-5)
    torch.testing.assert_close(norms[-2:], torch.ones(2))


def test_rows_in_chunks_are_the_rows(records, monkeypatch):
    whole = released(records)
    monkeypatch.setattr(method, "CHUNK", 64)
    assert [len(chunk.values) for chunk in image_rows(records, SHARE)] == [64, 64, 22]
    torch.testing.assert_close(released(records), whole)


def test_without_noise_the_means_are_the_means(records):
    """A slow loop over classes, in double precision."""
    means, counts = means_of(released(records), SHARE, noise=0.0)
    for label in range(10):
        members = records.images[records.labels == label].double()
        assert counts[label].item() == pytest.approx(len(members), rel=1e-4)
        torch.testing.assert_close(means[label].double(), members.mean(0).flatten(), atol=1e-5, rtol=1e-4)


def test_a_class_that_may_be_empty_is_grey_and_not_blown_up():
    means, _ = means_of(torch.full(SHAPE, 1e-3), SHARE, noise=0.5)
    assert means.abs().max() < 1e-2
    assert means_of(torch.zeros(SHAPE), SHARE, noise=0.0)[0].isfinite().all()


def test_the_plan_spends_the_budget_whatever_the_number_of_records():
    ledger = Ledger(2.0, 1e-5)
    (plan,) = method.plans(method.Settings(), ledger, 7)
    assert plan == method.plans(method.Settings(), ledger, 7_000)[0]
    ledger.charge(plan)
    assert 1.9 < ledger.spent() <= 2.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_leaves_nothing_is_refused(share):
    with pytest.raises(ValueError, match=f"class_means.count_share={share} must be in"):
        ClassMeansConfig(count_share=share)
