"""Denoiser teacher: a trained diffusion model as the one teacher of all records."""

import torch
from torch import Tensor

from dpsad.diffusion.denoiser import Denoiser


class DenoiserTeacher:
    """Wraps a trained denoiser; it is not trained further, and its provenance and public images are the teacher's."""

    num_shards = 1

    def __init__(self, denoiser: Denoiser):
        self.denoiser = denoiser.eval().requires_grad_(False)
        self.provenance, self.public_images = denoiser.provenance, denoiser.public_images

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor, shards: Tensor | None = None) -> Tensor:
        return self.denoiser(x, sigma, labels)[None]
