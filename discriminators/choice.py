"""Which discriminator a run has, and what it adds to the losses."""

from dataclasses import dataclass

from discriminators.convolutional import ConvolutionalDiscriminator
from discriminators.projection import ProjectionDiscriminator
from dpsad.errors import require_choice
from dpsad.privacy.ranges import Count, Weight, require_ranges

Discriminator = ConvolutionalDiscriminator | ProjectionDiscriminator

DISCRIMINATORS: dict[str, type[ConvolutionalDiscriminator] | type[ProjectionDiscriminator]] = {
    "convolutional": ConvolutionalDiscriminator,
    "projection": ProjectionDiscriminator,
}


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The student's adversary; `student.adversarial_weight` says how much it counts.

    kind: convolutional (strided, with GroupNorm), or projection (residual, without normalisation), which costs two to
        three times as much.
    channels: width of its first level; each of three levels doubles it and halves the resolution.
    use_labels: whether it knows the class.
    use_noise_level: whether it knows the noise level that the outputs answer.
    gradient_penalty: weight of R1 in its own loss, at the teacher's answers, for twice the cost; 0 is off.
    feature_matching: weight, in the student's loss, of the squared distance between its features of an output and of
        the teacher's answer to the same input; 0 is off.
    """

    kind: str = "convolutional"
    channels: Count = 24
    use_labels: bool = True
    use_noise_level: bool = True
    gradient_penalty: Weight = 0.0
    feature_matching: Weight = 0.0

    def __post_init__(self) -> None:
        require_ranges(self, "discriminator")
        require_choice("discriminator.kind", self.kind, tuple(DISCRIMINATORS))


def new_discriminator(config: DiscriminatorConfig, *, image_channels: int, num_classes: int) -> Discriminator:
    """An untrained discriminator of the configured kind, its weights from torch's global stream."""
    return DISCRIMINATORS[config.kind](
        config.channels,
        image_channels=image_channels,
        num_classes=num_classes,
        use_labels=config.use_labels,
        use_noise_level=config.use_noise_level,
    )
