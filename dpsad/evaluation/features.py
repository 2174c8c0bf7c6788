"""Reference classifier of the real data as a feature space, for where no public network is at hand."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dpsad.evaluation.downstream import train_classifier
from dpsad.networks.classifiers import Cnn, CnnTrunk


class ReferenceFeatures(nn.Module):
    """Penultimate layer of a classifier trained on the real training set; frozen, in evaluation mode.

    Not protected: the network saw the real training images, so it and every number measured in its space are private
    diagnostics. Keep them in a run's `private/`.

    Args:
        network: the whole classifier.
        image_shape: channels, height, width of the images it reads.
    """

    name = "reference-cnn"
    source = "DPDM's downstream CNN, trained on the real training set"
    num_features = CnnTrunk.num_features

    def __init__(self, network: Cnn, image_shape: Sequence[int]):
        super().__init__()
        self.network = network.requires_grad_(False)
        self.image_shape = tuple(image_shape)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> features [num, num_features], >= 0."""
        return self.network.trunk(images)

    def classify(self, features: Tensor) -> Tensor:
        """[num, num_features] -> logits [num, num_classes]."""
        return self.network.head(features)

    def fingerprint(self) -> str:
        """SHA-256 of the weights, their names and shapes, in hexadecimal digits; the device plays no part."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
            digest.update(weight.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path | str) -> None:
        """Writes weights and image shape to a safetensors file, a private one."""
        weights = {name: weight.cpu().contiguous() for name, weight in self.state_dict().items()}
        metadata = {"name": self.name, "image_shape": json.dumps(self.image_shape)}
        Path(path).write_bytes(save(weights, metadata=metadata))


def train_reference(
    images: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    seed: int,
    epochs: int | None = None,
    device: torch.device | str = "cpu",
) -> ReferenceFeatures:
    """Trains the downstream CNN on the real training set and freezes it.

    Not protected: see `ReferenceFeatures`.

    Args:
        images: [num, chan, height, width] real training images in [-1, 1].
        labels: [num] in [0, num_classes).
        num_classes: number of classes.
        seed: as for `train_classifier`.
        epochs: as for `train_classifier`.
        device: where to train; the features stay there.

    Raises:
        ValueError: as for `train_classifier`.
    """
    network = train_classifier("cnn", images, labels, num_classes=num_classes, seed=seed, epochs=epochs, device=device)
    assert isinstance(network, Cnn)
    return ReferenceFeatures(network, images.shape[1:])


def load_reference(path: Path | str, device: torch.device | str = "cpu") -> ReferenceFeatures:
    """Reads what `ReferenceFeatures.save` wrote.

    Raises:
        ValueError: the file holds something else.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("name") != ReferenceFeatures.name:
            raise ValueError(f"{path} holds no {ReferenceFeatures.name} features but {metadata.get('name')!r}")
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    head = weights.get("network.head.1.weight")
    if head is None:
        raise ValueError(f"{path} holds no whole classifier; delete it, and `dpsad evaluate` trains it anew")
    chan, height, width = json.loads(metadata["image_shape"])
    reference = ReferenceFeatures(Cnn((chan, height, width), len(head)), (chan, height, width))
    reference.load_state_dict(weights)
    return reference.to(device)
