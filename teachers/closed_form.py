"""Closed-form teachers, which need no training: the posterior mean over a shard's own records."""

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
        self.flat, self.num_shards = images.flatten(1), shards.num_shards
        self.squares = self.flat.square().sum(1)
        self.members = {label: shards.only(labels == label).members for label in labels.unique().tolist()}

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor, shards: Tensor | None = None) -> Tensor:
        """As `Teacher.denoise`; NaN where a shard has no record of the label."""
        num = self.num_shards if shards is None else len(shards)
        answers = torch.full((num, *x.shape), torch.nan, device=x.device)
        for label in labels.unique().tolist():
            if label in self.members:
                members = self.members[label] if shards is None else self.members[label][shards]
                of_label = labels == label
                posterior_mean = self._posterior_mean(x[of_label].flatten(1), sigma[of_label], members)
                answers[:, of_label] = posterior_mean.unflatten(2, x.shape[1:])
        return answers

    def _posterior_mean(self, queries: Tensor, sigma: Tensor, members: Tensor) -> Tensor:
        """[queries, pixels], [queries], [shards, records] -> [shards, queries, pixels]; NaN for a shard without any."""
        records = self.flat[members.clamp(min=0)]
        # -||x - x_i||^2 / 2 up to what is the same for all records
        closeness = torch.baddbmm(
            self.squares[members][:, None] / -2, queries.expand(len(members), -1, -1), records.transpose(1, 2)
        )
        logits = (closeness / sigma[:, None] ** 2).masked_fill((members < 0)[:, None], -torch.inf)
        return logits.softmax(dim=2) @ records
