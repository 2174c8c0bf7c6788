"""Devices that may be named."""

import pytest
import torch

from dpsad.runtime.device import device_named


@pytest.mark.parametrize("name", ["mps", "xpu", "meta", "no-such"])
def test_what_cannot_add_up_exactly_is_no_device(name):
    with pytest.raises(ValueError, match=r"device='.*; use auto, cpu, cuda or cuda:1"):
        device_named(name)
    assert device_named("cpu") == torch.device("cpu")


def test_a_cuda_device_that_is_not_there_is_refused_beside_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_named(name).index for name in ("cuda", "cuda:0", "cuda:1")] == [None, 0, 1]
    for name in ("cuda:2", "cuda:100", "cuda:256"):
        with pytest.raises(
            ValueError, match=f"device='{name}' is not here; torch sees cuda:0, cuda:1; use one of them"
        ):
            device_named(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no CUDA device here; use device=auto or cpu"):
        device_named("cuda:0")
