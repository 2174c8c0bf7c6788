"""What every teacher offers."""

from typing import Protocol

from torch import Tensor

from dpsad.privacy.provenance import Provenance


class Teacher(Protocol):
    """Answers, for each shard of the records, what the clean image behind a noisy one is."""

    provenance: Provenance
    num_shards: int

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """[batch, chan, height, width], [batch], [batch] -> [num_shards, batch, chan, height, width]."""
        ...
