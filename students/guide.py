"""Guide: a released classifier, by which samples are chosen."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from dpsad.networks.features.backbone import BACKBONES, Backbone
from dpsad.networks.features.convolutional import Convolutional
from dpsad.networks.features.scattering import Scattering
from dpsad.networks.features.whitening import Whitening
from dpsad.privacy.provenance import combined, provenance_of, public_images_of, united
from students.seeds import Make, Normal, places_drawn

SHARPNESS = 10.0  # of answers: features have norm 1, so weights of norm 1 would leave all classes about as likely
Features = Scattering | Convolutional | Backbone
FEATURES: dict[str, Callable[[tuple[int, int, int]], Features]] = {
    "scattering": Scattering,
    "random": Convolutional,
    "samples": Convolutional,
    **{name: partial(Backbone, name=name) for name in BACKBONES},
}


class Guide(nn.Module):
    """A linear classifier of whitened features, of one kind or several side by side.

    Args:
        features: of each kind, images to [num, dim].
        whitenings: of each kind.
        num_classes: how many there are.

    Attributes:
        proposals: [num_classes, num_classes] what images that the guide takes for each class were made as, as shares.
    """

    proposals: Tensor

    def __init__(self, features: Sequence[nn.Module], whitenings: Sequence[Whitening], num_classes: int):
        super().__init__()
        self.features, self.whitenings = nn.ModuleList(features), nn.ModuleList(whitenings)
        self.classifier = nn.Linear(sum(self.num_directions), num_classes, bias=False)
        nn.init.zeros_(self.classifier.weight)
        self.register_buffer("proposals", torch.eye(num_classes))

    @property
    def num_directions(self) -> tuple[int, ...]:
        """Whitened features of each kind."""
        return tuple(whitening.num_directions for whitening in self.whitenings)  # type: ignore[misc]

    def vectors(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> whitened features [num, directions] of norm 1."""
        kinds = zip(self.features, self.whitenings, strict=True)
        return torch.cat([whiten(of(images)) for of, whiten in kinds], dim=1) / math.sqrt(len(self.features))

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> logits [num, num_classes]."""
        return self.logits(self.vectors(images))

    def logits(self, vectors: Tensor) -> Tensor:
        """[num, directions] as `vectors` has them -> logits [num, num_classes]."""
        return SHARPNESS * self.classifier(vectors)


def new_guide(
    kinds: Sequence[str], num_directions: Sequence[int], image_shape: tuple[int, int, int], num_classes: int
) -> Guide:
    """A guide whose weights are yet to be loaded.

    Args:
        kinds: of features, keys of `FEATURES`.
        num_directions: of each.
    """
    features = [FEATURES[kind](image_shape) for kind in kinds]
    whitenings = [Whitening(of.dim, num) for of, num in zip(features, num_directions, strict=True)]
    return Guide(features, whitenings, num_classes)


class Guided(nn.Module):
    """What is released together: a student's model, and the guide that chooses among its images."""

    def __init__(self, model: nn.Module, guide: Guide):
        super().__init__()
        self.model, self.guide = model, guide
        self.provenance = combined(provenance_of(model), provenance_of(guide))
        self.public_images = united(public_images_of(model), public_images_of(guide))


def chosen_by(guide: Guide, make: Make, attempts: int) -> Make:
    """Makes images until the guide takes them for their class.

    An image is made as of any class, as often as images that the guide takes for this one were (`Guide.proposals`).

    Args:
        guide: on the device of the images.
        make: makes an image for each label from its noise.
        attempts: after so many, the one that the guide gave the class the highest probability is kept.

    Returns:
        Makes images whose noise goes on from attempt to attempt, so that each is a function of its own seed and label.
    """

    def chosen(labels: Tensor, normal: Normal) -> Tensor:
        images = make(_proposed(guide, labels, normal), normal)
        certainty, right = _judged(guide, images, labels)
        for _ in range(attempts - 1):
            (wrong,) = (~right).nonzero(as_tuple=True)
            if not len(wrong):
                break
            normal_of_wrong = partial(_of_some, normal, wrong)
            again = make(_proposed(guide, labels[wrong], normal_of_wrong), normal_of_wrong)
            certainty_again, right_again = _judged(guide, again, labels[wrong])
            better = right_again | (certainty_again > certainty[wrong])
            images[wrong[better]] = again[better]
            certainty[wrong[better]] = certainty_again[better]
            right[wrong] = right_again
        return images

    return chosen


def _proposed(guide: Guide, labels: Tensor, normal: Normal) -> Tensor:
    """[num] the class that an image is made as, for the one that is wanted."""
    return places_drawn(guide.proposals[labels], torch.special.ndtr(normal((1,))[:, 0].double()))


def _of_some(normal: Normal, which: Tensor, shape: tuple[int, ...]) -> Tensor:
    return normal(shape)[which]


def _judged(guide: Guide, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """[num] probability of each label, and whether it is the highest."""
    probabilities = guide(images.clamp(-1, 1)).softmax(1)
    return probabilities.gather(1, labels[:, None])[:, 0], probabilities.argmax(1) == labels
