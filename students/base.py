"""What every student offers: to the loop that trains it, and to whoever wants images of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpsad.diffusion.denoiser import Denoiser
from students.seeds import Make, normal_of


class Student:
    """What is handed out: makes images of a class from seeds.

    Args:
        model: its weights are all that `make` knows; on its device, and not trained further.
        make: labels of a batch and their noise -> images.
        image_shape: (chan, height, width).
        class_names: by label.
        use_labels: whether it heeds labels; without, it makes images of any class, and labels say nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        make: Make,
        image_shape: tuple[int, int, int],
        class_names: Sequence[str],
        *,
        use_labels: bool = True,
    ):
        self.model, self.make = model.eval().requires_grad_(False), make
        self.image_shape, self.class_names, self.use_labels = image_shape, tuple(class_names), use_labels

    def sample(
        self,
        labels: Tensor,
        seeds: Sequence[int],
        *,
        batch_size: int = 250,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Makes one image for each label and seed.

        Args:
            labels: [num] classes; any number where the student heeds none.
            seeds: one per image, in [0, 2^128). The same seed and label give the same image, up to rounding, whatever
                else is in the batch.
            batch_size: images at a time.
            progress: called with the number of images of each finished batch.

        Returns:
            [num, chan, height, width] in [-1, 1], float32, on the CPU.
        """
        device = next(self.model.parameters()).device
        images = torch.empty(len(labels), *self.image_shape)
        with torch.no_grad():
            for start in range(0, len(labels), batch_size):
                index = slice(start, start + batch_size)
                images[index] = self.make(labels[index].to(device), normal_of(seeds[index], device)).clamp(-1, 1).cpu()
                if progress is not None:
                    progress(len(labels[index]))
        return images


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

    def draw(self, num: int, generator: torch.Generator) -> "Answers":
        """A random choice of them, with repetition."""
        index = torch.randint(len(self), (num,), generator=generator, device=generator.device)
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
