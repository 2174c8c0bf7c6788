"""Survey: what a source holds, counted. All of it is about private records, and for their owner's eyes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from dpsad.data.config import DataConfig
from dpsad.data.copies import content_hash, equal_groups, has_colour, near_groups, thumbnail
from dpsad.data.decoding import decode, header_of
from dpsad.data.listing import Entry
from dpsad.data.reading import OTHER_CLASS, ReadReport
from dpsad.data.records import ImageSet
from dpsad.data.sources import LISTS, load_images

SHOWN = 5  # examples of anything
UNREADABLE = "an image that cannot be decoded"


@dataclass(frozen=True)
class Copies:
    """Groups of images that are alike.

    groups, images: how many groups, and how many images they have together.
    across_sides: groups with images of train as well as test.
    across_classes: groups with images of several classes.
    examples: names of the images of some groups.
    """

    groups: int
    images: int
    across_sides: int
    across_classes: int
    examples: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Survey:
    """What was found.

    counts: side -> class -> number of images, empty classes too.
    sizes: (width, height, number of images), the most frequent first.
    formats: (format and mode as they are stored, number of images), the most frequent first.
    in_colour: images of which a pixel is other than grey.
    transparent, animated: images with an alpha channel, which is laid over white, and of several frames or pages, of
        which the first is read.
    equal, near: images that are there twice, and those that are likely so.
    unreadable: names of some images that cannot be decoded.
    report: what is not read, and remarks.
    """

    counts: dict[str, dict[str, int]]
    sizes: tuple[tuple[int, int, int], ...]
    formats: tuple[tuple[str, int], ...]
    in_colour: int
    transparent: int
    animated: int
    equal: Copies
    near: Copies
    unreadable: tuple[str, ...]
    report: ReadReport

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.counts["train"])

    def num(self, side: str) -> int:
        return sum(self.counts[side].values())


@dataclass(frozen=True)
class _Look:
    """One image, looked at."""

    name: str
    side: str
    class_name: str
    size: tuple[int, int]
    format: str
    colour: bool
    transparent: bool
    animated: bool
    content: str
    small: np.ndarray


def survey(config: DataConfig) -> Survey:
    """Reads both sides of a source as they are stored: without `image_size`, `grey`, `colour`, `share` and `limit`.

    Raises:
        ValueError: what the source refuses. Files that cannot be decoded, images of several sizes and classes without
            images are counted instead.
    """
    config = replace(config, image_size=0, grey=False, colour=False, share=1.0, limit=0)
    if config.source in LISTS:
        return _survey_of_files(config)
    sides = {side: load_images(config, side) for side in ("train", "test")}
    looks = [look for side, images in sides.items() for look in _looks_at(images, side)]
    train = sides["train"]
    left_out = {"left out: " + OTHER_CLASS: sum(images.left_out for images in sides.values())}
    report = ReadReport.of({**dict(train.report.skipped), **left_out}, train.report.notes)
    return _survey_of(looks, train.class_names, (), report)


def _survey_of_files(config: DataConfig) -> Survey:
    listing = LISTS[config.source](config)
    class_names = config.class_names or listing.class_names
    entries = [entry for entry in listing.entries if entry.class_name in set(class_names)]
    with ThreadPoolExecutor() as pool:
        looks = list(pool.map(lambda entry: _look_at(entry, config.range), entries))
    unreadable = [entry.name for entry, look in zip(entries, looks, strict=True) if look is None]
    skipped = dict(listing.report.skipped)
    skipped |= {OTHER_CLASS: len(listing.entries) - len(entries), UNREADABLE: len(unreadable)}
    report = ReadReport.of(skipped, listing.report.notes)
    return _survey_of([look for look in looks if look is not None], class_names, unreadable, report)


def _look_at(entry: Entry, pixel_range: str) -> _Look | None:
    """None where it cannot be decoded."""
    try:
        header = header_of(entry.stored, entry.name)
        pixels = decode(entry.stored, entry.name, colour=header.colour, side=0, pixel_range=pixel_range)
    except ValueError:
        return None
    return _Look(
        name=entry.name,
        side=entry.side,
        class_name=entry.class_name,
        size=header.size,
        format=f"{header.format} {header.mode}",
        colour=has_colour(pixels),
        transparent=header.transparent,
        animated=header.animated,
        content=content_hash(pixels),
        small=thumbnail(pixels),
    )


def _looks_at(images: ImageSet, side: str) -> Iterable[_Look]:
    for place, (image, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
        pixels = image.add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
        pixels = np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
        yield _Look(
            name=f"{side} {place}",
            side=side,
            class_name=images.class_names[label],
            size=(pixels.shape[1], pixels.shape[0]),
            format="array of " + ("3 channels" if pixels.ndim == 3 else "1 channel"),
            colour=has_colour(pixels),
            transparent=False,
            animated=False,
            content=content_hash(pixels),
            small=thumbnail(pixels),
        )


def _survey_of(
    looks: Sequence[_Look], class_names: Sequence[str], unreadable: Sequence[str], report: ReadReport
) -> Survey:
    counts = Counter((look.side, look.class_name) for look in looks)
    sizes = Counter(look.size for look in looks)
    first_of = {look.content: place for place, look in reversed(list(enumerate(looks)))}
    firsts = sorted(first_of.values())
    thumbnails = np.array([looks[place].small for place in firsts], dtype=np.uint8).reshape(len(firsts), -1)
    near = [[firsts[place] for place in group] for group in near_groups(thumbnails)] if firsts else []
    return Survey(
        counts={side: {name: counts[side, name] for name in class_names} for side in ("train", "test")},
        sizes=tuple((width, height, num) for (width, height), num in sizes.most_common()),
        formats=tuple(Counter(look.format for look in looks).most_common()),
        in_colour=sum(look.colour for look in looks),
        transparent=sum(look.transparent for look in looks),
        animated=sum(look.animated for look in looks),
        equal=_copies(equal_groups([look.content for look in looks]), looks),
        near=_copies(near, looks),
        unreadable=tuple(unreadable[:SHOWN]),
        report=report,
    )


def _copies(groups: Sequence[Sequence[int]], looks: Sequence[_Look]) -> Copies:
    members = [[looks[place] for place in group] for group in groups]
    return Copies(
        groups=len(groups),
        images=sum(map(len, groups)),
        across_sides=sum(len({look.side for look in group}) > 1 for group in members),
        across_classes=sum(len({look.class_name for look in group}) > 1 for group in members),
        examples=tuple(tuple(look.name for look in group[:SHOWN]) for group in members[:SHOWN]),
    )
