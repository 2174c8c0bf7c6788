import pytest
import torch

from discriminators.shard_wasserstein import ShardWassersteinCritics
from discriminators.wasserstein import WassersteinCritic
from dpsad.networks.stacked import Stacked


def make_critics(num=3, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        critic = WassersteinCritic(4, image_shape=(1, 8, 8), num_classes=2)
    return ShardWassersteinCritics(Stacked([critic] * num), **settings)


@pytest.fixture
def batch(rng):
    """4 steps of 3 shards with 6 bright records each, against dark images of the same classes."""
    shape = (4, 3, 6)
    real = 0.5 + 0.1 * torch.randn(*shape, 1, 8, 8, generator=rng)
    fake = -0.5 + 0.1 * torch.randn(*shape, 1, 8, 8, generator=rng)
    labels = torch.arange(6).expand(shape) % 2
    return real, fake, labels, torch.rand(shape, generator=rng)


def test_directions_lead_from_the_generator_s_images_to_the_records(batch):
    _, fake, labels, _ = batch
    critics = make_critics()
    for _ in range(10):
        critics.train(torch.arange(3), *batch)
    directions = critics.directions(torch.arange(3), fake[0, 0], labels[0, 0])
    assert directions.shape == (3, 6, 1, 8, 8)
    assert (directions.mean(dim=(2, 3, 4)) < 0).all(), "downhill is brighter"


def test_directions_are_the_gradient_of_each_critic_alone(batch):
    """Against one critic at a time, without stacking, by finite differences along one pixel."""
    _, fake, labels, _ = batch
    critics = make_critics()
    critics.train(torch.arange(3), *batch)
    directions = critics.directions(torch.tensor([2, 0]), fake[0, 0], labels[0, 0])
    for place, shard in ((0, 2), (1, 0)):
        alone = WassersteinCritic(4, image_shape=(1, 8, 8), num_classes=2).double()
        alone.load_state_dict({name: weight[shard] for name, weight in critics.critics.weights().items()})
        scores = []
        for step in (-1e-5, 1e-5):
            moved = fake[0, 0].double()
            moved[:, 0, 3, 4] += step
            scores.append(alone(moved, labels[0, 0]))
        slope = (scores[1] - scores[0]) / 2e-5
        torch.testing.assert_close(directions[place, :, 0, 3, 4].double(), -slope, rtol=1e-3, atol=1e-6)


def test_the_penalty_draws_slopes_to_one(batch):
    """Two-sided: without it slopes run away, with it they come near 1 from a start far below."""
    _, fake, labels, _ = batch
    slopes = {}
    for penalty in (10.0, 1e-9):
        critics = make_critics(penalty=penalty, learning_rate=1e-2)
        for _ in range(15):
            critics.train(torch.arange(3), *batch)
        slopes[penalty] = critics.directions(torch.arange(3), fake[0, 0], labels[0, 0]).flatten(2).norm(dim=2)
    assert ((slopes[10.0] > 0.5) & (slopes[10.0] < 1.5)).all()
    assert (slopes[1e-9] > 5).all()


def test_a_critic_is_a_function_of_its_own_shard(batch):
    real, *rest = batch
    other = real.clone()
    other[:, 1] = -1.0
    first, second = make_critics(), make_critics()
    for _ in range(2):
        first.train(torch.arange(3), real, *rest)
        second.train(torch.arange(3), other, *rest)
    images, labels = rest[0][0, 0], rest[1][0, 0]
    here, there = (critics.directions(torch.arange(3), images, labels) for critics in (first, second))
    torch.testing.assert_close(here[[0, 2]], there[[0, 2]])
    assert (here[1] - there[1]).abs().max() > 1e-3


def test_training_some_shards_leaves_the_others_critics_alone(batch):
    critics = make_critics(4)
    before = {name: weight.clone() for name, weight in critics.critics.weights().items()}
    critics.train(torch.tensor([3, 0, 1]), *batch)
    changed = [(weight != before[name]).flatten(1).any(1) for name, weight in critics.critics.weights().items()]
    assert torch.stack(changed).any(0).tolist() == [True, True, False, True]
