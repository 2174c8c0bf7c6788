"""Data source: image files that a CSV or JSONL file names, each with its label."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dpsad.data.columns import IMAGE_COLUMNS, LABEL_COLUMNS, column_of, label_text
from dpsad.data.config import DataConfig
from dpsad.data.decoding import SUFFIXES
from dpsad.data.files import at_home, named_side
from dpsad.data.listing import Entry, Listing, side_of, sorted_classes
from dpsad.data.reading import NEITHER_SIDE, NO_LABEL, ReadReport, other_kind, told
from dpsad.data.records import UNLABELLED

LABEL_FILES = (".csv", ".jsonl")
MISSING = "named in the file of labels, and not there"
UNNAMED = "an image that the file of labels does not name"


def list_label_file(config: DataConfig) -> Listing:
    """Lists the images that a .csv or .jsonl file names, with paths relative to the file.

    `path` is the file, or a folder that has one such file; then its images that no line names are counted. Columns, or
    keys of a line, are `image_column` and `label_column`, or, where these are empty, known names such as path and
    label. A column `split` that has train as well as test says the sides, and others are not read; else all is split
    80/20 by a hash of the path as it is written, which is the record's id. Labels are texts: numbers are classes by
    these names. With `pseudo_labels` the column of labels may be missing.

    Raises:
        ValueError: no such file or several, no such columns, a path that occurs twice, no images.
    """
    file = label_file_at(at_home(config.path), f"data.path='{config.path}'")
    where = f"data.path='{config.path}'"
    rows, names = _rows(file, where)
    image_column = column_of(names, config.image_column, IMAGE_COLUMNS, key="data.image_column", where=where)
    unlabelled = config.pseudo_labels > 0 and not config.label_column and not set(names) & set(LABEL_COLUMNS)
    label_column = "" if unlabelled else column_of(
        names, config.label_column, LABEL_COLUMNS, key="data.label_column", where=where
    )  # fmt: skip
    sides = [named_side(str(row.get("split") or "")) for row in rows]
    is_split = {"train", "test"} <= set(sides)
    skipped: Counter[str] = Counter()
    entries: dict[str, Entry] = {}
    for row, side in zip(rows, sides, strict=True):
        record_id = str(row.get(image_column) or "")
        path = file.parent / record_id
        label = UNLABELLED if unlabelled else label_text(row.get(label_column))
        if side == "other" or (is_split and not side):
            skipped[NEITHER_SIDE] += 1
        elif path.suffix.lower() not in SUFFIXES:
            skipped[other_kind(path.name)] += 1
        elif not path.is_file():
            skipped[MISSING] += 1
        elif label is None:
            skipped[NO_LABEL] += 1
        elif record_id in entries:
            raise ValueError(f"{where}: '{record_id}' occurs in two lines; name each image once")
        else:
            own_side = side if is_split else side_of(record_id)
            entries[record_id] = Entry(path, str(path), record_id, label, own_side)
    if file.parent == at_home(config.path):
        named = {file.parent / str(row.get(image_column) or "") for row in rows}
        images = (path for path in file.parent.rglob("*") if path.suffix.lower() in SUFFIXES)
        skipped[UNNAMED] += sum(path not in named for path in images)
    if not entries:
        raise ValueError(f"{where}: no images in {len(rows)} lines of {file.name}{told(skipped)}")
    classes = sorted_classes({entry.class_name for entry in entries.values()})
    return Listing(where, tuple(entries.values()), classes, "label", ReadReport.of(skipped))


def label_file_at(path: Path, where: str) -> Path:
    """The file of labels that a path is, or that the folder holds.

    Raises:
        ValueError: there is none, or several.
    """
    if path.is_dir():
        found = [inner for inner in sorted(path.iterdir()) if inner.suffix.lower() in LABEL_FILES]
        if len(found) == 1:
            return found[0]
        listed = ", ".join(inner.name for inner in found) or "none"
        raise ValueError(f"{where}: data.labels=csv needs one .csv or .jsonl file there, found {listed}; pass its path")
    if not path.is_file() or path.suffix.lower() not in LABEL_FILES:
        raise ValueError(f"{where}: no .csv or .jsonl file (looked for {path.absolute()}); pass data.path=...")
    return path


def _rows(file: Path, where: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    """The lines of a file, and the names of their columns or keys."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if file.suffix.lower() == ".csv":
                header = lines.readline()
                lines.seek(0)
                reader = csv.DictReader(lines, delimiter=max(",;\t", key=header.count))
                rows: list[Mapping[str, Any]] = list(reader)
                return rows, list(reader.fieldnames or ())
            rows = list(_objects(lines))
    except (OSError, csv.Error, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: cannot read {file.name} ({error}); write it as UTF-8, a line an image") from error
    return rows, list(dict.fromkeys(name for row in rows for name in row))


def _objects(lines: Iterable[str]) -> Iterable[Mapping[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError(f"line {number} of the file of labels is no object such as {{'path': 'a.png', ...}}")
            yield value
