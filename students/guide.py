"""Guide: a released classifier, by which samples are chosen."""

from functools import partial

from torch import Tensor, nn

from dpsad.networks.features.scattering import Scattering
from dpsad.networks.features.whitening import Whitening
from dpsad.privacy.provenance import combined, provenance_of, public_images_of, united
from students.seeds import Make, Normal

SHARPNESS = 10.0  # of answers: features have norm 1, so weights of norm 1 would leave all classes about as likely


class Guide(nn.Module):
    """A linear classifier of whitened features.

    Args:
        image_shape: channels, height, width.
        num_classes: how many there are.
        whitening: of the features, untrained where weights are loaded later.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, whitening: Whitening):
        super().__init__()
        self.features, self.whitening = Scattering(image_shape), whitening
        self.classifier = nn.Linear(whitening.directions.shape[1], num_classes, bias=False)
        nn.init.zeros_(self.classifier.weight)

    def vectors(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> whitened features [num, directions] of norm 1."""
        return self.whitening(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        """[num, chan, height, width] in [-1, 1] -> logits [num, num_classes]."""
        return SHARPNESS * self.classifier(self.vectors(images))


def new_guide(image_shape: tuple[int, int, int], num_classes: int, num_directions: int) -> Guide:
    """A guide whose weights are yet to be loaded."""
    return Guide(image_shape, num_classes, Whitening(Scattering(image_shape).dim, num_directions))


class Guided(nn.Module):
    """What is released together: a student's model, and the guide that chooses among its images."""

    def __init__(self, model: nn.Module, guide: Guide):
        super().__init__()
        self.model, self.guide = model, guide
        self.provenance = combined(provenance_of(model), provenance_of(guide))
        self.public_images = united(public_images_of(model), public_images_of(guide))


def chosen_by(guide: Guide, make: Make, attempts: int) -> Make:
    """Makes images until the guide takes them for their class.

    Args:
        guide: on the device of the images.
        make: makes an image for each label from its noise.
        attempts: after so many, the one that the guide gave the class the highest probability is kept.

    Returns:
        Makes images whose noise goes on from attempt to attempt, so that each is a function of its own seed and label.
    """

    def chosen(labels: Tensor, normal: Normal) -> Tensor:
        images = make(labels, normal)
        certainty, right = _judged(guide, images, labels)
        for _ in range(attempts - 1):
            (wrong,) = (~right).nonzero(as_tuple=True)
            if not len(wrong):
                break
            again = make(labels[wrong], partial(_of_some, normal, wrong))
            certainty_again, right_again = _judged(guide, again, labels[wrong])
            better = right_again | (certainty_again > certainty[wrong])
            images[wrong[better]] = again[better]
            certainty[wrong[better]] = certainty_again[better]
            right[wrong] = right_again
        return images

    return chosen


def _of_some(normal: Normal, which: Tensor, shape: tuple[int, ...]) -> Tensor:
    return normal(shape)[which]


def _judged(guide: Guide, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """[num] probability of each label, and whether it is the highest."""
    probabilities = guide(images.clamp(-1, 1)).softmax(1)
    return probabilities.gather(1, labels[:, None])[:, 0], probabilities.argmax(1) == labels
