"""A small U-Net for noisy images, with GroupNorm only, so that no example sees another."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpsad.errors import require_positive
from dpsad.networks.layers import Attention, ResidualBlock, group_norm, halved, zeroed


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


class UNet(nn.Module):
    """Maps a noisy image, its noise level and its label to an image of the same shape.

    Args:
        config: its shape.
        image_channels: channels of the image.
        num_classes: labels are 0..num_classes-1; `num_classes` itself means "no label", for guidance.
        use_labels: False takes every label for "no label"; the weights have the same shapes.
    """

    def __init__(self, config: NetworkConfig, *, image_channels: int, num_classes: int, use_labels: bool = True):
        super().__init__()
        self.num_classes, self.use_labels, self.patch = num_classes, use_labels, config.patch
        self.token_dim = config.channels
        channels, blocks, patch = config.channels, config.blocks, config.patch
        embedding_dim = 2 * channels
        widths = [channels * multiplier for multiplier in config.multipliers]
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(0, math.log(1e3), channels // 2)), persistent=False
        )
        self.embed_noise = nn.Linear(2 * (channels // 2), embedding_dim)
        self.embed_label = nn.Linear(num_classes + 1, embedding_dim, bias=False)
        self.embed_out = nn.Linear(embedding_dim, embedding_dim)
        self.embed_tokens = (
            nn.Linear(num_classes + 1, config.label_tokens * channels, bias=False) if config.label_tokens else None
        )
        if config.label_spread:
            for told in (self.embed_label, self.embed_tokens):
                if told is not None:
                    nn.init.normal_(told.weight, std=config.label_spread)
        token_dim = self.token_dim if config.label_tokens else None
        self.conv_in = nn.Conv2d(image_channels * patch**2, channels, 3, padding=1)

        def attend_after(depth: int) -> Attention | None:
            return Attention(widths[depth], token_dim) if depth in config.attention_levels else None

        down, up = [], []
        skips, width = [channels], channels
        for depth, level_width in enumerate(widths):
            level = []
            for _ in range(blocks):
                level.append(ResidualBlock(width, level_width, embedding_dim, attend_after(depth)))
                width = level_width
                skips.append(width)
            down.append(nn.ModuleList(level))
        self.middle = ResidualBlock(width, width, embedding_dim)
        self.attend = Attention(width, token_dim) if config.attention else None
        for depth, level_width in reversed(list(enumerate(widths))):
            level = []
            for _ in range(blocks):
                level.append(ResidualBlock(width + skips.pop(), level_width, embedding_dim, attend_after(depth)))
                width = level_width
            up.append(nn.ModuleList(level))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.norm_out = group_norm(width + channels)
        self.conv_out = zeroed(nn.Conv2d(width + channels, image_channels * patch**2, 3, padding=1))

    def forward(self, x: Tensor, noise_embedding: Tensor, labels: Tensor) -> Tensor:
        """Returns the raw network output.

        Args:
            x: [batch, chan, height, width] image, scaled to about unit variance.
            noise_embedding: [batch] one number per image that tells its noise level, roughly in [-2, 2].
            labels: [batch] class, or `num_classes` for none.
        """
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.patch, 0, -height % self.patch), mode="replicate")
        h = first = self.conv_in(F.pixel_unshuffle(x, self.patch))
        told = self._one_hot(labels)
        embedding = self._embed(noise_embedding, told)
        tokens = None if self.embed_tokens is None else self.embed_tokens(told).unflatten(1, (-1, self.token_dim))
        skips = []
        for depth, level in enumerate(self.down):
            h = h if depth == 0 else halved(h)
            for block in level:  # type: ignore[attr-defined]
                h = block(h, embedding, tokens)
                skips.append(h)
        h = self.middle(h, embedding)
        h = h if self.attend is None else self.attend(h, tokens)
        for level in self.up:
            for block in level:  # type: ignore[attr-defined]
                skip = skips.pop()
                if h.shape[-2:] != skip.shape[-2:]:
                    h = F.interpolate(h, size=skip.shape[-2:], mode="nearest")
                h = block(torch.cat([h, skip], dim=1), embedding, tokens)
        h = self.conv_out(F.silu(self.norm_out(torch.cat([h, first], dim=1))))
        return F.pixel_shuffle(h, self.patch)[..., :height, :width]

    def _one_hot(self, labels: Tensor) -> Tensor:
        labels = labels if self.use_labels else torch.full_like(labels, self.num_classes)
        return F.one_hot(labels, self.num_classes + 1).to(self.frequencies.dtype)  # type: ignore[arg-type]

    def _embed(self, noise_embedding: Tensor, told: Tensor) -> Tensor:
        angles = noise_embedding[:, None] * self.frequencies  # type: ignore[operator]
        noise = self.embed_noise(torch.cat([angles.cos(), angles.sin()], dim=1))
        return F.silu(self.embed_out(F.silu(noise + self.embed_label(told))))
