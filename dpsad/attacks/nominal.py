"""The published loop of DP-SAD against its nominal event: a record among others that say nothing, in the real loop.

Nothing is watched but the weights of the student that comes out.
"""

import numpy as np
import torch
from torch import Tensor, nn

from dpsad.attacks.scratch import scratch
from dpsad.audit.error_rates import Scores
from dpsad.audit.game import Game
from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods.dp_sad.distillation import StudentConfig, distill
from dpsad.methods.dp_sad.nominal_noise import NominalConfig, nominal_noise
from dpsad.methods.dp_sad.student import levels_of_chain
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.training.batches import batches_of_images

SHAPE = (1, 8, 8)
SIDE_BY_SIDE = 200  # games that share a run, a class each


class _ImageOfClass(nn.Module):
    """A network that knows one image of each class and nothing else."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.zeros(num_classes, *SHAPE))

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        return self.images[labels]


class _Mirror:
    """A teacher whose answer is the likeliest record of the class, as one gives it that overfits."""

    num_shards, provenance = 1, Provenance.PRIVATE

    def __init__(self, records: ImageSet):
        self.images = records.images.unique(dim=0)
        held = (records.images[:, None] == self.images).flatten(2).all(2)  # [records, images]
        self.unheld = ~torch.stack([held[records.labels == label].any(0) for label in range(records.num_classes)])

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor, shards: Tensor | None = None) -> Tensor:
        distances = torch.cdist(x.flatten(1), self.images.flatten(1))
        return self.images[distances.masked_fill(self.unheld[labels], torch.inf).argmin(1)][None]


def nominal_game(plan: ReleasePlan, config: NominalConfig, student: StudentConfig) -> Game:
    """The real distillation with the published noise; a white record joins grey ones. Every class is a game of its own.

    Args:
        plan: the nominal event, with its noise.
        config: of the noise; its bound is what `plan` says.
        student: batches and steps of the loop.
    """
    num_records = max(2, round(student.batch_size / plan.sampling_prob))
    most = min(SIDE_BY_SIDE, num_records // 2)

    labels, images = torch.arange(num_records) % most, torch.zeros(num_records, *SHAPE)
    images[:most] = 1.0
    everyone = ImageSet(
        images=images,
        labels=labels,
        ids=tuple(map(str, range(num_records))),
        class_names=tuple(map(str, range(most))),
    )

    def one_run(there: bool) -> Scores:
        """Brightness of the student's images of those classes whose record is there, or is not.

        Coins decide which are: otherwise the others' records, which share the batches, would tell the worlds apart.
        """
        device, randomness = torch.device("cpu"), PrivateRandomness()
        included = randomness.uniform(most) < 0.5
        records = everyone.take(torch.cat([included, torch.ones(num_records - most, dtype=torch.bool)]))
        with scratch() as (checkpoint, log):
            trained = distill(
                student,
                student=Denoiser(_ImageOfClass(most)),
                teacher=_Mirror(records),
                discriminator=None,
                batches=batches_of_images(records, AugmentationConfig(), device),
                levels=levels_of_chain(config, device),
                sanitize=nominal_noise(config, plan.noise_multiplier, randomness),
                rng=torch.Generator().manual_seed(int(randomness.uniform(1).item() * 2**53)),
                checkpoint=checkpoint,
                log=log,
                precision="float32",
            )
        (learned,) = trained.parameters()
        return learned.detach().flatten(1).mean(1)[included == there].double().numpy()

    def play(there: bool, num: int) -> Scores:
        scores = np.empty(0)
        while len(scores) < num:
            scores = np.concatenate([scores, one_run(there)])
        return scores[:num]

    return Game("DP-SAD's published loop", [plan], play, nominal=True)
