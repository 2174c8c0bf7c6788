"""Features of a small convolutional network: random ones, or what it has learned to tell released images apart by."""

from torch import Tensor, nn
from torch.nn import functional as F

from dpsad.networks.classifiers import CnnTrunk


class Convolutional(nn.Module):
    """Last hidden layer of a classifier, brought to norm 1; random features until its weights are loaded or trained.

    Args:
        image_shape: channels, height, width; sides of at least 8 pixels.
        trunk: a trained one, if there is any.

    Attributes:
        dim: length of a feature vector.
    """

    dim = CnnTrunk.num_features

    def __init__(self, image_shape: tuple[int, int, int], trunk: CnnTrunk | None = None):
        super().__init__()
        self.trunk = trunk or CnnTrunk(image_shape)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> features [num, 128] of norm 1."""
        return F.normalize(self.trunk(images), dim=1)
