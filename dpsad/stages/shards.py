"""What a run with guarantee=shards is told: how records are split, and who answers for a shard."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dpsad.data.records import ImageSet
from dpsad.data.shards import Shards
from dpsad.errors import require_choice, require_positive
from dpsad.networks.unet import NetworkConfig
from dpsad.stages.teach import Draw

TEACHERS = ("none", "closed_form", "denoisers")


@dataclass(frozen=True, kw_only=True)
class ShardsConfig:
    """How shards of the records answer the student.

    num_shards: K, how many disjoint shards.
    sampling_prob: of each shard in each round, independently; 1 asks all shards every time.
    max_norm: bound on a shard's row, in units of its typical size: the root of the number of pulls it is made of.
    teacher: what each shard has beside its records, which pull the sketch into place together: closed_form (the
        posterior mean over them), denoisers (a small network trained on them), or none.
    teacher_share: of the sketch's budget (of mu^2), for asking teachers.
    queries: samples of each class that teachers are asked about.
    levels: falling noise levels at which they are asked, once each.
    max_pull: bound on one answer's distance from the student's output, as root mean square over pixels.
    adversarial_weight: lambda of each shard's own discriminator; 0 leaves discriminators out.
    critic_channels: width of these discriminators.
    network, steps, batch_size: of each shard's denoiser.
    """

    num_shards: int = 2000
    sampling_prob: float = 1.0
    max_norm: float = 1.0
    teacher: str = "closed_form"
    teacher_share: float = 0.5
    queries: int = 16
    levels: tuple[float, ...] = (1.0, 0.6, 0.3)
    max_pull: float = 0.36
    adversarial_weight: float = 0.0
    critic_channels: int = 8
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(channels=16, patch=2))
    steps: int = 500
    batch_size: int = 16

    def __post_init__(self) -> None:
        require_choice("shards.teacher", self.teacher, TEACHERS)
        for key in ("num_shards", "max_norm", "queries", "max_pull", "critic_channels", "steps", "batch_size"):
            require_positive(f"shards.{key}", getattr(self, key))
        if not 0 < self.sampling_prob <= 1:
            raise ValueError(f"shards.sampling_prob={self.sampling_prob} must be in (0, 1]; 1 asks every shard")
        if not 0 < self.teacher_share < 1:
            raise ValueError(
                f"shards.teacher_share={self.teacher_share} must be between 0 and 1; shards.teacher=none asks none"
            )
        if not self.levels or min(self.levels) <= 0 or list(self.levels) != sorted(self.levels, reverse=True):
            raise ValueError(f"shards.levels={list(self.levels)} must be falling and positive: teachers denoise")
        if self.adversarial_weight < 0:
            raise ValueError(f"shards.adversarial_weight={self.adversarial_weight} must not be negative; 0 is off")


def draw_from_shards(records: ImageSet, shards: Shards, batch_size: int) -> Draw:
    """Draws records of every shard for as many denoisers trained side by side, the first shard's part first.

    Args:
        records: on the device of the generator to come, as `shards` are.
        batch_size: records of each shard, with repetition; an empty shard gives black images without a label.

    Returns:
        Draw whose number of images, num_shards * batch_size, is fixed.
    """
    members, counts = shards.members, (shards.members >= 0).sum(1)

    def draw(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        places = torch.rand(len(members), batch_size, generator=generator, device=generator.device) * counts[:, None]
        index = members.gather(1, places.long()).flatten()
        assert len(index) == num
        known = index >= 0
        images = torch.where(known[:, None, None, None], records.images[index], -1.0)
        return images, torch.where(known, records.labels[index], records.num_classes)

    return draw
