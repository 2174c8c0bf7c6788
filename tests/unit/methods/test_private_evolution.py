"""Private evolution's votes, who survives by them, and what is released in the end."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from dpsad.data.config import DataConfig
from dpsad.data.records import Subject
from dpsad.data.sources import load_images
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods import private_evolution as stage
from dpsad.methods.private_evolution import (
    PrivateEvolutionConfig,
    Settings,
    api_of,
    embedding_of,
    nothing_yet,
    private_evolution,
    vote_rows,
    votes_of,
)
from dpsad.methods.public_denoiser import PretrainConfig
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint
from students.few_step import SamplerConfig

NUM = 6
CONFIG = PrivateEvolutionConfig(rounds=4, population=NUM, first_level=1.0, last_level=0.1)
PIXELS = embedding_of("pixels", (1, 8, 8), torch.device("cpu"))


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(150))


@pytest.fixture
def candidates(rng):
    return torch.rand(10, NUM, 64, generator=rng) * 2 - 1


def sanitizer_of(noise_multiplier, num_releases=1):
    plan = ReleasePlan(
        purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=noise_multiplier, num_releases=num_releases
    )
    return Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0))


def released(records, candidates, noise_multiplier=0.0):
    return sanitizer_of(noise_multiplier).release(vote_rows(records, candidates, PIXELS), (10 * NUM, 1))


def test_votes_are_those_of_a_slow_loop(records, candidates, monkeypatch):
    monkeypatch.setattr(stage, "CHUNK", 64)
    expected = torch.zeros(10 * NUM)
    for image, label in zip(records.images, records.labels.tolist(), strict=True):
        distances = [(image.flatten().double() - other.double()).norm().item() for other in candidates[label]]
        expected[label * NUM + distances.index(min(distances))] += 1
    torch.testing.assert_close(released(records, candidates)[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_a_record_has_one_vote_whatever_it_is(records, candidates):
    """It reaches the bound, so the noise is neither too much nor too little."""
    odd = replace(records, images=records.images.clone())
    odd.images[3], odd.images[7] = 1.0, float("nan")
    for noise_multiplier in (0.0, 0.7):
        whole = released(odd, candidates, noise_multiplier)
        for index in (0, 3, 7, 149):
            moved = whole - released(odd.take(torch.arange(150) != index), candidates, noise_multiplier)
            assert moved.count_nonzero() == 1
            assert moved.max().item() == pytest.approx(1, rel=1e-4)


def test_votes_below_the_threshold_count_as_none():
    votes = votes_of(torch.tensor([[5.0], [1.0], [-4.0]]), threshold=2.0, noise=1.5)
    assert votes.tolist() == [2.0, -2.0, -7.0]
    model = nothing_yet(Settings(private_evolution=CONFIG), Subject((1, 8, 8), ("a", "b")))
    counts = torch.cat([votes, torch.full((9,), -1.0)])
    model.load_state_dict({**model.state_dict(), "counts": counts})
    uniform = torch.linspace(0, 0.999, 30)
    assert set(model.prototypes().choose(torch.zeros(30).long(), uniform).tolist()) == {0}
    assert set(model.prototypes().choose(torch.ones(30).long(), uniform).tolist()) == set(range(6, 12)), "none, so all"


def test_levels_fall_from_the_first_variation_to_the_last():
    assert [CONFIG.level(round_) for round_ in (1, 2, 3)] == pytest.approx([1.0, 0.1**0.5, 0.1])
    assert replace(CONFIG, rounds=2).level(1) == 1.0


@pytest.fixture
def evolved(records, tmp_path):
    """(noise multiplier, **changes) -> (model, sanitizer, images of each round) of a run whose api adds noise."""

    def evolve(noise_multiplier=0.1, name="a", **changes):
        config, rng, seen = replace(CONFIG, **changes), torch.Generator().manual_seed(1), []

        def propose(num):
            return torch.rand(num, 1, 8, 8, generator=rng) * 2 - 1

        def vary(images, level):
            seen.append((images, level))
            return (images + 0.3 * level * torch.randn(images.shape, generator=rng)).clamp(-1, 1)

        sanitizer = sanitizer_of(noise_multiplier, config.rounds)
        model = private_evolution(
            config,
            model=nothing_yet(Settings(private_evolution=config), Subject.of(records)),
            propose=propose,
            vary=vary,
            embed=PIXELS,
            records=records,
            sanitizer=sanitizer,
            rng=rng,
            checkpoint=Checkpoint(tmp_path / f"{name}.checkpoint"),
        )
        return model, sanitizer, seen

    return evolve


def from_nearest(images, records):
    own = images.flatten(1).unflatten(0, (10, -1))
    rows = zip(records.images, records.labels.tolist(), strict=True)
    return sum(torch.cdist(image.flatten()[None], own[label]).min().item() for image, label in rows) / len(records)


def test_a_population_comes_nearer_to_the_records(evolved, records):
    model, sanitizer, seen = evolved(rounds=12)
    assert (sanitizer.num_made, len(sanitizer.ledger.entries)) == (12, 1)
    assert [level for _, level in seen] == pytest.approx([10 ** (-place / 10) for place in range(11)])
    assert model.provenance is Provenance.RELEASED
    assert from_nearest(model.images, records) < 0.9 * from_nearest(seen[0][0], records)
    assert model.counts.unflatten(0, (10, NUM)).clamp(min=0).sum(1).min() > 0


def test_with_lookahead_variations_vote_and_the_images_stay(evolved):
    _, sanitizer, seen = evolved(lookahead=3, rounds=2)
    assert sanitizer.num_made == 2
    assert len(seen) == 2 * 3 + 1


class Grey(nn.Module):
    """Predicts one grey image, whatever it is shown; notes what it was told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def forward(self, x, noise_embedding, labels):
        self.told.append(labels)
        return torch.full_like(x, 0.25)


def test_the_api_makes_images_without_labels_and_varies_given_ones(monkeypatch):
    monkeypatch.setattr(stage, "AT_ONCE", 4)
    network, rng = Grey(), torch.Generator().manual_seed(0)
    propose, vary = api_of(Denoiser(network), Subject((1, 8, 8), ("a", "b")), SamplerConfig(guidance=2.0), 3, rng)
    made = propose(6)
    assert made.shape == (6, 1, 8, 8)
    assert made.abs().max() <= 1
    assert {int(label) for labels in network.told for label in labels} == {2}, "no label"
    start = torch.full((6, 1, 8, 8), -0.5)
    near, far = vary(start, 0.05), vary(start, 5.0)
    assert (near - start).abs().mean() < 0.1 < (far - start).abs().mean()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": "inception"}, r"private_evolution\.features='inception' must be one of"),
        ({"last_level": 9.0}, r"private_evolution\.last_level=9\.0 must be at most"),
        ({"rounds": 0}, r"private_evolution\.rounds=0 must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PrivateEvolutionConfig(**wrong)


def test_a_public_model_that_knows_labelled_images_alone_is_refused():
    with pytest.raises(ValueError, match=r"pretrain\.label_dropout=0 teaches"):
        Settings(pretrain=PretrainConfig(label_dropout=0.0))
