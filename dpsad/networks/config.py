"""The shape of a denoising network, as people write it."""

from dataclasses import dataclass

from dpsad.errors import require_positive


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The shape of a `UNet`.

    channels: width of the finest level.
    multipliers: width of each level as a multiple of `channels`; each further level halves the resolution.
    blocks: residual blocks per level and direction.
    patch: side of the pixel blocks that are folded into channels before the first level; 2 works at half resolution,
        which is cheaper at the same width. Image sizes need not be multiples of it.
    attention: whether the coarsest level attends over all positions.
    attention_levels: levels, 0 the finest, whose every block is followed by attention as well.
    label_tokens: tokens that a label becomes, for attention to look at beside positions; 0 keeps labels out of it.
    label_spread: standard deviation of the weights that tell labels apart, at first; 0 for a layer's own small ones,
        from which noisy gradients take long to tell anything apart.
    """

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    patch: int = 1
    attention: bool = False
    attention_levels: tuple[int, ...] = ()
    label_tokens: int = 0
    label_spread: float = 0.0

    def __post_init__(self) -> None:
        for key in ("channels", "blocks", "patch"):
            require_positive(f"network.{key}", getattr(self, key))
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(f"network.multipliers={list(self.multipliers)} must be a list of numbers of at least 1")
        if not set(self.attention_levels) <= set(range(len(self.multipliers))):
            raise ValueError(
                f"network.attention_levels={list(self.attention_levels)} must be among the "
                f"{len(self.multipliers)} levels of network.multipliers, counted from 0"
            )
        for key in ("label_tokens", "label_spread"):
            if getattr(self, key) < 0:
                raise ValueError(f"network.{key}={getattr(self, key)} must not be negative")
        if self.label_tokens and not (self.attention or self.attention_levels):
            raise ValueError(
                f"network.label_tokens={self.label_tokens} needs attention that looks at them; pass "
                "network.attention=true or network.attention_levels=..."
            )
