"""A trained diffusion model as the one teacher of all records."""

import torch
from torch import Tensor

from dpsad.diffusion.denoiser import Denoiser
from dpsad.privacy.provenance import Provenance


class DenoiserTeacher:
    """Wraps a trained denoiser; it is not trained further.

    Args:
        denoiser: the model.
        provenance: what it has seen.
    """

    num_shards = 1

    def __init__(self, denoiser: Denoiser, provenance: Provenance):
        self.denoiser, self.provenance = denoiser.eval().requires_grad_(False), provenance

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor, shards: Tensor | None = None) -> Tensor:
        return self.denoiser(x, sigma, labels)[None]
