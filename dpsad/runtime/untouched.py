"""A refusal leaves a run folder as it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dpsad.runtime.run_folder import METRICS, Run

Kept = dict[Path, tuple[int, int]]


def first_missing(run: Run) -> Path | None:
    """The first of the folders down to the run's private/ that is not there yet, which making that would make."""
    return next((folder for folder in (*reversed(run.private.parents), run.private) if not folder.exists()), None)


@contextmanager
def untouched_if_refused(run: Run, missing: Path | None) -> Iterator[None]:
    """Takes back what opening a run has made, where the block raises before any stage has kept anything.

    What is taken back: the config, the note of its records, lines about seconds, and folders that were not there. Once
    a stage has kept something under the new config, all of it stays.

    Args:
        missing: as `first_missing` had it, before the run's lock was made.
    """
    before, config, noted = _kept(run), _bytes(run.config), run.records.exists()
    lines = {log: log.stat().st_size if log.exists() else None for log in _logs(run)}
    try:
        yield
    except BaseException:
        if _kept(run) == before:
            _put_back(run, config, noted)
            for log, size in lines.items():
                _shorten(log, size)
            if missing is not None:
                _remove_made(run, missing)
        raise


def _remove_made(run: Run, missing: Path) -> None:
    """Removes the run's own new folder, and those above it that are empty then: others may have begun runs in these."""
    made = run.path if run.path.is_relative_to(missing) else missing
    shutil.rmtree(made)
    with suppress(OSError):  # one that is not empty
        while made != missing:
            made = made.parent
            made.rmdir()


def _put_back(run: Run, config: bytes | None, noted: bool) -> None:
    if config is None:
        run.config.unlink(missing_ok=True)
    elif _bytes(run.config) != config:
        run.config.write_bytes(config)
    if not noted:
        run.records.unlink(missing_ok=True)


def _shorten(log: Path, size: int | None) -> None:
    if size is None:
        log.unlink(missing_ok=True)
    elif log.is_file() and log.stat().st_size > size:
        with open(log, "ab") as file:
            file.truncate(size)


def _logs(run: Run) -> tuple[Path, Path]:
    return run.path / METRICS, run.private / METRICS


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _kept(run: Run) -> Kept:
    """Every file that stages keep, by when it was written and its size; not those that opening a run makes."""
    aside = {run.config, run.records, run.lock, *_logs(run)}
    files = {*run.path.glob("*"), *run.private.rglob("*"), *run.release.rglob("*")} - aside
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in files if not path.is_dir()}
