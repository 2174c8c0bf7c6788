"""JSON files that dpsad writes, read back as what they are: one object each."""

import json
from pathlib import Path
from typing import Any

from dpsad.errors import require_file


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        ValueError: it is no file, no JSON, or no object.
    """
    require_file(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged and cannot be read: {error}; restore it, or make it anew") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object; restore it, or make it anew")
    return content
