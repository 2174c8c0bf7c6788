"""Forecast: how noisy what a run releases will be, and how long it takes, from public numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dpsad.api.config import Config
from dpsad.api.minutes import minutes_of
from dpsad.data.stated import Form, stated_form
from dpsad.methods.dp_sad.prototypes import difference_bound, pixels_of_rows
from dpsad.methods.dp_sad.release_plans import plans_of_prototypes
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.registry import DP_SAD
from dpsad.privacy.ledger import Ledger
from students.prototypes import Prototypes

IMAGE_STD = 0.5  # of pixels in [-1, 1], as in Karras et al. 2022; public, where a data set's own would not be
GRID = 8  # shapes are what is left of an image on a grid of 8x8
# noise on shapes up to which finer prototypes were better than coarser ones, and beyond which class means told next to
# nothing of their classes (docs/decisions.md)
LEGIBLE, LOST = 0.7, 1.2


@dataclass(frozen=True, kw_only=True)
class PrototypeNoise:
    """Noise on the prototypes of one resolution, in one round, before the filter takes some of it out.

    per_class: how many a class has.
    records: expected behind each, were all classes and prototypes equally large.
    divisor: of its sum of differences: as many, or prototypes.min_count where that is more.
    per_pixel: its standard deviation on a pixel, in standard deviations of an image.
    of_shapes: likewise on an average over an eighth of each side; images of any size can be compared by it.
    count: its standard deviation on a prototype's released count, in records.
    """

    per_class: int
    records: float
    divisor: float
    per_pixel: float
    of_shapes: float
    count: float

    @property
    def legible(self) -> bool:
        return self.of_shapes <= LEGIBLE


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What is to be expected of a run.

    prototypes: at each resolution, the coarsest first.
    minutes: of training on one CPU, or on a GPU, about; evaluation comes on top.
    """

    num_records: int
    form: Form
    prototypes: tuple[PrototypeNoise, ...]
    minutes: float

    @property
    def is_noise(self) -> bool:
        """Whether next to nothing of each class will be seen."""
        return self.prototypes[0].of_shapes > LOST

    @property
    def finest(self) -> int:
        """How many prototypes of a class there are at the finest resolution that is not noise; 0 where all are."""
        return max((noise.per_class for noise in self.prototypes if noise.legible), default=0)

    @property
    def quality(self) -> str:
        """What samples will show, in words."""
        if self.is_noise:
            return "classes will be noise"
        if not self.prototypes[0].legible:
            return "classes will be hardly more than noise"
        if self.finest == 1:
            return "one blurred shape a class"
        if self.finest < 16:
            return "a few shapes a class"
        return "many shapes a class: detail of digits or clothes, while photographs stay blurred"

    @property
    def records_of_a_class(self) -> int:
        """How many records a class needs for its mean to be more than noise."""
        first = self.prototypes[0]
        return math.ceil(first.divisor * first.of_shapes / LEGIBLE)

    def lines(self) -> list[str]:
        """For people."""
        channels, height, width = self.form.image_shape
        last = self.prototypes[-1]
        too_fine = [] if last.legible or last.per_class == 1 else [
            f"  warning: {last.per_class} prototypes a class are more noise than shape; leave the last of "
            "prototypes.per_class, rounds and shares out, or raise privacy.epsilon"
        ]  # fmt: skip
        return [
            f"forecast, from public numbers: {self.num_records:,} records in {self.form.num_classes} classes, "
            f"{width}x{height} {'colour' if channels == 3 else 'grey'}",
            *(
                f"  {'class means' if noise.per_class == 1 else f'{noise.per_class} prototypes a class'}: noise of "
                f"{noise.per_pixel:.2g} standard deviations of an image on a pixel, {noise.of_shapes:.2g} on shapes "
                f"({GRID}x{GRID}), with {noise.records:,.0f} records each"
                for noise in self.prototypes
            ),
            *too_fine,
            f"  expect: {self.quality} (noise on shapes should be below {LEGIBLE:g}); a class of fewer than "
            f"{self.records_of_a_class:,} records will be noise",
            f"  minutes: about {max(1, round(self.minutes))}, and evaluation",
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "quality": self.quality,
            "is_noise": self.is_noise,
            "records_of_a_class": self.records_of_a_class,
        }


def forecast(config: Config, *, on_gpu: bool = False) -> Forecast | None:
    """What a run of dp-sad with prototypes moved by records will give.

    Args:
        config: states the number of records, and the classes, size and colour of images.

    Returns:
        None for other methods and guarantees, and where some of these numbers are not stated.
    """
    form, num_records = stated_form(config.data), config.privacy.num_records
    told = config.method == DP_SAD.name and config.guarantee == "records" and form and num_records
    if not told or form is None or not config.settings().uses_prototypes:
        return None
    noises = noise_on_prototypes(config.settings(), form, num_records)
    minutes = minutes_of(config.settings(), form, on_gpu=on_gpu)
    return Forecast(num_records=num_records, form=form, prototypes=tuple(noises), minutes=minutes)


def noise_on_prototypes(settings: DpSadSettings, form: Form, num_records: int) -> list[PrototypeNoise]:
    """Exact noise of each resolution's releases, on prototypes of equally many records."""
    config, size = settings.prototypes, math.prod(form.image_shape)
    noises = []
    for number, plan in zip(
        config.per_class, plans_of_prototypes(settings, Ledger.of(settings.privacy), num_records), strict=True
    ):
        records = num_records / (form.num_classes * number)
        noise = plan.noise_scale * pixels_of_rows(difference_bound(config, number, size), config.count_share)
        divisor = max(records, config.min_count)
        per_pixel = noise / divisor / IMAGE_STD
        noises.append(
            PrototypeNoise(
                per_class=number,
                records=records,
                divisor=divisor,
                per_pixel=per_pixel,
                of_shapes=per_pixel * min(1.0, GRID / math.sqrt(size / form.image_shape[0])),
                count=plan.noise_scale / math.sqrt(config.count_share),
            )
        )
    return noises


def remarks_on_counts(told: Forecast, prototypes: Prototypes, class_names: Sequence[str]) -> list[str]:
    """Says which classes are likely noise, by their released counts, which are public."""
    finest = told.prototypes[-1]
    deviation = finest.count * math.sqrt(finest.per_class)
    remarks = []
    for label, name in enumerate(class_names):
        count = prototypes.counts[prototypes.labels == label].sum().item()
        if count < told.records_of_a_class:
            below = "below zero, so" if count < 0 else f"and fewer than {told.records_of_a_class} are noise:"
            remarks.append(
                f"warning: class '{name}' has a released count of {count:.0f} +- {deviation:.0f}, {below} its images "
                "tell next to nothing of it; merge it with another class, bring more records, or leave it out by "
                "data.class_names, in another run"
            )
    return remarks
