"""A copy of a run folder, for a process that works on a run which another one writes."""

import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpsad.runtime.run_folder import Run, open_run
from dpsad.runtime.whole_files import is_temporary

Files = dict[str, bytes]  # by their paths from the run's folder


def files_to_copy(run: Run) -> Files:
    """What later stages ask for: models under private/, the note of the records, and whether there is a release.

    Not the checkpoints, which have secret keys; see `Checkpoint`.
    """
    paths = [*run.private.glob("*.pt"), run.records, run.statement]
    found = [path for path in paths if path.is_file() and not is_temporary(path)]
    return {str(path.relative_to(run.path)): path.read_bytes() for path in found}


@contextmanager
def copied_run(files: Files, config: object) -> Iterator[Run]:
    """A run folder with these files, which its owner alone may read, and which goes when the block is done.

    Also where the process is asked to end (SIGTERM); one that is killed leaves it in the folder for temporary files.
    """
    with tempfile.TemporaryDirectory(prefix="dpsad-rank-") as folder, _ending_by_exception():
        run = open_run(Path(folder), config)
        for name, content in files.items():
            path = run.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        yield run


@contextmanager
def _ending_by_exception() -> Iterator[None]:
    """SIGTERM raises SystemExit, so that what is to be done at the end is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
