"""Data source: folders of image files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from dpsad.data.config import DataConfig
from dpsad.data.decoding import SUFFIXES
from dpsad.data.files import at_home
from dpsad.data.label_file import list_label_file
from dpsad.data.listing import Entry, Listing, read_listed, side_of, sorted_classes
from dpsad.data.reading import HIDDEN, NEITHER_SIDE, ReadReport, other_kind, told
from dpsad.data.records import UNLABELLED, ImageSet

LOOSE = "an image beside the class folders"
LINKED = "in a linked folder inside a class folder"
DEEPER = "images lie deeper than their class folders; data.labels=parent goes by the folders that hold them"


def read_folder(config: DataConfig, split: str) -> ImageSet:
    """Reads one side of `list_folder`, as `read_listed` does.

    Raises:
        ValueError: what these raise; there is a train folder, and none of that side.
    """
    root = at_home(config.path)
    if config.labels != "csv" and (root / "train").is_dir() and not (root / split).is_dir():
        raise ValueError(
            f"data.path='{config.path}' has a train folder but no {root / split}; add it, "
            "or move the class folders out of train to have them split 80/20"
        )
    return read_listed(list_folder(config), config, split)


def list_folder(config: DataConfig) -> Listing:
    """Lists `path/train/<class>/**` and `path/test/<class>/**`; without a `train` folder, `path/<class>/**`, split.

    The 80/20 split goes by a hash of the relative path, which is also the record's id, so adding a record moves no
    other. With `labels=folder` a file below a class folder, however deep, is of that class; with `labels=parent` the
    folder that holds it names the class, wherever that lies; `labels=csv` leaves both to `list_label_file`. With
    `pseudo_labels`, images may also lie where the class folders would; they are of one class, "unlabelled". What is not
    read is counted: hidden files, other kinds of files, images beside the class folders.

    Raises:
        ValueError: no folder, no images in class folders.
    """
    if config.path is None:
        raise ValueError("data.path is not set; data.source=folder needs data.path=..., a folder of class folders")
    if config.labels == "csv":
        return list_label_file(config)
    root = at_home(config.path)
    if not root.is_dir():
        raise ValueError(f"no folder at data.path='{config.path}' (looked for {root.absolute()}); pass data.path=...")
    skipped: Counter[str] = Counter()
    sides = ("train", "test") if (root / "train").is_dir() else ("",)
    present = [side for side in sides if (root / side).is_dir()]
    if present != [""]:
        skipped[NEITHER_SIDE] += sum(
            1 for path in _visible(root, skipped) if path.name not in sides for _ in _files(path, skipped)
        )
    inside = {side: _visible(root / side, skipped) for side in present}
    folders = [(side, path) for side in present for path in inside[side] if path.is_dir()]
    loose = [(side, path) for side in present for path in inside[side] if not path.is_dir()]
    found = [(side, path, folder.name) for side, folder in folders for path in _files(folder, skipped)]
    names = {folder.name for _, folder in folders}
    if config.labels == "parent":
        found = [(side, path, path.parent.name) for side, path, _ in found]
        names = {name for _, path, name in found if _is_image(path)}
    if not folders and config.pseudo_labels:
        found, loose, names = [(side, path, UNLABELLED) for side, path in loose], [], {UNLABELLED}
    skipped.update(LOOSE if _is_image(path) else other_kind(path.name) for _, path in loose)
    entries = []
    for side, path, name in found:
        if not _is_image(path):
            skipped[other_kind(path.name)] += 1
            continue
        record_id = path.relative_to(root).as_posix()
        entries.append(Entry(path, str(path), record_id, name, side or side_of(record_id)))
    if not entries:
        expected = root / sides[0] / "<class>"
        raise ValueError(
            f"no images in data.path='{config.path}'; expected {expected}/*.png (or {', '.join(SUFFIXES[1:])}), or, "
            f"without classes, data.pseudo_labels=... (guarantee=nominal alone){told(skipped)}"
        )
    is_deep = any(entry.class_name not in (UNLABELLED, Path(entry.name).parent.name) for entry in entries)
    report = ReadReport.of(skipped, [DEEPER] if is_deep else [])
    return Listing(f"data.path='{config.path}'", tuple(entries), sorted_classes(names), "folder", report)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _visible(folder: Path, skipped: Counter[str]) -> list[Path]:
    """What a folder holds, sorted; what is hidden is counted."""
    paths = sorted(folder.iterdir())
    skipped[HIDDEN] += sum(path.name.startswith(".") for path in paths)
    return [path for path in paths if not path.name.startswith(".")]


def _files(path: Path, skipped: Counter[str]) -> Iterator[Path]:
    """The file that it is, or the files below it, sorted; a link to a folder further down could lead in a circle."""
    if not path.is_dir():
        yield path
        return
    for inner in _visible(path, skipped):
        if inner.is_dir() and inner.is_symlink():
            skipped[LINKED] += 1
        else:
            yield from _files(inner, skipped)
