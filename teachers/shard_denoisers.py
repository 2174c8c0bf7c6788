"""Shard denoisers: one small trained diffusion model for each shard."""

from functools import partial

import torch
from torch import Tensor

from dpsad.diffusion.denoiser import Denoiser
from dpsad.networks.stacked import Stacked
from dpsad.privacy.provenance import Provenance


class ShardDenoisers:
    """Wraps denoisers that were trained side by side, each on its shard's records.

    Args:
        networks: one for each shard; they are not trained further.
    """

    provenance = Provenance.PRIVATE

    def __init__(self, networks: Stacked):
        self.networks, self.num_shards = networks.eval().requires_grad_(False), networks.num_networks

    @torch.no_grad()
    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor, shards: Tensor | None = None) -> Tensor:
        """As `Teacher.denoise`."""
        num = self.num_shards if shards is None else len(shards)
        denoiser = Denoiser(partial(self.networks, chosen=shards))
        inputs = (tensor.repeat(num, *[1] * (tensor.ndim - 1)) for tensor in (x, sigma, labels))
        return denoiser(*inputs).unflatten(0, (num, -1))
