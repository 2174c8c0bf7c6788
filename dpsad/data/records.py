"""ImageSet: labelled images, one record each, with their provenance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from dpsad.data.reading import ReadReport
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.ranges import Count, require_ranges

UNLABELLED = "unlabelled"  # the one class of records without labels

# what a reader may take from the records themselves, where nobody says it: a statement lists it as not covered
CLASSES_OF_DATA = "the list of classes, which was taken from the data and counts as public"
SIZE_OF_DATA = "the image size, which was taken from the data and counts as public"
COLOUR_OF_DATA = "whether images have colour, which was taken from the data and counts as public"
RANGE_OF_DATA = "the range of pixel values, which was taken from the data and counts as public"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Labelled images, one record each. Pixels and labels of a set are not changed; other ones make another set.

    images: [num, chan, height, width] float32 in [-1, 1].
    labels: [num] int64 in 0..num_classes-1.
    ids: unique, and stable: a record keeps its id when other records come or go.
    class_names: by label.
    provenance: private, unless whoever made the set knows better.
    clustered: whether labels are clusters that were found among all images: then one image's label tells of others.
    origin: the images, where these are latents of some.
    read_off: what was taken from all records together, a text each: one record may have decided it for the others.
    left_out: how many records did not fit what was said of them.
    report: what its reader did not read, and why.
    """

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    provenance: Provenance = Provenance.PRIVATE
    clustered: bool = False
    origin: ImageSet | None = None
    read_off: tuple[str, ...] = ()
    left_out: int = 0
    report: ReadReport = field(default_factory=ReadReport)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(chan, height, width)."""
        chan, height, width = self.images.shape[1:]
        return chan, height, width

    def take(self, index: Tensor) -> ImageSet:
        """Picks records, in the order asked for; classes that end up empty keep their names and labels.

        Args:
            index: [picked] int64 positions, or [num] bool.
        """
        places = torch.arange(len(self))[index.cpu()]
        return replace(
            self,
            images=self.images[places],
            labels=self.labels[places],
            ids=tuple(self.ids[place] for place in places.tolist()),
            origin=None if self.origin is None else self.origin.take(places),
        )

    def to(self, device: torch.device) -> ImageSet:
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def fingerprint(self) -> str:
        """A short name of these images and labels in this order: the same for the same set, and no other."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(repr((self.class_names, tuple(self.images.shape))).encode(), digest_size=16)
        for tensor in (self.images, self.labels):
            digest.update(tensor.contiguous().cpu().numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Subject:
    """What images are of: public facts that every stage needs."""

    image_shape: tuple[Count, Count, Count]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        require_ranges(self, "subject")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @staticmethod
    def of(images: ImageSet) -> Subject:
        return Subject(images.image_shape, images.class_names)

    @staticmethod
    def from_dict(values: dict) -> Subject:
        chan, height, width = values["image_shape"]
        return Subject((chan, height, width), tuple(values["class_names"]))

    def state_dict(self) -> dict:
        return {"image_shape": list(self.image_shape), "class_names": list(self.class_names)}


def require_own_labels(records: ImageSet) -> None:
    """Refuses labels that were found among all records: rows with them would tell of other records than their own.

    Raises:
        ValueError: labels are clusters.
    """
    if records.clustered:
        raise ValueError(
            "labels are clusters that were found among all records without protection, so each would tell of other "
            "records; use labelled data and data.pseudo_labels=0, or guarantee=nominal"
        )


def validate(records: ImageSet, *, where: str) -> ImageSet:
    """Returns `records` if they keep what `ImageSet` promises.

    A record with a pixel that is not finite, or a label out of range, is left out where nothing was read off the
    records: then no other is touched by it. Where something was, it is refused, before anything is made of the others.

    Args:
        where: the source as its user named it, such as `data.path='cats' (train)`; errors begin with it.

    Raises:
        ValueError: no records, unequal lengths, other types, an id twice, pixels not finite or outside [-1, 1], a
            label out of range, a class without records in a list of classes that was read off, a class whose name no
            config can hold. Names the record or class, the value and the mend.
    """
    images, labels = records.images, records.labels
    if images.ndim != 4 or labels.ndim != 1 or not len(images) == len(labels) == len(records):
        shapes = f"images {list(images.shape)}, labels {list(labels.shape)}, {len(records)} ids"
        raise ValueError(f"{where}: {shapes}; expected [num, chan, height, width], [num] and num")
    if (images.dtype, labels.dtype) != (torch.float32, torch.int64):
        raise ValueError(f"{where}: images {images.dtype}, labels {labels.dtype}; pass torch.float32 and torch.int64")
    if not records.read_off:
        records = _those_that_fit(records)
    if not records.ids:
        raise ValueError(f"{where}: holds no records; add images, or choose another source")
    _check_names(records.class_names, where)
    _check_ids(records.ids, where)
    _check_pixels(records.images, records.ids, where)
    _check_labels(records.labels, records.ids, records.class_names, where)
    if CLASSES_OF_DATA in records.read_off:
        _check_classes(records.labels, records.class_names, where)
    return records


def _those_that_fit(records: ImageSet) -> ImageSet:
    """The records whose pixels are finite and whose labels are among the classes."""
    labels, flat = records.labels, records.images.flatten(1)
    low, high = flat.aminmax(dim=1) if flat.numel() else (flat.new_zeros(len(flat)),) * 2
    fit = low.isfinite() & high.isfinite() & (labels >= 0) & (labels < records.num_classes)
    num_broken = len(records) - int(fit.sum())
    return replace(records.take(fit), left_out=records.left_out + num_broken) if num_broken else records


def _check_names(class_names: tuple[str, ...], where: str) -> None:
    for name in class_names:
        if name == "???" or "${" in name:
            raise ValueError(
                f"{where}: no config can hold a class called '{name}', since YAML of omegaconf takes ??? and ${{ for "
                "its own; rename the class"
            )


def _check_ids(ids: tuple[str, ...], where: str) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for record_id in ids:
        if record_id in seen:
            raise ValueError(f"{where}: record id '{record_id}' occurs more than once; give each record its own")
        seen.add(record_id)


def _check_pixels(images: Tensor, ids: tuple[str, ...], where: str) -> None:
    if not images[0].numel():
        raise ValueError(f"{where}: images of shape {list(images.shape[1:])} hold no pixels; replace them")
    low, high = images.flatten(1).aminmax(dim=1)
    broken = ~(low.isfinite() & high.isfinite())
    if broken.any():
        first = int(broken.nonzero()[0])
        value = images[first][~images[first].isfinite()][0].item()
        raise ValueError(f"{where}: {_named(ids, first)} has a pixel that is {value}; repair or remove the record")
    outside = (low < -1) | (high > 1)
    if outside.any():
        first = int(outside.nonzero()[0])
        value = (low if low[first] < -1 else high)[first].item()
        raise ValueError(f"{where}: {_named(ids, first)} has a pixel of {value:g} outside [-1, 1]; rescale the images")


def _check_labels(labels: Tensor, ids: tuple[str, ...], class_names: tuple[str, ...], where: str) -> None:
    num_classes = len(class_names)
    outside = (labels < 0) | (labels >= num_classes)
    if outside.any():
        first = int(outside.nonzero()[0])
        raise ValueError(
            f"{where}: label {int(labels[first])} of {_named(ids, first)} is outside 0..{num_classes - 1}; "
            "correct the label, or data.num_classes"
        )


def _named(ids: tuple[str, ...], place: int) -> str:
    """A record as its user can find it; an id that is a hash does not say where."""
    return f"record '{ids[place]}' (number {place}, counted from 0)"


def _check_classes(labels: Tensor, class_names: tuple[str, ...], where: str) -> None:
    num_classes = len(class_names)
    counts = labels.bincount(minlength=num_classes)
    if not counts.all():
        empty = int((counts == 0).nonzero()[0])
        raise ValueError(
            f"{where}: class '{class_names[empty]}' (label {empty}) has no records; add some, or leave the class out"
        )
