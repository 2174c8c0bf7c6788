"""Data source: WebDataset archives, tar files of images with a label beside each."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dpsad.data.columns import LABEL_COLUMNS, label_text
from dpsad.data.config import DataConfig
from dpsad.data.decoding import SUFFIXES
from dpsad.data.files import files_and_sides
from dpsad.data.listing import Found, Listing, listing_of, read_listed
from dpsad.data.reading import HIDDEN, other_kind
from dpsad.data.records import ImageSet

ARCHIVES = (".tar", ".tar.gz", ".tgz")
LABEL_KINDS = (".cls", ".json", ".txt")  # of several, the first
SECOND = "a second image of one key"
NO_IMAGE = "a label without an image"


def read_webdataset(config: DataConfig, split: str) -> ImageSet:
    """Reads one side of `list_webdataset`, as `read_listed` does."""
    return read_listed(list_webdataset(config), config, split)


def list_webdataset(config: DataConfig) -> Listing:
    """Lists images of a .tar, .tar.gz or .tgz file, or of all in a folder: `key.png` with `key.cls`, .json or .txt.

    A key is a path up to the first dot of its last part. In .json, the label is the value at `label_column`, or at a
    usual name such as label, or the whole. Labels are texts: numbers are classes by these names. Sides go by the names
    of files (train-0001.tar, test/0001.tar), as `listing_of` has them; one file alone is split. Nothing is unpacked.

    Raises:
        ValueError: no such file, a broken one, no images.
    """
    where = f"data.path='{config.path}'"
    skipped: Counter[str] = Counter()
    found: list[Found] = []
    for file, side in files_and_sides(config.path, ARCHIVES, skipped):
        found += _images_in(file, side, config.label_column, where, skipped)
    return listing_of(found, where=where, skipped=skipped, unlabelled=config.pseudo_labels > 0)


def _images_in(file: Path, side: str, label_column: str, where: str, skipped: Counter[str]) -> Iterator[Found]:
    images: dict[str, tuple[str, bytes]] = {}
    labels: dict[str, dict[str, bytes]] = {}
    for name, content in _members(file, where):
        path = PurePosixPath(name)
        stem, _, kind = path.name.partition(".")
        key, suffix = str(path.with_name(stem)) if stem else "", f".{kind.lower()}"
        if not stem:
            skipped[HIDDEN] += 1
        elif suffix in LABEL_KINDS:
            labels.setdefault(key, {})[suffix] = content
        elif suffix not in SUFFIXES:
            skipped[other_kind(f"x.{kind}")] += 1
        elif key in images:
            skipped[SECOND] += 1
        else:
            images[key] = name, content
    skipped[NO_IMAGE] += len(labels.keys() - images.keys())
    for key, (name, content) in images.items():
        kinds = labels.get(key, {})
        first = next((kind for kind in LABEL_KINDS if kind in kinds), None)
        label = None if first is None else _label(kinds[first], first, label_column)
        yield Found(content, f"{file.name}: {name}", label, side)


def _members(file: Path, where: str) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                if member.isfile() and (opened := archive.extractfile(member)) is not None:
                    yield member.name, opened.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"{where}: cannot read {file} ({error}); write the archive anew, or remove it") from error


def _label(content: bytes, kind: str, label_column: str) -> str | None:
    """None for what cannot be read, which touches no other record."""
    if kind != ".json":
        return label_text(content)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):  # the latter where it is nested thousands deep
        return None
    if isinstance(value, dict):
        value = next(
            (value[name] for name in ([label_column] if label_column else LABEL_COLUMNS) if name in value), None
        )
    return label_text(value)
