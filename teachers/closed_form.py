"""Teachers that need no training: the posterior mean over a shard's own records."""

import torch
from torch import Tensor

from dpsad.data.shards import Shards
from dpsad.privacy.provenance import Provenance


class ClosedFormTeachers:
    """For each shard, the exact minimiser of the denoising loss on its records.

    D(x) = sum_i w_i x_i with w = softmax(-||x - x_i||^2 / (2 sigma^2)) over the shard's records of the label.

    Args:
        images: [num, chan, height, width] private records, on the device to work on.
        labels: [num].
        shards: which record is in which shard.

    Source: Karras et al. 2022, Appendix B.3.
    """

    provenance = Provenance.PRIVATE

    def __init__(self, images: Tensor, labels: Tensor, shards: Shards):
        self.flat, self.labels, self.shards = images.flatten(1), labels, shards
        self.squares = self.flat.square().sum(1)
        self.num_shards = shards.num_shards

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor, shards: Tensor | None = None) -> Tensor:
        """As `Teacher.denoise`; NaN where a shard has no record of the label."""
        members = self.shards.members if shards is None else self.shards.members[shards]
        records = self.flat[members.clamp(min=0)]  # [shards, records, pixels]
        queries = x.flatten(1).expand(len(members), -1, -1)
        # -||x - x_i||^2 / 2 up to what is the same for all records
        closeness = torch.baddbmm(self.squares[members][:, None] / -2, queries, records.transpose(1, 2))
        other = (self.labels[members][:, None] != labels[:, None]) | (members < 0)[:, None]
        logits = (closeness / sigma[:, None] ** 2).masked_fill(other, -torch.inf)
        return (logits.softmax(dim=2) @ records).unflatten(2, x.shape[1:])
