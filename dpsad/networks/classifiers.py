"""Small classifiers of images. None has BatchNorm, and all read pixels in [-1, 1]."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class HalfDropout(nn.Module):
    """Dropout of one half, by one random bit a number.

    `HalfDropout()` draws a float for each, which was a fifth of a training step of `Cnn` on a CPU.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Same shape; half of the numbers are zero, the rest is doubled. Nothing changes in evaluation mode."""
        if not self.training:
            return values
        places = torch.arange(8, dtype=torch.uint8, device=values.device)
        random = torch.empty(-(-values.numel() // 8), 1, dtype=torch.uint8, device=values.device).random_(0, 256)
        kept = (random >> places & 1).flatten()[: values.numel()].view(values.shape)
        return values * (2 * kept).to(values.dtype)


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
            HalfDropout(),
            nn.Conv2d(32, 64, 3, padding=padding),
            nn.MaxPool2d(2),
            nn.ReLU(),
            HalfDropout(),
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
        self.head = nn.Sequential(HalfDropout(), nn.Linear(CnnTrunk.num_features, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> logits [num, num_classes]."""
        return self.head(self.trunk(images))
