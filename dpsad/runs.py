"""Run folders: what a run was told, what it measured, and which part of it may be shared."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dpsad.config_files import differences, load_config, save_config


@dataclass(frozen=True)
class Run:
    """A run folder.

    private: teacher, checkpoints, diagnostics; never to be shared, readable by its owner only.
    release: all that is safe to share; made by the export.
    """

    path: Path

    @property
    def private(self) -> Path:
        return self.path / "private"

    @property
    def release(self) -> Path:
        return self.path / "release"


def open_run(path: str | Path, config: object, fixed: Sequence[str]) -> Run:
    """Makes a run folder, or takes up the one that is there, and writes `config.yaml`.

    Args:
        config: dataclass with everything the run was told.
        fixed: keys and sections of it, such as "data" and "privacy", that must not change within a run.

    Raises:
        ValueError: the folder holds a run with other fixed values, or something that is no run.
    """
    run = Run(Path(path))
    saved = run.path / "config.yaml"
    if saved.exists():
        changed = differences(load_config(type(config), base=saved, overrides=()), config, fixed)
        if changed:
            raise ValueError(
                f"{run.path} already holds another run ({'; '.join(changed)}); pass another run=..., or give these "
                "keys the values they have there"
            )
    elif run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
        raise ValueError(f"{run.path} is neither empty nor a run folder: it has no config.yaml; pass another run=...")
    run.path.mkdir(parents=True, exist_ok=True)
    save_config(config, saved)
    run.private.mkdir(mode=0o700, exist_ok=True)
    run.private.chmod(0o700)
    return run


class Log:
    """Appends what a stage measures to the run folder, one JSON line a call.

    Every line has the stage and the seconds since the log was opened. NaN and infinities become null.
    """

    def __init__(self, run: Run, stage: str):
        self.run, self.stage, self.started = run, stage, time.monotonic()

    def public(self, **values: float | int | str) -> None:
        """For numbers that the guarantee covers: public ones, and those computed from releases."""
        self._append(self.run.path / "metrics.jsonl", values)

    def private(self, **values: float | int | str) -> None:
        """For numbers that saw records without protection, such as a teacher's loss."""
        self._append(self.run.private / "metrics.jsonl", values)

    def _append(self, path: Path, values: dict[str, float | int | str]) -> None:
        line = {"stage": self.stage, "time": round(time.monotonic() - self.started, 3), **values}
        finite = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in line.items()}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")
