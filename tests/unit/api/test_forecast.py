"""The forecast against the mechanism itself."""

import math

import pytest
import torch

from dpsad.api.config import Config
from dpsad.api.forecast import LEGIBLE, Forecast, PrototypeNoise, forecast, noise_on_prototypes, remarks_on_counts
from dpsad.api.plan import budget_table
from dpsad.commands.read import read_config
from dpsad.data.config import DataConfig
from dpsad.data.stated import Form, stated_form
from dpsad.methods.dp_sad.prototype_rows import record_rows
from dpsad.methods.dp_sad.prototypes import PrototypesConfig, release_prototypes
from dpsad.methods.dp_sad.release_plans import plans_of_prototypes
from dpsad.methods.dp_sad.settings import RefineConfig
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.randomness import PrivateRandomness
from students.prototypes import Prototypes

CLASSES, SIDE = 3, 32
PRESETS = ("digits", "mnist", "mnist-epsilon1", "fashion-mnist", "cifar10")


def two_images(channels, num, rng):
    """(images, their labels): a class has `num` records of a white image of its own and as many of its negative, so
    that next to nothing is filtered out."""
    white = torch.randint(0, 2, (CLASSES, channels, SIDE, SIDE), generator=rng) - 0.5
    images = torch.stack([white, -white], dim=1)
    return images, images.repeat_interleave(num, dim=1).flatten(0, 1), torch.arange(CLASSES).repeat_interleave(2 * num)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("per_class", [1, 2])
def test_the_noise_on_a_released_prototype_is_as_forecast(channels, per_class, rng):
    """Rejects 0.95 and 1.05 of the forecast; the noise is fixed, and 3,072 numbers or more are within 0.04 of it."""
    num = 400
    config = PrototypesConfig(per_class=(per_class,), rounds=(1,), shares=(1.0,), clip_rms=0.8, spread=0.01)
    form = Form(CLASSES, (channels, SIDE, SIDE))
    centres, images, labels = two_images(channels, num, rng)
    if per_class == 1:  # the first image alone, of as many records
        images, centres = images.abs() * centres[labels, 0].sign(), centres[:, :1]
    settings = Config(prototypes=config, refine=RefineConfig(steps=0)).settings()
    ledger, by_class = Ledger.of(settings.privacy), [(labels == label).nonzero().flatten() for label in range(CLASSES)]
    prototypes = release_prototypes(
        config,
        rows=lambda proposal, bound: record_rows(images, by_class, proposal, bound, config.count_share),
        plans=plans_of_prototypes(settings, ledger, len(images)),
        num_classes=CLASSES,
        image_shape=form.image_shape,
        ledger=ledger,
        randomness=PrivateRandomness(seed=3),
        rng=torch.Generator().manual_seed(0),
    )
    (told,) = noise_on_prototypes(settings, form, len(images))
    made = prototypes.images.unflatten(0, (CLASSES, per_class))
    errors = (made[:, :, None] - centres[:, None]).flatten(3)
    nearest = errors.norm(dim=3).argmin(2)
    error = errors.gather(2, nearest[:, :, None, None].expand(-1, -1, 1, errors.shape[3]))
    assert told.records == 2 * num / per_class
    assert 0.01 < told.per_pixel < 0.2, "else the noise is filtered, or cut at the range of pixels"
    assert error.std().item() / 0.5 == pytest.approx(told.per_pixel, rel=0.04)
    assert told.of_shapes == pytest.approx(told.per_pixel / 4)  # averages of 4x4 pixels


