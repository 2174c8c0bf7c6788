"""Class means: the mean image of each class is released once, and varied at random.

The smallest baseline there is, and the example of docs/extending.md.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.records import ImageSet, Subject, require_own_labels
from dpsad.methods.method import Method, Rehearsal, Stage, Trained, formally
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.ranges import Share, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.release.students import Releasable, ReleaseConfig
from dpsad.runtime.context import Context
from students.prototypes import Prototypes
from students.varied_prototypes import HeldPrototypes

CHUNK = 2048  # records whose rows are held at once


@dataclass(frozen=True, kw_only=True)
class ClassMeansConfig:
    """How class means are released.

    count_share: share of a row's squared norm that counts its class; the rest is for its image.
    """

    count_share: Share = 0.1

    def __post_init__(self) -> None:
        require_ranges(self, "class_means")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the method is told."""

    class_means: ClassMeansConfig = field(default_factory=ClassMeansConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


def plans(settings: Settings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """One release of all records' rows, of norm at most 1, on the whole budget."""
    return [budget.calibrate(ReleasePlan(purpose="class means", unit=Unit.RECORD, clip_norm=1.0))]


def image_rows(records: ImageSet, count_share: float) -> Iterator[BlockRows]:
    """Each record's row: [sqrt(1 - a) * pixels / sqrt(number of pixels); sqrt(a)] in the block of its class.

    Returns:
        Chunks of block rows, [records, pixels + 1]; pixels are in [-1, 1], so that a row has norm 1 at most.
    """
    for images, labels in zip(records.images.split(CHUNK), records.labels.split(CHUNK), strict=True):
        pixels = images.flatten(1) * math.sqrt((1 - count_share) / images[0].numel())
        counts = torch.full((len(images), 1), math.sqrt(count_share), device=images.device)
        yield BlockRows(torch.cat([pixels, counts], dim=1), labels)


def means_of(sums: Tensor, count_share: float, noise: float) -> tuple[Tensor, Tensor]:
    """[classes, pixels] mean images in [-1, 1], and [classes] counts, from the released sum of rows.

    Args:
        sums: [classes, pixels + 1].
        noise: standard deviation of the noise on `sums`; a class counts as at least one and as what noise alone would
            show (two deviations), so that an empty class is grey and not blown up.
    """
    counts = sums[:, -1] / math.sqrt(count_share)
    least = max(1.0, 2 * noise / math.sqrt(count_share))
    pixels = sums[:, :-1] * math.sqrt((sums.shape[1] - 1) / (1 - count_share))
    return (pixels / counts.clamp(min=least)[:, None]).clamp(-1, 1), counts


def train(settings: Settings, context: Context) -> Trained:
    """Releases the class means, or takes up those that this run has released."""
    records = context.read_records()
    require_own_labels(records)
    subject, count_share = Subject.of(records), settings.class_means.count_share
    num, shape = subject.num_classes, subject.image_shape
    (plan,) = plans(settings, context.ledger, context.num_records(records))
    sanitizer = Sanitizer(plan, context.ledger, context.randomness.named("class-means"))
    model = nothing_yet(subject).to(context.device)
    checkpoint = context.checkpoint("class_means", settings, records.fingerprint())
    checkpoint.track(model=model, sanitizer=sanitizer)
    sanitizer.charge()  # so that the charge is on disk before anything is released
    with context.timed("class-means"):
        for _ in checkpoint.remaining(1):
            rows = image_rows(records.to(context.device), count_share)
            sums = sanitizer.release(rows, (num, math.prod(shape) + 1))
            images, counts = means_of(sums, count_share, plan.noise_scale)
            model.load_state_dict({**model.state_dict(), "images": images.reshape(num, *shape), "counts": counts})
    model.provenance = Provenance.RELEASED
    context.say(
        f"class-means: {num} means, noise multiplier {plan.noise_multiplier:.3f}; epsilon {context.ledger.spent():.3f}"
    )
    return formally(Releasable(model, release_config(settings, subject)), context, "records", uses_size=False)


def nothing_yet(subject: Subject) -> HeldPrototypes:
    """A grey image of each class."""
    num = subject.num_classes
    images = torch.zeros(num, *subject.image_shape)
    return HeldPrototypes(Prototypes(images, torch.arange(num), torch.zeros(num), 0.0, Provenance.PUBLIC))


def release_config(settings: Settings, subject: Subject) -> ReleaseConfig:
    """What a release says of the means."""
    return ReleaseConfig(
        kind="images",
        image_shape=subject.image_shape,
        class_names=subject.class_names,
        num_prototypes=subject.num_classes,
        augmentation=settings.augmentation,
    )


def rehearse(settings: Settings, subject: Subject, num_records: int) -> Rehearsal:
    """Grey images, as they will be handed out."""
    return Rehearsal(made=Releasable(nothing_yet(subject), release_config(settings, subject)))


def stages(settings: Settings) -> tuple[Stage, ...]:
    """One, which goes by all that the method is told."""
    keys = ("data", "privacy", "class_means", "augmentation")
    return (Stage(name="class means", files=("class_means.checkpoint",), keys=keys),)


METHOD = Method(
    name="class-means",
    about="Class means: the mean image of each class, released once and varied at random by `augmentation`. Costs one "
    "pass over the records, seconds on a CPU core; what every other method should beat.",
    settings=Settings,
    guarantees=("records",),
    stages=stages,
    plans=plans,
    rehearse=rehearse,
    train=train,
)
