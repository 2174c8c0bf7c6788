"""Which source reads what lies at a path."""

from __future__ import annotations

from pathlib import Path

from dpsad.data.config import DataConfig
from dpsad.data.files import at_home
from dpsad.data.label_file import LABEL_FILES
from dpsad.data.webdataset import ARCHIVES

KINDS = {".npz": "npz", ".parquet": "parquet", **dict.fromkeys(ARCHIVES, "webdataset")}


def recognised(path: Path) -> DataConfig:
    """The source of a file by its name, and of a folder by the names of the files in it.

    Raises:
        ValueError: nothing is there, or no source reads such a file.
    """
    here = at_home(path)
    if here.is_file():
        if here.name.lower().endswith(LABEL_FILES):
            return DataConfig(source="folder", path=str(path), labels="csv")
        if (kind := _kind(here)) is None:
            known = ", ".join((*KINDS, *LABEL_FILES))
            raise ValueError(f"no source reads '{path}'; pass a folder of class folders, or a file: {known}")
        return DataConfig(source=kind, path=str(path))
    if not here.is_dir():
        raise ValueError(f"nothing at '{path}' (looked for {here.absolute()}); pass a file or a folder")
    if (here / "dataset_dict.json").is_file() or (here / "state.json").is_file():
        return DataConfig(source="huggingface", path=str(path))
    inside = [inner for inner in sorted(here.rglob("*")) if not inner.name.startswith(".")]
    kinds = {kind: inner for inner in reversed(inside) if inner.is_file() and (kind := _kind(inner))}
    for kind in ("parquet", "webdataset"):
        if kind in kinds:
            return DataConfig(source=kind, path=str(path))
    if "npz" in kinds:
        return DataConfig(source="npz", path=str(kinds["npz"]))
    top = [inner for inner in inside if inner.parent == here]
    label_files = [inner for inner in top if inner.suffix.lower() in LABEL_FILES]
    if len(label_files) == 1 and len([inner for inner in top if inner.is_dir()]) < 2:
        return DataConfig(source="folder", path=str(path), labels="csv")
    return DataConfig(source="folder", path=str(path))


def _kind(path: Path) -> str | None:
    return next((kind for suffix, kind in KINDS.items() if path.name.lower().endswith(suffix)), None)
