"""PrivImage's histogram: the bound on a record's votes, and which public classes are chosen by it."""

import math
from dataclasses import replace

import pytest
import torch

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.methods import privimage as method
from dpsad.methods.dp_sgd_denoiser import BaselineConfig
from dpsad.methods.privimage import (
    PrivImageConfig,
    PrivImageSettings,
    chosen_classes,
    plans,
    selected_images,
    semantic_rows,
)
from dpsad.methods.public_denoiser import PretrainConfig
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(150))


def classify(images):
    """Logits of 16 "public classes": brightness of rows and columns, no two the same."""
    return torch.cat([images.mean((1, 2)), images.mean((1, 3))], dim=1) + torch.arange(16) * 1e-3


def released(records, words, noise_multiplier=0.0):
    plan = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=noise_multiplier)
    sanitizer = Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0))
    return sanitizer.release(semantic_rows(records, classify, words, CPU), (10, 16))


@pytest.mark.parametrize("words", [1, 3])
def test_adding_a_record_moves_the_histogram_by_exactly_one(records, words):
    for noise_multiplier in (0.0, 0.7):
        whole = released(records, words, noise_multiplier)
        for index in (0, 7, 149):
            moved = whole - released(records.take(torch.arange(150) != index), words, noise_multiplier)
            assert moved.norm().item() == pytest.approx(1, rel=1e-4)
            assert moved.count_nonzero() == words


def test_votes_are_those_of_a_slow_loop(records, monkeypatch):
    monkeypatch.setattr(method, "AT_ONCE", 64)
    expected = torch.zeros(10, 16)
    for image, label in zip(records.images, records.labels.tolist(), strict=True):
        logits = classify(image[None])[0].tolist()
        for word in sorted(range(16), key=lambda place: -logits[place])[:3]:
            expected[label, word] += 3**-0.5
    torch.testing.assert_close(released(records, 3), expected, rtol=1e-4, atol=1e-3)


def test_the_most_common_pairs_are_chosen_first_and_no_public_class_twice():
    histogram = torch.tensor([[9.0, 8.0, 1.0, 0.0], [10.0, 5.0, 2.0, -1.0]])
    assert chosen_classes(histogram, 1).tolist() == [1, 0, -1, -1]
    assert chosen_classes(histogram, 2).tolist() == [1, 0, 1, 0]
    assert chosen_classes(-histogram, 1).tolist() == [-1, -1, 0, 1]


def test_chosen_images_take_the_names_of_the_records_classes(records):
    chosen = torch.tensor([-1, 1, -1, 0, *[-1] * 6])
    images = selected_images(records, chosen, ("a", "b"))
    assert (images.class_names, images.labels.bincount().tolist()) == (
        ("a", "b"), [int((records.labels == 3).sum()), int((records.labels == 1).sum())],
    )  # fmt: skip
    assert torch.equal(images.images[images.labels == 1], records.images[records.labels == 1])


def test_the_histogram_and_the_gradients_share_the_budget():
    settings = PrivImageSettings(
        privimage=PrivImageConfig(noise_multiplier=3.0), baseline=BaselineConfig(steps=4, batch_size=100)
    )
    query, gradients = plans(settings, Ledger(2.0, 1e-5), 1000)
    ledger = Ledger(2.0, 1e-5)
    ledger.charge(query)
    assert query.noise_multiplier == 3.0
    assert ledger.spent() < 1.9
    ledger.charge(gradients)
    assert 1.9 < ledger.spent() <= 2.0
    assert gradients.noise_multiplier > Ledger(2.0, 1e-5).calibrate(gradients).noise_multiplier


def test_a_histogram_that_takes_the_whole_budget_is_refused():
    settings = PrivImageSettings(privimage=PrivImageConfig(noise_multiplier=0.1))
    with pytest.raises(ValueError, match="epsilon"):
        plans(settings, Ledger(1.0, 1e-5), 10_000)


def test_a_pretrained_model_of_another_run_is_refused():
    with pytest.raises(ValueError, match=r"pretrain\.path=a\.pt: method=privimage"):
        PrivImageSettings(pretrain=PretrainConfig(path="a.pt"))


def test_more_classes_than_there_are_public_ones_are_refused(records):
    public = replace(records, class_names=tuple("abcdefghij"))
    subject = method.Subject.of(records)
    method._require_fit(PrivImageConfig(selected=1, words=10), public, subject)
    for wrong in (PrivImageConfig(selected=2), PrivImageConfig(words=11)):
        with pytest.raises(ValueError, match="public classes, of which there are 10"):
            method._require_fit(wrong, public, subject)
