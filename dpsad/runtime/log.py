"""Log of what a stage measures, appended to its run folder: public numbers, and private ones."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpsad.runtime.run_folder import METRICS, Run

Say = Callable[[str], object]  # shows a line to whoever runs the stage


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """Where measurements go, besides metrics.jsonl.

    tensorboard: also into event files for TensorBoard; needs the extra dpsad[tensorboard].
    """

    tensorboard: bool = False


class Log:
    """Appends what a stage measures to the run folder, one JSON line a call.

    Every line has the stage; private ones also have the seconds since the log was opened, which tell how many records
    joined a step. NaN and infinities become null.

    Raises:
        ValueError: TensorBoard is asked for and not installed.
    """

    def __init__(self, run: Run, stage: str, config: LogConfig | None = None):
        self.run, self.stage, self.started = run, stage, time.monotonic()
        self._new_board = _tensorboard_writer() if config and config.tensorboard else None
        self._boards: dict[Path, Any] = {}

    def public(self, **values: float | int | str) -> None:
        """For numbers that the guarantee covers: public ones, and those computed from releases. Without any time."""
        self._append(self.run.path, values, walltime=0.0)

    def private(self, **values: float | int | str) -> None:
        """For numbers that saw records without protection, such as a teacher's loss."""
        self._append(self.run.private, {"time": round(time.monotonic() - self.started, 3), **values}, walltime=None)

    @contextmanager
    def timed(self, hardware: str) -> Iterator[Callable[[], float]]:
        """Notes the seconds that its block took, finished or stopped, and on what; yields a clock of them.

        They are private: how long a step takes depends on how many records joined it.
        """
        start = time.perf_counter()
        try:
            yield lambda: time.perf_counter() - start
        finally:
            self.private(seconds=round(time.perf_counter() - start, 3), hardware=hardware)

    def _append(self, folder: Path, values: dict[str, float | int | str], *, walltime: float | None) -> None:
        line = {"stage": self.stage, **values}
        finite = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in line.items()}
        with open(folder / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")
        if self._new_board:
            self._draw(self._new_board, folder, finite, walltime)

    def _draw(
        self, new_board: Callable[[str], Any], folder: Path, line: dict[str, Any], walltime: float | None
    ) -> None:
        """A line's numbers as scalars, private ones under private/ as in metrics.jsonl; walltime None is the clock."""
        if folder not in self._boards:
            self._boards[folder] = new_board(str(folder / "tensorboard" / self.stage))
        for key, value in line.items():
            if isinstance(value, float | int) and key not in ("step", "time"):
                self._boards[folder].add_scalar(key, value, line.get("step", 0), walltime=walltime)
        self._boards[folder].flush()


def _tensorboard_writer() -> Callable[[str], Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter  # an optional package, and slow to import
    except ImportError as error:
        raise ValueError(
            f"log.tensorboard=true needs the tensorboard package ({error}); run pip install 'dpsad[tensorboard]', "
            "or pass log.tensorboard=false"
        ) from None
    return SummaryWriter
