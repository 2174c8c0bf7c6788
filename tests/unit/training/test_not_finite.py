"""A learning rate that is too high stops a stage before what it made goes on, and its checkpoint stays finite."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from discriminators.choice import DiscriminatorConfig, new_discriminator
from discriminators.shard_wasserstein import ShardWassersteinCritics
from discriminators.wasserstein import WassersteinCritic
from dpsad.data.config import DataConfig
from dpsad.data.shards import split_into_shards
from dpsad.data.sources import load_images
from dpsad.methods.dp_merf import DpMerfConfig, dp_merf, features_of
from dpsad.methods.dp_sad.distillation import StudentConfig, distill
from dpsad.methods.dp_sad.shard_teachers import ShardsConfig, shard_teachers
from dpsad.methods.dp_sad.teacher import TeacherConfig
from dpsad.methods.gs_wgan import GsWganConfig, gs_wgan
from dpsad.networks.autoencoder import Autoencoder, AutoencoderConfig
from dpsad.networks.config import NetworkConfig
from dpsad.networks.stacked import Stacked
from dpsad.privacy.clipping import clip_rows
from dpsad.privacy.per_example_gradients import set_gradients
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import load
from dpsad.training import dp_sgd as loop
from dpsad.training.autoencoder import CompressConfig, train_autoencoder
from dpsad.training.batches import Batches, batches_as_they_are
from dpsad.training.denoiser import train_denoiser
from dpsad.training.denoiser_files import denoiser_state, read_denoiser
from dpsad.training.dp_sgd import denoising_rows, dp_sgd
from students.generator import Generator, GeneratorConfig
from teachers.denoiser import DenoiserTeacher

TOO_HIGH = 3e37  # beyond the range of the config, so that two steps are enough
GENERATOR = GeneratorConfig(channels=4, hidden=16)


def too_fast(config, key="learning_rate"):
    """Settings with a rate that no config would allow."""
    config = copy.copy(config)
    object.__setattr__(config, key, TOO_HIGH)
    return config


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(40))


def levels(uniform):
    return (0.1 + uniform).float()


def holds_finite_numbers(state):
    if isinstance(state, torch.Tensor):
        return bool(state.isfinite().all())
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return all(map(holds_finite_numbers, inner))


@pytest.fixture
def stops(context):
    """(train, key, name) -> the error, after a look at what the checkpoint of that name holds."""

    def run(train, key, name):
        with pytest.raises(ValueError, match=f"^{name}: .*became NaN or infinite within .* steps; .*{key}") as caught:
            train()
        saved = load(context.run.checkpoint(name))
        assert holds_finite_numbers(saved["parts"])
        assert f"keeps step {saved['step']}" in str(caught.value)
        return str(caught.value), saved

    return run


def taught(context, denoiser, records, *, learning_rate, draws=None, **more):
    source = batches_as_they_are(records, torch.device("cpu"))

    def draw(num, rng):
        (draws if draws is not None else []).append(num)
        return source.draw(num, rng)

    return train_denoiser(
        "test",
        SimpleNamespace(steps=60, batch_size=2, learning_rate=learning_rate, ema_half_life_images=9, label_dropout=0),
        denoiser=denoiser,
        num_classes=3,
        batches=Batches(Provenance.RELEASED, lambda num, rng: (draw(num, rng)[0], torch.zeros(num, dtype=torch.int64))),
        levels=levels,
        rng=context.rng("test"),
        checkpoint=context.checkpoint("test"),
        log=context.log("test"),
        precision="float32",
        **more,
    )


def test_a_denoiser_stops_within_fifty_steps(context, make_denoiser, records, stops):
    draws = []

    def train():
        taught(context, make_denoiser(), records, learning_rate=TOO_HIGH, draws=draws)

    said, _ = stops(train, "learning_rate", "test")
    assert len(draws) <= 50
    assert "remove" in said, "nothing was spent, so the stage can be begun again"


def test_a_denoiser_that_stays_finite_is_left_alone(context, make_denoiser, records):
    assert holds_finite_numbers(taught(context, make_denoiser(), records, learning_rate=1e-4).state_dict())


def test_an_autoencoder_stops(context, records, stops):
    def train():
        train_autoencoder(
            too_fast(CompressConfig(steps=4, batch_size=4)),
            autoencoder=Autoencoder(AutoencoderConfig(channels=8, multipliers=(1,)), (1, 8, 8)),
            batches=batches_as_they_are(records, torch.device("cpu")),
            rng=context.rng("test"),
            checkpoint=context.checkpoint("compress"),
            log=context.log("compress"),
        )

    stops(train, "compress.learning_rate", "compress")


def test_gradient_steps_stop_before_the_next_release(context, make_denoiser, records, stops, monkeypatch):
    """What was spent is on disk, and no more was released. Released sums are finite, so the test breaks one."""
    sums = iter([1.0, 1.0, math.nan, 1.0, 1.0])
    monkeypatch.setattr(loop, "set_gradients", lambda model, mean: set_gradients(model, mean * next(sums)))
    plan = ReleasePlan(purpose="t", unit=Unit.RECORD, clip_norm=1.0, sampling_prob=0.2, num_releases=5)
    sanitizer = Sanitizer(plan, context.ledger, context.randomness)
    denoiser = make_denoiser()

    def train():
        dp_sgd(
            "refine",
            model=denoiser,
            rows=denoising_rows(
                denoiser, noise_multiplicity=1, levels=levels, label_dropout=0.0, no_label=3,
                randomness=context.randomness, precision="float32",
            ),
            records=replace(records, labels=records.labels % 3, class_names=("a", "b", "c")),
            sanitizer=sanitizer,
            expected_batch_size=8.0,
            learning_rate=1e-3,
            ema_half_life_steps=2.0,
            chunk_size=8,
            randomness=context.randomness,
            checkpoint=context.checkpoint("refine", every_seconds=0),
            log=context.log("refine"),
        )  # fmt: skip

    said, saved = stops(train, "refine.learning_rate", "refine")
    assert "pass another run=" in said, "what was spent must not be removed"
    assert saved["parts"]["sanitizer"]["charged"]
    assert saved["parts"]["sanitizer"]["num_made"] == 2
    assert sanitizer.num_made == 3


@pytest.mark.parametrize("formal", [True, False])
def test_distillation_stops(context, make_denoiser, perturbed, records, stops, formal):
    """Also where the paper's clipping turns a discriminator's NaN into a zero row."""
    teacher, provenance = make_denoiser(), Provenance.RELEASED if formal else Provenance.PRIVATE
    teacher.provenance = provenance
    discriminator = perturbed(new_discriminator(DiscriminatorConfig(channels=8), image_channels=1, num_classes=3))
    source = batches_as_they_are(records, torch.device("cpu"))

    def train():
        distill(
            too_fast(StudentConfig(steps=4, batch_size=4)),
            student=make_denoiser(),
            teacher=DenoiserTeacher(teacher),
            discriminator=discriminator,
            batches=Batches(provenance, lambda num, rng: (source.draw(num, rng)[0], torch.zeros(num).long())),
            levels=lambda num, rng: torch.ones(1, num),
            sanitize=None if formal else lambda gradient: clip_rows(gradient, 1.0),
            rng=context.rng("distill"),
            checkpoint=context.checkpoint("distill"),
            log=context.log("distill"),
            precision="float32",
        )

    said, _ = stops(train, "student.learning_rate", "distill")
    assert "discriminator" in said


def test_dp_merf_s_generator_stops(context, records, stops):
    config = DpMerfConfig(num_features=20, steps=4, batch_size=10, step_features=0, generator=GENERATOR)
    plan = ReleasePlan(purpose="t", unit=Unit.RECORD, clip_norm=1.0)

    def train():
        dp_merf(
            too_fast(config),
            generator=Generator(GENERATOR, image_shape=(1, 8, 8), num_classes=10),
            features=features_of(config, (1, 8, 8), context.rng("features")),
            records=records,
            sanitizer=Sanitizer(plan, context.ledger, context.randomness),
            rng=context.rng("test"),
            checkpoint=context.checkpoint("dp_merf"),
            log=context.log("dp-merf"),
        )

    stops(train, "dp_merf.learning_rate", "dp_merf")


def wgan(context, records, config):
    plan = ReleasePlan(purpose="t", unit=Unit.SHARD, clip_norm=1.0, sampling_prob=0.5, num_releases=config.steps)
    critic = WassersteinCritic(4, image_shape=(1, 8, 8), num_classes=10)
    return gs_wgan(
        config,
        generator=Generator(GENERATOR, image_shape=(1, 8, 8), num_classes=10),
        critics=ShardWassersteinCritics(Stacked([critic] * 4), learning_rate=config.critic_learning_rate),
        records=records,
        shards=split_into_shards(records.ids, 4, key=b"test"),
        sanitizer=Sanitizer(plan, context.ledger, context.randomness),
        randomness=PrivateRandomness(seed=2),
        rng=context.rng("gs-wgan"),
        checkpoint=context.checkpoint("gs_wgan", every_seconds=0),
        log=context.log("gs-wgan"),
    )


WGAN = GsWganConfig(
    num_shards=4, shards_per_step=2, steps=5, batch_size=4, warm_steps=1, critic_steps=1, critic_batch_size=2,
    generator=GENERATOR,
)  # fmt: skip


def test_gs_wgan_s_generator_stops(context, records, stops):
    stops(lambda: wgan(context, records, too_fast(WGAN)), "gs_wgan.learning_rate", "gs_wgan")


def test_nobody_sees_that_private_critics_failed(context, records):
    """Whether they do depends on records, so a formal run goes on: their rows count as zero."""
    generator = wgan(context, records, too_fast(WGAN, "critic_learning_rate"))
    assert not holds_finite_numbers(load(context.run.checkpoint("gs_wgan"))["parts"]["critics"])
    assert holds_finite_numbers(generator.state_dict())


def test_nobody_sees_that_a_shard_s_teacher_failed(context, records):
    config = ShardsConfig(
        num_shards=3, teacher="denoisers", steps=3, batch_size=2, network=NetworkConfig(channels=4, multipliers=(1,))
    )
    shards = split_into_shards(records.ids, 3, key=b"test")
    (failing,) = (index for index in range(3) if 0 in shards.members[index].tolist())
    own = torch.isin(torch.arange(len(records)), shards.members[failing])[:, None, None, None]
    broken = replace(records, images=torch.where(own, math.nan, records.images))
    teachers = shard_teachers(config, TeacherConfig(), context, broken, shards)
    answers = teachers.denoise(torch.zeros(2, 1, 8, 8), torch.ones(2), torch.zeros(2, dtype=torch.int64))
    assert [bool(answer.isfinite().any()) for answer in answers] == [index != failing for index in range(3)]


def test_a_denoiser_of_nan_is_not_taken_up(context, make_denoiser):
    denoiser, path = make_denoiser(), context.run.teacher
    next(denoiser.parameters()).data.view(-1)[3] = math.nan
    subject = SimpleNamespace(state_dict=lambda: {"image_shape": [1, 8, 8], "class_names": ["a", "b", "c"]})
    torch.save(denoiser_state(denoiser, NetworkConfig(channels=8), subject), path)
    with pytest.raises(ValueError, match=r"teacher\.pt has weights that are NaN or infinite"):
        read_denoiser(path, NetworkConfig(channels=8), context)
