import math

import pytest
import torch

from discriminators.choice import DISCRIMINATORS, DiscriminatorConfig, new_discriminator
from discriminators.losses import (
    discriminator_loss,
    feature_distance,
    gradient_penalty,
    non_saturating_loss,
    saturating_loss,
)


@pytest.fixture(params=DISCRIMINATORS)
def make_discriminator(request, perturbed):
    def make(*, image_channels=1, **shape):
        config = DiscriminatorConfig(kind=request.param, channels=8, **shape)
        return perturbed(new_discriminator(config, image_channels=image_channels, num_classes=3))

    return make


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


LOGITS = [-3.0, -0.5, 0.0, 2.0]


def test_losses_are_the_formulas_written_out():
    """Goodfellow et al. 2014, with D = sigmoid(logit) the probability of "teacher"."""
    logits = torch.tensor(LOGITS)
    assert saturating_loss(logits).tolist() == pytest.approx([math.log(1 - sigmoid(x)) for x in LOGITS], rel=1e-4)
    assert non_saturating_loss(logits).tolist() == pytest.approx([-math.log(sigmoid(x)) for x in LOGITS], rel=1e-4)
    expected = [-math.log(sigmoid(teacher)) - math.log(1 - sigmoid(-teacher / 2)) for teacher in LOGITS]
    assert discriminator_loss(logits, -logits / 2).item() == pytest.approx(sum(expected) / 4, rel=1e-4)


