"""Which parameters of a pretrained network train: fewer make shorter rows, and so less noise beside the signal.

Each function freezes all of a model, takes out what trains, and works on any module that holds a `Conditioned` network.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpsad.errors import require_choice
from dpsad.networks.conditioned import Conditioned
from dpsad.networks.layers import Attention, TokenAttention, zeroed
from dpsad.privacy.ranges import Count, require_ranges

CHOICES = ("attention", "lora", "all")


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig:
    """Which parameters of a pretrained denoiser records train.

    parameters: attention (attention layers and what embeds the label), lora (low-rank changes of the attention's
        layers, and what embeds the label) or all.
    rank: of lora's changes.
    """

    parameters: str = "attention"
    rank: Count = 4

    def __post_init__(self) -> None:
        require_ranges(self, "fine_tune")
        require_choice("fine_tune.parameters", self.parameters, CHOICES)


def train_all(model: nn.Module) -> None:
    """Every parameter trains."""
    model.requires_grad_(True)


def train_attention(model: nn.Module) -> None:
    """Attention layers and the label's embeddings train, nothing else.

    Raises:
        ValueError: the network has no attention.

    Source: Liu et al. 2023, section 4.
    """
    model.requires_grad_(False)
    for module in (*_attention(model), *_label_embeddings(model)):
        module.requires_grad_(True)


def train_low_rank(model: nn.Module, rank: int) -> None:
    """Gives every layer of the attention a low-rank change that trains, beside the label's embeddings.

    The model computes what it did before, until the changes are trained; `merge_low_rank` ends it. First weights come
    from torch's global generator, as those of new layers do.

    Raises:
        ValueError: the network has no attention.

    Source: Hu et al. 2022, section 4.1.
    """
    model.requires_grad_(False)
    for module in _label_embeddings(model):
        module.requires_grad_(True)
    for attention in _attention(model):
        for name, layer in list(attention.named_children()):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                setattr(attention, name, LowRank(layer, rank))


@torch.no_grad()
def merge_low_rank(model: nn.Module) -> None:
    """Adds every low-rank change to the weights it changes, and leaves the ordinary layers behind."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LowRank):
                child.layer.weight += child.change()
                setattr(parent, name, child.layer)


def trainable_fraction(model: nn.Module) -> float:
    """The share of all parameters that train."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trains in sizes if trains) / sum(size for size, _ in sizes)


class LowRank(nn.Module):
    """A frozen layer plus a low-rank change, up(down(x)), that starts at zero.

    Args:
        layer: Linear, or a 1x1 convolution.
        rank: channels between down and up.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int):
        super().__init__()
        self.layer = layer
        self.down: nn.Conv2d | nn.Linear
        self.up: nn.Conv2d | nn.Linear
        if isinstance(layer, nn.Conv2d):
            self.down = nn.Conv2d(layer.in_channels, rank, 1, bias=False)
            self.up = zeroed(nn.Conv2d(rank, layer.out_channels, 1, bias=False))
        else:
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = zeroed(nn.Linear(rank, layer.out_features, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(x))

    def change(self) -> Tensor:
        """What is added to the layer's weight, in its shape."""
        return (self.up.weight.flatten(1) @ self.down.weight.flatten(1)).reshape(self.layer.weight.shape)


def _attention(model: nn.Module) -> list[Attention | TokenAttention]:
    found = [module for module in model.modules() if isinstance(module, Attention | TokenAttention)]
    if not found:
        raise ValueError(
            "the network has no attention to fine-tune; pass network.attention=true, network.attention_levels=... "
            "or network.kind=transformer, or fine_tune.parameters=all"
        )
    return found


def _label_embeddings(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.modules():
        if isinstance(module, Conditioned):
            yield from module.label_embeddings()
