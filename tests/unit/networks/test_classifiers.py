"""Parts of the small classifiers."""

import pytest
import torch

from dpsad.networks.classifiers import HalfDropout


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_half_dropout_keeps_half_of_the_numbers_doubled(memory_format):
    """Each bit of a byte must be as likely and tell nothing of the next: false alarms below 1e-4 together."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        values = torch.ones(20, 8, 25, 10).contiguous(memory_format=memory_format).requires_grad_()
        dropped = HalfDropout()(values)
    assert dropped.is_contiguous(memory_format=memory_format)
    assert set(dropped.detach().unique().tolist()) == {0.0, 2.0}
    kept = (dropped.detach() / 2).flatten()
    for bit in range(8):
        own = kept[bit::8]
        assert abs(own.mean().item() - 0.5) < 4.9 * 0.5 / len(own) ** 0.5
    both = (kept[1:] * kept[:-1]).mean().item()
    assert abs(both - 0.25) < 4.9 * (5 / 16 / len(kept)) ** 0.5  # neighbours share a number, so pairs are correlated
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


def test_half_dropout_changes_nothing_in_evaluation():
    values = torch.randn(3, 5)
    assert HalfDropout().eval()(values) is values


def test_half_dropout_takes_any_number_of_numbers():
    for num in (0, 1, 7, 8, 9):
        assert HalfDropout()(torch.ones(num)).shape == (num,)