@pytest.mark.parametrize("loss", [saturating_loss, non_saturating_loss])
def test_both_losses_pull_the_student_towards_the_teacher_s_side(loss):
    logits = torch.tensor([-80.0, 0.0, 80.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(logits).sum(), logits)
    assert (gradient <= 0).all()
    assert gradient[1] < 0
    assert loss(logits).isfinite().all()


def test_a_sure_discriminator_still_pulls_by_the_non_saturating_loss_alone():
    slopes = []
    for loss in (saturating_loss, non_saturating_loss):
        logit = torch.tensor([-8.0], requires_grad=True)
        slopes.append(torch.autograd.grad(loss(logit).sum(), logit)[0].item())
    assert slopes[0] == pytest.approx(-sigmoid(-8), rel=1e-3)
    assert slopes[1] == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize("use_labels", [True, False])
@pytest.mark.parametrize("use_noise_level", [True, False])
def test_conditioning_switches_switch(make_discriminator, rng, use_labels, use_noise_level):
    discriminator = make_discriminator(use_labels=use_labels, use_noise_level=use_noise_level)
    images = torch.randn(1, 1, 12, 12, generator=rng).expand(4, -1, -1, -1)
    by_label = discriminator(images, torch.ones(4), torch.arange(4))
    by_level = discriminator(images, torch.tensor([0.05, 0.5, 5.0, 50.0]), torch.zeros(4).long())
    assert (by_label.std() > 1e-3) == use_labels
    assert (by_level.std() > 1e-3) == use_noise_level


@pytest.mark.parametrize(("chan", "height", "width"), [(1, 8, 8), (3, 32, 32), (1, 9, 7), (1, 28, 28)])
def test_one_finite_logit_per_image(make_discriminator, rng, chan, height, width):
    images = torch.randn(5, chan, height, width, generator=rng)
    logits = make_discriminator(image_channels=chan)(images, torch.logspace(-3, 2, 5), torch.zeros(5).long())
    assert logits.shape == (5,)
    assert logits.isfinite().all()


def test_examples_do_not_see_each_other(make_discriminator, rng):
    discriminator, labels = make_discriminator(), torch.zeros(3).long()
    images = torch.randn(3, 1, 12, 12, generator=rng)
    before = discriminator(images, torch.ones(3), labels)
    images[:2] = 30.0
    after = discriminator(images, torch.ones(3), labels)
    assert after[2].item() == pytest.approx(before[2].item(), abs=1e-5)
    assert (after[0] - before[0]).abs() > 1e-3


def test_the_logit_is_linear_in_features_with_a_direction_for_each_class(make_discriminator, rng):
    discriminator = make_discriminator()
    images, sigma, labels = torch.randn(4, 1, 12, 12, generator=rng), torch.ones(4), torch.tensor([0, 2, 1, 3])
    with torch.no_grad():
        features = discriminator.features(images, sigma)
        expected = [
            discriminator.score(row) + row @ discriminator.label_directions.weight[label]
            for row, label in zip(features, labels, strict=True)
        ]
        torch.testing.assert_close(discriminator(images, sigma, labels), torch.cat(expected))


def test_a_discriminator_learns_to_tell_two_kinds_apart(make_discriminator, rng):
    torch.manual_seed(0)
    discriminator = make_discriminator()
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
    teacher, student = (torch.randn(64, 1, 8, 8, generator=rng).cumsum(3) * 0.2 + s for s in (0.3, -0.3))
    sigma, labels = torch.ones(64), torch.arange(64) % 3
    for _ in range(30):
        loss = discriminator_loss(discriminator(teacher, sigma, labels), discriminator(student, sigma, labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert discriminator(teacher, sigma, labels).mean() > 0 > discriminator(student, sigma, labels).mean()
    assert loss.item() < 1.2 < 2 * math.log(2)


def test_r1_is_the_squared_slope_by_finite_differences(make_discriminator, rng):
    """Each image alone, each pixel moved by itself, in float64."""
    discriminator = make_discriminator().double()
    images = torch.randn(3, 1, 4, 4, generator=rng, dtype=torch.float64)
    sigma, labels, step = torch.tensor([0.1, 1.0, 5.0]).double(), torch.tensor([0, 1, 2]), 1e-6
    expected = 0.0
    for image in range(3):
        one = slice(image, image + 1)
        for pixel in range(16):
            move = torch.zeros(16, dtype=torch.float64)
            move[pixel] = step
            higher, lower = (
                discriminator(images[one] + sign * move.reshape(1, 1, 4, 4), sigma[one], labels[one]).item()
                for sign in (1, -1)
            )
            expected += ((higher - lower) / (2 * step)) ** 2 / (2 * 3)
    assert expected > 1e-6
    assert gradient_penalty(discriminator, images, sigma, labels).item() == pytest.approx(expected, rel=1e-4)


def test_r1_flattens_the_discriminator_around_the_teacher_s_images(make_discriminator, rng):
    discriminator = make_discriminator()
    images, sigma, labels = torch.randn(8, 1, 8, 8, generator=rng), torch.ones(8), torch.arange(8) % 3
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    first = gradient_penalty(discriminator, images, sigma, labels).item()
    for _ in range(20):
        optimizer.zero_grad()
        gradient_penalty(discriminator, images, sigma, labels).backward()
        optimizer.step()
    assert gradient_penalty(discriminator, images, sigma, labels).item() < 0.7 * first
    assert images.grad is None


def test_feature_distance_is_of_each_row_alone():
    student = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 2.0], [3.0, 4.0], [3.0, 1.0]])
    distance = feature_distance(student, teacher)
    assert distance.tolist() == [0, 25, 4]
    (gradient,) = torch.autograd.grad(distance[1], student)
    assert gradient.tolist() == [[0, 0], [-6, -8], [0, 0]]


def test_defaults_are_the_convolutional_one_alone():
    config = DiscriminatorConfig()
    assert (config.kind, config.gradient_penalty, config.feature_matching) == ("convolutional", 0, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "projecton"}, "discriminator.kind='projecton' must be one of .*; did you mean 'projection'"),
        ({"channels": 0}, "discriminator.channels=0 must be in"),
        ({"gradient_penalty": -1.0}, r"discriminator.gradient_penalty=-1.0 must be in"),
        ({"feature_matching": math.nan}, r"discriminator.feature_matching=nan must be in"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        DiscriminatorConfig(**wrong)
