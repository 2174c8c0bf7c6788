"""The files of a source, and the side that each one's name tells."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dpsad.data.reading import HIDDEN, other_kind

_SIDES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_SIDES |= dict.fromkeys(("val", "valid", "validation", "dev"), "other")


def at_home(path: str | Path | None) -> Path:
    """The path, with ~ for its user's folder; that of nobody here stays as it is, and None is the folder one is in."""
    return Path(os.path.expanduser(path or ""))


def files_and_sides(path: str | None, suffixes: Sequence[str], skipped: Counter[str]) -> list[tuple[Path, str]]:
    """The file at a path, on no side; or the files below it, sorted, each with the side that its name tells.

    Args:
        path: `data.path`.
        suffixes: in lower case, with their dots.
        skipped: counts what is no such file, by reason.

    Raises:
        ValueError: no path, nothing there, no such files.
    """
    kinds = ", ".join(suffixes)
    if path is None:
        raise ValueError(f"data.path is not set; pass data.path=..., a file ({kinds}) or a folder of such files")
    root = at_home(path)
    if root.is_file():
        return [(root, "")]
    if not root.is_dir():
        raise ValueError(f"nothing at data.path='{path}' (looked for {root.absolute()}); pass data.path=...")
    found = []
    for file in sorted(inner for inner in root.rglob("*") if inner.is_file()):
        inside = file.relative_to(root)
        if any(part.startswith(".") for part in inside.parts):
            skipped[HIDDEN] += 1
        elif file.name.lower().endswith(tuple(suffixes)):
            found.append((file, named_side(inside.as_posix())))
        else:
            skipped[other_kind(file.name)] += 1
    if not found:
        raise ValueError(f"no files ({kinds}) in data.path='{path}'; pass data.path=..., or another data.source")
    return found


def named_side(name: str) -> str:
    """The side that the words of a name tell, such as train-00001-of-00002 or shards/test: train, test, or other for a
    validation side; "" where none does. The last word that tells one counts.
    """
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SIDES[word] for word in reversed(words) if word in _SIDES), "")