def test_the_noise_on_a_released_count_is_as_forecast():
    """Rejects 4/5 and 5/4; of 600 numbers, false alarm below 1e-6."""
    config = PrototypesConfig(per_class=(1,), rounds=(1,), shares=(1.0,))
    settings = Config(prototypes=config, refine=RefineConfig(steps=0)).settings()
    ledger = Ledger.of(settings.privacy)
    prototypes = release_prototypes(
        config,
        rows=lambda proposal, bound: iter(()),
        plans=plans_of_prototypes(settings, ledger, 100),
        num_classes=600,
        image_shape=(1, 2, 2),
        ledger=ledger,
        randomness=PrivateRandomness(seed=0),
        rng=torch.Generator().manual_seed(0),
    )
    (told,) = noise_on_prototypes(settings, Form(600, (1, 2, 2)), 100)
    assert 0.8 < prototypes.counts.std().item() / told.count < 1.25


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_forecast_to_be_seen(preset):
    config = read_config(preset, [])
    found = forecast(config)
    assert [noise.per_class for noise in found.prototypes] == list(config.prototypes.per_class)
    assert all(noise.legible for noise in found.prototypes)
    assert budget_table(config).facts["forecast"] == found.to_dict()
    assert found.lines()[0] in str(budget_table(config))


def test_a_tenth_of_the_records_or_a_person_with_ten_has_ten_times_the_noise():
    config = read_config("mnist", ["prototypes.min_count=0.001", "refine.steps=0"])
    whole = forecast(config).prototypes[-1].per_pixel
    for override in ("num_records=6000", "records_per_person=10"):
        there = read_config("mnist", ["prototypes.min_count=0.001", "refine.steps=0", f"privacy.{override}"])
        assert forecast(there).prototypes[-1].per_pixel == pytest.approx(10 * whole)


def told(*noise):
    """A forecast of one, four and sixteen prototypes a class with such noise on shapes."""
    noises = [
        PrototypeNoise(per_class=4**place, records=10.0, divisor=10.0, per_pixel=1.0, of_shapes=value, count=1.0)
        for place, value in enumerate(noise)
    ]
    return Forecast(num_records=10, form=Form(1, (1, 8, 8)), prototypes=tuple(noises), minutes=1.0)


@pytest.mark.parametrize(
    ("noise", "finest", "words"),
    [
        ((0.1, 0.2, 0.3), 16, "many shapes"),
        ((0.1, 0.2, 0.8), 4, "a few shapes"),
        ((0.1, 0.8, 2.0), 1, "one blurred shape"),
        ((0.8,), 0, "hardly more than noise"),
        ((1.3,), 0, "classes will be noise"),
    ],
)
def test_too_little_is_said_in_words(noise, finest, words):
    found = told(*noise)
    assert found.finest == finest
    assert words in found.quality
    assert found.is_noise == (noise[0] > 1.2)
    assert ("leave the last of" in "\n".join(found.lines())) == (len(noise) > 1 and noise[-1] > 0.7)


def test_nothing_is_forecast_where_it_is_not_stated_or_of_another_method():
    for override in ("privacy.num_records=0", "method=dpdm", "guarantee=shards", "teacher.data=public"):
        assert forecast(read_config("mnist", [override])) is None
    assert forecast(Config(data=DataConfig(source="folder", path="x"))) is None


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (DataConfig(), Form(10, (1, 8, 8))),
        (DataConfig(source="torchvision", name="cifar100"), Form(100, (3, 32, 32))),
        (DataConfig(source="torchvision", name="cifar10", grey=True, image_size=16), Form(10, (1, 16, 16))),
        (DataConfig(source="folder", class_names=("a", "b"), image_size=20, colour=True), Form(2, (3, 20, 20))),
        (DataConfig(source="folder", class_names=("a", "b"), image_size=20), None),
        (DataConfig(source="npz", num_classes=4, grey=True), None),
        (DataConfig(source="npz", image_size=4, grey=True), None),
    ],
)
def test_the_form_is_what_is_stated(data, form):
    assert stated_form(data) == form


def test_a_class_that_is_noise_is_named_by_its_released_count():
    found = forecast(read_config("mnist", []))
    counts = torch.tensor([6000.0, 20.0, -30.0])
    labels = torch.arange(3)
    prototypes = Prototypes(torch.zeros(3, 1, 28, 28), labels, counts, 15.0)
    remarks = remarks_on_counts(found, prototypes, ("many", "few", "none"))
    assert len(remarks) == 2
    assert "'few' has a released count of 20" in remarks[0]
    assert "'none' has a released count of -30" in remarks[1]
    assert "below zero" in remarks[1]
    assert found.records_of_a_class == math.ceil(6000 * found.prototypes[0].of_shapes / LEGIBLE)
