"""Columns of tables and keys of JSON by their usual names, and labels as texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

IMAGE_COLUMNS = ("image", "img", "path", "file_name", "filename", "file")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "cls", "target", "fine_label")


def column_of(names: Sequence[str], stated: str, usual: Sequence[str], *, key: str, where: str) -> str:
    """The stated column, or the first of the usual ones that is there.

    Args:
        names: of the columns that there are.
        stated: empty where nobody says.
        key, where: for the error: the key that states it, and the source as its user named it.

    Raises:
        ValueError: there is none of that name.
    """
    found = next((name for name in ((stated,) if stated else usual) if name in names), None)
    if found is None:
        sought = f"no column '{stated}'" if stated else f"none of the columns {', '.join(usual)}"
        raise ValueError(f"{where}: {sought}, but {', '.join(names) or 'none at all'}; pass {key}=...")
    return found


def label_text(value: Any) -> str | None:
    """A label as text; None for what is missing or empty. Whole numbers are written without a point."""
    if value is None or isinstance(value, (list, tuple, dict)):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float):
        if value != value:  # what tables have for a missing number
            return None
        value = int(value) if value.is_integer() else value
    return str(value).strip() or None
