"""DP-Kernel's rows, the function that is made of what is released, and the generator that descends to it."""

import json
import math
from dataclasses import replace

import pytest
import torch

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.methods import dp_kernel as stage
from dpsad.methods.dp_kernel import (
    DpKernelConfig,
    KernelMean,
    bases_of,
    discrepancy,
    dp_kernel,
    first_landmarks,
    function_rows,
    kernel_of,
)
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.log import Log
from dpsad.runtime.run_folder import open_run
from students.generator import Generator, GeneratorConfig

CONFIG = DpKernelConfig(
    rounds=2, landmarks=12, length_scales=(0.4, 0.8), nugget=1e-4, count_share=0.05, steps=30, batch_size=40
)
KERNEL = kernel_of(CONFIG, (1, 8, 8))
SHAPE = (10, 13)


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(150))


@pytest.fixture
def landmarks(rng):
    return first_landmarks(120, (1, 8, 8), rng).unflatten(0, (10, -1))


def released(records, landmarks, noise_multiplier=0.0, config=CONFIG):
    plan = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=noise_multiplier)
    sanitizer = Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0))
    bases = bases_of(KERNEL, landmarks, config.nugget)
    return sanitizer.release(function_rows(KERNEL, landmarks, bases, records, config.count_share), SHAPE)


def kernel_by_hand(x, y):
    squared = (x.double() - y.double()).square().sum().item()
    return sum(math.exp(-squared / (2 * (scale * 8) ** 2)) for scale in CONFIG.length_scales) / 2


def test_rows_are_within_the_bound_and_a_record_at_a_landmark_reaches_it(records, landmarks, monkeypatch):
    """Projections are no longer than k(x, .), of norm 1, and as long where x is a landmark."""
    monkeypatch.setattr(stage, "CHUNK", 64)
    landmarks[records.labels[3], 5] = records.images[3].flatten()
    rows = list(function_rows(KERNEL, landmarks, bases_of(KERNEL, landmarks, 1e-6), records, 0.05))
    assert [len(chunk.values) for chunk in rows] == [64, 64, 22]
    assert torch.equal(torch.cat([chunk.block for chunk in rows]), records.labels)
    norms = torch.cat([chunk.values for chunk in rows]).norm(dim=1)
    assert norms.max() <= 1 + 1e-5
    assert norms[3].item() == pytest.approx(1, abs=1e-4)


def test_adding_a_record_moves_the_sum_within_the_bound(records, landmarks):
    landmarks[records.labels[3], 5] = records.images[3].flatten()
    for noise_multiplier in (0.0, 0.7):
        whole = released(records, landmarks, noise_multiplier)
        for index in (0, 3, 149):
            without = released(records.take(torch.arange(150) != index), landmarks, noise_multiplier)
            moved = (whole - without).norm(dim=1)
            assert moved.count_nonzero() == 1
            assert moved.max() <= 1 + 1e-4
            assert index != 3 or moved.max() > 0.99


def test_coordinates_are_values_of_the_kernel_mean_at_landmarks(records, landmarks):
    """Against a slow loop; and independent noise on coordinates is noise of covariance K + nugget on values."""
    bases = bases_of(KERNEL, landmarks, CONFIG.nugget)
    sums = released(records, landmarks)
    values = torch.linalg.solve(bases, sums[:, :-1, None].double() / math.sqrt(0.95))[..., 0]
    for label, place in ((0, 0), (3, 7), (9, 11)):
        own = records.images[records.labels == label].flatten(1)
        expected = sum(kernel_by_hand(image, landmarks[label, place]) for image in own)
        assert values[label, place].item() == pytest.approx(expected, rel=1e-3)
    covariance = torch.linalg.inv(bases) @ torch.linalg.inv(bases).mT
    for first, second in ((0, 0), (2, 9)):
        expected = kernel_by_hand(landmarks[4, first], landmarks[4, second]) + CONFIG.nugget * (first == second)
        assert covariance[4, first, second].item() == pytest.approx(expected, rel=1e-4)


