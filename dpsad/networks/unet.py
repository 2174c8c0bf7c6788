"""A small U-Net for noisy images, with GroupNorm only, so that no example sees another."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    """

    channels: int = 32
    multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    patch: int = 1
    attention: bool = False

    def __post_init__(self) -> None:
        for key in ("channels", "blocks", "patch"):
            require_positive(f"network.{key}", getattr(self, key))
        if not self.multipliers or min(self.multipliers) < 1:
            raise ValueError(f"network.multipliers={list(self.multipliers)} must be a list of numbers of at least 1")


def _norm(channels: int) -> nn.GroupNorm:
    """Normalises without weights of its own: the layers around it have them, and rows get shorter."""
    return nn.GroupNorm(math.gcd(channels, 8), channels, affine=False)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Starts a layer at zero, so that a residual branch begins as the identity."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class ResidualBlock(nn.Module):
    """Two convolutions, scaled and shifted by the embedding between them."""

    def __init__(self, in_channels: int, out_channels: int, embedding_dim: int):
        super().__init__()
        self.norm_in = _norm(in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(embedding_dim, 2 * out_channels)
        self.norm_out = _norm(out_channels)
        self.conv_out = _zero(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.scale_shift(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = self.conv_out(F.silu(torch.addcmul(shift, self.norm_out(h), scale + 1)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class SelfAttention(nn.Module):
    """Multi-head attention over all positions, with a residual connection."""

    def __init__(self, channels: int, head_channels: int = 32):
        super().__init__()
        self.num_heads = max(1, channels // head_channels)
        self.norm = _norm(channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.project = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.query_key_value(self.norm(x)).reshape(batch, 3, self.num_heads, -1, height * width)
        query, key, value = qkv.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return x + self.project(mixed.transpose(-1, -2).reshape(batch, channels, height, width))


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
        channels, blocks, patch = config.channels, config.blocks, config.patch
        embedding_dim = 2 * channels
        widths = [channels * multiplier for multiplier in config.multipliers]
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(0, math.log(1e3), channels // 2)), persistent=False
        )
        self.embed_noise = nn.Linear(2 * (channels // 2), embedding_dim)
        self.embed_label = nn.Linear(num_classes + 1, embedding_dim, bias=False)
        self.embed_out = nn.Linear(embedding_dim, embedding_dim)
        self.conv_in = nn.Conv2d(image_channels * patch**2, channels, 3, padding=1)

        down, up = [], []
        skips, width = [channels], channels
        for level_width in widths:
            level = []
            for _ in range(blocks):
                level.append(ResidualBlock(width, level_width, embedding_dim))
                width = level_width
                skips.append(width)
            down.append(nn.ModuleList(level))
        self.middle = ResidualBlock(width, width, embedding_dim)
        self.attend = SelfAttention(width) if config.attention else nn.Identity()
        for level_width in reversed(widths):
            level = []
            for _ in range(blocks):
                level.append(ResidualBlock(width + skips.pop(), level_width, embedding_dim))
                width = level_width
            up.append(nn.ModuleList(level))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.norm_out = _norm(width + channels)
        self.conv_out = _zero(nn.Conv2d(width + channels, image_channels * patch**2, 3, padding=1))

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
        embedding = self._embed(noise_embedding, labels)
        skips = []
        for depth, level in enumerate(self.down):
            h = h if depth == 0 else F.avg_pool2d(h, 2, ceil_mode=True, count_include_pad=False)
            for block in level:  # type: ignore[attr-defined]
                h = block(h, embedding)
                skips.append(h)
        h = self.attend(self.middle(h, embedding))
        for level in self.up:
            for block in level:  # type: ignore[attr-defined]
                skip = skips.pop()
                if h.shape[-2:] != skip.shape[-2:]:
                    h = F.interpolate(h, size=skip.shape[-2:], mode="nearest")
                h = block(torch.cat([h, skip], dim=1), embedding)
        h = self.conv_out(F.silu(self.norm_out(torch.cat([h, first], dim=1))))
        return F.pixel_shuffle(h, self.patch)[..., :height, :width]

    def _embed(self, noise_embedding: Tensor, labels: Tensor) -> Tensor:
        angles = noise_embedding[:, None] * self.frequencies  # type: ignore[operator]
        noise = self.embed_noise(torch.cat([angles.cos(), angles.sin()], dim=1))
        labels = labels if self.use_labels else torch.full_like(labels, self.num_classes)
        label = self.embed_label(F.one_hot(labels, self.num_classes + 1).to(noise.dtype))
        return F.silu(self.embed_out(F.silu(noise + label)))
