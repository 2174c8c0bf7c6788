"""What every student offers the loop that trains it."""

from dataclasses import dataclass

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
