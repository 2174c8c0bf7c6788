"""Devices that may be named, and how they compute."""

import pytest
import torch

from dpsad.runtime.device import arithmetic, device_named


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
    with pytest.raises(ValueError, match="torch sees no CUDA device here, only cpu; use device=auto or cpu"):
        device_named("cuda:0")


def settings():
    """All that says how CUDA computes."""
    return {
        "matmul": torch.backends.cuda.matmul.allow_tf32,
        "convolutions": torch.backends.cudnn.allow_tf32,
        "deterministic": (torch.backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled()),
        "by the clock": torch.backends.cudnn.benchmark,
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fills": torch.utils.deterministic.fill_uninitialized_memory,
    }


@pytest.mark.parametrize(("precision", "tf32"), [("float32", False), ("auto", True), ("bfloat16", True)])
def test_cuda_adds_in_a_fixed_order_and_takes_float32_at_its_word(monkeypatch, precision, tf32):
    """Within the block alone, also where it fails; needs no GPU, since nothing is computed."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    with arithmetic(torch.device("cuda"), precision):
        inside = settings()
    assert inside == {
        "matmul": tf32,
        "convolutions": tf32,
        "deterministic": (True, True),
        "by the clock": False,
        "warns": True,
        "fills": False,
    }
    assert settings() == before


def test_on_cpus_nothing_is_set():
    before = settings()
    with arithmetic(torch.device("cpu"), "float32"):
        assert settings() == before
