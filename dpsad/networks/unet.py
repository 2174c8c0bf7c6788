"""A small U-Net for noisy images, with GroupNorm only, so that no example sees another."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpsad.networks.conditioned import Conditioned
from dpsad.networks.config import NetworkConfig
from dpsad.networks.layers import Attention, ResidualBlock, folded, group_norm, halved, unfolded, zeroed


class UNet(Conditioned):
    """Maps a noisy image, its noise level and its label to an image of the same shape.

    Args:
        config: its shape.
        image_channels: channels of the image.
        num_classes: labels are 0..num_classes-1; `num_classes` itself means "no label", for guidance.
        use_labels: False takes every label for "no label"; the weights have the same shapes.
    """

    def __init__(self, config: NetworkConfig, *, image_channels: int, num_classes: int, use_labels: bool = True):
        channels, blocks, patch = config.channels, config.blocks, config.patch
        embedding_dim = 2 * channels
        super().__init__(channels, embedding_dim, num_classes=num_classes, use_labels=use_labels)
        self.patch, self.token_dim = patch, channels
        widths = [channels * multiplier for multiplier in config.multipliers]
        self.embed_tokens = (
            nn.Linear(num_classes + 1, config.label_tokens * channels, bias=False) if config.label_tokens else None
        )
        self.spread_labels(config.label_spread)
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
        h = first = self.conv_in(folded(x, self.patch))
        told = self.one_hot(labels)
        embedding = self.embed(noise_embedding, told)
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
        return unfolded(h, self.patch, height, width)

    def label_embeddings(self) -> list[nn.Linear]:
        return [self.embed_label] if self.embed_tokens is None else [self.embed_label, self.embed_tokens]
