"""Denoising networks by kind."""

import torch
from torch import nn

from dpsad.errors import require_memory
from dpsad.networks.config import NetworkConfig
from dpsad.networks.transformer import Transformer
from dpsad.networks.unet import UNet

NETWORKS: dict[str, type[UNet] | type[Transformer]] = {"unet": UNet, "transformer": Transformer}


def new_network(config: NetworkConfig, *, image_channels: int, num_classes: int, use_labels: bool = True) -> nn.Module:
    """A network of the config's kind, called as `network(x, noise_embedding, labels)`.

    Args:
        config: its kind and shape.
        image_channels: channels of the image.
        num_classes: labels are 0..num_classes-1; `num_classes` itself means "no label", for guidance.
        use_labels: False takes every label for "no label"; the weights have the same shapes.

    Raises:
        ValueError: it has more weights than memory holds; none is made then.
    """

    def new() -> nn.Module:
        kind = NETWORKS[config.kind]
        return kind(config, image_channels=image_channels, num_classes=num_classes, use_labels=use_labels)

    with torch.device("meta"):  # shapes alone
        num_bytes = 4 * sum(weight.numel() for weight in new().parameters())
    said = f"a network of network.channels={config.channels} and network.blocks={config.blocks}"
    require_memory(num_bytes, said, "lower network.channels, network.multipliers or network.blocks")
    return new()
