"""Log of what a stage measures, appended to its run folder: public numbers, and private ones."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
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
        self._holding = False
        self.held: list[tuple[bool, dict[str, Any]]] = []
        self._new_board = _tensorboard_writer() if config and config.tensorboard else None
        self._boards: dict[Path, Any] = {}

    def public(self, **values: float | int | str) -> None:
        """For numbers that the guarantee covers: public ones, and those computed from releases. Without any time."""
        self._tell(True, values)

    def private(self, **values: float | int | str) -> None:
        """For numbers that saw records without protection, such as a teacher's loss."""
        self._tell(False, {"time": round(time.monotonic() - self.started, 3), **values})

    def once(self, *, public: bool, **values: float | int | str) -> None:
        """A line without any time, unless it is there already: for what a stage tells again when it is begun again."""
        self.write_missing([(public, self._line(values))])

    def hold(self) -> None:
        """From now on, lines wait to be written until `write_held`; those that wait are `held`, as plain data."""
        self._holding = True

    def write_held(self) -> None:
        """Writes the lines that wait."""
        while self.held:
            self._write(*self.held[0])
            del self.held[0]

    def write_missing(self, lines: Iterable[tuple[bool, dict[str, Any]]]) -> None:
        """Writes those lines, whether public and what, that are not there yet."""
        there = {is_public: _lines_in(self._file(is_public)) for is_public in (True, False)}
        for is_public, line in lines:
            if json.dumps(line) not in there[is_public]:
                self._write(is_public, line)

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

    def _tell(self, is_public: bool, values: dict[str, Any]) -> None:
        self.held.append((is_public, self._line(values)))
        if not self._holding:
            self.write_held()

    def _line(self, values: dict[str, Any]) -> dict[str, Any]:
        line = {"stage": self.stage, **values}
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in line.items()}

    def _file(self, is_public: bool) -> Path:
        return (self.run.path if is_public else self.run.private) / METRICS

    def _write(self, is_public: bool, line: dict[str, Any]) -> None:
        file = self._file(is_public)
        _append_line(file, json.dumps(line))
        if self._new_board:
            self._draw(self._new_board, file.parent, line, 0.0 if is_public else None)

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


def _lines_in(path: Path) -> set[str]:
    return set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()


def _append_line(path: Path, line: str) -> None:
    """Appends a line, whole or not at all; what a crash left of another is cut off first."""
    with open(path, "ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            end = os.pread(file.fileno(), end, 0).rfind(b"\n") + 1
            file.truncate(end)
        data = f"{line}\n".encode()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(end)
            raise


def _tensorboard_writer() -> Callable[[str], Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter  # an optional package, and slow to import
    except ImportError as error:
        raise ValueError(
            f"log.tensorboard=true needs the tensorboard package ({error}); run pip install 'dpsad[tensorboard]', "
            "or pass log.tensorboard=false"
        ) from None
    return SummaryWriter
