"""A transformer for noisy images, with LayerNorm only, so that no example sees another."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpsad.networks.conditioned import Conditioned
from dpsad.networks.config import NetworkConfig
from dpsad.networks.layers import TokenAttention, folded, unfolded, zeroed

MLP_RATIO = 4  # width between a block's two last layers, in widths of a token


class Transformer(Conditioned):
    """Maps a noisy image, its noise level and its label to an image of the same shape.

    Weights are those of linear layers alone, and of one shape whatever the image's size.

    Args: as `UNet`.

    Source: Peebles and Xie 2023, section 3.2, with adaLN-Zero blocks.
    """

    def __init__(self, config: NetworkConfig, *, image_channels: int, num_classes: int, use_labels: bool = True):
        channels, pixels = config.channels, image_channels * config.patch**2
        super().__init__(channels, channels, num_classes=num_classes, use_labels=use_labels)
        self.patch = config.patch
        self.spread_labels(config.label_spread)
        self.embed_patches = nn.Linear(pixels, channels)
        self.blocks = nn.ModuleList(TransformerBlock(channels) for _ in range(config.blocks))
        self.scale_shift = zeroed(nn.Linear(channels, 2 * channels))
        self.patches_out = zeroed(nn.Linear(channels, pixels))

    def forward(self, x: Tensor, noise_embedding: Tensor, labels: Tensor) -> Tensor:
        """Returns the raw network output.

        Args:
            x: [batch, chan, height, width] image, scaled to about unit variance.
            noise_embedding: [batch] one number per image that tells its noise level, roughly in [-2, 2].
            labels: [batch] class, or `num_classes` for none.
        """
        height, width = x.shape[-2:]
        patches = folded(x, self.patch)
        rows, columns = patches.shape[-2:]
        tokens = self.embed_patches(patches.flatten(2).transpose(1, 2))
        tokens = tokens + position_code(rows, columns, tokens.shape[2], x.device)
        embedding = self.embed(noise_embedding, self.one_hot(labels))
        for block in self.blocks:
            tokens = block(tokens, embedding)
        scale, shift = self.scale_shift(embedding)[:, None].chunk(2, dim=2)
        answer = self.patches_out(modulated(tokens, scale, shift))
        return unfolded(answer.transpose(1, 2).unflatten(2, (rows, columns)), self.patch, height, width)


class TransformerBlock(nn.Module):
    """Attention, then two layers on each token; the embedding scales, shifts and gates both, and gates start at zero.

    Args:
        channels: of a token, and of the embedding.

    Source: Peebles and Xie 2023, Figure 3, "DiT Block with adaLN-Zero".
    """

    def __init__(self, channels: int):
        super().__init__()
        self.modulate = zeroed(nn.Linear(channels, 6 * channels))
        self.attend = TokenAttention(channels)
        self.widen = nn.Linear(channels, MLP_RATIO * channels)
        self.narrow = nn.Linear(MLP_RATIO * channels, channels)

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """[batch, tokens, chan], [batch, chan] -> [batch, tokens, chan]."""
        scale, shift, gate, scale_mlp, shift_mlp, gate_mlp = self.modulate(embedding)[:, None].chunk(6, dim=2)
        tokens = tokens + gate * self.attend(modulated(tokens, scale, shift))
        h = F.gelu(self.widen(modulated(tokens, scale_mlp, shift_mlp)), approximate="tanh")
        return tokens + gate_mlp * self.narrow(h)


def modulated(tokens: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Each token at mean 0 and variance 1 over its channels, times 1 + scale, plus shift; both [batch, 1, chan]."""
    # no weights of its own: those of the embedding's layer do the same, and rows get shorter
    normed = F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
    return torch.addcmul(shift, normed, scale + 1)


def position_code(rows: int, columns: int, channels: int, device: torch.device) -> Tensor:
    """[rows * columns, channels]: sines and cosines of each place's row, then of its column.

    Args:
        channels: a multiple of 4.

    Source: Vaswani et al. 2017, section 3.5, for each of two axes.
    """
    num = channels // 4
    frequencies = torch.exp(torch.arange(num, device=device) * (-math.log(1e4) / num))

    def code(length: int) -> Tensor:
        angles = torch.arange(length, device=device)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    by_row, by_column = code(rows)[:, None], code(columns)[None]
    return torch.cat([by_row.expand(-1, columns, -1), by_column.expand(rows, -1, -1)], dim=2).flatten(0, 1)
