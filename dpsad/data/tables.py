"""Data sources: tables with a column of encoded images, as Parquet files or as Hugging Face's save_to_disk has them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpsad.data.columns import IMAGE_COLUMNS, LABEL_COLUMNS, column_of, label_text
from dpsad.data.config import DataConfig
from dpsad.data.files import at_home, files_and_sides, named_side
from dpsad.data.listing import Found, Listing, listing_of, read_listed
from dpsad.data.records import ImageSet

NOT_HELD = "an image that the table does not hold as bytes"


@dataclass(frozen=True)
class Column:
    """What Hugging Face's features say of a column: its type, and the names of its numbers where they are classes."""

    kind: str
    names: tuple[str, ...] = ()


def read_parquet(config: DataConfig, split: str) -> ImageSet:
    """Reads one side of `list_parquet`, as `read_listed` does."""
    return read_listed(list_parquet(config), config, split)


def read_saved_dataset(config: DataConfig, split: str) -> ImageSet:
    """Reads one side of `list_saved_dataset`, as `read_listed` does."""
    return read_listed(list_saved_dataset(config), config, split)


def list_parquet(config: DataConfig) -> Listing:
    """Lists images of a .parquet file, or of all in a folder. Needs pyarrow.

    A column holds encoded images, as bytes or as {bytes, path}: `image_column`, or the one that features call an image,
    or a usual name. Labels are texts, or numbers: by the names that features give them, else by themselves. Sides go by
    the names of files (train-00000-of-00002.parquet), as `listing_of` has them; one file alone is split.

    Raises:
        ValueError: no pyarrow, no such file, a broken one, no such columns, no images.
    """
    arrow = _arrow("data.source=parquet")
    from pyarrow import parquet

    skipped: Counter[str] = Counter()
    files = files_and_sides(config.path, (".parquet",), skipped)

    def tables() -> Iterator[tuple[Any, str, str]]:
        for file, side in files:
            try:
                yield parquet.read_table(file), file.name, side
            except (arrow.ArrowException, OSError) as error:
                raise ValueError(f"cannot read {file} ({error}); write it anew, or remove it") from error

    return _listed(tables(), config, skipped)


def list_saved_dataset(config: DataConfig) -> Listing:
    """Lists images of a folder that `save_to_disk` of Hugging Face's datasets wrote. Needs pyarrow, and no datasets.

    Columns are as in `list_parquet`; sides are the splits, where there are train and test.

    Raises:
        ValueError: no pyarrow, no such folder, a broken file, no such columns, no images.
    """
    arrow = _arrow("data.source=huggingface")
    skipped: Counter[str] = Counter()
    files = saved_files(config.path)

    def tables() -> Iterator[tuple[Any, str, str]]:
        for file, side in files:
            try:
                table = arrow.ipc.open_stream(arrow.memory_map(str(file))).read_all()
                yield table, f"{file.parent.name}/{file.name}", side
            except (arrow.ArrowException, OSError) as error:
                raise ValueError(f"cannot read {file} ({error}); save the data set anew") from error

    return _listed(tables(), config, skipped)


def saved_files(path: str | None) -> list[tuple[Path, str]]:
    """The files of a saved data set, or of each split of several, with the side that the split's name tells.

    Raises:
        ValueError: no such folder, or one that is damaged.
    """
    root = at_home(path)
    if path is None or not root.is_dir():
        raise ValueError(f"no folder at data.path='{path}'; pass data.path=..., what save_to_disk wrote")
    try:
        folders = [(root, "")]
        if (root / "dataset_dict.json").is_file():
            splits = json.loads((root / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
            folders = [(root / name, named_side(name)) for name in splits]
        states = [(folder, side, json.loads((folder / "state.json").read_text("utf-8"))) for folder, side in folders]
        return [(folder / part["filename"], side) for folder, side, state in states for part in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"data.path='{path}' is no saved data set ({error}): it needs dataset_dict.json or state.json; save it "
            "with save_to_disk"
        ) from error


def columns_told(metadata: Mapping[bytes, bytes] | None) -> dict[str, Column]:
    """The columns that features in a schema's metadata describe; none where there are no features."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: Column(told.get("_type", ""), tuple(told.get("names") or ()))
            if isinstance(told, dict)
            else Column("")
            for name, told in features.items()
        }
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def rows_found(
    images: Iterable[Any], labels: Iterable[Any], names: Sequence[str], file: str, side: str, skipped: Counter[str]
) -> Iterator[Found]:
    """The images of a table's columns.

    Args:
        images: bytes, or mappings with them at "bytes".
        labels: texts, numbers or None, one each.
        names: of the numbers; none where they are their own.
        file: for the names of images in errors.
    """
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        content = image.get("bytes") if isinstance(image, Mapping) else image
        if not isinstance(content, bytes):
            skipped[NOT_HELD] += 1
            continue
        named = names[label] if names and isinstance(label, int) and 0 <= label < len(names) else label
        is_none = names and isinstance(label, int) and named is label  # such as -1, where a set keeps its labels back
        yield Found(content, f"{file}: row {row}", None if is_none else label_text(named), side)


def _listed(tables: Iterable[tuple[Any, str, str]], config: DataConfig, skipped: Counter[str]) -> Listing:
    where = f"data.path='{config.path}'"
    found: list[Found] = []
    class_names: tuple[str, ...] = ()
    for table, file, side in tables:
        columns, told = list(table.column_names), columns_told(table.schema.metadata)
        of_images = [name for name in columns if told.get(name, Column("")).kind == "Image"] or IMAGE_COLUMNS
        image_column = column_of(columns, config.image_column, of_images, key="data.image_column", where=where)
        has_labels = config.label_column or set(LABEL_COLUMNS) & set(columns) or not config.pseudo_labels
        labels: list[Any] = [None] * table.num_rows
        names: tuple[str, ...] = ()
        if has_labels:
            label_column = column_of(columns, config.label_column, LABEL_COLUMNS, key="data.label_column", where=where)
            labels, names = table.column(label_column).to_pylist(), told.get(label_column, Column("")).names
        class_names = class_names or names
        found += rows_found(table.column(image_column).to_pylist(), labels, names, file, side, skipped)
    return listing_of(found, where=where, skipped=skipped, class_names=class_names, unlabelled=config.pseudo_labels > 0)


def _arrow(needs: str) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise ValueError(f"{needs} needs pyarrow ({error}); run pip install 'dpsad[parquet]'") from error
    return pyarrow
