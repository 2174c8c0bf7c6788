"""Teacher: the contract of every teacher."""

from typing import Protocol

from torch import Tensor

from dpsad.privacy.provenance import Provenance


class Teacher(Protocol):
    """Answers, for each shard of the records, what the clean image behind a noisy one is."""

    provenance: Provenance
    num_shards: int

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor, shards: Tensor | None = None) -> Tensor:
        """[batch, chan, height, width], [batch], [batch] -> [shards, batch, chan, height, width].

        Args:
            shards: which shards to ask; None asks all. Answers of all at once may not fit in memory.

        Edge cases: NaN where a shard has nothing to say.
        """
        ...
