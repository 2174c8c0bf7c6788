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


class _OneImage(nn.Module):
    """A network that knows one image and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.zeros(SHAPE))

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        return self.image.expand(len(x), -1, -1, -1)


class _Mirror:
    """A teacher whose answer is the record itself, as one that overfits gives it."""

    num_shards, provenance = 1, Provenance.PRIVATE

    def __init__(self, records: ImageSet):
        self.images = records.images.flatten(1)

    def denoise(self, x: Tensor, sigma: Tensor, labels: Tensor, shards: Tensor | None = None) -> Tensor:
        nearest = torch.cdist(x.flatten(1), self.images).argmin(1)
        return self.images[nearest].reshape(1, *x.shape)


def nominal_game(plan: ReleasePlan, config: NominalConfig, student: StudentConfig) -> Game:
    """The real distillation with the published noise; a white record joins grey ones.

    Args:
        plan: the nominal event, with its noise.
        config: of the noise; its bound is what `plan` says.
        student: batches and steps of the loop.
    """
    num_others = max(1, round(student.batch_size / plan.sampling_prob) - 1)
    images = torch.zeros(num_others + 1, *SHAPE)
    images[-1] = 1.0
    labels = torch.zeros(len(images), dtype=torch.int64)
    everyone = ImageSet(images=images, labels=labels, ids=tuple(map(str, range(len(images)))), class_names=("any",))

    def brightness(records: ImageSet) -> float:
        """Of the student's weights after one run."""
        device, randomness = torch.device("cpu"), PrivateRandomness()
        with scratch() as (checkpoint, log):
            trained = distill(
                student,
                student=Denoiser(_OneImage()),
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
        return sum(parameter.mean().item() for parameter in trained.parameters())

    def play(there: bool, num: int) -> Scores:
        records = everyone if there else everyone.take(torch.arange(num_others))
        return np.array([brightness(records) for _ in range(num)])

    return Game("DP-SAD's published loop", [plan], play, nominal=True)
