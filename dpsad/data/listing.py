"""Encoded images, listed before any is decoded: what every source of files or of their bytes has in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dpsad.data.arrays import ids_of
from dpsad.data.config import DataConfig
from dpsad.data.decoding import decode, header_of
from dpsad.data.pixels import from_bytes, to_grey
from dpsad.data.reading import NEITHER_SIDE, NO_LABEL, OTHER_CLASS, ReadReport, told
from dpsad.data.records import CLASSES_OF_DATA, COLOUR_OF_DATA, SIZE_OF_DATA, UNLABELLED, ImageSet
from dpsad.data.splits import first_in_turn, held_out, joins, require_classes_on_both


@dataclass(frozen=True)
class Entry:
    """One image, not decoded yet.

    stored: its file, or its bytes.
    name: as its owner can find it, for errors.
    record_id: unique on its side, and stable when others come or go.
    class_name: what its label is called.
    side: train or test.
    """

    stored: Path | bytes
    name: str
    record_id: str
    class_name: str
    side: str


@dataclass(frozen=True)
class Listing:
    """All images of a source, of both sides.

    where: the source as its user named it; errors begin with it.
    entries: in the order of the source.
    class_names: those of the source, by label, with or without images.
    labelled_by: what holds a class's name there: folder or label.
    report: what was not listed, and why.
    """

    where: str
    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    labelled_by: str
    report: ReadReport


@dataclass(frozen=True)
class Found:
    """One image among bytes that have no path: a member of an archive, a row of a table.

    label: None where it has none.
    side: train, test, other, or "" where nothing says.
    """

    content: bytes
    name: str
    label: str | None
    side: str


def listing_of(
    found: Iterable[Found],
    *,
    where: str,
    skipped: Counter[str],
    class_names: tuple[str, ...] = (),
    unlabelled: bool = False,
) -> Listing:
    """Lists images by their content: an id is a hash of the encoded image, its label and how often both came before.

    Where something is on either side, sides are as they are named, and what is on neither is not read; else all is
    split 80/20 by a hash of the id. The encoded images are held in memory.

    Args:
        where: the source as its user named it.
        skipped: what was not found to be an image, by reason.
        class_names: those that the source declares; none takes all labels, sorted.
        unlabelled: takes images without a label for one class, "unlabelled", where none has one.

    Raises:
        ValueError: nothing is left to read.
    """
    found, skipped = list(found), Counter(skipped)
    sides = {item.side for item in found}
    is_split = {"train", "test"} <= sides
    one_class = unlabelled and not any(item.label for item in found)
    kept = []
    for item in found:
        if item.side == "other" or (is_split and not item.side):
            skipped[NEITHER_SIDE] += 1
        elif item.label is None and not one_class:
            skipped[NO_LABEL] += 1
        else:
            kept.append(item)
    labels = [UNLABELLED if one_class else item.label or "" for item in kept]
    parts = ("train", "test") if is_split else ("",)
    entries = []
    for part in parts:
        own = [(item, label) for item, label in zip(kept, labels, strict=True) if not is_split or item.side == part]
        ids = ids_of(label.encode("utf-8", "surrogateescape") + b" " + item.content for item, label in own)
        for (item, label), record_id in zip(own, ids, strict=True):
            entries.append(Entry(item.content, item.name, record_id, label, part or side_of(record_id)))
    if not entries:
        raise ValueError(
            f"{where}: no images with labels{told(skipped)}; name the labels by data.label_column, or, without any, "
            "pass data.pseudo_labels=... (guarantee=nominal alone)"
        )
    names = class_names or sorted_classes(set(labels))
    return Listing(where, tuple(entries), names, "label", ReadReport.of(skipped))


def side_of(record_id: str) -> str:
    """The side of a record of an unsplit source."""
    return "test" if held_out(record_id) else "train"


def sorted_classes(names: set[str]) -> tuple[str, ...]:
    """Class names by number where all are whole numbers, else by alphabet."""
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def read_listed(listing: Listing, config: DataConfig, split: str) -> ImageSet:
    """Decodes one side of a listing.

    Classes are `class_names`, and images of others are left out; or, where none are stated, those of the listing. With
    `grey` or `colour` each image is brought to that by itself; without, all become RGB if any of either side has
    colour. With `image_size`, images are resized as they are read, so they may differ in size; without, every image of
    either side has the size of the first. Where all of this is stated, an image that cannot be decoded becomes NaN,
    which `validate` leaves out.

    Raises:
        ValueError: no images of a stated class; where something is not stated, an image of either side that cannot be
            decoded, images of several sizes, a class that has images on one side alone.
    """
    class_names = config.class_names or listing.class_names
    stated = {
        CLASSES_OF_DATA: bool(config.class_names),
        SIZE_OF_DATA: bool(config.image_size),
        COLOUR_OF_DATA: config.grey or config.colour,
    }
    order = {name: place for place, name in enumerate(class_names)}
    entries = [entry for entry in listing.entries if entry.class_name in order]
    entries.sort(key=lambda entry: (entry.side != "train", order[entry.class_name]))
    if not entries:
        raise ValueError(
            f"{listing.where} has no {listing.labelled_by} that data.class_names names ({', '.join(class_names)}); "
            "correct data.class_names, or pass data.class_names=[] to go by what is there"
        )
    if not config.class_names:
        sides = ({entry.class_name for entry in entries if entry.side == side} for side in ("train", "test"))
        require_classes_on_both(*sides, where=listing.where)
    own = [entry for entry in entries if entry.side == split and joins(entry.record_id, config.share)]
    labels = torch.tensor([order[entry.class_name] for entry in own], dtype=torch.int64)
    chosen = first_in_turn(labels, config.limit)
    own = [own[place] for place in chosen.tolist()]
    others = {OTHER_CLASS: len(listing.entries) - len(entries)}
    return ImageSet(
        images=_read(own, entries, config, skip_broken=all(stated.values())),
        labels=labels[chosen],
        ids=tuple(entry.record_id for entry in own),
        class_names=class_names,
        read_off=tuple(fact for fact in stated if not stated[fact]),
        report=ReadReport.of({**dict(listing.report.skipped), **others}, listing.report.notes),
    )


def _read(own: list[Entry], entries: list[Entry], config: DataConfig, *, skip_broken: bool) -> Tensor:
    """[num, chan, height, width] of `own`; what is not stated is taken from all `entries`."""
    side, colour = config.image_size, config.colour
    width, height = side, side

    def read(entry: Entry) -> Tensor | None:
        try:
            pixels = decode(entry.stored, entry.name, colour=colour or config.grey, side=side, pixel_range=config.range)
        except ValueError:
            if skip_broken:
                return None
            raise
        image = from_bytes(pixels[None])
        return (image if colour else to_grey(image))[0]

    with ThreadPoolExecutor() as pool:
        if not side or not (config.grey or config.colour):
            headers = list(pool.map(lambda entry: header_of(entry.stored, entry.name), entries))
            colour = colour or (not config.grey and any(header.colour for header in headers))
            if not side:
                width, height = _one_size(entries, [header.size for header in headers])
        images = torch.full((len(own), 3 if colour else 1, height, width), torch.nan)
        for place, image in enumerate(pool.map(read, own)):
            if image is not None:
                images[place] = image
    return images


def _one_size(entries: list[Entry], sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """(width, height) of all images.

    Raises:
        ValueError: one has another.
    """
    for entry, (width, height) in zip(entries, sizes, strict=True):
        if (width, height) != sizes[0]:
            first = f"{entries[0].name} is {sizes[0][0]}x{sizes[0][1]}"
            raise ValueError(f"{entry.name} is {width}x{height} but {first}; pass data.image_size=... to resize all")
    return sizes[0]
