"""Devices that may be named."""

import pytest
import torch

from dpsad.runtime.device import device_named


@pytest.mark.parametrize("name", ["mps", "xpu", "meta", "no-such"])
def test_what_cannot_add_up_exactly_is_no_device(name):
    with pytest.raises(ValueError, match=r"device='.*; use auto, cpu, cuda or cuda:1"):
        device_named(name)
    assert device_named("cpu") == torch.device("cpu")
