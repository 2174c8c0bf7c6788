"""Layers that the networks here share: none normalises over a batch, so that no example sees another."""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalises without weights of its own: the layers around it have them, and rows get shorter."""
    return nn.GroupNorm(math.gcd(channels, 8), channels, affine=False)


def zeroed(layer: Layer) -> Layer:
    """Starts a layer at zero, so that a residual branch begins as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def halved(x: Tensor) -> Tensor:
    """[..., height, width] -> half of both, rounded up; an odd last row or column is the mean of what there is."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def folded(images: Tensor, patch: int) -> Tensor:
    """[batch, chan, height, width] -> [batch, chan * patch^2, height / patch, width / patch], rounded up.

    Where a side is no multiple of `patch`, its last row or column is repeated.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % patch, 0, -height % patch), mode="replicate")
    return F.pixel_unshuffle(padded, patch)


def unfolded(h: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The way back from `folded` to [batch, chan, height, width], without what was repeated."""
    return F.pixel_shuffle(h, patch)[..., :height, :width]


def num_heads(channels: int, head_channels: int = 32) -> int:
    """The most heads that divide `channels` evenly with at least `head_channels` each; one where there are fewer."""
    return max(heads for heads in range(1, max(1, channels // head_channels) + 1) if channels % heads == 0)


def by_head(joint: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """[batch, places, parts * channels] -> as many as `parts`, each [batch, heads, places, channels / heads]."""
    return joint.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax of queries' products with keys, times values; each [..., places, chan].

    Source: Vaswani et al. 2017, equation 1.
    """
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        # torch's fused kernel is ten times slower backward for some fifty places, and three times for two hundred
        weights = (query / query.shape[-1] ** 0.5 @ key.transpose(-1, -2)).softmax(dim=-1)
        return weights.to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value)


class Attention(nn.Module):
    """Multi-head attention of every position to all positions and to the label's tokens, with a residual connection.

    Self-attention and cross-attention in one softmax: a position weighs what the label says against what is around it.

    Args:
        channels: of the image.
        token_dim: size of a label's token; None for attention to positions alone.
        head_channels: channels of a head, at least.

    Source: Rombach et al. 2022, section 3.3, for attention to what an image is conditioned on.
    """

    def __init__(self, channels: int, token_dim: int | None = None, head_channels: int = 32):
        super().__init__()
        self.num_heads = num_heads(channels, head_channels)
        self.norm = group_norm(channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.token_key_value = nn.Linear(token_dim, 2 * channels) if token_dim else None
        self.project = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        """[batch, chan, height, width], [batch, tokens, token_dim] -> [batch, chan, height, width]."""
        batch, channels, height, width = x.shape
        qkv = self.query_key_value(self.norm(x)).reshape(batch, 3, self.num_heads, -1, height * width)
        query, key, value = qkv.transpose(-1, -2).unbind(1)
        if self.token_key_value is not None:
            token_key, token_value = by_head(self.token_key_value(tokens), 2, self.num_heads)
            key, value = torch.cat([key, token_key], dim=2), torch.cat([value, token_value], dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return x + self.project(mixed.transpose(-1, -2).reshape(batch, channels, height, width))


class TokenAttention(nn.Module):
    """Multi-head attention of every token to all tokens; norms, gates and residuals are its caller's.

    Args:
        channels: of a token.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.num_heads = num_heads(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, tokens, chan] -> the same shape."""
        query, key, value = by_head(self.query_key_value(tokens), 3, self.num_heads)
        return self.project(attended(query, key, value).transpose(1, 2).flatten(2))


class ResidualBlock(nn.Module):
    """Two convolutions, scaled and shifted by the embedding between them.

    Args:
        embedding_dim: size of the embedding; None for a block that is told nothing.
        attend: follows the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_dim: int | None = None,
        attend: Attention | None = None,
    ):
        super().__init__()
        self.norm_in = group_norm(in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(embedding_dim, 2 * out_channels) if embedding_dim else None
        self.norm_out = group_norm(out_channels)
        self.conv_out = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

        self.attend = attend

    def forward(self, x: Tensor, embedding: Tensor | None = None, tokens: Tensor | None = None) -> Tensor:
        h = self.norm_out(self.conv_in(F.silu(self.norm_in(x))))
        if self.scale_shift is not None:
            scale, shift = self.scale_shift(embedding)[:, :, None, None].chunk(2, dim=1)
            h = torch.addcmul(shift, h, scale + 1)
        h = self.conv_out(F.silu(h)) + (x if self.shortcut is None else self.shortcut(x))
        return h if self.attend is None else self.attend(h, tokens)
