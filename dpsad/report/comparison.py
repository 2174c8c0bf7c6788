"""Writes a comparison of runs to a folder, which is private: it holds numbers that were measured on records."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from dpsad.report.groups import group_by_data
from dpsad.report.page import page
from dpsad.report.reading import read_runs
from dpsad.report.table import to_csv, to_json, to_markdown, to_text


def write_comparison(folders: Sequence[Path], out: Path) -> str:
    """Reads runs and writes report.html, comparison.csv, comparison.json and comparison.md.

    Args:
        folders: run folders; `out` itself may be among them and is passed over. One that cannot be read is named in
            the result and holds up none of the others.
        out: a new or empty folder, or one that holds a comparison, which is replaced. Readable by its owner only.

    Returns:
        The table as text, with what was left out and why.

    Raises:
        ValueError: not one run can be read, or `out` holds something else.
    """
    folders = [folder for folder in folders if os.path.realpath(folder) != os.path.realpath(out)]
    if out.exists() and not (out / "comparison.json").exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} is neither empty nor a comparison; name another folder")
    results, left_out = read_runs(folders)
    if not results:
        raise ValueError("; ".join(["there is no run to compare", *left_out]))
    groups = group_by_data(results)
    contents = {
        "comparison.json": json.dumps(to_json(groups, left_out), indent=2, allow_nan=False) + "\n",
        "comparison.csv": to_csv(groups),
        "comparison.md": to_markdown(groups, left_out),
        "report.html": page(groups, left_out),
    }
    out.mkdir(parents=True, exist_ok=True)
    out.chmod(0o700)
    for name, content in contents.items():
        (out / name).write_text(content, encoding="utf-8")
    return to_text(groups, left_out)
