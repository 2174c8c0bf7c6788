import pytest
import torch
from torch import nn

from dpsad.training.ema import ExponentialMovingAverage


def constant(value):
    model = nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def average_of(ema):
    (value,) = {parameter.unique().item() for parameter in ema.model.parameters()}
    return value


@pytest.mark.parametrize("batch", [1, 10, 100, 200])
def test_after_one_half_life_an_old_weight_counts_half(batch):
    ema = ExponentialMovingAverage(constant(1.0), half_life=200, warmup=1e9)
    for _ in range(200 // batch):
        ema.update(constant(0.0), batch)
    assert average_of(ema) == pytest.approx(0.5, rel=1e-4)


def test_early_the_half_life_is_a_fraction_of_what_was_seen():
    ema = ExponentialMovingAverage(constant(1.0), half_life=1e6, warmup=0.5)
    expected = 1.0
    for step in range(1, 6):
        ema.update(constant(0.0), 10)
        expected *= 0.5 ** (10 / (5 * step))
        assert average_of(ema) == pytest.approx(expected, rel=1e-5)


def test_warm_up_ends_at_the_half_life():
    ema = ExponentialMovingAverage(constant(1.0), half_life=20, warmup=0.1)
    ema.images_seen = 990
    ema.update(constant(0.0), 10)
    assert average_of(ema) == pytest.approx(0.5**0.5, rel=1e-5)


def test_the_copy_is_apart_from_the_model_and_wants_no_gradient():
    model = constant(1.0)
    ema = ExponentialMovingAverage(model, half_life=10)
    with torch.no_grad():
        model.weight.fill_(5.0)
    assert average_of(ema) == 1
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not ema.model.training


def test_state_goes_on_to_the_bit():
    whole = ExponentialMovingAverage(constant(1.0), half_life=50)
    whole.update(constant(0.0), 10)
    resumed = ExponentialMovingAverage(constant(7.0), half_life=50)
    resumed.load_state_dict(whole.state_dict())
    for ema in (whole, resumed):
        ema.update(constant(3.0), 10)
    assert average_of(whole) == average_of(resumed)
