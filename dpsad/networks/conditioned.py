"""Conditioning of denoising networks: noise level and label, embedded."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conditioned(nn.Module):
    """Embeds noise level and label together. Networks derive from it, so that weights in files keep their names.

    Args:
        channels: how many numbers the noise level becomes at first, as sines and cosines.
        embedding_dim: size of the embedding.
        num_classes: labels are 0..num_classes-1; `num_classes` itself means "no label", for guidance.
        use_labels: False takes every label for "no label"; the weights have the same shapes.
    """

    frequencies: Tensor

    def __init__(self, channels: int, embedding_dim: int, *, num_classes: int, use_labels: bool = True):
        super().__init__()
        self.num_classes, self.use_labels = num_classes, use_labels
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(0, math.log(1e3), channels // 2)), persistent=False
        )
        self.embed_noise = nn.Linear(2 * (channels // 2), embedding_dim)
        self.embed_label = nn.Linear(num_classes + 1, embedding_dim, bias=False)
        self.embed_out = nn.Linear(embedding_dim, embedding_dim)

    def label_embeddings(self) -> list[nn.Linear]:
        """All layers that a one-hot label goes into."""
        return [self.embed_label]

    def spread_labels(self, std: float) -> None:
        """Draws the weights that tell labels apart from a normal distribution; 0 leaves them as they are."""
        if std:
            for embedding in self.label_embeddings():
                nn.init.normal_(embedding.weight, std=std)

    def one_hot(self, labels: Tensor) -> Tensor:
        """[batch] labels -> [batch, num_classes + 1]."""
        labels = labels if self.use_labels else torch.full_like(labels, self.num_classes)
        return F.one_hot(labels, self.num_classes + 1).to(self.frequencies.dtype)

    def embed(self, noise_embedding: Tensor, told: Tensor) -> Tensor:
        """[batch] noise levels, [batch, num_classes + 1] one-hot labels -> [batch, embedding_dim]."""
        angles = noise_embedding[:, None] * self.frequencies
        noise = self.embed_noise(torch.cat([angles.cos(), angles.sin()], dim=1))
        return F.silu(self.embed_out(F.silu(noise + self.embed_label(told))))
