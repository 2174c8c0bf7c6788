"""Learning-rate schedules."""

import torch


def warm_cosine(step: int, total: int, warmup: int = 100) -> float:
    """Learning-rate factor: a linear rise over `warmup` steps (a tenth of a short run), then a half cosine to zero."""
    warmup = min(warmup, total // 10 + 1)
    if step < warmup:
        return (step + 1) / warmup
    return float(0.5 * (1 + torch.cos(torch.tensor(torch.pi * (step - warmup) / max(1, total - warmup)))))
