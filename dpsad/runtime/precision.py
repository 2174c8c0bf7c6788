"""Precision: which arithmetic is fastest on the device at hand."""

import torch

from dpsad.errors import require_choice

PRECISIONS = ("auto", "float32", "bfloat16")


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """A context in which convolutions and matrix products run in bfloat16 where that is faster.

    Args:
        device: where the model runs.
        precision: "auto" takes bfloat16 on CUDA devices and on CPUs with instructions for it (AVX512-BF16, AMX).
    """
    require_choice("precision", precision, PRECISIONS)
    fast = precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # private names in torch; a version without them falls back to float32, which is slower and right
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(check() for check in checks if check is not None)
