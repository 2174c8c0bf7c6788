"""Features of a public pretrained network, from a file of weights as torchvision and timm write them."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from dpsad.privacy.provenance import UNNOTED, Provenance

BACKBONES = ("resnet18", "resnet50", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny")
SHORTEST = 64  # pixels; smaller images are enlarged, since these networks halve them five times
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1], which they were trained on


class Backbone(nn.Module):
    """What a torchvision classifier hands to its last layer, brought to norm 1.

    Args:
        image_shape: channels, height, width; one or three channels.
        name: one of `BACKBONES`.

    Attributes:
        dim: length of a feature vector.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, image_shape: tuple[int, int, int], name: str):
        super().__init__()
        if image_shape[0] not in (1, 3):
            raise ValueError(f"{name} reads grey or colour images, not images of {image_shape[0]} channels")
        import torchvision  # takes a second or more, and most runs have no backbone

        self.size = [max(1, round(side * max(1, SHORTEST / min(image_shape[1:])))) for side in image_shape[1:]]
        self.network = torchvision.models.get_model(name, weights=None)
        place, head = [(place, part) for place, part in self.network.named_modules() if isinstance(part, nn.Linear)][-1]
        self.dim, self.head = head.in_features, place
        parent, _, last = place.rpartition(".")
        setattr(self.network.get_submodule(parent), last, nn.Identity())
        for key, numbers in (("mean", MEAN), ("std", STD)):
            self.register_buffer(key, torch.tensor(numbers)[:, None, None], persistent=False)
        self.provenance, self.public_images = Provenance.PUBLIC, (UNNOTED,)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> features [num, dim] of norm 1."""
        colour = images.expand(-1, 3, -1, -1)
        enlarged = F.interpolate(colour, self.size, mode="bilinear", antialias=True)
        return F.normalize(self.network(((enlarged + 1) / 2 - self.mean) / self.std), dim=1)


def load_backbone(image_shape: tuple[int, int, int], name: str, path: Path) -> Backbone:
    """A backbone with the weights of a file.

    Args:
        path: a state dict of that network, `.safetensors` or what `torch.save` wrote; code in it is not run. Its last
            layer is not read.

    Raises:
        ValueError: there is no such file, or it is of another network.
    """
    backbone = Backbone(image_shape, name)
    if not path.is_file():
        raise ValueError(f"guide.weights={path} is no file; pass weights of {name} as torchvision or timm write them")
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        kept = {key: value for key, value in weights.items() if not key.startswith(f"{backbone.head}.")}
        backbone.network.load_state_dict(kept)
    except Exception as error:  # torch and safetensors raise nearly any kind on files of something else
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"guide.weights={path} holds no weights of {name}: {reason}") from error
    return backbone
