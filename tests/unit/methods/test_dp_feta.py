"""DP-FETA's central images, whose records join each on their own, and the budget that its warm-ups leave."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.methods import dp_feta, feta_pro
from dpsad.methods.dp_feta import DpFetaConfig, DpFetaSettings, central_images, central_plan, pooled
from dpsad.methods.dp_sgd_denoiser import BaselineConfig
from dpsad.methods.feta_pro import FetaProConfig, FetaProSettings, images_of
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.runtime.context import Context
from dpsad.runtime.log import LogConfig
from dpsad.runtime.run_folder import Run
from students.generator import Generator, GeneratorConfig

CONFIG = DpFetaConfig(central_images=3, sampling_prob=1.0, count_share=0.1)
BASELINE = BaselineConfig(steps=4, batch_size=100)


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(150))


@pytest.fixture
def context(records, tmp_path, monkeypatch):
    """A run that may spend without end, whose central images have no noise."""
    noiseless = replace(central_plan(CONFIG, "dp-feta"), noise_multiplier=0.0)
    monkeypatch.setattr(
        dp_feta,
        "central_plan",
        lambda config, _: replace(noiseless, sampling_prob=config.sampling_prob, num_releases=config.central_images),
    )
    (tmp_path / "run" / "private").mkdir(parents=True)
    return Context(
        run=Run(Path(tmp_path / "run")),
        device=torch.device("cpu"),
        precision="float32",
        seed=0,
        ledger=Ledger(math.inf, 1e-5),
        randomness=PrivateRandomness(seed=0),
        stated_num_records=150,
        load_records=lambda: records,
        load_public=lambda: records,
        log_config=LogConfig(),
        say=lambda line: None,
    )


def test_pooling_looks_at_one_image_and_stays_in_range(rng):
    images = torch.rand(3, 1, 5, 4, generator=rng) * 2 - 1
    small = pooled(images, 2)
    assert small.shape == (3, 1, 3, 2)
    assert small[1, 0, 0, 0].item() == pytest.approx(images[1, 0, :2, :2].mean().item(), abs=1e-6)
    assert small[1, 0, 2, 1].item() == pytest.approx(images[1, 0, 4:, 2:].mean().item(), abs=1e-6)
    other = images.clone()
    other[0] = -1
    assert torch.equal(pooled(other, 2)[1:], small[1:])


def test_without_noise_and_sampling_central_images_are_class_means(records, context):
    central = central_images(CONFIG, context, records, "dp-feta")
    assert central.images.shape == (30, 1, 8, 8)
    assert central.labels.tolist() == list(range(10)) * 3
    assert central.provenance is Provenance.RELEASED
    for label in (0, 7):
        expected = pooled(records.images[records.labels == label], 2).mean(0)
        enlarged = F.interpolate(expected[None], size=(8, 8), mode="bilinear")[0]
        for image in central.images[central.labels == label]:
            torch.testing.assert_close(image, enlarged, atol=1e-4, rtol=1e-3)


def test_every_release_is_of_its_own_poisson_sample(records, context, monkeypatch):
    """Sizes spread as a binomial's; a fixed batch, or one that all releases share, would not."""
    sizes, image_rows = [], dp_feta.image_rows
    monkeypatch.setattr(dp_feta, "image_rows", lambda some, share: sizes.append(len(some)) or image_rows(some, share))
    config = replace(CONFIG, sampling_prob=0.3, central_images=40)
    central_images(config, context, records, "dp-feta")
    assert len(sizes) == 40
    mean, variance = torch.tensor(sizes).double().mean().item(), torch.tensor(sizes).double().var().item()
    assert abs(mean - 45) < 6 * math.sqrt(31.5 / 40)
    assert 31.5 / 3 < variance < 31.5 * 3


def test_central_images_are_released_once(records, context, monkeypatch):
    first = central_images(CONFIG, context, records, "dp-feta")
    monkeypatch.setattr(dp_feta, "image_rows", None)  # nobody needs it again
    again = central_images(CONFIG, replace(context, ledger=Ledger(math.inf, 1e-5)), records, "dp-feta")
    assert torch.equal(first.images, again.images)
    with pytest.raises(ValueError, match="begun with other settings"):
        central_images(replace(CONFIG, pool=1), context, records, "dp-feta")


@pytest.mark.parametrize(
    ("plans", "settings", "purposes"),
    [
        (dp_feta.plans, DpFetaSettings(baseline=BASELINE), ["dp-feta, central images", "dp-feta, gradient rows"]),
        (
            feta_pro.plans,
            FetaProSettings(baseline=BASELINE),
            ["feta-pro, central images", "feta-pro, random features", "feta-pro, gradient rows"],
        ),
    ],
    ids=["dp-feta", "feta-pro"],
)
def test_warm_ups_have_the_noise_they_are_told_and_gradients_the_rest(plans, settings, purposes):
    planned, ledger = plans(settings, Ledger(2.0, 1e-5), 1000), Ledger(2.0, 1e-5)
    assert [plan.purpose for plan in planned] == purposes
    assert planned[0].noise_multiplier == 5.0
    assert (planned[0].sampling_prob, planned[0].num_releases) == (0.1, 5)
    for plan in planned:
        ledger.charge(plan)
    assert 1.9 < ledger.spent() <= 2.0
    assert planned[-1].noise_multiplier > Ledger(2.0, 1e-5).calibrate(planned[-1]).noise_multiplier


def test_a_warm_up_that_takes_the_whole_budget_is_refused():
    greedy = FetaProSettings(feta_pro=FetaProConfig(noise_multiplier=0.1), baseline=BASELINE)
    with pytest.raises(ValueError, match="epsilon"):
        feta_pro.plans(greedy, Ledger(1.0, 1e-5), 1000)


def test_the_second_warm_up_sees_a_released_generator_s_images_alone(rng):
    generator = Generator(GeneratorConfig(channels=4, hidden=16), image_shape=(1, 8, 8), num_classes=3)
    generator.provenance = Provenance.RELEASED
    batches = images_of(generator, 3)
    images, labels = batches.draw(60, rng)
    assert batches.provenance is Provenance.RELEASED
    assert set(labels.tolist()) == {0, 1, 2}
    assert images.shape == (60, 1, 8, 8)
    assert not images.requires_grad


def test_the_plan_is_of_sampled_records():
    plan = central_plan(DpFetaConfig(), "dp-feta")
    assert (plan.sampling_prob, plan.clip_norm, plan.unit.value) == (0.1, 1.0, "record")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DpFetaConfig(pool=0), r"dp_feta\.pool=0 must be"),
        (lambda: DpFetaConfig(sampling_prob=1.5), r"dp_feta\.sampling_prob=1\.5 must be"),
        (lambda: FetaProConfig(noise_multiplier=0.0), r"feta_pro\.noise_multiplier=0\.0 must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_more_pixels_than_there_are_are_refused_before_the_first_charge(records):
    subject = dp_feta.Subject.of(records)
    assert dp_feta.rehearse(DpFetaSettings(dp_feta=DpFetaConfig(pool=8), baseline=BASELINE), subject, 150).held
    with pytest.raises(ValueError, match=r"dp_feta\.pool=9 is more than the 8 pixels"):
        dp_feta.rehearse(DpFetaSettings(dp_feta=DpFetaConfig(pool=9), baseline=BASELINE), subject, 150)
