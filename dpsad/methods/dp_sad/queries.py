"""Queries: a batch of the student's outputs as it is proposed, and what it was answered."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dpsad.diffusion.denoiser import Denoiser


@dataclass(frozen=True, eq=False)
class Proposal:
    """A batch of student outputs, and what they answer.

    Attributes:
        inputs: [batch, chan, height, width] noisy images.
        sigma: [batch] their noise levels.
        labels: [batch] their classes.
        outputs: [batch, chan, height, width] the student's clean images, with the graph into its weights.

    Whether a gradient at `outputs` may be backpropagated as post-processing depends on `inputs`: they must be public.
    """

    inputs: Tensor
    sigma: Tensor
    labels: Tensor
    outputs: Tensor


@dataclass(frozen=True, eq=False)
class Answers:
    """What the student has asked, and the released answers: regression targets, again and again at no cost.

    Attributes:
        inputs: [num, chan, height, width] noisy images.
        sigma: [num] their noise levels.
        labels: [num] their classes.
        targets: [num, chan, height, width] clean images.
    """

    inputs: Tensor
    sigma: Tensor
    labels: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @staticmethod
    def join(parts: "Sequence[Answers]") -> "Answers":
        """All answers of several rounds."""
        return Answers(*(torch.cat([vars(part)[key] for part in parts]) for key in vars(parts[0])))

    def draw(self, num: int, rng: torch.Generator) -> "Answers":
        """A random choice of them, with repetition."""
        index = torch.randint(len(self), (num,), generator=rng, device=rng.device)
        return Answers(self.inputs[index], self.sigma[index], self.labels[index], self.targets[index])

    def to(self, device: torch.device) -> "Answers":
        return Answers(*(tensor.to(device) for tensor in vars(self).values()))

    def state_dict(self) -> dict:
        return dict(vars(self))


def propose(denoiser: Denoiser, clean: Tensor, sigma: Tensor, noise: Tensor, labels: Tensor) -> Proposal:
    """Noises clean images and lets the student denoise them.

    Args:
        denoiser: the student's network.
        clean: [batch, chan, height, width].
        sigma: [batch] noise levels.
        noise: like clean, standard normal.
        labels: [batch] classes.
    """
    inputs = clean + sigma[:, None, None, None] * noise
    return Proposal(inputs, sigma, labels, denoiser(inputs, sigma, labels))
