"""Student: makes images of a class from seeds."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from students.seeds import Make, normal_of


class Student:
    """What is handed out: makes images of a class from seeds.

    Args:
        model: its weights are all that `make` knows; on its device, and not trained further.
        make: labels of a batch and their noise -> images.
        image_shape: (chan, height, width).
        class_names: by label.
        use_labels: whether it heeds labels; without, it makes images of any class, and labels say nothing.
        chosen: likewise, of images that a guide has chosen, where there is one.
    """

    def __init__(
        self,
        model: nn.Module,
        make: Make,
        image_shape: tuple[int, int, int],
        class_names: Sequence[str],
        *,
        use_labels: bool = True,
        chosen: Make | None = None,
    ):
        self.model, self.make, self.chosen = model.eval().requires_grad_(False), make, chosen or make
        self.image_shape, self.class_names, self.use_labels = image_shape, tuple(class_names), use_labels

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(iter(self.model.state_dict().values())).device

    def sample(
        self,
        labels: Tensor,
        seeds: Sequence[int],
        *,
        batch_size: int = 250,
        progress: Callable[[int], object] | None = None,
        guide: bool = True,
    ) -> Tensor:
        """Makes one image for each label and seed.

        Args:
            labels: [num] classes; any number where the student heeds none.
            seeds: one per image, in [0, 2^128). The same seed and label give the same image, up to rounding, whatever
                else is in the batch.
            batch_size: images at a time.
            progress: called with the number of images of each finished batch.
            guide: whether the guide chooses among images, where there is one.

        Returns:
            [num, chan, height, width] in [-1, 1], float32, on the CPU.

        Raises:
            ValueError: an image has NaN or infinite pixels.
        """
        device, make = self.device, self.chosen if guide else self.make
        images = torch.empty(len(labels), *self.image_shape)
        with torch.no_grad():
            for start in range(0, len(labels), batch_size):
                index = slice(start, start + batch_size)
                made = make(labels[index].to(device), normal_of(seeds[index], device)).cpu()
                require_finite_images(made)
                images[index] = made.clamp(-1, 1)
                if progress is not None:
                    progress(len(labels[index]))
        return images


def require_finite_images(images: Tensor) -> None:
    """Refuses images with NaN or infinite pixels.

    Args:
        images: [num, ...].

    Raises:
        ValueError: such as "3 of 250 images have NaN or infinite pixels; ..."
    """
    if broken := int((~images.flatten(1).isfinite().all(dim=1)).sum()):
        raise ValueError(
            f"{broken} of {len(images)} images have NaN or infinite pixels; train with a lower learning rate"
        )
