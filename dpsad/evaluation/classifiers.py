"""Classifiers that judge synthetic images. None has BatchNorm, and all read pixels in [-1, 1]."""

from torch import Tensor, nn
from torch.nn import functional as F

from dpsad.evaluation.choices import KINDS, Kind
from dpsad.evaluation.residual import resnet_110, resnext_29, wide_resnet_40_4


class Logistic(nn.Module):
    """Linear classifier of the pixels.

    Pixels are read in [0, 1], where empty background says nothing, which keeps the regression well conditioned.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int):
        super().__init__()
        chan, height, width = image_shape
        self.linear = nn.Linear(chan * height * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> logits [num, num_classes]."""
        # (pixels + 1) / 2 is worked into the weights: full batches are too large to be copied in every pass.
        weight, bias = self.linear.weight, self.linear.bias
        return F.linear(images.flatten(1), weight / 2, bias + weight.sum(dim=1) / 2)


class Mlp(nn.Module):
    """One hidden layer of 100 units.

    Source: Dockhorn et al. 2023 (DPDM), downstream evaluation.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int):
        super().__init__()
        chan, height, width = image_shape
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(chan * height * width, 100), nn.ReLU(), nn.Linear(100, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> logits [num, num_classes]."""
        return self.layers(images)


class CnnTrunk(nn.Module):
    """Three convolutions and a dense layer: images to 128 non-negative features.

    Convolutions are unpadded as in the source; images of fewer than 18 pixels a side, which that would use up, are
    padded instead. At 28x28 with one channel this is the network of the source.

    Args:
        image_shape: channels, height, width; sides of at least 8 pixels.

    Raises:
        ValueError: a side is shorter than 8 pixels.

    Source: Dockhorn et al. 2023 (DPDM), downstream evaluation.
    """

    num_features = 128

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        chan, height, width = image_shape
        if min(height, width) < 8:
            raise ValueError(f"images of {height}x{width} pixels are too small for the CNN; it needs 8x8 or more")
        padding = 0 if min(height, width) >= 18 else 1

        def side_after(side: int) -> int:
            border = 2 - 2 * padding
            return ((side - border) // 2 - border) // 2 - border

        self.layers = nn.Sequential(
            nn.Conv2d(chan, 32, 3, padding=padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(32, 64, 3, padding=padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(64, 128, 3, padding=padding),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128 * side_after(height) * side_after(width), self.num_features),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> features [num, 128], >= 0."""
        return self.layers(images)


class Cnn(nn.Module):
    """`CnnTrunk` with a linear head behind dropout."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int):
        super().__init__()
        self.trunk = CnnTrunk(image_shape)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(CnnTrunk.num_features, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> logits [num, num_classes]."""
        return self.head(self.trunk(images))


def build_classifier(kind: Kind, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Makes an untrained classifier of images; its initial weights come from torch's global generator.

    Args:
        kind: one of `KINDS`; the last three are DPImageBench's.
        image_shape: channels, height, width.
        num_classes: number of logits.

    Raises:
        ValueError: the kind is unknown, or the images are too small for it.
    """
    if kind == "logistic":
        return Logistic(image_shape, num_classes)
    if kind == "mlp":
        return Mlp(image_shape, num_classes)
    if kind == "cnn":
        return Cnn(image_shape, num_classes)
    if kind == "wrn-40-4":
        return wide_resnet_40_4(image_shape[0], num_classes)
    if kind == "resnext-29":
        return resnext_29(image_shape[0], num_classes)
    if kind == "resnet-110":
        return resnet_110(image_shape[0], num_classes)
    raise ValueError(f"unknown classifier {kind!r}; choose one of {', '.join(KINDS)}")
