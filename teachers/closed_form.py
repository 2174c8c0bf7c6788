"""Closed-form teachers, which need no training: the posterior mean over a shard's own records."""

import torch
from torch import Tensor

from dpsad.data.shards import Shards
from dpsad.privacy.exact import exact_products, folded_sum, whole_numbers
from dpsad.privacy.provenance import Provenance

BITS = 18  # of records and of their weights in a mean: exact for up to 2^17 records of a class in a shard
RANGE = 2.0  # of pixels, which are in [-1, 1]


class ClosedFormTeachers:
    """For each shard, the exact minimiser of the denoising loss on its records.

    D(x) = sum_i w_i x_i with w = softmax(-||x - x_i||^2 / (2 sigma^2)) over the shard's records of the label.

    Products and sums are exact, of rounded numbers. In other arithmetic one record more would change the rounding of
    all shards' answers, as they are worked out in tensors as long as the largest shard.

    Args:
        images: [num, chan, height, width] private records, on the device to work on.
        labels: [num].
        shards: which record is in which shard.

    Source: Karras et al. 2022, Appendix B.3.
    """

    provenance = Provenance.PRIVATE

    def __init__(self, images: Tensor, labels: Tensor, shards: Shards):
        self.flat, self.num_shards = images.flatten(1), shards.num_shards
        self.squares = folded_sum(self.flat.double().square())
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
        of_all = queries.expand(len(members), -1, -1)
        products = exact_products(of_all, records, max(1.0, float(queries.abs().max())), RANGE)
        closeness = products - self.squares[members][:, None] / 2
        logits = (closeness / sigma[:, None].double() ** 2).masked_fill((members < 0)[:, None], -torch.inf)
        weights = whole_numbers((logits - logits.amax(dim=2, keepdim=True)).exp(), 1.0, BITS)
        means = weights @ whole_numbers(records, RANGE, BITS) / weights.sum(dim=2, keepdim=True)
        return (means * (RANGE * 2.0**-BITS)).float()
