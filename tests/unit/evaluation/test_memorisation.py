import json

import numpy as np
import pytest
import torch
from scipy.stats import binom

from dpsad.evaluation import memorisation
from dpsad.evaluation.memorisation import CAVEAT, NUM_RENAMINGS, closeness, details, renaming_p_value, verdict


@pytest.fixture(scope="module")
def parts(digits):
    """Training, held-out and further images as pixels: 600, 500, 697."""
    pixels = torch.cat([digits[0][0], digits[1][0]]).flatten(1)
    return pixels[:600], pixels[600:1100], pixels[1100:]


def test_a_planted_memoriser_is_found_with_its_sources(parts):
    train, held_out, _ = parts
    noise = torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    measured = closeness(train[100:400] + 0.02 * noise, train, held_out, seed=0)
    assert measured.train_index.tolist() == list(range(100, 400))
    assert measured.share == 1
    assert measured.p_value == 1 / (1 + NUM_RENAMINGS)
    assert verdict({"pixels": measured, "features": measured})["closer_to_training"] is True


def test_one_copy_in_three_is_enough(parts):
    train, held_out, others = parts
    measured = closeness(torch.cat([train[:350], others]), train, held_out, seed=0)
    assert verdict({"pixels": measured})["closer_to_training"] is True


def test_clean_samples_raise_no_alarm_nor_do_copies_of_held_out_images(parts):
    """The clean samples come from where the others come from: false alarm 1e-3 by the test's own level."""
    train, held_out, others = parts
    clean, contrary = (closeness(samples, train, held_out, seed=0) for samples in (others, held_out))
    assert not verdict({"pixels": clean})["closer_to_training"]
    assert abs(clean.share - clean.expected_share) < 0.1  # about five standard errors
    assert contrary.share == 0
    assert contrary.p_value == 1


def nearest_of_clean_samples(seed, *, num_train=40, num_images=60):
    """Nearest images of 180 samples that lie in six clusters, drawn apart from the images."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(num_images, 2, generator=rng)
    centres = torch.randn(6, 2, generator=rng).repeat_interleave(30, dim=0)
    return torch.cdist(centres + 0.1 * torch.randn(180, 2, generator=rng), images).argmin(dim=1)


def test_p_values_are_uniform_where_nothing_is_memorised(monkeypatch):
    """300 clean generators: at level 0.2, alarms are Binomial(300, 0.2); two-sided at 1e-6 each.

    Taking samples for independent would give more than twice as many.
    """
    monkeypatch.setattr(memorisation, "NUM_RENAMINGS", 499)
    draws = np.random.default_rng(0)
    alarms = sum(
        renaming_p_value(nearest_of_clean_samples(seed), num_train=40, num_images=60, rng=draws) <= 0.2
        for seed in range(300)
    )
    low, high = binom.ppf([1e-6, 1 - 1e-6], 300, 0.2)
    assert low <= alarms <= high


@pytest.mark.parametrize("discount", [0.0, 0.1])
def test_p_value_is_that_of_renaming_images_one_by_one(discount):
    nearest = torch.cat([nearest_of_clean_samples(2), torch.arange(30)])
    draws = np.random.default_rng(1)
    p_value = renaming_p_value(nearest, num_train=40, num_images=60, discount=discount, rng=draws)
    renamed = np.array([(draws.permutation(60)[nearest.numpy()] < 40).sum() for _ in range(20_000)])
    expected = np.mean(renamed >= (nearest < 40).sum().item() - discount * 210)
    assert 0.01 < expected < 0.99, "else the comparison says little"
    # both are means of 20,000 draws: six standard errors of their difference
    assert abs(p_value - expected) < 6 * (2 * expected * (1 - expected) / 20_000) ** 0.5


def test_a_difference_of_the_two_sets_is_no_memorisation_but_copies_still_are():
    """Held-out images from elsewhere: a perfect generator lies closer to the training set, as training images do."""
    rng = torch.Generator().manual_seed(0)
    train, fresh = torch.randn(2, 1500, 3, generator=rng)
    elsewhere = torch.randn(1500, 3, generator=rng) + 0.4
    clean, copying = (closeness(samples, train, elsewhere, seed=0) for samples in (fresh, train[:1000]))
    assert clean.share > clean.expected_share + 0.05
    assert clean.control_share == pytest.approx(clean.share, abs=0.05)
    assert clean.p_value > 0.01
    assert copying.p_value == 1 / (1 + NUM_RENAMINGS)


def test_images_on_both_sides_speak_for_neither(parts):
    """All nearest images are tied: the share is Binomial(600, 1/2) / 600; two-sided, false alarm 2e-6."""
    train = parts[0]
    measured = closeness(train, train, train.flip(0), seed=0)
    low, high = binom.ppf([1e-6, 1 - 1e-6], 600, 0.5) / 600
    assert low <= measured.share <= high
    assert measured.expected_share == 0.5


def test_the_verdict_holds_no_number_about_a_record(parts):
    train, held_out, others = parts
    measured = {"pixels": closeness(others[:50], train, held_out, seed=0)}
    told = verdict(measured)
    assert told == {
        "closer_to_training": False,
        "false_alarm_rate": 1e-3,
        "num_images": 50,
        "spaces": ["pixels"],
        "caveat": CAVEAT,
    }
    kept = details(measured)
    assert json.loads(json.dumps(kept)) == kept
    assert len(kept["pixels"]["train_index"]) == 50
    distance = (others[3] - train[kept["pixels"]["train_index"][3]]).norm().item()
    assert kept["pixels"]["train_distance"][3] == pytest.approx(distance)
