"""DP-MERF's rows, what is released of them, and the generator that learns from it."""

import json
import math
from dataclasses import replace

import pytest
import torch

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.methods import dp_merf as stage
from dpsad.methods.dp_merf import DpMerfConfig, MeanEmbedding, dp_merf, embedding_rows, features_of, squared_distance
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.log import Log
from dpsad.runtime.run_folder import open_run
from students.generator import Generator, GeneratorConfig

CONFIG = DpMerfConfig(num_features=60, count_share=0.05, steps=60, batch_size=40, step_features=20)
SHAPE = (10, 61)


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(150))


def make_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Generator(GeneratorConfig(channels=4, hidden=32), image_shape=(1, 8, 8), num_classes=10)


@pytest.fixture
def features(rng):
    return features_of(CONFIG, (1, 8, 8), rng)


def released(records, features, noise_multiplier=0.0):
    plan = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=noise_multiplier)
    sanitizer = Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0))
    return sanitizer.release(embedding_rows(features, records, CONFIG.count_share), SHAPE)


def test_rows_have_norm_one_and_stand_in_the_block_of_their_class(records, features, monkeypatch):
    monkeypatch.setattr(stage, "CHUNK", 64)
    chunks = list(embedding_rows(features, records, CONFIG.count_share))
    assert [len(chunk.values) for chunk in chunks] == [64, 64, 22]
    torch.testing.assert_close(torch.cat([chunk.values for chunk in chunks]).norm(dim=1), torch.ones(150))
    assert torch.equal(torch.cat([chunk.block for chunk in chunks]), records.labels)


def test_adding_a_record_moves_the_sum_by_exactly_one(records, features):
    """The bound is reached, so the noise is neither too much nor too little; 0 noise, or the same noise."""
    for noise_multiplier in (0.0, 0.7):
        whole = released(records, features, noise_multiplier)
        for index in (0, 7, 149):
            without = released(records.take(torch.arange(150) != index), features, noise_multiplier)
            assert (whole - without).norm().item() == pytest.approx(1, rel=1e-4)
            assert (whole - without).norm(dim=1).count_nonzero() == 1


def test_without_noise_the_release_is_the_mean_embedding(records, features):
    """A slow loop over records, cosine by cosine in double precision."""
    embedding = MeanEmbedding()
    embedding.sums = released(records, features)
    means = embedding.means(CONFIG.count_share, noise=0.0)
    for label in range(10):
        members = [image for image, own in zip(records.images, records.labels, strict=True) if own == label]
        expected = torch.zeros(60, dtype=torch.float64)
        for image in members:
            phases = [float(image.flatten().double() @ w.double()) for w in features.frequencies.T]
            waves = [math.cos(phase) for phase in phases] + [math.sin(phase) for phase in phases]
            expected += torch.tensor(waves, dtype=torch.float64) / math.sqrt(30) / len(members)
        torch.testing.assert_close(means[label].double(), expected, atol=1e-5, rtol=1e-4)


def test_a_class_that_may_be_empty_is_not_blown_up(records, features):
    embedding = MeanEmbedding()
    embedding.sums = torch.full(SHAPE, 1e-3)
    assert embedding.means(CONFIG.count_share, noise=0.5).abs().max() < 1e-3
    assert embedding.means(CONFIG.count_share, noise=0.0).isfinite().all()


def test_the_frequencies_are_public_and_follow_a_public_rule(features):
    """Standard deviation 1 / (length_scale sqrt(values)); two-sided, 30 x 64 draws, 6 standard errors, 2e-9."""
    scale = features.frequencies.std().item() * CONFIG.length_scale * 8
    assert abs(scale - 1) < 6 / math.sqrt(2 * 30 * 64)


def test_the_distance_is_zero_only_where_means_agree(rng):
    embedded = torch.randn(3, 5, 8, generator=rng)
    means = embedded.mean(1)
    assert squared_distance(embedded, means).item() < 1e-12
    assert squared_distance(embedded, means + 0.5).item() == pytest.approx(8 * 0.25, rel=1e-5)


def test_a_gradient_step_lowers_the_distance(features, rng):
    network = make_network()
    noise, labels = torch.randn(40, 8, generator=rng), torch.arange(10).repeat_interleave(4)
    means = torch.randn(10, 60, generator=rng) / 60**0.5

    def distance():
        return squared_distance(features(network(noise, labels)).unflatten(0, (10, 4)), means)

    before = distance()
    before.backward()
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    assert distance().item() < before.item()


@pytest.fixture
def trained(records, features, tmp_path):
    """(steps, **changes) -> (generator, public log lines, sanitizer) after so many steps."""

    def train(steps, name="a", **changes):
        plan = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=0.5)
        sanitizer = Sanitizer(plan, Ledger(10.0, 1e-5), PrivateRandomness(seed=0))
        run = open_run(tmp_path / f"{name} run", CONFIG)
        result = dp_merf(
            replace(CONFIG, steps=steps, **changes),
            generator=make_network(),
            features=features,
            records=records,
            sanitizer=sanitizer,
            rng=torch.Generator().manual_seed(1),
            checkpoint=Checkpoint(tmp_path / f"{name}.checkpoint"),
            log=Log(run, "dp-merf"),
        )
        told = run.path / "metrics.jsonl"
        lines = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
        return result, lines, sanitizer

    return train


def test_the_generator_comes_nearer_to_what_was_released(trained, records, features):
    embedding = MeanEmbedding()
    embedding.sums = released(records, features, 0.5)
    means, labels = embedding.means(CONFIG.count_share, 0.5), torch.arange(10).repeat_interleave(50)
    noise = torch.randn(500, 8, generator=torch.Generator().manual_seed(5))

    def distance(network):
        return squared_distance(features(network(noise, labels)).unflatten(0, (10, 50)), means).item()

    early, late = (distance(trained(steps, str(steps))[0]) for steps in (1, 60))
    assert late < 0.7 * early, "nearly half of the way; the rest is noise"


def test_one_release_is_made_and_charged_however_long_it_trains(trained):
    for steps in (1, 5):
        *_, sanitizer = trained(steps, str(steps))
        assert (sanitizer.num_made, len(sanitizer.ledger.entries)) == (1, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_features": 7}, r"dp_merf\.num_features=7 must be even"),
        ({"step_features": 6000}, r"dp_merf\.step_features=6000 must be between 0"),
        ({"count_share": 1.0}, r"dp_merf\.count_share=1\.0 must be in"),
        ({"length_scale": 0.0}, r"dp_merf\.length_scale=0\.0 must be in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        DpMerfConfig(**wrong)
