"""NetworkConfig: the shape of a denoising network, as people write it."""

import json
from dataclasses import dataclass, fields
from typing import Annotated

from dpsad.errors import require_choice, require_memory
from dpsad.privacy.ranges import Count, CountOrZero, Range, Weight, require_ranges

MAX_LEVELS = 16  # each halves the resolution
UNET_ONLY = ("multipliers", "attention", "attention_levels", "label_tokens")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The shape of a denoising network.

    kind: unet or transformer.
    channels: width of the finest level, or of a transformer's tokens.
    multipliers: width of each level as a multiple of `channels`; each further level halves the resolution.
    blocks: residual blocks per level and direction, or a transformer's depth.
    patch: side of the pixel blocks that are folded into channels before the first level, or into a token; 2 works at
        half resolution, which is cheaper at the same width. Image sizes need not be multiples of it.
    attention: whether the coarsest level attends over all positions.
    attention_levels: levels, 0 the finest, whose every block is followed by attention as well.
    label_tokens: tokens that a label becomes, for attention to look at beside positions; 0 keeps labels out of it.
    label_spread: standard deviation of the weights that tell labels apart, at first; 0 for a layer's own small ones,
        from which noisy gradients take long to tell anything apart.

    A transformer has one level and attends everywhere: multipliers, attention, attention_levels and label_tokens are a
    U-Net's alone, and refused where they are not at their defaults.
    """

    kind: str = "unet"  # files from before there were kinds
    channels: Count = 32
    multipliers: tuple[Count, ...] = (1, 2)
    blocks: Annotated[int, Range("[1, 1000]")] = 1
    patch: Count = 1
    attention: bool = False
    attention_levels: tuple[CountOrZero, ...] = ()
    label_tokens: CountOrZero = 0
    label_spread: Weight = 0.0

    def __post_init__(self) -> None:
        require_ranges(self, "network")
        require_choice("network.kind", self.kind, tuple(CHECKS))
        CHECKS[self.kind](self)
        width = self.channels * max(self.multipliers)
        # the least that any kind has, known before an image is read; `new_network` counts
        least = 4 * (self.blocks * width**2 + self.patch**2 * self.channels)
        said = f"network.channels={self.channels}, network.multipliers={list(self.multipliers)}, "
        said += f"network.blocks={self.blocks}, network.patch={self.patch}: so large a network"
        require_memory(least, said, "lower one of these")


def _check_unet(config: NetworkConfig) -> None:
    if len(config.multipliers) > MAX_LEVELS:
        raise ValueError(f"network.multipliers has {len(config.multipliers)} levels; use {MAX_LEVELS} at most")
    if not config.multipliers:
        raise ValueError("network.multipliers=[] must be a list of a number for each level; [1] is one level")
    if not set(config.attention_levels) <= set(range(len(config.multipliers))):
        raise ValueError(
            f"network.attention_levels={list(config.attention_levels)} must be among the "
            f"{len(config.multipliers)} levels of network.multipliers, counted from 0"
        )
    if config.label_tokens and not (config.attention or config.attention_levels):
        raise ValueError(
            f"network.label_tokens={config.label_tokens} needs attention that looks at them; pass "
            "network.attention=true or network.attention_levels=..."
        )


def _check_transformer(config: NetworkConfig) -> None:
    if config.channels % 4:
        raise ValueError(
            f"network.channels={config.channels} must be a multiple of 4 where network.kind=transformer: a position is "
            "told by a sine and a cosine of its row and of its column"
        )
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in UNET_ONLY and value != field.default:
            raise ValueError(
                f"network.{field.name}={_typed(value)} is for network.kind=unet alone; with network.kind=transformer "
                f"pass network.{field.name}={_typed(field.default)}"
            )


def _typed(value: object) -> str:
    """A value as one types it on the command line."""
    return json.dumps(value, separators=(",", ":"))


CHECKS = {"unet": _check_unet, "transformer": _check_transformer}
