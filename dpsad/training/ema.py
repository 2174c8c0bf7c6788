"""Exponential moving average of weights."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class ExponentialMovingAverage(Generic[Model]):
    """Keeps a slowly following copy of a model.

    Args:
        model: the model that is trained; its copy is `self.model`, without gradients.
        half_life: after this many images, an old weight counts half.
        warmup: early in training the half-life is at most this fraction of the images seen, so that the random
            start is soon forgotten.

    Source: Karras et al. 2022, Appendix F.
    """

    def __init__(self, model: Model, *, half_life: float, warmup: float = 0.1):
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)
        self.half_life, self.warmup, self.images_seen = half_life, warmup, 0

    @torch.no_grad()
    def update(self, model: nn.Module, num_images: int) -> None:
        """Moves the copy towards `model` after a step on `num_images` images."""
        self.images_seen += num_images
        half_life = min(self.half_life, self.images_seen * self.warmup)
        decay = 0.5 ** (num_images / max(half_life, 1e-8))
        averages: list[Tensor] = list(self.model.parameters())
        weights: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "images_seen": self.images_seen}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.images_seen = state["images_seen"]
