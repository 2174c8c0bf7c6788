import math

import pytest
import torch

from discriminators.convolutional import ConvolutionalDiscriminator
from discriminators.shard_discriminators import ShardDiscriminators
from dpsad.networks.stacked import Stacked


def make_discriminators(num=3, **settings):
    torch.manual_seed(0)
    discriminator = ConvolutionalDiscriminator(8, image_channels=1, num_classes=2)
    return ShardDiscriminators(Stacked([discriminator] * num), weight=0.5, **settings)


@pytest.fixture
def batch(rng):
    """Teachers answer bright images, the student has dark ones."""
    answers = 0.5 + 0.1 * torch.randn(3, 4, 1, 8, 8, generator=rng)
    outputs = -0.5 + 0.1 * torch.randn(4, 1, 8, 8, generator=rng)
    return answers, outputs, torch.full((4,), 0.5), torch.arange(4) % 2


def test_pulls_lead_to_the_teacher_s_side_at_lambda_times_its_distance(batch):
    answers, outputs, *_ = batch
    discriminators = make_discriminators()
    for _ in range(20):
        pulls = discriminators.pulls(torch.arange(3), *batch)
    assert (pulls.mean(dim=(2, 3, 4)) > 0).all()
    distance = (answers - outputs).flatten(2).norm(dim=2)
    torch.testing.assert_close(pulls.flatten(2).norm(dim=2), 0.5 * distance)


def test_a_shard_s_pull_is_a_function_of_its_own_answers(batch):
    answers, *rest = batch
    other = answers.clone()
    other[1] = -3.0
    first, second = make_discriminators(), make_discriminators()
    for _ in range(3):
        here, there = first.pulls(torch.arange(3), answers, *rest), second.pulls(torch.arange(3), other, *rest)
    torch.testing.assert_close(here[[0, 2]], there[[0, 2]])
    assert (here[1] - there[1]).abs().max() > 1e-3


def test_asking_some_shards_trains_their_discriminators_alone(batch):
    answers, *rest = batch
    discriminators = make_discriminators()
    before = {name: weight.clone() for name, weight in discriminators.discriminators.named_parameters()}
    discriminators.pulls(torch.tensor([1]), answers[[1]], *rest)
    changed = [
        (weight != before[name]).flatten(1).any(1) for name, weight in discriminators.discriminators.named_parameters()
    ]
    assert torch.stack(changed).any(0).tolist() == [False, True, False]


def test_without_an_answer_there_is_no_pull(batch):
    answers, *rest = batch
    answers[2, 1] = math.nan
    pulls = make_discriminators().pulls(torch.arange(3), answers, *rest)
    assert pulls.isfinite().all()
    assert not pulls[2, 1].any()