def test_the_function_of_two_rounds_is_the_mean_where_it_was_asked(records, landmarks, rng):
    mean, second = KernelMean(), first_landmarks(120, (1, 8, 8), rng).unflatten(0, (10, -1))
    for places in (landmarks, second):
        mean.landmarks.append(places)
        mean.sums.append(released(records, places))
    places, weights = mean.function(CONFIG, KERNEL, noise=0.0)
    for label, place in ((0, 0), (9, 20)):
        own = records.images[records.labels == label].flatten(1)
        expected = sum(kernel_by_hand(image, places[label, place]) for image in own) / len(own)
        value = (KERNEL(places[label, [place]], places[label]) @ weights[label]).item()
        assert value == pytest.approx(expected, rel=0.02)


def test_noise_alone_gives_next_to_no_function(landmarks, rng):
    mean = KernelMean()
    mean.landmarks.append(landmarks)
    mean.sums.append(5 * torch.randn(SHAPE, generator=rng))
    places, weights = mean.function(CONFIG, KERNEL, noise=5.0)
    assert (KERNEL(places, places) @ weights[..., None]).abs().max() < 0.2


def test_the_discrepancy_is_that_of_a_slow_loop_and_least_at_the_mean_s_own_images(records, landmarks):
    images = torch.stack([records.images[records.labels == label][:3].flatten(1) for label in range(10)])
    weights = torch.linspace(-1, 1, 120).reshape(10, 12)
    expected = 0.0
    for label in range(10):
        own = [kernel_by_hand(images[label, i], images[label, j]) for i in range(3) for j in range(3) if i != j]
        across = [
            kernel_by_hand(image, place) * weight.item()
            for image in images[label]
            for place, weight in zip(landmarks[label], weights[label], strict=True)
        ]
        expected += (sum(own) / 6 - 2 * sum(across) / 3) / 10
    assert discrepancy(KERNEL, images, landmarks, weights).item() == pytest.approx(expected, rel=1e-4)
    thirds = torch.full((10, 3), 1 / 3)
    at_home = discrepancy(KERNEL, images, images, thirds)
    assert at_home < discrepancy(KERNEL, images.roll(1, dims=0), images, thirds)


@pytest.fixture
def trained(records, tmp_path):
    """(**changes) -> (public log lines, sanitizer) after training."""

    def train(name="a", **changes):
        config = replace(CONFIG, **changes)
        plan = ReleasePlan(
            purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=0.5, num_releases=config.rounds
        )
        sanitizer = Sanitizer(plan, Ledger(50.0, 1e-5), PrivateRandomness(seed=0))
        run = open_run(tmp_path / f"{name} run", config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Generator(GeneratorConfig(channels=4, hidden=32), image_shape=(1, 8, 8), num_classes=10)
        dp_kernel(
            config,
            generator=network,
            kernel=KERNEL,
            records=records,
            sanitizer=sanitizer,
            rng=torch.Generator().manual_seed(1),
            checkpoint=Checkpoint(tmp_path / f"{name}.checkpoint"),
            log=Log(run, "dp-kernel"),
        )
        told = run.path / "metrics.jsonl"
        return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else [], sanitizer

    return train


def test_the_generator_comes_nearer_to_what_was_released(trained):
    lines, _ = trained(steps=100)
    found = [line["discrepancy"] for line in lines if "discrepancy" in line]
    assert len(found) == 4
    assert found[-1] < found[0] - 0.05


def test_as_many_releases_are_made_as_rounds_however_long_it_trains(trained):
    for steps in (1, 5):
        _, sanitizer = trained(str(steps), steps=steps)
        assert (sanitizer.num_made, len(sanitizer.ledger.entries)) == (2, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"length_scales": ()}, r"dp_kernel\.length_scales=\[\] must name"),
        ({"length_scales": (0.0,)}, r"dp_kernel\.length_scales=\[0\.0\] must be a list"),
        ({"nugget": 0.0}, r"dp_kernel\.nugget=0\.0 must be in"),
        ({"count_share": 1.0}, r"dp_kernel\.count_share=1\.0 must be in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        DpKernelConfig(**wrong)
