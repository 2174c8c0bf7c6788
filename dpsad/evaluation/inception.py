"""Inception network of 2015, the feature space of FID, with its published weights from a file that is at hand."""

import hashlib
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from dpsad.evaluation.choices import STANDARD_NAME

# Of the file that pytorch-fid and torch-fidelity both distribute; it begins with the digits in the file's name.
STANDARD_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FILE_NAMES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
BATCH_SIZE = 50  # a layer of one enlarged image takes megabytes


class InceptionFeatures(nn.Module):
    """Last pooling layer of Inception; frozen, in evaluation mode.

    With the standard weights its name is "inception-v3-fid" and distances in it are FID and KID. Other weights of the
    same shape are read as well, and named by their hash.

    Args:
        path: file of weights, which is read as tensors only, never as code.

    Raises:
        ValueError: there is no such file, it holds something else, or torch-fidelity is not installed.

    Source: Szegedy et al. 2016 as ported by torch-fidelity; Heusel et al. 2017 for its use.
    """

    num_features = 2048

    def __init__(self, path: Path | str):
        super().__init__()
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"no Inception weights at {path}; fetch {FILE_NAMES[0]} from pytorch-fid's releases")
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError:
            raise ValueError("Inception needs torch-fidelity; install it with pip install 'dpsad[inception]'") from None
        try:
            torch.load(path, weights_only=True, map_location="meta")  # the extractor would run what a pickle says
            extractor = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
            )
        except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError) as error:
            raise ValueError(f"{path} holds no weights of the FID Inception network: {str(error)[:200]}") from None
        self.extractor = extractor.requires_grad_(False)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        standard = self.sha256 == STANDARD_SHA256
        self.name = STANDARD_NAME if standard else f"inception-v3-{self.sha256[:8]}"
        self.source = (
            f"torch-fidelity's InceptionV3 with {'the standard' if standard else 'other'} weights ({path.name})"
        )
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1], one channel or three -> features [num, 2048], >= 0.

        Pixels are rounded to 256 levels and scaled to 299x299 as TensorFlow did, which the weights expect.
        """
        levels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
        return torch.cat([self.extractor(part)[0] for part in levels.split(BATCH_SIZE)])

    def classify(self, features: Tensor) -> Tensor:
        """[num, 2048] -> [num, 1008] logits without bias, as the inception score has them."""
        return features @ self.extractor.fc.weight.T

    def fingerprint(self) -> str:
        """SHA-256 of the file of weights, in hexadecimal digits."""
        return self.sha256


def cached_weights() -> Path | None:
    """The standard weights where torch keeps what it has downloaded, if they are there."""
    paths = [Path(torch.hub.get_dir()) / "checkpoints" / name for name in FILE_NAMES]
    return next((path for path in paths if path.is_file()), None)
