"""What a config states of its images, without reading any."""

from __future__ import annotations

from dataclasses import dataclass

from dpsad.data.config import DataConfig
from dpsad.data.torchvision_sets import known_form

DIGITS = (10, (1, 8, 8))


@dataclass(frozen=True)
class Form:
    """num_classes, and image_shape as (chan, height, width)."""

    num_classes: int
    image_shape: tuple[int, int, int]


def stated_form(config: DataConfig) -> Form | None:
    """How many classes there are and how images look, by the config or a set's name; None where it leaves some open."""
    num_classes, (channels, height, width) = {
        "digits": lambda: DIGITS,
        "torchvision": lambda: known_form(config.name),
    }.get(config.source, lambda: (0, (0, 0, 0)))()
    num_classes = config.pseudo_labels or config.num_classes or len(config.class_names) or num_classes
    channels = 3 if config.colour else 1 if config.grey else channels
    height, width = (config.image_size, config.image_size) if config.image_size else (height, width)
    return Form(num_classes, (channels, height, width)) if num_classes and channels and height else None
